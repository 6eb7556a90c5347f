"""What people order of the registrar: plan this, and begin it.

What must stay true: nothing is begun that was not planned at that very moment, for at most the
total that was agreed to; each refusal says that nothing was paid.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from indexer.node.failures import NodeError
from indexer.protocol.operations import Renew
from indexer.registrar.planning import wishes
from indexer.registrar.planning.dates import Tip
from indexer.registrar.planning.fees import FeeRate
from indexer.registrar.planning.plan import Plan, make_plan
from indexer.registrar.planning.refusals import CannotOrder
from indexer.registrar.planning.steps import StepKind, next_view, steps_of
from indexer.registrar.planning.wishes import Wish
from indexer.registrar.work.begun import Begun
from indexer.registrar.work.jobs import Job, Step
from indexer.registrar.work.making import counted_on
from indexer.registrar.work.payers import Payers, Purse, coins_of
from indexer.registrar.work.rivals import NOT_SEEN, Rivals, waiting_operations
from indexer.registrar.work.runner import Runner

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
    signer: str
    fee: FeeRate
    """Where the rate comes from; its ``rate`` is what the plan counts with."""
    rivals_seen: bool = True
    """Whether all that waits to be mined was looked through for the same name."""


class Orders:
    """Takes orders for a runner: ``plan`` and ``begin``, and the rest by ``begun`` and ``payers``.
    Blocks on nodes and signers, so call it from a thread."""

    def __init__(
        self,
        runner: Runner,
        signers: Mapping[str, Purse],
        *,
        max_fee_rate: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``max_fee_rate``: the most satoshis a byte that any job ever pays a miner."""
        self.runner = runner
        self.payers = Payers(runner, signers)
        self.begun = Begun(runner, max_fee_rate=max_fee_rate, clock=clock)
        self.max_fee_rate = max_fee_rate
        self._clock = clock

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
        self.begun.refuse_second(wish)
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
        tip = Tip(height, int(self._clock()))
        taken = counted_on(self.runner.books.pending())
        richest = self.payers.richest(purse, taken)
        sender = self.payers.sender(wish, view, signer, payer, richest, tip)
        parties = self.payers.parties(wish, view, signer, sender, payer, richest)
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
        return Planned(plan, signer, fee, rivals.seen)

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
        steps = [Step(kind) for kind in steps_of(wish, has_data=content is not None)]
        kinds = {step.kind for step in plan.steps}
        steps = [step for step in steps if step.kind in kinds]
        if plan.steps[0].kind is StepKind.FUND:
            steps.insert(0, Step(StepKind.FUND, amount=plan.steps[0].outputs[0].satoshis))
        priced = (wishes.RegisterName, wishes.RenewName, wishes.PreorderNamespace)
        if isinstance(wish, priced) and wish.max_price is None and plan.price:
            wish = replace(wish, max_price=plan.price)
        job = Job(
            id=secrets.token_hex(_ID_BYTES),
            wish=wish,
            parties=parties,
            signer=signer,
            steps=tuple(steps),
            created=int(self._clock()),
            max_fee_rate=self.fee_ceiling(planned.fee.rate),
            fee_rate=fee_rate,
        )
        with self.runner.lock:
            self.begun.refuse_second(wish)
            digest = job.digest
            if content is not None and digest is not None:
                self.runner.books.journal.save_content(digest, content)
            self.runner.books.journal.save(job)
            self.payers.uses(signer, parties.sender)
        log.info("job %s begins: %s %s", job.id, wish.word, wish.subject)
        return self.begun.advanced(job.id)

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
