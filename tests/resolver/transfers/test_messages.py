"""A whole zone to those who may have it: what is in it, and what a server that has it answers."""

import asyncio
import ipaddress
import re
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.xfr
import dns.zone
import pytest

from indexer.protocol.records import Phase
from indexer.table.level import TableDamaged
from resolver.dns.asker import Asker, is_within
from resolver.dns.chase import Freshness
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from resolver.doors.tcp import DnsConnections
from resolver.transfers.transfers import MAX_AT_ONCE
from tests.resolver.doors.certificates import make_certificate
from tests.resolver.doors.every_door import doors
from tests.resolver.fakes import HEIGHT, World, errors

FRIENDS = [ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("127.0.0.0/8")]


@pytest.fixture
def world() -> World:
    world = World(transfer_to=FRIENDS)
    world.zonefile(
        "alice.id",
        "@ A 192.0.2.1\n@ NS ns.elsewhere.example.\nwww CNAME alice.bs.\nwww2 CNAME far.example.\n"
        "* A 192.0.2.2\na.b MX 10 mail\nmail A 192.0.2.3\n"
        "sub NS ns.sub\nsub NS ns.elsewhere.example.\nsub DS 1 8 2 " + "ab" * 32 + "\n"
        "ns.sub A 192.0.2.53\nhidden.sub A 192.0.2.66\nsub TXT hidden\n"
        'gone DNAME bob.bs.\nunder.gone A 192.0.2.67\n_blockstore TXT "owner=liar"',
    )
    world.name("bob.id", '{"not": "a zone file"}')
    world.name("bare.id", None)
    world.name("lost.id", "nowhere to be had", lies="nowhere")
    world.zonefile("late.id", "@ A 192.0.2.4", phase=Phase.GRACE, gone_at=2_000)
    world.zonefile("dead.id", "@ A 192.0.2.5", phase=Phase.REVOKED)
    world.zonefile("past.id", "@ A 192.0.2.6", phase=Phase.EXPIRED)
    world.zonefile("show.podcast", "@ A 192.0.2.7")
    world.name("long.id", "x" * 40_000)
    for number in range(400):
        world.zonefile(f"n{number:03}.id", f'@ A 192.0.2.{number % 250}\n@ TXT "{"t" * 90}"')
    return world


def ask(world, qname="bs", rtype="AXFR", *, address="192.0.2.9", stream=True, **more):
    """All messages of the reply, and the query."""
    query = dns.message.make_query(qname, rtype, **more)
    sent: list[bytes] = []

    async def story() -> None:
        async def take(message: bytes) -> None:
            sent.append(message)

        asker = Asker(address, keeps_connection=stream, more=take if stream else None)
        limit = STREAM_LIMIT if stream else UDP_LIMIT
        sent.append(await world.resolver.reply_to(query.to_wire(), limit, asker))

    asyncio.run(story())
    return query, sent


def taken_over(query, messages) -> dns.zone.Zone:
    """The zone as a secondary takes it over; dnspython keeps the rules of RFC 5936."""
    zone = dns.zone.Zone("bs")
    with dns.xfr.Inbound(zone, dns.rdatatype.AXFR) as inbound:
        for number, wire in enumerate(messages, 1):
            message = dns.message.from_wire(
                wire, xfr=True, origin=zone.origin, one_rr_per_rrset=True
            )
            assert query.is_response(message)
            assert message.flags & dns.flags.AA
            assert inbound.process_message(message) == (number == len(messages))
    zone.check_origin()
    return zone


def at(zone, name, rtype) -> list[str]:
    found = zone.get_rdataset(name, rtype)
    return [] if found is None else sorted(rdata.to_text() for rdata in found)


def test_a_secondary_has_all_that_is_at_hand(world):
    query, messages = ask(world)
    zone = taken_over(query, messages)
    assert len(messages) > 3
    assert zone.get_soa().serial == HEIGHT
    assert at(zone, "alice", "A") == ["192.0.2.1"]
    assert at(zone, "www.alice", "CNAME") == ["alice"]
    assert at(zone, "*.alice", "A") == ["192.0.2.2"]
    assert at(zone, "a.b.alice", "MX") == ["10 mail.alice"]
    assert at(zone, "late", "A") == ["192.0.2.4"]
    assert at(zone, "bob", "TXT") == ['"{\\"not\\": \\"a zone file\\"}"']
    assert at(zone, "n399", "A") == ["192.0.2.149"]
    for gone in ("dead", "past", "show", "nobody"):
        assert zone.get_node(gone) is None


