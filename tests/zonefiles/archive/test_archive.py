"""The archive: what it refuses, what it survives, and what it says when it cannot be opened."""

import asyncio
import os
import random
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.zonefiles.dht.network import SlowDisk
from zonefiles.archive.archive import (
    Archive,
    ArchiveBusy,
    ArchiveError,
    ArchiveFull,
    ArchiveInUse,
    ArchiveNewer,
    ArchiveUnusable,
    TooLarge,
    WrongHash,
    plyvel,
)
from zonefiles.text.zonefile import MAX_BYTES, value_hash


def stored(archive: Archive, data: bytes) -> bytes:
    digest = value_hash(data)
    archive.put(digest, data)
    return digest


def test_what_was_put_is_had_again_after_reopening(tmp_path):
    archive = Archive(tmp_path / "archive", max_bytes=1000)
    digest = stored(archive, b"$ORIGIN alice.id\n")
    empty = stored(archive, b"")
    archive.close()
    archive = Archive(tmp_path / "archive", max_bytes=1000)
    assert archive.get(digest) == b"$ORIGIN alice.id\n"
    assert archive.get(empty) == b""
    assert digest in archive
    assert value_hash(b"other") not in archive
    assert archive.get(value_hash(b"other")) is None
    assert sorted(archive.digests()) == sorted([digest, empty])
    assert (archive.count, archive.bytes_held) == (2, 17)
    archive.close()


def test_data_is_refused_under_any_hash_but_its_own(tmp_path):
    archive = Archive(tmp_path, max_bytes=1000)
    for digest in (value_hash(b"other"), b"", b"\0" * 20, value_hash(b"data")[:19]):
        with pytest.raises(WrongHash):
            archive.put(digest, b"data")
    assert archive.count == 0
    archive.close()


def test_a_record_of_40960_bytes_is_kept_and_one_byte_more_refused(tmp_path):
    archive = Archive(tmp_path, max_bytes=10 * MAX_BYTES)
    digest = stored(archive, b"x" * MAX_BYTES)
    assert len(archive.get(digest)) == MAX_BYTES
    with pytest.raises(TooLarge, match="40961"):
        stored(archive, b"x" * (MAX_BYTES + 1))
    archive.close()


def test_the_archive_never_holds_more_than_it_may(tmp_path):
    archive = Archive(tmp_path, max_bytes=10)
    stored(archive, b"12345678")
    with pytest.raises(ArchiveFull, match="8 of 10 bytes"):
        stored(archive, b"abc")
    stored(archive, b"ab")
    assert archive.bytes_held == 10
    assert archive.put(value_hash(b"ab"), b"ab") is False, "there already: nothing to refuse"
    assert (archive.count, archive.bytes_held) == (2, 10)
    archive.close()


def test_a_record_that_rotted_is_missing_said_once_and_can_be_put_again(tmp_path, caplog):
    archive = Archive(tmp_path, max_bytes=1000)
    digest = stored(archive, b"good")
    archive._db.put(b"d" + digest, b"evil")
    assert archive.get(digest) is None
    assert archive.get(digest) is None
    assert len([r for r in caplog.records if digest.hex() in r.getMessage()]) == 1
    assert (archive.count, archive.bytes_held) == (0, 0)
    assert archive.put(digest, b"good") is True
    assert archive.get(digest) == b"good"
    archive.close()


def test_a_block_that_rotted_on_disk_is_missing_and_the_totals_are_counted_anew(tmp_path):
    archive = Archive(tmp_path, max_bytes=100_000)
    digests = [stored(archive, os.urandom(3000)) for _ in range(4)]
    archive._db.compact_range()
    archive.close()
    (table,) = tmp_path.glob("*.ldb")
    raw = bytearray(table.read_bytes())
    raw[5000] ^= 0xFF
    table.write_bytes(raw)

    archive = Archive(tmp_path, max_bytes=100_000)
    held = [archive.get(digest) for digest in digests]
    assert 1 <= held.count(None) < 4
    archive.close()
    archive = Archive(tmp_path, max_bytes=100_000)
    assert archive.count == 4 - held.count(None)
    assert archive.bytes_held == 3000 * archive.count
    archive.close()


def _filled(path, count=40):
    archive = Archive(path, max_bytes=1_000_000)
    records = {value_hash(data): data for data in (os.urandom(3000) for _ in range(count))}
    archive.put_many(list(records.items()))
    for data in (b"one by one", b"and another"):
        archive.put(value_hash(data), data)
        records[value_hash(data)] = data
    archive.close()
    return records


