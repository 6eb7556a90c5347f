"""Which steps of a job are done, as of what is seen of their transactions.

What must stay true: a step is done when the index accepted one of its transactions, and pending
again when a reorganisation took that back. Pure.
"""

from collections.abc import Mapping, Sequence

from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.jobs import Attempt, Job, Step
from indexer.registrar.work.seen import NOWHERE, Standing


def is_done(job: Job, index: int, standings: Mapping[bytes, Standing]) -> bool:
    """Whether a step needs nothing any more, as of what is seen."""
    step = job.steps[index]
    if step.kind.carries_operation:
        tried = (*step.lost, *step.attempts)
        accepted = (_of(attempt, standings).accepted for attempt in tried if not attempt.cancels)
        return step.done or any(accepted)
    if step.kind is StepKind.FUND:
        # Its money was moved when it is in a block, or when what spends it stands anywhere. What
        # is moved for a transaction that waits already holds nothing up.
        moved = any(_of(attempt, standings).mined for attempt in step.attempts)
        later = job.steps[index + 1 :]
        return moved or _is_spent(step, later, standings) or _is_for_replacing(step, later)
    return step.done


def current(job: Job, standings: Mapping[bytes, Standing]) -> int | None:
    """The first step that is not done; None: all are."""
    for index in range(len(job.steps)):
        if not is_done(job, index, standings):
            return index
    return None


def is_spent_by(job: Job, index: int, fund: int) -> bool:
    """Whether a transaction of the step ``index`` spends what the step ``fund`` moved."""
    return any(_spends(attempt, job.steps[fund]) for attempt in job.steps[index].attempts)


def _is_spent(step: Step, later: Sequence[Step], standings: Mapping[bytes, Standing]) -> bool:
    """Whether something that stands anywhere spends what a transaction of ``step`` paid."""
    spending = (attempt for other in later for attempt in (*other.lost, *other.attempts))
    return any(_of(attempt, standings) != NOWHERE for attempt in spending if _spends(attempt, step))


def _is_for_replacing(step: Step, later: Sequence[Step]) -> bool:
    """Whether coins are moved by ``step`` only so that a later transaction can be replaced."""
    served = next(other for other in later if other.kind is not StepKind.FUND)
    return bool(served.signed) and not any(_spends(attempt, step) for attempt in served.attempts)


def _spends(attempt: Attempt, step: Step) -> bool:
    """Whether it spends what some transaction of ``step`` paid."""
    txids = {paying.txid for paying in step.tried}
    return any(coin.txid in txids for coin in attempt.unsigned.coins)


def _of(attempt: Attempt, standings: Mapping[bytes, Standing]) -> Standing:
    return NOWHERE if attempt.txid is None else standings.get(attempt.txid, NOWHERE)
