"""Coins pay for operations: exactly, with the sender first, and never twice."""

import math
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.spending import multisig_script
from indexer.bitcoin.transactions import TxOut, p2pkh_script, parse_transaction
from indexer.networks import REGTEST, SANDBOX
from indexer.protocol.operations import (
    Announce,
    Import,
    NamespacePreorder,
    NamespaceReady,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    Revoke,
    Transfer,
    Update,
)
from indexer.protocol.payloads import read_operation
from indexer.registrar.planning.compose import compose, take_back, write_outputs
from indexer.wallet.coins import (
    RELAY_DUST,
    CannotPay,
    Coin,
    Unsigned,
    transaction_size,
)
from indexer.wallet.keys import Key, KeyRing, script_of_redeem_script
from tests.rings import sampled

ALICE, BOB = Key(b"\1" * 32), Key(b"\2" * 32)
OLD = Key(b"\3" * 32, compressed=False)
REDEEM = multisig_script(2, [key.public_key for key in (ALICE, BOB, OLD)])
SHARED = script_of_redeem_script(REDEEM)
RING = KeyRing([ALICE, BOB, OLD], [REDEEM])
FRIEND = p2pkh_script(b"\7" * 20)
BURN = REGTEST.burn_script

UPDATE = Update(name_consensus_hash=bytes(16), value_hash=bytes(20))
RENEW = Renew(name="a.id", recipient=ALICE.script, op_fee=2500, fee_script=BURN)
PREORDER = Preorder(preorder_hash=bytes(20), consensus_hash=bytes(16), op_fee=6400, fee_script=BURN)
REVEAL = NamespaceReveal(
    namespace_id="id",
    recipient=FRIEND,
    lifetime=52595,
    coeff=250,
    base=4,
    buckets=(6, 5, 4, 3, 2, 1) + (0,) * 10,
    nonalpha_discount=10,
    no_vowel_discount=10,
)
TRANSFER = Transfer(
    name_hash128=bytes(16), consensus_hash=bytes(16), keep_data=True, recipient=FRIEND
)
EVERY: list[Operation] = [
    PREORDER,
    Register(name="a.id", recipient=FRIEND, value_hash=bytes(20)),
    RENEW,
    UPDATE,
    TRANSFER,
    Revoke(name="a.id"),
    Import(name="a.id", recipient=FRIEND, value_hash=b"\5" * 20),
    NamespacePreorder(
        preorder_hash=bytes(20), consensus_hash=bytes(16), op_fee=40_000_000, fee_script=BURN
    ),
    REVEAL,
    NamespaceReady(namespace_id="id"),
    Announce(message_hash=bytes(20)),
]


def coin(value: int, script: bytes = ALICE.script, salt: int = 0) -> Coin:
    return Coin(sha256(f"{value} {salt}".encode() + script).digest(), salt, value, script)


def paid(operation: Operation, *coins: Coin, rate: float = 10, **how: Any) -> Unsigned:
    return compose(operation, REGTEST, coins, ALICE.script, fee_rate=rate, **how)


def check(unsigned: Unsigned) -> None:
    """What must hold of everything that is composed."""
    assert sum(c.value for c in unsigned.coins) == unsigned.fee + sum(
        output.value for output in unsigned.outputs
    )
    assert all(output.value >= RELAY_DUST for output in unsigned.outputs[1:])
    places = [(c.txid, c.index) for c in unsigned.coins]
    assert len(set(places)) == len(places)
    assert all(spent.sequence < 0xFFFFFFFE for spent in unsigned.inputs)


def signed_size(unsigned: Unsigned) -> int:
    spent = [c.script for c in unsigned.coins]
    return len(RING.sign(1, unsigned.inputs, unsigned.outputs, 0, spent))


