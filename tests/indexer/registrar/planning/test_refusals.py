"""Where a wish cannot be had, a sentence says why before anything is paid."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from indexer.networks import BLOCKS_PER_YEAR
from indexer.protocol.flaws import Flaw
from indexer.protocol.operations import Register
from indexer.registrar.planning import wishes
from indexer.registrar.planning.plan import make_plan
from indexer.registrar.planning.refusals import PlanRefused, Reason
from indexer.registrar.planning.steps import (
    Parties,
    StepKind,
    dry_run,
    newest_consensus,
    next_view,
    operation_for,
)
from indexer.registrar.planning.wishes import Wish
from indexer.wallet.coins import DUST
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    FIRST,
    PAYER,
    REVEALER,
    SHORT_GRACE,
    THIRD,
    VAULT,
    Ledger,
    name_import,
    opened,
    register,
    revoke,
)
from tests.indexer.registrar.planning.world import (
    BY_ALICE,
    CHAINS,
    CHILD,
    FOO,
    ID,
    PAYS,
    RENEW,
    REVOKE,
    TO_BOB,
    UPDATE,
    World,
    coin,
    refused,
)


def _taken(world: World) -> None:
    world.ledger.register("foo.id", BOB)


def _graced(world: World) -> None:
    world.ledger.register("foo.id", BOB)
    world.ledger.skip(42)


def _revoked(world: World) -> None:
    world.ledger.register("foo.id", BOB)
    world.ledger.accept((BOB, revoke("foo.id")))


def _lapsed(world: World) -> None:
    world.ledger.register("foo.id", ALICE)
    world.ledger.skip(60)


def _full(world: World) -> None:
    world.ledger.register_many(24, ALICE)
    world.ledger.register("foo.id", ALICE)


def _bob_full(world: World) -> None:
    world.ledger.register_many(25, BOB)
    world.ledger.register("foo.id", ALICE)


def _own(world: World) -> None:
    world.ledger.register("foo.id", ALICE)


def _nothing(world: World) -> None:
    pass


Case = tuple[Callable[[World], None], Wish, Parties, Reason, str]
CASES: list[Case] = [
    (_taken, FOO, PAYS, Reason.NAME_TAKEN, f"belongs to {BOB.address(SHORT_GRACE)}; unless it is"),
    (_graced, FOO, PAYS, Reason.NAME_IN_GRACE, "has expired, but .* alone can renew it; if not"),
    (_revoked, FOO, PAYS, Reason.NAME_REVOKED, r"is revoked; it can be registered from block \d+"),
    (_nothing, replace(FOO, name="foo.nope"), PAYS, Reason.NAMESPACE_NOT_OPEN, "no namespace nope"),
    (_bob_full, FOO, PAYS, Reason.NAME_TAKEN, "belongs to"),
    (
        _bob_full,
        replace(FOO, name="x.id"),
        Parties(PAYER.script, BOB.script),
        Reason.OWNER_FULL,
        f"{BOB.address(SHORT_GRACE)} owns 25 names and can own no more",
    ),
    (
        _bob_full,
        replace(FOO, name="x.id"),
        Parties(BOB.script, ALICE.script),
        Reason.SENDER_FULL,
        f"{BOB.address(SHORT_GRACE)} owns 25 names, and cannot pay for another",
    ),
    (_bob_full, TO_BOB, BY_ALICE, Reason.OWNER_FULL, "can own no more"),
    (_full, RENEW, BY_ALICE, Reason.OWNER_FULL, "with that many can renew none of them"),
    (_graced, UPDATE, Parties(BOB.script), Reason.NAME_IN_GRACE, "can only be renewed; unless"),
    (_graced, TO_BOB, Parties(BOB.script), Reason.NAME_IN_GRACE, "can only be renewed"),
    (_graced, REVOKE, Parties(BOB.script), Reason.NAME_IN_GRACE, "can only be renewed"),
    (_revoked, UPDATE, Parties(BOB.script), Reason.NAME_REVOKED, "is revoked; it can be"),
    (_revoked, RENEW, Parties(BOB.script), Reason.NAME_REVOKED, "is revoked; it can be"),
    (_lapsed, RENEW, BY_ALICE, Reason.NAME_EXPIRED, r"lapsed at block \d+"),
    (_lapsed, UPDATE, BY_ALICE, Reason.NAME_EXPIRED, r"lapsed at block \d+"),
    (_nothing, REVOKE, BY_ALICE, Reason.NAME_NOT_REGISTERED, "foo.id is not registered"),
    (_nothing, UPDATE, BY_ALICE, Reason.NAME_NOT_REGISTERED, "foo.id is not registered"),
    (_taken, UPDATE, BY_ALICE, Reason.NOT_THE_OWNER, "would send this"),
    (_taken, TO_BOB, BY_ALICE, Reason.NOT_THE_OWNER, "would send this"),
    (_taken, TO_BOB, Parties(BOB.script), Reason.SENT_TO_ITSELF, "owns it already"),
    (_nothing, ID, Parties(PAYER.script), Reason.NAMESPACE_EXISTS, "exists already"),
    (
        _nothing,
        wishes.ReadyNamespace("id"),
        Parties(REVEALER.script),
        Reason.NAMESPACE_NOT_REVEALED,
        "is open or lapsed already",
    ),
    (
        _nothing,
        wishes.RevealNamespace("xy", REVEALER.script, 9, 1, 1, (0,) * 16, 1, 1),
        Parties(PAYER.script),
        Reason.PREORDER_MISSING,
        "has no preorder of the namespace xy",
    ),
    (_nothing, wishes.Announce(bytes(20)), BY_ALICE, Reason.NOT_AN_ANNOUNCER, "announce"),
    (
        _nothing,
        FOO,
        Parties(b"\0\x14" + bytes(20), ALICE.script),
        Reason.WRONG_SCRIPT,
        "neither p2pkh nor p2sh",
    ),
    (_nothing, replace(FOO, max_price=63_999), PAYS, Reason.PRICE_TOO_HIGH, "at most 63999 were"),
]


@pytest.mark.parametrize(
    ("before", "wish", "parties", "reason", "says"),
    CASES,
    ids=[f"{c[1].word} {c[0].__name__[1:]} {c[3].value}" for c in CASES],
)
def test_a_wish_that_cannot_be_had_is_refused_with_its_reason(
    before, wish, parties, reason, says
) -> None:
    world = World(opened(SHORT_GRACE, lifetime=20))
    before(world)
    told = refused(world, wish, parties)
    assert told.reason is reason
    with pytest.raises(PlanRefused, match=says):
        world.plan(wish, parties)


def test_importers_are_told_who_may_import() -> None:
    ledger = Ledger(THIRD)
    ledger.reveal_namespace()
    world = World(ledger)
    wish = wishes.ImportName("foo.id", BOB.script, bytes(20))
    by_child = Parties(CHILD.script)
    assert refused(world, wish, by_child).reason is Reason.NOT_AN_IMPORTER
    assert refused(world, wish, Parties(VAULT.script)).reason is Reason.NOT_AN_IMPORTER
    ledger.accept((REVEALER, name_import("bar.id")))
    assert world.plan(wish, by_child).given == 2 * DUST
    assert world.carry_out(wish, by_child) == [None]
    closed = refused(world, FOO, PAYS)
    assert closed.reason is Reason.NAMESPACE_NOT_OPEN
    assert "is not open yet" in str(closed)
    opening = wishes.ReadyNamespace("id")
    assert refused(world, opening, PAYS).reason is Reason.NOT_THE_REVEALER
    assert world.carry_out(opening, Parties(REVEALER.script)) == [None]


def test_too_many_small_coins_are_told() -> None:
    world = World(opened(THIRD))
    small = [coin(PAYER, 900, salt) for salt in range(1, 1_500)]
    told = refused(world, FOO, PAYS, *small, fee_rate=1)
    assert told.reason is Reason.TOO_MANY_COINS


def test_a_data_hash_that_comes_too_early_is_told_before_the_preorder_is_paid() -> None:
    world = World(opened(FIRST))
    assert refused(world, FOO, PAYS).reason is Reason.NOT_AT_THIS_HEIGHT
    p2sh = Parties(PAYER.script, VAULT.script)
    told = refused(world, wishes.RegisterName("foo.id"), p2sh)
    assert told.reason is Reason.NOT_AT_THIS_HEIGHT
    assert world.plan(wishes.RegisterName("foo.id"), PAYS).price == 6_400_000


# --- others, and time


def test_a_registration_that_waits_to_be_mined_is_told_before_the_price_is_paid() -> None:
    ledger = opened(THIRD)
    ledger.accept((BOB, ledger.preorder("foo.id", CAROL, BOB)))
    rival = replace(register("foo.id", CAROL), sender=BOB.script)
    world = World(ledger)
    told = refused(world, FOO, PAYS, rivals=[rival])
    assert told.reason is Reason.BEING_REGISTERED
    # What could not have an effect anyway is no rival, and neither is one for another name.
    for harmless in (
        replace(rival, sender=CAROL.script),
        replace(rival, name="bar.id"),
        replace(ledger.update("foo.id"), sender=BOB.script),
    ):
        assert world.plan(FOO, PAYS, rivals=[harmless]).price


def test_two_registrations_of_one_name_leave_it_to_nobody_as_foretold() -> None:
    ledger = opened(THIRD)
    world = World(ledger)
    theirs = Parties(BOB.script, CAROL.script)
    for parties in (PAYS, theirs):
        assert world.mine(world.compose(StepKind.PREORDER, FOO, parties)) == [None]
    rival = operation_for(StepKind.REGISTER, FOO, theirs, world.view)
    assert isinstance(rival, Register)
    assert dry_run(StepKind.REGISTER, FOO, PAYS, world.view, [rival]) is Flaw.COLLISION
    both = [world.compose(StepKind.REGISTER, FOO, parties) for parties in (PAYS, theirs)]
    assert world.mine(*both) == [Flaw.COLLISION, Flaw.COLLISION]
    assert dry_run(StepKind.REGISTER, FOO, PAYS, world.view) is None


def test_two_reveals_of_one_namespace_are_foretold_as_well() -> None:
    ledger = Ledger(THIRD)
    ledger.skip()
    world = World(ledger)
    terms = (9, 1, 1, (0,) * 16, 1, 1)
    wish = wishes.RevealNamespace("xy", REVEALER.script, *terms)
    for holder in (PAYER, BOB):
        pay = wishes.PreorderNamespace("xy", REVEALER.script)
        assert world.carry_out(pay, Parties(holder.script)) == [None]
    kind = StepKind.NAMESPACE_REVEAL
    rival = operation_for(kind, wish, Parties(BOB.script), world.view)
    told = refused(world, wish, Parties(PAYER.script), rivals=[rival])
    assert told.reason is Reason.BEING_REGISTERED


def test_a_preorder_that_grew_too_old_is_told_with_the_way_out() -> None:
    ledger = Ledger(CHAINS["freezing"])
    ledger.open_namespace("id", lifetime=5_000)
    world = World(ledger)
    assert world.mine(world.compose(StepKind.PREORDER, FOO, PAYS)) == [None]
    ledger.skip(143)
    assert world.plan(FOO, PAYS).price == 0
    ledger.skip()
    told = refused(world, FOO, PAYS)
    assert told.reason is Reason.PREORDER_UNUSABLE
    assert "another address for the owner" in told.hint
    assert world.plan(FOO, Parties(PAYER.script, BOB.script)).price > 0


def test_who_is_paid_must_not_change_between_preorder_and_registration() -> None:
    ledger = opened(THIRD, version=2, lifetime=200_000)
    ledger.register_many(0)
    boundary = ledger.namespace().reveal_block + BLOCKS_PER_YEAR
    world = World(ledger)
    assert world.carry_out(FOO, PAYS) == [None, None]
    bar = wishes.RegisterName("bar.id")
    cases = [(boundary - 144, None, bar), (boundary - 143, Reason.PAYEE_CHANGES_SOON, bar)]
    renew = wishes.RenewName("foo.id")
    cases += [(boundary - 24, None, renew), (boundary - 23, Reason.PAYEE_CHANGES_SOON, renew)]
    cases += [(boundary + 1, None, renew), (boundary, None, bar)]
    for height, reason, wish in sorted(cases, key=lambda case: case[0]):
        if height > ledger.height + 1:
            ledger.leap(height)
        parties = PAYS if wish is bar else BY_ALICE
        if reason is None:
            assert world.plan(wish, parties).total
        else:
            told = refused(world, wish, parties)
            assert told.reason is reason
            assert f"wait until block {boundary + 1}" in told.hint


def test_an_index_that_lags_too_far_makes_no_plan() -> None:
    ledger = opened(THIRD)
    ledger.skip(30)
    world = World(ledger)
    for lag, usable in ((0, True), (20, True), (23, True), (24, False), (500, False)):
        view = next_view(ledger.store, THIRD, ledger.height, ledger.height + lag)
        newest = newest_consensus(view)
        terms: dict[str, Any] = {"fee_rate": 1, "tip": world.tip, "coins": [coin(PAYER)]}
        if usable:
            assert newest == (ledger.height, ledger.ch())
            warned = any("lags behind" in w for w in make_plan(FOO, PAYS, view, **terms).warnings)
            assert warned == (lag > 14)
        else:
            assert newest is None
            with pytest.raises(PlanRefused, match="the index knows no block recent enough") as told:
                make_plan(FOO, PAYS, view, **terms)
            assert told.value.reason is Reason.INDEX_BEHIND


def test_an_operation_can_be_mined_as_long_as_its_consensus_hash_lasts() -> None:
    for lag, flaw in ((23, None), (24, Flaw.CONSENSUS_HASH)):
        ledger = opened(THIRD)
        ledger.register("foo.id")
        world = World(ledger)
        named = newest_consensus(world.view)
        assert named is not None
        late = world.compose(StepKind.TRANSFER, TO_BOB, BY_ALICE)
        ledger.skip(lag)
        assert ledger.height + 1 == named[0] + 1 + lag
        assert world.mine(late) == [flaw]


def test_an_index_ahead_of_its_node_is_asked_as_of_its_own_next_block() -> None:
    ledger = opened(THIRD)
    assert next_view(ledger.store, THIRD, ledger.height, 5).height == ledger.height + 1