@pytest.mark.parametrize("merged", [False, True])
def test_flipped_bits_cost_records_and_are_counted_but_never_give_other_data(
    tmp_path, merged, caplog
):
    dice = random.Random(7)
    for turn in range(12):
        path = tmp_path / str(turn)
        records = _filled(path)
        if merged:
            Archive(path, max_bytes=1_000_000).close()
        file = max(path.glob("*.ldb" if merged else "*.log"), key=lambda file: file.stat().st_size)
        raw = bytearray(file.read_bytes())
        raw[dice.randrange(len(raw) * 9 // 10)] ^= 1 << dice.randrange(8)
        file.write_bytes(raw)
        try:
            archive = Archive(path, max_bytes=1_000_000)
        except ArchiveUnusable as error:
            _says_what_to_do(error)
            continue
        found = {digest: archive.get(digest) for digest in records}
        assert all(data in (None, records[digest]) for digest, data in found.items())
        archive.close()
        archive = Archive(path, max_bytes=1_000_000)
        held = [data for data in found.values() if data is not None]
        assert (archive.count, archive.bytes_held) == (len(held), sum(map(len, held)))
        for digest in [digest for digest, data in found.items() if data is None]:
            assert archive.put(digest, records[digest]) is True
        archive.close()


def _says_what_to_do(error):
    said = str(error)
    assert "\n" not in said
    assert "b'" not in said
    assert "fetched again" in said


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.ldb"])
@pytest.mark.parametrize("cut", [False, True])
def test_an_archive_whose_files_are_gone_says_that_its_data_is_fetched_again(
    tmp_path, pattern, cut
):
    records = _filled(tmp_path)
    Archive(tmp_path, max_bytes=1_000_000).close()
    (file,) = tmp_path.glob(pattern)
    os.truncate(file, file.stat().st_size // 2) if cut else file.unlink()

    def read_all():
        archive = Archive(tmp_path, max_bytes=1_000_000)
        for digest in records:
            archive.get(digest)

    with pytest.raises(ArchiveUnusable) as refused:
        read_all()
    _says_what_to_do(refused.value)
    if not cut and pattern != "*.ldb":
        assert any(tmp_path.glob("*.ldb")), "nothing was thrown away"


def test_a_second_opener_is_told_so_in_one_line(tmp_path):
    archive = Archive(tmp_path, max_bytes=1000)
    with pytest.raises(ArchiveInUse) as caught:
        Archive(tmp_path, max_bytes=1000)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    archive.close()
    Archive(tmp_path, max_bytes=1000).close()


def test_an_archive_of_a_newer_release_is_refused_and_left_alone(tmp_path):
    Archive(tmp_path, max_bytes=1000).close()
    database = plyvel.DB(str(tmp_path))
    database.put(b"schema", b"7")
    database.close()
    with pytest.raises(ArchiveNewer, match="schema 7, this release reads up to 1"):
        Archive(tmp_path, max_bytes=1000)
    database = plyvel.DB(str(tmp_path))
    assert database.get(b"schema") == b"7"
    database.close()


def test_a_file_and_a_foreign_database_are_no_archive(tmp_path):
    (tmp_path / "file").write_text("x")
    database = plyvel.DB(str(tmp_path / "names"), create_if_missing=True)
    database.put(b"n/alice.id", b"row")
    database.close()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "CURRENT").write_text("MANIFEST-000099\n")
    for path in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        tmp_path / "names",
        tmp_path / "torn",
    ):
        with pytest.raises(ArchiveUnusable) as caught:
            Archive(path, max_bytes=1000)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, ArchiveError)


def test_a_loop_goes_on_while_the_disk_syncs_and_what_came_meanwhile_shares_one_sync(tmp_path):
    async def story():
        archive = Archive(tmp_path, max_bytes=100_000)
        here = stored(archive, b"here")
        disk = SlowDisk(archive)
        records = {value_hash(data): data for data in (b"record %d" % n for n in range(100))}
        kept = [archive.keep(digest, data) for digest, data in records.items()]
        again = archive.keep(*next(iter(records.items())))
        assert archive.get(here) == b"here"
        await asyncio.sleep(0)
        assert not any(future.done() for future in kept), "nothing is acknowledged before its sync"
        assert next(iter(records)) not in archive
        disk.free.set()
        async with asyncio.timeout(5):
            assert await asyncio.gather(*kept) == [True] * 100
            assert await again is False
        assert len(disk.batches) <= 2
        assert (archive.count, sum(disk.batches)) == (101, 100)
        assert all(archive.get(digest) == data for digest, data in records.items())
        archive.close()

    asyncio.run(story())


def test_in_a_batch_each_record_is_judged_by_itself(tmp_path):
    good, full, last = b"123456", b"abcdef", b"1234"
    archive = Archive(tmp_path, max_bytes=10)
    records = [(value_hash(data), data) for data in (good, full, good, last, b"x" * 40_961)]
    outcomes = archive.put_many([(b"\0" * 20, b"1"), *records])
    kinds = [o if isinstance(o, bool) else type(o) for o in outcomes]
    assert kinds == [WrongHash, True, ArchiveFull, False, True, TooLarge]
    assert (archive.count, archive.bytes_held) == (2, 10)

    async def story():
        with pytest.raises(ArchiveFull):
            await archive.keep(value_hash(full), full)
        assert await archive.keep(value_hash(good), good) is False

    asyncio.run(story())
    archive.close()


