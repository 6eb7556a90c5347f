"""A power cut costs a block, damage on the disk is refused, and nothing wrong is ever read."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from indexer.networks import MAINNET, SANDBOX
from indexer.protocol import schema
from indexer.protocol.rows import read_number
from indexer.table.level import Level
from indexer.table.log_file import DamagedLog, torn_at
from indexer.table.reached import NAME, read_reached
from indexer.table.table import NameTable, TableDamaged, TableError
from tests.indexer.following.crashing import Writer
from tests.rings import times

FLIPS = times(40, 200, 1000)
"""How many bits are flipped, and how many tails cut; 1000 take some minutes."""
TAIL = 64 * 1024
pytestmark = pytest.mark.timeout(120 + FLIPS)

Rows = dict[bytes, bytes]


@dataclass
class Built:
    """Two tables of the same blocks, closed: written at once, and merged into files of rows."""

    logged: Path
    merged: Path
    rows: Rows
    rows_at: dict[int | None, Rows]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("damage")
    writer = Writer(folder / "logged")
    rows_at: dict[int | None, Rows] = {None: writer.rows()}
    mine = writer.mine

    def mine_and_note(*transactions: bytes, salt: int = 0) -> None:
        mine(*transactions, salt=salt)
        rows_at[writer.table.tip] = writer.rows()

    writer.mine = mine_and_note  # type: ignore[method-assign]
    writer.open_namespace()
    writer.live(45)
    rows = writer.rows()
    writer.table.close()
    shutil.copytree(folder / "logged", folder / "merged")
    NameTable(folder / "merged", SANDBOX).close()  # what the log held goes into a file of rows
    return Built(folder / "logged", folder / "merged", rows, rows_at)


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    def copied(folder: Path) -> Path:
        shutil.rmtree(tmp_path / "names", ignore_errors=True)
        return Path(shutil.copytree(folder, tmp_path / "names"))

    return copied


def test_a_table_that_nobody_closed_is_collected_with_its_snapshot(tmp_path: Path) -> None:
    """In a process of its own, for what it could do is end the process."""
    script = (
        "import gc, sys\n"
        "from pathlib import Path\n"
        "from indexer.table.level import Level\n"
        "class Holder: pass\n"
        "for n in range(10):\n"
        "    holder = Holder()\n"
        "    holder.me, holder.level = holder, Level(Path(sys.argv[1], str(n)))\n"
        "    holder.rows = holder.level.frozen()\n"
        "    del holder\n"
        "    gc.collect()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def only(folder: Path, pattern: str) -> Path:
    (file,) = (f for f in folder.glob(pattern) if f.stat().st_size)
    return file


def all_rows(folder: Path) -> Rows:
    table = NameTable(folder, SANDBOX)
    try:
        return dict(table.scan(b""))
    finally:
        table.close()


def places(size: int, count: int, dice: random.Random) -> list[int]:
    """Octets of the tail, the ends of it and both sides of LevelDB's blocks among them."""
    first = max(0, size - TAIL)
    borders = [at + by for at in range(0, size, 32 * 1024) for by in (-8, -7, -1, 0, 1, 6, 7, 8)]
    chosen = [first, size - 1, *borders, *(dice.randrange(first, size) for _ in range(count))]
    return sorted({at for at in chosen if first <= at < size})


@pytest.mark.parametrize("what_is_left", ["cut", "zeros"])
def test_a_tail_that_a_power_cut_tore_costs_the_last_blocks_and_nothing_else(
    built: Built, copy: Callable[[Path], Path], what_is_left: str
) -> None:
    size = only(built.logged, "*.log").stat().st_size
    assert size > TAIL
    tips = set()
    for at in places(size, FLIPS, random.Random(what_is_left)):
        folder = copy(built.logged)
        log = only(folder, "*.log")
        os.truncate(log, at)
        if what_is_left == "zeros":
            os.truncate(log, size)
        table = NameTable(folder, SANDBOX)
        tip, rows = table.tip, dict(table.scan(b""))
        table.close()
        tips.add(tip)
        assert rows == built.rows_at[tip], f"{what_is_left} from octet {at}"
    assert len(tips) > 10


