"""The coins of a plan while its steps spend them one after the other, and what they lack.

What must stay true: whoever is told that so many satoshis are missing has a plan once just as many
are there; coins that a step leaves pay for the next, as they will on the chain.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.bitcoin.transactions import script_address
from indexer.protocol.operations import Operation, Register
from indexer.protocol.view import BlockView
from indexer.registrar.planning.compose import compose
from indexer.registrar.planning.refusals import PlanRefused, Reason
from indexer.registrar.planning.steps import Parties
from indexer.wallet.coins import (
    DUST,
    LEAST_FEE_RATE,
    CannotPay,
    Coin,
    SpendingSize,
    Unsigned,
)

FUND_BYTES = 226
"""Size of an ordinary payment from one coin with change; what a wallet makes may be larger."""

_FUNDED = bytes(32)
"""Stands for the txid of a payment that is not made yet."""


@dataclass(frozen=True, slots=True)
class Paid:
    """Transactions that are paid for, and what must be moved to their sender first."""

    transactions: tuple[Unsigned, ...]
    moved: int = 0
    """Satoshis; 0: nothing has to be moved."""
    move_fee: int = 0
    """About what the miner takes for moving it."""


@dataclass(frozen=True, slots=True)
class Purse:
    """The coins of the parties while the steps spend them one after the other."""

    parties: Parties
    view: BlockView
    fee_rate: float
    """Satoshis a virtual byte."""
    size_of: SpendingSize

    def pay(self, operations: Sequence[Operation], coins: Sequence[Coin], spare: int) -> Paid:
        """A transaction for each operation, and what is moved to the sender first.

        ``spare``: satoshis that can be moved. Raises ``PlanRefused`` where neither ``coins`` nor
        ``spare`` pay for all of them.
        """
        try:
            return Paid(tuple(self._compose(operations, coins)))
        except CannotPay as lack:
            lacking = lack
        if not lacking.missing:
            raise PlanRefused(
                Reason.TOO_MANY_COINS, str(lacking), "pay them to yourself in one coin first"
            )
        # Only the sender's own coins stay as they are: those of others may be what is moved.
        ours = [coin for coin in coins if coin.script == self.parties.sender]
        value, made = self._funded(operations, ours, lacking.missing)
        fund_fee = math.ceil(FUND_BYTES * max(self.fee_rate, LEAST_FEE_RATE))
        if spare < value + fund_fee:
            held = sum(coin.value for coin in ours)
            raise self._not_enough(value, held + max(0, spare - fund_fee))
        # As much again as the miners get, so that the fees can be raised while they wait.
        value = min(value + sum(unsigned.fee for unsigned in made), spare - fund_fee)
        made = self._compose(operations, [*ours, self._coin(value)])
        return Paid(tuple(made), value, fund_fee)

    def _compose(self, operations: Sequence[Operation], coins: Sequence[Coin]) -> list[Unsigned]:
        pool = list(coins)
        made: list[Unsigned] = []
        change: Coin | None = None
        for number, operation in enumerate(operations, start=1):
            # A registration spends the change of its preorder, so it cannot be mined without it.
            first = change if isinstance(operation, Register) else None
            unsigned = compose(
                operation,
                self.view.network,
                pool,
                self.parties.sender,
                fee_rate=self.fee_rate,
                first=first,
                size_of=self.size_of,
            )
            made.append(unsigned)
            pool = [coin for coin in pool if coin not in unsigned.coins]
            if unsigned.change is not None:
                output = unsigned.outputs[unsigned.change]
                change = Coin(bytes((number,)) * 32, unsigned.change, output.value, output.script)
                pool.append(change)
        return made

    def _funded(
        self, operations: Sequence[Operation], coins: Sequence[Coin], missing: int
    ) -> tuple[int, list[Unsigned]]:
        """The least that one more coin of the sender must hold, and what it then pays for."""

        def paid(value: int) -> list[Unsigned]:
            try:
                return self._compose(operations, [*coins, self._coin(value)])
            except CannotPay:
                return []

        enough = max(missing, DUST)
        while not paid(enough):
            enough *= 2
        tried = range(DUST, enough)
        value = DUST + bisect_left(tried, True, key=lambda value: bool(paid(value)))
        return value, paid(value)

    def _coin(self, value: int) -> Coin:
        return Coin(_FUNDED, 0, value, self.parties.sender)

    def _not_enough(self, lacking: int, have: int) -> PlanRefused:
        address = script_address(self.parties.sender, self.view.network)
        return PlanRefused(
            Reason.NOT_ENOUGH_MONEY,
            f"there are {have} satoshis that can be spent on this; {address} lacks {lacking}",
            f"send at least {lacking} satoshis to {address}, wait for a block, and try again",
        )