def test_what_is_new_on_disk_is_told_whoever_brought_it_and_nothing_else_is(tmp_path):
    told: list[bytes] = []
    archive = Archive(tmp_path / "a", max_bytes=1 << 20, on_kept=told.extend)
    one, two, three = (value_hash(data) for data in (b"one", b"two", b"three"))
    archive.put(one, b"one")
    archive.put(one, b"one")
    archive.put_many([(one, b"one"), (two, b"two"), (three, b"other")])

    async def story() -> None:
        await archive.keep(three, b"three")

    asyncio.run(story())
    archive.close()
    assert told == [one, two, three]


def test_what_waits_for_the_disk_is_bounded_and_written_before_the_archive_closes(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("zonefiles.archive.writer.MAX_WAITING", 3)

    async def story():
        archive = Archive(tmp_path, max_bytes=1000)
        disk = SlowDisk(archive)
        records = [(value_hash(data), data) for data in (b"%d" % n for n in range(9))]
        kept = [archive.keep(*records[0])]
        while not disk.batches:
            await asyncio.sleep(0)
        kept += [archive.keep(*record) for record in records[1:4]]
        with pytest.raises(ArchiveBusy, match="check the disk"):
            archive.keep(*records[4])
        kept[1].cancel()
        await asyncio.sleep(0)
        disk.free.set()
        archive.close()
        assert await asyncio.gather(*kept[:1], *kept[2:]) == [True] * 3
        with pytest.raises(ArchiveError):
            archive.keep(*records[5])
        return records

    records = asyncio.run(story())
    archive = Archive(tmp_path, max_bytes=1000)
    assert [digest in archive for digest, _ in records] == [True, False, True, True] + [False] * 5
    archive.close()


def test_a_disk_that_refuses_is_told_to_all_who_wait_and_ends_nothing(tmp_path):
    async def story():
        archive = Archive(tmp_path, max_bytes=1000)
        write = archive._write

        def refuse(*_: object) -> None:
            raise ArchiveUnusable("no space left")

        archive._write = refuse
        records = [(value_hash(data), data) for data in (b"one", b"two")]
        told = await asyncio.gather(*(archive.keep(*r) for r in records), return_exceptions=True)
        assert [str(error) for error in told] == ["no space left"] * 2
        archive._write = write
        assert await archive.keep(*records[0]) is True
        archive.close()

    asyncio.run(story())


FULL = """
import resource
import sys
from pathlib import Path
from zonefiles.archive.archive import Archive, ArchiveUnusable
from zonefiles.text.zonefile import value_hash

archive = Archive(Path(sys.argv[1]), max_bytes=1 << 30)
(log,) = Path(sys.argv[1]).glob("*.log")
data = [b"record %d " % n * 50 for n in range(40)]
for number, one in enumerate(data):
    if number == 20:
        most = log.stat().st_size + int(sys.argv[2])
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    if number == 30:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    try:
        archive.put(value_hash(one), one)
        print("kept", number)
    except ArchiveUnusable as failure:
        print("lost", number, failure)
"""
"""Puts forty records where from the twentieth to the thirtieth no file may grow further."""


@pytest.mark.parametrize("room", [0, 1, 700])
def test_after_a_write_that_failed_nothing_is_called_kept_that_a_later_start_would_not_find(
    tmp_path, room
):
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(room)],
        capture_output=True,
        cwd=ROOT,
        check=True,
        text=True,
    )
    said = [line.split(maxsplit=2) for line in ended.stdout.splitlines()]
    kept = [int(number) for word, number, *_ in said if word == "kept"]
    assert len(said) == 40
    assert 20 <= len(kept) < 25
    sentences = {words[2] for words in said if words[0] == "lost"}
    assert len(sentences) == 1
    assert "File too large; check the disk, then restart" in sentences.pop()
    archive = Archive(tmp_path, max_bytes=1 << 30)
    held = [n for n in range(40) if value_hash(b"record %d " % n * 50) in archive]
    assert held == kept
    assert archive.count == len(kept)
    archive.close()


WRITER = """
import asyncio
import sys
from pathlib import Path
from zonefiles.archive.archive import Archive
from zonefiles.text.zonefile import value_hash
archive = Archive(Path(sys.argv[1]), max_bytes=1 << 30)
n = 0
def data():
    return b"record %d " % n * 50
async def keep():
    global n
    while True:
        batch = []
        for _ in range(5):
            batch.append(archive.keep(value_hash(data()), data()))
            n += 1
        await asyncio.gather(*batch)
        print(n - 1, flush=True)
if sys.argv[2] == "keep":
    asyncio.run(keep())
while True:
    archive.put(value_hash(data()), data())
    print(n, flush=True)
    n += 1
"""


@pytest.mark.parametrize("how", ["put", "keep"])
def test_kill_9_loses_no_record_that_was_acknowledged(tmp_path, how):
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), how],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    try:
        acknowledged = -1
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged >= 50:
                break
    finally:
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
    acknowledged = max([acknowledged, *(int(line) for line in rest if line.isdigit())])
    assert acknowledged >= 50
    archive = Archive(tmp_path, max_bytes=1 << 30)
    for n in range(acknowledged + 1):
        data = b"record %d " % n * 50
        assert archive.get(value_hash(data)) == data
    assert archive.count == len(list(archive.digests()))
    archive.close()
