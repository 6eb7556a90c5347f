"""One HTTP request at a time: the time that one may take, and the share of one address."""

import ipaddress
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from resolver.api.door import MOST_OF_LOOPBACK, MOST_OF_ONE, ApiFactory, HostNames
from resolver.doors.web import MAX_CONNECTIONS, REQUEST_TIME
from tests.resolver.api.fakes import World

REQUEST = b"GET /v1/ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> ApiFactory:
    return ApiFactory(World().pages(), HostNames("127.0.0.1"), clock)


def connect(factory: ApiFactory, clock: Clock, host: str = "192.0.2.1") -> Any:
    channel = factory.buildProtocol(IPv4Address("TCP", host, 4000))
    if channel is None:
        return None
    channel.makeConnection(Transport(peerAddress=IPv4Address("TCP", host, 4000)))
    return channel


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /v1/ping", REQUEST[:-2],
     b"POST /v1/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"],
    ids=["nothing", "line", "headers", "body"],
)  # fmt: skip
def test_a_request_that_drips_ends_in_its_time(factory, clock, begun):
    channel = connect(factory, clock)
    transport = channel.transport
    channel.dataReceived(begun)
    for _ in range(int(REQUEST_TIME) - 1):
        clock.advance(1)
        channel.dataReceived(b"x")
    assert not transport.disconnecting
    clock.advance(1)
    assert transport.disconnecting
    clock.advance(REQUEST_TIME)  # it does not go by itself
    assert transport.aborted


def test_the_time_of_a_request_ends_with_its_last_octet(factory, clock, monkeypatch):
    asked = []
    monkeypatch.setattr("resolver.api.door._Request.process", lambda request: asked.append(request))
    channel = connect(factory, clock)
    transport = channel.transport
    channel.dataReceived(REQUEST)
    clock.advance(3 * REQUEST_TIME)  # an answer may take its time
    assert len(asked) == 1
    assert not transport.disconnecting
    asked[0].finish()
    clock.advance(REQUEST_TIME + 1)
    assert transport.disconnecting


def test_one_address_has_a_share_and_leaves_the_rest_to_others(factory, clock):
    mine = [connect(factory, clock)]
    clock.advance(1)
    mine += [connect(factory, clock) for _ in range(MOST_OF_ONE - 1)]
    local = [connect(factory, clock, "127.0.0.1") for _ in range(MOST_OF_LOOPBACK)]
    assert len(factory.places) == MAX_CONNECTIONS
    assert None not in mine + local
    assert connect(factory, clock) is not None  # in the place of the first of mine
    assert mine[0].transport.aborted
    assert not any(other.transport.aborted for other in mine[1:] + local)


def test_who_drips_makes_room_for_who_asks(factory, clock):
    slow = []
    for _ in range(2 * MOST_OF_LOOPBACK):
        slow.append(connect(factory, clock, "127.0.0.1"))
        slow[-1].dataReceived(REQUEST[:10])
        clock.advance(1 / 128)
    assert None not in slow
    assert [one.transport.aborted for one in slow] == [True] * 150 + [False] * 150
    honest = connect(factory, clock, "127.0.0.1")
    assert slow[150].transport.aborted
    clock.advance(REQUEST_TIME - 1 / 256)
    assert all(one.transport.aborted or one.transport.disconnecting for one in slow)
    assert not honest.transport.disconnecting


def test_who_is_owed_a_reply_keeps_its_place(factory, clock, monkeypatch):
    monkeypatch.setattr("resolver.api.door._Request.process", lambda request: None)
    mine = [connect(factory, clock) for _ in range(MOST_OF_ONE)]
    for one in mine:
        one.dataReceived(REQUEST)
    assert connect(factory, clock) is None
    mine[7].pauseProducing()  # it does not read
    assert connect(factory, clock) is not None
    assert [at for at, one in enumerate(mine) if one.transport.aborted] == [7]


def test_a_proxy_that_the_settings_name_speaks_for_many(clock):
    proxies = [ipaddress.ip_network("192.0.2.1/32")]
    factory = ApiFactory(World().pages(), HostNames("127.0.0.1"), clock, proxies=proxies)
    made = [connect(factory, clock) for _ in range(MAX_CONNECTIONS)]
    assert len(factory.places) == MAX_CONNECTIONS
    assert not any(one.transport.aborted for one in made)


def test_a_connection_that_ended_leaves_no_call_behind(factory, clock):
    channel = connect(factory, clock)
    channel.connectionLost(None)
    assert clock.getDelayedCalls() == []
