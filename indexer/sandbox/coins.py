"""The unspent outputs of the sandbox's chain, by outpoint and by script.

What must stay true: ``take_back`` after ``apply`` leaves exactly what was there before,
and an output that nobody can ever spend (OP_RETURN) is never kept.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from indexer.bitcoin.spending import ScriptFailed, UnknownScript, verify_input
from indexer.bitcoin.transactions import Transaction
from indexer.bitcoin.witness import has_witness, is_p2wpkh, verify_p2wpkh, witnesses
from indexer.sandbox.policy import (
    MAX_MONEY,
    RPC_MISSING_INPUTS,
    Rejected,
    refuse,
)

COINBASE_MATURITY = 100
SEQUENCE_NO_LOCK = 1 << 31
SEQUENCE_TIME_LOCK = 1 << 22

Outpoint = tuple[bytes, int]


class Coin(NamedTuple):
    """An unspent output: satoshis, its scriptPubKey, and where it comes from."""

    value: int
    script: bytes
    height: int
    coinbase: bool


class Unspent(NamedTuple):
    """A coin with its outpoint, as handed to whoever asks for the coins of a script."""

    txid: bytes
    output_index: int
    value: int
    script: bytes
    height: int
    coinbase: bool


class CoinSet:
    """All unspent outputs at one tip of the chain."""

    def __init__(self) -> None:
        self._coins: dict[Outpoint, Coin] = {}
        self._places: dict[bytes, dict[Outpoint, None]] = {}

    def __len__(self) -> int:
        return len(self._coins)

    def get(self, outpoint: Outpoint) -> Coin | None:
        """The coin at ``outpoint``, if it is unspent."""
        return self._coins.get(outpoint)

    def of_script(self, script: bytes) -> Iterator[Unspent]:
        """The coins that pay to ``script``, in no order."""
        for outpoint in self._places.get(script, ()):
            coin = self._coins[outpoint]
            yield Unspent(*outpoint, coin.value, coin.script, coin.height, coin.coinbase)

    def apply(self, transaction: Transaction, height: int, coinbase: bool) -> list[Coin]:
        """Spend and create what a transaction does; the spent coins are what undoes it.

        KeyError when a coin is missing: see ``spent_by`` first.
        """
        spent: list[Coin] = []
        if not coinbase:
            spent = [self._pop((i.previous_txid, i.previous_index)) for i in transaction.inputs]
        for index, (value, script) in enumerate(transaction.outputs):
            if script[:1] != b"\x6a":
                self._put((transaction.txid, index), Coin(value, script, height, coinbase))
        return spent

    def take_back(self, transaction: Transaction, spent: Sequence[Coin]) -> None:
        """Undo ``apply``."""
        for index in range(len(transaction.outputs)):
            if (transaction.txid, index) in self._coins:
                self._pop((transaction.txid, index))
        for spending, coin in zip(transaction.inputs, spent, strict=False):
            self._put((spending.previous_txid, spending.previous_index), coin)

    def _put(self, outpoint: Outpoint, coin: Coin) -> None:
        self._coins[outpoint] = coin
        self._places.setdefault(coin.script, {})[outpoint] = None

    def _pop(self, outpoint: Outpoint) -> Coin:
        coin = self._coins.pop(outpoint)
        places = self._places[coin.script]
        del places[outpoint]
        if not places:
            del self._places[coin.script]
        return coin


def spent_by(transaction: Transaction, coin_at: Callable[[Outpoint], Coin | None]) -> list[Coin]:
    """The coins that the inputs spend, in their order; Rejected (-25) when one is missing."""
    coins = []
    for spending in transaction.inputs:
        coin = coin_at((spending.previous_txid, spending.previous_index))
        if coin is None:
            raise Rejected(RPC_MISSING_INPUTS, "bad-txns-inputs-missingorspent")
        coins.append(coin)
    return coins


def check_amounts(transaction: Transaction, spent: Sequence[Coin], height: int) -> int:
    """The fee in satoshis of a transaction that is to be in block ``height``; or Rejected."""
    total = 0
    for coin in spent:
        if coin.coinbase and height - coin.height < COINBASE_MATURITY:
            raise refuse("bad-txns-premature-spend-of-coinbase")
        total += coin.value
    paid = sum(output.value for output in transaction.outputs)
    if total > MAX_MONEY:
        raise refuse("bad-txns-inputvalues-outofrange")
    if total < paid:
        raise refuse(
            f"bad-txns-in-belowout, value in ({total / 1e8:.8f}) < value out ({paid / 1e8:.8f})"
        )
    return total - paid


def sequence_locks_hold(
    transaction: Transaction,
    spent: Sequence[Coin],
    height: int,
    median_time_at: Callable[[int], int],
) -> bool:
    """BIP 68 for a block at ``height``; ``median_time_at`` gives an active block's median time."""
    if transaction.version < 2:
        return True
    for spending, coin in zip(transaction.inputs, spent, strict=True):
        lock = spending.sequence & 0xFFFF
        if spending.sequence & SEQUENCE_NO_LOCK:
            continue
        if spending.sequence & SEQUENCE_TIME_LOCK:
            since = median_time_at(max(min(coin.height, height) - 1, 0))
            if since + (lock << 9) - 1 >= median_time_at(height - 1):
                return False
        elif coin.height + lock - 1 >= height:
            return False
    return True


def check_scripts(transaction: Transaction, raw: bytes, spent: Sequence[Coin]) -> None:
    """That every input is allowed to spend its coin; raises Rejected. ``raw``: the transaction
    with its witness."""
    for index, coin in enumerate(spent):
        try:
            check_input(transaction, raw, index, coin)
        except ScriptFailed as failure:
            raise refuse(f"mandatory-script-verify-flag-failed ({failure})") from None
        except UnknownScript as failure:
            raise refuse(f"bad-txns-nonstandard-inputs ({failure})") from None


def check_input(transaction: Transaction, raw: bytes, index: int, coin: Coin) -> None:
    """That input ``index`` is allowed to spend a coin; raises ScriptFailed and UnknownScript."""
    if is_p2wpkh(coin.script):
        if transaction.inputs[index].script_sig:
            raise ScriptFailed("Witness requires empty scriptSig")
        verify_p2wpkh(raw, index, coin.script, coin.value)
        return
    if has_witness(raw) and witnesses(raw)[index]:
        raise ScriptFailed("Witness provided for non-witness script")
    verify_input(transaction, index, coin.script)
