"""Replacing what waits in the sandbox's mempool, by the rules and in the words of the field."""

import pytest

from indexer.bitcoin.transactions import TxIn, TxOut, parse_transaction
from indexer.sandbox.node import Rejected, SandboxNode
from tests.indexer.node.fakes import Purse

SIGNALS = 0xFFFFFFFD


@pytest.fixture
def purse() -> Purse:
    purse = Purse(SandboxNode())
    purse.fill(3)
    return purse


def pay(purse: Purse, fee: int, *places: int, sequence: int = SIGNALS) -> bytes:
    """One output to the purse, from the coins at these places."""
    coins = [purse.coin(place) for place in places or (0,)]
    inputs = [coin._replace(sequence=sequence) for coin, _ in coins]
    paid = TxOut(sum(value for _, value in coins) - fee, purse.script)
    return purse.ring.sign(1, inputs, [paid], 0, [purse.script] * len(inputs))


def refusal(purse: Purse, raw: bytes) -> str:
    with pytest.raises(Rejected) as refused:
        purse.node.submit(raw)
    assert refused.value.code == -26
    return refused.value.message


def test_a_higher_fee_replaces_what_says_that_it_may_be_replaced(purse: Purse) -> None:
    first = purse.node.submit(pay(purse, 1_000))
    second = purse.node.submit(pay(purse, 2_000))
    assert first != second
    assert purse.node.mempool_size == 1
    purse.node.generate(1, purse.script)
    assert purse.node.mempool_size == 0


def test_what_does_not_say_so_is_not_replaced(purse: Purse) -> None:
    purse.node.submit(pay(purse, 1_000, sequence=0xFFFFFFFE))
    assert refusal(purse, pay(purse, 50_000)) == "txn-mempool-conflict"


@pytest.mark.parametrize(
    ("fee", "words"),
    [(999, "new feerate"), (1_100, "not enough additional fees to relay")],
)
def test_a_replacement_pays_for_its_own_relay_as_well(purse: Purse, fee: int, words: str) -> None:
    purse.node.submit(pay(purse, 1_000))
    said = refusal(purse, pay(purse, fee))
    assert said.startswith("insufficient fee, rejecting replacement ")
    assert words in said
    assert purse.node.mempool_size == 1


def test_a_replacement_pays_for_all_that_it_drops(purse: Purse) -> None:
    first = pay(purse, 1_000)
    purse.node.submit(first)
    child = purse.pay(
        spends=TxIn(parse_transaction(first).txid, 0, b"", SIGNALS),
        value=parse_transaction(first).outputs[0].value,
        fee=9_000,
    )
    purse.node.submit(child)
    assert "less fees than conflicting txs" in refusal(purse, pay(purse, 5_000))
    purse.node.submit(pay(purse, 12_000))
    assert purse.node.mempool_size == 1


def test_a_replacement_brings_no_unconfirmed_coin_with_it(purse: Purse) -> None:
    purse.node.submit(pay(purse, 1_000, 0))
    other = pay(purse, 1_000, 1)
    purse.node.submit(other)
    waiting = parse_transaction(other)
    coin, value = purse.coin(0)
    inputs = [coin._replace(sequence=SIGNALS), TxIn(waiting.txid, 0, b"", SIGNALS)]
    paid = TxOut(value + waiting.outputs[0].value - 20_000, purse.script)
    raw = purse.ring.sign(1, inputs, [paid], 0, [purse.script] * 2)
    assert "adds unconfirmed input" in refusal(purse, raw)


def test_what_was_evicted_can_be_sent_again(purse: Purse) -> None:
    raw = pay(purse, 1_000)
    txid = purse.node.submit(raw)
    purse.node.evict(txid)
    assert purse.node.mempool_size == 0
    assert purse.node.submit(raw) == txid
