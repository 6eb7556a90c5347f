"""How much memory a daemon takes while it catches up: itself, what reads ahead, and together.

Run from the top of the repository: ``python -m tests.benchmarks.memory [--blocks 150]
[--operations 100000]``. The daemon is the real one, in processes of its own, first behind a node
with blocks of a megabyte, then behind one whose blocks are full of operations. Linux only.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from resolver.process.pidfile import owner
from tests.benchmarks.catch_up import serving
from tests.benchmarks.chain import SyntheticChain
from tests.benchmarks.full_blocks import write_chain
from tests.indexer.node.served_chain import ServedChain
from tests.resolver.daemon.daemon_process import Blockstored
from tests.stories.unborn import children_of

LOOK_SECONDS = 0.02
BLOCK_BYTES = 1_000_000
DEADLINE = 1800.0
CAUGHT_UP = "has caught up with the chain"


@dataclass
class Peaks:
    """Most megabytes at any look. ``resident`` counts pages of files too; ``own`` does not."""

    resident: dict[str, float] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)

    def take(self, pids: Sequence[int]) -> None:
        """Look at the processes: the first is the daemon, the others read ahead."""
        sums = {"VmRSS": 0.0, "RssAnon": 0.0}
        for number, pid in enumerate(pids):
            who = "daemon" if number == 0 else "each that reads ahead"
            figures = _figures(pid)
            if not figures:
                continue
            _raise(self.resident, who, figures["VmHWM"])
            _raise(self.own, who, figures["RssAnon"])
            for key in sums:
                sums[key] += figures[key]
        _raise(self.resident, "together", sums["VmRSS"])
        _raise(self.own, "together", sums["RssAnon"])


def _raise(peaks: dict[str, float], who: str, value: float) -> None:
    peaks[who] = max(peaks.get(who, 0.0), value)


def _figures(pid: int) -> dict[str, float]:
    """Lines of /proc/PID/status in megabytes; none where the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    found = {parts[0].rstrip(":"): int(parts[1]) * 1024 / 1e6 for parts in pairs}
    return found if found.get("VmHWM") else {}


@contextmanager
def watching(pid: int) -> Iterator[Peaks]:
    """Look at a daemon and its children until the end of the block."""
    peaks, over = Peaks(), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            peaks.take([pid, *children_of(pid)])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def catch_up(folder: Path, node_url: str, processes: int) -> tuple[Peaks, float, float]:
    """The peaks of a daemon from an empty index on; seconds; megabytes of its index."""
    one = Blockstored(folder, node_url, "--catch-up-processes", str(processes), network="sandbox")
    began = time.monotonic()
    started = one.start()
    pid = owner(one.pid_file)
    assert pid is not None, started.stderr
    try:
        with watching(pid) as peaks:
            while CAUGHT_UP not in one.log.read_text():
                assert time.monotonic() - began < DEADLINE, one.log.read_text()
                time.sleep(LOOK_SECONDS)
            seconds = time.monotonic() - began
        assert one.stop().returncode == 0
    finally:
        one.kill()
    size = sum(file.stat().st_size for file in (folder / "w" / "names").iterdir()) / 1e6
    return peaks, seconds, size


def report(what: str, peaks: Peaks, seconds: float, size: float) -> None:
    """Print the peaks of one run."""
    print(f"\n{what}: {seconds:.0f} s, index of {size:.0f} MB")
    for who, resident in peaks.resident.items():
        print(f"  {who:24} {resident:5.0f} MB resident, {peaks.own[who]:5.0f} MB of its own")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=150, help="of a megabyte")
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--doublings", type=int, default=1, help="of the operations")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_chain(folder / "node", asked.blocks, BLOCK_BYTES)
        with serving(folder / "node") as node:
            url = str(node.place_and_key["url"])
            for count in (0, 2):
                what = f"{asked.blocks} MB of blocks, {count} processes that read ahead"
                report(what, *catch_up(folder / f"full-{count}", url, count))
        for doubling in range(asked.doublings + 1):
            operations = asked.operations << doubling
            blocks = list(SyntheticChain(1, operations, operations // 50, 3 * operations).mine(1))
            with ServedChain(blocks) as served:
                what = f"{operations:,} operations in {len(blocks):,} blocks, 2 processes"
                report(what, *catch_up(folder / f"busy-{doubling}", served.place, 2))


if __name__ == "__main__":
    main()
