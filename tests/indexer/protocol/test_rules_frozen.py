"""Names after the last consensus hash that Bitcoin alone can give: what is trusted, what is not.

From epoch 4 on an operation may name a consensus hash that only the other ledger's nodes know. It
is believed where this index cannot know better, and refused where it can. Spec section 10.
"""

from dataclasses import replace

import pytest

from indexer.networks import EPOCH_3, EPOCH_4
from indexer.protocol.flaws import Flaw
from indexer.protocol.operations import Preorder, Transfer, Update
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    PAYER,
    Ledger,
    network,
    opened,
    register,
    revoke,
)

FREEZES_AT = 130
CHAIN = network(replace(EPOCH_3, last_block=FREEZES_AT), EPOCH_4)
UNKNOWN = b"\x5a" * 16


def frozen(*names: str) -> Ledger:
    """A table with ALICE's names; the next block is the second of epoch 4."""
    ledger = opened(CHAIN)
    for name in names:
        ledger.register(name)
    ledger.leap(FREEZES_AT + 1)
    ledger.skip()
    return ledger


def _with_hash(ledger: Ledger, kind: type, consensus_hash: bytes) -> Preorder | Transfer:
    if kind is Preorder:
        return ledger.preorder("new.id", BOB, ALICE, consensus_hash=consensus_hash)
    return replace(ledger.transfer("alice.id", BOB), consensus_hash=consensus_hash)


def test_the_chain_freezes_where_epoch_4_begins() -> None:
    assert CHAIN.frozen_at == FREEZES_AT
    assert not CHAIN.is_frozen(FREEZES_AT)
    assert CHAIN.is_frozen(FREEZES_AT + 1)


@pytest.mark.parametrize("kind", [Preorder, Transfer])
def test_an_unknown_consensus_hash_is_believed_once_none_can_be_known(kind: type) -> None:
    for height in (FREEZES_AT, FREEZES_AT + 1):
        ledger = opened(CHAIN)
        ledger.register("alice.id")
        ledger.leap(height)
        wish = _with_hash(ledger, kind, UNKNOWN)
        assert ledger.judge((ALICE, wish)) is Flaw.CONSENSUS_HASH
    ledger = frozen("alice.id")
    assert ledger.judge((ALICE, _with_hash(ledger, kind, UNKNOWN))) is None


@pytest.mark.parametrize("kind", [Preorder, Transfer])
def test_a_consensus_hash_known_to_be_old_is_refused_for_ever(kind: type) -> None:
    ledger = opened(CHAIN)
    ledger.register("alice.id")
    old = ledger.ch()
    ledger.leap(FREEZES_AT + 60)
    assert ledger.judge((ALICE, _with_hash(ledger, kind, old))) is Flaw.CONSENSUS_HASH


def test_an_update_with_an_unknown_hash_means_the_only_name_of_its_sender() -> None:
    wish = Update(name_consensus_hash=UNKNOWN, value_hash=b"\7" * 20)
    ledger = frozen("alice.id")
    assert ledger.judge((BOB, wish)) is Flaw.NO_NAME_MATCHES
    assert ledger.judge((ALICE, wish)) is None
    assert ledger.name("alice.id").value_hash == b"\7" * 20


def test_an_update_with_an_unknown_hash_is_not_guessed_among_several_names() -> None:
    wish = Update(name_consensus_hash=UNKNOWN, value_hash=b"\7" * 20)
    ledger = frozen("alice.id", "lucia.id")
    assert ledger.judge((ALICE, wish)) is Flaw.OTHER_LEDGER
    known = ledger.update("lucia.id", b"\7" * 20)
    assert ledger.judge((ALICE, known)) is None
    assert ledger.name("lucia.id").value_hash == b"\7" * 20
    ledger.accept((ALICE, revoke("lucia.id")))
    assert ledger.judge((ALICE, wish)) is None
    assert ledger.name("alice.id").value_hash == b"\7" * 20


def test_before_the_freeze_a_sender_of_one_name_must_mean_it() -> None:
    wish = Update(name_consensus_hash=UNKNOWN, value_hash=b"\7" * 20)
    ledger = opened(CHAIN)
    ledger.register("alice.id")
    ledger.leap(FREEZES_AT + 1)
    assert ledger.judge((ALICE, wish)) is Flaw.NO_NAME_MATCHES


def test_names_go_on_being_registered() -> None:
    ledger = frozen()
    ledger.accept((PAYER, ledger.preorder("late.id", consensus_hash=UNKNOWN)))
    ledger.accept((PAYER, register("late.id", value_hash=b"\1" * 20)))
    assert ledger.name("late.id").sender == ALICE.script
