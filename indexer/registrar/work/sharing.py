"""Coins for many jobs of one sender at once: one payment brings a coin to each that lacks one.

What must stay true: a payment brings no more coins than open jobs lack; no job waits for a payment
that cannot bring it a coin; which coins those are, the chain shows, and nothing is remembered.
Pure.
"""

from collections.abc import Iterator, Sequence

from indexer.bitcoin.transactions import TxOut
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.jobs import Attempt, Job, State

MAX_COINS_AT_ONCE = 250
"""Of one payment: 8,500 bytes of outputs."""


LIKE = 2
"""Jobs share a payment where neither needs more than so many times what the other needs."""


def lacks(job: Job) -> int:
    """Satoshis that must be moved to its sender first, where no payment was made for that yet and
    nothing else is in its way; else 0."""
    if job.stopping or job.state is not State.RUNNING:
        return 0
    if any(step.flawed_since is not None for step in job.steps):
        return 0
    amounts = (s.amount for s in job.steps if s.kind is StepKind.FUND and not s.attempts)
    return max(amounts, default=0)


def lacking(job: Job, pending: Sequence[Job]) -> list[Job]:
    """The open jobs that lack about as much of the same sender and signer, in the order of
    ``pending``; ``job``, which lacks it, is among them."""
    amount = next(s.amount for s in job.steps if s.kind is StepKind.FUND and not s.attempts)
    found = []
    for other in pending:
        if other.id == job.id:
            found.append(other)
        elif (other.signer, other.parties.sender) == (job.signer, job.parties.sender):
            needs = lacks(other)
            if needs and amount <= needs * LIKE and needs <= amount * LIKE:
                found.append(other)
    return found


def amount_for(*jobs: Job) -> int:
    """Satoshis of a coin that is enough for each of these jobs."""
    return max(
        step.amount
        for job in jobs
        for step in job.steps
        if step.kind is StepKind.FUND and not step.attempts
    )


def counts(wanted: int) -> Iterator[int]:
    """How many coins to try to bring, the most first; less where money is short."""
    count = min(wanted, MAX_COINS_AT_ONCE)
    while count > 1:
        yield count
        count //= 4
    yield 1


def brought(attempt: Attempt) -> tuple[TxOut, ...]:
    """The outputs of a payment to a sender that bring a coin each: those like the first."""
    outputs = attempt.unsigned.outputs
    return tuple(output for output in outputs if output == outputs[0])


def carriers(place: int, job: Job, pending: Sequence[Job]) -> list[Attempt]:
    """The payments of other jobs that may bring ``job`` a coin once they are mined, where ``place``
    jobs lack one before it."""
    found: list[Attempt] = []
    for other in pending:
        if (other.signer, other.parties.sender) != (job.signer, job.parties.sender):
            continue
        payments = [s.attempts[-1] for s in other.steps if s.kind is StepKind.FUND and s.attempts]
        for payment in payments:
            spare = len(brought(payment)) - 1
            if place < spare:
                found.append(payment)
            place -= spare
    return found
