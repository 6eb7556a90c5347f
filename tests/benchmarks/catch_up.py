"""How fast an index catches up with a node, beside only fetching the same blocks from it.

Run from the top of the repository: ``python -m tests.benchmarks.catch_up [BLOCKS] [PROCESSES]``.
The node is the sandbox's, in a process of its own, with blocks of a megabyte as full of
transactions as those of the main chain. It shares the cores with us, and is a Python program; so
the CPU that each side takes for a megabyte is shown, and the ratio that these cores would allow if
none of them ever waited. Then the same with a node that has its replies ready and only waits as
long as the first one worked, as if it were on a machine of its own; and with one that does not
wait. The processes that read ahead have been started when the clock is: a catch-up takes hours.
The ratios are what to compare between machines; each figure is the best of several rounds.
"""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from indexer.following.ahead import BLOCKS_A_BATCH, BYTES_A_BATCH, Lane
from indexer.following.block_files import MESSAGE_START, BlockFiles
from indexer.following.chain import Connect
from indexer.following.follower import Follower
from indexer.following.lane_process import LaneProcess, make_lanes
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.sandbox.coins import COINBASE_MATURITY
from indexer.table.table import NameTable
from tests.benchmarks.full_blocks import write_chain
from tests.conftest import ROOT

BLOCK_BYTES = 1_000_000
ROUNDS = 3
CORES = len(os.sched_getaffinity(0))


class Cost(NamedTuple):
    """What one round took: seconds on the clock, and of CPU on each side."""

    seconds: float
    node: float
    ours: float


class Served(NamedTuple):
    """A client of a node in another process."""

    node: BitcoinNode
    pid: int
    first: int
    """The height of the first full block."""


@contextlib.contextmanager
def serving_process(folder: Path, *ways: str) -> Iterator[Served]:
    """A client of a sandbox node with the chain in ``folder``, and the node's process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.full_blocks", str(folder), *ways],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        node = BitcoinNode(process.stdout.readline().split()[0])
        yield Served(node, process.pid, node.chain_info().blocks // 2 + COINBASE_MATURITY // 2 + 1)
        node.close()
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@contextlib.contextmanager
def serving(folder: Path, *ways: str) -> Iterator[BitcoinNode]:
    """A client of a sandbox node with the chain in ``folder``, in a process of its own."""
    with serving_process(folder, *ways) as served:
        yield served.node


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(pid: int) -> float:
    """Of the memory that a process has had at once."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def cost(node_pid: int, lanes: Sequence[Lane], work: Callable[[], None]) -> Cost:
    """Of ``work``, which the node, this process and ``lanes`` take part in."""
    pids = [lane._process.pid for lane in lanes if isinstance(lane, LaneProcess)]

    def now() -> Cost:
        ours = time.process_time() + sum(map(cpu_seconds, pids))
        return Cost(time.perf_counter(), cpu_seconds(node_pid), ours)

    before = now()
    work()
    return Cost(*(after - was for after, was in zip(now(), before, strict=True)))


