"""Who must be paid how much, when; and owners behind p2sh, who pay like everybody.

Protocol spec sections 2.3, 2.4 and 8.1. Namespaces have the classic price parameters.
"""

from dataclasses import replace

import pytest

from indexer.networks import BLOCKS_PER_YEAR, EPOCH_2, EPOCH_3, EPOCH_4, Network
from indexer.protocol.flaws import Flaw
from indexer.protocol.operations import Register
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    FIRST,
    PAYER,
    SECOND,
    THIRD,
    VAULT,
    Ledger,
    network,
    opened,
    register,
    reveal,
    revoke,
)

SHORT, ASTRAY = Flaw.FEE_TOO_LOW, Flaw.FEE_WENT_ELSEWHERE
SECOND_THEN_THIRD = network(replace(EPOCH_2, last_block=150), EPOCH_3)
THIRD_THEN_FOURTH = network(replace(EPOCH_3, last_block=150), EPOCH_4)

# --- the price, to the satoshi


@pytest.mark.parametrize(
    ("chain", "price"), [(FIRST, 400_000), (SECOND, 400_000), (THIRD, 40_000)], ids=["1", "2", "3"]
)
@pytest.mark.parametrize(
    ("more", "flaw"), [(-1, SHORT), (0, None), (1, None)], ids=["less", "exact", "more"]
)
def test_a_registration_and_a_renewal_cost_the_price(
    chain: Network, price: int, more: int, flaw: Flaw | None
) -> None:
    ledger = opened(chain)
    ledger.accept((PAYER, ledger.preorder("alice.id", op_fee=price + more)))
    assert ledger.judge((PAYER, register("alice.id"))) is flaw
    if flaw is not None:
        ledger.register("alice.id", BOB)
    owner = ALICE if flaw is None else BOB
    renewal = ledger.renew("alice.id", owner, op_fee=price + more)
    assert ledger.judge((owner, renewal)) is flaw


@pytest.mark.parametrize(
    ("chain", "price"),
    [(FIRST, 4_000_000_000), (SECOND, 4_000_000_000), (THIRD, 400_000_000)],
    ids=["1", "2", "3"],
)
def test_a_reveal_costs_the_price_of_the_namespace(chain: Network, price: int) -> None:
    for fee, flaw in ((price - 1, SHORT), (price, None)):
        ledger = Ledger(chain)
        ledger.skip()
        ledger.accept((PAYER, replace(ledger.namespace_preorder(), op_fee=fee)))
        assert ledger.judge((PAYER, reveal())) is flaw


@pytest.mark.parametrize(
    ("fee", "flaw"), [(0, SHORT), (1, SHORT), (2**63 - 1, None)], ids=["none", "1", "absurd"]
)
def test_fees_of_absurd_value_are_compared_like_any_other(fee: int, flaw: Flaw | None) -> None:
    ledger = opened()
    ledger.accept((PAYER, ledger.preorder("alice.id", op_fee=fee)))
    assert ledger.serialized()[0][-1] == str(fee)
    assert ledger.judge((PAYER, register("alice.id"))) is flaw
    ledger.accept((PAYER, replace(ledger.namespace_preorder("di"), op_fee=fee)))
    assert ledger.serialized()[0][4] == str(fee)
    assert ledger.judge((PAYER, reveal("di"))) is flaw


def test_a_price_just_above_a_whole_number_asks_for_the_next() -> None:
    """11 / 5 * 100 satoshis is a little more than 220 in floating point (spec section 2.2)."""
    for fee, flaw in ((220, SHORT), (221, None)):
        ledger = opened(coeff=11, base=1, no_vowel_discount=5)
        ledger.accept((PAYER, ledger.preorder("b.id", op_fee=fee)))
        assert ledger.judge((PAYER, register("b.id"))) is flaw


def test_a_renewal_that_pays_somebody_else_is_refused() -> None:
    ledger = opened()
    ledger.register("alice.id")
    renewal = ledger.renew("alice.id", fee_script=CAROL.script)
    assert ledger.judge((ALICE, renewal)) is ASTRAY