def flip(file: Path, at: int, bit: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(at)
        octet = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes((octet ^ 1 << bit,)))


@pytest.mark.parametrize("kind", ["logged", "merged"])
def test_a_flipped_bit_anywhere_is_refused_or_changes_no_answer(
    built: Built, copy: Callable[[Path], Path], kind: str
) -> None:
    dice = random.Random(f"{kind} 1")
    whole: Path = getattr(built, kind)
    sizes = {f.name: f.stat().st_size for f in whole.iterdir() if f.name not in ("LOG", "LOG.old")}
    refused = 0
    for turn in range(FLIPS):
        names = [name for name, size in sizes.items() if size]
        # Small files as often as large ones: every second flip.
        weights = [sizes[name] for name in names] if turn % 2 else None
        name = dice.choices(names, weights)[0]
        at, bit = dice.randrange(sizes[name]), dice.randrange(8)
        folder = copy(whole)
        flip(folder / name, at, bit)
        refused += not reads_right(folder, built, f"bit {bit} of octet {at} of {name}")
    assert refused > FLIPS // 2


def reads_right(folder: Path, built: Built, where: str) -> bool:
    """Whether every read gave what was written; else every one that did not was refused.

    Damage in the very last write may look as what a power cut leaves: then the table ends with
    the block before it, whole.
    """
    try:
        table = NameTable(folder, SANDBOX)
    except TableDamaged:
        return False
    try:
        last = max(height for height in built.rows_at if height is not None)
        tip = int.from_bytes(table.get(b"!tip") or b"", "big")
        assert tip in (last, last - 1), where
        rows = built.rows_at[tip]
        for key, row in rows.items():
            assert table.get(key) == row, f"{where}: row {key!r}"
            assert table.get(key + b"\0") is None
        assert dict(table.scan(b"")) == rows, where
        return True
    except TableDamaged:
        with pytest.raises(TableDamaged):
            table.get(b"!tip")
        return False
    finally:
        table.close()


