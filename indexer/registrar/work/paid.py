"""What people are told of a job's money: what it has cost, and by when what it paid is lost.

What must stay true: only what is in a block counts as paid. Pure.
"""

from indexer.networks import PREORDER_EXPIRE
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.jobs import Job
from indexer.registrar.work.seen import Seen


def paid(job: Job, seen: Seen) -> str:
    """A sentence on what the job has cost until now."""
    mined = [attempt for attempt in job.attempts() if seen.of(attempt).mined]
    price = sum(attempt.price for attempt in mined)
    fees = sum(attempt.unsigned.fee for attempt in mined)
    if not mined:
        return "Nothing was paid."
    if not price:
        return f"Nothing was paid but {fees} satoshis to miners."
    return f"{price} satoshis were paid for it, and {fees} satoshis to miners."


def deadline(job: Job, index: int, seen: Seen) -> str:
    """A sentence, after a blank, on until when a registration must be mined lest its price is lost;
    "" where that is not so."""
    if job.steps[index].kind is not StepKind.REGISTER:
        return ""
    before = (attempt for step in job.steps[:index] for attempt in (*step.lost, *step.attempts))
    verdicts = (seen.of(attempt).verdict for attempt in before if attempt.price)
    heights = [one.height for one in verdicts if one is not None and one.flaw is None]
    if not heights:
        return ""
    last = max(heights) + PREORDER_EXPIRE
    return f" It must be in block {last} at the latest, or the price that was paid is lost."


def given_up(job: Job, seen: Seen) -> str:
    return f"the job was given up. {paid(job, seen)}"
