"""What people order of the registrar: plan this, begin it, go on, pay anew, sign here, give it up.

What must stay true: nothing is begun that was not planned at that very moment, for at most the
total that was agreed to; two jobs never work on one name; each refusal says that nothing was paid;
who says yes or no is told at once how things stand.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from indexer.bitcoin.transactions import parse_transaction
from indexer.node.failures import NodeError
from indexer.protocol.operations import Renew
from indexer.registrar.planning import wishes
from indexer.registrar.planning.dates import Tip
from indexer.registrar.planning.fees import FeeRate
from indexer.registrar.planning.plan import Plan, make_plan
from indexer.registrar.planning.refusals import CannotOrder, NoSuchJob
from indexer.registrar.planning.steps import StepKind, next_view
from indexer.registrar.planning.wishes import Wish
from indexer.registrar.work.actions import Rest
from indexer.registrar.work.decide import decide
from indexer.registrar.work.jobs import Attempt, Job, State, Step
from indexer.registrar.work.journal import JournalError
from indexer.registrar.work.making import counted_on
from indexer.registrar.work.payers import Payers, Purse, coins_of
from indexer.registrar.work.progress import consented, reopened
from indexer.registrar.work.rivals import NOT_SEEN, Rivals, waiting_operations
from indexer.registrar.work.runner import Runner
from indexer.wallet.psbt import BadPsbt, NotYetSigned, combine, signed_transaction
from indexer.wallet.signers import SignerError

log = logging.getLogger("blockstore.registrar")

FEE_MAY_RISE = 5.0
"""How many times the rate of its plan a job may pay by itself; ``resume`` allows it more."""
LEAST_CEILING = 20.0
"""Satoshis a byte to which any fee may rise."""
ASKED_FOR = "the rate that was asked for; more is paid when that proves too little"
_ID_BYTES = 5


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and with what it was made."""

    plan: Plan
    fee: FeeRate
    """Where the rate comes from; its ``rate`` is what the plan counts with."""
    rivals_seen: bool = True
    """Whether all that waits to be mined was looked through for the same name."""


