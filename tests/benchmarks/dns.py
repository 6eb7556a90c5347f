"""Our DNS beside Knot, NSD, PowerDNS and Unbound with the same zone, driven by dnsperf in turns.

Run it as ``python -m tests.benchmarks.dns [--seconds S] [--turns T] [--half-seconds S] [--doors
udp,tcp,dot,doh] [--kinds hits,Zipf,...]``; it needs dnsperf 2.10 or later, and takes whichever of
knotd, nsd, pdns_server and unbound it finds (on Debian: ``apt-get install dnsperf knot nsd
pdns-server pdns-backend-bind unbound``). The zone holds an A record for each of the 75,328 names
that people registered (``BLOCKSTORE_DATA/names/real_id_names.txt``), or as many generated ones of
like lengths. Everything is on loopback, one worker a server. What is asked stands in ``KINDS``:
over UDP all of it, through the other doors what ``STREAM_KINDS`` names, on 20 connections.
"""

import argparse
import bisect
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.dns_servers import DOORS, Server, start_all

NAMES = 75_328
QUESTIONS = 100_000
CACHE = 32 * 2**20
LENGTHS = (4, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 10, 10, 11, 12, 13, 15)

KINDS = {
    "hits": "2,000 names, each with the same chance, asked before",
    "Zipf": "all names by Zipf's law: the k-th of a shuffled list in proportion to 1/k",
    "uniform": "all names, each with the same chance",
    "once": "all names in shuffled order, none twice in a turn; ours without its reply cache looks"
    " each up in its table and its archive on disk",
    "NXDOMAIN": "labels that are not there, none twice",
}
STREAM_KINDS = ("hits", "Zipf", "uniform")
TITLES = {"udp": "UDP", "tcp": "TCP", "dot": "DNS over TLS", "doh": "DNS over HTTPS (HTTP/2, GET)"}


@dataclass
class Measured:
    """Of one server with one kind of question; the best turn."""

    rate: float = 0.0
    cpu: float = float("inf")
    lost: float = 0.0


@dataclass
class HalfLoad:
    """Of one server at half of its maximal load; the turn with the least 99th percentile."""

    p50: float = float("inf")
    p99: float = float("inf")
    """Milliseconds."""
    lost: int = 0
    sent: int = 0
    waited: float = 0.0
    """Part of the time that the server could have run, and others had the processors."""


def labels_of_names() -> tuple[list[str], str]:
    """The labels, and where they come from."""
    folder = os.environ.get("BLOCKSTORE_DATA", str(Path(__file__).parents[3] / "shared" / "data"))
    file = Path(folder) / "names" / "real_id_names.txt"
    if file.exists():
        labels = [line.removesuffix(".id") for line in file.read_text().split()]
        return [label for label in labels if len(label) < 63], "names that people registered"
    draw = random.Random(1)
    made: set[str] = set()
    while len(made) < NAMES:
        length = draw.choice(LENGTHS)
        made.add("".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length)))
    return sorted(made), "generated names of like lengths (the file of real ones is not here)"


def questions(labels: list[str], draw: random.Random) -> dict[str, list[str]]:
    """Labels to ask, by kind."""
    shuffled = draw.sample(labels, len(labels))
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(shuffled) + 1)))
    zipf = [shuffled[bisect.bisect(weights, draw.random() * weights[-1])] for _ in range(QUESTIONS)]
    return {
        "hits": draw.choices(shuffled[:2_000], k=QUESTIONS),
        "Zipf": zipf,
        "uniform": draw.choices(labels, k=QUESTIONS),
        "once": draw.sample(labels, len(labels)),
        "NXDOMAIN": [f"no-{draw.getrandbits(48):x}-such" for _ in range(QUESTIONS * 4)],
    }


def dnsperf(server: Server, door: str, file: Path, *more: str) -> str:
    """What dnsperf says after its run; bounded in time by ``more``."""
    port = str(server.ports[door])
    command = ["dnsperf", "-s", "127.0.0.1", "-p", port, "-m", door, "-d", str(file), "-e", *more]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "Queries per second" not in ended.stdout:
        raise RuntimeError(f"dnsperf failed on {server.name}: {ended.stderr[-300:]}")
    return ended.stdout


def counted(said: str, what: str) -> float:
    """The figure behind ``what`` in dnsperf's summary."""
    found = re.search(rf"{what}:\s+([\d.]+)", said)
    return float(found[1]) if found else 0.0


def measured(server: Server, door: str, kind: str, file: Path, seconds: float) -> Measured:
    """One turn."""
    more = ["-l", f"{seconds:g}", "-q", "100", "-c", "20", "-T", "1"]
    if kind in ("once", "NXDOMAIN"):
        more += ["-n", "1"]
    before = server.cpu_seconds()
    said = dnsperf(server, door, file, *more)
    spent = server.cpu_seconds() - before
    done, sent = counted(said, "Queries completed"), counted(said, "Queries sent")
    lost = 1 - done / max(sent, 1)
    return Measured(counted(said, "Queries per second"), 1e6 * spent / max(done, 1), lost)


