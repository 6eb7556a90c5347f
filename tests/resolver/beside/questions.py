"""Questions about names: what they hold, and what lies beside, above and below it."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import dns.flags
import dns.name
import dns.rdatatype

from resolver.dns.lookup import lower
from resolver.dns.message import UDP_LIMIT
from resolver.dns.zones import Labels, name_wire
from tests.resolver.beside.zones import NAMESPACE, SUFFIX, Name
from zonefiles.text.zonefile import ZonefileError, parse_zonefile

A, NS, CNAME, SOA, MX, TXT, AAAA, SRV, DNAME, DS = 1, 2, 5, 6, 15, 16, 28, 33, 39, 43
RRSIG, NSEC, HTTPS, ANY, UNKNOWN = 46, 47, 65, 255, 65280
OTHERS = (MX, SOA, DS, SRV, RRSIG, NSEC, HTTPS, ANY, UNKNOWN)
ALWAYS = (A, AAAA, TXT, NS, CNAME, DNAME, *OTHERS)


class Question(NamedTuple):
    """One question, and what the one who asks can take."""

    labels: Labels
    rtype: int
    packet: bytes
    room: int
    """Octets of a datagram that may come back."""
    edns: bool

    def __str__(self) -> str:
        room = self.room if self.edns else "no"
        return f"{dns.name.Name(self.labels)} {dns.rdatatype.to_text(self.rtype)} (EDNS {room})"


def questions(name: Name, most: int, luck: random.Random) -> list[Question]:
    """At most so many about ``name``, chosen by ``luck``; those for what it holds come first."""
    anchor = (name.label.encode(), SUFFIX.encode())
    held = list(_held(name, anchor))
    luck.shuffle(held)
    owners = list(dict.fromkeys([anchor, *(owner for owner, _ in held)]))
    others = [(near, rtype) for owner in owners for near in _near(owner, luck) for rtype in ALWAYS]
    chosen = held[: most // 2]
    chosen += luck.sample(others, min(len(others), most - len(chosen)))
    return [
        _question(labels, rtype, luck)
        for labels, rtype in dict.fromkeys(chosen)
        if len(name_wire(labels)) <= 255
    ]


def nobodys(luck: random.Random) -> list[Question]:
    """Questions for names that nobody has, and for those that nobody can have."""
    labels = [
        b"nobody",
        b"a b",
        b"a.b",
        b"\0",
        b"\xff\xfe",
        b"*",
        b"_",
        b"x" * 37,
        b"x" * 63,
        b"A\\",
    ]
    names: list[Labels] = [(label, b"bs") for label in labels]
    names += [(b"x", *name) for name in names] + [(b"x", b"*", *name) for name in names]
    return [_question(name, rtype, luck) for name in names for rtype in ALWAYS]


def _held(name: Name, anchor: Labels) -> Iterator[tuple[Labels, int]]:
    try:
        zonefile = parse_zonefile(name.data, f"{name.label}.{NAMESPACE}")
    except ZonefileError:
        return
    for owner in zonefile.owners():
        for rtype, rrset in zonefile.rrsets(owner).items():
            yield owner + anchor, rtype
            for target in rrset.targets(anchor)[:3]:
                if lower(target)[-1:] == anchor[-1:]:
                    yield target, rtype if rtype in (CNAME, DNAME) else A


def _near(owner: Labels, luck: random.Random) -> list[Labels]:
    """Names at, above, below and beside ``owner``, in the asker's own upper and lower case."""
    near = [
        owner,
        (b"x", *owner),
        (b"x", b"y", *owner),
        (b"*", *owner),
        (b"beside", *owner[1:]),
        (b"*", *owner[1:]),
        (b"x", b"beside", *owner[1:]),
        *(owner[number:] for number in range(1, min(len(owner), 4))),
    ]
    return [_mixed(labels, luck) for labels in near if labels]


def _mixed(labels: Labels, luck: random.Random) -> Labels:
    change = luck.choice([bytes.lower, bytes.upper, bytes.swapcase, bytes, bytes])
    return tuple(change(label) for label in labels)


def _question(labels: Labels, rtype: int, luck: random.Random) -> Question:
    size = luck.choice([0, 0, 512, UDP_LIMIT, UDP_LIMIT, 4_096])
    flags = luck.choice([0, dns.flags.RD])
    more = b""
    if size:
        do = luck.choice([0, 0, 0, 0x80])
        more = b"\0\0\x29" + size.to_bytes(2, "big") + bytes((0, 0, do, 0, 0, 0))
    packet = b"".join(
        (
            luck.randbytes(2),
            flags.to_bytes(2, "big"),
            bytes((0, 1, 0, 0, 0, 0, 0, bool(more))),
            name_wire(labels),
            rtype.to_bytes(2, "big"),
            b"\0\1",
            more,
        )
    )
    return Question(labels, rtype, packet, min(max(size, 512), UDP_LIMIT), bool(size))