def test_the_burn_address_is_p2pkh_and_not_its_p2sh_likeness() -> None:
    ledger = opened()
    likeness = bytes.fromhex("a914" + "00" * 20 + "87")
    ledger.accept((PAYER, ledger.preorder("alice.id", fee_script=likeness)))
    assert ledger.judge((PAYER, register("alice.id"))) is ASTRAY


# --- which height's price


def test_a_registration_costs_what_the_block_of_its_preorder_asked() -> None:
    dear, cheap = 400_000, 40_000
    for preordered, fee, flaw in (
        (150, cheap, SHORT),
        (150, dear, None),
        (151, cheap, None),
        (151, cheap - 1, SHORT),
    ):
        ledger = opened(SECOND_THEN_THIRD)
        ledger.leap(preordered)
        ledger.accept((PAYER, ledger.preorder("alice.id", op_fee=fee)))
        ledger.leap(152)
        assert ledger.judge((PAYER, register("alice.id"))) is flaw


def test_a_renewal_costs_what_its_own_block_asks() -> None:
    for height, flaw in ((150, SHORT), (151, None)):
        ledger = opened(SECOND_THEN_THIRD)
        ledger.register("alice.id")
        ledger.leap(height)
        assert ledger.judge((ALICE, ledger.renew("alice.id", op_fee=40_000))) is flaw


def test_a_reveal_costs_what_its_own_block_asks() -> None:
    for height, flaw in ((150, SHORT), (151, None)):
        ledger = Ledger(SECOND_THEN_THIRD)
        ledger.skip()
        ledger.accept((PAYER, replace(ledger.namespace_preorder(), op_fee=400_000_000)))
        ledger.leap(height)
        assert ledger.judge((PAYER, reveal())) is flaw


def test_a_preorder_in_bitcoins_revealed_in_epoch_4_meets_no_price() -> None:
    for height, flaw in ((150, SHORT), (151, None)):
        ledger = Ledger(THIRD_THEN_FOURTH)
        ledger.leap(149)
        ledger.accept((PAYER, replace(ledger.namespace_preorder(), op_fee=1)))
        ledger.leap(height)
        assert ledger.judge((PAYER, reveal())) is flaw


def test_names_go_on_at_the_price_of_epoch_3_once_epoch_4_begins() -> None:
    ledger = opened(THIRD_THEN_FOURTH)
    ledger.leap(152)
    ledger.accept((PAYER, ledger.preorder("alice.id", op_fee=40_000)))
    ledger.accept((PAYER, register("alice.id", value_hash=b"\1" * 20)))
    assert ledger.judge((ALICE, ledger.renew("alice.id"))) is None
    tokens = ledger.renew("alice.id", token_amount=1, value_hash=bytes(20))
    assert ledger.judge((ALICE, tokens)) is Flaw.OTHER_LEDGER
    bitcoin = ledger.renew("alice.id", token_amount=0, value_hash=b"\2" * 20)
    assert ledger.judge((ALICE, bitcoin)) is None
    assert ledger.name("alice.id").value_hash == b"\2" * 20
    without_amount = ledger.renew("alice.id", value_hash=b"\3" * 20)
    assert ledger.judge((ALICE, without_amount)) is Flaw.PAYLOAD_LENGTH
    ledger.accept((PAYER, ledger.preorder("bob.id", BOB)))
    paid = Register(name="bob.id", recipient=BOB.script, value_hash=bytes(20), token_amount=7)
    assert ledger.judge((PAYER, paid)) is Flaw.OTHER_LEDGER
    unpaid = replace(paid, token_amount=0)
    assert ledger.judge((PAYER, unpaid)) is None


# --- namespaces of version 2: the creator is paid for a year


def _paid_in(ledger: Ledger, name: str, payee: bytes) -> Flaw | None:
    wish = ledger.preorder(name, fee_script=payee)
    _, flaw = ledger.block((PAYER, wish), (PAYER, register(name)))
    return flaw