def at_half_load(server: Server, door: str, file: Path, rate: float, seconds: float) -> HalfLoad:
    """One turn at half of ``rate``."""
    more = ["-v", "-l", f"{seconds:g}", "-Q", f"{max(1, rate / 2):.0f}", "-T", "1", "-c", "20"]
    before, began = server.waited_seconds(), time.monotonic()
    said = dnsperf(server, door, file, *more)
    waited = (server.waited_seconds() - before) / (time.monotonic() - began)
    times = sorted(float(t) for t in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", said, re.MULTILINE))
    lost = int(counted(said, "Queries lost"))
    if not times:
        return HalfLoad(lost=lost, sent=lost, waited=waited)
    p50, p99 = (1e3 * times[int(len(times) * part)] for part in (0.5, 0.99))
    return HalfLoad(p50, p99, lost, len(times) + lost, waited)


def chosen(text: str, known: tuple[str, ...]) -> list[str]:
    """The parts of ``text`` in the order of ``known``; all of those where it is empty."""
    parts = text.split(",") if text else list(known)
    unknown = set(parts) - set(known)
    if unknown:
        sys.exit(f"{', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    return [part for part in known if part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--half-seconds", type=float, default=2.0, help="of each run at half load")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--doors", default="", help="of " + ",".join(DOORS))
    parser.add_argument("--kinds", default="", help="of " + ",".join(KINDS))
    given = parser.parse_args()
    given.doors = chosen(given.doors, DOORS)
    given.kinds = chosen(given.kinds, tuple(KINDS))
    if shutil.which("dnsperf") is None:
        sys.exit("dnsperf is not installed; on Debian: apt-get install dnsperf")
    labels, origin = labels_of_names()
    draw = random.Random(7)
    missing: list[str] = []
    with tempfile.TemporaryDirectory(prefix="blockstore-bench-") as temporary:
        folder = Path(temporary)
        files = {kind: folder / f"{kind}.txt" for kind in KINDS}
        for kind, asked in questions(labels, draw).items():
            files[kind].write_text("".join(f"{label}.bs A\n" for label in asked))
        servers = start_all(folder, labels, CACHE, missing)
        try:
            print(f"{len(labels):,} {origin}; {', '.join(missing) or 'nothing'} not installed")
            for kind in given.kinds:
                print(f"{kind:10}{KINDS[kind]}")
            for door in given.doors:
                run(servers, door, files, given)
        finally:
            for server in servers:
                server.stop()


def run(
    servers: list[Server], door: str, files: dict[str, Path], given: argparse.Namespace
) -> None:
    """All that is asked through one door, of all who have it, in turns."""
    servers = [server for server in servers if door in server.doors]
    kinds = [kind for kind in given.kinds if door == "udp" or kind in STREAM_KINDS]
    best = {(server.name, kind): Measured() for server in servers for kind in kinds}
    for server in servers:
        dnsperf(server, door, files["hits"], "-l", "1")
    for _ in range(given.turns):
        for kind in kinds:
            for server in servers:
                turn = measured(server, door, kind, files[kind], given.seconds)
                old = best[server.name, kind]
                best[server.name, kind] = Measured(
                    max(old.rate, turn.rate), min(old.cpu, turn.cpu), max(old.lost, turn.lost)
                )
    for kind in kinds:
        print(f"\n{TITLES[door]}, {kind}")
        print(f"  {'':22}{'queries/s':>11}{'CPU us/q':>10}{'lost':>7}{'rate':>10}{'CPU':>8}")
        base = best["ours", kind]
        for server in servers:
            it = best[server.name, kind]
            ratios = f"{base.rate / max(it.rate, 1):10.2f}{base.cpu / max(it.cpu, 0.01):8.2f}"
            print(f"  {server.name:22}{it.rate:11,.0f}{it.cpu:10.1f}{it.lost:7.2%}{ratios}")
    if "hits" in kinds:
        print(f"\n{TITLES[door]}, half of the maximal load, hits; resident memory")
        print(f"  {'':22}{'p50 ms':>8}{'p99 ms':>8}{'waited':>8}{'lost':>14}{'MB':>7}")
        half = {server.name: HalfLoad() for server in servers}
        for _ in range(given.turns):
            for server in servers:
                rate = best[server.name, "hits"].rate
                said = at_half_load(server, door, files["hits"], rate, given.half_seconds)
                half[server.name] = min(half[server.name], said, key=lambda turn: turn.p99)
        for server in servers:
            least = half[server.name]
            lost = f"{least.lost} of {least.sent}"
            print(
                f"  {server.name:22}{least.p50:8.2f}{least.p99:8.2f}{least.waited:8.1%}{lost:>14}"
                f"{server.resident_mb():7.0f}",
                flush=True,
            )
    if door == given.doors[-1]:
        print(
            "\nrate, CPU: ours divided by that server's; waited: part of the time for which the"
            "\nserver could have run, and others had the processors (dnsperf is one of them)"
        )


if __name__ == "__main__":
    main()
