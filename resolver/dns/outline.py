"""What of a packet decides its reply, told from its bytes without reading it.

The outline is what the reply cache is asked with, so it must cost next to nothing. It need not
recognise every lawful query: what it does not know is read the long way. What must stay true:
- two packets with one key get one reply, but for ID, RD, the case of the question and the cookie.
  Lower-casing cannot confuse them: it leaves the octets below 0x41 alone, so a length octet of a
  lawful label comes from itself only, and names of one key have one structure; a name is taken to
  end at its first zero octet, and one with a zero octet inside is merely compared exactly from
  there on;
- a key exists only for a standard query with one question and at most an OPT record of version 0;
- nothing raises, whatever the bytes.
"""

from typing import NamedTuple

from resolver.dns.codes import Option

PLAIN_ROOM = 512
"""RFC 1035 4.2.1: a datagram without EDNS."""
MAX_OPTIONS = 64
COOKIE_OPTION_SIZE = 4 + 24
"""A COOKIE option with a server cookie of RFC 9018."""

_ONE_QUESTION = b"\0\1\0\0\0\0"
_EDNS, _DO, _NSID, _KEEPALIVE, _STREAM = 1, 2, 4, 8, 16
_FORMS = tuple(bytes((number,)) for number in range(32))


class Outline(NamedTuple):
    """What decides a reply."""

    key: bytes
    """The question in lower case and what of EDNS and the door changes the reply."""
    name_end: int
    """Offset of the zero octet behind the question's name."""
    room: int
    """Bytes the reply may have, those of a cookie already taken off."""
    cookie: bytes | None
    """What the COOKIE option holds, if there is one."""


def outline(packet: bytes, limit: int, *, stream: bool, keeps_connection: bool) -> Outline | None:
    """The outline of ``packet`` at a door that carries ``limit`` bytes, or None for the long way.

    ``stream``: the door has no size limits of its own (RFC 6891 6.2.5). A PADDING option is left
    to the caller: it is not part of the key.
    """
    # QR, opcode, AA and TC are all zero; RD is whatever it is.
    if len(packet) < 17 or packet[2] > 1 or packet[4:10] != _ONE_QUESTION:
        return None
    end = packet.find(0, 12)
    at = end + 5
    additionals = packet[10:12]
    if end < 0:
        return None
    if additionals == b"\0\0":
        if at != len(packet):
            return None
        form = _FORMS[_STREAM] if stream else _FORMS[0]
        room = limit if stream else min(limit, PLAIN_ROOM)
        return Outline(packet[12:end].lower() + packet[end:at] + form, end, room, None)
    # The root, type OPT; no extended rcode, version 0; then flags and length.
    if additionals != b"\0\1" or len(packet) < at + 11 or packet[at : at + 3] != b"\0\0\x29":
        return None
    if packet[at + 5] or packet[at + 6]:
        return None
    options_at = at + 11
    bits = _EDNS | _DO if packet[at + 7] & 0x80 else _EDNS
    cookie = None
    if len(packet) != options_at + (packet[at + 9] << 8 | packet[at + 10]):
        return None
    if len(packet) > options_at:
        seen = _options(packet, options_at)
        if seen is None:
            return None
        asked, cookie = seen
        bits |= asked if keeps_connection else asked & ~_KEEPALIVE
    if stream:
        bits |= _STREAM
        room = limit
    else:
        room = min(limit, max(PLAIN_ROOM, packet[at + 3] << 8 | packet[at + 4]))
    if cookie is not None:
        room -= COOKIE_OPTION_SIZE
    return Outline(packet[12:end].lower() + packet[end:at] + _FORMS[bits], end, room, cookie)


def _options(packet: bytes, at: int) -> tuple[int, bytes | None] | None:
    """Which options were asked, as bits of the form, and the cookie; None: not for the cache."""
    bits = 0
    cookie: bytes | None = None
    for _ in range(MAX_OPTIONS):
        if at == len(packet):
            return bits, cookie
        if at + 4 > len(packet):
            return None
        code = packet[at] << 8 | packet[at + 1]
        length = packet[at + 2] << 8 | packet[at + 3]
        at += 4
        if at + length > len(packet):
            return None
        if code == Option.NSID:
            bits |= _NSID
        elif code == Option.TCP_KEEPALIVE:
            bits |= _KEEPALIVE
        elif code == Option.COOKIE:
            if not lawful_cookie(length):
                return None
            if cookie is None:  # RFC 7873 5.2: only the first counts
                cookie = packet[at : at + length]
        elif code == Option.PADDING:
            return None
        at += length
    return (bits, cookie) if at == len(packet) else None


def lawful_cookie(length: int) -> bool:
    """Whether a COOKIE option may have so many octets (RFC 7873 4)."""
    return length == 8 or 16 <= length <= 40
