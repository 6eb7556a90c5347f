"""Coins that are moved to who sends, where it has too few, for several jobs at once.

What must stay true: no coins are moved where those of another job will do; what was found out of
a wallet holds for one pass over the jobs, and no longer.
"""

from collections.abc import Callable
from dataclasses import replace

from indexer.bitcoin.transactions import TxOut
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work import making, observe, sharing
from indexer.registrar.work.books import Books
from indexer.registrar.work.jobs import Attempt, Job, State, Step
from indexer.registrar.work.making import Means
from indexer.registrar.work.observed import Seen
from indexer.table.snapshot import Snapshot
from indexer.wallet.coins import CannotPay
from indexer.wallet.signers import InsufficientFunds

FUND_HEADROOM = 4.0
"""So many times the present fee is moved the second time, and again as many times each time after:
what was enough when it was sent may be too little when it arrives."""
MAX_SHOWN = 3


class Funding:
    """Moves coins to senders. ``snapshot`` gives the index as it is."""

    def __init__(self, books: Books, node: observe.Node, snapshot: Callable[[], Snapshot]) -> None:
        self.books = books
        self.node = node
        self.snapshot = snapshot
        self._short: set[tuple[str, bytes]] = set()
        """Signers and senders that were found without a spare coin in this pass: one question for
        all jobs that lack one."""
        self._in_vain: set[str] = set()
        """Ids of jobs for which money was too short in this pass: others do not wait for them."""

    def begin_pass(self) -> None:
        """Another pass over the jobs begins."""
        self._short.clear()
        self._in_vain.clear()

    def spare(self, job: Job, index: int, seen: Seen, means: Means) -> bool | None:
        """Do without the FUND of a job where another's has brought, or will bring, a coin for it;
        whether there is more to do at once. None: it must be made."""
        rate, whose = min(seen.fee_rate, job.max_fee_rate), (job.signer, job.parties.sender)
        if whose not in self._short and not job.steps[index + 1].attempts:
            if not making.lacking(job, index + 1, rate, means):
                steps = (*job.steps[:index], *job.steps[index + 1 :])
                self.books.journal.save(replace(job, steps=steps))
                return True
            self._short.add(whose)
        pending = self.books.pending()
        jobs = sharing.lacking(job, pending, self._in_vain)
        for payment in sharing.carriers(job, pending, self._in_vain):
            standing = observe.look_at([payment], self.node, self.snapshot())
            if any(one.in_mempool for one in standing.values()):
                why = "coins for several jobs are on their way to the address that sends; waiting"
                self.books.note(job, State.RUNNING, why)
                return False
        if jobs[0].id != job.id:
            why = f"its coins will be moved together with those of {jobs[0].id}; waiting"
            self.books.note(job, State.RUNNING, why)
            return False
        return None

    def make(self, job: Job, index: int, rate: float, means: Means) -> Attempt:
        """A payment of coins for this job, and for all others of its signer that lack one."""
        jobs = sharing.lacking(job, self.books.pending(), self._in_vain)
        least = sharing.amount_for(job) // 2
        if not job.steps[index + 1].attempts:
            least = making.lacking(job, index + 1, rate, means)
        amounts = {other.id: sharing.amount_for(other) for other in jobs}
        amounts[job.id] = max(amounts[job.id], least)
        wanted = [TxOut(amounts[other.id], other.parties.sender) for other in jobs]
        failure = None
        tries = [wanted[:count] for count in sharing.counts(len(jobs))]
        for outputs in (*tries, [TxOut(least, job.parties.sender)]):
            try:
                return making.make_fund(job, outputs, rate, means)
            except InsufficientFunds as short:
                failure = short
        self._in_vain.add(job.id)
        assert failure is not None, "at least one coin was tried"
        raise failure

    def add_step(
        self, job: Job, index: int, failure: CannotPay, seen: Seen, means: Means, *, first: bool
    ) -> None:
        """Have coins moved before the step ``index``, which lacks what ``failure`` says. ``first``:
        for its first transaction, and not to replace that."""
        more = FUND_HEADROOM ** funds_before(job, index)
        if first:
            rate = max(seen.fee_rate, min(seen.fee_rate * more, job.max_fee_rate))
            amount = making.lacking(job, index, rate, means)
        else:
            amount = int(failure.missing * more) + int(making.SPARE_BYTES * seen.fee_rate)
        step = Step(StepKind.FUND, amount=max(amount, failure.missing))
        self.books.journal.save(replace(job, steps=(*job.steps[:index], step, *job.steps[index:])))

    def held_elsewhere(self, job: Job) -> str:
        """A sentence on the coins that come back when other jobs end; "" where there are none.

        What a job kept that has ended is let go: its wallet may not have been there then.
        """
        if (job.signer, b"") not in self._short:
            self._short.add((job.signer, b""))
            mine = [one for one in self.books.journal.jobs() if one.signer == job.signer]
            self.books.let_go(job.signer, mine)
        others = [
            one for one in self.books.pending() if one.signer == job.signer and one.id != job.id
        ]
        ids = [one.id for one in others if making.counted_on([one])]
        if not ids:
            return ""
        shown = ", ".join(ids[:MAX_SHOWN]) + (" and others" if len(ids) > MAX_SHOWN else "")
        return f". Coins that other jobs count on come back when those end: {shown}"


def funds_before(job: Job, index: int) -> int:
    """How often coins were moved, or are to be, just before the step ``index``."""
    before = job.steps[:index][::-1]
    return next((n for n, step in enumerate(before) if step.kind is not StepKind.FUND), index)
