"""The API by the settings: how many may connect, and how long a whole request may take."""

from pathlib import Path
from typing import Any

import pytest
import twisted.internet
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from resolver.api.api import Api
from tests.resolver.api.fakes import World


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens an API for eight connections, two of them of one address, on a reactor that is a
    clock; gives what connects to it."""
    factories: list[Any] = []

    def listen(port: int, factory: Any, interface: str) -> Any:
        factories.append(factory)
        return type("Port", (), {"getHost": lambda self: IPv4Address("TCP", interface, port)})()

    monkeypatch.setattr(twisted.internet, "reactor", clock, raising=False)
    clock.listenTCP = listen  # type: ignore[attr-defined]
    api = Api(
        World().pages().behind,
        lambda *_: None,  # type: ignore[arg-type]
        "127.0.0.1",
        6264,
        names=(),
        working_dir=tmp_path,
        token_file=None,
        connections=8,
        connections_per_address=2,
        request_time=7.0,
    )
    monkeypatch.setattr(api._own, "start", lambda: None)  # its socket is no matter here
    api.open()

    def connected(host: str) -> Any:
        address = IPv4Address("TCP", host, 4000)
        channel = factories[0].buildProtocol(address)
        if channel is not None:
            channel.makeConnection(StringTransport(peerAddress=address))
        return channel

    return connected


def test_connections_are_bounded_in_all_and_of_one_address_by_the_settings(connect: Any) -> None:
    mine = [connect("192.0.2.1") for _ in range(3)]
    assert sum(one.transport.disconnected for one in mine) == 1
    local = [connect("127.0.0.1") for _ in range(7)]
    assert sum(one.transport.disconnected for one in local) == 1


def test_a_whole_request_has_the_time_of_the_settings(connect: Any, clock: Clock) -> None:
    channel = connect("192.0.2.1")
    for _ in range(6):
        clock.advance(1)
        channel.dataReceived(b"x")
    assert not channel.transport.disconnecting
    clock.advance(1)
    assert channel.transport.disconnecting
