"""A small Kademlia network on loopback: honest nodes, liars, the silent, and raw packets."""

import asyncio
import os
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import umsgpack

from zonefiles.archive.archive import Archive
from zonefiles.dht.node import DhtNode
from zonefiles.text.zonefile import value_hash

HOST = "127.0.0.1"


def record(n: int, size: int = 120) -> tuple[bytes, bytes]:
    """The digest and the bytes of the n-th record."""
    data = (b"$ORIGIN n%d.id\n@ TXT n%d\n" % (n, n)).ljust(size, b";")
    return value_hash(data), data


class SlowDisk:
    """Holds back every write of ``archive`` until it is let go; counts the batches."""

    def __init__(self, archive: Archive) -> None:
        self.free = threading.Event()
        self.batches: list[int] = []
        self._write = archive._write
        archive._write = self.write

    def write(self, put, deleted, count, held) -> None:
        self.batches.append(len(put))
        assert self.free.wait(5)
        self._write(put, deleted, count, held)


class Network:
    """Nodes that know each other; everything is announced unless ``announced`` says less."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[DhtNode] = []
        self.archives: dict[DhtNode, Archive] = {}
        self.announced: set[bytes] | None = None

    async def node(self, **settings) -> DhtNode:
        """Start one more node, joined to the first."""
        archive = Archive(self.folder / f"archive{len(self.nodes)}", max_bytes=10_000_000)
        settings.setdefault("bootstrap", [(HOST, n.port) for n in self.nodes[:1]])
        settings.setdefault("reply_timeout", 0.1)
        node = DhtNode(HOST, 0, archive=archive, is_announced=self.is_announced, **settings)
        await node.start()
        self.nodes.append(node)
        self.archives[node] = archive
        await node.bootstrap()
        return node

    async def many(self, count: int) -> list[DhtNode]:
        nodes = [await self.node() for _ in range(count)]
        for node in self.nodes:
            await node.bootstrap()
        return nodes

    def is_announced(self, digest: bytes) -> bool:
        return self.announced is None or digest in self.announced

    async def stop(self) -> None:
        for node in self.nodes:
            await node.stop()
        for archive in self.archives.values():
            archive.close()


@asynccontextmanager
async def network(folder: Path):
    """A network that is gone afterwards, with no task left behind."""
    before = asyncio.all_tasks()
    built = Network(folder)
    try:
        yield built
    finally:
        await built.stop()
    assert asyncio.all_tasks() == before, "a stopped node leaves no task behind"


def lie(node: DhtNode) -> None:
    """Make ``node`` answer every request for a value with another one."""
    node._protocol.rpc_find_value = lambda sender, nodeid, key: {"value": b"a lie" + key}


def silence(node: DhtNode) -> None:
    """Make ``node`` receive and never answer."""
    node._protocol.datagram_received = lambda data, addr: None


class Stranger(asyncio.DatagramProtocol):
    """A bare socket: sends what it is told, keeps what it gets, answers by ``script``."""

    def __init__(self, script=None) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.script = script
        self.transport = None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr) -> None:
        self.received.put_nowait(data)
        if self.script is not None and data[0] == 0:
            function, arguments = umsgpack.unpackb(data[21:])
            for body in self.script(function, arguments):
                self.transport.sendto(b"\x01" + data[1:21] + body, addr)

    @property
    def port(self) -> int:
        return self.transport.get_extra_info("sockname")[1]

    def send(self, node: DhtNode, packet: bytes) -> None:
        self.transport.sendto(packet, (HOST, node.port))

    async def ask(self, node: DhtNode, function: str, *arguments) -> object:
        """Send a request and wait for the reply to it."""
        message_id = os.urandom(20)
        self.send(node, b"\x00" + message_id + umsgpack.packb([function, list(arguments)]))
        async with asyncio.timeout(2):
            while True:
                packet = await self.received.get()
                if packet[:21] == b"\x01" + message_id:
                    return umsgpack.unpackb(packet[21:])


@asynccontextmanager
async def stranger(script=None):
    """A Stranger bound to a free port of loopback."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Stranger(script), local_addr=(HOST, 0)
    )
    try:
        yield protocol
    finally:
        transport.close()
