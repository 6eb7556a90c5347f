"""Connections that let every door wait, and those of a proxy that says for whom it speaks."""

import contextlib
import ipaddress
import socket
import ssl
import time
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import pytest
from twisted.internet.address import IPv4Address

from resolver.doors.connections import BehindProxies
from resolver.doors.tcp import DnsConnections
from tests.resolver.doors.certificates import make_certificate
from tests.resolver.doors.every_door import doors
from tests.resolver.doors.proxy_headers import LOCAL, Hears, proxied
from tests.resolver.doors.test_tcp import QUERY, Turns, Wire, framed

PROXY, OTHER = "192.0.2.1", "192.0.2.2"


class Door:
    """DNS over TCP behind one proxy."""

    def __init__(self, **limits: Any) -> None:
        self.clock, self.resolver = Turns(), Hears()
        proxies = [ipaddress.ip_network(PROXY)]
        inner = DnsConnections(self.clock, self.resolver, proxies=proxies, **limits)  # type: ignore[arg-type]
        self.places = inner.places
        self.factory = BehindProxies(inner, inner.places)

    def connect(self, host: str = PROXY) -> Any:
        wire: Any = Wire()
        wire.protocol = self.factory.buildProtocol(IPv4Address("TCP", host, 4242))
        if wire.protocol is not None:
            wire.protocol.makeConnection(wire)
        return wire


def test_a_proxy_asks_for_the_client_of_its_header_wherever_that_is_split():
    header = proxied("2001:db8::7", tlv=20)
    whole = header + framed(QUERY)
    for cut in range(1, len(whole)):
        door = Door()
        wire = door.connect()
        wire.protocol.dataReceived(whole[:cut])
        assert wire.value() == b""
        wire.protocol.dataReceived(whole[cut:])
        wire.protocol.dataReceived(framed(QUERY))
        assert door.resolver.askers == ["2001:db8::7"] * 2
        wire.protocol.connectionLost()
        assert (len(door.places), door.clock.getDelayedCalls()) == (0, [])


def test_a_proxy_that_checks_whether_we_live_asks_for_itself():
    door = Door()
    wire = door.connect()
    wire.protocol.dataReceived(LOCAL + framed(QUERY))
    assert door.resolver.askers == [PROXY]


@pytest.mark.parametrize(
    "begun", [framed(QUERY), b"PROXY TCP4 1.1.1.1 2.2.2.2 5 53\r\n", proxied(OTHER, command=0x11)]
)
def test_a_proxy_without_a_header_is_refused_at_once(begun):
    door = Door()
    wire = door.connect()
    wire.protocol.dataReceived(begun)
    assert (wire.aborted, wire.value(), door.resolver.askers) == (True, b"", [])


def test_a_header_from_anybody_else_is_refused_at_once():
    door = Door()
    wire = door.connect(OTHER)
    wire.protocol.dataReceived(proxied("127.0.0.1") + framed(QUERY))
    assert (wire.aborted, wire.value(), door.resolver.askers) == (True, b"", [])
    wire = door.connect(OTHER)
    wire.protocol.dataReceived(framed(QUERY))
    assert door.resolver.askers == [OTHER]


def test_a_header_that_drips_ends_with_the_idle_time():
    door = Door()
    wire = door.connect()
    for octet in proxied("192.0.2.9")[:9]:
        wire.protocol.dataReceived(bytes([octet]))
        door.clock.advance(1)
    assert not wire.aborted
    door.clock.advance(1)
    assert wire.aborted


def test_the_clients_of_a_proxy_have_shares_of_their_own():
    door = Door(max_per_address=2)
    wires = [door.connect() for _ in range(5)]
    for number, wire in enumerate(wires):
        wire.protocol.dataReceived(proxied("192.0.2.9" if number < 3 else "192.0.2.10"))
        door.clock.advance(1)
    assert [wire.aborted for wire in wires] == [True, False, False, False, False]


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    certificate, key = make_certificate(folder)
    nowhere = 9  # nobody is asked: whether one may is seen by RA
    options = {"proxies": ["127.0.0.2"], "forward": nowhere, "certificate": certificate}
    with doors(folder, key=key, **options) as running:
        running.tls = ssl.create_default_context(cafile=certificate)
        yield running


def reply_over(door: Any, kind: str, begun: bytes) -> dns.message.Message:
    port = {"dns": door.dns, "dot": door.dot, "doh": door.doh, "api": door.api}[kind]
    with contextlib.ExitStack() as stack:
        line: Any = socket.create_connection(("127.0.0.1", port), 5, ("127.0.0.2", 0))
        stack.enter_context(line)
        line.sendall(begun)
        if kind in ("dot", "doh"):
            line = stack.enter_context(door.tls.wrap_socket(line, server_hostname="dns.test"))
        if kind in ("dns", "dot"):
            line.sendall(framed(QUERY))
            return dns.query.receive_tcp(line, time.time() + 5)[0]
        line.sendall(
            b"POST /dns-query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/dns-message\r\nContent-Length: %d\r\n\r\n%s"
            % (len(QUERY), QUERY)
        )
        octets = b""
        while piece := line.recv(4_096):
            octets += piece
        return dns.message.from_wire(octets.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("kind", ["dns", "dot", "doh", "api"])
def test_every_door_knows_the_client_behind_the_proxy(door, kind):
    mine, strangers = (reply_over(door, kind, proxied(ip)) for ip in ("127.0.0.9", "192.0.2.9"))
    assert [bool(reply.flags & dns.flags.RA) for reply in (mine, strangers)] == [True, False]
    with pytest.raises((OSError, EOFError, dns.exception.DNSException)):
        reply_over(door, kind, b"")


BEGUN = {"dns": b"\0", "dot": b"\x16\x03\x01", "doh": b"\x16\x03\x01", "api": b"GET /v1/"}


@pytest.fixture(scope="module")
def without_proxies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    certificate, key = make_certificate(folder)
    with doors(folder, certificate=certificate, key=key) as running:
        running.tls = ssl.create_default_context(cafile=certificate)
        yield running


@pytest.mark.parametrize("kind", BEGUN)
def test_four_hundred_that_never_finish_leave_room_for_one_of_the_same_address(
    without_proxies, kind
):
    place = ("127.0.0.1", getattr(without_proxies, kind))
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            slow = socket.create_connection(place, 5, ("127.0.0.2", 0))
            stack.enter_context(slow)
            with contextlib.suppress(OSError):  # it made room already
                slow.sendall(BEGUN[kind])
        assert reply_over(without_proxies, kind, b"").answer
