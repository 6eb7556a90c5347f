"""The TCP door: framing, order, limits and clients that behave badly; time is Twisted's Clock."""

import asyncio
import socket
import struct

import dns.message
import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from resolver.doors.listening import PortUnavailable, tcp_socket
from resolver.doors.tcp import BURST, DnsConnections
from tests.resolver.fakes import World

QUERY = dns.message.make_query("alice.bs", "TXT", id=4242).to_wire()


def framed(packet: bytes) -> bytes:
    return struct.pack("!H", len(packet)) + packet


def replies(octets: bytes) -> list[dns.message.Message]:
    found = []
    while octets:
        (length,) = struct.unpack_from("!H", octets)
        assert len(octets) >= 2 + length, "a reply breaks off"
        found.append(dns.message.from_wire(octets[2 : 2 + length]))
        octets = octets[2 + length :]
    return found


class Wire(StringTransport):
    """A transport that a test can fill, drain and look at."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.aborted = False
        self.unsent = 0
        self.full = False

    def setTcpNoDelay(self, enabled):
        pass

    def write(self, data):
        super().write(data)
        self.writes += 1
        self.unsent += len(data)
        if self.producer is not None and self.unsent > 65_536 and not self.full:
            self.full = True
            self.producer.pauseProducing()

    def drain(self):
        self.unsent = 0
        self.full = False
        self.producer.resumeProducing()

    def abortConnection(self):
        self.aborted = True


class Turns(Clock):
    """A clock that, as a reactor, calls in the next turn what this one says to call at once."""

    TURN = 2**-20

    def callLater(self, delay, call, *args, **kw):
        return super().callLater(delay or self.TURN, call, *args, **kw)

    def turn(self) -> None:
        self.advance(self.TURN)


class Door:
    def __init__(self, world: World, **limits) -> None:
        self.clock = Turns()
        self.factory = DnsConnections(self.clock, world.resolver, **limits)

    def connect(self, host: str = "192.0.2.1"):
        kind = IPv6Address if ":" in host else IPv4Address
        connection = self.factory.buildProtocol(kind("TCP", host, 4242))
        if connection is None:
            return None, None
        wire = Wire()
        connection.makeConnection(wire)
        return connection, wire


@pytest.fixture
def world() -> World:
    world = World()
    world.name("alice.id", "hello")
    world.name("big.id", bytes(40_000))
    world.name("slow.id", "slow", lies="network")
    return world


def test_a_question_split_anywhere_is_answered(world):
    whole = framed(QUERY)
    for cut in range(1, len(whole)):
        connection, wire = Door(world).connect()
        connection.dataReceived(whole[:cut])
        assert wire.value() == b""
        connection.dataReceived(whole[cut:])
        assert len(replies(wire.value())) == 1


def test_byte_by_byte_is_as_good(world):
    connection, wire = Door(world).connect()
    for octet in framed(QUERY) * 3:
        connection.dataReceived(bytes((octet,)))
    assert len(replies(wire.value())) == 3


def test_a_burst_of_questions_leaves_in_one_write(world):
    connection, wire = Door(world).connect()
    connection.dataReceived(framed(QUERY) * 50)
    assert len(replies(wire.value())) == 50
    assert wire.writes == 1


def test_a_turn_answers_a_burst_of_a_connection_and_reads_no_more_until_the_next(world):
    door = Door(world)
    connection, wire = door.connect()
    connection.dataReceived(framed(QUERY) * (2 * BURST + 5))
    for answered in (BURST, 2 * BURST):
        assert len(replies(wire.value())) == answered
        assert wire.producerState == "paused"
        connection.dataReceived(framed(QUERY))  # what TLS had still in hand
        assert len(replies(wire.value())) == answered
        door.clock.turn()
    assert len(replies(wire.value())) == 2 * BURST + 7
    assert wire.producerState == "producing"
    assert wire.writes == 3


def test_what_is_left_for_the_next_turn_is_answered_to_who_closed_its_side(world):
    door = Door(world)
    connection, wire = door.connect()
    connection.dataReceived(framed(QUERY) * (BURST + 5))
    connection.readConnectionLost()
    assert not wire.disconnecting
    door.clock.turn()
    assert len(replies(wire.value())) == BURST + 5
    assert wire.disconnecting


def test_questions_that_end_together_share_what_one_turn_answers(world):
    async def story():
        world.source.gate = asyncio.Event()
        slow = framed(dns.message.make_query("slow.bs", "TXT").to_wire())
        door = Door(world, max_under_way=3)
        connection, wire = door.connect()
        connection.dataReceived(slow * 3 + framed(QUERY) * (2 * BURST))
        world.source.gate.set()
        while connection.under_way:
            await asyncio.sleep(0)
        seen = [len(replies(wire.value()))]
        for _ in range(2):
            door.clock.turn()
            seen.append(len(replies(wire.value())))
        return seen

    assert asyncio.run(story()) == [3, 3 + BURST, 3 + 2 * BURST]


def test_a_connection_lost_between_two_turns_leaves_no_call(world):
    door = Door(world)
    connection, _ = door.connect()
    connection.dataReceived(framed(QUERY) * (BURST + 5))
    connection.connectionLost()
    assert door.clock.getDelayedCalls() == []


def test_replies_that_are_ready_overtake_those_that_wait(world):
    async def story():
        world.source.gate = asyncio.Event()
        slow = dns.message.make_query("slow.bs", "TXT")
        connection, wire = Door(world).connect()
        connection.dataReceived(framed(slow.to_wire()) + framed(QUERY))
        first = replies(wire.value())
        world.source.gate.set()
        while connection.under_way:
            await asyncio.sleep(0)
        return slow, first, replies(wire.value())

    slow, first, both = asyncio.run(story())
    assert [reply.id for reply in first] == [struct.unpack_from("!H", QUERY)[0]]
    assert [reply.id for reply in both][1] == slow.id


def test_no_more_wait_than_allowed_and_reading_stops_meanwhile(world):
    async def story():
        world.source.gate = asyncio.Event()
        slow = framed(dns.message.make_query("slow.bs", "TXT").to_wire())
        door = Door(world, max_under_way=3)
        connection, wire = door.connect()
        connection.dataReceived(slow * 5)
        assert len(connection.under_way) == 3
        assert wire.producerState == "paused"
        world.source.gate.set()
        while connection.under_way:
            await asyncio.sleep(0)
            door.clock.turn()
        assert wire.producerState == "producing"
        return replies(wire.value())

    assert len(asyncio.run(story())) == 5


def test_a_lost_connection_cancels_what_it_waited_for(world):
    async def story():
        world.source.gate = asyncio.Event()
        door = Door(world)
        connection, _ = door.connect()
        connection.dataReceived(framed(dns.message.make_query("slow.bs", "TXT").to_wire()))
        await asyncio.sleep(0)
        assert world.resolver.waiting == 1
        connection.connectionLost()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert world.resolver.waiting == 0
        assert len(door.factory.places) == 0
        await world.resolver.close()

    asyncio.run(story())


def test_a_client_that_never_reads_is_held_back_and_then_dropped(world):
    door = Door(world)
    connection, wire = door.connect()
    big = framed(dns.message.make_query("big.bs", "TXT").to_wire())
    connection.dataReceived(big * 1_000)
    assert wire.unsent < 65_536 * 3
    assert wire.producerState == "paused"
    door.clock.advance(9.9)
    assert not wire.aborted
    door.clock.advance(0.2)
    assert wire.aborted


def test_a_slow_reader_gets_everything_in_the_end(world):
    connection, wire = Door(world).connect()
    big = framed(dns.message.make_query("big.bs", "TXT").to_wire())
    connection.dataReceived(big * 20)
    for _ in range(30):
        if wire.full:
            wire.drain()
    assert len(replies(wire.value())) == 20
    assert wire.producerState == "producing"


@pytest.mark.parametrize(
    "start", [b"", b"\0", b"\xff\xff", framed(QUERY)[:-1], b"\xff\xff" + QUERY]
)
def test_an_unfinished_question_ends_the_connection_after_the_idle_time(world, start):
    door = Door(world)
    connection, wire = door.connect()
    connection.dataReceived(start)
    door.clock.advance(9.9)
    assert not wire.disconnecting
    door.clock.advance(0.2)
    assert wire.disconnecting
    assert door.factory.places.outcomes["idle"] == 1


def test_bytes_that_trickle_in_do_not_keep_a_connection(world):
    door = Door(world)
    connection, wire = door.connect()
    connection.dataReceived(b"\xff\xff")
    for _ in range(11):
        connection.dataReceived(b"x")
        door.clock.advance(1)
    assert wire.disconnecting


def test_whole_questions_keep_a_connection(world):
    door = Door(world)
    connection, wire = door.connect()
    for _ in range(5):
        connection.dataReceived(framed(QUERY))
        door.clock.advance(9)
    assert not wire.disconnecting
    connection.connectionLost()
    assert door.clock.getDelayedCalls() == []


def test_a_peer_that_does_not_close_is_cut_off(world):
    door = Door(world)
    _, wire = door.connect()
    door.clock.pump([10.1, 9.0])
    assert wire.disconnecting
    assert not wire.aborted
    door.clock.advance(1.1)
    assert wire.aborted


@pytest.mark.parametrize("length", range(12))
def test_a_length_that_no_message_has_ends_the_connection(world, length):
    connection, wire = Door(world).connect()
    connection.dataReceived(struct.pack("!H", length) + bytes(length))
    assert wire.aborted


def test_a_reply_from_a_client_gets_no_reply(world):
    connection, wire = Door(world).connect()
    connection.dataReceived(framed(b"\0\0\x80" + QUERY[3:]) + framed(QUERY))
    assert len(replies(wire.value())) == 1


def test_who_closes_its_side_at_once_still_gets_its_replies(world):
    async def story():
        world.source.gate = asyncio.Event()
        connection, wire = Door(world).connect()
        connection.dataReceived(framed(dns.message.make_query("slow.bs", "TXT").to_wire()))
        connection.readConnectionLost()
        assert not wire.disconnecting
        world.source.gate.set()
        while connection.under_way:
            await asyncio.sleep(0)
        assert wire.disconnecting
        return replies(wire.value())

    assert len(asyncio.run(story())) == 1


def test_keepalive_is_told_to_those_who_ask(world):
    import dns.edns

    option = dns.edns.GenericOption(11, b"")
    query = dns.message.make_query("alice.bs", "TXT", use_edns=0, options=[option])
    connection, wire = Door(world).connect()
    connection.dataReceived(framed(query.to_wire()))
    (reply,) = replies(wire.value())
    assert [o.to_wire() for o in reply.options if int(o.otype) == 11] == [b"\0\x64"]


def test_connections_are_bounded_per_address(world):
    async def story():
        world.source.gate = asyncio.Event()
        door = Door(world, max_per_address=2, max_per_loopback=3)
        made = []
        for host in ["192.0.2.1"] * 3 + ["127.0.0.1"] * 4 + ["192.0.2.2"]:
            connection, _ = door.connect(host)
            made.append(connection is not None)
            if connection is not None:  # and none of them lets us wait
                slow = dns.message.make_query("slow.bs", "TXT").to_wire()
                connection.dataReceived(framed(slow))
        assert made == [True, True, False, True, True, True, False, True]
        assert door.factory.places.outcomes["too many"] == 2
        await world.resolver.close()

    asyncio.run(story())


def test_in_a_full_share_the_one_that_lets_us_wait_longest_makes_room(world):
    door = Door(world, max_per_address=2)
    wires = []
    for _ in range(3):
        wires.append(door.connect()[1])
        door.clock.advance(1)
    assert [wire.aborted for wire in wires] == [True, False, False]
    assert door.connect("192.0.2.2")[0] is not None
    assert not wires[1].aborted


def test_an_ipv6_client_is_counted_by_its_64(world):
    door = Door(world, max_per_address=1)
    wires = [door.connect(host)[1] for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")]
    assert [wire.aborted for wire in wires] == [True, False, False]


def test_when_all_are_taken_the_longest_idle_makes_room(world):
    door = Door(world, max_connections=3)
    wires = []
    for number in range(3):
        _, wire = door.connect(f"192.0.2.{number}")
        wires.append(wire)
        door.clock.advance(1)
    assert door.connect("192.0.2.9")[0] is not None
    assert door.connect("192.0.2.10")[0] is not None
    assert [wire.aborted for wire in wires] == [True, True, False]
    assert len(door.factory.places) == 3


def test_a_closed_connection_leaves_its_place(world):
    door = Door(world, max_per_address=1)
    connection, _ = door.connect()
    connection.connectionLost()
    assert door.connect()[0] is not None


def test_a_port_in_use_is_said_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortUnavailable) as caught:
            tcp_socket("127.0.0.1", port)
    text = str(caught.value)
    assert f"127.0.0.1 port {port} (TCP) is in use" in text
    assert "--dns-port" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("localhost", 0, "no IP address"),
        ("192.0.2.1", 0, "no interface"),
        ("127.0.0.1", 70_000, "cannot be opened"),
    ],
)
def test_an_address_that_cannot_be_had_is_said(host, port, says):
    with pytest.raises(PortUnavailable, match=says):
        tcp_socket(host, port)
