"""Does the one thing that was decided for a job on the chain: make it, send it, or say why not.

What must stay true: a signed transaction is in the journal before it is sent; a coin that another
open job counts on is in none.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from indexer.bitcoin.transactions import hash_hex
from indexer.node.failures import NodeRpcError, NodeUnavailable
from indexer.protocol.flaws import Refused
from indexer.registrar.planning.steps import StepKind, next_view
from indexer.registrar.work import making, observe, sharing
from indexer.registrar.work.actions import (
    Action,
    Cancel,
    Make,
    OffChain,
    Replace,
    Rest,
    Rewrite,
    Send,
)
from indexer.registrar.work.books import Books
from indexer.registrar.work.funding import Funding, funds_before
from indexer.registrar.work.jobs import Attempt, Job, State
from indexer.registrar.work.making import Means, NoMore, PriceTooHigh
from indexer.registrar.work.observed import Seen
from indexer.registrar.work.progress import hint_of_zone, paid
from indexer.table.snapshot import Snapshot
from indexer.wallet.coins import CannotPay, FeeTooHigh
from indexer.wallet.signers import InsufficientFunds, Signer, SignerError

log = logging.getLogger("blockstore.registrar")

MAX_FUNDS = 8
"""How often coins are moved to the sender for one step of a job."""
RESEND_SECONDS = 20.0
"""Before what the node did not take is offered to it again, unless a block came."""
_KNOWN_WORDS = ("txn-already-in-mempool", "txn-already-known", "txn-same-nonwitness-data")


class Node(observe.Node, Protocol):
    """What is asked of a Bitcoin node."""

    def send_transaction(self, raw: bytes) -> bytes: ...


class Executor:
    """Does what is decided. ``snapshot`` gives the index as it is."""

    def __init__(
        self,
        books: Books,
        node: Node,
        snapshot: Callable[[], Snapshot],
        zones: Mapping[str, str],
    ) -> None:
        self.books = books
        self.node = node
        self.snapshot = snapshot
        self.zones = zones
        self.funding = Funding(books, node, snapshot)

    def do(self, job: Job, action: Action, seen: Seen, sent: set[bytes]) -> bool:
        """Do it; whether there may be more to do at once. ``sent`` takes the txid of what is sent.

        Raises NodeError, JournalError."""
        match action:
            case Make() | Replace() | Cancel():
                return self._make(job, action, seen)
            case Send(index, attempt):
                self._send(job, index, attempt, seen.node_height, sent)
                return True
            case Rewrite(index, step):
                self.books.journal.save(job.with_step(index, step))
                return True
            case Rest(State.DONE as state, why):
                self.books.close(job, state, why + hint_of_zone(job.wish, self.zones), seen)
            case Rest(state, why) if state.is_open:
                self.books.note(job, state, why)
            case Rest(state, why):
                self.books.close(job, state, why, seen)
            case OffChain():
                raise AssertionError("what is done off the chain holds no lock")
        return False

    # --- made

    def _make(self, job: Job, action: Make | Replace | Cancel, seen: Seen) -> bool:
        index = action.step
        signer = self.books.signers.get(job.signer)
        if signer is None:
            if job.stopping:
                why = f"nobody here can take it back, for {job.signer} is not set up any more"
                return self._leave(job, index, why, seen)
            why = f"whoever signs for this job ({job.signer}) is not set up any more; set it up"
            self.books.hold(job, index, f"{why} again, or abandon the job", seen)
            return False
        means = self._means(job, signer, seen.node_height)
        try:
            if isinstance(action, Make) and job.steps[index].kind is StepKind.FUND:
                spared = self.funding.spare(job, index, seen, means)
                if spared is not None:
                    return spared
            try:
                attempt = self._made(job, action, seen, means)
            except CannotPay as failure:
                if isinstance(action, Cancel) and job.stopping:
                    return self._leave(job, index, "its coins are too few to take it back", seen)
                return self._fund(job, action, failure, seen, means)
        except InsufficientFunds as failure:
            self.books.hold(job, index, f"{failure}{self.funding.held_elsewhere(job)}", seen)
            return False
        except (SignerError, CannotPay, FeeTooHigh, NoMore, PriceTooHigh) as failure:
            self.books.hold(job, index, f"the {job.steps[index].kind.value} waits: {failure}", seen)
            return False
        except Refused as refused:
            self.books.note(job, State.RUNNING, f"waiting: {refused.flaw.value}")
            return False
        counted_on = [
            coin for coin in attempt.unsigned.coins if (coin.txid, coin.index) in means.taken
        ]
        if counted_on:
            # A wallet chose them that knows nothing of other jobs: set aside, they are not chosen
            # again. What is signed here is thrown away.
            signer.keep(counted_on)
            why = "coins were chosen that another job counts on; they are chosen anew"
            self.books.note(job, State.RUNNING, why)
            return True
        job = job.with_attempt(index, attempt)
        self.books.journal.save(job)
        self.books.keep(job, attempt)
        if not isinstance(action, Make):
            what = job.steps[index].kind.value
            log.info("job %s: the %s is made anew: %s", job.id, what, action.why)
        return True

    def _leave(self, job: Job, index: int, why: str, seen: Seen) -> bool:
        """Give up a job whose transaction cannot be taken back; there is no more to do then."""
        sent = f"the {job.steps[index].kind.value} was sent and may still be mined: {why}"
        self.books.close(job, State.ABANDONED, f"{sent}. {paid(job, seen)}", seen)
        return False

    def _made(self, job: Job, action: Make | Replace | Cancel, seen: Seen, means: Means) -> Attempt:
        match action:
            case Make(index):
                rate = min(seen.fee_rate, job.max_fee_rate)
                if job.steps[index].kind is StepKind.FUND:
                    return self.funding.make(job, index, rate, means)
                left = observe.unspent(making.coins_left_for(job, index, seen), self.node)
                return making.make(job, index, rate, means, left[0] if left else None)
            case Replace(index, rate):
                return making.make_again(job, index, rate, means, _replaced(job, index, seen))
            case Cancel(index):
                rate = job.steps[index].signed[-1].fee_rate + seen.relay_step
                owed = _replaced(job, index, seen)
                return making.make_cancelling(job, index, rate, means, owed)

    def _means(self, job: Job, signer: Signer, node_height: int) -> Means:
        """With what a transaction of ``job`` is made at present. Raises NodeError."""
        pending = self.books.pending()
        others = [other for other in pending if other.id != job.id]
        waiting = (other.parties.sender for other in others if sharing.amount_for(other))
        senders = frozenset((job.parties.sender, *waiting))
        snapshot = self.snapshot()
        view = next_view(snapshot, snapshot.network, snapshot.height, node_height)
        own = observe.unspent(making.known_coins(job), self.node)
        return Means(signer, view, node_height, making.counted_on(others), senders, own)

    def _fund(
        self,
        job: Job,
        action: Make | Replace | Cancel,
        failure: CannotPay,
        seen: Seen,
        means: Means,
    ) -> bool:
        """The sender has too few coins for a step: move some there first."""
        index = action.step
        kind, funds = job.steps[index].kind, funds_before(job, index)
        if kind is StepKind.FUND or funds >= MAX_FUNDS or not failure.missing:
            self.books.hold(job, index, f"the {kind.value} waits: {failure}", seen)
            return False
        if funds and not job.steps[index - 1].attempts:  # for a replacement, and still to be made
            return self._make(job, Make(index - 1), seen)
        first = isinstance(action, Make)
        self.funding.add_step(job, index, failure, seen, means, first=first)
        return True

    # --- sent

    def _send(self, job: Job, index: int, attempt: Attempt, height: int, sent: set[bytes]) -> None:
        """Hand a transaction to the node. Where the connection breaks nothing is known of it, and
        the next turn looks; NodeUnavailable then."""
        assert attempt.raw is not None, "only what is signed is sent"
        assert attempt.txid is not None, "what is signed has a txid"
        sent.add(attempt.txid)
        if not self.books.is_time(attempt.txid, height, RESEND_SECONDS):
            return
        refusal = None
        try:
            self.node.send_transaction(attempt.raw)
        except NodeUnavailable:
            self.books.forget(attempt.txid)  # perhaps it was never asked
            raise
        except NodeRpcError as failure:
            if not any(words in failure.message for words in _KNOWN_WORDS):
                refusal = failure.message
        what, txid = job.steps[index].kind.value, hash_hex(attempt.txid)
        if refusal is None:
            log.info("job %s: sent the %s of %s, %s", job.id, what, job.subject, txid)
            self.books.keep(job, attempt)
        else:
            log.warning("job %s: the node does not take %s: %s", job.id, txid, refusal)
        if refusal != attempt.refusal:
            self.books.journal.save(
                job.with_changed(index, attempt, replace(attempt, refusal=refusal))
            )


def _replaced(job: Job, index: int, seen: Seen) -> int | None:
    """Satoshis of fees that go from the mempool with what a replacement of a step takes the place
    of; None: nothing of the step waits there."""
    waiting = [seen.of(attempt) for attempt in job.steps[index].signed]
    return max((one.owed for one in waiting if one.in_mempool), default=None)
