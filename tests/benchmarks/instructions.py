"""How many instructions the resolver spends on a reply, counted by callgrind: no clock is asked.

Run from the top of the repository: ``python -m tests.benchmarks.instructions [--json]``; takes
valgrind and a few minutes. Each kind of reply is made N and 2N times, each time by a process of
its own, and the difference is divided by N, so that the start of Python cancels out. Nothing is
left to chance (hashes, clock, questions, paths; the garbage collector is off), so that a change of
a fraction of a per cent shows. Another Python, or other libraries, have figures of their own.

    kept       from the reply cache: the first within its second to ask a question that others
               asked before
    long way   the first question ever for a name: its row is read from the table, its zone file
               from the archive, both on disk; answered, written, kept
    NXDOMAIN   a name that the table does not hold; each is asked once

A question goes through ``ready`` and, if need be, ``begin``, as the UDP door has it.
"""

import argparse
import gc
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from resolver.dns.asker import Asker
from resolver.dns.cache import ReplyCache
from resolver.dns.chase import Freshness
from resolver.dns.message import UDP_LIMIT
from resolver.dns.zones import Zones
from resolver.resolve import Resolver
from tests.benchmarks.names_on_disk import open_names, with_names
from tests.resolver.fakes import HEIGHT
from zonefiles.sources import DataSource

NAMES = 10_000
KEPT = 200
"""Questions in the reply cache."""
REPETITIONS = {"kept": 10_000, "long way": 1_000, "NXDOMAIN": 1_000}
PATIENCE = 300
"""Seconds for one process under valgrind; it takes about 20."""
ADDRESS = "127.0.0.1"


class Clock:
    """Seconds that go by when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def question(name: str) -> bytes:
    """A query for the addresses of ``name`` with EDNS (RFC 1035 4.1, RFC 6891 6.1)."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    head = b"\x12\x34\x01\x00\0\1\0\0\0\0\0\1"
    return head + labels + b"\0" + b"\0\1\0\1" + b"\0\0\x29\x04\xd0" + bytes(6)


def zone_file(number: int) -> bytes:
    return (
        f"$ORIGIN name{number}.id\n$TTL 3600\n"
        f"www A 192.0.2.{number % 250}\n"
        f'@ TXT "x{number}"\n'
        "alias CNAME www\n"
        "*.w A 192.0.2.9\n"
        f'_http._tcp URI 10 1 "https://example.com/name{number}"\n'
    ).encode()


def write_names(folder: Path) -> None:
    """Names and zone files, each database as one sorted file, as a later start finds them."""
    paths = folder / "table", folder / "archive"
    zone_files = {f"name{number}.id": zone_file(number) for number in range(NAMES)}
    for database in with_names(*paths, zone_files):
        database.close()
    for database in open_names(*paths):
        database.close()


def reply_many(kind: str, count: int, folder: Path) -> None:
    """Make ``count`` replies of this kind, with the names in ``folder``."""
    gc.disable()
    table, archive = open_names(folder / "table", folder / "archive")
    freshness = Freshness(True, HEIGHT, HEIGHT, 1.0)
    clock = Clock()
    resolver = Resolver(
        zones=Zones.from_settings({"bs": "id"}),
        table=table.snapshot,
        source=DataSource(archive, None),
        freshness=lambda: freshness,
        cache=ReplyCache(1 << 25),
        clock=clock,
    )
    numbers = random.Random(1).sample(range(NAMES), 2 * REPETITIONS["long way"])
    if kind == "NXDOMAIN":
        packets = [question(f"nosuch{number}.bs") for number in numbers]
    else:
        packets = [question(f"www.name{number}.bs") for number in numbers]
    made = count
    if kind == "kept":
        packets, made = packets[:KEPT], KEPT
        for packet in packets:
            resolver.begin(packet, UDP_LIMIT, Asker(ADDRESS))
    reply: object = None
    for number in range(count):
        if number % len(packets) == 0:
            clock.now += 1
        packet = packets[number % len(packets)]
        reply = resolver.ready(packet, UDP_LIMIT, ADDRESS)
        if reply is None:
            reply = resolver.begin(packet, UDP_LIMIT, Asker(ADDRESS))
    # It was what it is said to be: nothing more was made anew, and the last reply is right.
    rcode, answers = ("NXDOMAIN", 0) if kind == "NXDOMAIN" else ("NOERROR", 1)
    if resolver.outcomes != {rcode: made}:
        raise SystemExit(f"{kind}: {dict(resolver.outcomes)} instead of {made} {rcode}")
    if not isinstance(reply, bytes) or int.from_bytes(reply[6:8], "big") != answers:
        raise SystemExit(f"{kind}: not {answers} answers in the last reply, {reply!r}")
    os._exit(0)  # what the end of a process takes grows with what it holds


def run(kind: str, count: int, scratch: Path, *wrapped: str) -> None:
    """``reply_many`` in a process of its own under ``wrapped``, with a fresh copy of the names.

    Its paths are as long in every run and for every place of the repository: other lengths move
    what lies in memory, which alone was seen to change a total by a million.
    """
    shutil.rmtree(scratch / "copy", ignore_errors=True)
    shutil.copytree(scratch / "names", scratch / "copy")
    ran = subprocess.run(
        [
            *(*wrapped, sys.executable, "-P", "-m", "tests.benchmarks.instructions"),
            *("--only", kind, str(count), "copy"),
        ],
        cwd=scratch,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": "repository",
            "PYTHONPYCACHEPREFIX": "compiled",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if ran.returncode:
        raise SystemExit(f"making {count} replies ({kind}) failed:\n{ran.stdout}{ran.stderr}")


def instructions(kind: str, count: int, scratch: Path) -> int:
    """Of a whole process that makes ``count`` replies."""
    run(kind, count, scratch, "valgrind", "--tool=callgrind", "--callgrind-out-file=counts")
    written = (scratch / "counts").read_text()
    total = re.search(r"^(?:totals|summary): (\d+)", written, re.MULTILINE)
    if total is None:
        raise SystemExit("callgrind wrote no total: look at `valgrind --tool=callgrind true`")
    return int(total[1])


def main() -> None:
    """Count, or be counted (``--only``), and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        kind, count, folder = asked.only
        reply_many(kind, int(count), Path(folder))
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: apt install valgrind")
    figures: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_names(scratch / "names")
        (scratch / "repository").symlink_to(Path(__file__).resolve().parents[2])
        run("kept", 1, scratch)  # compiles the modules, which would be counted otherwise
        for kind, count in REPETITIONS.items():
            fewer, more = (instructions(kind, n, scratch) for n in (count, 2 * count))
            figures[kind] = round((more - fewer) / count)
            if not asked.json:
                print(f"{kind} {figures[kind]} instructions a reply", flush=True)
    if asked.json:
        print(json.dumps({"python": platform.python_version(), "instructions": figures}))


if __name__ == "__main__":
    main()
