"""One HTTP request at a time: the time that one may take, and the share of one address."""

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from resolver.api.door import MOST_OF_LOOPBACK, MOST_OF_ONE, ApiFactory, HostNames
from resolver.doors.web import MAX_CONNECTIONS, REQUEST_TIMEOUT
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
    channel.callLater = clock.callLater
    channel.makeConnection(Transport(peerAddress=IPv4Address("TCP", host, 4000)))
    return channel


def test_a_request_that_drips_ends_in_its_time(factory, clock):
    channel = connect(factory, clock)
    transport = channel.transport
    for at in range(int(REQUEST_TIMEOUT)):
        channel.dataReceived(REQUEST[at % 14 : at % 14 + 1] if at < 4 else b"a")
        clock.advance(0.5)
    assert not transport.aborted
    clock.advance(REQUEST_TIMEOUT / 2)
    assert transport.aborted


def test_a_body_that_drips_ends_in_its_time(factory, clock):
    channel = connect(factory, clock)
    transport = channel.transport
    channel.dataReceived(
        b"POST /v1/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
    )
    for _ in range(int(REQUEST_TIMEOUT / 5) + 1):
        channel.dataReceived(b"x")
        clock.advance(5)
    assert transport.aborted


def test_the_time_of_a_request_ends_with_its_last_octet(factory, clock, monkeypatch):
    asked = []
    monkeypatch.setattr("resolver.api.door._Request.process", lambda request: asked.append(request))
    channel = connect(factory, clock)
    transport = channel.transport
    channel.dataReceived(REQUEST)
    clock.advance(3 * REQUEST_TIMEOUT)  # an answer may take its time
    assert len(asked) == 1
    assert not transport.aborted
    asked[0].finish()
    clock.advance(REQUEST_TIMEOUT + 1)
    assert transport.aborted


def test_one_address_has_a_share_and_leaves_the_rest_to_others(factory, clock):
    mine = [connect(factory, clock) for _ in range(MOST_OF_ONE + 1)]
    assert mine[-1] is None
    assert None not in mine[:-1]
    local = [connect(factory, clock, "127.0.0.1") for _ in range(MOST_OF_LOOPBACK)]
    assert None not in local
    assert connect(factory, clock, "127.0.0.1") is None
    assert len(factory.connections) == MAX_CONNECTIONS
    assert connect(factory, clock, "192.0.2.99") is None
    mine[0].connectionLost(None)
    assert connect(factory, clock, "192.0.2.99") is not None


def test_a_connection_that_ended_leaves_no_call_behind(factory, clock):
    channel = connect(factory, clock)
    channel.setTimeout(None)
    channel.connectionLost(None)
    assert clock.getDelayedCalls() == []
