"""Two whole services in one process, started, failed, stopped and started anew; prints what it saw.

Run as ``python -m tests.stories.two_services FOLDER NODE_URL``.
"""

import asyncio
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

from resolver.daemon.run import install_reactor
from resolver.settings.settings import load
from resolver.settings.table import Settings

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


async def is_ready(service: Any) -> bool:
    """Whether the index catches up with the node in time."""
    deadline = time.monotonic() + DEADLINE
    while not service.index.follower.status.caught_up:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def live(folder: Path, node_url: str) -> dict[str, object]:
    from resolver.service import Service, StartError

    one = Service(settings(folder / "one", node_url))
    await one.start()
    two = Service(
        settings(folder / "two", node_url, dht_bootstrap=f"127.0.0.1:{one.holdings.dht.port}")
    )
    await two.start()
    seen: dict[str, object] = {
        "ready": [await is_ready(one), await is_ready(two)],
        "heights": [service.index.snapshot().height for service in (one, two)],
        "dns_ports": [service.addresses()["dns"][0]["port"] for service in (one, two)],
    }
    # Everything but the last door of the third can be had; then all of it must be given back.
    taken = one.addresses()["api"]["port"]
    third = Service(settings(folder / "three", node_url, api_port=taken))
    try:
        await third.start()
    except StartError as error:
        seen["refused"] = str(error)
    (udp_door,) = third.doors.udp
    door = (udp_door.host, udp_door.port)
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(door)
        udp.bind(door)
    again = Service(settings(folder / "three", node_url))
    await again.start()
    seen["started again"] = await is_ready(again)
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
