"""What people tell of a job that was begun: go on with it, pay anew, sign here, give it up.

What must stay true: two jobs never work on one name; who says yes or no is told at once how things
stand.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from indexer.bitcoin.transactions import parse_transaction
from indexer.node.failures import NodeError
from indexer.registrar.planning.refusals import CannotOrder, NoSuchJob
from indexer.registrar.planning.wishes import Wish
from indexer.registrar.work.actions import AskConsent
from indexer.registrar.work.decide import decide
from indexer.registrar.work.jobs import Attempt, Job, State
from indexer.registrar.work.journal import JournalError
from indexer.registrar.work.reopening import consented, reopened
from indexer.registrar.work.runner import Runner
from indexer.wallet.psbt import BadPsbt, NotYetSigned, combine, signed_transaction
from indexer.wallet.signers import SignerError

log = logging.getLogger("blockstore.registrar")


class Begun:
    """The jobs of a runner, for their owner. Blocks on nodes and signers."""

    def __init__(self, runner: Runner, *, max_fee_rate: float, clock: Callable[[], float]) -> None:
        """``max_fee_rate``: the most satoshis a byte to which ``resume`` lets a job rise."""
        self.runner = runner
        self.max_fee_rate = max_fee_rate
        self._clock = clock

    def jobs(self, *, everything: bool = False) -> list[Job]:
        """The open jobs, or all, the oldest first."""
        return self.runner.books.journal.jobs() if everything else self.runner.books.pending()

    def job(self, job_id: str) -> Job:
        """One job. Raises NoSuchJob."""
        found = self.runner.books.journal.load(job_id)
        if found is None:
            raise NoSuchJob(f"nothing {job_id[:32]!r} was begun here", "see `pending --all`")
        return found

    def resume(self, job_id: str) -> Job:
        """Carry a job on now, also one that failed or was given up.

        Raises NoSuchJob, NodeError, JournalError, and CannotOrder.
        """
        present = self.runner.ask_node()
        with self.runner.lock:
            job = self.job(job_id)
            if job.state in (State.FAILED, State.ABANDONED):
                self.refuse_second(job.wish)
                job = reopened(job, self.runner.look(job, present))
                note = "its owner has it tried again"
                job = job.noted(State.RUNNING, note, int(self._clock()))
            # What the settings allow was perhaps raised for the sake of this very job.
            allowed = replace(job, max_fee_rate=max(job.max_fee_rate, self.max_fee_rate))
            if allowed.state.is_open and allowed != self.job(job_id):
                self.runner.books.journal.save(allowed)
        return self.advanced(job_id)

    def consent(self, job_id: str) -> Job:
        """Agree that what was lost is paid anew. Raises as ``resume``, and CannotOrder."""
        present = self.runner.ask_node()
        with self.runner.lock:
            job = self.job(job_id)
            seen = self.runner.look(job, present)
            action = decide(job, seen)
            if not isinstance(action, AskConsent):
                raise CannotOrder(
                    f"{job_id} does not wait for consent: {job.note}", "see `pending`"
                )
            job = consented(job, action, seen)
            note = "its owner consented to pay anew"
            self.runner.books.journal.save(job.noted(State.RUNNING, note, int(self._clock())))
        return self.advanced(job_id)

    def abandon(self, job_id: str) -> Job:
        """Give a job up; what is not mined yet is taken back. Raises as ``resume``."""
        with self.runner.lock:
            job = self.job(job_id)
            if not job.state.is_open:
                raise CannotOrder(f"{job_id} has ended: {job.note}", "there is nothing to give up")
            self.runner.books.journal.save(replace(job, stopping=True))
        return self.advanced(job_id)

    # --- signed elsewhere

    def hand_in(self, job_id: str, signed: str) -> Job:
        """Take the signed PSBT that a job waits for; with others to sign, what is there is kept.

        Raises as ``resume``, and CannotOrder.
        """
        with self.runner.lock:
            job = self.job(job_id)
            found = [
                (index, step.attempts[-1])
                for index, step in enumerate(job.steps)
                if step.attempts and step.attempts[-1].raw is None
            ]
            if not found or not job.state.is_open:
                raise CannotOrder(f"{job_id} waits for no signature: {job.note}", "see `pending`")
            index, attempt = found[-1]
            try:
                raw = signed_transaction(signed, attempt.unsigned)
                txid = parse_transaction(raw).txid
                changed = replace(attempt, raw=raw, txid=txid, psbt=None)
            except NotYetSigned as missing:
                changed = self._partly(attempt.psbt, signed, attempt, str(missing))
            except BadPsbt as flaw:
                raise CannotOrder(
                    f"this is not what {job_id} waits for: {flaw}; nothing was paid",
                    f"`blockstore-cli resume {job_id}` shows the PSBT to sign",
                ) from None
            self.runner.books.journal.save(job.with_changed(index, attempt, changed))
        return self.advanced(job_id)

    def _partly(self, psbt: str | None, signed: str, attempt: Attempt, why: str) -> Attempt:
        """The attempt with the signatures of one more of its owners."""
        try:
            joined = combine([psbt or signed, signed])
        except BadPsbt as flaw:
            raise CannotOrder(
                f"{why}; {flaw}. Nothing was paid", "sign it, and try again"
            ) from None
        if joined == psbt:
            raise CannotOrder(f"{why}; nothing was paid", "sign it where the keys are") from None
        return replace(attempt, psbt=joined)

    # --- carried on

    def advanced(self, job_id: str) -> Job:
        """The job, carried on now as far as it goes. Raises NoSuchJob."""
        try:
            return self.runner.advance(job_id)
        except (NodeError, SignerError, JournalError) as failure:
            log.warning("job %s goes on later: %s", job_id, failure)
            return self.job(job_id)

    def refuse_second(self, wish: Wish) -> None:
        """Raises CannotOrder where an open job works on the same name."""
        for job in self.runner.books.pending():
            if job.subject == wish.subject:
                note = job.note or "it begins"
                raise CannotOrder(
                    f"{job.wish.word} {job.subject} is under way already ({job.id}: {note});"
                    " nothing more was paid",
                    f"wait for it, or give it up: `blockstore-cli abandon {job.id}`",
                )
