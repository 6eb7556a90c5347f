"""The one sequence every door calls: rcodes, waiting, merging, and what a failure looks like."""

import asyncio
import gc
import ipaddress
import json
import logging
import struct
import warnings
from pathlib import Path
from types import SimpleNamespace

import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.protocol.records import Phase
from indexer.protocol.rows import DamagedRow
from indexer.table.level import TableDamaged
from resolver.dns.answer import NameData
from resolver.dns.asker import Asker
from resolver.dns.contents import Contents, read_data
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from tests.resolver.fakes import World, checked, errors, lines
from tests.rings import sampled
from zonefiles.archive.archive import Archive
from zonefiles.sources import DataSource, Missing, MissingReason

WEB = """
@      TXT  "hello"
www    300 A 192.0.2.1
loop1  CNAME loop2
loop2  CNAME loop1
far    CNAME www.bob.podcast.example.net.
out    CNAME www.example.com.
none   CNAME nobody.bs.
gone   CNAME x.lost.bs.
top    CNAME bs.
"""


@pytest.fixture
def world() -> World:
    world = World()
    world.zonefile("alice.id", WEB)
    world.zonefile("bob.podcast", "www A 192.0.2.7")
    world.name("lost.id", "lost data", lies="nowhere")
    return world


def test_data_at_hand_is_answered_without_awaiting(world):
    query = dns.message.make_query("www.alice.bs", "A")
    reply = world.resolver.begin(query.to_wire(), UDP_LIMIT)
    assert isinstance(reply, bytes)
    assert lines(checked(query, reply).answer) == ["www.alice.bs. 300 IN A 192.0.2.1"]
    assert world.source.asked == []


def test_the_archive_is_asked_once_for_what_stays_in_memory(world):
    for _ in range(3):
        world.ask("www.alice.bs")
    assert len(world.source.peeked) == 1


def test_a_reply_that_nobody_waits_for_leaves_nothing_behind():
    world = World(transfer_to=[ipaddress.ip_network("192.0.2.0/24")])
    world.name("alice.id", "some bytes", lies="network")
    for qname, rtype in (("alice.bs", "TXT"), ("bs", "AXFR")):
        asker = Asker("192.0.2.1", more=lambda message: asyncio.sleep(0))
        packet = dns.message.make_query(qname, rtype).to_wire()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            world.resolver.begin(packet, STREAM_LIMIT, asker).close()
            gc.collect()
        # Collecting finds what the tests before this one left, too: a socket, a file.
        assert not [each for each in caught if issubclass(each.category, RuntimeWarning)]


def test_data_on_the_network_is_awaited():
    world = World()
    world.name("alice.id", "some bytes", lies="network")
    reply = world.ask("alice.bs", "TXT")
    assert lines(reply.answer) == ['alice.bs. 300 IN TXT "some bytes"']
    assert len(world.source.asked) == 1


