"""Our doors over many names, as a process for the benchmark: real archive, real resolver.

Run by ``tests.benchmarks.dns`` with one argument, JSON: ``names`` (a file of labels), ``archive``
and ``table`` (folders), ``cache`` (bytes of the reply cache), ``ports`` (of UDP and TCP, TLS,
HTTPS), ``certificate`` and ``key``. Every name is a row of a name table on disk, and its data a
zone file in an archive on disk; there is no follower and no DHT. Prints "ready" when it answers.
"""

import json
import sys
from pathlib import Path

import uvloop
from twisted.internet import asyncioreactor

asyncioreactor.install(uvloop.new_event_loop())

from indexer.networks import MAINNET  # noqa: E402
from indexer.protocol import schema  # noqa: E402
from indexer.protocol.records import NamespaceRecord  # noqa: E402
from indexer.table.table import NameTable  # noqa: E402
from resolver.daemon.interpreter import settle  # noqa: E402
from resolver.dns.cache import ReplyCache  # noqa: E402
from resolver.dns.chase import Freshness  # noqa: E402
from resolver.dns.zones import Zones  # noqa: E402
from resolver.doors.certificate import Certificate  # noqa: E402
from resolver.doors.doh import open_https  # noqa: E402
from resolver.doors.tcp import open_tcp  # noqa: E402
from resolver.doors.tls import open_tls  # noqa: E402
from resolver.doors.udp import open_udp  # noqa: E402
from resolver.resolve import Resolver  # noqa: E402
from tests.benchmarks.dns_servers import address_of  # noqa: E402
from tests.fakes_resolver import HEIGHT, name_record  # noqa: E402
from zonefiles.archive.archive import Archive  # noqa: E402
from zonefiles.sources import DataSource  # noqa: E402
from zonefiles.text.zonefile import value_hash  # noqa: E402

BATCH = 1_000
"""Records put into the archive at a time."""

NAMESPACE = NamespaceRecord(
    namespace_id="id",
    preorder_hash=bytes(20),
    version=1,
    sender=bytes(25),
    sender_pubkey=None,
    address="1111111111111111111114oLvT2",
    recipient=bytes(25),
    recipient_address="1111111111111111111114oLvT2",
    block_number=100,
    reveal_block=100,
    ready_block=100,
    op="!",
    txid=bytes(32),
    vtxindex=1,
    lifetime=52_595,
    coeff=250,
    base=4,
    buckets=(6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    nonalpha_discount=10,
    no_vowel_discount=10,
)
"""Like the namespace ``id`` of the chain."""


def name_table(path: Path, digests: dict[str, bytes]) -> NameTable:
    """A table at ``HEIGHT`` in which these names are live and hold these value hashes."""
    table = NameTable(path, MAINNET)
    rows = [
        (schema.name_key(name), schema.NAME_ROW.write(name_record(name, digest)))
        for name, digest in digests.items()
    ]
    rows.append((schema.namespace_key("id"), schema.NAMESPACE_ROW.write(NAMESPACE)))
    rows.append((schema.TIP_KEY, schema.height_bytes(HEIGHT)))
    table._write(rows, sync=False)
    table.publish()
    return table


def main() -> None:
    from twisted.internet import reactor

    given = json.loads(sys.argv[1])
    digests: dict[str, bytes] = {}
    archive = Archive(Path(given["archive"]), max_bytes=1 << 30)
    records = []
    for number, label in enumerate(Path(given["names"]).read_text().split()):
        data = f"$ORIGIN {label}.id\n$TTL 3600\n@ A {address_of(number)}\n".encode()
        digest = value_hash(data)
        records.append((digest, data))
        digests[f"{label}.id"] = digest
    for begin in range(0, len(records), BATCH):
        archive.put_many(records[begin : begin + BATCH])
    table = name_table(Path(given["table"]), digests)
    del records, digests
    resolver = Resolver(
        zones=Zones.from_settings({"bs": "id"}),
        table=table.snapshot,
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
    settle()
    print("ready", flush=True)
    reactor.run()
    archive.close()
    table.close()


if __name__ == "__main__":
    main()