def fetch_all(node: BitcoinNode, first: int) -> tuple[float, int]:
    """Seconds and bytes of asking for every block from height ``first`` on, and nothing else."""
    began = time.perf_counter()
    hashes = node.block_hashes(range(first, node.chain_info().blocks + 1))
    size = at = 0
    many = 2
    while at < len(hashes):
        raws = node.raw_blocks(hashes[at : at + many])
        size += sum(map(len, raws))
        at += len(raws)
        many = max(1, min(BLOCKS_A_BATCH, BYTES_A_BATCH * len(raws) // max(1, sum(map(len, raws)))))
    return time.perf_counter() - began, size


def write_files(node: BitcoinNode, folder: Path) -> BlockFiles:
    """The node's blocks in a file as bitcoind keeps them, under a pattern."""
    folder.mkdir()
    start, key = MESSAGE_START["regtest"], bytes(range(1, 9))
    (folder / "xor.dat").write_bytes(key)
    hashes = node.block_hashes(range(1, node.chain_info().blocks + 1))
    with (folder / "blk00000.dat").open("wb") as file:
        for block_hash in hashes:
            raw = node.raw_blocks([block_hash])[0]
            plain = start + len(raw).to_bytes(4, "little") + raw
            shift = file.tell() % 8
            pattern = (key * (len(plain) // 8 + 2))[shift : shift + len(plain)]
            number = int.from_bytes(plain, "little") ^ int.from_bytes(pattern, "little")
            file.write(number.to_bytes(len(plain), "little"))
    return BlockFiles(folder, start)


def catch_up(
    served: Served, folder: Path, processes: int, files: BlockFiles | None = None
) -> tuple[Cost, float]:
    """From an empty index to one that holds every block; and the memory of the largest lane."""
    lanes = make_lanes(served.node, SANDBOX.magic, processes, files)
    begin = [Connect(served.first, served.node.block_hash(served.first))]
    for lane in lanes:
        lane.read(begin)
    # The small blocks in front, which give the coins, are of no interest.
    network = replace(SANDBOX, first_block=served.first)
    table = NameTable(folder, network)
    follower = Follower(served.node, table, network, confirmations=1, lanes=lambda: lanes)

    def follow() -> None:
        while follower.step():
            pass

    taken = cost(served.pid, lanes, follow)
    pids = [lane._process.pid for lane in lanes if isinstance(lane, LaneProcess)]
    peak = max(map(peak_megabytes, pids), default=0.0)
    follower.close()
    table.close()
    return taken, peak


def show(what: str, size: int, taken: Cost, fetched: Cost | None) -> None:
    """One line: how fast, against the fetch, and where the CPU went."""
    node, ours = (seconds / size * 1e9 for seconds in taken[1:])
    line = f"  {what:30} {size / taken.seconds / 1e6:5.0f} MB/s"
    line += f"   ms of CPU a MB: node {node:4.1f}, ours {ours:4.1f}"
    if fetched is not None:
        allowed = max(taken.node, (taken.node + taken.ours) / CORES)
        line += f"   {fetched.seconds / taken.seconds:.2f} of the fetch"
        line += f" ({fetched.seconds / allowed:.2f} if no core waited)"
    print(line)


def compare(served: Served, folder: Path, counts: Sequence[int]) -> tuple[float, float]:
    """Print the fetch and the catching up beside it; the memory of the largest lane, and what the
    node works for a megabyte, in milliseconds."""
    fetches, size, peak = [], 0, 0.0
    rounds: dict[int, list[Cost]] = {count: [] for count in counts}

    def fetch() -> None:
        nonlocal size
        size = fetch_all(served.node, served.first)[1]

    for turn in range(ROUNDS):
        fetches.append(cost(served.pid, [], fetch))
        for count in counts:
            taken, most = catch_up(served, folder / f"{count}-{turn}", count)
            rounds[count].append(taken)
            peak = max(peak, most)
    fetched = min(fetches)
    show("fetched alone", size, fetched, None)
    for count in counts:
        show(f"caught up, {count} more processes", size, min(rounds[count]), fetched)
    return peak, fetched.node / size * 1e9


def compare_files(served: Served, folder: Path, counts: Sequence[int]) -> float:
    """The same from files, without a fetch to compare with."""
    files = write_files(served.node, folder / "blocks")
    size, peak = fetch_all(served.node, served.first)[1], 0.0
    for count in counts:
        rounds = []
        for turn in range(ROUNDS):
            taken, most = catch_up(served, folder / f"{count}-{turn}", count, files)
            rounds.append(taken)
            peak = max(peak, most)
        show(f"caught up, {count} more processes", size, min(rounds), None)
    return peak


def main(blocks: int, processes: int) -> None:
    """Print the figures."""
    counts = sorted({0, 1, processes})
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_chain(folder / "node", blocks, BLOCK_BYTES)
        print(f"{blocks} blocks of {BLOCK_BYTES / 1e6:.0f} MB; {CORES} cores")
        works = 0.0
        for title, way in (
            ("over RPC", ""),
            ("over RPC, from a node elsewhere that takes as long", "ready={:.1f}"),
            ("over RPC, from a node that has its replies ready", "ready"),
            ("over REST", "rest"),
        ):
            with serving_process(folder / "node", way.format(works)) as served:
                print(f"\n{title}", flush=True)
                peak, working = compare(served, folder / f"index-{way}", counts)
            peaks.append(peak)
            works = works or working
        with serving_process(folder / "node") as served:
            print("\nfrom blk*.dat, under a pattern")
            (folder / "files").mkdir()
            peaks.append(compare_files(served, folder / "files", counts))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nmemory at most: {own:.0f} MB here, {max(peaks):.0f} MB in each process that reads")


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    defaults = given + [60, 2][len(given) :]
    main(defaults[0], defaults[1])
