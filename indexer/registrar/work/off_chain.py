"""What is done for a job off the chain: its data is handed to other nodes, and its name resolved.

What must stay true: no lock is held meanwhile, for both may take long; what is not done is tried
again at the next block, and every few seconds.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.actions import OffChain
from indexer.registrar.work.books import Books
from indexer.registrar.work.jobs import Job, State
from indexer.registrar.work.journal import JournalError

log = logging.getLogger("blockstore.registrar")

RETRY_SECONDS = 10.0
"""Before publishing or verifying is tried again, unless a block came."""


class Publishing:
    """Publishes and verifies. ``lock`` is held while a job is changed.

    ``publish`` hands data to other nodes and says to how many (0: try again later), ``verify``
    whether the name resolves to the value hash (None: to what the index says) as for a stranger;
    both may take long and may raise.
    """

    def __init__(
        self,
        books: Books,
        lock: AbstractContextManager[object],
        publish: Callable[[bytes, bytes], int],
        verify: Callable[[str, bytes | None], bool],
    ) -> None:
        self.books = books
        self.lock = lock
        self._publish = publish
        self._verify = verify

    def do(self, job: Job, action: OffChain, height: int) -> bool:
        """Publish or verify; whether it was done. Raises JournalError."""
        kind = job.steps[action.step].kind
        what = (job.id, kind)
        if not self.books.is_time(what, height, RETRY_SECONDS):
            return False
        try:
            why = self._published(job) if kind is StepKind.PUBLISH else self._verified(job)
        except JournalError:
            raise
        except Exception as failure:
            log.info("job %s: %s", job.id, failure, exc_info=True)
            why = f"it could not be tried ({type(failure).__name__}); it is tried again"
        with self.lock:
            found = self.books.job(job.id)
            if not found.state.is_open or len(found.steps) != len(job.steps):
                return False
            if why is not None:
                self.books.note(found, State.RUNNING, why)
                return False
            step = replace(found.steps[action.step], done=True)
            self.books.journal.save(found.with_step(action.step, step))
        self.books.forget(what)
        return True

    def _published(self, job: Job) -> str | None:
        """Hand the data to other nodes; None: done, otherwise why not."""
        content = None if job.digest is None else self.books.journal.content(job.digest)
        if job.digest is None or content is None:
            return "the data to publish is not in the journal any more; publish it by hand"
        if self._publish(job.digest, content) < 1:
            return "no other node has taken the data yet; it is offered again"
        return None

    def _verified(self, job: Job) -> str | None:
        """Resolve the name; a namespace and an announcement resolve to nothing, and are done."""
        if "." not in job.subject or self._verify(job.subject, job.digest):
            return None
        return f"{job.subject} does not resolve to what was written yet; it is asked again"
