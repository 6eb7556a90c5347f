"""No chain is followed that shows less work than its rules ask for, whatever the node says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.bitcoin.transactions import hash_hex
from indexer.bitcoin.work import PERIOD
from indexer.following.follower import Follower
from indexer.following.reading import BadBlock
from indexer.networks import MAINNET, SANDBOX, Network
from indexer.table.table import NameTable
from tests.indexer.fakes import FakeNode

EASY = 0x207FFFFF
CHAIN = replace(SANDBOX, node_chain="main", genesis_hash="", retargets=True, first_block=PERIOD - 6)
"""A toy of the main chain: its rules, but next to no work."""
HARDER = 0x201FFFFF
"""What follows where a period took a quarter of its time or less, as the fake node's do."""


class Followed:
    def __init__(self, path: Path, network: Network = CHAIN) -> None:
        self.node = FakeNode(network)
        self.table = NameTable(path / "index", network)
        self.follower = Follower(self.node, self.table, network, confirmations=1)

    def mine(self, blocks: int, bits: int = EASY, salt: int = 0) -> None:
        self.node.bits = bits
        for _ in range(blocks):
            self.node.mine(salt=salt)

    def follow(self) -> int:
        while self.follower.step():
            pass
        return self.table.snapshot().height


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    found = Followed(tmp_path)
    found.mine(PERIOD - 1)
    # From block 0, of which the fake has no bytes, the length of the first period is reckoned.
    found.node.blocks[0] = (found.node.blocks[0][0], found.node.blocks[1][1])
    yield found
    found.table.close()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("shows_headers", [True, False])
def test_a_chain_that_keeps_its_rules_is_followed_over_a_change_of_its_target(
    followed: Followed, at_once: bool, shows_headers: bool
) -> None:
    if not shows_headers:
        followed.node.headers = lambda hashes: None  # type: ignore[assignment, method-assign]
    if not at_once:
        followed.follow()
    followed.mine(50, HARDER)
    assert followed.follow() == PERIOD + 49


@pytest.mark.parametrize("blocks", [1, 60])
def test_invented_blocks_that_keep_the_old_target_are_refused(
    followed: Followed, blocks: int
) -> None:
    assert followed.follow() == PERIOD - 1
    followed.mine(blocks)
    with pytest.raises(BadBlock, match="bits are 207fffff, where the chain asks for 201fffff"):
        followed.follow()
    assert followed.table.snapshot().height == PERIOD - 1
    # The same node with the real chain is followed at once.
    followed.node.invalidate(PERIOD)
    followed.mine(blocks, HARDER)
    assert followed.follow() == PERIOD + blocks - 1


def test_a_rival_branch_without_its_work_costs_no_block_of_ours(followed: Followed) -> None:
    followed.mine(3, HARDER)
    before = followed.follow()
    followed.node.invalidate(PERIOD - 1)
    followed.mine(8, EASY, salt=1)
    with pytest.raises(BadBlock, match="where the chain asks for"):
        followed.follow()
    assert followed.follower.status.height == before
    assert followed.table.tip == before
    followed.node.invalidate(PERIOD - 1)
    followed.mine(1, EASY, salt=2)
    followed.mine(7, HARDER, salt=2)
    assert followed.follow() == PERIOD + 6


@pytest.mark.parametrize("blocks", [3, 60])
def test_less_work_than_the_limit_of_the_chain_is_refused(tmp_path: Path, blocks: int) -> None:
    network = replace(CHAIN, first_block=2, easiest_bits=MAINNET.easiest_bits)
    followed = Followed(tmp_path, network)
    followed.mine(1 + blocks)
    with pytest.raises(BadBlock, match="asks for less work"):
        followed.follow()
    assert followed.table.tip is None


def test_a_chain_without_a_block_that_is_known_is_not_this_one(tmp_path: Path) -> None:
    real = FakeNode(CHAIN)
    for _ in range(30):
        real.mine()
    network = replace(
        SANDBOX,
        node_chain="main",
        genesis_hash="",
        known_blocks={20: hash_hex(real.blocks[20][0])},
    )
    followed = Followed(tmp_path, network)
    # A chain that ends below it is not all there is: nothing follows from what it lacks.
    followed.node.blocks = real.blocks[:15]
    assert followed.follow() == 14
    status = followed.follower.status
    assert (status.state, status.target, status.caught_up) == ("catching up", 20, False)
    followed.mine(15, salt=7)
    with pytest.raises(BadBlock, match="block there is known to be"):
        followed.follow()
    assert followed.table.tip == 19
    followed.node.blocks = real.blocks
    assert followed.follow() == 30
    assert followed.follower.status.caught_up
