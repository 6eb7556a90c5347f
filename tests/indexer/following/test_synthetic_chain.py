"""The chain that the benchmark of indexing is made of: valid, mixed, and the same for a seed."""

from collections import Counter
from pathlib import Path

from indexer.following.follower import Follower
from indexer.table.table import NameTable
from tests.benchmarks.chain import NETWORK, MinedBlock, SyntheticChain
from tests.benchmarks.index import ChainFile, write_chain

OPERATIONS, BLOCKS, OTHERS = 400, 30, 100


def mined(seed: int) -> list[MinedBlock]:
    return list(SyntheticChain(seed, OPERATIONS, BLOCKS, OTHERS).mine(1))


def test_a_seed_tells_every_byte_of_the_chain() -> None:
    first, again, other = mined(1), mined(1), mined(2)
    assert [block.raw for block in first] == [block.raw for block in again]
    assert first[-1].raw != other[-1].raw


def test_a_lap_has_as_many_operations_as_asked_and_nearly_all_take_effect() -> None:
    verdicts = [verdict for block in mined(3) for _, verdict in block.outcome.verdicts]
    assert len(verdicts) == OPERATIONS
    accepted = Counter(verdict.opcode for verdict in verdicts if verdict.flaw is None)
    assert set(accepted) >= set("*&!;?:+>")
    assert 0.85 * OPERATIONS < accepted.total() < OPERATIONS


def test_the_follower_indexes_the_file_of_two_laps_to_the_hash_of_their_maker(
    tmp_path: Path,
) -> None:
    chain = SyntheticChain(4, OPERATIONS, BLOCKS, OTHERS)
    write_chain(chain, 2, tmp_path / "blocks", tmp_path / "rows")
    expected = list(SyntheticChain(4, OPERATIONS, BLOCKS, OTHERS).mine(2))[-1]
    table = NameTable(tmp_path / "index", NETWORK)
    follower = Follower(ChainFile(tmp_path / "blocks"), table, NETWORK, confirmations=1)
    while follower.step():
        pass
    snapshot = table.snapshot()
    assert snapshot.block_hash == expected.hash
    assert snapshot.consensus_hash(expected.height) == expected.outcome.consensus_hash
    table.close()
