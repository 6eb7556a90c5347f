"""Which of two ways to what a block spends costs less, learned from how long each has taken.

What must stay true: whatever was measured once, each way is tried again in time, so that neither
a slow moment nor blocks that have become smaller decide for ever.
"""

from dataclasses import dataclass

LEARNS = 0.25
"""The share of the newest measurement in what is reckoned with."""
FORGETS = 0.99
"""What is left of the cost of a way each time that the other one is taken."""


@dataclass(slots=True)
class Costs:
    """Seconds. They begin with what a Bitcoin Core of today takes for a full block."""

    transaction: float = 0.008
    """For one transaction of a block with what it spends."""
    block: float = 0.4
    """For all transactions of a block with what they spend."""

    def prefer_transactions(self, count: int) -> bool:
        """Whether so many transactions of a block are to be asked for one by one."""
        if self.transaction * count < self.block:
            self.block *= FORGETS
            return True
        self.transaction *= FORGETS
        return False

    def learn_transactions(self, count: int, seconds: float) -> None:
        """``count`` transactions, one or more, took this long."""
        self.transaction += LEARNS * (seconds / count - self.transaction)

    def learn_block(self, seconds: float) -> None:
        """A whole block took this long."""
        self.block += LEARNS * (seconds - self.block)
