"""A job that goes on after all: by consent, opened again by its owner, or since the chain turned.

What must stay true: what was tried stays written down, for it may still be mined. Pure.
"""

from collections.abc import Mapping
from dataclasses import replace

from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.actions import AskConsent
from indexer.registrar.work.done import current, is_done
from indexer.registrar.work.jobs import Job, State
from indexer.registrar.work.seen import Seen, Standing


def consented(job: Job, action: AskConsent, seen: Seen) -> Job:
    """The job after its owner agreed to pay anew. What took effect in a step before the current one
    was of no use, and counts for nothing from now on."""
    at = current(job, seen.standings)
    begin = len(job.steps) if at is None else at
    steps = tuple(
        step
        if index < action.step or step.kind is StepKind.FUND
        else step.anew(forgo=index < begin)
        for index, step in enumerate(job.steps)
    )
    return replace(job, steps=steps)


def reopened(job: Job, seen: Seen) -> Job:
    """A job that had ended, to be carried on: what was taken back is paid again."""
    steps = tuple(
        replace(step, missing_since=None, flawed_since=None)
        if not any(attempt.cancels and seen.of(attempt).mined for attempt in step.attempts)
        else step.anew()
        for step in job.steps
    )
    return replace(job, steps=steps, state=State.RUNNING, stopping=False, closed_at=None)


def turned_by_chain(job: Job, standings: Mapping[bytes, Standing]) -> tuple[Job, State, str] | None:
    """A job that had ended, its state and what to say, where the chain has turned since; None: its
    end stands. ``standings``: by the index alone."""
    on_chain = [index for index, step in enumerate(job.steps) if step.kind.carries_operation]
    done = [index for index in on_chain if is_done(job, index, standings)]
    if job.state is State.DONE:
        if done == on_chain:
            return None
        why = "a reorganisation took back what was done; it is done again"
        return replace(job, closed_at=None), State.RUNNING, why
    survived = [i for i in done if any(attempt.cancels for attempt in job.steps[i].attempts)]
    if not survived and not (done == on_chain and job.state is State.FAILED):
        return None
    for index in survived:
        step = job.steps[index]
        backs = tuple(attempt for attempt in step.attempts if attempt.cancels)
        others = tuple(attempt for attempt in step.attempts if not attempt.cancels)
        job = job.with_step(index, replace(step, attempts=others, lost=(*step.lost, *backs)))
    price = sum(attempt.price for index in survived for attempt in job.steps[index].attempts[-1:])
    why = f"a reorganisation let it be mined after all: {price} satoshis were paid for it"
    if job.state is State.ABANDONED:
        return job, State.ABANDONED, f"the job was given up, but {why}"
    return replace(job, closed_at=None), State.RUNNING, why
