"""What can be next for a job: one value for each thing to do, and one for doing nothing.

What must stay true: the set is closed; steps are named by their place in the job; ``why`` is a
sentence (or part of one) for people. Pure.
"""

from dataclasses import dataclass
from typing import TypeAlias

from indexer.registrar.work.jobs import Attempt, State, Step


@dataclass(frozen=True, slots=True)
class Make:
    """Compose, sign and write down the first transaction of a step."""

    step: int


@dataclass(frozen=True, slots=True)
class Send:
    """Hand what is written down to the node, perhaps once more."""

    step: int
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Replace:
    """Make the step's transaction once more from the same first coin, at ``fee_rate`` or more."""

    step: int
    fee_rate: float
    why: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Pay the step's coins back, so that none of its transactions can be mined."""

    step: int
    why: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Write down another state of a step: begun again with other coins, done without a transaction,
    or since which height of the node something is so."""

    step: int
    to: Step


@dataclass(frozen=True, slots=True)
class OffChain:
    """Hand the data to other nodes (PUBLISH), or resolve the name as a stranger does (VERIFY)."""

    step: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing can be done now, or ever again. ``state``: what the job is from now on."""

    state: State
    why: str
    step: int = 0
    """Where consent is needed: the steps from this one on begin again with it."""


Action: TypeAlias = Make | Send | Replace | Cancel | Rewrite | OffChain | Rest


def wait(why: str) -> Rest:
    """Nothing can be done now."""
    return Rest(State.RUNNING, why)
