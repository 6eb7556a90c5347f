"""What to do next for a job, from what is seen of it on the chain, in the mempool and in the index.

What must stay true: the answer follows from the job and from what is seen, never from what is
remembered of the last answer. Pure.
"""

from indexer.protocol.flaws import Flaw
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.actions import (
    Abandon,
    Action,
    Finish,
    Make,
    Publish,
    Remember,
    Skip,
    Verify,
    Wait,
)
from indexer.registrar.work.done import current
from indexer.registrar.work.jobs import Job
from indexer.registrar.work.lost import (
    FINAL_FLAWS,
    cancelled,
    first_coin_gone,
    flawed,
    refused,
    take_back,
)
from indexer.registrar.work.paid import given_up
from indexer.registrar.work.seen import Seen
from indexer.registrar.work.underway import (
    COINS_GONE,
    TOO_OLD,
    hold_back,
    is_stale,
    make_anew,
    may_send,
    send,
    unsigned,
    wait_for_chain,
    wait_or_raise,
)


def decide(job: Job, seen: Seen) -> Action:
    """The next thing to do for an open job."""
    index = current(job, seen.standings)
    if index is None:
        return Finish()
    kind = job.steps[index].kind
    if kind in (StepKind.PUBLISH, StepKind.VERIFY):
        if job.stopping:
            return Abandon(given_up(job, seen))
        return Publish(index) if kind is StepKind.PUBLISH else Verify(index)
    for look in (_mined, unsigned, _unmined):
        action = look(job, index, seen)
        if action is not None:
            return action
    return _first(job, index, seen)


def _mined(job: Job, index: int, seen: Seen) -> Action | None:
    """Some transaction of the step is in a block."""
    step = job.steps[index]
    for attempt in step.attempts:
        standing = seen.of(attempt)
        if not standing.mined:
            continue
        if attempt.cancels:
            return cancelled(job, standing, seen)
        if standing.verdict is not None:
            return refused(job, index, standing.verdict, seen)
        known = min(standing.confirmations, seen.confirmations)
        return Wait(
            f"the {step.kind.value} is in a block with {known} of {seen.confirmations}"
            " confirmations; waiting for the index to take it"
        )
    return None


def _unmined(job: Job, index: int, seen: Seen) -> Action | None:
    """The step has transactions that may be on their way; none of them is in a block."""
    step = job.steps[index]
    if not step.signed:
        return None
    waiting = any(seen.of(attempt).in_mempool for attempt in step.signed)
    gone = first_coin_gone(job, index, waiting, seen)
    if gone is not None:
        return gone
    latest = step.signed[-1]
    if (job.stopping or seen.flaw in FINAL_FLAWS) and not latest.cancels:
        taken_back = take_back(job, index, seen)
        if taken_back is not None:
            return taken_back
    if seen.is_void:
        return make_anew(job, index, COINS_GONE, seen)
    if is_stale(latest, seen):
        return make_anew(job, index, TOO_OLD, seen)
    if seen.of(latest).in_mempool:
        return wait_or_raise(job, index, latest, seen)
    if not waiting and not may_send(job, index, latest, seen):
        return hold_back(job, index, seen)
    return send(job, index, latest, seen)


def _first(job: Job, index: int, seen: Seen) -> Action:
    """The step has no transaction yet."""
    step = job.steps[index]
    if job.stopping:
        return Abandon(given_up(job, seen))
    if not seen.is_current:
        return wait_for_chain(seen)
    if seen.flaw is Flaw.PREORDER_EXISTS:
        return Skip(index)  # the same name for the same owner: paid by us, whoever remembers it
    if seen.flaw is not None:
        return flawed(job, index, seen)
    if step.flawed_since is not None:
        return Remember(index, step.missing_since, None)
    return Make(index)
