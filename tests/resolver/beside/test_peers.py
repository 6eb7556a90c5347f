"""What Knot and NSD answer from the same zone, and where they and we differ and mean to.

Every question goes to all three. Compared are rcode, AA, TC and the sections as sets, TTLs too.
What differs must be one of ``MEANT``; anything else is a fault.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from resolver.dns.chase import MAX_STEPS
from resolver.dns.codes import AA, TC, Rcode, Rtype
from resolver.dns.lookup import WILDCARD, TtlLimits, lower
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from resolver.dns.upstream_reply import read_reply
from resolver.dns.zones import Labels
from tests.resolver.beside.questions import Question, nobodys, questions
from tests.resolver.beside.servers import started
from tests.resolver.beside.zones import NAMESPACE, SUFFIX, Name, nasty_names, real_names, zone_text
from tests.resolver.fakes import World
from tests.rings import RING, times

EVERY_REAL = 6
"""Of the real zone files, every so many; these are 319."""
ASKED_OF_NASTY = times(20, 250, 560)
ASKED_OF_REAL = times(2, 20, 60)

PEER_STEPS = 4
"""So many aliases are followed by every server."""
TTLS = TtlLimits()
NAMED = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 18, 21, 26, 30, 33, 35, 36, 39, 58, 107})
"""Types with names in their RDATA, which are alike in any case."""

Section = Mapping[tuple[Labels, int], tuple[int, frozenset[bytes]]]
"""By owner and type: the TTL and the RDATA."""


class Seen(NamedTuple):
    """A reply as far as it is compared."""

    rcode: int
    aa: bool
    tc: bool
    answer: Section
    authority: Section
    additional: Section

    @property
    def is_referral(self) -> bool:
        return any(rtype == Rtype.NS for _, rtype in self.authority)

    @property
    def is_aliases(self) -> bool:
        """Whether it is a chain of aliases without its end."""
        return (
            self.rcode == Rcode.NOERROR
            and not self.authority
            and {rtype for _, rtype in self.answer} <= {Rtype.CNAME, Rtype.DNAME}
        )


def seen(wire: bytes) -> Seen:
    """``wire``, its TTLs within our limits."""
    reply = read_reply(wire)
    answer, authority, additional = (
        {
            (lower(records.owner), records.rtype): (
                TTLS.clamp(records.ttl),
                frozenset(r.lower() if records.rtype in NAMED else r for r in records.rdatas),
            )
            for records in section
        }
        for section in (reply.answer, reply.authority, reply.additional)
    )
    flags = reply.flags
    return Seen(reply.rcode, bool(flags & AA), bool(flags & TC), answer, authority, additional)


class Case(NamedTuple):
    """One question and two replies that differ."""

    peer: str
    question: Question
    ours: Seen
    theirs: Seen
    own_servers: frozenset[Labels]
    """Names whose zone files have NS records for the very name."""

    def differs_only(self, *fields: str) -> bool:
        return self.ours._replace(**{f: getattr(self.theirs, f) for f in fields}) == self.theirs


Meant = Mapping[str, tuple[Callable[[Case], bool], str]]
"""Differences that are meant: how to tell each, and its reason."""


def _any(case: Case) -> bool:
    ours, theirs = case.ours, case.theirs
    kept = all(theirs.answer.get(key, held) == held for key, held in ours.answer.items())
    same_owners = {owner for owner, _ in ours.answer} == {owner for owner, _ in theirs.answer}
    return (
        case.question.rtype == Rtype.ANY
        and kept
        and (same_owners or theirs.tc)
        and case.differs_only("answer", "additional", "tc")
    )


def _own_servers(case: Case) -> bool:
    cuts = {owner for owner, rtype in case.theirs.authority if rtype == Rtype.NS}
    return case.theirs.is_referral and cuts <= case.own_servers


def _addresses_of_targets(case: Case) -> bool:
    ours, theirs = case.ours, case.theirs
    more = {rtype for _, rtype in theirs.additional.keys() - ours.additional.keys()}
    return (
        not theirs.is_referral
        and bool(theirs.answer)
        and not ours.additional
        and more <= {Rtype.A, Rtype.AAAA}
        and case.differs_only("additional")
    )


def _siblings(case: Case) -> bool:
    ours, theirs = case.ours, case.theirs
    cuts = [owner for owner, rtype in theirs.authority if rtype == Rtype.NS]
    return (
        theirs.is_referral
        and case.differs_only("additional")
        and not any(
            owner[-len(cut) :] == cut
            for (owner, _), _ in theirs.additional.items() ^ ours.additional.items()
            for cut in cuts
        )
    )


def _wild_cut(case: Case) -> bool:
    return case.peer == "knot" and any(
        owner[0] == WILDCARD and rtype == Rtype.NS for owner, rtype in case.theirs.authority
    )


def _signature_at_alias(case: Case) -> bool:
    return case.peer == "nsd" and case.question.rtype in (Rtype.RRSIG, Rtype.NSEC)


def _wild_dname(case: Case) -> bool:
    return case.peer == "knot" and (WILDCARD, b"wilddname", b"bs") in {
        owner for owner, rtype in case.ours.answer if rtype == Rtype.DNAME
    }


def _circle(case: Case) -> bool:
    return (
        case.ours.is_aliases
        and case.theirs.is_aliases
        and any(rtype == Rtype.DNAME for _, rtype in case.ours.answer)
        and case.differs_only("answer", "tc")
    )


def _steps(case: Case) -> bool:
    shorter, longer = sorted((case.ours, case.theirs), key=lambda reply: len(reply.answer))
    aliases = sum(rtype == Rtype.CNAME for _, rtype in shorter.answer)
    return (
        shorter.is_aliases
        and aliases > (MAX_STEPS if shorter is case.ours else PEER_STEPS)
        and shorter.answer.items() <= longer.answer.items()
    )


def _too_large(case: Case) -> bool:
    return case.peer == "knot" and case.ours.tc and case.theirs.rcode == Rcode.SERVFAIL


def _cut_glue(case: Case) -> bool:
    return (
        case.peer == "nsd"
        and case.ours.tc
        and case.theirs.is_referral
        and case.differs_only("tc", "additional")
    )


def _cut(case: Case) -> bool:
    return (
        case.ours.tc and case.theirs.tc and case.differs_only("answer", "authority", "additional")
    )


MEANT: Meant = {
    "any": (_any, "RFC 8482 section 4.1: one RRset is enough, and which one is free"),
    "own servers": (
        _own_servers,
        "NS records at a name itself are data: the zone is the suffix, which has no cut there",
    ),
    "addresses of targets": (
        _addresses_of_targets,
        "addresses beside MX and SRV records are optional: a resolver asks for those it needs",
    ),
    "siblings": (
        _siblings,
        "addresses of name servers outside the delegated part are optional (RFC 9471 section 2.3)",
    ),
    "wild cut": (
        _wild_cut,
        "RFC 4592 section 4.2 leaves NS at a wildcard undefined; NSD does as we",
    ),
    "signature at alias": (
        _signature_at_alias,
        "RRSIG and NSEC may stand beside a CNAME (RFC 4034 section 2.5), so an alias does not lead"
        " them on; Knot and BIND do as we",
    ),
    "wild DNAME": (
        _wild_dname,
        "RFC 4592 section 4.4 leaves DNAME at a wildcard undefined; NSD does as we",
    ),
    "circle": (_circle, "how often a circle of DNAMEs is gone round is free"),
    "steps": (
        _steps,
        "how many aliases are followed is free, and a resolver goes on from the last: we take"
        " eight, Knot fewer",
    ),
    "too large": (_too_large, "to an RRset that no message holds Knot says SERVFAIL, NSD TC as we"),
    "glue cut": (_cut_glue, "RFC 9471 section 3: TC where glue does not fit; NSD is older"),
    "cut": (_cut, "what is left of a reply with TC is free; it is asked for again over TCP"),
}


class Run:
    """All questions, and what became of them where only ``meant`` differences are allowed."""

    def __init__(self, names: list[Name], meant: Meant) -> None:
        self._allowed = meant
        self.world = World({SUFFIX: NAMESPACE})
        for name in names:
            self.world.name(f"{name.label}.{NAMESPACE}", name.data)
        self.own_servers = frozenset(
            (name.label.encode(), SUFFIX.encode()) for name in names if _has_own_servers(name)
        )
        self.asked = 0
        self.meant: Counter[str] = Counter()
        self.unexpected: list[str] = []

    def compare(self, peer: str, question: Question, ours: Seen, theirs: Seen) -> None:
        """Count the replies as the same, as meant to differ, or as a fault."""
        self.asked += 1
        if ours == theirs:
            return
        case = Case(peer, question, ours, theirs, self.own_servers)
        for name, (explains, _) in self._allowed.items():
            if explains(case):
                self.meant[name] += 1
                return
        shown = [
            f"{field}: {getattr(ours, field)} | {getattr(theirs, field)}"
            for field in Seen._fields
            if getattr(ours, field) != getattr(theirs, field)
        ]
        self.unexpected.append("\n    ".join([f"{question} ours | {peer}", *shown]))


def _has_own_servers(name: Name) -> bool:
    return any(line.split()[:2] == ["@", "NS"] for line in name.lines.splitlines())


@pytest.mark.data
@pytest.mark.live
def test_knot_and_nsd_answer_as_we_do_but_for_what_is_meant(tmp_path, data_dir):
    nasty, real = nasty_names(), real_names(data_dir, EVERY_REAL)
    assert len(nasty) >= 50
    assert len(real) >= 300
    luck = random.Random(20_260)
    asked = [q for name in nasty for q in questions(name, ASKED_OF_NASTY, luck)]
    asked += nobodys(luck)
    asked += [q for name in real for q in questions(name, ASKED_OF_REAL, luck)]
    run = Run([*nasty, *real], MEANT)
    with ExitStack() as stack:
        zone = zone_text([*nasty, *real])
        peers = [stack.enter_context(started(n, tmp_path, zone=zone)) for n in ("knot", "nsd")]
        for question in asked:
            packet = question.packet
            for peer in peers:
                peer.udp.send(packet)
            wire = run.world.send(packet, UDP_LIMIT)
            assert wire is not None
            assert len(wire) <= question.room
            ours = seen(wire)
            replies = [seen(peer.receive(packet)) for peer in peers]
            for peer, theirs in zip(peers, replies, strict=True):
                run.compare(peer.name, question, ours, theirs)
            if any(reply.tc for reply in (ours, *replies)):
                wire = run.world.send(packet, STREAM_LIMIT)
                assert wire is not None
                for peer in peers:
                    theirs = seen(peer.ask_stream(packet))
                    run.compare(peer.name, question, seen(wire), theirs)
    print(f"{len(asked)} questions, {run.asked} pairs of replies; meant: {dict(run.meant)}")
    assert not run.unexpected, "\n".join([f"{len(run.unexpected)} faults", *run.unexpected[:10]])
    assert run.world.resolver.outcomes["failed"] == 0
    assert RING != "long" or run.meant.keys() == MEANT.keys()
