"""What can be next for a job: one value for each thing to do, and for each reason to do nothing.

What must stay true: the set is closed; steps are named by their place in the job; ``why`` is a
sentence (or part of one) for people. Pure.
"""

from dataclasses import dataclass
from typing import TypeAlias

from indexer.registrar.work.jobs import Attempt


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
class Anew:
    """Begin a step again with other coins: what was tried can no more be mined, or not together
    with what will be tried, or costs nothing but a miner's fee."""

    step: int


@dataclass(frozen=True, slots=True)
class Skip:
    """Count a step as done that has no transaction: what it would do was done before the job."""

    step: int


@dataclass(frozen=True, slots=True)
class Remember:
    """Write down since which height of the node something is so; None: it is not."""

    step: int
    missing_since: int | None
    flawed_since: int | None


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand the data to other nodes."""

    step: int


@dataclass(frozen=True, slots=True)
class Verify:
    """Resolve the name as a stranger does."""

    step: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done now."""

    why: str


@dataclass(frozen=True, slots=True)
class AwaitSignature:
    """Somebody else must sign."""

    why: str


@dataclass(frozen=True, slots=True)
class AskConsent:
    """Going on costs money again. With consent the steps from ``step`` on begin again."""

    step: int
    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All is done."""


@dataclass(frozen=True, slots=True)
class Fail:
    """It cannot be had; ``why`` says what was paid."""

    why: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """Its owner gave it up and nothing is on its way any more."""

    why: str


Action: TypeAlias = (
    Make
    | Send
    | Replace
    | Cancel
    | Anew
    | Skip
    | Remember
    | Publish
    | Verify
    | Wait
    | AwaitSignature
    | AskConsent
    | Finish
    | Fail
    | Abandon
)
