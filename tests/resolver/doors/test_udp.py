"""The UDP door, on real loopback sockets and a reactor that only remembers its readers."""

import asyncio
import select
import socket
import sys
from ipaddress import ip_network

import dns.message
import dns.rcode
import pytest

from resolver.doors.listening import PortUnavailable, allow_open_files, make_room, udp_socket
from resolver.doors.udp import BURST, open_udp
from tests.resolver.doors.proxy_headers import LOCAL, SIGNATURE, Hears, proxied
from tests.resolver.fakes import World, errors


class Readers:
    """As much of a reactor as the door needs."""

    def __init__(self) -> None:
        self.readers: set[object] = set()

    def addReader(self, reader):
        self.readers.add(reader)

    def removeReader(self, reader):
        self.readers.discard(reader)


@pytest.fixture
def world() -> World:
    world = World()
    world.name("alice.id", "hello")
    world.name("slow.id", "slow", lies="network")
    return world


@pytest.fixture
def client():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.bind(("127.0.0.1", 0))
        yield client


def arrived(door) -> None:
    """Wait until the kernel has something for the door."""
    assert select.select([door], [], [], 5)[0], "nothing arrived"


@pytest.fixture(params=["in batches", "one by one"])
def door(world, request, monkeypatch):
    if request.param == "one by one":  # as on a system that has no such calls
        monkeypatch.setattr("resolver.doors.udp.batch_over", lambda *_, **__: None)
    door = open_udp(Readers(), "127.0.0.1", 0, world.resolver)
    yield door
    door.stop()


QUERY = dns.message.make_query("alice.bs", "TXT")


def test_a_question_is_answered_in_the_wake_up_that_brought_it(door, client):
    client.sendto(QUERY.to_wire(), ("127.0.0.1", door.port))
    arrived(door)
    door.doRead()
    reply, source = client.recvfrom(65_535)
    assert source == ("127.0.0.1", door.port)
    assert QUERY.is_response(dns.message.from_wire(reply))


def test_a_wake_up_takes_a_burst_and_no_more(door, client):
    for _ in range(BURST + 6):
        client.sendto(QUERY.to_wire(), ("127.0.0.1", door.port))
    arrived(door)
    door.doRead()
    assert door.outcomes["received"] == BURST
    door.doRead()
    assert door.outcomes["received"] == BURST + 6
    for _ in range(BURST + 6):
        client.recvfrom(65_535)


def test_short_packets_and_replies_get_silence(door, client):
    for packet in (b"", b"x", b"\0" * 11, b"\0\0\x80\0" + bytes(8), QUERY.to_wire()):
        client.sendto(packet, ("127.0.0.1", door.port))
    arrived(door)
    door.doRead()
    assert (door.outcomes["received"], door.outcomes["sent"]) == (5, 1)


def test_a_datagram_longer_than_any_question_is_refused(door, client):
    client.sendto(QUERY.to_wire() + bytes(20_000), ("127.0.0.1", door.port))
    arrived(door)
    door.doRead()
    assert dns.message.from_wire(client.recv(65_535)).rcode() == 1


def test_a_question_that_waits_for_data_is_answered_later(world, door, client):
    async def story():
        world.source.gate = asyncio.Event()
        for qname in ("slow.bs", "alice.bs"):
            query = dns.message.make_query(qname, "TXT").to_wire()
            client.sendto(query, ("127.0.0.1", door.port))
        arrived(door)
        door.doRead()
        first = dns.message.from_wire(client.recv(65_535))
        assert door.under_way == 1
        world.source.gate.set()
        while door.under_way:
            await asyncio.sleep(0)
        return first, dns.message.from_wire(client.recv(65_535))

    first, second = asyncio.run(story())
    assert str(first.question[0].name) == "alice.bs."
    assert str(second.question[0].name) == "slow.bs."


def test_who_is_one_too_many_to_wait_hears_servfail_at_once(client):
    world = World(max_waiting=2)
    world.name("slow.id", "slow", lies="network")

    async def story():
        door = open_udp(Readers(), "127.0.0.1", 0, world.resolver)
        world.source.gate = asyncio.Event()
        query = dns.message.make_query("slow.bs", "TXT", use_edns=0).to_wire()
        for _ in range(5):
            client.sendto(query, ("127.0.0.1", door.port))
        arrived(door)
        door.doRead()
        while door.under_way > 2:
            await asyncio.sleep(0)
        refused = [dns.message.from_wire(client.recv(65_535)) for _ in range(3)]
        assert [reply.rcode() for reply in refused] == [dns.rcode.SERVFAIL] * 3
        assert all("ask again" in errors(reply)[0][1] for reply in refused)
        assert world.resolver.outcomes["overloaded"] == 3
        world.source.gate.set()
        while door.under_way:
            await asyncio.sleep(0)
        answered = [dns.message.from_wire(client.recv(65_535)) for _ in range(2)]
        assert [reply.rcode() for reply in answered] == [dns.rcode.NOERROR] * 2
        door.stop()

    asyncio.run(story())


