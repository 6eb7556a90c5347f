"""Looks at each open job, decides, does it and writes it down, until there is nothing to do now.

What must stay true: a signed transaction is in the journal before it is sent; what is done next
follows from the journal, the chain and the index, never from memory, so it may end anywhere and
begin again; nothing raised by a node, a signer or a disk leaves ``turn``, and nothing waits there.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from indexer.networks import Network
from indexer.node.failures import NodeError, NodeUnavailable
from indexer.node.node import ChainInfo
from indexer.protocol.rows import DamagedRow
from indexer.protocol.schema import UNDO_BLOCKS
from indexer.registrar.planning.fees import ask_fee_rate
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work import execute, observe
from indexer.registrar.work.actions import OffChain
from indexer.registrar.work.books import Books
from indexer.registrar.work.decide import decide
from indexer.registrar.work.execute import Executor
from indexer.registrar.work.jobs import Job, State
from indexer.registrar.work.journal import Journal, JournalError
from indexer.registrar.work.observe import Present
from indexer.registrar.work.observed import Seen, Standing
from indexer.registrar.work.progress import turned_by_chain
from indexer.registrar.work.unindexed import Node as BlockNode
from indexer.registrar.work.unindexed import Unindexed
from indexer.table.level import TableError
from indexer.table.snapshot import Snapshot
from indexer.wallet.signers import Signer

log = logging.getLogger("blockstore.registrar")

MAX_MOVES = 40
"""How many things are done for one job in one turn; the next turn goes on."""
RETRY_SECONDS = 10.0
"""Before publishing or verifying is tried again, unless a block came."""
SLOW_BLOCKS = 12
"""Blocks for which the chain may rest before the node is taken to have been asleep."""


class Node(execute.Node, BlockNode, Protocol):
    """What is asked of a Bitcoin node."""

    def chain_info(self) -> ChainInfo: ...


class Runner:
    """Carries open jobs on. ``turn`` in a thread of its own; the others from any thread.

    ``snapshot`` gives the index as it is; ``publish`` hands data to other nodes and says to how
    many (0: try again later), ``verify`` whether the name resolves to the value hash (None: to
    what the index says) as for a stranger; both may take long and may raise. ``clock``: unix
    seconds.
    """

    def __init__(
        self,
        journal: Journal,
        node: Node,
        snapshot: Callable[[], Snapshot],
        network: Network,
        signers: Mapping[str, Signer],
        *,
        publish: Callable[[bytes, bytes], int],
        verify: Callable[[str, bytes | None], bool],
        zones: Mapping[str, str],
        confirmations: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``zones``: the DNS suffixes that are served here, each with its namespace."""
        self.node = node
        self.snapshot = snapshot
        self.network = network
        self.confirmations = network.confirmations if confirmations is None else confirmations
        self.clock = clock
        self.tip_age: float | None = None
        """Seconds after which a chain without a new block is taken for one that the node has not
        caught up with; None: never, where blocks come when they may."""
        if network.node_chain != "regtest":
            self.tip_age = (SLOW_BLOCKS + self.confirmations) * network.target_spacing
        self.trouble: str | None = None
        """Why no job can be carried on at present, for people; None: nothing is in the way."""
        self.lock = threading.RLock()
        """Held while a job is looked at and changed; never while data is published or verified."""
        self.books = Books(journal, signers, clock)
        self._executor = Executor(self.books, node, snapshot, zones)
        self._publish = publish
        self._verify = verify
        self._turning = threading.Lock()
        self._unindexed = Unindexed(node)

    # --- one pass

    def turn(self) -> None:
        """One pass over all jobs. Never raises."""
        if not self._turning.acquire(blocking=False):
            return  # another thread is at it
        try:
            self._turn()
        finally:
            self._turning.release()

    def _turn(self) -> None:
        said = None
        self._executor.funding.begin_pass()
        if not self.books.journal.jobs():
            self.trouble = None
            return  # the node is asked nothing by those for whom nothing is registered
        try:
            present = self.ask_node()
        except NodeError as failure:
            self.trouble = str(failure)
            return
        for job in self.books.journal.jobs():
            try:
                if job.state.is_open:
                    self._advance(job.id, present)
                elif self._is_watched(job, present.height):
                    self._recheck(job.id)
            except (NodeUnavailable, TableError, DamagedRow) as failure:
                self.trouble = str(failure)  # of no use to the other jobs either
                return
            except (NodeError, JournalError) as failure:
                said = str(failure)
                log.warning("job %s: %s", job.id, failure)
            except Exception:
                said = f"job {job.id} stumbled over a mistake of ours; see the log"
                log.exception("job %s for %s could not be carried on", job.id, job.subject)
        self.trouble = said

    def ask_node(self) -> Present:
        """How the node's chain is at present. Raises NodeError."""
        info = self.node.chain_info()
        behind = info.initial_block_download or info.headers > info.blocks + 1
        age = self.clock() - self.snapshot().block_time
        asleep = self.tip_age is not None and age > self.tip_age
        fee = ask_fee_rate(self.node)
        return Present(info.blocks, not (behind or asleep), self.confirmations, fee)

    def advance(self, job_id: str) -> Job:
        """Carry one job on, now; the job as it is then. Raises NodeError and JournalError."""
        self._executor.funding.begin_pass()
        self._advance(job_id, self.ask_node())
        return self.books.job(job_id)

    def _advance(self, job_id: str, present: Present) -> None:
        sent: set[bytes] = set()
        for _ in range(MAX_MOVES):
            with self.lock:
                job = self.books.job(job_id)
                if not job.state.is_open:
                    return
                seen = self.look(job, present, frozenset(sent))
                action = decide(job, seen)
                what = type(action).__name__
                log.debug("job %s at block %d: %s", job.id, present.height, what)
                if not isinstance(action, OffChain):
                    if not self._executor.do(job, action, seen, sent):
                        return
                    continue
            if not self._do_off_chain(job, action, present.height):
                return
        log.warning("job %s had more than %d things to do at once; later more", job_id, MAX_MOVES)

    def look(self, job: Job, present: Present, sent: frozenset[bytes] = frozenset()) -> Seen:
        """What is seen of a job at present. Raises NodeError."""
        snapshot = self.snapshot()
        with self.lock:
            ahead = self._unindexed.look(snapshot, present.height)
        return observe.look(job, self.node, snapshot, ahead, present, sent)

    # --- off the chain

    def _do_off_chain(self, job: Job, action: OffChain, height: int) -> bool:
        """Publish or verify, with no lock held, for both may take long; whether it was done. What
        is not is tried again at the next block, and every few seconds. Raises JournalError."""
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

    # --- ends that the chain takes back

    def _is_watched(self, job: Job, height: int) -> bool:
        return job.closed_at is not None and height < job.closed_at + UNDO_BLOCKS

    def _recheck(self, job_id: str) -> None:
        """Open a job again whose end a reorganisation took back."""
        with self.lock:
            job = self.books.job(job_id)
            snapshot = self.snapshot()
            verdicts = {a.txid: snapshot.verdict(a.txid) for a in job.attempts() if a.txid}
            standings = {txid: Standing(verdict) for txid, verdict in verdicts.items()}
            turned = turned_by_chain(job, standings)
            if turned is not None:
                self.books.note(*turned)