def test_a_version_2_namespace_pays_its_creator_and_later_the_burn_address() -> None:
    assert BLOCKS_PER_YEAR == 52595
    ledger = opened(THIRD, version=2, lifetime=200_000)
    revealed = ledger.namespace().reveal_block
    burn, creator = ledger.network.burn_script, PAYER.script
    assert _paid_in(ledger, "a.id", burn) is ASTRAY
    assert _paid_in(ledger, "b.id", creator) is None
    ledger.leap(revealed + BLOCKS_PER_YEAR)
    assert _paid_in(ledger, "c.id", creator) is None
    assert _paid_in(ledger, "d.id", creator) is ASTRAY
    assert _paid_in(ledger, "e.id", burn) is None
    ledger.leap(revealed + BLOCKS_PER_YEAR + 10)
    assert ledger.judge((ALICE, ledger.renew("b.id", fee_script=creator))) is ASTRAY
    assert ledger.judge((ALICE, ledger.renew("b.id"))) is None


def test_the_creator_is_who_sent_the_reveal_and_not_whom_it_named() -> None:
    ledger = opened(THIRD, version=2)
    named = ledger.namespace().recipient
    assert named != PAYER.script
    assert _paid_in(ledger, "a.id", named) is ASTRAY


def test_a_version_2_namespace_asks_the_whole_price_too() -> None:
    ledger = opened(THIRD, version=2)
    short = ledger.preorder("alice.id", fee_script=PAYER.script, op_fee=39_999)
    assert ledger.block((PAYER, short), (PAYER, register("alice.id"))) == [None, SHORT]


def test_a_renewal_in_a_version_2_namespace_pays_the_creator() -> None:
    ledger = opened(THIRD, version=2)
    assert _paid_in(ledger, "alice.id", PAYER.script) is None
    assert ledger.judge((ALICE, ledger.renew("alice.id"))) is ASTRAY
    assert ledger.judge((ALICE, ledger.renew("alice.id", fee_script=PAYER.script))) is None


# --- registrations with value hashes and renewals to new owners, epoch 3


def test_from_epoch_3_registration_and_renewal_carry_a_value_hash() -> None:
    ledger = opened(THIRD)
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    ledger.accept((PAYER, register("alice.id", value_hash=b"\1" * 20)))
    assert ledger.name("alice.id").value_hash == b"\1" * 20
    ledger.accept((ALICE, ledger.renew("alice.id")))
    assert ledger.name("alice.id").value_hash == b"\1" * 20
    ledger.accept((ALICE, ledger.renew("alice.id", BOB, value_hash=b"\2" * 20)))
    record = ledger.name("alice.id")
    assert (record.value_hash, record.sender) == (b"\2" * 20, BOB.script)
    assert record.address == BOB.address(ledger.network)
    assert record.sender_pubkey == PAYER.public_key  # that of the registration stays


def test_a_renewal_by_another_than_the_owner_is_refused_in_every_epoch() -> None:
    for chain, flaw in (
        (FIRST, Flaw.OWNER_MAY_NOT_CHANGE),
        (SECOND, Flaw.OWNER_MAY_NOT_CHANGE),
        (THIRD, Flaw.NOT_THE_OWNER),
    ):
        ledger = opened(chain)
        ledger.register("alice.id")
        assert ledger.judge((BOB, ledger.renew("alice.id", ALICE))) is flaw
        assert ledger.judge((BOB, ledger.renew("alice.id", BOB))) is Flaw.NOT_THE_OWNER


# --- owners behind p2sh


def test_in_epoch_1_a_name_can_go_behind_p2sh_but_never_out_again() -> None:
    ledger = opened()
    ledger.register("safe.id")
    ledger.accept((ALICE, ledger.transfer("safe.id", VAULT)))
    assert ledger.judge((VAULT, ledger.update("safe.id"))) is None
    assert ledger.judge((VAULT, ledger.transfer("safe.id", ALICE))) is Flaw.P2SH_OWNER
    assert ledger.judge((VAULT, revoke("safe.id"))) is None


def test_from_epoch_2_a_p2sh_owner_does_everything() -> None:
    ledger = opened(THIRD)
    ledger.accept((VAULT, ledger.preorder("safe.id", VAULT, VAULT)))
    ledger.accept((VAULT, register("safe.id", VAULT)))
    assert ledger.name("safe.id").sender_pubkey is None
    ledger.accept((VAULT, ledger.update("safe.id")), (VAULT, ledger.renew("safe.id", VAULT)))
    ledger.accept((VAULT, ledger.transfer("safe.id", BOB)))