def test_what_is_missing_here_is_sent_back_to_us_and_not_denied(world):
    zone = taken_over(*ask(world))
    assert at(zone, "lost", "NS") == ["localhost."]
    assert zone.get_node("bare") is None
    assert at(zone, "_blockstore.bare", "TXT")[0].startswith('"name=bare.id" "status=live"')


def test_what_would_be_read_otherwise_in_one_zone_is_left_out(world):
    zone = taken_over(*ask(world))
    assert at(zone, "alice", "NS") == []
    assert at(zone, "sub.alice", "NS") == ["ns.elsewhere.example.", "ns.sub.alice"]
    assert at(zone, "sub.alice", "TXT") == []
    assert len(at(zone, "sub.alice", "DS")) == 1
    assert at(zone, "ns.sub.alice", "A") == ["192.0.2.53"]
    assert zone.get_node("hidden.sub.alice") is None
    assert at(zone, "gone.alice", "DNAME") == ["bob"]
    assert zone.get_node("under.gone.alice") is None
    assert zone.get_node("_blockstore.alice") is None  # nobody's word but ours stands there


def test_a_record_that_some_server_does_not_take_is_left_out_and_counted(world):
    strange = "\\# 2 abcd"
    md = "\\# 9 076578616d706c6500"  # RFC 1035 3.3.4, obsolete: BIND loads no zone that has it
    world.zonefile("odd.id", f"@ TYPE3 {md}\n@ TYPE65282 {strange}\n@ A 192.0.2.8")
    zone = taken_over(*ask(world))
    assert at(zone, "odd", "TYPE3") == []
    assert at(zone, "odd", "TYPE65282") == [strange]
    assert at(zone, "odd", "A") == ["192.0.2.8"]
    assert world.resolver.outcomes["kept out of transfers"] == 1
    assert world.ask("odd.bs", "TYPE3").answer[0][0].to_wire() == bytes.fromhex(md.split()[-1])


@pytest.mark.parametrize("form", ["set A 10.0.0.{}", "node TYPE{} \\# 0"], ids=["records", "types"])
def test_a_name_with_more_in_one_place_than_every_server_takes_is_sent_back_to_us(world, form):
    for name, most in (("fits.id", 100), ("large.id", 101)):
        lines = [form.format(number + 65_300 * form.count("TYPE")) for number in range(most)]
        world.zonefile(name, "\n".join([*lines, "www A 192.0.2.9"]))
    zone = taken_over(*ask(world))
    assert at(zone, "www.fits", "A") == ["192.0.2.9"]
    assert at(zone, "large", "NS") == ["localhost."]
    assert zone.get_node("www.large") is None


def test_every_set_of_the_zone_is_what_we_answer(world):
    zone = taken_over(*ask(world))
    compared = 0
    for name, rdataset in zone.iterate_rdatasets():
        full = name.derelativize(zone.origin)
        # Delegations and what lies below them are referrals; the server's own word has a time.
        text = str(name)
        if rdataset.rdtype == dns.rdatatype.NS or text.endswith(".sub.alice"):
            continue
        if text.startswith("_blockstore."):
            continue
        reply = world.ask(str(full), dns.rdatatype.to_text(rdataset.rdtype), tcp=True)
        (answered,) = reply.answer
        theirs = {rdata.to_wire(origin=zone.origin) for rdata in rdataset}
        assert {rdata.to_wire() for rdata in answered} == theirs, full
        assert answered.ttl == rdataset.ttl
        compared += 1
    assert compared > 800


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR"])
def test_strangers_are_refused(world, rtype):
    for address in ("198.51.100.1", "", "rubbish"):
        _, (wire,) = ask(world, rtype=rtype, address=address)
        assert dns.message.from_wire(wire).rcode() == dns.rcode.REFUSED
    _, (wire,) = ask(World(), rtype=rtype)
    assert dns.message.from_wire(wire).rcode() == dns.rcode.REFUSED


