"""Our doors over many names, as a process for the benchmark: real archive, real resolver.

Run by ``tests.benchmarks.dns``: ``python -m tests.benchmarks.dns_ours NAMES FOLDER PORT CACHE``,
where NAMES is a file of labels and CACHE the bytes of the reply cache. The data of every name is a
zone file in an archive on disk; the name table is stood in for by a dictionary of value hashes, so
the memory of the process is without LevelDB's cache for the table. Prints "ready" when it answers.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import uvloop
from twisted.internet import asyncioreactor

asyncioreactor.install(uvloop.new_event_loop())

from indexer.networks import MAINNET  # noqa: E402
from indexer.records import NameRecord, NameStatus, Phase  # noqa: E402
from resolver.cache import ReplyCache  # noqa: E402
from resolver.chase import Freshness  # noqa: E402
from resolver.resolve import Resolver  # noqa: E402
from resolver.tcp import open_tcp  # noqa: E402
from resolver.udp import open_udp  # noqa: E402
from resolver.zones import Zones  # noqa: E402
from tests.benchmarks.dns_servers import address_of  # noqa: E402
from tests.fakes_resolver import BLOCK_TIME, HEIGHT, name_record  # noqa: E402
from zonefiles.archive import Archive  # noqa: E402
from zonefiles.sources import DataSource  # noqa: E402
from zonefiles.zonefile import value_hash  # noqa: E402

LIVE = NameStatus(Phase.LIVE, None, None)


class Table:
    """A snapshot that makes its records when asked, as the real one reads them from rows."""

    height = HEIGHT
    block_time = BLOCK_TIME
    network = MAINNET

    def __init__(self) -> None:
        self.digests: dict[str, bytes] = {}

    def name_status(self, name: str) -> tuple[NameRecord, NameStatus] | None:
        digest = self.digests.get(name)
        return None if digest is None else (name_record(name, digest), LIVE)

    def verdict(self, txid: bytes) -> SimpleNamespace | None:
        return None

    def consensus_hash(self, height: int) -> bytes | None:
        return None


def main() -> None:
    from twisted.internet import reactor

    names, folder, port, cache = sys.argv[1:]
    table = Table()
    archive = Archive(Path(folder), max_bytes=1 << 30)
    for number, label in enumerate(Path(names).read_text().split()):
        data = f"$ORIGIN {label}.id\n$TTL 3600\n@ A {address_of(number)}\n".encode()
        digest = value_hash(data)
        archive.put(digest, data)
        table.digests[f"{label}.id"] = digest
    resolver = Resolver(
        zones=Zones.from_settings({"bs": "id"}),
        table=lambda: table,
        source=DataSource(archive, None),
        freshness=lambda: Freshness(True, HEIGHT, HEIGHT, 1.0),
        cache=ReplyCache(int(cache)) if int(cache) else None,
    )
    open_udp(reactor, "127.0.0.1", int(port), resolver)
    open_tcp(reactor, "127.0.0.1", int(port), resolver)
    print("ready", flush=True)
    reactor.run()
    archive.close()


if __name__ == "__main__":
    main()
