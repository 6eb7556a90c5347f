"""Two whole services in one process, started, failed, stopped and started anew; prints what it saw.

Run as ``python -m tests.two_services FOLDER NODE_URL``.
"""

import asyncio
import json
import socket
import sys
from pathlib import Path

from resolver.daemon.run import install_reactor
from resolver.settings.settings import Settings, load

DEADLINE = 20.0


def settings(folder: Path, node_url: str, **more: object) -> Settings:
    flags = {
        "working_dir": str(folder),
        "network": "regtest",
        "node_url": node_url,
        "dns_port": 0,
        "api_port": 0,
        "dht_port": 0,
        "poll_interval": 0.02,
    }
    return load({}, {}, flags | more)


async def live(folder: Path, node_url: str) -> dict[str, object]:
    from resolver.service import StartError, build

    one = build(settings(folder / "one", node_url))
    await one.start()
    two = build(settings(folder / "two", node_url, dht_bootstrap=f"127.0.0.1:{one.dht.port}"))
    await two.start()
    seen: dict[str, object] = {
        "ready": [await one.wait_ready(DEADLINE), await two.wait_ready(DEADLINE)],
        "heights": [service.table.snapshot().height for service in (one, two)],
        "dns_ports": [service.dns_addresses[0][1] for service in (one, two)],
    }
    # Everything but the last door of the third can be had; then all of it must be given back.
    taken = one.addresses()["api"]["port"]
    third = build(settings(folder / "three", node_url, api_port=taken))
    try:
        await third.start()
    except StartError as error:
        seen["refused"] = str(error)
    (door,) = third.dns_addresses
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(door)
        udp.bind(door)
    again = build(settings(folder / "three", node_url))
    await again.start()
    seen["started again"] = await again.wait_ready(DEADLINE)
    for service in (again, two, one):
        await service.stop()
        await service.stop()
    seen["status files"] = [str(path) for path in folder.glob("*/blockstored.json")]
    return seen


def main() -> None:
    reactor = install_reactor()

    async def run() -> None:
        try:
            print(json.dumps(await live(Path(sys.argv[1]), sys.argv[2])))
        finally:
            reactor.stop()

    reactor.callWhenRunning(lambda: asyncio.ensure_future(run()))
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()
