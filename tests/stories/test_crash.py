"""Whatever ends the indexing, wherever it ends, the next start finds the table after some block.

And ends, in the bytes of every row, where an index ends that nothing ever disturbed.
"""

import os
import random
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from indexer.networks import SANDBOX
from indexer.table.level import plyvel
from indexer.table.table import NameTable, TableError
from tests.conftest import ROOT
from tests.indexer.following.crashing import Writer, follower_of, load
from tests.rings import times

KILLS = times(5, 20, 100)
"""How often the program is killed; 50 takes half a minute."""
DEADLINE = 60.0
FORK_DEPTH = 5


class FailingStore:
    """A database whose Nth write from now on fails, and every one after it, as a full disk's do."""

    def __init__(self, database: Any, good_writes: int) -> None:
        self._database = database
        self.left = good_writes

    def write_batch(self, **how: Any) -> Any:
        if self.left <= 0:
            raise plyvel.IOError("No space left on device")
        self.left -= 1
        return self._database.write_batch(**how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def rows_of(path: Path) -> dict[bytes, bytes]:
    table = NameTable(path, SANDBOX)
    try:
        return dict(table.scan(b""))
    finally:
        table.close()


@pytest.fixture
def turned(tmp_path: Path) -> Iterator[tuple[Writer, list[tuple[bytes, bytes]]]]:
    """A chain that was reorganised; the writer's index has seen both branches. And the old one."""
    writer = Writer(tmp_path / "writer")
    writer.open_namespace()
    writer.live(8)
    old = list(writer.node.blocks)
    writer.node.invalidate(len(old) - FORK_DEPTH)
    for _ in range(FORK_DEPTH + 1):
        writer.node.mine(salt=7)
    while writer.follower.step():
        pass
    writer.live(4, salt=7)
    yield writer, old
    writer.table.close()


def test_a_store_that_fails_at_any_write_loses_nothing_but_time(
    tmp_path: Path, turned: tuple[Writer, list[tuple[bytes, bytes]]]
) -> None:
    writer, old = turned
    undisturbed, new = writer.rows(), writer.node.blocks
    failures, said = 0, ""
    for good_writes in range(1000):
        path = tmp_path / f"failing {good_writes}"
        failed_here = False
        left = good_writes
        for blocks in (old, new):  # forward along one branch, then back and along the other
            while True:
                table = NameTable(path, SANDBOX)
                store = table._level._db = FailingStore(table._level._db, left)
                writer.node.blocks = blocks
                try:
                    follower = follower_of(writer.node, table)
                    while follower.step():
                        pass
                except TableError as failure:
                    said = str(failure)
                    failed_here, failures, left = True, failures + 1, 10**9
                    continue
                finally:
                    if left != 10**9:
                        left = store.left
                    table.close()
                break
        assert rows_of(path) == undisturbed, f"after a failure at write {good_writes + 1}"
        if not failed_here:
            break
    assert failures == good_writes > 2 * FORK_DEPTH
    assert "No space left on device; make room" in said


def test_a_kill_at_any_moment_loses_nothing_but_time(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "writer")
    writer.open_namespace()
    writer.live(150)
    writer.save(tmp_path / "chain")
    undisturbed = writer.rows()
    writer.table.close()
    dice = random.Random(20_260_101)
    began = time.monotonic()
    assert _index_until_killed(tmp_path / "chain", tmp_path / "timed", DEADLINE)[0] is False
    whole = time.monotonic() - began  # on this machine, as busy as it is
    kills, turn, path, found = 0, 0, tmp_path / "index 0", set()
    while kills < KILLS:
        seconds = dice.uniform(0, whole / 3)
        killed, held = _index_until_killed(tmp_path / "chain", path, seconds)
        kills += killed
        found.add(held)
        if not killed:
            assert rows_of(path) == undisturbed
            turn += 1
            path = tmp_path / f"index {turn}"
    assert _index_until_killed(tmp_path / "chain", path, DEADLINE)[0] is False
    assert rows_of(path) == undisturbed
    assert len(found) > KILLS // 4, "the kills came at different heights"


def _index_until_killed(chain: Path, path: Path, seconds: float) -> tuple[bool, int]:
    """Whether it was killed before its end, and the height that it had reached."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.indexer.following.crashing", str(chain), str(path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"up\n"
        ended, _, _ = select.select([child.stdout], [], [], seconds)
        if ended:
            assert child.stdout.readline() == b"done\n"
            assert child.wait(DEADLINE) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    table = NameTable(path, SANDBOX)
    height = table.snapshot().height
    table.close()
    return not ended, height


# Full and read-only disks


HALF_WRITTEN = """
import resource, sys
from pathlib import Path
from indexer.table.table import NameTable, TableError
from indexer.networks import SANDBOX
from tests.indexer.following.crashing import follower_of, load

node, path, room = load(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
whole, node.blocks = node.blocks, node.blocks[:40]
table = NameTable(path, SANDBOX)
follower = follower_of(node, table)
while follower.step():
    pass
node.blocks = whole
(log,) = path.glob("*.log")
no_limit = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + room, no_limit))
said = []
for room_again in (False, True, True):
    if room_again:
        resource.setrlimit(resource.RLIMIT_FSIZE, (no_limit, no_limit))
    try:
        while follower.step():
            pass
    except TableError as failure:
        said.append(str(failure))
