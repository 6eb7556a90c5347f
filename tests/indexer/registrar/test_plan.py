"""A plan is shown with everything it costs, or there is none and a sentence says why."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.flaws import Flaw
from indexer.networks import BLOCKS_PER_YEAR, INFINITE_LIFETIME
from indexer.operations import Register
from indexer.registrar import wishes
from indexer.registrar.coins import DUST, Coin
from indexer.registrar.plan import Plan, make_plan
from indexer.registrar.plan_text import amount, plan_json, plan_lines
from indexer.registrar.refusals import PlanRefused, Reason
from indexer.registrar.steps import (
    Parties,
    StepKind,
    dry_run,
    newest_consensus,
    next_view,
    operation_for,
    steps_of,
)
from indexer.registrar.wishes import Wish
from indexer.transactions import p2pkh_script
from tests.indexer.ledger import (
    ALICE,
    BOB,
    CAROL,
    FIRST,
    FOURTH,
    PAYER,
    REVEALER,
    SHORT_GRACE,
    THIRD,
    VAULT,
    Ledger,
    name_import,
    opened,
    ready,
    register,
    revoke,
)
from tests.indexer.registrar.world import CHAINS, CHILD, World, coin

FOO = wishes.RegisterName("foo.id", bytes(20))
PAYS = Parties(PAYER.script, ALICE.script)
BY_ALICE = Parties(ALICE.script)


def refused(world: World, wish: Wish, parties: Parties, *coins: Coin, **how: Any) -> PlanRefused:
    with pytest.raises(PlanRefused) as refusal:
        world.plan(wish, parties, *coins, **how)
    told = refusal.value
    assert not told.paid
    assert told.hint
    assert not str(told).endswith(".")
    assert told.as_json()["code"] == told.reason.value
    return told


# --- what a plan says


def test_a_registration_is_planned_step_by_step() -> None:
    world = World(opened(THIRD))
    plan = world.plan(FOO, PAYS, has_data=True)
    assert [step.kind for step in plan.steps] == [
        StepKind.PREORDER,
        StepKind.REGISTER,
        StepKind.PUBLISH,
        StepKind.VERIFY,
    ]
    preorder, registration = plan.steps[:2]
    assert [(o.satoshis, o.is_price) for o in preorder.outputs][2] == (640_000, True)
    assert registration.outputs[1].satoshis == DUST
    assert registration.outputs[1].comes_back
    assert (plan.price, plan.given) == (640_000, 0)
    assert plan.total == 640_000 + preorder.fee + registration.fee
    assert preorder.needs == 640_000 + preorder.fee
    assert registration.needs == DUST + registration.fee
    assert [s.kind for s in world.plan(FOO, PAYS).steps][-1] is StepKind.VERIFY


def test_a_plan_in_words_names_every_satoshi() -> None:
    world = World(opened(THIRD, lifetime=52_595))
    world.ledger.skip(3)
    plan = world.plan(wishes.RegisterName("foo.id"), Parties(PAYER.script), has_data=False)
    text = "\n".join(plan_lines(plan, THIRD))
    assert text.startswith("To register foo.id for a fresh address:")
    for step in plan.steps:
        for output in step.outputs:
            assert amount(output.satoshis) in text or not output.satoshis
    assert f"It costs {amount(plan.total)}: 640,000 satoshis price" in text
    assert f"foo.id expires at {plan.until}; it can be renewed until {plan.gone}." in text
    assert "about 21 September 2028" in text
    assert "holds no data until it is updated" in text
    assert p2pkh_script(b"\xff" * 20).hex() not in text


def test_a_plan_in_json_says_the_same_as_in_words() -> None:
    world = World(opened(THIRD))
    plan = world.plan(FOO, PAYS)
    document = plan_json(plan, THIRD)
    steps = document["steps"]
    assert isinstance(steps, list)
    assert [step["step"] for step in steps] == ["preorder", "register", "verify"]
    paid = sum(o["satoshis"] for s in steps for o in s["outputs"] if not o["comes_back"])
    assert paid + sum(step["fee"] for step in steps) == document["total"] == plan.total
    assert document["owner"] == ALICE.address(THIRD)
    assert document["until"]["block"] == plan.until.height  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("satoshis", "text"),
    [
        (1, "1 satoshi"),
        (5_500, "5,500 satoshis"),
        (40_000_000, "40,000,000 satoshis (0.4 BTC)"),
        (123_456_789, "123,456,789 satoshis (1.23456789 BTC)"),
        (4_000_000_000, "4,000,000,000 satoshis (40 BTC)"),
    ],
)
def test_amounts_are_not_rounded(satoshis, text) -> None:
    assert amount(satoshis) == text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(300, 700_000), min_size=0, max_size=6),
    st.floats(1, 60),
    st.sampled_from([0, 20_000, 700_000, 10**9]),
)
def test_a_plan_is_paid_for_to_the_satoshi_or_says_what_is_missing(values, rate, spare) -> None:
    world = World(opened(THIRD))
    coins = [coin(PAYER, value, salt) for salt, value in enumerate(values, start=300)]
    terms: dict[str, Any] = {"fee_rate": rate, "tip": world.tip, "view": world.view}

    def planned(*more: Coin, spare: int = spare) -> Plan:
        return make_plan(FOO, PAYS, coins=[*coins, *more], spare=spare, **terms)

    try:
        plan = planned()
    except PlanRefused as refusal:
        missing = refusal.details["missing"]
        reason = refusal.reason
    else:
        funded = plan.steps[0].kind is StepKind.FUND
        moved = plan.steps[0].outputs[0].satoshis if funded else 0
        assert moved + (plan.steps[0].fee if funded else 0) <= spare or not funded
        assert plan.price == 640_000
        assert plan.total == plan.price + sum(step.fee for step in plan.steps)
        return
    assert reason is Reason.NOT_ENOUGH_MONEY
    assert isinstance(missing, int)
    assert planned(coin(PAYER, missing, 77), spare=0).steps[0].kind is StepKind.PREORDER
    if missing > DUST:
        with pytest.raises(PlanRefused):
            planned(coin(PAYER, missing - 1, 77), spare=0)


def test_coins_are_moved_first_where_the_sender_has_too_few() -> None:
    world = World(opened(THIRD))
    plan = world.plan(FOO, PAYS, coin(PAYER, 20_000), spare=10_000_000)
    fund, preorder, registration, _ = plan.steps
    moved = fund.outputs[0]
    assert (fund.kind, moved.address) == (StepKind.FUND, PAYER.address(THIRD))
    fees = preorder.fee + registration.fee
    # As much again as the miners get, so that their fees can be raised.
    assert moved.satoshis + 20_000 >= 640_000 + DUST + 1.9 * fees
    assert plan.miners_fee == fees + fund.fee
    assert plan.total == 640_000 + plan.miners_fee
    exact = refused(world, FOO, PAYS, coin(PAYER, 20_000), spare=100)
    assert exact.details["address"] == PAYER.address(THIRD)
    assert PAYER.address(THIRD) in exact.hint
    assert str(exact.details["missing"]) in exact.hint


def test_the_owner_s_coin_comes_back_where_somebody_else_pays() -> None:
    ledger = opened(THIRD)
    ledger.register("foo.id")
    world = World(ledger)
    parties = Parties(ALICE.script, funder=PAYER.script)
    purse = coin(PAYER, 1_000_000, 8)
    plan = world.plan(wishes.RenewName("foo.id"), parties, coin(ALICE, DUST), purse)
    assert [step.kind for step in plan.steps] == [StepKind.RENEW, StepKind.VERIFY]
    assert plan.steps[0].outputs[2].satoshis == DUST
    assert plan.comes_back == 1_000_000 + DUST - plan.total
    assert plan.price == 640_000


def test_what_others_get_is_no_change() -> None:
    ledger = opened(THIRD)
    ledger.register("foo.id")
    plan = World(ledger).plan(wishes.TransferName("foo.id", BOB.script), BY_ALICE)
    assert (plan.given, plan.price) == (DUST, 0)
    ledger = Ledger(THIRD)
    ledger.reveal_namespace()
    wish = wishes.ImportName("foo.id", BOB.script, bytes(20))
    plan = World(ledger).plan(wish, Parties(REVEALER.script))
    assert plan.given == 2 * DUST


def test_a_preorder_that_stands_is_not_paid_for_again() -> None:
    world = World(opened(THIRD))
    assert world.mine(world.compose(StepKind.PREORDER, FOO, PAYS)) == [None]
    plan = world.plan(replace(FOO, max_price=1), PAYS)
    assert [step.kind for step in plan.steps] == [StepKind.REGISTER, StepKind.VERIFY]
    assert (plan.price, plan.paid_already) == (0, 640_000)
    assert "A preorder has paid 640,000 satoshis" in "\n".join(plan_lines(plan, THIRD))
    assert world.mine(world.compose(StepKind.REGISTER, FOO, PAYS)) == [None]
    other = Parties(PAYER.script, BOB.script)
    assert refused(world, FOO, other).reason is Reason.NAME_TAKEN


# --- why there is none


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


TO_BOB = wishes.TransferName("foo.id", BOB.script)
UPDATE = wishes.UpdateName("foo.id", b"\7" * 20)
RENEW = wishes.RenewName("foo.id")
REVOKE = wishes.RevokeName("foo.id")
ID = wishes.PreorderNamespace("id", REVEALER.script)
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


def test_a_fee_above_its_bound_is_refused_before_anything_is_paid() -> None:
    world = World(opened(THIRD))
    told = refused(world, FOO, PAYS, fee_rate=500, max_fee=20_000)
    assert told.reason is Reason.FEE_TOO_HIGH
    assert told.details["max_fee"] == 20_000
    told = refused(world, FOO, PAYS, coin(PAYER, 600), fee_rate=500, max_fee=20_000, spare=10**9)
    assert told.reason is Reason.FEE_TOO_HIGH


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
            assert world.plan(wish, parties).price
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


# --- what is to be known first


def warned(world: World, wish: Wish, parties: Parties, words: str) -> bool:
    return any(words in warning for warning in world.plan(wish, parties).warnings)


def test_an_owner_of_25_names_is_warned_of_before_it_is_one() -> None:
    ledger = opened(THIRD)
    ledger.register("foo.id", BOB)
    ledger.register_many(23, ALICE)
    world = World(ledger)
    to_alice = wishes.TransferName("foo.id", ALICE.script)
    new = wishes.RegisterName("new.id")
    says = "would own 25 names, and could then renew none"
    assert not warned(world, to_alice, Parties(BOB.script), says)
    assert not warned(world, new, PAYS, says)
    ledger.register("one.id", ALICE)
    assert warned(world, to_alice, Parties(BOB.script), says)
    assert warned(world, new, PAYS, says)
    assert world.carry_out(to_alice, Parties(BOB.script)) == [None]
    assert world.carry_out(RENEW, BY_ALICE) == [Flaw.QUOTA]


def test_imports_may_exceed_what_an_owner_can_update_and_say_so() -> None:
    ledger = Ledger(THIRD)
    ledger.reveal_namespace()
    ledger.accept(*((REVEALER, name_import(f"n{n}.id")) for n in range(25)))
    wish = wishes.ImportName("foo.id", ALICE.script, bytes(20))
    world = World(ledger)
    assert warned(world, wish, Parties(REVEALER.script), "26 names, and could then neither renew")
    again = replace(wish, name="n3.id")
    assert warned(world, again, Parties(REVEALER.script), "would own 25 names")
    assert warned(world, wish, Parties(REVEALER.script), "if its namespace is not opened before")
    ledger.accept((REVEALER, name_import("foo.id")), (REVEALER, ready()))
    told = refused(world, UPDATE, BY_ALICE)
    assert "owns more than 25 names" in str(told)


def test_each_wish_comes_with_what_cannot_be_taken_back() -> None:
    ledger = opened(THIRD, lifetime=100)
    ledger.register("foo.id")
    world = World(ledger)
    assert warned(world, TO_BOB, BY_ALICE, "only the new owner can give foo.id back")
    dropping = replace(TO_BOB, keep_data=False)
    assert warned(world, dropping, BY_ALICE, "holds no data until its new owner")
    nobody = replace(TO_BOB, recipient=THIRD.burn_script)
    assert warned(world, nobody, BY_ALICE, "would be lost")
    assert warned(world, REVOKE, BY_ALICE, "nothing takes a revocation back")
    assert warned(world, RENEW, BY_ALICE, "the 199 blocks that are left are not added")
    assert warned(world, replace(FOO, name="bar.id"), PAYS, "before you do, it is lost")
    assert warned(world, wishes.RegisterName("was2bme.id"), PAYS, "546 satoshis are paid")
    assert warned(world, wishes.PreorderNamespace("xy", BOB.script), PAYS, "the price is lost")
    ledger.accept((ALICE, ledger.update("foo.id", b"\7" * 20)))
    assert warned(world, UPDATE, BY_ALICE, "holds this very data already")
    assert not warned(world, UPDATE, BY_ALICE, "renew it first")
    ledger.skip(175)
    assert warned(world, UPDATE, BY_ALICE, "renew it first")
    endless = opened(THIRD, lifetime=INFINITE_LIFETIME)
    endless.register("foo.id")
    assert warned(World(endless), RENEW, BY_ALICE, "a renewal buys nothing")
    assert "can never be registered again" in "\n".join(
        plan_lines(World(endless).plan(REVOKE, BY_ALICE), THIRD)
    )


def test_after_the_freeze_every_plan_says_what_cannot_be_known() -> None:
    ledger = Ledger(CHAINS["freezing"])
    ledger.open_namespace("id", lifetime=5_000)
    says = "from block 113 on, payments in another ledger decide too"
    world = World(ledger)
    assert not warned(world, FOO, PAYS, says)
    ledger.skip(10)
    assert warned(world, FOO, PAYS, says)
    assert world.carry_out(FOO, PAYS) == [None, None]
    with_data = wishes.RenewName("foo.id", b"\7" * 20)
    assert world.carry_out(with_data, BY_ALICE) == [None]
    assert ledger.name("foo.id").value_hash == b"\7" * 20
    frozen = World(Ledger(FOURTH))
    told = refused(frozen, ID, Parties(PAYER.script))
    assert told.reason is Reason.OTHER_LEDGER


@pytest.mark.parametrize("chain", sorted(set(CHAINS) - {"frozen"}))
def test_the_whole_life_of_a_namespace_and_a_name(chain) -> None:
    """Every wish, planned and carried out, one after the other."""
    ledger = Ledger(CHAINS[chain])
    ledger.skip()
    world = World(ledger)
    data = b"\7" * 20
    early = not ledger.network.epochs[0].value_hash_at_registration
    terms = (4_000, 4, 4, (6, 5, 4, 3, 2, 1) + (0,) * 10, 10, 10)
    renewed = wishes.RenewName("foo.id", None if early else data)
    life: list[tuple[Wish, Parties]] = [
        (wishes.PreorderNamespace("id", REVEALER.script), Parties(PAYER.script)),
        (wishes.RevealNamespace("id", REVEALER.script, *terms), Parties(PAYER.script)),
        (wishes.ImportName("crier.id", CAROL.script, data), Parties(REVEALER.script)),
        (wishes.ImportName("other.id", CAROL.script, data), Parties(CHILD.script)),
        (wishes.ReadyNamespace("id"), Parties(REVEALER.script)),
        (wishes.RegisterName("foo.id", None if early else data), PAYS),
        (UPDATE, BY_ALICE),
        (TO_BOB, BY_ALICE),
        (replace(TO_BOB, recipient=ALICE.script, keep_data=False), Parties(BOB.script)),
        (renewed, BY_ALICE),
        (REVOKE, BY_ALICE),
        (wishes.Announce(data), Parties(CAROL.script)),
    ]
    for wish, parties in life:
        plan = world.plan(wish, parties)
        kinds = [step.kind for step in plan.steps]
        assert kinds == list(steps_of(wish))
        assert set(world.carry_out(wish, parties)) == {None}
        if plan.until is not None and isinstance(wish, wishes.RegisterName):
            assert plan.until.height == ledger.name("foo.id").last_renewed + 4_000 * (
                ledger.network.epoch(ledger.height).lifetime_multiplier
            ) + (0 if ledger.network.epoch(ledger.height).grace_period else 1)
    assert ledger.name("foo.id").revoked


def test_a_step_that_a_wish_does_not_have_is_not_made_up() -> None:
    world = World(opened(THIRD))
    with pytest.raises(ValueError, match="has no step revoke"):
        operation_for(StepKind.REVOKE, FOO, PAYS, world.view)
    with pytest.raises(ValueError, match="who will own it"):
        operation_for(StepKind.REGISTER, FOO, BY_ALICE, world.view)


def test_looking_ahead_changes_nothing() -> None:
    ledger = opened(THIRD)
    view = World(ledger).view
    before = dict(ledger.store.rows)
    make_plan(FOO, PAYS, view, fee_rate=1, coins=[coin(PAYER)], tip=World(ledger).tip)
    assert view.writes == {}
    assert ledger.store.rows == before
