"""A question to an upstream resolver, and whether a packet is the reply to it.

What must stay true: the question holds nothing of the one who asked but name, type, DO and CD (no
option of theirs, no address); a reply counts only if ID, question and the upper and lower case
that we threw for it are the same (RFC 5452 9, "0x20"), for only the one who saw it knows them.
"""

import struct
from dataclasses import dataclass
from enum import Enum

from resolver.dns.codes import AD, CD, IN, RD, Option, Rcode, Rtype
from resolver.dns.message import UDP_LIMIT
from resolver.dns.upstream_reply import BadReply, Reply, read_reply
from resolver.dns.zones import Labels, name_wire

NO_EDNS = (Rcode.FORMERR, Rcode.NOTIMP, Rcode.BADVERS)
"""How servers that do not know EDNS, or not its version 0, answer a question with OPT (RFC 6891 7,
6.1.3)."""


@dataclass(frozen=True, slots=True)
class Question:
    """What ordinary DNS is asked: also the key under which its answer is kept."""

    qname: Labels
    """In lower case."""
    qtype: int
    wants_dnssec: bool = False
    unchecked: bool = False
    """CD: the upstream need not validate."""
    servers: tuple[str, ...] = ()
    """IP addresses of the servers to ask instead of the upstreams: those of a delegation."""
    cut: Labels = ()
    """The name that was delegated to them."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One packet that was sent."""

    id: int
    qname: Labels
    """With the case that was thrown."""
    qtype: int
    packet: bytes


class Verdict(Enum):
    """Why a packet is not the reply."""

    UNRELATED = "another ID or question, or no reply at all: somebody may be guessing"
    OTHER_CASE = "the right reply but for upper and lower case: ask over TCP, or in small letters"
    BROKEN = "the right header with nothing readable behind it, or not all of it"


def random_octets_needed(question: Question) -> int:
    """How many random octets ``compose`` wants."""
    return 2 + sum(len(label) for label in question.qname) // 8 + 1


def compose(
    question: Question,
    random_octets: bytes,
    *,
    ask_ad: bool,
    block: int = 0,
    edns: bool = True,
    throw: bool = True,
) -> Sent:
    """The packet for ``question``: its ID and its case come from ``random_octets``.

    ``ask_ad`` sets AD, by which a validating upstream is asked to say so (RFC 6840 5.7). With
    ``block`` the packet is padded to a multiple of it (RFC 7830). Without ``edns`` it has no OPT,
    and without ``throw`` all letters are small.
    """
    ident = int.from_bytes(random_octets[:2], "big")
    qname = throw_case(question.qname, int.from_bytes(random_octets[2:], "big") if throw else 0)
    recursion = 0 if question.servers else RD
    flags = recursion | (CD if question.unchecked else 0) | (AD if ask_ad else 0)
    dnssec = 0x8000 if question.wants_dnssec else 0
    asked = (
        struct.pack("!HHHHHH", ident, flags, 1, 0, 0, edns)
        + name_wire(qname)
        + struct.pack("!HH", question.qtype, IN)
    )
    if not edns:
        return Sent(ident, qname, question.qtype, asked)
    asked += struct.pack("!BHHI", 0, Rtype.OPT, UDP_LIMIT, dnssec)
    options = b""
    if block:
        padding = -(len(asked) + 6) % block
        options = struct.pack("!HH", Option.PADDING, padding) + bytes(padding)
    packet = asked + struct.pack("!H", len(options)) + options
    return Sent(ident, qname, question.qtype, packet)


def throw_case(labels: Labels, bits: int) -> Labels:
    """``labels`` with each letter in upper or lower case as the next bit of ``bits`` says."""
    thrown: list[bytes] = []
    for label in labels:
        octets = bytearray(label)
        for at, octet in enumerate(octets):
            if 0x61 <= octet | 0x20 <= 0x7A:
                octets[at] = octet & ~0x20 if bits & 1 else octet | 0x20
                bits >>= 1
        thrown.append(bytes(octets))
    return tuple(thrown)


def match(packet: bytes, sent: Sent, *, stream: bool = False) -> Reply | Verdict:
    """``packet`` as the reply to ``sent``. On a ``stream`` the case need not be the same.

    In the reply every name that points at the question is in lower case again.
    """
    if len(packet) < 12 or int.from_bytes(packet[:2], "big") != sent.id or not packet[2] & 0x80:
        return Verdict.UNRELATED
    end = 12 + len(name_wire(sent.qname))
    known, kind = sent.packet[12:end], sent.packet[end : end + 4]
    name = packet[12:end]
    if name.lower() != known.lower() or packet[end : end + 4] != kind or packet[4:6] != b"\0\1":
        return _without_question(packet)
    if name != known and not stream:
        return Verdict.OTHER_CASE
    try:
        # Length octets of labels lie below the letters, so lowering leaves them alone.
        reply = read_reply(packet[:12] + known.lower() + packet[end:])
    except BadReply:
        return Verdict.BROKEN
    return Verdict.BROKEN if stream and reply.truncated else reply  # a stream has room for all


def _without_question(packet: bytes) -> Reply | Verdict:
    """An error that leaves the question out, as some servers send it; nothing else does."""
    if packet[4:6] != b"\0\0" or packet[3] & 0xF in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return Verdict.UNRELATED
    try:
        return read_reply(packet)
    except BadReply:
        return Verdict.UNRELATED
