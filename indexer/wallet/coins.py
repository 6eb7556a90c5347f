"""Coins and fees: which coins pay for given outputs, and what comes back.

What must stay true: the fee is what was asked for, never less than nodes relay, and above it only
by change that is too small to be an output; what replaces a transaction spends all of its coins,
in their order, so that only one of the two can ever be mined, and pays more as BIP 125 asks.
Pure: nothing is signed, sent or looked up.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from indexer.bitcoin.spending import multisig_script, push, read_multisig
from indexer.bitcoin.transactions import TxIn, TxOut, is_p2pkh, is_p2sh, op_return_payload

DUST = 5500
"""Satoshis of an output that only names a script; what the original's clients paid."""
RELAY_DUST = 546
"""Satoshis below which nodes relay no p2pkh output (540 for p2sh), at their usual setting."""
LEAST_FEE_RATE = 1.0
"""Satoshis a virtual byte that nodes relay for, and by which a replacement must pay more."""
MAX_BYTES = 100_000
"""Size of the largest transaction that nodes relay."""
MAX_COINS = 2000
"""How many coins, the most valuable ones, are looked at."""
FINAL_SEQUENCE = 0xFFFFFFFD  # the fee may be raised later (BIP 125)

_TWO_OF_THREE = multisig_script(2, [bytes((2,)) * 33] * 3)


class CannotPay(ValueError):
    """The coins given do not pay for the transaction; ``str()`` says how much is missing."""

    def __init__(self, sentence: str, missing: int = 0) -> None:
        super().__init__(sentence)
        self.missing = missing
        """Satoshis that one more coin must hold."""


class FeeTooHigh(ValueError):
    """The miner's fee would be more than it may be; nothing is composed."""

    def __init__(self, fee: int, most: int) -> None:
        super().__init__(f"the miner's fee would be {fee} satoshis; at most {most} are allowed")
        self.fee = fee


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
    change: int | None = None
    """Index of the output that is change; None: there is none."""

    @property
    def inputs(self) -> tuple[TxIn, ...]:
        """The inputs, without signatures."""
        return tuple(TxIn(coin.txid, coin.index, b"", FINAL_SEQUENCE) for coin in self.coins)


SpendingSize = Callable[[bytes], float]
"""The most virtual bytes of what spends a script: its scriptSig, and a quarter of its witness."""


def spending_size(
    script: bytes, redeem_script: bytes = b"", witness_script: bytes = b"", *, key_bytes: int = 33
) -> float:
    """The most virtual bytes of what spends ``script``, a scriptPubKey of any kind (BIP 141).

    ``redeem_script`` and ``witness_script`` are those behind it; where they are needed and are not
    given, two of three keys are supposed. Of taproot: by the key, as wallets spend it.
    """
    nested = redeem_script if redeem_script[:2] in (b"\x00\x14", b"\x00\x20") else b""
    program = nested or script
    if is_p2pkh(program):
        return 1 + 72 + 1 + key_bytes
    if is_p2sh(program):
        return _multisig_size(redeem_script or _TWO_OF_THREE)
    if program[:2] == b"\x00\x14":
        witness = 1 + 1 + 72 + 1 + 33
    elif program[:2] == b"\x51\x20":
        witness = 1 + 1 + 64
    else:
        witness = 1 + _multisig_size(witness_script or _TWO_OF_THREE)
    # A nested one brings the mark of a witness, half a byte, where no other input does.
    return witness / 4 + (1.5 + len(nested) if nested else 0)


def _multisig_size(script: bytes) -> int:
    required, _ = read_multisig(script) or (2, ())
    return 1 + required * 73 + len(push(script))


@dataclass(frozen=True, slots=True)
class Form:
    """Outputs in their order, with change of 0 satoshis among them."""

    outputs: tuple[TxOut, ...]
    change: int

    @property
    def needed(self) -> int:
        """What the outputs take, the change apart."""
        return sum(output.value for output in self.outputs)

    @property
    def needs_change(self) -> bool:
        """Whether the protocol counts on the change: outputs that carry meaning come after it, or
        their number is fixed (a reveal has exactly three, spec section 1.15)."""
        payload = op_return_payload(self.outputs[0].script) if len(self.outputs) > 1 else None
        reveals = payload is not None and payload[2:3] == b"&"
        return reveals or self.change < len(self.outputs) - 1 or len(self.outputs) == 1

    def with_change(self, value: int) -> tuple[TxOut, ...]:
        outputs = list(self.outputs)
        outputs[self.change] = outputs[self.change]._replace(value=value)
        return tuple(outputs)

    def without_change(self) -> tuple[TxOut, ...]:
        return self.outputs[: self.change] + self.outputs[self.change + 1 :]