def test_over_udp_there_is_no_transfer_and_ixfr_tells_the_serial(world):
    _, (wire,) = ask(world, stream=False)
    assert dns.message.from_wire(wire).rcode() == dns.rcode.REFUSED
    _, (wire,) = ask(world, rtype="IXFR", stream=False)
    (soa,) = dns.message.from_wire(wire).answer
    assert soa[0].serial == HEIGHT


def ixfr_from(world, serial) -> list[bytes]:
    query, _ = dns.xfr.make_query(dns.zone.Zone("bs"), serial)
    sent: list[bytes] = []

    async def story() -> None:
        async def take(message: bytes) -> None:
            sent.append(message)

        asker = Asker("192.0.2.9", keeps_connection=True, more=take)
        sent.append(await world.resolver.reply_to(query.to_wire(), STREAM_LIMIT, asker))

    asyncio.run(story())
    return sent


@pytest.mark.parametrize("serial", [HEIGHT, HEIGHT + 1, HEIGHT + 2**31 - 1])
def test_who_has_this_version_already_hears_the_serial_alone(world, serial):
    (wire,) = ixfr_from(world, serial)
    reply = dns.message.from_wire(wire)
    (soa,) = reply.answer
    assert (reply.rcode(), soa[0].serial) == (dns.rcode.NOERROR, HEIGHT)


@pytest.mark.parametrize("serial", [1, HEIGHT - 1, HEIGHT + 2**31 + 1])
def test_who_has_an_older_version_gets_the_whole_zone(world, serial):
    messages = ixfr_from(world, serial)
    assert len(messages) > 3
    for wire, place in ((messages[0], 0), (messages[-1], -1)):
        assert dns.message.from_wire(wire).answer[place].rdtype == dns.rdatatype.SOA


def test_an_ixfr_question_that_tells_no_serial_gets_the_whole_zone(world):
    _, messages = ask(world, rtype="IXFR")
    assert len(messages) > 3
    first = dns.message.from_wire(messages[0]).answer[0]
    last = dns.message.from_wire(messages[-1]).answer[-1]
    assert first == last
    assert first.rdtype == dns.rdatatype.SOA


def test_a_name_that_is_no_zone_has_none_and_an_unready_index_gives_none(world):
    _, (wire,) = ask(world, "alice.bs")
    assert dns.message.from_wire(wire).rcode() == dns.rcode.NOTAUTH
    _, (wire,) = ask(world, "example.net")
    assert dns.message.from_wire(wire).rcode() == dns.rcode.NOTAUTH
    world.freshness = Freshness(False, 400, HEIGHT, 1.0)
    _, (wire,) = ask(world, use_edns=0)
    reply = dns.message.from_wire(wire)
    assert (reply.rcode(), errors(reply)[0][0]) == (dns.rcode.SERVFAIL, 14)


def test_transfers_at_once_are_few_and_others_have_their_turn_between(world):
    async def story() -> list[bytes]:
        gate = asyncio.Event()

        async def held(message: bytes) -> None:
            await gate.wait()

        asker = Asker("192.0.2.9", keeps_connection=True, more=held)
        wire = dns.message.make_query("bs", "AXFR").to_wire()
        under_way = [
            asyncio.ensure_future(world.resolver.reply_to(wire, STREAM_LIMIT, asker))
            for _ in range(MAX_AT_ONCE)
        ]
        turns = 0
        while world.transfers.under_way < MAX_AT_ONCE or turns < 20:
            await asyncio.sleep(0)
            turns += 1
        refused = await world.resolver.reply_to(wire, STREAM_LIMIT, asker)
        assert dns.message.from_wire(refused).rcode() == dns.rcode.SERVFAIL
        gate.set()
        return await asyncio.gather(*under_way)

    assert len(asyncio.run(story())) == MAX_AT_ONCE
    assert world.transfers.under_way == 0


def test_many_that_are_asked_for_in_one_breath_are_no_more_at_once(world):
    most = 0

    async def story() -> list[bytes]:
        async def take(message: bytes) -> None:
            nonlocal most
            most = max(most, world.transfers.under_way)

        asker = Asker("192.0.2.9", keeps_connection=True, more=take)
        wire = dns.message.make_query("bs", "AXFR").to_wire()
        begun = [world.resolver.begin(wire, STREAM_LIMIT, asker) for _ in range(10)]
        return await asyncio.gather(*begun)

    codes = [dns.message.from_wire(wire).rcode() for wire in asyncio.run(story())]
    assert most == MAX_AT_ONCE
    assert codes.count(dns.rcode.SERVFAIL) == 10 - MAX_AT_ONCE