def test_every_flipped_bit_of_a_length_in_the_log_is_refused_before_leveldb_sees_it(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    """LevelDB takes a record that is longer than its file for a torn one, and what follows too."""
    log = only(built.logged, "*.log").read_bytes()
    assert torn_at(log) is None
    at, heads = 0, []
    while at < len(log):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        heads.append(at)
        at += 7 + int.from_bytes(log[at + 4 : at + 6], "little")
    last_block = [head for head in heads if head // 32768 == len(log) // 32768]
    assert len(last_block) >= 3
    for head in last_block[:-1]:
        for bit in range(16):
            damaged = bytearray(log)
            damaged[head + 4 + bit // 8] ^= 1 << bit % 8
            folder = copy(built.logged)
            only(folder, "*.log").write_bytes(damaged)
            with pytest.raises(TableDamaged):
                NameTable(folder, SANDBOX)


def test_a_header_of_zeros_in_the_middle_of_the_log_is_no_torn_tail(built: Built) -> None:
    log = bytearray(only(built.logged, "*.log").read_bytes())
    first = 7 + int.from_bytes(log[4:6], "little")
    log[first + 4 : first + 8] = bytes(4)
    with pytest.raises(DamagedLog):
        torn_at(bytes(log))


def test_four_octets_zeroed_inside_the_log_are_refused_in_one_line(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    dice = random.Random(4)
    for _ in range(FLIPS // 4):
        folder = copy(built.logged)
        log = only(folder, "*.log")
        octets = bytearray(log.read_bytes())
        at = dice.randrange(len(octets) // 2)
        if not any(octets[at : at + 4]):
            continue
        octets[at : at + 4] = bytes(4)
        log.write_bytes(octets)
        with pytest.raises(TableDamaged) as refused:
            NameTable(folder, SANDBOX)
        assert_says_what_to_do(refused.value)


def assert_says_what_to_do(error: TableDamaged) -> None:
    said = str(error)
    assert "\n" not in said
    assert "b'" not in said
    assert "`blockstored reindex`" in said
    assert "is damaged" in said


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        ("CURRENT", Path.unlink),
        ("CURRENT", lambda file: os.truncate(file, 0)),
        ("CURRENT", lambda file: os.truncate(file, 5)),
        ("MANIFEST-*", Path.unlink),
        ("MANIFEST-*", lambda file: os.truncate(file, 0)),
        ("*.ldb", Path.unlink),
        ("*.ldb", lambda file: os.truncate(file, 0)),
        ("*.ldb", lambda file: os.truncate(file, file.stat().st_size // 2)),
        ("*.ldb", lambda file: os.truncate(file, file.stat().st_size - 1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "harm",
)
def test_a_file_of_the_table_that_is_gone_or_cut_is_refused_in_one_line(
    built: Built, copy: Callable[[Path], Path], pattern: str, harm: Callable[[Path], None]
) -> None:
    folder = copy(built.merged)
    before = {file.name for file in folder.iterdir()}
    file = max(folder.glob(pattern), key=lambda file: file.stat().st_size)
    harm(file)
    with pytest.raises(TableDamaged) as refused:
        NameTable(folder, SANDBOX)
    assert_says_what_to_do(refused.value)
    left = {file.name for file in folder.iterdir()}
    assert len(left & before) >= 3, "what may be looked at is still there"
    with pytest.raises(TableDamaged):
        NameTable(folder, SANDBOX)


def test_a_log_that_is_gone_is_refused_and_not_taken_for_an_empty_table(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    folder = copy(built.logged)
    for log in folder.glob("*.log"):
        log.unlink()
    with pytest.raises(TableDamaged, match="its log is missing"):
        NameTable(folder, SANDBOX)


@pytest.mark.parametrize("harm", ["cut", "gone", "all gone"])
def test_an_index_that_lost_its_log_is_refused_and_not_begun_again_from_block_0(
    built: Built, copy: Callable[[Path], Path], harm: str
) -> None:
    folder = copy(built.logged)
    log = only(folder, "*.log")
    if harm == "cut":
        os.truncate(log, 0)
    for file in folder.iterdir() if harm != "cut" else ():
        if file.name.endswith(".log") or (harm == "all gone" and file.name != NAME):
            file.unlink()
    for _ in range(2):  # what was refused does not look new the next time
        with pytest.raises(TableDamaged, match=r"its log is missing|is empty, where it held") as no:
            NameTable(folder, SANDBOX)
        assert_says_what_to_do(no.value)


def test_an_index_that_lost_its_log_is_still_of_its_network(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    folder = copy(built.logged)
    os.truncate(only(folder, "*.log"), 0)
    with pytest.raises(TableError, match="belongs to the network 'sandbox'"):
        NameTable(folder, MAINNET)


def test_an_index_that_ends_before_what_it_had_says_so_and_how_far_the_chain_is(
    built: Built, copy: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """As with a CURRENT that names an older MANIFEST, or a log cut at a whole block."""
    folder = copy(built.logged)
    last = read_reached(folder)
    assert last is not None
    log = only(folder, "*.log")
    os.truncate(log, log.stat().st_size * 2 // 3)
    table = NameTable(folder, SANDBOX)
    tip = table.tip
    assert tip is not None
    assert table.reached == last.height > tip
    table.close()
    assert f"ends at block {tip}, where it had block {last.height} before" in caplog.text


def test_an_index_that_is_asked_to_begin_at_another_block_is_not_called_damaged(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    for first in (SANDBOX.first_block + 1, SANDBOX.first_block + 1000):
        with pytest.raises(TableError, match="set first_block to 1, or") as refused:
            NameTable(copy(built.merged), replace(SANDBOX, first_block=first))
        assert not isinstance(refused.value, TableDamaged)
        assert "`blockstored reindex`" in str(refused.value)


def test_a_file_that_is_cut_under_a_running_daemon_is_met_before_it_is_read(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    """A read where a mapped file was cut would end the process."""
    folder = copy(built.merged)
    table = NameTable(folder, SANDBOX)
    for file in folder.glob("*.ldb"):
        os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(TableDamaged, match=r"has \d+ bytes of"):
        table.check_files()
    with pytest.raises(TableDamaged):
        table.get(b"!tip")
    table.close()


def test_a_bit_that_flips_in_an_open_file_hides_no_row(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    """LevelDB's filters did: they are checked when their file is opened, and never again."""
    dice = random.Random("open")
    for turn in range(FLIPS):
        folder = copy(built.merged)
        table = NameTable(folder, SANDBOX)
        file = only(folder, "*.ldb")
        size = file.stat().st_size
        at, bit = dice.randrange(size - 3000 if turn % 2 else 0, size), dice.randrange(8)
        flip(file, at, bit)
        try:
            for key, row in built.rows.items():
                assert table.get(key) == row, f"bit {bit} of octet {at}: row {key!r}"
        except TableDamaged:
            pass
        finally:
            table.close()


def test_a_scan_that_meets_damage_in_its_last_block_does_not_end_early(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    """The plain iterator of plyvel took such an error for the end of the rows."""
    folder = copy(built.merged)
    table = NameTable(folder, SANDBOX)
    table.close()
    file = only(folder, "*.ldb")
    flip(file, _end_of_rows(file.read_bytes()) - 20, 3)
    table = NameTable(folder, SANDBOX)
    snapshot = table.snapshot()
    assert snapshot.height == max(h for h in built.rows_at if h is not None)
    with pytest.raises(TableDamaged):
        list(table.scan(b"z"))
    for read in (lambda: snapshot.name("n0x0.id"), lambda: list(snapshot.standings())):
        with pytest.raises(TableDamaged):  # nor is anything else read from now on
            read()
    with pytest.raises(TableDamaged):
        list(snapshot.names().entries)
    table.close()


def _end_of_rows(octets: bytes) -> int:
    """Where the last block of rows ends: what describes them begins (doc/table_format.md)."""
    return read_number(octets, len(octets) - 48)[0]


@pytest.mark.parametrize("lost", ["header", "name", "tip"])
def test_rows_that_contradict_each_other_are_refused_at_the_opening(
    built: Built, copy: Callable[[Path], Path], lost: str
) -> None:
    folder = copy(built.merged)
    level = Level(folder)
    key = {
        "header": schema.header_key(SANDBOX.first_block + 5),
        "name": next(key for key in built.rows if key[:1] == b"N"),
        "tip": schema.TIP_KEY,
    }[lost]
    level.write([(key, None)], sync=True)
    level.close()
    with pytest.raises(TableDamaged) as refused:
        NameTable(folder, SANDBOX)
    assert_says_what_to_do(refused.value)


def test_what_is_refused_again_and_again_keeps_nothing_of_those_who_asked(
    built: Built, copy: Callable[[Path], Path]
) -> None:
    """One exception raised twice kept the frames of the first time: each question cost memory."""
    folder = copy(built.merged)
    table = NameTable(folder, SANDBOX)
    table.close()
    file = only(folder, "*.ldb")
    flip(file, _end_of_rows(file.read_bytes()) - 20, 3)
    table = NameTable(folder, SANDBOX)
    with pytest.raises(TableDamaged):
        list(table.scan(b"z"))
    depths = []
    for _ in range(3):
        with pytest.raises(TableDamaged) as refused:
            table.get(b"!tip")
        depths.append(len(refused.traceback))
    table.close()
    assert len(set(depths)) == 1
