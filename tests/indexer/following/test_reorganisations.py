"""Chains that turn round: how deep, how often, while nobody looks, and where it is too much."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.following.chain import last_shared
from indexer.following.follower import Follower
from indexer.networks import MAINNET, SANDBOX
from indexer.node.node import ChainInfo, NodeUnavailable
from indexer.protocol import schema
from indexer.table.rebuild import RebuildFailed, mend, rebuild, start_over, take_back_to
from indexer.table.table import NameTable, TableDamaged, TableError
from tests.indexer import fakes
from tests.indexer.fakes import FakeNode
from tests.indexer.following.test_follower import _NEVER, ALICE, BOB, PAYER, World
from tests.rings import sampled

Blocks = list[tuple[bytes, bytes]]


def branch(world: World, fork: int, length: int, salt: int) -> Blocks:
    """The chain up to block ``fork`` and ``length`` empty blocks of another branch."""
    blocks = world.node.blocks
    world.node.blocks = blocks[: fork + 1]
    for _ in range(length):
        world.node.mine(salt=salt)
    world.node.blocks, made = blocks, world.node.blocks
    return made


def straight_rows(world: World, path: Path) -> dict[bytes, bytes]:
    """The table of somebody who has only ever seen the chain that the node has now."""
    straight = World(path)
    straight.node.blocks, straight.node.spent = world.node.blocks, world.node.spent
    straight.follow()
    rows = straight.rows()
    straight.table.close()
    return rows


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "index")
    world.open_namespace("id")
    world.register("alice.id", ALICE, b"a" * 20)
    return world


@pytest.mark.parametrize("depth", [1, 2, 143, 144])
def test_any_depth_up_to_the_undo_is_followed(world: World, tmp_path: Path, depth: int) -> None:
    for _ in range(150):
        world.node.mine()
    world.follow()
    tip = world.seen.height
    world.node.blocks = branch(world, tip - depth, depth + 1, salt=7)
    world.follow()
    assert world.follower.status.state == "following"
    assert world.seen.height == tip + 1
    assert world.rows() == straight_rows(world, tmp_path / "straight")


def test_one_block_deeper_is_not(world: World) -> None:
    for _ in range(150):
        world.node.mine()
    world.follow()
    tip, before = world.seen.height, world.rows()
    world.node.blocks = branch(world, tip - 145, 150, salt=7)
    world.follower._round(_NEVER)
    assert world.follower.status.state == "stopped"
    assert f"reindex --from {tip - 144}`" in (world.follower.status.last_error or "")
    assert world.rows() == before


def test_a_branch_that_is_shorter_and_has_more_work_is_followed(
    world: World, tmp_path: Path
) -> None:
    """All blocks of the fake chain show the same work; what counts is that the node prefers it."""
    for _ in range(20):
        world.node.mine()
    world.follow()
    tip = world.seen.height
    world.node.blocks = branch(world, tip - 15, 4, salt=7)
    world.follow()
    assert world.seen.height == tip - 11
    assert world.follower.status.state == "following"
    assert world.rows() == straight_rows(world, tmp_path / "straight")


def test_a_name_that_stood_on_the_lost_branch_only_is_gone_and_readers_are_told(
    world: World,
) -> None:
    fork = world.seen.height
    world.register("bob.id", BOB)
    own = list(world.node.blocks)
    world.node.blocks = branch(world, fork, 1, salt=7)  # one block against two
    world.follow()
    assert world.seen.name("bob.id") is None
    assert world.told[-1] == {"bob.id"}
    world.node.blocks = own
    world.follow()
    assert world.seen.name("bob.id") is not None
    assert world.told[-1] == {"bob.id"}


class Switching:
    """A node that switches to the next of some chains at each request that reads blocks."""

    def __init__(self, node: FakeNode, chains: Sequence[Blocks]) -> None:
        self._node, self._chains = node, list(chains)
        self._known = dict(node.blocks)
        for chain in chains:
            self._known.update(chain)

    def _switch(self) -> None:
        if self._chains:
            self._node.blocks = self._chains.pop(0)

    def chain_info(self) -> ChainInfo:
        return self._node.chain_info()

    def block_hash(self, height: int) -> bytes:
        return self._node.block_hash(height)

    def block_hashes(self, heights: Sequence[int]) -> list[bytes]:
        try:
            found = self._node.block_hashes(heights)
        except IndexError:
            raise NodeUnavailable("block height out of range") from None
        self._switch()
        return found

    def headers(self, hashes: Sequence[bytes]) -> list[bytes]:
        return [self._known[block_hash][:80] for block_hash in hashes]

    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]:
        self._switch()
        return [self._known[block_hash] for block_hash in hashes]  # stale ones too, as nodes do

    def __getattr__(self, name: str) -> object:
        return getattr(self._node, name)


def following(world: World, chains: Sequence[Blocks]) -> Follower:
    """A follower of the world's node, which switches to these chains one after the other."""
    node: Any = Switching(world.node, chains)
    return Follower(node, world.table, world.network, confirmations=1)


