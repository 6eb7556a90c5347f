"""Ordinary payments spend what they must, pay what they should and miss nothing of the fee."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitcoin.spending import multisig_script
from indexer.bitcoin.transactions import TxOut, p2pkh_script
from indexer.wallet.coins import RELAY_DUST, Coin
from indexer.wallet.keys import Key, KeyRing, script_of_redeem_script
from indexer.wallet.payment import compose_payment
from indexer.wallet.psbt import raw_unsigned
from indexer.wallet.signers import InsufficientFunds

KEYS = [Key(bytes((n,)) * 32) for n in range(1, 4)]
RING = KeyRing(KEYS)
BACK = p2pkh_script(b"\x0b" * 20)
VALUES = st.integers(1_000, 10**9)


def coins(values: list[int], start: int = 0) -> list[Coin]:
    return [
        Coin(bytes((start + place,)) * 32, place, value, KEYS[place % 3].script)
        for place, value in enumerate(values)
    ]


@given(
    st.lists(VALUES, min_size=1, max_size=12),
    st.lists(VALUES, max_size=3),
    st.lists(VALUES, min_size=1, max_size=3),
    st.floats(1, 300),
)
def test_every_payment_balances_and_pays_the_rate_it_was_asked(
    values: list[int], pinned: list[int], wanted: list[int], rate: float
) -> None:
    spending = coins(pinned, 100)
    outputs = [TxOut(value, p2pkh_script(bytes((n,)) * 20)) for n, value in enumerate(wanted)]
    purse = [*spending[:1], *coins(values)]  # a coin may be named twice and is spent once
    try:
        payment = compose_payment(outputs, purse, BACK, fee_rate=rate, spending=spending)
    except InsufficientFunds:
        have = sum(values) + sum(pinned)
        assert have < sum(wanted) + 2 + (60 + 34 * len(wanted) + 150 * 15) * rate
        return
    assert list(payment.coins[: len(spending)]) == spending
    assert len({(c.txid, c.index) for c in payment.coins}) == len(payment.coins)
    assert list(payment.outputs[: len(outputs)]) == outputs
    assert payment.outputs[len(outputs) :] in ((), (TxOut(payment.outputs[-1].value, BACK),))
    assert sum(c.value for c in payment.coins) - payment.fee == sum(
        output.value for output in payment.outputs
    )
    if len(payment.outputs) > len(outputs):
        assert payment.outputs[payment.change].value >= RELAY_DUST
    spent = [coin.script for coin in payment.coins]
    raw = RING.sign(1, payment.inputs, payment.outputs, 0, spent)
    assert payment.fee >= int(len(raw) * rate)
    assert len(raw_unsigned(payment)) < len(raw)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InsufficientFunds, match=r"hold 6000 satoshis; \d+ more are needed"):
        compose_payment([TxOut(10_000, BACK)], coins([1_000, 5_000]), BACK, fee_rate=2)
    with pytest.raises(InsufficientFunds, match="hold 0 satoshis; 10000 more"):
        compose_payment([TxOut(10_000, BACK)], [], BACK, fee_rate=2.2)


def test_a_multisig_input_pays_for_all_of_its_signatures() -> None:
    redeem = multisig_script(3, [key.public_key for key in KEYS])
    ring = KeyRing(KEYS, [redeem])
    script = script_of_redeem_script(redeem)
    coin = Coin(b"\x01" * 32, 0, 10**6, script)
    payment = compose_payment(
        [TxOut(10_000, BACK)],
        [coin],
        script,
        fee_rate=10,
        size_of=ring.spending_size,
    )
    raw = ring.sign(1, payment.inputs, payment.outputs, 0, [script])
    assert len(raw) * 10 <= payment.fee <= len(raw) * 10 + 200
