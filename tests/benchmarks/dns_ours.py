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

from resolver.daemon.interpreter import settle  # noqa: E402
from resolver.dns.cache import ReplyCache  # noqa: E402
from resolver.dns.chase import Freshness  # noqa: E402
from resolver.dns.zones import Zones  # noqa: E402
from resolver.doors.certificate import Certificate  # noqa: E402
from resolver.doors.doh import open_https  # noqa: E402
from resolver.doors.tcp import open_tcp, open_tls  # noqa: E402
from resolver.doors.udp import open_udp  # noqa: E402
from resolver.resolve import Resolver  # noqa: E402
from tests.benchmarks.dns_servers import address_of  # noqa: E402
from tests.benchmarks.names_on_disk import with_names  # noqa: E402
from tests.resolver.fakes import HEIGHT  # noqa: E402
from zonefiles.sources import DataSource  # noqa: E402


def main() -> None:
    from twisted.internet import reactor

    given = json.loads(sys.argv[1])
    table, archive = with_names(
        Path(given["table"]),
        Path(given["archive"]),
        {
            f"{label}.id": f"$ORIGIN {label}.id\n$TTL 3600\n@ A {address_of(number)}\n".encode()
            for number, label in enumerate(Path(given["names"]).read_text().split())
        },
    )
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