def test_a_node_that_switches_twice_while_we_work_is_followed_to_the_end(
    world: World, tmp_path: Path
) -> None:
    for _ in range(10):
        world.node.mine()
    world.follow()
    tip = world.seen.height
    first = branch(world, tip - 3, 6, salt=1)
    second = branch(world, tip - 8, 11, salt=2)
    third = branch(world, tip - 5, 9, salt=3)
    world.node.blocks = first
    world.follower = following(world, [second, third])
    for _ in range(10):
        world.follower._round(_NEVER)
    assert world.node.blocks is third
    assert world.follower.status.state == "following"
    assert world.rows() == straight_rows(world, tmp_path / "straight")


switches = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 14)), min_size=2, max_size=5)


@settings(
    max_examples=sampled(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=switches)
def test_whenever_it_switches_the_table_ends_as_that_of_one_who_saw_the_last_chain_only(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("switching")
    world = World(folder / "index")
    world.open_namespace("id")
    world.register("alice.id", ALICE, b"a" * 20)
    for _ in range(10):
        world.mine(world.node.send(PAYER, world.preorder(f"n{world.seen.height}.id", BOB)))
    tip = world.seen.height
    chains = [
        branch(world, tip - depth, length, salt=n) for n, (depth, length) in enumerate(plan, 1)
    ]
    # The last one must contradict the others, or there would be nothing to follow.
    chains.append(branch(world, tip - 12, 20, salt=99))
    world.node.blocks = chains[0]
    world.follower = following(world, chains[1:])
    for _ in range(20):
        world.follower._round(_NEVER)
    assert world.node.blocks is chains[-1]
    assert world.follower.status.state == "following", world.follower.status
    assert world.rows() == straight_rows(world, folder / "straight")
    world.table.close()


def test_a_chain_that_turned_round_while_we_were_down_is_followed(
    world: World, tmp_path: Path
) -> None:
    for _ in range(30):
        world.node.mine()
    world.follow()
    tip = world.seen.height
    world.table.close()
    world.node.blocks = branch(world, tip - 25, 40, salt=7)
    again = World(tmp_path / "index")
    again.node.blocks, again.node.spent = world.node.blocks, world.node.spent
    again.follow()
    assert again.seen.height == tip + 15
    assert again.rows() == straight_rows(again, tmp_path / "straight")


def test_a_second_turn_deeper_than_what_the_first_left_stops_before_it_takes_anything_back(
    world: World,
) -> None:
    for _ in range(160):
        world.node.mine()
    world.follow()
    tip = world.seen.height
    first = branch(world, tip - 100, 10, salt=1)  # leaves the undo of 44 and 10
    world.node.blocks = first
    world.follow()
    assert world.seen.height == tip - 90
    assert world.table.undo_depth() == 54
    before = world.rows()
    world.node.blocks = branch(world, tip - 145, 60, salt=2)  # 55 below the present tip
    world.follower._round(_NEVER)
    assert world.follower.status.state == "stopped"
    assert "can take back 54 blocks" in (world.follower.status.last_error or "")
    assert world.rows() == before
    world.node.blocks = first
    world.node.blocks = branch(world, tip - 144, 60, salt=2)
    world.follow()
    assert world.follower.status.state == "following"


def test_a_follower_that_stopped_stays_so_until_a_plan_is_carried_out(world: World) -> None:
    now = [1000.0]
    world.follower._clock = lambda: now[0]
    for _ in range(150):
        world.node.mine()
    world.follow()
    own, tip = list(world.node.blocks), world.seen.height
    world.node.blocks = branch(world, tip - 148, 160, salt=7)
    for _ in range(3):
        now[0] += 60
        world.follower._round(_NEVER)
        status = world.follower.status
        assert (status.state, status.stopped_at) == ("stopped", 1060.0)
        assert status.last_contact == now[0]
        assert status.caught_up
    world.node.blocks = own
    world.follow()
    status = world.follower.status
    assert (status.state, status.stopped_at, status.last_error) == ("following", None, None)


@pytest.mark.parametrize("shared", range(4, 12))
def test_the_last_block_that_two_chains_share_is_found_by_halving(shared: int) -> None:
    asked: list[int] = []

    def shares(height: int) -> bool:
        asked.append(height)
        return height <= shared

    assert last_shared(shares, 5, 11) == shared
    assert len(asked) <= 3
    assert all(5 <= height <= 11 for height in asked)


# --- reindexing


@pytest.fixture
def deep(world: World) -> World:
    """A long chain with a refused operation in it, whose table is closed."""
    world.mine(world.node.send(BOB, fakes.update("alice.id", world.consensus, b"x" * 20)))
    for _ in range(schema.UNDO_BLOCKS + 20):
        world.node.mine()
    world.register("bob.id", BOB)
    world.table.close()
    return world


def reopened(world: World, path: Path) -> World:
    again = World(path)
    again.node.blocks, again.node.spent = world.node.blocks, world.node.spent
    return again


def test_a_table_made_anew_from_its_own_rows_is_the_same_to_the_byte(
    deep: World, tmp_path: Path
) -> None:
    table = NameTable(tmp_path / "index", SANDBOX)
    tip = table.tip or 0
    rows = dict(table.scan(b""))
    table.close()
    rebuild(tmp_path / "index", SANDBOX, tip)
    table = NameTable(tmp_path / "index", SANDBOX)
    assert dict(table.scan(b"")) == rows  # refused operations and undo included
    table.close()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_table_cut_deeper_than_the_undo_is_followed_on_to_the_same_bytes(
    deep: World, tmp_path: Path
) -> None:
    rebuild(tmp_path / "index", SANDBOX, 7)
    again = reopened(deep, tmp_path / "index")
    assert again.seen.height == 7
    again.follow()
    assert again.rows() == straight_rows(again, tmp_path / "straight")


def test_a_table_cut_within_the_undo_is_taken_back(deep: World, tmp_path: Path) -> None:
    table = NameTable(tmp_path / "index", SANDBOX)
    last = (table.tip or 0) - 10
    take_back_to(table, last)
    assert table.tip == last
    table.close()
    again = reopened(deep, tmp_path / "index")
    again.follow()
    assert again.rows() == straight_rows(again, tmp_path / "straight")


def damage_row(path: Path, kind: bytes, damage: str) -> int:
    """Take away or shorten the row of a block that holds operations; the block's height."""
    table = NameTable(path, SANDBOX)
    height = next(h for h in range(1, 20) if table.get(schema.carried_key(h)))
    key = kind + schema.height_bytes(height)
    held = table.get(key) or b""
    # No call of the table writes such a row: it stands for a disk that lost it.
    table._level.write([(key, None if damage == "gone" else held[:-1])], True)
    table.close()
    return height


@pytest.mark.parametrize("damage", ["gone", "other"])
def test_a_damaged_table_is_not_made_anew_and_stays_as_it_is(
    deep: World, tmp_path: Path, damage: str
) -> None:
    height = damage_row(tmp_path / "index", schema.carried_key(5)[:1], damage)
    table = NameTable(tmp_path / "index", SANDBOX)
    rows = dict(table.scan(b""))
    table.close()
    with pytest.raises(RebuildFailed, match=f"--from {height}`"):
        rebuild(tmp_path / "index", SANDBOX, 100)
    table = NameTable(tmp_path / "index", SANDBOX)
    assert dict(table.scan(b"")) == rows
    table.close()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    rebuild(tmp_path / "index", SANDBOX, height - 1)  # what the message says


@pytest.mark.parametrize("damage", ["gone", "other"])
def test_a_table_that_lacks_a_block_is_not_opened(deep: World, tmp_path: Path, damage: str) -> None:
    height = damage_row(tmp_path / "index", schema.header_key(5)[:1], damage)
    with pytest.raises(TableDamaged, match=f"block {height} is missing"):
        rebuild(tmp_path / "index", SANDBOX, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def _table(path: Path, blocks: int) -> None:
    world = World(path)
    for _ in range(blocks):
        world.node.mine()
    world.follow()
    world.table.close()


@pytest.mark.parametrize(
    ("beside", "height"),
    [
        ({"index": 3}, 3),
        ({"index": 3, "index.building": 5}, 3),
        ({"index": 3, "index.complete": 5}, 5),
        ({"index.complete": 5, "index.old": 3}, 5),
        ({"index": 5, "index.old": 3}, 5),
        ({"index": 3, "index.complete": 5, "index.old": 1, "index.building": 2}, 5),
    ],
)
def test_whenever_a_swap_is_killed_a_whole_table_is_found(
    tmp_path: Path, beside: dict[str, int], height: int
) -> None:
    for name, blocks in beside.items():
        _table(tmp_path / name, blocks)
    mend(tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    table = NameTable(tmp_path / "index", SANDBOX)
    assert table.tip == height
    table.close()


def test_starting_over_leaves_nothing_of_the_table_and_all_beside_it(tmp_path: Path) -> None:
    _table(tmp_path / "index", 3)
    (tmp_path / "archive").mkdir()
    start_over(tmp_path / "index", SANDBOX)
    start_over(tmp_path / "index", SANDBOX)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_an_index_of_another_network_is_not_started_over(tmp_path: Path) -> None:
    """`reindex --from 30` of a sandbox, with mainnet meant, would be all below its first block."""
    _table(tmp_path / "index", 3)
    with pytest.raises(TableError, match="belongs to the network 'sandbox', not 'mainnet'"):
        start_over(tmp_path / "index", MAINNET)
    table = NameTable(tmp_path / "index", SANDBOX)
    assert table.tip == 3
    table.close()
