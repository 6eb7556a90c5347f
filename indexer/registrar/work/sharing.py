"""Coins for many jobs at once: one payment brings a coin to each job of a signer that lacks one.

What must stay true: a payment brings no more coins than open jobs lack; no job waits for a payment
that cannot bring it a coin; which coins those are, the chain shows, and nothing is remembered.
Pure.
"""

from collections.abc import Collection, Iterator, Sequence

from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.jobs import Attempt, Job, State

MAX_COINS_AT_ONCE = 250
"""Of one payment: 8,500 bytes of outputs."""


def lacks(job: Job) -> int:
    """Satoshis that must be moved to its sender first, where no payment was made for that yet and
    nothing else is in its way; else 0."""
    if job.stopping or job.state is not State.RUNNING:
        return 0
    if any(step.flawed_since is not None for step in job.steps):
        return 0
    return amount_for(job)


def lacking(job: Job, pending: Sequence[Job], in_vain: Collection[str] = ()) -> list[Job]:
    """The open jobs of the same signer that lack a coin, in the order of ``pending``, with ``job``
    among them. ``in_vain``: ids of those for which money was too short just now."""
    return [
        other
        for other in pending
        if other.id == job.id
        or (other.signer == job.signer and other.id not in in_vain and lacks(other))
    ]


def amount_for(job: Job) -> int:
    """Satoshis that the job has yet to have moved to its sender; 0: none."""
    amounts = (s.amount for s in job.steps if s.kind is StepKind.FUND and not s.attempts)
    return max(amounts, default=0)


def counts(wanted: int) -> Iterator[int]:
    """How many coins to try to bring, the most first; less where money is short."""
    count = min(wanted, MAX_COINS_AT_ONCE)
    while count > 1:
        yield count
        count //= 4
    yield 1


def carriers(job: Job, pending: Sequence[Job], in_vain: Collection[str] = ()) -> list[Attempt]:
    """The payments of other jobs that may bring ``job`` a coin once they are mined."""
    sender = job.parties.sender
    before = lacking(job, pending, in_vain)
    before = before[: [other.id for other in before].index(job.id)]
    place = sum(other.parties.sender == sender for other in before)
    found: list[Attempt] = []
    for other in pending:
        if other.signer != job.signer:
            continue
        payments = [s.attempts[-1] for s in other.steps if s.kind is StepKind.FUND and s.attempts]
        for payment in payments:
            spare = sum(output.script == sender for output in payment.brought[1:])
            if place < spare:
                found.append(payment)
            place -= spare
    return found
