"""A small world behind the HTTP API, and a program that serves it on a port of its own.

Run as ``python -m tests.resolver.api.fakes [FOLDER]``: prints the port, serves there, and on the
socket of FOLDER, until its standard input closes.
"""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.following.replay import MemoryStore
from indexer.networks import REGTEST
from indexer.protocol.records import NameRecord, NamespaceRecord, NameStatus, Phase
from indexer.table.pages import PAGE
from indexer.table.snapshot import Holder, Snapshot
from resolver.api.pages import Behind, Pages
from resolver.dns.chase import Freshness
from tests.indexer.protocol.ledger import opened
from tests.resolver.fakes import BLOCK_TIME, name_record
from zonefiles.text.zonefile import value_hash

HEIGHT = 1000
ZONES = {"bs": "id", "podcast.example.net": "podcast"}
TOKEN = "Bearer right"
"""What lets a program pay over the port."""
SWIFT = b'{"name":{"formatted": "Taylor Swift"}}'
BYTES = bytes(range(256))


OPEN = opened().namespace()
"""The namespace ``id``, open to everybody."""


class Names(Snapshot):
    """A name table at one height, in which only what is asked of one name is put by hand."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), REGTEST)
        self.names_by_hand: dict[str, tuple[NameRecord, NameStatus]] = {}
        self.height = HEIGHT
        self.block_time = BLOCK_TIME

    def add(self, name: str, data: bytes | None, phase: Phase = Phase.LIVE) -> bytes | None:
        """Register ``name``; the hash of ``data``."""
        digest = None if data is None else value_hash(data)
        gone = HEIGHT - 1 if phase is Phase.EXPIRED else HEIGHT + 5000
        record = name_record(name, digest, revoked=phase is Phase.REVOKED)
        self.names_by_hand[name] = (record, NameStatus(phase, gone - 100, gone))
        return digest

    def name_status(self, name: str) -> tuple[NameRecord, NameStatus] | None:
        return self.names_by_hand.get(name)

    def namespace(self, namespace_id: str) -> NamespaceRecord | None:
        return OPEN if namespace_id == OPEN.namespace_id else None

    def name(self, name: str) -> NameRecord | None:
        found = self.names_by_hand.get(name)
        return None if found is None else found[0]

    def holds_or_held(self, name: str, digest: bytes) -> bool:
        return name in self.names_of_value(digest)

    def names_of_value(self, digest: bytes) -> list[str]:
        known = self.names_by_hand.items()
        return [name for name, (record, _) in known if record.value_hash == digest]

    def holders(self, digest: bytes, limit: int = PAGE) -> tuple[Holder, ...]:
        return tuple(Holder(name, None) for name in self.names_of_value(digest))[:limit]

    def is_announced(self, digest: bytes) -> bool:
        phases = (Phase.LIVE, Phase.GRACE)
        found = self.names_of_value(digest)
        return any(self.names_by_hand[name][1].phase in phases for name in found)


@dataclass(frozen=True)
class Has:
    data: bytes
    source: str


@dataclass(frozen=True)
class HasNot:
    asked: int
    wrong: int


class World:
    """Names in every state, and sources that have their data or not."""

    def __init__(self) -> None:
        self.names = Names()
        self.held: dict[bytes, bytes] = {}
        self.wrong: set[bytes] = set()
        self.published: list[bytes] = []
        self.freshness = Freshness(True, HEIGHT, HEIGHT, 1.0)
        for name, data in (("swiftonsecurity.id", SWIFT), ("bytes.id", BYTES)):
            digest = self.names.add(name, data)
            assert digest is not None
            self.held[digest] = data
        self.names.add("late.id", b"in its grace period", Phase.GRACE)
        self.names.add("expired.id", b"expired", Phase.EXPIRED)
        self.names.add("revoked.id", None, Phase.REVOKED)
        self.names.add("empty.id", None)
        self.names.add("nowhere.id", b"nobody has this")
        lied = self.names.add("lied.id", b"others say something else")
        assert lied is not None
        self.wrong.add(lied)

    async def fetch(self, digest: bytes, timeout: float) -> Has | HasNot:
        assert timeout > 0
        if digest in self.held:
            return Has(self.held[digest], "archive")
        return HasNot(asked=3, wrong=3 if digest in self.wrong else 0)

    async def keep(self, digest: bytes, data: bytes) -> None:
        assert value_hash(data) == digest
        self.held[digest] = data

    async def publish(self, digest: bytes, data: bytes) -> int:
        self.published.append(digest)
        return 2

    def figures(self) -> dict[str, Any]:
        return {"last_block_processed": HEIGHT, "server_alive": True, "pid": 7}

    def pages(self) -> Pages:
        return Pages(
            Behind(
                snapshot=lambda: self.names,
                freshness=lambda: self.freshness,
                fetch=self.fetch,
                keep=self.keep,
                publish=self.publish,
                figures=self.figures,
                query_timeout=1.0,
                zones=ZONES,
            )
        )


def main() -> None:
    """Serve a World until standard input closes."""
    from resolver.daemon.run import install_reactor

    reactor = install_reactor()
    from resolver.api.door import ApiDoor
    from resolver.api.socket_door import SocketDoor

    async def live() -> None:
        pages = World().pages()
        door = ApiDoor(pages, "127.0.0.1", 0, ["blockstore.example"], lets_in=TOKEN.__eq__)
        door.start()
        own = None
        if sys.argv[1:]:
            own = SocketDoor(pages, Path(sys.argv[1]), {}, None)
            own.start()
        print(door.port, flush=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, sys.stdin.read)
        if own is not None:
            await own.stop()
        await door.stop()
        reactor.stop()

    reactor.callWhenRunning(lambda: asyncio.ensure_future(live()))
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()
