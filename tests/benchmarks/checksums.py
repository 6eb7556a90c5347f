"""What it costs to compare checksums at every read of the name table, and to walk it at the start.

    python -m tests.benchmarks.checksums [--names 400000]

Rows as large as those of names, in LevelDB files with the table's options; each kind of read is
measured with and without checksums in turns, and the best of the turns is printed.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from indexer.table.level import _OPTIONS, Level, plyvel  # the same options, without their checks

ROW, READS, TURNS, BATCH = 120, 50_000, 5, 1000


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Write the rows, read them in turns, print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--names", type=int, default=400_000)
    count = parser.parse_args().names
    dice = random.Random(1)
    keys = [b"Nid.%016x" % dice.getrandbits(64) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        level = Level(Path(folder))
        for at in range(0, count, BATCH):
            level.write([(key, os.urandom(ROW)) for key in keys[at : at + BATCH]], sync=False)
        level.close()
        level = Level(Path(folder))  # so that all is in files of rows
        level.close()
        plain = plyvel.DB(folder, **{**_OPTIONS, "paranoid_checks": False})
        _print(plain, keys, dice)
        plain.close()
        level = Level(Path(folder))
        frozen, asked = level.frozen(), keys[:200]
        took = min(seconds(lambda: [frozen.get(key) for key in asked]) for _ in range(99))
        print(f"{'200 names, as readers do':24}{'':12}{took / len(asked) * 1e6:12.2f}")
        walk = min(seconds(lambda: sum(1 for _ in level.between(b"N", b"O"))) for _ in range(3))
        print(f"walking all {count} rows, as at the start: {walk:.2f} s")
        level.close()


def _print(database: Any, keys: list[bytes], dice: random.Random) -> None:
    some = dice.sample(keys, min(READS, len(keys)))
    kinds = {
        "anywhere": some,
        "200 names often": some[:200] * (len(some) // 200),
        "not there": [key + b"x" for key in some],
    }
    print(f"{'microseconds a read':24}{'unchecked':>12}{'checked':>12}")
    for kind, asked in kinds.items():
        best = {False: 1e9, True: 1e9}
        for turn in range(2 * TURNS):
            checked = turn % 2 == 1
            took = seconds(lambda: _read(database, asked, checked)) / len(asked)  # noqa: B023
            best[checked] = min(best[checked], took)
        print(f"{kind:24}{best[False] * 1e6:12.2f}{best[True] * 1e6:12.2f}")


def _read(database: Any, keys: Iterable[bytes], checked: bool) -> None:
    for key in keys:
        database.get(key, verify_checksums=checked)


if __name__ == "__main__":
    main()
