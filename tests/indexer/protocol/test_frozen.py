"""Where the consensus is frozen: names go on, and no hash is called the recorded one."""

from dataclasses import replace
from pathlib import Path

import pytest

from indexer.networks import EPOCH_3, EPOCH_4, MAINNET, SANDBOX
from indexer.protocol.flaws import Flaw
from indexer.protocol.names import hash128, name_consensus_hash
from indexer.protocol.operations import Transfer, Update
from indexer.table.snapshot import Snapshot
from tests.indexer.following.test_follower import World
from tests.indexer.protocol.ledger import ALICE, BOB, FIRST_BLOCK, PAYER, Ledger, network, register

FREEZE = FIRST_BLOCK + 40
NETWORK = network(replace(EPOCH_3, last_block=FREEZE), EPOCH_4)
THEIRS = b"\x77" * 16  # a consensus hash that only the other ledger gives
VALUE = b"\x22" * 20


def frozen(blocks: int = 2) -> Ledger:
    """A ledger ``blocks`` beyond the freeze, in which alice and bob have a name each."""
    ledger = Ledger(NETWORK)
    ledger.open_namespace("id")
    ledger.register("alice.id", ALICE)
    ledger.register("bob.id", BOB)
    ledger.skip(FREEZE + blocks - ledger.height)
    return ledger


def seen(ledger: Ledger) -> Snapshot:
    return Snapshot(ledger.store, ledger.network)


def their_update(name: str) -> Update:
    return Update(name_consensus_hash=name_consensus_hash(name, THEIRS), value_hash=VALUE)


def test_the_freeze_of_mainnet_is_where_the_other_ledger_begins() -> None:
    assert [MAINNET.is_frozen(height) for height in (373601, 547921, 547922)] == [0, 0, 1]


def test_a_snapshot_tells_that_it_is_beyond_the_freeze() -> None:
    ledger = frozen(0)
    assert seen(ledger).consensus_frozen_at is None
    last = ledger.ch()
    ledger.skip()
    now = seen(ledger)
    assert now.consensus_frozen_at == FREEZE
    assert now.consensus_hash(FREEZE) == last
    assert now.height_of_consensus_hash(last) == FREEZE


def test_what_is_computed_beyond_the_freeze_is_never_given_as_recorded() -> None:
    ledger = frozen(3)
    now = seen(ledger)
    for height in range(FREEZE + 1, ledger.height + 1):
        computed = now.computed_consensus_hash(height)
        assert computed is not None
        assert now.consensus_hash(height) is None
        assert now.height_of_consensus_hash(computed) is None


def test_two_indexes_of_one_chain_agree_beyond_the_freeze_too() -> None:
    one, other = frozen(5), frozen(5)
    assert one.ch() == other.ch()


def test_right_after_the_freeze_every_hash_of_the_window_is_still_known() -> None:
    ledger = frozen(0)
    stranger = ledger.preorder("new.id", consensus_hash=THEIRS)
    assert ledger.judge((PAYER, stranger)) is Flaw.CONSENSUS_HASH


def test_a_hash_of_the_other_ledger_is_no_reason_to_refuse_beyond_the_freeze() -> None:
    ledger = frozen()
    ledger.accept((PAYER, ledger.preorder("new.id", consensus_hash=THEIRS)))
    ledger.accept((PAYER, register("new.id")))
    ledger.accept((PAYER, ledger.preorder("ours.id")))  # one of this index is none either
    transfer = Transfer(
        name_hash128=hash128("bob.id"),
        consensus_hash=b"\x78" * 16,
        keep_data=True,
        recipient=PAYER.script,
    )
    ledger.accept((BOB, transfer))
    assert ledger.name("bob.id").sender == PAYER.script


@pytest.mark.parametrize("age", [24, 25, 35])
def test_a_hash_that_is_known_and_old_is_as_stale_as_ever(age: int) -> None:
    ledger = frozen()
    stale = ledger.ch(ledger.height - age)
    preorder = ledger.preorder("new.id", consensus_hash=stale)
    assert ledger.judge((PAYER, preorder)) is Flaw.CONSENSUS_HASH


def test_the_constants_before_the_first_block_are_stale_too() -> None:
    constant = b"\x99" * 16
    ledger = Ledger(replace(NETWORK, genesis_consensus={FIRST_BLOCK - 1: constant}))
    ledger.open_namespace("id")
    ledger.skip(FREEZE + 2 - ledger.height)
    preorder = ledger.preorder("new.id", consensus_hash=constant)
    assert ledger.judge((PAYER, preorder)) is Flaw.CONSENSUS_HASH


def test_whoever_owns_one_name_means_it_by_an_update_that_nobody_can_read() -> None:
    ledger = frozen()
    ledger.accept((ALICE, their_update("alice.id")))
    record = ledger.name("alice.id")
    assert (record.value_hash, record.consensus_hash) == (VALUE, None)


def test_of_several_names_nothing_tells_which_an_unreadable_update_means() -> None:
    ledger = frozen()
    ledger.register("second.id", ALICE)
    ledger.skip()
    assert ledger.judge((ALICE, their_update("alice.id"))) is Flaw.OTHER_LEDGER
    assert ledger.name("alice.id").value_hash is None
    ledger.accept((ALICE, ledger.update("second.id", VALUE)))  # one that can be read still counts
    assert ledger.name("second.id").value_hash == VALUE


def test_whoever_owns_nothing_updates_nothing_beyond_the_freeze() -> None:
    assert frozen().judge((PAYER, their_update("alice.id"))) is Flaw.NO_NAME_MATCHES


def test_the_follower_says_so_once_when_it_passes_the_freeze(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    epoch = SANDBOX.epochs[0]
    epochs = (replace(epoch, last_block=3), replace(epoch, number=4, second_ledger=True))
    world = World(tmp_path, replace(SANDBOX, epochs=epochs))
    for _ in range(6):
        world.node.mine()
    world.follow()
    said = [r.getMessage() for r in caplog.records if "frozen at 3" in r.getMessage()]
    assert len(said) == 1
    assert world.seen.consensus_frozen_at == 3
    assert (world.seen.consensus_hash(3) is None, world.seen.consensus_hash(4)) == (False, None)


def test_before_the_freeze_an_unreadable_update_is_refused() -> None:
    ledger = frozen(-1)
    assert ledger.judge((ALICE, their_update("alice.id"))) is Flaw.NO_NAME_MATCHES
