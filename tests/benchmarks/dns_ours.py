"""Our doors over many names, as a process for the benchmark: real archive, real resolver.

Run by ``tests.benchmarks.dns`` with one argument, JSON: ``names`` (a file of labels), ``archive``
(a folder), ``cache`` (bytes of the reply cache), ``ports`` (of UDP and TCP, TLS, HTTPS),
``certificate`` and ``key``. The data of every name is a zone file in an archive on disk; the name
table is stood in for by a dictionary of value hashes, so the memory of the process is without
LevelDB's cache for the table. Prints "ready" when it answers.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import uvloop
from twisted.internet import asyncioreactor

asyncioreactor.install(uvloop.new_event_loop())

from indexer.networks import MAINNET  # noqa: E402
from indexer.records import NameRecord, NameStatus, Phase  # noqa: E402
from resolver.cache import ReplyCache  # noqa: E402
from resolver.certificate import Certificate  # noqa: E402
from resolver.chase import Freshness  # noqa: E402
from resolver.doh import open_https  # noqa: E402
from resolver.resolve import Resolver  # noqa: E402
from resolver.tcp import open_tcp  # noqa: E402
from resolver.tls import open_tls  # noqa: E402
from resolver.udp import open_udp  # noqa: E402
from resolver.zones import Zones  # noqa: E402
from tests.benchmarks.dns_servers import address_of  # noqa: E402
from tests.fakes_resolver import BLOCK_TIME, HEIGHT, name_record  # noqa: E402
from zonefiles.archive import Archive  # noqa: E402
from zonefiles.sources import DataSource  # noqa: E402
from zonefiles.zonefile import value_hash  # noqa: E402

BATCH = 1_000
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

    given = json.loads(sys.argv[1])
    table = Table()
    archive = Archive(Path(given["archive"]), max_bytes=1 << 30)
    records = []
    for number, label in enumerate(Path(given["names"]).read_text().split()):
        data = f"$ORIGIN {label}.id\n$TTL 3600\n@ A {address_of(number)}\n".encode()
        digest = value_hash(data)
        records.append((digest, data))
        table.digests[f"{label}.id"] = digest
    for begin in range(0, len(records), BATCH):
        archive.put_many(records[begin : begin + BATCH])
    del records
    resolver = Resolver(
        zones=Zones.from_settings({"bs": "id"}),
        table=lambda: table,
        source=DataSource(archive, None),
        freshness=lambda: Freshness(True, HEIGHT, HEIGHT, 1.0),
        cache=ReplyCache(given["cache"]) if given["cache"] else None,
    )
    ports = given["ports"]
    certificate = Certificate(Path(given["certificate"]), Path(given["key"]))
    open_udp(reactor, "127.0.0.1", ports["udp"], resolver)
    open_tcp(reactor, "127.0.0.1", ports["tcp"], resolver)
    open_tls(reactor, "127.0.0.1", ports["dot"], resolver, certificate)
    open_https(reactor, "127.0.0.1", ports["doh"], resolver.begin, certificate)
    print("ready", flush=True)
    reactor.run()
    archive.close()


if __name__ == "__main__":
    main()
