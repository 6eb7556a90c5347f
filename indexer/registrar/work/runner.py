"""Looks at each open job, decides, does it and writes it down, until there is nothing to do now.

What must stay true: a signed transaction is in the journal before it is sent; what is done next
follows from the journal, the chain and the index, never from memory, so it may end anywhere and
begin again; nothing raised by a node, a signer or a disk leaves ``turn``, and nothing waits there.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from indexer.bitcoin.transactions import TxOut, hash_hex
from indexer.networks import Network
from indexer.node.failures import NodeError, NodeRpcError, NodeUnavailable
from indexer.node.node import ChainInfo
from indexer.protocol.rules import Refused
from indexer.protocol.schema import UNDO_BLOCKS
from indexer.registrar.planning.fees import FeeRate, ask_fee_rate
from indexer.registrar.planning.steps import StepKind, next_view
from indexer.registrar.work import looking, making, sharing
from indexer.registrar.work.actions import (
    Abandon,
    Action,
    Anew,
    AskConsent,
    AwaitSignature,
    Cancel,
    Fail,
    Finish,
    Make,
    Publish,
    Remember,
    Replace,
    Send,
    Skip,
    Verify,
    Wait,
)
from indexer.registrar.work.decide import decide
from indexer.registrar.work.jobs import Attempt, Job, State, Step
from indexer.registrar.work.journal import Journal, JournalError
from indexer.registrar.work.making import Means, NoMore, PriceTooHigh
from indexer.registrar.work.paid import deadline, paid
from indexer.registrar.work.reopening import turned_by_chain
from indexer.registrar.work.seen import Seen, Standing
from indexer.registrar.work.unindexed import Node as BlockNode
from indexer.registrar.work.unindexed import Unindexed
from indexer.table.snapshot import Snapshot
from indexer.wallet.coins import CannotPay, Coin, FeeTooHigh
from indexer.wallet.signers import InsufficientFunds, Signer, SignerError

log = logging.getLogger("blockstore.registrar")

MAX_MOVES = 40
"""How many things are done for one job in one turn; the next turn goes on."""
MAX_FUNDS = 8
"""How often coins are moved to the sender for one step of a job."""
FUND_HEADROOM = 4.0
"""So many times the present fee is moved the second time, and again as many times each time after:
what was enough when it was sent may be too little when it arrives."""
RESEND_SECONDS = 20.0
"""Before what the node did not take is offered to it again, unless a block came."""
SLOW_BLOCKS = 12
"""Blocks for which the chain may rest before the node is taken to have been asleep."""
RETRY_SECONDS = 10.0
"""Before publishing or verifying is tried again, unless a block came."""
MAX_REMEMBERED = 10_000
MAX_SHOWN = 3
_KNOWN_WORDS = ("txn-already-in-mempool", "txn-already-known", "txn-same-nonwitness-data")

T = TypeVar("T")


class Node(looking.Node, BlockNode, Protocol):
    """What is asked of a Bitcoin node."""

    def chain_info(self) -> ChainInfo: ...
    def send_transaction(self, raw: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Present:
    """How the node's chain is."""

    height: int
    is_current: bool
    """Whether it seems to hold the newest blocks that there are."""
    fee: FeeRate


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
        confirmations: int | None = None,
        clock: Callable[[], float] = time.time,
        tip_age: float | None = None,
    ) -> None:
        """``tip_age``: seconds after which a chain without a new block is taken for one that the
        node has not caught up with; None: as many as fit the network."""
        self.journal = journal
        self.node = node
        self.snapshot = snapshot
        self.network = network
        self.signers = signers
        self.confirmations = network.confirmations if confirmations is None else confirmations
        self.clock = clock
        if tip_age is None and network.node_chain != "regtest":  # where blocks come when they may
            tip_age = (SLOW_BLOCKS + self.confirmations) * network.target_spacing
        self._tip_age = tip_age
        self.trouble: str | None = None
        """Why no job can be carried on at present, for people; None: nothing is in the way."""
        self.lock = threading.RLock()
        """Held while a job is looked at and changed; never while data is published or verified."""
        self._turning = threading.Lock()
        self._unindexed = Unindexed(node)
        self._publish = publish
        self._verify = verify
        self._tried: dict[object, tuple[int, float]] = {}
        self._kept: set[str] = set()
        self._short: set[tuple[str, bytes]] = set()
        """Signers and senders that were found without a spare coin in this pass: one question for
        all jobs that lack one."""
        self._in_vain: set[str] = set()
        """Ids of jobs for which money was too short in this pass: others do not wait for them."""

    # --- for people

    def pending(self) -> list[Job]:
        """The open jobs, the oldest first."""
        return [job for job in self.journal.jobs() if job.state.is_open]

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
        self._forget_pass()
        if not self.journal.jobs():
            self.trouble = None
            return  # the node is asked nothing by those for whom nothing is registered
        try:
            present = self.ask_node()
        except NodeError as failure:
            self.trouble = str(failure)
            return
        for job in self.journal.jobs():
            try:
                if job.state.is_open:
                    self._advance(job.id, present)
                elif self._is_watched(job, present.height):
                    self._recheck(job.id)
            except NodeUnavailable as failure:
                self.trouble = str(failure)
                return
            except (NodeError, JournalError) as failure:
                said = str(failure)
                log.warning("job %s: %s", job.id, failure)
            except Exception:
                said = f"job {job.id} stumbled over a mistake of ours; see the log"
                log.exception("job %s for %s could not be carried on", job.id, job.subject)
        self.trouble = said

    def _forget_pass(self) -> None:
        self._short.clear()
        self._in_vain.clear()

    def ask_node(self) -> Present:
        """How the node's chain is at present. Raises NodeError."""
        info = self.node.chain_info()
        behind = info.initial_block_download or info.headers > info.blocks + 1
        age = self.clock() - self.snapshot().block_time
        asleep = self._tip_age is not None and age > self._tip_age
        return Present(info.blocks, not (behind or asleep), ask_fee_rate(self.node))

    def advance(self, job_id: str) -> Job:
        """Carry one job on, now; the job as it is then. Raises NodeError and JournalError."""
        self._forget_pass()
        self._advance(job_id, self.ask_node())
        return self._job(job_id)

    def _advance(self, job_id: str, present: Present) -> None:
        sent: set[bytes] = set()
        for _ in range(MAX_MOVES):
            with self.lock:
                job = self._job(job_id)
                if not job.state.is_open:
                    return
                seen = self.look(job, present, frozenset(sent))
                action = decide(job, seen)
                what = type(action).__name__
                log.debug("job %s at block %d: %s", job.id, present.height, what)
                if not isinstance(action, Publish | Verify):
                    if not self._do(job, action, seen, sent):
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
        return looking.look(
            job,
            self.node,
            snapshot,
            ahead,
            node_height=present.height,
            node_is_current=present.is_current,
            confirmations=self.confirmations,
            fee=present.fee,
            sent=sent,
        )

    def _do(self, job: Job, action: Action, seen: Seen, sent: set[bytes]) -> bool:
        """Do it; whether there may be more to do at once."""
        match action:
            case Make() | Replace() | Cancel():
                return self._make(job, action, seen)
            case Send(index, attempt):
                self._send(job, index, attempt, seen.node_height, sent)
                return True
            case Anew(index):
                self.journal.save(job.with_step(index, job.steps[index].anew()))
                return True
            case Skip(index):
                self.journal.save(job.with_step(index, replace(job.steps[index], done=True)))
                return True
            case Remember(index, missing, flawed):
                step = replace(job.steps[index], missing_since=missing, flawed_since=flawed)
                self.journal.save(job.with_step(index, step))
                return True
            case Wait(why):
                self.note(job, State.RUNNING, why)
            case AwaitSignature(why):
                self.note(job, State.WAITING_FOR_SIGNATURE, why)
            case AskConsent(why=why):
                self.note(job, State.NEEDS_CONSENT, why)
            case Fail(why):
                self._close(job, State.FAILED, why, seen)
            case Abandon(why):
                self._close(job, State.ABANDONED, why, seen)
            case Finish():
                self._close(job, State.DONE, "all steps are done", seen)
        return False

    # --- making and sending

    def _make(self, job: Job, action: Make | Replace | Cancel, seen: Seen) -> bool:
        index = action.step
        signer = self.signers.get(job.signer)
        if signer is None:
            why = f"whoever signs for this job ({job.signer}) is not set up any more; set it up"
            if job.stopping:
                what = job.steps[index].kind.value
                sent = f"The {what} was sent and may still be mined: nobody here can take it back"
                self._close(job, State.ABANDONED, f"{why}. {sent}. {paid(job, seen)}", seen)
                return False
            self._hold(job, index, f"{why} again, or abandon the job", seen)
            return False
        means = self.means(job, signer, seen.node_height)
        try:
            if isinstance(action, Make) and job.steps[index].kind is StepKind.FUND:
                spared = self._spare_fund(job, index, seen, means)
                if spared is not None:
                    return spared
            try:
                attempt = self._made(job, action, seen, means)
            except CannotPay as failure:
                if isinstance(action, Cancel) and job.stopping:
                    self._leave(job, index, seen)
                    return False
                return self._fund(job, index, failure, seen, means, isinstance(action, Make))
        except InsufficientFunds as failure:
            self._hold(job, index, f"{failure}{self._held_elsewhere(job)}", seen)
            return False
        except (SignerError, CannotPay, FeeTooHigh, NoMore, PriceTooHigh) as failure:
            self._hold(job, index, f"the {job.steps[index].kind.value} waits: {failure}", seen)
            return False
        except Refused as refused:
            self.note(job, State.RUNNING, f"waiting: {refused.flaw.value}")
            return False
        counted_on = [
            coin for coin in attempt.unsigned.coins if (coin.txid, coin.index) in means.taken
        ]
        if counted_on:
            # A wallet chose them that knows nothing of other jobs: set aside, they are not chosen
            # again. What is signed here is thrown away.
            signer.keep(counted_on)
            why = "coins were chosen that another job counts on; they are chosen anew"
            self.note(job, State.RUNNING, why)
            return True
        job = job.with_attempt(index, attempt)
        self.journal.save(job)
        self._keep(job, attempt)
        if not isinstance(action, Make):
            log.info("job %s: the %s is made anew", job.id, job.steps[index].kind.value)
        return True

    def _leave(self, job: Job, index: int, seen: Seen) -> None:
        """Give up a job whose transaction cannot be taken back."""
        what = job.steps[index].kind.value
        why = f"the {what} was sent and may still be mined: its coins are too few to take it back"
        self._close(job, State.ABANDONED, f"{why}. {paid(job, seen)}", seen)

    def _made(self, job: Job, action: Make | Replace | Cancel, seen: Seen, means: Means) -> Attempt:
        match action:
            case Make(index):
                rate = min(seen.fee_rate, job.max_fee_rate)
                if job.steps[index].kind is StepKind.FUND:
                    return self._make_fund(job, index, rate, means)
                first = self._first_coin(job, index, seen)
                return making.make(job, index, rate, means, first)
            case Replace(index, rate):
                return making.make_again(job, index, rate, means, _owed(job, index, seen))
            case Cancel(index):
                rate = job.steps[index].signed[-1].fee_rate + seen.relay_step
                owed = _owed(job, index, seen)
                return making.make_cancelling(job, index, rate, means, owed)

    def _spare_fund(self, job: Job, index: int, seen: Seen, means: Means) -> bool | None:
        """Do without the FUND of a job where another's has brought, or will bring, a coin for it;
        whether there is more to do at once. None: it must be made."""
        rate, whose = min(seen.fee_rate, job.max_fee_rate), (job.signer, job.parties.sender)
        if whose not in self._short and not job.steps[index + 1].attempts:
            if not making.lacking(job, index + 1, rate, means):
                steps = (*job.steps[:index], *job.steps[index + 1 :])
                self.journal.save(replace(job, steps=steps))
                return True
            self._short.add(whose)
        pending = self.pending()
        jobs = sharing.lacking(job, pending, self._in_vain)
        for payment in sharing.carriers(job, pending, self._in_vain):
            standing = looking.look_at([payment], self.node, self.snapshot())
            if any(one.in_mempool for one in standing.values()):
                why = "coins for several jobs are on their way to the address that sends; waiting"
                self.note(job, State.RUNNING, why)
                return False
        if jobs[0].id != job.id:
            why = f"its coins will be moved together with those of {jobs[0].id}; waiting"
            self.note(job, State.RUNNING, why)
            return False
        return None

    def _make_fund(self, job: Job, index: int, rate: float, means: Means) -> Attempt:
        """A payment of coins for this job, and for all others of its signer that lack one."""
        jobs = sharing.lacking(job, self.pending(), self._in_vain)
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

    def _held_elsewhere(self, job: Job) -> str:
        """A sentence on the coins that come back when other jobs end; "" where there are none.

        What a job kept that has ended is let go: its wallet may not have been there then.
        """
        if (job.signer, b"") not in self._short:
            self._short.add((job.signer, b""))
            mine = [one for one in self.journal.jobs() if one.signer == job.signer]
            self._let_go(job.signer, mine)
        others = [one for one in self.pending() if one.signer == job.signer and one.id != job.id]
        ids = [one.id for one in others if making.counted_on([one])]
        if not ids:
            return ""
        shown = ", ".join(ids[:MAX_SHOWN]) + (" and others" if len(ids) > MAX_SHOWN else "")
        return f". Coins that other jobs count on come back when those end: {shown}"

    def means(self, job: Job, signer: Signer, node_height: int) -> Means:
        """With what a transaction of ``job`` is made at present. Raises NodeError."""
        pending = self.pending()
        others = [other for other in pending if other.id != job.id]
        waiting = (other.parties.sender for other in others if sharing.amount_for(other))
        senders = frozenset((job.parties.sender, *waiting))
        snapshot = self.snapshot()
        view = next_view(snapshot, self.network, snapshot.height, node_height)
        own = looking.unspent(making.known_coins(job), self.node)
        return Means(signer, view, node_height, making.counted_on(others), senders, own)

    def _first_coin(self, job: Job, index: int, seen: Seen) -> Coin | None:
        """What the step before left for this one, if nobody has spent it."""
        for coin in making.coins_left_for(job, index, seen):
            if looking.is_unspent(coin, self.node, with_mempool=True):
                return coin
        return None

    def _fund(
        self, job: Job, index: int, failure: CannotPay, seen: Seen, means: Means, first: bool
    ) -> bool:
        """The sender has too few coins for a step: move some there first."""
        before = job.steps[:index]
        funds = next((n for n, s in enumerate(before[::-1]) if s.kind is not StepKind.FUND), index)
        if job.steps[index].kind is StepKind.FUND or funds >= MAX_FUNDS or not failure.missing:
            self._hold(job, index, f"the {job.steps[index].kind.value} waits: {failure}", seen)
            return False
        if funds and not job.steps[index - 1].attempts:  # for a replacement, and still to be made
            return self._make(job, Make(index - 1), seen)
        more = FUND_HEADROOM**funds
        if first:
            rate = max(seen.fee_rate, min(seen.fee_rate * more, job.max_fee_rate))
            amount = making.lacking(job, index, rate, means)
        else:
            amount = int(failure.missing * more) + int(making.SPARE_BYTES * seen.fee_rate)
        step = Step(StepKind.FUND, amount=max(amount, failure.missing))
        self.journal.save(replace(job, steps=(*before, step, *job.steps[index:])))
        return True

    def _send(self, job: Job, index: int, attempt: Attempt, height: int, sent: set[bytes]) -> None:
        """Hand a transaction to the node. Where the connection breaks nothing is known of it, and
        the next turn looks; NodeUnavailable then."""
        assert attempt.raw is not None, "only what is signed is sent"
        assert attempt.txid is not None, "what is signed has a txid"
        sent.add(attempt.txid)
        if not self._is_time(attempt.txid, height, RESEND_SECONDS):
            return
        refusal = None
        try:
            self.node.send_transaction(attempt.raw)
        except NodeUnavailable:
            self._tried.pop(attempt.txid, None)  # perhaps it was never asked
            raise
        except NodeRpcError as failure:
            if not any(words in failure.message for words in _KNOWN_WORDS):
                refusal = failure.message
        what, txid = job.steps[index].kind.value, hash_hex(attempt.txid)
        if refusal is None:
            log.info("job %s: sent the %s of %s, %s", job.id, what, job.subject, txid)
            self._keep(job, attempt)
        else:
            log.warning("job %s: the node does not take %s: %s", job.id, txid, refusal)
        if refusal != attempt.refusal:
            self.journal.save(job.with_changed(index, attempt, replace(attempt, refusal=refusal)))

    def _is_time(self, what: object, height: int, seconds: float) -> bool:
        """Whether something is to be tried (again): at first, at each block, and now and then."""
        now = self.clock()
        last = self._tried.get(what)
        if last is not None and last[0] == height and abs(now - last[1]) < seconds:
            return False
        if len(self._tried) >= MAX_REMEMBERED:
            self._tried.clear()
        self._tried[what] = (height, now)
        return True

    def _keep(self, job: Job, attempt: Attempt) -> None:
        """Let the wallet spend nothing elsewhere that the job counts on."""
        signer = self.signers.get(job.signer)
        if signer is None:
            return
        try:
            signer.keep([*attempt.unsigned.coins, *making.left_by(attempt, job)])
        except (SignerError, NodeError) as failure:
            log.info("job %s: its coins could not be set aside: %s", job.id, failure)

    # --- off the chain

    def _do_off_chain(self, job: Job, action: Publish | Verify, height: int) -> bool:
        """Publish or verify, with no lock held; whether it was done."""
        what = (job.id, type(action))
        if not self._is_time(what, height, RETRY_SECONDS):
            return False
        try:
            why = self._published(job) if isinstance(action, Publish) else self._verified(job)
        except JournalError:
            raise
        except Exception as failure:
            log.info("job %s: %s", job.id, failure, exc_info=True)
            why = f"it could not be tried ({type(failure).__name__}); it is tried again"
        with self.lock:
            found = self._job(job.id)
            if not found.state.is_open or len(found.steps) != len(job.steps):
                return False
            if why is not None:
                self.note(found, State.RUNNING, why)
                return False
            step = replace(found.steps[action.step], done=True)
            self.journal.save(found.with_step(action.step, step))
        self._tried.pop(what, None)
        return True

    def _published(self, job: Job) -> str | None:
        """Hand the data to other nodes; None: done, otherwise why not."""
        content = None if job.digest is None else self.journal.content(job.digest)
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

    # --- notes and ends

    def note(self, job: Job, state: State, why: str) -> None:
        """Write down what is waited for, where that is new."""
        noted = job.noted(state, why, int(self.clock()))
        if noted is not job:
            log.info("job %s for %s: %s: %s", job.id, job.subject, state.value, why)
            self.journal.save(noted)

    def _hold(self, job: Job, index: int, why: str, seen: Seen) -> None:
        """Note why a transaction cannot be made, and until when that costs nothing."""
        until = deadline(job, index, seen)
        self.note(job, State.RUNNING, f"{why.rstrip('.')}.{until}" if until else why)

    def _close(self, job: Job, state: State, why: str, seen: Seen) -> None:
        closed = replace(job, closed_at=seen.node_height)
        self.note(closed, state, why)
        self._let_go(job.signer, [closed])

    def _let_go(self, name: str, jobs: Sequence[Job]) -> None:
        """Let a wallet spend again what these jobs know of and no open one counts on."""
        signer, taken = self.signers.get(name), making.counted_on(self.pending())
        known = dict.fromkeys(coin for job in jobs for coin in making.known_coins(job))
        coins = [coin for coin in known if (coin.txid, coin.index) not in taken]
        if signer is not None and coins:
            try:
                signer.let_go(coins)
            except (SignerError, NodeError) as failure:
                log.info("coins of %d jobs could not be let go: %s", len(jobs), failure)

    def _is_watched(self, job: Job, height: int) -> bool:
        return job.closed_at is not None and height < job.closed_at + UNDO_BLOCKS

    def _recheck(self, job_id: str) -> None:
        """Open a job again whose end a reorganisation took back."""
        with self.lock:
            job = self._job(job_id)
            snapshot = self.snapshot()
            verdicts = {a.txid: snapshot.verdict(a.txid) for a in job.attempts() if a.txid}
            standings = {txid: Standing(verdict) for txid, verdict in verdicts.items()}
            turned = turned_by_chain(job, standings)
            if turned is not None:
                self.note(*turned)

    def _job(self, job_id: str) -> Job:
        job = self.journal.load(job_id)
        if job is None:
            raise KeyError(job_id)
        return job


def _owed(job: Job, index: int, seen: Seen) -> int:
    """Satoshis of fees that go with what a replacement of a step takes the place of."""
    return max((seen.of(attempt).owed for attempt in job.steps[index].signed), default=0)