def transaction_size(
    coins: Sequence[Coin],
    outputs: Sequence[TxOut],
    size_of: SpendingSize = spending_size,
) -> int:
    """The most virtual bytes that the signed transaction can have."""
    size = 8.0 + _compact(len(coins)) + _compact(len(outputs))
    size += sum(_input_size(coin, size_of) for coin in coins)
    scripts = [coin.script for coin in coins]
    if not (all(map(is_p2pkh, scripts)) or all(map(is_p2sh, scripts))):
        size += (2 + len(coins)) / 4  # its mark, and an empty witness for each that has none
    size += sum(8 + _compact(len(output.script)) + len(output.script) for output in outputs)
    return math.ceil(size)


def _input_size(coin: Coin, size_of: SpendingSize) -> float:
    size = size_of(coin.script)
    return 40 + _compact(size) + size


def _compact(number: float) -> int:
    return 1 if number < 0xFD else 3 if number <= 0xFFFF else 5


@dataclass(frozen=True, slots=True)
class Terms:
    """What the fee must be, and how large things are."""

    rate: float
    """Satoshis a virtual byte; never less than nodes relay."""
    size_of: SpendingSize = spending_size
    replaces: Unsigned | None = None
    owed: int = 0
    """Satoshis of fees that are lost with what is replaced, where that is more than its own."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.rate) or self.rate < 0:
            raise ValueError(f"{self.rate} is no fee rate")
        object.__setattr__(self, "rate", max(self.rate, LEAST_FEE_RATE))

    def fee(self, coins: Sequence[Coin], outputs: Sequence[TxOut]) -> int:
        size = transaction_size(coins, outputs, self.size_of)
        fee = math.ceil(size * self.rate)
        if self.replaces is None:
            return fee
        # BIP 125, rules 3 and 4, and what nodes of today ask besides: a higher rate.
        old = self.replaces
        old_size = transaction_size(old.coins, old.outputs, self.size_of)
        more = max(old.fee, self.owed) + math.ceil(size * LEAST_FEE_RATE)
        return max(fee, more, old.fee * size // old_size + 1)

    def settle(self, coins: Sequence[Coin], form: Form) -> Unsigned | int:
        """The transaction that spends just these, or how many satoshis they lack for one."""
        have = sum(coin.value for coin in coins) - form.needed
        outputs = form.with_change(0)
        change = have - self.fee(coins, outputs)
        if change >= RELAY_DUST:
            made = form.with_change(change)
            return Unsigned(tuple(coins), made, have - change, form.change)
        if form.needs_change:
            return RELAY_DUST - change
        outputs = form.without_change()
        missing = self.fee(coins, outputs) - have
        return missing if missing > 0 else Unsigned(tuple(coins), outputs, have)

    def worth(self, coin: Coin) -> float:
        """What a coin adds once its own input is paid for."""
        return coin.value - self.rate * _input_size(coin, self.size_of)

    def choose(self, fixed: Sequence[Coin], pool: Sequence[Coin], form: Form) -> Unsigned | int:
        """All of ``fixed``, and of ``pool`` as few as will do, the last of them the smallest that
        does. Otherwise how many satoshis one more coin must hold."""
        taken = {(coin.txid, coin.index) for coin in fixed}
        spare = {(coin.txid, coin.index): coin for coin in pool}
        ranked = sorted(
            (coin for place, coin in spare.items() if place not in taken and self.worth(coin) > 0),
            key=lambda coin: (-self.worth(coin), coin.txid, coin.index),
        )[:MAX_COINS]
        for count in range(len(ranked) + 1):
            coins = [*fixed, *ranked[:count]]
            if not coins:
                continue
            if transaction_size(coins, form.outputs, self.size_of) > MAX_BYTES:
                raise CannotPay(
                    "it would take more small coins than one transaction can spend; pay them "
                    "to yourself in a few larger ones first"
                )
            found = self.settle(coins, form)
            if isinstance(found, int):
                continue
            for last in reversed(ranked[count:] if count else []):
                smaller = self.settle([*coins[:-1], last], form)
                if isinstance(smaller, Unsigned):
                    found = smaller
                    break
            return found
        phantom = Coin(bytes(32), 0, 0, [*fixed, *pool][0].script)
        lacking = self.settle([*fixed, *ranked, phantom], form)
        assert isinstance(lacking, int), "a coin that holds nothing does not help"
        return lacking
