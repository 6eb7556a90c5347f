"""A process with every DNS door on loopback and a small world behind them.

Takes one argument, JSON: ``certificate`` and ``key`` (paths), ``reload`` (read them again that
often, in seconds), ``limits`` (of TLS connections), ``forward`` (the port of another server on
127.0.0.1 that is asked for all other names) at ``forward_rate`` a second, ``keeping`` (whether
replies are kept), ``giving`` (whether this machine may have whole zones), ``proxies`` (prefixes of
those who have to send PROXY headers), ``nasty`` (whether the names of ``beside/`` are there too).
Prints the ports as JSON and runs until its standard input closes. ``doors`` starts it.
"""

import asyncio
import contextlib
import ipaddress
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.conftest import ROOT


@contextlib.contextmanager
def doors(folder: Path, **options: Any) -> Iterator[SimpleNamespace]:
    """The process, for the length of a block; its ports, and ``log()``, which must end empty."""
    log = folder / "doors.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.resolver.doors.every_door",
                json.dumps(options, default=str),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        yield SimpleNamespace(**json.loads(line), log=log.read_text, pid=process.pid)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
    assert log.read_text() == "", "the doors had something to complain about"


def main() -> None:
    from resolver.daemon.run import install_reactor

    reactor = install_reactor()
    from resolver.api.door import ApiDoor
    from resolver.dns.cache import ReplyCache
    from resolver.dns.lookup import TtlLimits
    from resolver.dns.zones import Zones
    from resolver.doors.certificate import Certificate
    from resolver.doors.doh import open_https
    from resolver.doors.listening import PortUnavailable
    from resolver.doors.tcp import open_tcp, open_tls
    from resolver.doors.udp import open_udp
    from resolver.forwarding.forwarder import Forwarder
    from resolver.forwarding.upstreams import Upstream
    from resolver.transfers.transfers import Transfers
    from tests.resolver.api.fakes import World as ApiWorld
    from tests.resolver.beside.zones import nasty_names
    from tests.resolver.fakes import FakeSource, World

    logging.basicConfig(level=logging.WARNING)
    options = json.loads(sys.argv[1])
    forwarder = None
    if "forward" in options:
        loopback = [ipaddress.ip_network("127.0.0.0/8")]
        upstream, rate = Upstream("127.0.0.1", options["forward"]), options.get("forward_rate", 0)
        forwarder = Forwarder([upstream], allow=loopback, rate=rate)
    cache = ReplyCache(1 << 22) if options.get("keeping") else None
    transfers = None
    if options.get("giving"):
        source = FakeSource()
        zones = Zones.from_settings({"bs": "id"})
        loopback = [ipaddress.ip_network("127.0.0.0/8")]
        transfers = Transfers(zones, loopback, source.peek, TtlLimits())
    world = World(forwarder=forwarder, cache=cache, transfers=transfers)
    if transfers is not None:
        world.source.archive = source.archive
    world.zonefile("alice.id", '@ TXT "hello"\nwww A 192.0.2.1\nwww AAAA 2001:db8::1')
    world.name("big.id", bytes(range(32, 127)) * 400)
    world.name("slow.id", "over the network", lies="network")
    world.name("lost.id", "nowhere", lies="nowhere")
    for name in nasty_names() if options.get("nasty") else ():
        world.name(f"{name.label}.id", name.data)

    behind = {"proxies": [ipaddress.ip_network(prefix) for prefix in options.get("proxies", ())]}

    async def live() -> None:
        ports: dict[str, int] = {}
        for _ in range(20):
            udp = open_udp(reactor, "127.0.0.1", 0, world.resolver, **behind)
            try:
                open_tcp(reactor, "127.0.0.1", udp.port, world.resolver, **behind)
                break
            except PortUnavailable:  # somebody has this number for TCP
                udp.stop()
        ports["dns"] = udp.port
        api = ApiDoor(
            ApiWorld().pages(),
            "127.0.0.1",
            0,
            begin=world.resolver.begin,
            proxy_headers=bool(behind["proxies"]),
            **behind,
        )
        api.start()
        ports["api"] = api.port
        if "certificate" in options:
            certificate = Certificate(Path(options["certificate"]), Path(options["key"]))
            place = reactor, "127.0.0.1", 0
            limits = {**behind, **options.get("limits", {})}
            ports["dot"] = open_tls(*place, world.resolver, certificate, **limits).port
            ports["doh"] = open_https(*place, world.resolver.begin, certificate, **behind).port
        print(json.dumps(ports), flush=True)
        while "reload" in options:
            await asyncio.sleep(options["reload"])
            certificate.refresh()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        reactor.callFromThread(reactor.stop)

    reactor.callWhenRunning(lambda: asyncio.ensure_future(live()))
    threading.Thread(target=wait_for_the_end, daemon=True).start()
    reactor.run()


if __name__ == "__main__":
    main()
