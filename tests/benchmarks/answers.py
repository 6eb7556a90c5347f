"""How many packets a second go through the resolver, beside a bare socket loop that only echoes.

Run it as ``python -m tests.benchmarks.answers [--seconds S]``. Everything is in one process and
one thread; packets are sent in bursts beforehand and only the server's side is timed. Trust the
ratios, not the figures: each kind is measured in several turns, in rotation, and the best turn of
each counts.

    echo         recvfrom and sendto of the question itself, nothing else
    stock door   Twisted's own UDP port with a ready-made reply
    door         our UDP door with a ready-made reply
    reply_to     the resolver alone, by kind of question, data in memory, every reply made anew
    ready        the reply cache alone: 1,000 questions in turn, all kept
    whole        our door with the resolver behind it; kept: with the reply cache full of answers
"""

import argparse
import platform
import socket
import time
from collections.abc import Callable

import dns.edns
import dns.message
from twisted.internet import udp
from twisted.internet.protocol import DatagramProtocol

from resolver.dns.cache import ReplyCache
from resolver.dns.message import UDP_LIMIT
from resolver.doors.listening import udp_socket
from resolver.doors.udp import UdpDoor
from tests.resolver.fakes import World

BURST = 64
TURNS = 5


class Readers:
    """A reactor that never turns: the timed call is made by hand."""

    def addReader(self, reader: object) -> None: ...
    def removeReader(self, reader: object) -> None: ...


class Ready:
    """A resolver that knows one reply."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def begin(self, packet: bytes, limit: int) -> bytes:
        return self._reply

    def ready(self, packet: bytes, limit: int, address: str = "") -> bytes:
        return self._reply


class Stock(DatagramProtocol):
    """The same over Twisted's port."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(self._reply, addr)


def echo(bound: socket.socket) -> None:
    for _ in range(BURST):
        packet, peer = bound.recvfrom(4_096)
        bound.sendto(packet, peer)


def per_second(
    packets: list[bytes], serve: Callable[[], None], address: tuple[str, int], seconds: float
) -> float:
    """Packets a second of server time."""
    spent, served = 0.0, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        client.settimeout(5)
        client.connect(address)
        while spent < seconds:
            for number in range(BURST):
                client.send(packets[(served + number) % len(packets)])
            start = time.perf_counter()
            serve()
            spent += time.perf_counter() - start
            served += BURST
            for _ in range(BURST):
                client.recv(65_535)
    return served / spent


def a_world(cache: ReplyCache | None = None) -> tuple[World, dict[str, list[bytes]]]:
    """1,000 names with zone files, and questions of each kind."""
    world = World(cache=cache)
    for number in range(1_000):
        world.zonefile(
            f"name{number}.id",
            f'www A 192.0.2.{number % 250}\n@ TXT "x{number}"\nalias CNAME www\n*.w A 192.0.2.9',
        )
    world.name("large.id", bytes(40_000))

    def questions(form: str, rtype: str = "A") -> list[bytes]:
        return [
            dns.message.make_query(form.format(n), rtype, use_edns=0, payload=1232).to_wire()
            for n in range(1_000)
        ]

    return world, {
        "A": questions("www.name{}.bs"),
        "TXT": questions("name{}.bs", "TXT"),
        "CNAME and A": questions("alias.name{}.bs"),
        "wildcard": questions("a{0}.w.name{0}.bs"),
        "no such name": questions("nosuch{}.bs"),
        "40 KB, truncated": questions("large.bs", "TXT"),
        "not ours": questions("name{}.example.com"),
        "broken": [packet[:-3] for packet in questions("name{}.bs")],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="server time of each turn")
    seconds = parser.parse_args().seconds
    world, kinds = a_world()
    packets = kinds["A"]
    ready = world.resolver.begin(packets[0], UDP_LIMIT)
    assert isinstance(ready, bytes)

    bare = udp_socket("127.0.0.1", 0)
    stock_socket = udp_socket("127.0.0.1", 0)
    stock = udp.Port._fromListeningDescriptor(
        Readers(), stock_socket.fileno(), socket.AF_INET, Stock(ready), 8_192
    )
    stock.startListening()
    own = UdpDoor(Readers(), udp_socket("127.0.0.1", 0), Ready(ready))  # type: ignore[arg-type]
    whole = UdpDoor(Readers(), udp_socket("127.0.0.1", 0), world.resolver)

    keeping, kinds_kept = a_world(ReplyCache(1 << 25))
    kept = UdpDoor(Readers(), udp_socket("127.0.0.1", 0), keeping.resolver)
    with_cookie = [
        dns.message.make_query(
            f"www.name{n}.bs", "A", use_edns=0, options=[dns.edns.GenericOption(10, b"12345678")]
        ).to_wire()
        for n in range(1_000)
    ]
    for packet in (*packets, *kinds_kept["no such name"]):
        keeping.resolver.begin(packet, UDP_LIMIT)

    def alone(some: list[bytes], begin: Callable[[bytes, int], object]) -> float:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for packet in some:
                begin(packet, UDP_LIMIT)
            count += len(some)
        return count / (time.perf_counter() - start)

    runs: dict[str, Callable[[], float]] = {
        "echo": lambda: per_second(packets, lambda: echo(bare), bare.getsockname(), seconds),
        "stock door": lambda: per_second(
            packets, stock.doRead, stock_socket.getsockname(), seconds
        ),
        "door": lambda: per_second(packets, own.doRead, (own.host, own.port), seconds),
        "whole, kept: A": lambda: per_second(packets, kept.doRead, (kept.host, kept.port), seconds),
        "whole, kept: no such name": lambda: per_second(
            kinds_kept["no such name"], kept.doRead, (kept.host, kept.port), seconds
        ),
        "whole, kept: A with cookie": lambda: per_second(
            with_cookie, kept.doRead, (kept.host, kept.port), seconds
        ),
        "ready: A": lambda: alone(packets, keeping.resolver.ready),
        "whole: A": lambda: per_second(packets, whole.doRead, (whole.host, whole.port), seconds),
    }
    for kind, some in kinds.items():
        runs[f"reply_to: {kind}"] = lambda some=some: alone(  # type: ignore[misc]
            some, world.resolver.begin
        )
    best = dict.fromkeys(runs, 0.0)
    for _ in range(TURNS):
        for kind, run in runs.items():
            best[kind] = max(best[kind], run())
    print(f"Python {platform.python_version()}, {len(packets)} questions of each kind")
    print(f"{'':28}{'packets/s':>12}{'us each':>10}{'of echo':>9}")
    for kind, rate in best.items():
        print(f"{kind:28}{rate:12,.0f}{1e6 / rate:10.1f}{rate / best['echo']:9.2f}")


if __name__ == "__main__":
    main()