class Orders:
    """Takes orders for a runner. Blocks on nodes and signers: call it from a thread."""

    def __init__(
        self,
        runner: Runner,
        signers: Mapping[str, Purse],
        *,
        max_fee_rate: float,
    ) -> None:
        """``max_fee_rate``: the most satoshis a byte that any job ever pays a miner, and to which
        ``resume`` lets it rise."""
        self.runner = runner
        self.payers = Payers(runner, signers)
        self.max_fee_rate = max_fee_rate

    def plan(
        self,
        wish: Wish,
        *,
        signer: str,
        has_data: bool = False,
        payer: bytes | None = None,
        fee_rate: float | None = None,
        notes: Sequence[str] = (),
    ) -> Planned:
        """What would be done for ``wish``. Raises PlanRefused, CannotOrder, SignerError, NodeError.

        ``payer``: the script that sends where the protocol leaves it open, and else that pays;
        ``fee_rate``: satoshis a byte, None for the node's estimate; ``notes``: what is to be said
        of the data.
        """
        self.payers.sender_on_chain(wish)  # a table that cannot be read is told before all else
        self.refuse_second(wish)
        purse = self.payers.purse(signer)
        present = self.runner.ask_node()
        height, fee = present.height, present.fee
        if fee_rate is not None:
            fee = replace(fee, rate=fee_rate, estimated=False, says=ASKED_FOR)
        if fee.rate > self.max_fee_rate:
            raise CannotOrder(
                f"{fee.rate:g} satoshis a byte would be paid ({fee.says}), and at most"
                f" {self.max_fee_rate:g} are paid here; nothing was paid",
                "wait until fees are lower, ask for less, or raise max_fee_rate",
            )
        seen = self.runner.snapshot()
        view = next_view(seen, self.runner.network, seen.height, height)
        tip = Tip(height, int(self.runner.clock()))
        taken = counted_on(self.runner.books.pending())
        parties = self.payers.parties(wish, view, signer, payer, taken, tip)
        coins = [coin for coin in coins_of(purse, parties) if (coin.txid, coin.index) not in taken]
        rivals = self._rivals(view.height)
        renewals = (one.name for one in rivals.operations if isinstance(one, Renew))
        if isinstance(wish, wishes.RenewName) and wish.name in renewals:
            raise CannotOrder(
                f"a renewal of {wish.name} waits to be mined already, sent from elsewhere;"
                " nothing was paid",
                "wait for the next block, and see whether the name still lapses",
            )
        plan = make_plan(
            wish,
            parties,
            view,
            fee_rate=fee.rate,
            coins=coins,
            tip=tip,
            has_data=has_data,
            spare=purse.spare(parties.sender),
            rivals=rivals.operations,
            size_of=purse.spending_size,
            max_datacarrier=fee.max_datacarrier,
            notes=notes,
        )
        return Planned(plan, fee, rivals.seen)

    def begin(
        self,
        wish: Wish,
        *,
        signer: str,
        max_total: int,
        content: bytes | None = None,
        payer: bytes | None = None,
        fee_rate: float | None = None,
    ) -> Job:
        """Plan ``wish`` again and write it down as a job, which ``turn`` carries on.

        ``content``: the data that ``wish`` names the hash of; ``max_total``: the satoshis that
        were agreed to. Raises what ``plan`` raises, and JournalError.
        """
        planned = self.plan(
            wish, signer=signer, has_data=content is not None, payer=payer, fee_rate=fee_rate
        )
        plan = planned.plan
        if plan.total > max_total:
            raise CannotOrder(
                f"it costs {plan.total} satoshis now, and {max_total} were agreed to;"
                " nothing was paid",
                "look at the plan again",
            )
        parties = plan.parties
        if isinstance(wish, wishes.RegisterName) and parties.owner is None:
            parties = replace(
                parties, owner=self.payers.fresh_owner(wish.name, signer, parties.sender)
            )
        steps = [
            Step(one.kind, amount=one.outputs[0].satoshis if one.kind is StepKind.FUND else 0)
            for one in plan.steps
        ]
        priced = (wishes.RegisterName, wishes.RenewName, wishes.PreorderNamespace)
        if isinstance(wish, priced) and wish.max_price is None and plan.price:
            wish = replace(wish, max_price=plan.price)
        job = Job(
            id=secrets.token_hex(_ID_BYTES),
            wish=wish,
            parties=parties,
            signer=signer,
            steps=tuple(steps),
            created=int(self.runner.clock()),
            max_fee_rate=self.fee_ceiling(planned.fee.rate),
            fee_rate=fee_rate,
        )
        with self.runner.lock:
            self.refuse_second(wish)
            digest = job.digest
            if content is not None and digest is not None:
                self.runner.books.journal.save_content(digest, content)
            self.runner.books.journal.save(job)
            self.payers.uses(signer, parties.sender)
        log.info("job %s begins: %s %s", job.id, wish.word, wish.subject)
        return self.advanced(job.id)

    def fee_ceiling(self, rate: float) -> float:
        """How far the fee of a job that was planned at ``rate`` may rise while it waits."""
        return min(self.max_fee_rate, max(FEE_MAY_RISE * rate, LEAST_CEILING))

    def _rivals(self, height: int) -> Rivals:
        ours = {
            a.txid for job in self.runner.books.journal.jobs() for a in job.attempts() if a.txid
        }
        try:
            return waiting_operations(self.runner.node, self.runner.network, height, ours)
        except NodeError as failure:
            log.info("What waits to be mined could not be looked through: %s", failure)
            return NOT_SEEN

    # --- jobs that were begun

    def jobs(self, *, everything: bool = False) -> list[Job]:
        """The open jobs, or all, the oldest first."""
        return self.runner.books.journal.jobs() if everything else self.runner.books.pending()

    def job(self, job_id: str) -> Job:
        """One job. Raises NoSuchJob."""
        found = self.runner.books.journal.load(job_id)
        if found is None:
            raise NoSuchJob(
                f"nothing {job_id[:32]!r} was begun here",
                "`blockstore-cli pending --all` lists what was begun",
            )
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
                job = job.noted(State.RUNNING, note, int(self.runner.clock()))
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
            if not (isinstance(action, Rest) and action.state is State.NEEDS_CONSENT):
                raise CannotOrder(
                    f"{job_id} does not wait for consent: {job.note}",
                    "`blockstore-cli pending` says what it waits for",
                )
            job = consented(job, action, seen)
            note = "its owner consented to pay anew"
            self.runner.books.journal.save(job.noted(State.RUNNING, note, int(self.runner.clock())))
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
                raise CannotOrder(
                    f"{job_id} waits for no signature: {job.note}",
                    "`blockstore-cli pending` says what it waits for",
                )
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