print(len(said), len(set(said)), table.tip, said[-1])
"""
"""A program whose disk has ``room`` bytes left after 40 blocks, and enough again later on."""


@pytest.mark.parametrize("room", [0, 1, 100, 5000])
def test_after_a_write_that_failed_nothing_is_written_until_the_index_is_opened_anew(
    tmp_path: Path, room: int
) -> None:
    """For LevelDB would report as kept what no later start would find."""
    writer = Writer(tmp_path / "writer")
    writer.open_namespace()
    writer.live(80)
    writer.save(tmp_path / "chain")
    undisturbed = writer.rows()
    writer.table.close()
    places = [str(tmp_path / "chain"), str(tmp_path / "index"), str(room)]
    ended = subprocess.run(
        [sys.executable, "-c", HALF_WRITTEN, *places], capture_output=True, cwd=ROOT, check=True
    )
    failures, sentences, tip, said = ended.stdout.decode().split(maxsplit=3)
    assert (int(failures), int(sentences)) == (3, 1)
    assert "File too large; make room on the disk" in said
    table = NameTable(tmp_path / "index", SANDBOX)
    assert table.tip == int(tip)
    follower = follower_of(load(tmp_path / "chain"), table)
    while follower.step():
        pass
    table.close()
    assert rows_of(tmp_path / "index") == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A folder on a disk of its own with hardly any room, and how to mount it otherwise."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(how: str) -> None:
        if shutil.which("mount") is None:
            pytest.skip("no disk can be mounted here; install mount")
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here ({done.stderr.strip()})")

    mount("size=200k")
    try:
        yield folder, mount
    finally:
        subprocess.run(["umount", str(folder)], timeout=20, check=False)


def test_a_full_disk_stops_indexing_with_a_word_and_answers_go_on(
    tmp_path: Path, small_disk: tuple[Path, Callable[[str], None]]
) -> None:
    writer = Writer(tmp_path / "writer")
    writer.open_namespace()
    writer.live(120)
    writer.save(tmp_path / "chain")
    undisturbed = writer.rows()
    node = load(tmp_path / "chain")
    whole, node.blocks = node.blocks, node.blocks[:40]
    folder, mount = small_disk
    path = folder / "index"
    table = NameTable(path, SANDBOX)
    follower = follower_of(node, table)
    while follower.step():
        pass
    name = "n0x3.id"
    assert table.snapshot().name(name) is not None
    (folder / "ballast").write_bytes(bytes(_room(folder)))
    node.blocks = whole
    follower._round(_NoWait())
    assert follower.status.state == "stopped"
    said = follower.status.last_error or ""
    assert "cannot write to" in said
    assert "make room on the disk" in said
    assert table.snapshot().name(name) == writer.table.snapshot().name(name)
    table.close()
    writer.table.close()
    (folder / "ballast").unlink()
    mount("remount,size=64m")
    table = NameTable(path, SANDBOX)
    follower = follower_of(node, table)
    while follower.step():
        pass
    assert dict(table.scan(b"")) == undisturbed
    table.close()


def test_an_index_that_may_only_be_read_is_refused_in_one_sentence(
    small_disk: tuple[Path, Callable[[str], None]],
) -> None:
    folder, mount = small_disk
    mount("remount,size=64m")
    NameTable(folder / "index", SANDBOX).close()
    mount("remount,ro")
    with pytest.raises(TableError, match="no permission to write the index") as refused:
        NameTable(folder / "index", SANDBOX)
    assert "\n" not in str(refused.value)
    mount("remount,rw")
    NameTable(folder / "index", SANDBOX).close()


def _room(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class _NoWait:
    def is_set(self) -> bool:
        return False
