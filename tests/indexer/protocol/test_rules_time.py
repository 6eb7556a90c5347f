"""To the block: windows of consensus hashes, ages of preorders, expiry, grace, and new epochs.

Heights are told from the block R of a name's registration; the namespace has a lifetime of 100.
Protocol spec sections 1.5 to 1.12 and 8.1.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from indexer.networks import EPOCH_1, EPOCH_2, EPOCH_3, INFINITE_LIFETIME, MAINNET, Network
from indexer.protocol.flaws import Flaw
from indexer.protocol.operations import Operation, Transfer
from indexer.protocol.records import Phase, status_at
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    FIRST,
    PAYER,
    REVEALER,
    SECOND,
    SHORT_GRACE,
    Ledger,
    name_import,
    network,
    opened,
    ready,
    register,
    revoke,
)

LIVE, GONE = None, Flaw.NAME_NOT_REGISTERED

# --- consensus hashes: 24 blocks back is the oldest, the last block's the youngest


def _with_hash(ledger: Ledger, what: str, consensus_hash: bytes) -> Operation:
    if what == "preorder":
        return ledger.preorder("new.id", consensus_hash=consensus_hash)
    if what == "namespace preorder":
        return replace(ledger.namespace_preorder("new"), consensus_hash=consensus_hash)
    return replace(ledger.transfer("alice.id", BOB), consensus_hash=consensus_hash)


@pytest.mark.parametrize("what", ["preorder", "namespace preorder", "transfer"])
@pytest.mark.parametrize(
    ("age", "flaw"),
    [(1, None), (2, None), (24, None), (25, Flaw.CONSENSUS_HASH), (26, Flaw.CONSENSUS_HASH)],
)
def test_a_consensus_hash_is_good_for_24_blocks(what: str, age: int, flaw: Flaw | None) -> None:
    ledger = opened()
    ledger.register("alice.id")
    ledger.skip(30)
    wish = _with_hash(ledger, what, ledger.ch(ledger.height + 1 - age))
    sender = ALICE if isinstance(wish, Transfer) else PAYER
    assert ledger.judge((sender, wish)) is flaw


@pytest.mark.parametrize(
    ("age", "flaw"), [(1, None), (24, None), (25, Flaw.NO_NAME_MATCHES), (26, Flaw.NO_NAME_MATCHES)]
)
def test_an_update_is_good_for_24_blocks(age: int, flaw: Flaw | None) -> None:
    ledger = opened()
    ledger.register("alice.id")
    ledger.skip(30)
    wish = ledger.update("alice.id", at=ledger.height + 1 - age)
    assert ledger.judge((ALICE, wish)) is flaw


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_consensus_hash_from_the_future_is_refused(ahead: int) -> None:
    other = Ledger()
    other.skip(10)
    ledger = Ledger()
    ledger.skip(9 - ahead)
    wish = ledger.preorder("alice.id", consensus_hash=other.ch())
    assert ledger.judge((PAYER, wish)) is Flaw.CONSENSUS_HASH


def test_before_the_first_block_the_constants_of_the_network_are_good() -> None:
    ledger = Ledger(MAINNET)
    constant = bytes.fromhex("17ac43c1d8549c3181b200f1bf97eb7d")
    assert {ledger.ch(h) for h in range(373597, 373601)} == {constant}
    assert ledger.judge((PAYER, ledger.preorder("a.id", consensus_hash=constant))) is None
    ledger.skip(22)
    assert ledger.height == 373623
    assert ledger.judge((PAYER, ledger.preorder("b.id", consensus_hash=constant))) is None
    late = ledger.preorder("c.id", consensus_hash=constant)
    assert ledger.judge((PAYER, late)) is Flaw.CONSENSUS_HASH


# --- preorders


@pytest.mark.parametrize(("chain", "last"), [(FIRST, 100), (SECOND, 200)])
def test_a_preorder_is_usable_for_one_lifetime_of_its_namespace(chain: Network, last: int) -> None:
    for blocks, flaw in ((last, None), (last + 1, Flaw.PREORDER_EXPIRED)):
        ledger = opened(chain)
        ledger.accept((PAYER, ledger.preorder("alice.id")))
        ledger.leap(ledger.height + blocks)
        assert ledger.judge((PAYER, register("alice.id"))) is flaw


def test_a_preorder_older_than_a_day_is_good_before_epoch_4() -> None:
    ledger = opened(FIRST, lifetime=10_000)
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    ledger.leap(ledger.height + 5000)
    assert ledger.judge((PAYER, register("alice.id"))) is None


def test_a_preorder_of_the_block_in_which_the_namespace_opens_is_good() -> None:
    ledger = Ledger()
    ledger.reveal_namespace()
    ledger.accept((PAYER, ledger.preorder("alice.id")), (REVEALER, ready()))
    assert ledger.judge((PAYER, register("alice.id"))) is None


# --- expiry: what each operation meets at R + blocks


def _renews(ledger: Ledger) -> Flaw | None:
    return ledger.judge((ALICE, ledger.renew("alice.id")))


def _updates(ledger: Ledger) -> Flaw | None:
    return ledger.judge((ALICE, ledger.update("alice.id")))


def _transfers(ledger: Ledger) -> Flaw | None:
    return ledger.judge((ALICE, ledger.transfer("alice.id", BOB)))


def _revokes(ledger: Ledger) -> Flaw | None:
    return ledger.judge((ALICE, revoke("alice.id")))


def _is_registered_by_bob(ledger: Ledger) -> Flaw | None:
    wish = ledger.preorder("alice.id", BOB, BOB)
    _, flaw = ledger.block((BOB, wish), (BOB, register("alice.id", BOB)))
    return flaw


NO_MATCH, TAKEN, GRACE = Flaw.NO_NAME_MATCHES, Flaw.NAME_TAKEN, Flaw.NAME_IN_GRACE

WITHOUT_GRACE = [
    (_renews, {99: LIVE, 100: LIVE, 101: LIVE, 102: GONE}),
    (_updates, {100: LIVE, 101: LIVE, 102: NO_MATCH}),
    (_transfers, {100: LIVE, 101: LIVE, 102: GONE}),
    (_revokes, {99: LIVE, 100: LIVE, 101: GONE, 102: GONE}),
    (_is_registered_by_bob, {100: TAKEN, 101: TAKEN, 102: None}),
]
WITH_GRACE = [  # lifetime 2 * 100, grace 10
    (_renews, {199: LIVE, 200: LIVE, 209: LIVE, 210: LIVE, 211: LIVE, 212: GONE}),
    (_updates, {199: LIVE, 200: GRACE, 209: GRACE, 210: LIVE, 211: LIVE, 212: NO_MATCH}),
    (_transfers, {199: LIVE, 200: GRACE, 209: GRACE, 210: LIVE, 211: LIVE, 212: GONE}),
    (_revokes, {199: LIVE, 200: GRACE, 209: GRACE, 210: LIVE, 211: GONE, 212: GONE}),
    (_is_registered_by_bob, {200: TAKEN, 210: TAKEN, 211: TAKEN, 212: None}),
]
STEPS = [
    (chain, act, blocks, flaw)
    for chain, table in ((FIRST, WITHOUT_GRACE), (SHORT_GRACE, WITH_GRACE))
    for act, steps in table
    for blocks, flaw in steps.items()
]


@pytest.mark.parametrize(
    ("chain", "act", "blocks", "flaw"),
    STEPS,
    ids=[f"{act.__name__[1:]}-epoch{c.epochs[0].number}-R+{n}" for c, act, n, _ in STEPS],
)
def test_a_name_ends_to_the_block(
    chain: Network, act: Callable[[Ledger], Flaw | None], blocks: int, flaw: Flaw | None
) -> None:
    ledger = opened(chain)
    registered = ledger.register("alice.id")
    ledger.leap(registered + blocks)
    assert act(ledger) is flaw


@pytest.mark.parametrize("chain", [FIRST, SHORT_GRACE], ids=["no grace", "grace"])
def test_the_phase_of_a_name_agrees_with_what_the_rules_take(chain: Network) -> None:
    ledger = opened(chain)
    registered = ledger.register("alice.id")
    record, namespace = ledger.name("alice.id"), ledger.namespace()
    for height in range(registered, registered + 230):
        status = status_at(record, namespace, chain, height)
        live = record.live_at(height, namespace, chain)
        assert (status.phase is not Phase.EXPIRED) is live
        assert (status.gone_at is not None and height < status.gone_at) is live
        in_grace = record.in_grace_at(height, namespace, chain)
        assert (status.phase is Phase.GRACE) is in_grace


def test_an_imported_name_never_renewed_ends_one_block_earlier() -> None:
    for blocks, flaw in ((100, LIVE), (101, GONE)):
        ledger = Ledger()
        ledger.reveal_namespace()
        ledger.accept((REVEALER, name_import("alice.id")))
        ledger.skip(5)
        ledger.accept((REVEALER, ready()))
        ledger.leap(ledger.height + blocks)
        assert _renews(ledger) is flaw


def test_a_renewal_counts_from_its_own_block() -> None:
    ledger = opened()
    registered = ledger.register("alice.id")
    ledger.leap(registered + 50)
    ledger.accept((ALICE, ledger.renew("alice.id")))
    record = ledger.name("alice.id")
    assert (record.first_registered, record.last_renewed) == (registered, registered + 50)
    ledger.leap(registered + 151)
    assert _updates(ledger) is None


def test_a_name_of_infinite_lifetime_never_ends() -> None:
    ledger = opened(SHORT_GRACE, lifetime=INFINITE_LIFETIME)
    ledger.register("alice.id")
    ledger.leap(ledger.height + 2000)
    assert _updates(ledger) is None
    assert _is_registered_by_bob(ledger) is TAKEN
    assert _revokes(ledger) is None
    ledger.leap(ledger.height + 2000)
    assert _is_registered_by_bob(ledger) is Flaw.NAME_REVOKED


def test_a_revoked_name_can_be_had_when_it_lapses_and_not_before() -> None:
    for blocks, flaw in ((101, Flaw.NAME_REVOKED), (102, None)):
        ledger = opened()
        registered = ledger.register("alice.id")
        ledger.accept((ALICE, revoke("alice.id")))
        ledger.leap(registered + blocks)
        assert _is_registered_by_bob(ledger) is flaw


def test_whoever_registers_a_lapsed_name_gets_its_original_block_number() -> None:
    ledger = opened()
    registered = ledger.register("alice.id")
    ledger.accept((ALICE, ledger.update("alice.id", b"\7" * 20)))
    ledger.leap(registered + 102)
    assert _is_registered_by_bob(ledger) is None
    record = ledger.name("alice.id")
    assert record.block_number == registered - 1
    assert record.preorder_block_number == ledger.height
    assert record.first_registered == record.last_renewed == ledger.height
    assert (record.sender, record.value_hash) == (BOB.script, None)


# --- a new epoch begins


def _lapsed_when_an_epoch_begins(old, new, lapsed: int, begins: int) -> Ledger:
    """A name whose lifetime ended before the block R + ``begins``, the first of ``new``."""
    first = opened(network(old)).register("alice.id")
    ledger = opened(network(replace(old, last_block=first + begins - 1), new))
    assert ledger.register("alice.id") == first
    ledger.leap(first + lapsed)
    assert _renews(ledger) is GONE
    ledger.leap(first + begins)
    return ledger


@pytest.mark.parametrize(
    ("old", "new", "lapsed", "begins"),
    [(EPOCH_1, EPOCH_2, 102, 150), (EPOCH_2, EPOCH_3, 202, 250)],
    ids=["twice the lifetime", "grace"],
)
def test_a_name_that_had_lapsed_lives_again(old, new, lapsed: int, begins: int) -> None:
    ledger = _lapsed_when_an_epoch_begins(old, new, lapsed, begins)
    assert _renews(ledger) is GONE  # the last block processed lies in the old epoch
    assert _is_registered_by_bob(ledger) is TAKEN
    assert _renews(ledger) is LIVE


def test_a_name_that_had_lapsed_can_be_had_in_the_first_block_of_the_epoch() -> None:
    ledger = _lapsed_when_an_epoch_begins(EPOCH_1, EPOCH_2, 102, 150)
    assert _is_registered_by_bob(ledger) is None
    assert ledger.name("alice.id").sender == BOB.script


def test_a_preorder_too_old_in_epoch_1_is_usable_again_in_epoch_2() -> None:
    ledger = opened(network(replace(EPOCH_1, last_block=250), EPOCH_2))
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    ledger.leap(250)
    assert ledger.judge((PAYER, register("alice.id"))) is Flaw.PREORDER_EXPIRED
    assert ledger.judge((PAYER, register("alice.id"))) is Flaw.PREORDER_EXPIRED  # L is 250
    assert ledger.judge((PAYER, register("alice.id"))) is None