def test_a_door_that_stops_gives_up_those_who_wait(world, client):
    async def story():
        door = open_udp(Readers(), "127.0.0.1", 0, world.resolver)
        world.source.gate = asyncio.Event()
        query = dns.message.make_query("slow.bs", "TXT").to_wire()
        client.sendto(query, ("127.0.0.1", door.port))
        arrived(door)
        door.doRead()
        await asyncio.sleep(0)
        door.stop()
        while door.under_way:
            await asyncio.sleep(0)
        assert world.resolver.waiting == 0
        await world.resolver.close()

    asyncio.run(story())


def test_a_stopped_door_gives_its_port_back(world):
    readers = Readers()
    door = open_udp(readers, "127.0.0.1", 0, world.resolver)
    assert readers.readers == {door}
    port = door.port
    door.stop()
    assert readers.readers == set()
    udp_socket("127.0.0.1", port).close()


def test_a_port_in_use_is_said_in_one_line(door):
    with pytest.raises(PortUnavailable, match=rf"127\.0\.0\.1 port {door.port} \(UDP\) is in use"):
        udp_socket("127.0.0.1", door.port)


@pytest.mark.skipif(sys.platform == "win32", reason="counts no files")
def test_as_many_files_may_be_open_as_connections_need_and_no_more_than_is_allowed(caplog):
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert allow_open_files(300) == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
        assert allow_open_files(200) == 200
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300  # it is never lowered
        if before[1] != resource.RLIM_INFINITY:
            make_room(before[1])
            assert f"may have {before[1]} files open" in caplog.text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_both_families_may_have_one_port(world):
    try:
        six = udp_socket("::1", 0)
    except PortUnavailable:
        pytest.skip("this machine has no IPv6 loopback")
    with six, udp_socket("127.0.0.1", six.getsockname()[1]):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="needs IP_PKTINFO and 127.0.0.2")
def test_a_wildcard_door_answers_from_the_address_that_was_asked(world, client):
    door = open_udp(Readers(), "0.0.0.0", 0, world.resolver)
    for address in ("127.0.0.2", "127.0.0.1", "127.3.2.1"):
        client.sendto(QUERY.to_wire(), (address, door.port))
        arrived(door)
        door.doRead()
        assert client.recvfrom(65_535)[1] == (address, door.port)
    door.stop()


@pytest.mark.parametrize("in_batches", [True, False])
def test_a_proxy_has_to_say_for_whom_it_asks(client, monkeypatch, in_batches):
    if not in_batches:
        monkeypatch.setattr("resolver.doors.udp.batch_over", lambda *_, **__: None)
    resolver, proxies = Hears(), [ip_network("127.0.0.2/32")]
    door = open_udp(Readers(), "127.0.0.1", 0, resolver, proxies=proxies)  # type: ignore[arg-type]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as proxy:
        proxy.bind(("127.0.0.2", 0))
        proxy.settimeout(5)
        asked, header = QUERY.to_wire(), proxied("192.0.2.7", transport=2)
        for packet in (asked, b"", header[:20], header, proxied("::1", command=0x22) + asked):
            proxy.sendto(packet, ("127.0.0.1", door.port))  # and none of these is answered
        proxy.sendto(proxied("2001:db8::7", transport=2, tlv=50) + asked, ("127.0.0.1", door.port))
        proxy.sendto(LOCAL + asked, ("127.0.0.1", door.port))
        client.sendto(header + asked, ("127.0.0.1", door.port))
        while door.outcomes["received"] < 8:
            arrived(door)
            door.doRead()
        assert [proxy.recv(99)[12:] for _ in range(2)] == [b"2001:db8::7", b"127.0.0.2"]
    # What is no proxy of ours is not believed: its header is read as a question, and is none.
    assert resolver.askers == ["2001:db8::7", "127.0.0.2", "127.0.0.1"]
    assert client.recv(99)[:12] == SIGNATURE
    door.stop()