coins_of = st.lists(
    st.builds(
        coin,
        st.one_of(st.integers(1, 20_000), st.integers(1, 100_000_000)),
        st.sampled_from([ALICE.script, OLD.script, SHARED]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda c: (c.txid, c.index),
)


@settings(max_examples=sampled(150), deadline=None)
@given(st.sampled_from(EVERY), coins_of, st.floats(0, 200), st.data())
def test_what_is_composed_is_read_back_and_pays_what_was_asked(operation, coins, rate, data):
    sender = data.draw(st.sampled_from(sorted({c.script for c in coins})))
    operation = replace(operation, sender=sender)
    try:
        unsigned = compose(
            operation,
            REGTEST,
            coins,
            sender,
            fee_rate=rate,
            size_of=RING.spending_size,
        )
    except CannotPay as refusal:
        more = [*coins, coin(max(1, refusal.missing), sender, 9)]
        unsigned = compose(
            operation, REGTEST, more, sender, fee_rate=rate, size_of=RING.spending_size
        )
    check(unsigned)
    assert unsigned.coins[0].script == sender
    spent = [c.script for c in unsigned.coins]
    transaction = parse_transaction(RING.sign(1, unsigned.inputs, unsigned.outputs, 0, spent))
    read = read_operation(transaction, 1, spent, REGTEST, REGTEST.epoch(300))
    wire = replace(read, sender_pubkey=None, txid=b"", vtxindex=0)  # type: ignore[arg-type]
    assert wire == operation
    size = transaction_size(unsigned.coins, unsigned.outputs, RING.spending_size)
    assert 0 <= size - signed_size(unsigned) <= 4 * len(spent)
    least = math.ceil(size * max(rate, 1))
    assert least <= unsigned.fee < least + RELAY_DUST + 34 * max(rate, 1) + 1


@pytest.mark.parametrize(
    ("key_script", "input_bytes"), [(ALICE.script, 148), (OLD.script, 180), (SHARED, 329)]
)
def test_the_fee_follows_from_the_size_of_what_signs(key_script, input_bytes) -> None:
    operation = Revoke(name="abc.id", sender=key_script)
    ring = RING if key_script != SHARED else KeyRing([ALICE], [REDEEM])
    rich = coin(1_000_000, key_script)
    unsigned = compose(
        operation,
        REGTEST,
        [rich],
        key_script,
        fee_rate=3,
        size_of=ring.spending_size,
    )
    outputs = 9 + 2 + 3 + 6 + 9 + len(key_script)  # OP_RETURN, push, magic and opcode, name; change
    assert unsigned.fee == 3 * (10 + input_bytes + outputs)


def test_one_coin_that_does_is_taken_before_two_and_before_a_larger_one() -> None:
    few = [coin(900), coin(60_000), coin(9_000), coin(20_000)]
    assert [c.value for c in paid(UPDATE, *few).coins] == [9_000]
    assert [c.value for c in paid(RENEW, *few).coins] == [20_000]
    many = [coin(value) for value in (4_000, 4_100, 12_000, 8_000, 9_000)]
    unsigned = paid(PREORDER, *many, rate=30)
    assert sorted(c.value for c in unsigned.coins) == [8_000, 12_000]


def test_a_coin_that_costs_more_than_it_holds_is_left_where_it_is() -> None:
    unsigned = paid(UPDATE, coin(1_000), coin(1_400), coin(100_000), rate=20)
    assert [c.value for c in unsigned.coins] == [100_000]
    with pytest.raises(CannotPay):
        paid(UPDATE, *(coin(1_400, salt=n) for n in range(50)), rate=20)


def test_change_too_small_for_an_output_goes_to_the_miner_where_it_may() -> None:
    whole = paid(UPDATE, coin(1_000_000))
    without = whole.fee - 34 * 10
    for rest in (0, 1, RELAY_DUST - 1):
        unsigned = paid(UPDATE, coin(without + rest))
        assert (unsigned.change, len(unsigned.outputs)) == (None, 1)
        assert unsigned.fee == without + rest
    assert paid(UPDATE, coin(whole.fee + RELAY_DUST)).change == 1
    with pytest.raises(CannotPay) as refusal:
        paid(UPDATE, coin(without - 1))
    assert refusal.value.missing == 1 + 148 * 10


@pytest.mark.parametrize("operation", [PREORDER, RENEW, EVERY[7], REVEAL])
def test_change_that_the_protocol_counts_on_is_never_left_out(operation) -> None:
    whole = paid(operation, coin(100_000_000))
    outputs = 100_000_000 - whole.fee - whole.outputs[whole.change].value
    least = outputs + whole.fee + RELAY_DUST
    unsigned = paid(operation, coin(least))
    assert len(unsigned.outputs) == len(whole.outputs)
    assert unsigned.outputs[unsigned.change] == TxOut(RELAY_DUST, ALICE.script)
    with pytest.raises(CannotPay):
        paid(operation, coin(least - 1))


def test_the_missing_satoshis_are_just_enough() -> None:
    with pytest.raises(CannotPay) as refusal:
        paid(RENEW, coin(3_000))
    missing = refusal.value.missing
    assert str(missing) in str(refusal.value)
    check(paid(RENEW, coin(3_000), coin(missing, salt=1)))
    with pytest.raises(CannotPay):
        paid(RENEW, coin(3_000), coin(missing - 1, salt=1))


def test_coins_that_cost_more_than_they_hold_do_not_add_to_what_is_missing() -> None:
    told = []
    for dust in ([], [coin(1_000), coin(1_100)]):
        with pytest.raises(CannotPay) as refusal:
            paid(RENEW, coin(5_000), *dust, rate=20)
        told.append(refusal.value.missing)
    assert told[0] == told[1]


def test_a_pinned_coin_is_input_0_whatever_else_is_there() -> None:
    pinned = coin(700)
    unsigned = paid(PREORDER, coin(5_000_000), pinned, first=pinned)
    assert unsigned.coins[0] == pinned
    assert len(unsigned.coins) == 2


def test_a_stranger_s_coin_helps_and_the_owner_s_comes_back_whole() -> None:
    owned = [coin(5_500), coin(7_000)]
    purse = coin(500_000, BOB.script)
    for operation, places in ((UPDATE, 1), (TRANSFER, 2), (RENEW, 2), (EVERY[6], 3)):
        sent = replace(operation, sender=ALICE.script)
        unsigned = compose(sent, REGTEST, [*owned, purse], ALICE.script, fee_rate=100)
        check(unsigned)
        assert unsigned.coins == (owned[0], purse)
        assert unsigned.outputs[places] == TxOut(5_500, ALICE.script)
        assert unsigned.change == len(unsigned.outputs) - 1
        assert unsigned.outputs[-1].script == BOB.script
    # A registration with four outputs would be a renewal, so all that is left is the sender's.
    register = replace(EVERY[1], sender=ALICE.script)
    unsigned = compose(register, REGTEST, [*owned, purse], ALICE.script, fee_rate=100)
    assert len(unsigned.outputs) == 3
    assert unsigned.outputs[2].script == ALICE.script


def test_the_sender_s_own_coins_come_first() -> None:
    coins = [coin(500_000, BOB.script), coin(100_000)]
    unsigned = compose(
        replace(UPDATE, sender=ALICE.script), REGTEST, coins, ALICE.script, fee_rate=100
    )
    assert unsigned.coins == (coins[1],)
    with pytest.raises(CannotPay, match="coin of the sender"):
        compose(replace(UPDATE, sender=OLD.script), REGTEST, coins, OLD.script, fee_rate=1)


def test_segwit_coins_and_wrong_senders_are_refused() -> None:
    with pytest.raises(ValueError, match="only p2pkh and p2sh"):
        paid(UPDATE, coin(100_000, b"\0\x14" + bytes(20)))
    with pytest.raises(ValueError, match="not the sender's"):
        paid(replace(UPDATE, sender=BOB.script), coin(100_000), first=coin(100_000))
    with pytest.raises(CannotPay, match="no coin"):
        paid(UPDATE)
    for rate in (math.nan, math.inf, -1):
        with pytest.raises(ValueError, match="no fee rate"):
            paid(UPDATE, coin(100_000), rate=rate)


def test_a_payload_that_no_node_relays_is_refused() -> None:
    long = replace(PREORDER, preorder_hash=bytes(21))
    with pytest.raises(ValueError, match="do not fit"):
        write_outputs(long, SANDBOX, ALICE.script)


def test_more_small_coins_than_fit_one_transaction_are_told() -> None:
    dust = [coin(6_000, salt=n) for n in range(1_000)]
    with pytest.raises(CannotPay, match="few larger ones"):
        paid(replace(PREORDER, op_fee=5_900_000), *dust, rate=1)


# --- replacing


@settings(max_examples=sampled(60), deadline=None)
@given(
    st.sampled_from(EVERY),
    st.integers(0, 300_000),
    st.floats(1, 80),
    st.floats(0, 200),
)
def test_a_replacement_pays_more_as_nodes_ask_and_excludes_the_first(
    operation, extra, rate, higher
) -> None:
    operation = replace(operation, sender=ALICE.script)
    small = coin(40_100_000 + extra)
    reserve = [coin(30_000_000, salt=n) for n in range(1, 4)]
    old = compose(operation, REGTEST, [small], ALICE.script, fee_rate=rate)
    new = compose(operation, REGTEST, reserve, ALICE.script, fee_rate=higher, replaces=old)
    check(new)
    size = transaction_size(new.coins, new.outputs)
    old_size = transaction_size(old.coins, old.outputs)
    assert new.coins[: len(old.coins)] == old.coins
    assert new.fee >= old.fee + size
    assert new.fee * old_size > old.fee * size
    assert new.fee >= size * higher
    kept = [o for n, o in enumerate(old.outputs) if n != old.change]
    assert [o for n, o in enumerate(new.outputs) if n != new.change] == kept


def test_a_larger_replacement_pays_a_higher_rate_too() -> None:
    old = paid(PREORDER, coin(18_100), rate=40)
    new = paid(PREORDER, coin(90_000), rate=1, replaces=old)
    assert len(new.coins) == 2
    rates = [made.fee / transaction_size(made.coins, made.outputs) for made in (old, new)]
    assert rates[0] < rates[1] < rates[0] * 1.2


def test_a_replacement_leaves_everybody_their_part() -> None:
    owned, purse = coin(5_500), coin(500_000, BOB.script)
    update = replace(UPDATE, sender=ALICE.script)
    old = compose(update, REGTEST, [owned, purse], ALICE.script, fee_rate=50)
    new = compose(update, REGTEST, [], ALICE.script, fee_rate=90, replaces=old)
    assert new.coins == old.coins
    assert new.outputs[1] == TxOut(5_500, ALICE.script)
    assert new.outputs[2].script == BOB.script


def test_a_raised_fee_takes_more_coins_where_the_change_is_too_little() -> None:
    old = paid(PREORDER, coin(12_000), rate=5)
    new = paid(PREORDER, coin(50_000), rate=50, replaces=old)
    assert [c.value for c in new.coins] == [12_000, 50_000]
    with pytest.raises(CannotPay, match="more are needed"):
        paid(PREORDER, rate=50, replaces=old)
    with pytest.raises(CannotPay, match="satoshis more"):
        take_back(paid(PREORDER, coin(40_001_500), rate=1), ALICE.script, fee_rate=300_000)


def test_what_is_not_mined_yet_can_be_taken_back() -> None:
    old = paid(PREORDER, coin(80_000), rate=5)
    back = take_back(old, ALICE.script, fee_rate=7)
    check(back)
    assert back.coins == old.coins
    assert len(back.outputs) == 1
    assert back.outputs[0].script == ALICE.script
    assert back.fee >= old.fee + transaction_size(back.coins, back.outputs)


def test_a_replacement_begins_with_the_same_coin_or_is_none() -> None:
    old = paid(PREORDER, coin(80_000), rate=5)
    with pytest.raises(ValueError, match="keeps the first coin"):
        paid(PREORDER, coin(90_000), replaces=old, first=coin(90_000))
