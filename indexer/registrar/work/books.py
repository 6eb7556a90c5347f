"""The jobs of a registrar in its journal, what is noted of them, and the coins kept for them.

What must stay true: a job is written down before anything follows from it; a wallet spends nothing
elsewhere that an open job counts on, and may spend it again when none does.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from indexer.node.failures import NodeError
from indexer.registrar.work.jobs import Attempt, Job, State
from indexer.registrar.work.journal import Journal
from indexer.registrar.work.making import counted_on, known_coins, left_by
from indexer.registrar.work.observed import Seen
from indexer.registrar.work.progress import deadline
from indexer.wallet.signers import Signer, SignerError

log = logging.getLogger("blockstore.registrar")

MAX_REMEMBERED = 10_000


class Books:
    """What is written down of jobs, and who signs for them. ``clock``: unix seconds."""

    def __init__(
        self, journal: Journal, signers: Mapping[str, Signer], clock: Callable[[], float]
    ) -> None:
        self.journal = journal
        self.signers = signers
        self.clock = clock
        self._tried: dict[object, tuple[int, float]] = {}

    def pending(self) -> list[Job]:
        """The open jobs, the oldest first."""
        return [job for job in self.journal.jobs() if job.state.is_open]

    def job(self, job_id: str) -> Job:
        """One job. Raises KeyError, JournalError."""
        job = self.journal.load(job_id)
        if job is None:
            raise KeyError(job_id)
        return job

    def note(self, job: Job, state: State, why: str) -> None:
        """Write down what is waited for, where that is new."""
        noted = job.noted(state, why, int(self.clock()))
        if noted is not job:
            log.info("job %s for %s: %s: %s", job.id, job.subject, state.value, why)
            self.journal.save(noted)

    def hold(self, job: Job, index: int, why: str, seen: Seen) -> None:
        """Note why a transaction cannot be made, and until when that costs nothing."""
        until = deadline(job, index, seen)
        self.note(job, State.RUNNING, f"{why.rstrip('.')}.{until}" if until else why)

    def close(self, job: Job, state: State, why: str, seen: Seen) -> None:
        """Note how a job ended, and let its coins go."""
        closed = replace(job, closed_at=seen.node_height)
        self.note(closed, state, why)
        self.let_go(job.signer, [closed])

    # --- coins

    def keep(self, job: Job, attempt: Attempt) -> None:
        """Let the wallet spend nothing elsewhere that the job counts on."""
        signer = self.signers.get(job.signer)
        if signer is None:
            return
        try:
            signer.keep([*attempt.unsigned.coins, *left_by(attempt, job)])
        except (SignerError, NodeError) as failure:
            log.info("job %s: its coins could not be set aside: %s", job.id, failure)

    def let_go(self, name: str, jobs: Sequence[Job]) -> None:
        """Let a wallet spend again what these jobs know of and no open one counts on."""
        signer, taken = self.signers.get(name), counted_on(self.pending())
        known = dict.fromkeys(coin for job in jobs for coin in known_coins(job))
        coins = [coin for coin in known if (coin.txid, coin.index) not in taken]
        if signer is not None and coins:
            try:
                signer.let_go(coins)
            except (SignerError, NodeError) as failure:
                log.info("coins of %d jobs could not be let go: %s", len(jobs), failure)

    # --- what was tried

    def is_time(self, what: object, height: int, seconds: float) -> bool:
        """Whether something is to be tried (again): at first, at each block, and now and then."""
        now = self.clock()
        last = self._tried.get(what)
        if last is not None and last[0] == height and abs(now - last[1]) < seconds:
            return False
        if len(self._tried) >= MAX_REMEMBERED:
            self._tried.clear()
        self._tried[what] = (height, now)
        return True

    def forget(self, what: object) -> None:
        """It is to be tried at once the next time."""
        self._tried.pop(what, None)
