"""What a name costs and until when it is had is what the rules then say."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.networks import BLOCKS_PER_YEAR, INFINITE_LIFETIME, MAINNET, REGTEST
from indexer.protocol import schema
from indexer.protocol.flaws import Flaw, Refused
from indexer.protocol.names import BadName
from indexer.registrar.planning import wishes
from indexer.registrar.planning.dates import Tip, When, blocks_to_time, when
from indexer.registrar.planning.quote import name_payment
from indexer.registrar.planning.steps import Parties, StepKind, dry_run
from indexer.wallet.coins import RELAY_DUST
from tests.indexer.protocol.ledger import (
    ALICE,
    PAYER,
    THIRD,
    opened,
)
from tests.indexer.registrar.planning.world import CHAINS, World
from tests.rings import sampled


@settings(max_examples=sampled(25), deadline=None)
@given(st.sampled_from(["first epoch", "second epoch", "grace"]), st.integers(2, 12))
def test_a_new_name_lapses_at_the_very_block_that_was_quoted(chain, lifetime) -> None:
    ledger = opened(CHAINS[chain], lifetime=lifetime)
    world = World(ledger)
    planned = world.plan(wishes.RegisterName("foo.id"), Parties(PAYER.script, ALICE.script))
    until = planned.expires
    assert until is not None
    world.carry_out(wishes.RegisterName("foo.id"), Parties(PAYER.script, ALICE.script))
    update = wishes.UpdateName("foo.id", bytes(20))
    # The last block in which the owner can do anything but renew is the one before.
    ledger.skip(until.height - ledger.height - 2)
    assert dry_run(StepKind.UPDATE, update, Parties(ALICE.script), world.view) is None
    ledger.skip()
    flaw = dry_run(StepKind.UPDATE, update, Parties(ALICE.script), world.view)
    if ledger.network.epochs[0].grace_period:
        assert flaw is Flaw.NAME_IN_GRACE
    else:
        assert flaw is None  # without grace the name is live in its last block
        ledger.skip()
        assert dry_run(StepKind.UPDATE, update, Parties(ALICE.script), world.view) is not None


def test_a_namespace_without_end_has_no_dates() -> None:
    ledger = opened(THIRD, lifetime=INFINITE_LIFETIME)
    parties = Parties(PAYER.script, ALICE.script)
    assert World(ledger).plan(wishes.RegisterName("foo.id"), parties).expires is None


@pytest.mark.parametrize(
    ("name", "price"), [("foo.id", 640_000), ("patrickstanley.id", 2_500), ("was2bme.id", 250)]
)
def test_prices_are_those_of_the_rules_and_no_less_than_nodes_relay(name, price) -> None:
    payment = name_payment(name, World(opened(THIRD)).view)
    assert payment.price == price
    assert payment.satoshis == max(price, RELAY_DUST)
    assert payment.script == THIRD.burn_script


def test_names_of_a_creator_are_paid_to_them_for_a_year() -> None:
    ledger = opened(THIRD, version=2, lifetime=200_000)
    revealed = ledger.namespace().reveal_block
    world = World(ledger)
    assert name_payment("foo.id", world.view).script == PAYER.script
    last = revealed + BLOCKS_PER_YEAR
    assert name_payment("foo.id", world.view, last).to_creator
    assert not name_payment("foo.id", world.view, last + 1).to_creator
    parties = Parties(PAYER.script, ALICE.script)
    assert world.carry_out(wishes.RegisterName("foo.id"), parties) == [None, None]
    ledger.leap(last + 1)
    ledger.skip(1)
    assert name_payment("bar.id", world.view).script == THIRD.burn_script
    assert world.carry_out(wishes.RegisterName("bar.id"), parties) == [None, None]
    assert world.carry_out(wishes.RenewName("foo.id"), Parties(ALICE.script)) == [None]


def test_what_another_ledger_sells_has_no_price_here() -> None:
    ledger = opened(THIRD)
    rows = ledger.store.rows
    sold = replace(ledger.namespace(), version=3)
    rows[schema.namespace_key("id")] = schema.NAMESPACE_ROW.write(sold)
    with pytest.raises(Refused) as refused:
        name_payment("foo.id", World(ledger).view)
    assert refused.value.flaw is Flaw.OTHER_LEDGER


@pytest.mark.parametrize("bad", ["foo", "Foo.id", "a.b.id", ""])
def test_a_malformed_name_has_no_price(bad) -> None:
    with pytest.raises(BadName):
        name_payment(bad, World(opened(THIRD)).view)


# --- dates


def test_a_height_is_told_with_its_probable_date() -> None:
    tip = Tip(800_000, 1_690_168_629)  # 24 July 2023 03:17:09 UTC
    assert str(when(852_595, tip, MAINNET)) == "block 852595 (about 23 July 2024)"
    assert str(when(800_006, tip, MAINNET)) == "block 800006 (about 24 July 2023, 04:17 UTC)"
    assert when(800_006, tip, MAINNET).day == "2023-07-24"
    assert blocks_to_time(799_999, 800_000, 1_000, 600.0) == 400
    assert blocks_to_time(0, 800_000, 1_000, 600.0) == 0


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 33))
def test_no_height_is_too_far_for_an_answer(height, time) -> None:
    found = when(height, Tip(0, time), REGTEST)
    assert str(height) in str(found)
    assert found.height == height
    far = When(height, 253_402_300_800)
    assert "after the year 9999" in str(far)
    assert far.day is None
