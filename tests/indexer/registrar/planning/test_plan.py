"""A plan says everything that a wish takes, to the satoshi."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.transactions import p2pkh_script
from indexer.registrar.planning import wishes
from indexer.registrar.planning.plan import Plan, make_plan
from indexer.registrar.planning.plan_text import amount, plan_json, plan_lines
from indexer.registrar.planning.purse import Purse
from indexer.registrar.planning.refusals import PlanRefused, Reason
from indexer.registrar.planning.steps import Parties, StepKind, operation_for, steps_of
from indexer.registrar.planning.wishes import Wish
from indexer.wallet.coins import DUST, Coin, spending_size
from tests.indexer.protocol.ledger import ALICE, BOB, CAROL, PAYER, REVEALER, THIRD, Ledger, opened
from tests.indexer.registrar.planning.world import (
    BY_ALICE,
    CHAINS,
    CHILD,
    FOO,
    PAYS,
    REVOKE,
    TO_BOB,
    UPDATE,
    World,
    coin,
    refused,
)
from tests.rings import sampled


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
    assert (
        f"foo.id expires at {plan.expires}; it can be renewed until {plan.renewal_deadline}."
        in text
    )
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
    assert plan.expires is not None
    assert plan.renewal_deadline is not None
    assert document["expire_block"] == plan.expires.height
    assert document["renewal_deadline"] == plan.renewal_deadline.height
    assert (document["expires_about"], document["gone_about"]) == (
        plan.expires.day,
        plan.renewal_deadline.day,
    )


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


@settings(max_examples=sampled(60), deadline=None)
def missing_of(refusal: PlanRefused) -> int:
    """The satoshis that are to be sent."""
    found = re.match(r"send at least (\d+) satoshis", refusal.hint)
    assert found is not None
    return int(found[1])


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
        missing = missing_of(refusal)
        reason = refusal.reason
    else:
        funded = plan.steps[0].kind is StepKind.FUND
        moved = plan.steps[0].outputs[0].satoshis if funded else 0
        assert moved + (plan.steps[0].fee if funded else 0) <= spare or not funded
        assert plan.price == 640_000
        assert plan.total == plan.price + sum(step.fee for step in plan.steps)
        return
    assert reason is Reason.NOT_ENOUGH_MONEY
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
    assert PAYER.address(THIRD) in exact.hint
    assert f"lacks {missing_of(exact)}" in str(exact)


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
        if plan.expires is not None and isinstance(wish, wishes.RegisterName):
            assert plan.expires.height == ledger.name("foo.id").last_renewed + 4_000 * (
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


def test_a_creator_who_pays_themselves_pays_only_the_miners() -> None:
    world = World(opened(THIRD, version=2, lifetime=50_000))
    plan = world.plan(FOO, PAYS)
    assert (plan.price, plan.total) == (0, plan.miners_fee)
    assert plan.comes_back == coin(PAYER).value - plan.total
    other = world.plan(FOO, Parties(BOB.script, ALICE.script))
    assert other.price == 640_000


def test_a_registration_spends_the_change_of_its_preorder() -> None:
    world = World(opened(THIRD))
    kinds = (StepKind.PREORDER, StepKind.REGISTER)
    operations = [operation_for(kind, FOO, PAYS, world.view) for kind in kinds]
    purse = Purse(PAYS, world.view, 10, spending_size)
    coins = [coin(PAYER, value, value) for value in (700_000, 20_000)]
    preorder, registration = purse.pay(operations, coins, 0).transactions
    assert preorder.change == 1
    left = registration.coins[0]
    assert (left.index, left.value, left.script) == (1, *preorder.outputs[1])


def test_no_more_is_moved_than_is_there() -> None:
    world = World(opened(THIRD))
    lacking = missing_of(refused(world, FOO, PAYS, coin(PAYER, 600)))
    fee = 226 * 10
    for more in (0, 1, 100, 10**6):
        plan = world.plan(FOO, PAYS, coin(PAYER, 600), spare=lacking + fee + more)
        fund = plan.steps[0]
        assert lacking <= fund.outputs[0].satoshis <= lacking + more
        assert fund.needs <= lacking + fee + more
    refused(world, FOO, PAYS, coin(PAYER, 600), spare=lacking + fee - 1)
