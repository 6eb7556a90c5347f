"""Served names beside a flood of foreign ones: their 95th percentile, by ``forward_rate``.

Run it as ``python -m tests.benchmarks.foreign_names [--foreign N] [--seconds S] [--turns T]``. A
process has the doors and forwards to another one, which answers everything at once. A client that
may have names forwarded asks N new ones a second over UDP; beside it another asks for a served name
all the time. Of each rate the least of T turns is shown, and its ratio to the same without the
foreign names in the same run.
"""

import argparse
import contextlib
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message

from tests.resolver.doors.every_door import doors

RATES = (100, 250, 500, 1_000, 2_000, 0)
PAUSE = 0.001
"""Seconds between a reply and the next question for a served name."""
PATIENCE = 1.0
"""Seconds for a reply, and how long a question counts that got none."""
BATCH = 0.005
"""Seconds between two handfuls of foreign names."""


def be_upstream() -> None:
    """Answer every question with one address, until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", 0))
        print(here.getsockname()[1], flush=True)
        while True:
            packet, peer = here.recvfrom(4_096)
            end = packet.index(0, 12) + 5
            head = packet[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
            record = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, b"\xc0\0\2\1")
            here.sendto(head + packet[12:end] + record, peer)


def flood(port: int, each_second: int) -> None:
    """Ask for names that nobody asked for before, until killed; says how many it asked."""
    query = dns.message.make_query("n00000000.example.org", "A").to_wire()
    at = query.index(b"n00000000")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.connect(("127.0.0.1", port))
        asker.setblocking(False)
        print("ready", flush=True)
        began, asked = time.perf_counter(), 0
        while True:
            while asked < (time.perf_counter() - began) * each_second:
                with contextlib.suppress(OSError):
                    asker.send(query[:at] + b"n%08d" % asked + query[at + 9 :])
                asked += 1
            with contextlib.suppress(OSError):
                while True:
                    asker.recv(4_096)
            time.sleep(BATCH)


@contextlib.contextmanager
def running(*role: str) -> Iterator[str]:
    """This file as another process; what it says first."""
    command = [sys.executable, "-m", "tests.benchmarks.foreign_names", *role]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def served(port: int, seconds: float) -> list[float]:
    """How long, in milliseconds, a served name took each time, sorted."""
    query = dns.message.make_query("alice.bs", "TXT").to_wire()[2:]
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.connect(("127.0.0.1", port))
        asker.settimeout(PATIENCE)
        ends = time.perf_counter() + seconds
        while (asked := time.perf_counter()) < ends:
            packet = struct.pack("!H", len(times) & 0xFFFF) + query
            asker.send(packet)
            with contextlib.suppress(TimeoutError):
                while asker.recv(4_096)[:2] != packet[:2]:
                    pass
            times.append(1e3 * (time.perf_counter() - asked))
            time.sleep(PAUSE)
    return sorted(times)


def turn(rate: int, foreign: int, seconds: float) -> tuple[float, float, float]:
    """The median and 95th percentile beside the flood, and the latter without it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blockstore-bench-")))
        upstream = int(stack.enter_context(running("--upstream")))
        door = stack.enter_context(doors(folder, forward=upstream, forward_rate=rate, keeping=True))
        alone = served(door.dns, seconds)
        with running("--flood", str(door.dns), "--foreign", str(foreign)):
            served(door.dns, 1.0)  # what may come at once has come
            beside = served(door.dns, seconds)
    p50, p95 = (beside[int(len(beside) * part)] for part in (0.5, 0.95))
    return p50, p95, alone[int(len(alone) * 0.95)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--foreign", type=int, default=8_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.upstream:
        be_upstream()
    if given.flood:
        flood(given.flood, given.foreign)
    print(f"a served name beside {given.foreign:,} foreign ones a second")
    print(f"{'forward_rate':>12}{'p50 ms':>9}{'p95 ms':>9}{'alone':>9}{'ratio':>8}")
    for rate in map(int, given.rates.split(",")):
        turns = [turn(rate, given.foreign, given.seconds) for _ in range(given.turns)]
        p50, p95, alone = min(turns, key=lambda it: it[1] / it[2])
        print(f"{rate or 'any':>12}{p50:9.2f}{p95:9.2f}{alone:9.2f}{p95 / alone:8.1f}", flush=True)


if __name__ == "__main__":
    main()
