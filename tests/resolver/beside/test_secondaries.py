"""BIND, Knot and NSD as secondaries: they take the zone from our door, and answer as we do.

The zone is that of ``nasty_zones.txt``, with all that a transfer must leave out.
"""

import random

import pytest

from resolver.dns.codes import Rcode, Rtype
from resolver.dns.lookup import lower
from resolver.dns.message import STREAM_LIMIT
from tests.resolver.beside.questions import questions
from tests.resolver.beside.servers import started
from tests.resolver.beside.test_peers import MEANT, Case, Run, seen
from tests.resolver.beside.zones import nasty_names
from tests.resolver.doors.every_door import doors
from tests.rings import times

ASKED = times(10, 60, 400)
OBSOLETE = {3, 4}
"""MD and MF."""
TOO_MANY = {b"big", b"hundredone", b"typesone", b"hugeset"}


def _given_back(case: Case) -> bool:
    back = {(label, b"bs") for label in TOO_MANY}
    cuts = {owner for owner, rtype in case.theirs.authority if rtype == Rtype.NS}
    return bool(cuts) and cuts <= back


def _at_a_wildcard(case: Case) -> bool:
    return lower(case.question.labels)[-2:-1] in [(b"wildcut",), (b"wilddname",)]


def _own_servers(case: Case) -> bool:
    return (
        case.question.rtype in (Rtype.NS, Rtype.ANY)
        and lower(case.question.labels) in case.own_servers
        and case.theirs.rcode == Rcode.NOERROR
    )


def _kept_out(case: Case) -> bool:
    return case.question.rtype in OBSOLETE and case.theirs.rcode == Rcode.NOERROR


def _any_below_dname(case: Case) -> bool:
    return case.peer == "bind" and case.question.rtype == Rtype.ANY and case.theirs.is_aliases


def _gone_round(case: Case) -> bool:
    return case.peer == "bind" and case.theirs.rcode == Rcode.SERVFAIL and case.ours.is_aliases


LEFT_OUT = {
    "given back": (_given_back, "a name with more in one place than BIND takes is delegated to us"),
    "at a wildcard": (_at_a_wildcard, "BIND refuses NS at a wildcard, and Knot answers otherwise"),
    "no own servers": (_own_servers, "NS at a name itself would be a delegation in the zone"),
    "kept out": (_kept_out, "BIND takes no zone with a record of these types"),
    "gone round": (_gone_round, "BIND says SERVFAIL to a circle of aliases, Knot and NSD as we"),
    "ANY below a DNAME": (_any_below_dname, "BIND answers ANY by the CNAME made there"),
}


@pytest.mark.live
@pytest.mark.parametrize("peer", ["bind", "knot", "nsd"])
def test_a_secondary_loads_the_zone_and_answers_as_we_do(peer, tmp_path):
    names = nasty_names()
    run = Run(names, {**LEFT_OUT, **MEANT})
    luck = random.Random(1_995)
    asked = [question for name in names for question in questions(name, ASKED, luck)]
    with (
        doors(tmp_path, giving=True, nasty=True) as ours,
        started(peer, tmp_path, primary=ours.dns) as server,
    ):
        for question in asked:
            wire = run.world.send(question.packet, STREAM_LIMIT)
            assert wire is not None
            theirs = seen(server.ask_stream(question.packet))
            run.compare(peer, question, seen(wire), theirs)
    assert not run.unexpected, "\n".join([f"{len(run.unexpected)} faults", *run.unexpected[:10]])
    assert run.asked > 40 * ASKED
