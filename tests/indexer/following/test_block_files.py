"""The files of a node on the same machine: found in any order, whole or not, obfuscated or not."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from indexer.following.block_files import MESSAGE_START, BlockFiles, BlockFilesError, OpenFiles
from indexer.following.chain import Connect
from indexer.following.follower import Follower
from indexer.following.lane_process import make_lanes
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.sandbox.node import SandboxNode
from indexer.table.table import NameTable
from tests.indexer.node.fakes import Purse

START = MESSAGE_START["regtest"]
KEY = bytes.fromhex("a1b2c3d4e5f60718")


def frame(raw: bytes) -> bytes:
    return START + len(raw).to_bytes(4, "little") + raw


def write_files(folder: Path, files: Sequence[bytes], key: bytes | None) -> None:
    """blk*.dat as bitcoind writes them, under the pattern of ``key``."""
    folder.mkdir(exist_ok=True)
    if key is not None:
        (folder / "xor.dat").write_bytes(key)
    for number, plain in enumerate(files):
        pattern = key or bytes(8)
        stored = bytes(byte ^ pattern[at % 8] for at, byte in enumerate(plain))
        (folder / f"blk{number:05d}.dat").write_bytes(stored)


class Machine:
    """A node with 120 blocks, and our client of it, which counts the blocks it is asked for."""

    def __init__(self, sandbox: SandboxNode) -> None:
        self.sandbox = sandbox
        sandbox.generate(120, Purse(sandbox).script)
        self.node = BitcoinNode(sandbox.url)
        self.raws = self.node.raw_blocks(self.node.block_hashes(range(1, 121)))
        self.fetch, self.asked = self.node.raw_blocks, 0
        self.node.raw_blocks = self._counted  # type: ignore[method-assign]

    def _counted(self, hashes: Sequence[bytes]) -> list[bytes]:
        self.asked += len(hashes)
        return self.fetch(hashes)

    def index(self, path: Path, files: BlockFiles | None, processes: int = 0) -> dict[bytes, bytes]:
        table = NameTable(path, SANDBOX)
        follower = Follower(
            self.node,
            table,
            SANDBOX,
            confirmations=1,
            lanes=lambda: make_lanes(self.node, SANDBOX.magic, processes, files),
        )
        while follower.step():
            pass
        follower.close()
        rows = dict(table.scan(b""))
        table.close()
        return rows


@pytest.fixture
def machine():
    with SandboxNode(user="u", password="p") as sandbox:
        yield Machine(sandbox)


@pytest.mark.parametrize("key", [None, bytes(8), KEY])
def test_blocks_in_any_order_under_any_key_give_the_index_that_the_node_gives(
    machine, tmp_path, key
) -> None:
    over_rpc = machine.index(tmp_path / "rpc", None)
    mixed = [machine.raws[n * 7 % 120] for n in range(120)]
    contents = [b"".join(map(frame, part)) for part in (mixed[:50], mixed[50:51], mixed[51:])]
    write_files(tmp_path / "blocks", contents, key)
    machine.asked = 0
    files = BlockFiles(tmp_path / "blocks", START)
    assert machine.index(tmp_path / "files", files) == over_rpc
    assert machine.asked == 0
    assert files.count == 120


def test_a_process_next_door_reads_the_same_files(machine, tmp_path) -> None:
    over_rpc = machine.index(tmp_path / "rpc", None)
    write_files(tmp_path / "blocks", [b"".join(map(frame, machine.raws))], KEY)
    machine.sandbox.switches.prune_height = 1000  # the node itself gives none any more
    files = BlockFiles(tmp_path / "blocks", START)
    assert machine.index(tmp_path / "files", files, processes=1) == over_rpc


def test_a_file_that_is_still_written_is_read_as_far_as_it_is_whole(machine, tmp_path) -> None:
    over_rpc = machine.index(tmp_path / "rpc", None)
    whole = b"".join(map(frame, machine.raws[:60]))
    half = frame(machine.raws[60])[:-5]
    write_files(tmp_path / "blocks", [whole + half], KEY)
    files = BlockFiles(tmp_path / "blocks", START)
    assert files.look() == 60
    assert files.look() == 0
    rest = b"".join(map(frame, machine.raws[60:100]))
    write_files(tmp_path / "blocks", [whole + rest + bytes(5000)], KEY)  # and room made in advance
    assert files.look() == 40
    assert machine.index(tmp_path / "files", files) == over_rpc
    assert machine.asked >= 20


def test_a_block_that_is_damaged_in_its_file_is_asked_of_the_node(machine, tmp_path) -> None:
    over_rpc = machine.index(tmp_path / "rpc", None)
    damaged = list(machine.raws)
    damaged[70] = damaged[70][:-1] + bytes((damaged[70][-1] ^ 1,))
    write_files(tmp_path / "blocks", [b"".join(map(frame, damaged))], KEY)
    machine.asked = 0
    files = BlockFiles(tmp_path / "blocks", START)
    assert machine.index(tmp_path / "files", files) == over_rpc
    assert 0 < machine.asked < 120


def test_every_place_of_a_block_is_known_and_strangers_have_none(machine, tmp_path) -> None:
    twice = [machine.raws[0], machine.raws[1], machine.raws[0]]
    write_files(tmp_path / "blocks", [b"".join(map(frame, twice))], None)
    files = BlockFiles(tmp_path / "blocks", START)
    files.look()
    first = Connect(1, machine.node.block_hash(1))
    assert len(files.places(first.block_hash)) == 2
    assert files.places(bytes(32)) == []


@pytest.mark.parametrize("key", [None, KEY])
def test_any_part_of_a_file_is_read_without_its_pattern(tmp_path, key) -> None:
    plain = random.Random(1).randbytes(300_000)
    write_files(tmp_path, [plain], key)
    files = OpenFiles(tmp_path)
    for offset in (0, 1, 7, 8, 65_535, 65_536, 131_075, 299_999, 300_000):
        for size in (0, 1, 7, 65_535, 65_536, 65_537, 131_072, 200_001):
            assert files.read(0, offset, size) == plain[offset : offset + size]
    files.close()


def test_a_folder_that_is_none_is_refused_in_one_sentence(tmp_path) -> None:
    with pytest.raises(BlockFilesError, match=r"holds no blk00000\.dat; name the folder"):
        BlockFiles(tmp_path, START)
    (tmp_path / "blk00042.dat").touch()
    with pytest.raises(BlockFilesError, match=r"has pruned its first files.*prune=0"):
        BlockFiles(tmp_path, START)
    write_files(tmp_path, [b""], b"short")
    with pytest.raises(BlockFilesError, match="8 bytes of a key"):
        BlockFiles(tmp_path, START)


def test_the_files_of_another_chain_give_nothing(machine, tmp_path) -> None:
    write_files(tmp_path / "blocks", [b"".join(map(frame, machine.raws))], None)
    assert BlockFiles(tmp_path / "blocks", MESSAGE_START["main"]).look() == 0
