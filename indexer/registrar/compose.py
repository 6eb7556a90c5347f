"""Wishes to transactions: the outputs that carry an operation, and the coins that pay for them.

Pure: nothing is signed, sent or looked up here. What is composed here, ``read_operation`` reads
back. Output positions carry meaning, so each operation has its own list (protocol spec 1.7-1.18).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.networks import Network
from indexer.operations import (
    Import,
    NamespacePreorder,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    TokenTransfer,
    Transfer,
)
from indexer.payloads import write_operation
from indexer.transactions import TxIn, TxOut, is_p2pkh, is_p2sh, p2pkh_script

DUST = 5500
"""Satoshis of an output that only names a script; what the original's clients paid."""
INPUT_BYTES = 149  # a signed p2pkh input, uncompressed scripts apart
FINAL_SEQUENCE = 0xFFFFFFFD  # the fee may be raised later (BIP 125)


class CannotPay(ValueError):
    """The coins given do not pay for the transaction; ``str()`` says how much is missing."""


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent output."""

    txid: bytes
    index: int
    value: int
    script: bytes


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A transaction before it is signed: what it spends, and its outputs."""

    coins: tuple[Coin, ...]
    outputs: tuple[TxOut, ...]
    fee: int

    @property
    def inputs(self) -> tuple[TxIn, ...]:
        """The inputs, without signatures."""
        return tuple(TxIn(coin.txid, coin.index, b"", FINAL_SEQUENCE) for coin in self.coins)


def write_outputs(
    operation: Operation, network: Network, change_script: bytes
) -> tuple[list[TxOut], int]:
    """The outputs of ``operation`` and the index of the change, whose value is still 0.

    Raises ``ValueError`` where a field does not fit the wire.
    """
    payload = write_operation(operation, network.magic)
    if len(payload) > 80:
        raise ValueError(f"the payload has {len(payload)} bytes; nodes relay at most 80")
    push = bytes((len(payload),)) if len(payload) < 76 else bytes((76, len(payload)))
    first = TxOut(0, b"\x6a" + push + payload)
    change = TxOut(0, change_script)
    match operation:
        case Preorder() | NamespacePreorder():
            return [first, change, TxOut(operation.op_fee, operation.fee_script)], 1
        case Register() | NamespaceReveal() | Transfer() | TokenTransfer():
            return [first, TxOut(DUST, operation.recipient), change], 2
        case Renew():
            owner = TxOut(DUST, operation.recipient)
            return [first, owner, change, TxOut(operation.op_fee, operation.fee_script)], 2
        case Import():
            disguised = TxOut(DUST, p2pkh_script(operation.value_hash))
            return [first, TxOut(DUST, operation.recipient), disguised, change], 3
        case _:
            return [first, change], 1


def compose(
    operation: Operation,
    network: Network,
    coins: Sequence[Coin],
    change_script: bytes,
    *,
    fee_rate: float,
) -> Unsigned:
    """A transaction for ``operation``, paid with as many of ``coins`` as it takes, in their order.

    The first coin decides who the sender is. ``fee_rate`` is in satoshis a byte. Raises
    ``CannotPay``, and ``ValueError`` for coins that the protocol does not let sign.
    """
    outputs, change_index = write_outputs(operation, network, change_script)
    needed = sum(output.value for output in outputs)
    size = 10 + sum(9 + len(output.script) for output in outputs)
    spent: list[Coin] = []
    for coin in coins:
        if not (is_p2pkh(coin.script) or is_p2sh(coin.script)):
            raise ValueError("only p2pkh and p2sh coins can send an operation")
        spent.append(coin)
        fee = int((size + INPUT_BYTES * len(spent)) * fee_rate) + 1
        change = sum(c.value for c in spent) - needed - fee
        if change >= DUST:
            outputs[change_index] = TxOut(change, change_script)
            return Unsigned(tuple(spent), tuple(outputs), fee)
    have = sum(coin.value for coin in coins)
    raise CannotPay(
        f"the coins given hold {have} satoshis, but {needed} and the miner's fee are needed"
    )
