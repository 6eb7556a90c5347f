"""Our DNS beside Knot, NSD and PowerDNS with the same zone, driven by dnsperf in turns.

Run it as ``python -m tests.benchmarks.dns [--seconds S] [--turns T] [--half-seconds S]``; it needs
dnsperf, and takes whichever of knotd, nsd and pdns_server it finds (on Debian: ``apt-get install
dnsperf knot nsd pdns-server pdns-backend-bind``). The zone holds an A record for each of the
75,328 names that people registered (``BLOCKSTORE_DATA/names/real_id_names.txt``), or as many
generated ones of like lengths. Everything is on loopback, one worker a server. The questions:

    hits        2,000 names, each with the same chance, asked before
    Zipf        all names; the k-th of a shuffled list is asked in proportion to 1/k
    uniform     all names, each with the same chance
    once        all names in shuffled order, none twice: no cache of replies helps. Ours looks each
                up in its archive on disk
    NXDOMAIN    labels that are not there, none twice
    TCP         as Zipf, 20 connections
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
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.dns_servers import Server, start_all

NAMES = 75_328
QUESTIONS = 100_000
CACHE = 32 * 2**20
LENGTHS = (4, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 10, 10, 11, 12, 13, 15)


@dataclass
class Measured:
    """Of one server with one kind of question; the best turn."""

    rate: float = 0.0
    cpu: float = float("inf")
    lost: float = 0.0


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
        "TCP": zipf,
    }


def dnsperf(server: Server, file: Path, *more: str) -> str:
    """What dnsperf says after its run; bounded in time by ``more``."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(server.port), "-d", str(file), *more]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "Queries per second" not in ended.stdout:
        raise RuntimeError(f"dnsperf failed on {server.name}: {ended.stderr[-300:]}")
    return ended.stdout


def measured(server: Server, kind: str, file: Path, seconds: float) -> Measured:
    """One turn."""
    more = ["-e", "-l", f"{seconds:g}", "-q", "100", "-c", "20", "-T", "1"]
    if kind == "TCP":
        more += ["-m", "tcp"]
    if kind in ("once", "NXDOMAIN"):
        more += ["-n", "1"]
    before = server.cpu_seconds()
    said = dnsperf(server, file, *more)
    spent = server.cpu_seconds() - before
    done = int(re.search(r"Queries completed:\s+(\d+)", said)[1])  # type: ignore[index]
    sent = int(re.search(r"Queries sent:\s+(\d+)", said)[1])  # type: ignore[index]
    rate = float(re.search(r"Queries per second:\s+([\d.]+)", said)[1])  # type: ignore[index]
    return Measured(rate, 1e6 * spent / max(done, 1), 1 - done / max(sent, 1))


def at_half_load(server: Server, file: Path, rate: float, seconds: float) -> str:
    """Median and 99th percentile in milliseconds at half of ``rate``, and what was lost."""
    said = dnsperf(
        server, file, "-e", "-v", "-l", f"{seconds:g}", "-Q", f"{rate / 2:.0f}", "-T", "1"
    )
    times = sorted(float(t) for t in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", said, re.MULTILINE))
    lost = int(re.search(r"Queries lost:\s+(\d+)", said)[1])  # type: ignore[index]
    if not times:
        return "no times"
    p50, p99 = (1e3 * times[int(len(times) * part)] for part in (0.5, 0.99))
    return f"p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   lost {lost} of {len(times) + lost}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--half-seconds", type=float, default=2.0, help="of each run at half load")
    parser.add_argument("--turns", type=int, default=2)
    given = parser.parse_args()
    if shutil.which("dnsperf") is None:
        sys.exit("dnsperf is not installed; on Debian: apt-get install dnsperf")
    labels, origin = labels_of_names()
    draw = random.Random(7)
    missing: list[str] = []
    with tempfile.TemporaryDirectory(prefix="blockstore-bench-") as temporary:
        folder = Path(temporary)
        files = {kind: folder / f"{kind}.txt" for kind in questions(labels[:10], draw)}
        for kind, asked in questions(labels, draw).items():
            files[kind].write_text("".join(f"{label}.bs A\n" for label in asked))
        servers = start_all(folder, labels, CACHE, missing)
        try:
            print(f"{len(labels):,} {origin}; {', '.join(missing) or 'nothing'} not installed")
            run(servers, files, given)
        finally:
            for server in servers:
                server.stop()


def run(servers: list[Server], files: dict[str, Path], given: argparse.Namespace) -> None:
    best = {(server.name, kind): Measured() for server in servers for kind in files}
    for server in servers:
        dnsperf(server, files["hits"], "-e", "-l", "1")
    for _ in range(given.turns):
        for kind, file in files.items():
            for server in servers:
                turn = measured(server, kind, file, given.seconds)
                old = best[server.name, kind]
                best[server.name, kind] = Measured(
                    max(old.rate, turn.rate), min(old.cpu, turn.cpu), max(old.lost, turn.lost)
                )
    for kind in files:
        print(f"\n{kind}")
        print(f"  {'':22}{'queries/s':>11}{'CPU us/q':>10}{'lost':>7}{'rate':>10}{'CPU':>8}")
        base = best["ours", kind]
        for server in servers:
            it = best[server.name, kind]
            ratios = f"{base.rate / it.rate:10.2f}{base.cpu / max(it.cpu, 0.01):8.2f}"
            print(f"  {server.name:22}{it.rate:11,.0f}{it.cpu:10.1f}{it.lost:7.2%}{ratios}")
    print("\nrate, CPU: ours divided by that server's")
    print("\nhalf of the maximal load, hits")
    for server in servers:
        said = at_half_load(
            server, files["hits"], best[server.name, "hits"].rate, given.half_seconds
        )
        print(f"  {server.name:22}{said}   {server.resident_mb():6.0f} MB")


if __name__ == "__main__":
    main()
