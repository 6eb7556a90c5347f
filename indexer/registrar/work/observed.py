"""What is seen of a job from outside: on the chain, in the mempool and in the index.

What must stay true: a value here says what was seen, not what it means; that is for ``decide``.
Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from indexer.protocol.flaws import Flaw
from indexer.protocol.schema import Verdict
from indexer.registrar.work.jobs import Attempt, Step

INDEX_LAG = 1
"""Blocks that the index may be behind what it can know, and a transaction is still made."""


class CoinState(Enum):
    """What is seen of the coin that all attempts of a step spend first."""

    THERE = "there"
    """No block spends it."""
    UNCONFIRMED = "unconfirmed"
    """The transaction that makes it waits for a block itself."""
    REPLACED = "replaced"
    """Another attempt of the step that made it was mined, so it will never be."""
    GONE = "gone"
    """A block spends it, or its own transaction is gone."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is seen of one transaction."""

    verdict: Verdict | None = None
    """What the index made of it."""
    confirmations: int = 0
    """0: it is in no block that the node shows."""
    in_mempool: bool = False
    owed: int = 0
    """Satoshis of fees that would go with it from the mempool: its own, and those of what builds
    upon it (BIP 125, rule 3); 0 where the node does not tell."""

    @property
    def accepted(self) -> bool:
        """Whether the index let it take effect."""
        return self.verdict is not None and self.verdict.flaw is None

    @property
    def refused(self) -> bool:
        """Whether it was mined and had no effect."""
        return self.verdict is not None and self.verdict.flaw is not None

    @property
    def mined(self) -> bool:
        """Whether some block holds it."""
        return self.confirmations > 0 or self.verdict is not None


NOWHERE = Standing()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the runner saw for one job. The fields about "the step" are of its ``current`` one."""

    node_height: int
    index_height: int
    confirmations: int
    """How many the index waits for."""
    fee_rate: float
    """Satoshis a byte that the next blocks ask for, or that the job's owner chose."""
    node_is_current: bool = True
    """Whether the node seems to know the newest blocks that there are."""
    relay_step: float = 1.0
    """Satoshis a byte that a replacement must pay more (the node's incremental relay fee)."""
    standings: Mapping[bytes, Standing] = field(default_factory=dict)
    """By txid, of every signed attempt of the job."""
    coin: CoinState = CoinState.THERE
    """Of the step's first coin."""
    is_void: bool = False
    """Whether the step's latest transaction can never be mined: the first coin that it spends is
    there, and some other is not."""
    flaw: Flaw | None = None
    """Why the step would have no effect in the next block, if it were mined there."""
    usable_until: Mapping[bytes, int] = field(default_factory=dict)
    """The last block that may name each consensus hash which the next block may name."""
    sent: frozenset[bytes] = frozenset()
    """What was handed to the node in this very pass."""

    def of(self, attempt: Attempt) -> Standing:
        """What is seen of an attempt."""
        return NOWHERE if attempt.txid is None else self.standings.get(attempt.txid, NOWHERE)

    def waits(self, step: Step) -> bool:
        """Whether some transaction of a step waits in the mempool."""
        return any(self.of(attempt).in_mempool for attempt in step.signed)

    @property
    def is_current(self) -> bool:
        """Whether the node knows of all blocks, and the index of (nearly) all that it can."""
        known = self.node_height - self.confirmations + 1
        return self.node_is_current and self.index_height + INDEX_LAG >= known