class Network:
    """A DHT with one datum, that answers when its gate opens."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.gate = asyncio.Event()
        self.looked_for = 0

    async def fetch(self, digest: bytes, deadline: float) -> SimpleNamespace:
        self.looked_for += 1
        await self.gate.wait()
        return SimpleNamespace(data=self.data, source="192.0.2.1:6265", asked=3, wrong=0)


def test_many_questions_for_one_datum_make_one_look_up(tmp_path):
    async def story():
        network = Network(b"some bytes")
        archive = Archive(tmp_path / "archive", max_bytes=1_000_000)
        world = World(source=DataSource(archive, network))
        world.name("alice.id", "some bytes", lies="nowhere")
        query = dns.message.make_query("alice.bs", "TXT").to_wire()
        asked = [asyncio.ensure_future(world.resolver.reply_to(query, UDP_LIMIT)) for _ in range(9)]
        while world.resolver.waiting < 9 or not network.looked_for:
            await asyncio.sleep(0)
        asked.pop(0).cancel()  # the one who asked first hangs up
        network.gate.set()
        replies = await asyncio.gather(*asked)
        again = world.resolver.begin(query, UDP_LIMIT)
        assert isinstance(again, bytes)
        archive.close()
        return world, network, replies

    world, network, replies = asyncio.run(story())
    assert all(reply is not None and b"some bytes" in reply for reply in replies)
    assert network.looked_for == 1
    assert world.resolver.waiting == 0


def test_more_waiting_questions_than_allowed_hear_servfail():
    world = World(max_waiting=2)
    for number in range(3):
        world.name(f"n{number}.id", f"data {number}", lies="network")

    async def story():
        world.source.gate = asyncio.Event()
        asked = [
            asyncio.ensure_future(
                world.resolver.reply_to(
                    dns.message.make_query(f"n{number}.bs", "TXT", use_edns=0).to_wire(), UDP_LIMIT
                )
            )
            for number in range(3)
        ]
        third = await asked[2]
        world.source.gate.set()
        return [*await asyncio.gather(*asked[:2]), third]

    first, second, third = (dns.message.from_wire(wire) for wire in asyncio.run(story()))
    assert first.rcode() == second.rcode() == dns.rcode.NOERROR
    assert third.rcode() == dns.rcode.SERVFAIL
    assert "ask again" in errors(third)[0][1]
    assert world.resolver.outcomes["overloaded"] == 1


def test_a_source_that_is_too_busy_to_ask_is_no_source_without_the_data():
    world = World()
    world.name("alice.id", "some bytes", lies="nowhere")

    async def busy(digest, timeout):
        return Missing(MissingReason.BUSY, 0, 0)

    world.source.get = busy
    reply = world.ask("alice.bs", "TXT")
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert [text for _, text in errors(reply)] == [
        "too many questions wait for data already; ask again"
    ]
    assert world.resolver.outcomes["overloaded"] == 1


def test_closing_gives_up_what_is_being_fetched():
    world = World()
    world.name("alice.id", "some bytes", lies="network")

    async def story():
        world.source.gate = asyncio.Event()
        query = dns.message.make_query("alice.bs", "TXT").to_wire()
        asked = asyncio.ensure_future(world.resolver.reply_to(query, UDP_LIMIT))
        while not world.source.asked:
            await asyncio.sleep(0)
        await world.resolver.close()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(story())


# Chains of aliases across names


def test_an_alias_is_followed_into_another_served_name(world):
    reply = world.ask("far.alice.bs")
    assert reply.flags & dns.flags.AA
    assert lines(reply.answer) == [
        "far.alice.bs. 3600 IN CNAME www.bob.podcast.example.net.",
        "www.bob.podcast.example.net. 3600 IN A 192.0.2.7",
    ]


def test_an_alias_out_of_the_served_zones_is_left_to_the_one_who_asked(world):
    reply = world.ask("out.alice.bs")
    assert reply.rcode() == dns.rcode.NOERROR
    assert lines(reply.answer) == ["out.alice.bs. 3600 IN CNAME www.example.com."]
    assert reply.authority == []


def test_the_rcode_speaks_for_the_end_of_the_chain(world):
    reply = world.ask("none.alice.bs")
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert len(reply.answer) == 1
    assert errors(reply) == [(0, "not registered at block 1000")]


def test_an_alias_whose_data_cannot_be_had_is_a_failure_not_an_empty_answer(world):
    reply = world.ask("gone.alice.bs")
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert errors(reply)[0][0] == 22
    assert reply.answer == []


def test_an_alias_to_the_zone_itself_ends_there(world):
    reply = world.ask("top.alice.bs", "SOA")
    assert [rrset.rdtype for rrset in reply.answer] == [5, 6]


def test_a_circle_of_aliases_ends(world):
    reply = world.ask("loop1.alice.bs")
    assert reply.rcode() == dns.rcode.NOERROR
    assert len(reply.answer) == 2
    assert "comes back to loop1.alice.bs" in errors(reply)[0][1]


@pytest.mark.parametrize(("length", "whole"), [(8, True), (9, False), (40, False)])
def test_no_more_than_eight_aliases_are_followed(length, whole):
    world = World()
    for number in range(length):
        world.zonefile(f"n{number}.id", f"@ CNAME n{number + 1}.bs.")
    world.zonefile(f"n{length}.id", "@ A 192.0.2.1")
    reply = world.ask("n0.bs")
    assert len(reply.answer) == 9
    assert (reply.answer[-1].rdtype == 1) is whole
    assert bool(errors(reply)) is not whole


# States of names: the table itself is in the scenario files


def test_an_archive_that_fails_is_a_servfail_and_one_line(world, caplog):
    def broken(digest):
        raise OSError("the disk is gone")

    world.source.peek = broken
    with caplog.at_level(logging.INFO, "blockstore"):
        for _ in range(50):
            assert world.ask("alice.bs", "TXT").rcode() == dns.rcode.SERVFAIL
    assert [record.getMessage() for record in caplog.records] == [
        "Answering alice.bs 16 failed: OSError: the disk is gone. SERVFAIL was sent."
    ]
    assert caplog.records[0].exc_info is None
    assert world.resolver.outcomes["failed"] == 50


def test_a_source_that_fails_is_a_servfail(world):
    async def broken(digest, timeout):
        raise ConnectionResetError("no more")

    world.source.get = broken
    assert world.ask("lost.bs", "TXT").rcode() == dns.rcode.SERVFAIL


def test_a_logged_failure_is_logged_again_after_a_minute(caplog):
    now = [0.0]
    world = World(clock=lambda: now[0], contents=Contents(read=_cannot_read))
    world.zonefile("alice.id", WEB)
    for moment in (0.0, 59.0, 60.0):
        now[0] = moment
        world.ask("alice.bs")
    assert len(caplog.records) == 2


def _cannot_read(data: bytes, name: str) -> NameData:
    raise RecursionError("deep")


def test_outcomes_are_counted_by_rcode(world):
    world.ask("alice.bs", "TXT")
    world.ask("nobody.bs")
    world.ask("example.com")
    world.send(b"short")
    world.send(b"\0" * 12)
    assert world.resolver.outcomes == {
        "NOERROR": 1,
        "NXDOMAIN": 1,
        "REFUSED": 1,
        "silent": 1,
        "refused unread": 1,
    }


def test_one_question_is_answered_from_one_snapshot(world):
    world.name("late.id", "v", lies="network")
    taken = []
    world.table = lambda: taken.append(1) or world.snapshot
    world.ask("late.bs", "TXT")
    assert len(taken) == 1


@pytest.mark.parametrize("damage", [DamagedRow("a row is cut"), TableDamaged(Path("n"), "why")])
@pytest.mark.parametrize(
    ("read", "qname"),
    [
        ("table", "nobody.bs"),
        ("name_status", "nobody.bs"),
        ("verdict", "revoked.bs"),
        ("consensus_hash", "_blockstore.alice.bs"),
    ],
)
def test_an_index_damaged_on_disk_is_a_failure_that_says_so(world, damage, read, qname):
    def fail(*_):
        raise damage

    world.name("revoked.id", None, phase=Phase.REVOKED)
    setattr(world if read == "table" else world.snapshot, read, fail)
    for tcp in (False, True):
        reply = world.ask(qname, "TXT", tcp=tcp)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert errors(reply) == [(14, "the index is damaged; see the log")]


def test_damage_met_after_waiting_is_a_failure_that_says_so(world):
    def fail(name):
        if name == "bob.podcast":
            raise TableDamaged(Path("names"), "why")
        return names[name]

    world.zonefile("late.id", "x CNAME www.bob.podcast.example.net.", lies="network")
    names, world.snapshot.name_status = world.snapshot.names, fail
    reply = world.ask("x.late.bs")
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert errors(reply) == [(14, "the index is damaged; see the log")]


def test_large_data_is_truncated_over_udp_and_whole_over_tcp():
    world = World()
    data = bytes(range(256)) * 160
    world.name("big.id", data)
    short = world.ask("big.bs", "TXT", payload=512)
    assert short.flags & dns.flags.TC
    assert not short.answer
    whole = world.ask("big.bs", "TXT", tcp=True)
    assert b"".join(whole.answer[0][0].strings) == data


def test_a_name_in_grace_answers_and_says_until_when():
    world = World()
    world.zonefile("old.id", "@ A 192.0.2.1", phase=Phase.GRACE, expires_at=900, gone_at=5_900)
    reply = world.ask("old.bs")
    assert lines(reply.answer) == ["old.bs. 3600 IN A 192.0.2.1"]
    assert errors(reply)[0][1].startswith("expires at block 5900 (about 2026-")


# Rubbish


@pytest.mark.data
def test_recorded_malformed_packets_get_a_refusal_a_valid_reply_or_nothing(data_dir, world):
    files = sorted((data_dir / "dns" / "malformed").glob("*.bin"))
    assert files
    for file in files:
        packet = file.read_bytes()
        for limit in (UDP_LIMIT, STREAM_LIMIT):
            reply = world.send(packet, limit)
            if reply is None:
                continue
            decoded = dns.message.from_wire(reply)
            assert decoded.id == struct.unpack_from("!H", packet)[0]
            assert len(reply) <= UDP_LIMIT
            assert decoded.rcode() in (
                dns.rcode.FORMERR,
                dns.rcode.BADVERS,
                dns.rcode.REFUSED,  # well-formed, for a zone that is not ours
            ), file.name
    assert world.resolver.outcomes["failed"] == 0


GOOD = [
    dns.message.make_query("www.alice.bs", "A", use_edns=0, payload=1232).to_wire(),
    dns.message.make_query("alice.bs", "TXT", want_dnssec=True).to_wire(),
    dns.message.make_query("a.b.c.far.alice.bs", "ANY").to_wire(),
    dns.message.make_query("lost.bs", "TXT", use_edns=0).to_wire(),
    dns.message.make_query("version.bind", "TXT", "CH").to_wire(),
]
FUZZED = World()
FUZZED.zonefile("alice.id", WEB)


@settings(max_examples=sampled(400))
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6),
    st.integers(0, 90),
    st.binary(max_size=12),
)
def test_no_mutation_of_a_packet_raises_or_draws_too_long_a_reply(good, changes, keep, more):
    packet = bytearray(good[: max(keep, 1)] if keep < 45 else good)
    for at, octet in changes:
        if at < len(packet):
            packet[at] = octet
    packet += more
    reply = FUZZED.send(bytes(packet))
    if reply is not None:
        assert len(reply) <= UDP_LIMIT
        if (packet[2] & 0x78) != 0x28:  # dnspython reads an UPDATE by other rules
            dns.message.from_wire(reply)
    assert FUZZED.resolver.outcomes["failed"] == 0


@pytest.mark.data
def test_every_real_zone_file_answers_with_what_it_holds(data_dir):
    """Real zone files, served each under a name of its own: the data as TXT, and every record."""
    world = World()
    records = [json.loads(line) for line in (data_dir / "zonefiles" / "real.jsonl").open()]
    served = 0
    for number, record in enumerate(records):
        name = f"n{number}.id"
        data = record["zonefile"].replace(f"$ORIGIN {record['name']}", f"$ORIGIN {name}").encode()
        world.name(name, data)
        txt = world.ask(f"n{number}.bs", "TXT", tcp=True)
        read = read_data(data, name)
        if read.zonefile is None:
            assert b"".join(txt.answer[0][0].strings) == data
            assert errors(world.ask(f"n{number}.bs", "A"))[0][1].endswith(read.flaw)
            continue
        if not read.zonefile.rrsets(()):
            assert b"".join(txt.answer[0][0].strings) == data
        for labels in read.zonefile.owners():
            for rtype, stored in read.zonefile.rrsets(labels).items():
                owner = dns.name.Name((*labels, b"n%d" % number, b"bs", b""))
                reply = world.ask(owner, rtype, tcp=True)
                assert reply.rcode() == dns.rcode.NOERROR
                assert len(reply.answer[0]) == len(stored)
                served += len(stored)
    assert served >= len(records) // 2
    assert world.resolver.outcomes["failed"] == 0