def test_a_failure_in_the_middle_is_told_and_gives_the_place_back(world):
    def fail(digest):
        raise RuntimeError("the disk")

    world.source.peek = fail
    _, messages = ask(world)
    assert dns.message.from_wire(messages[-1]).rcode() == dns.rcode.SERVFAIL
    assert world.transfers.under_way == 0


def test_an_index_damaged_on_disk_ends_a_transfer_with_what_it_is(world):
    def fail(*_):
        raise TableDamaged(Path("names"), "why")

    world.snapshot.names_in = fail
    _, messages = ask(world, use_edns=0)
    reply = dns.message.from_wire(messages[-1])
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert errors(reply) == [(14, "the index is damaged; see the log")]


class Wire:
    """As much of a transport as a connection needs: it is full after every write."""

    def __init__(self, connection=None) -> None:
        self.octets = b""
        self.connection = connection

    def write(self, octets: bytes) -> None:
        self.octets += octets
        self.connection.pauseProducing()

    def __getattr__(self, name):
        return lambda *args: None


def test_a_connection_sends_the_next_message_when_the_peer_has_read_the_last(world):
    async def story() -> None:
        class Clock:
            seconds = staticmethod(lambda: 0.0)
            callLater = staticmethod(lambda *args: Wire())

        factory = DnsConnections(Clock, world.resolver)
        connection = factory.buildProtocol(type("Peer", (), {"host": "192.0.2.9"}))
        connection.transport = wire = Wire(connection)
        connection.connectionMade()
        query = dns.message.make_query("bs", "AXFR").to_wire()
        connection.dataReceived(struct.pack("!H", len(query)) + query)
        for _ in range(2_000):
            await asyncio.sleep(0)
        sent = wire.octets
        assert 0 < len(sent) < 60_000
        ended = 0
        while connection.under_way:
            connection.resumeProducing()
            await asyncio.sleep(0)
            ended += 1
        assert len(wire.octets) > len(sent)
        assert ended > 3

    asyncio.run(story())


@pytest.mark.parametrize(
    ("address", "within"),
    [
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("192.0.3.1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("rubbish", False),
    ],
)
def test_an_address_is_within_a_network_or_not(address, within):
    assert is_within(address, FRIENDS) is within


# On real doors


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    certificate, key = make_certificate(folder)
    with doors(folder, certificate=certificate, key=key, giving=True) as running:
        yield running


@pytest.mark.live
@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is missing: install bind9-dnsutils")
@pytest.mark.parametrize("how", ["tcp", "tls"])
@pytest.mark.parametrize("rtype", ["AXFR", "IXFR=1"])
def test_dig_takes_the_zone_over(door, how, rtype):
    port = door.dot if how == "tls" else door.dns
    done = subprocess.run(
        ["dig", "@127.0.0.1", "-p", str(port), f"+{how}", "+tries=1", "bs", rtype],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"XFR size: \d+ records \(messages [2-9]", done.stdout), done.stdout[-500:]
    assert "www.alice.bs.\t\t3600\tIN\tAAAA\t2001:db8::1" in done.stdout
    assert "lost.bs.\t\t3600\tIN\tNS\tlocalhost." in done.stdout
    assert "WARNING" not in done.stdout
    assert "failed" not in done.stdout


def transferred(stream: socket.socket) -> int:
    """Ask for the zone and read it to its end; how many records it had."""
    dns.query.send_tcp(stream, dns.message.make_query("bs", "AXFR"))
    soas = records = 0
    while soas < 2:
        message, _ = dns.query.receive_tcp(stream, one_rr_per_rrset=True)
        records += len(message.answer)
        soas += sum(rrset.rdtype == dns.rdatatype.SOA for rrset in message.answer)
    return records


def test_the_connection_goes_on_after_a_transfer(door):
    with socket.create_connection(("127.0.0.1", door.dns), 5) as stream:
        for _ in range(2):
            assert transferred(stream) > 8
        query = dns.message.make_query("www.alice.bs", "A")
        dns.query.send_tcp(stream, query)
        reply, _ = dns.query.receive_tcp(stream)
        assert query.is_response(reply)
