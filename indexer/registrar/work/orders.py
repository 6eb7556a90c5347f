"""What people tell the registrar: plan this, begin it, go on with it, sign here, give it up.

What must stay true: nothing is begun that was not planned at that very moment, for at most the
total that was agreed to; two jobs never work on one name; who says yes or no is told at once how
things stand, and each refusal says whether anything was paid.
"""

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from indexer.bitcoin.transactions import is_p2pkh, parse_transaction
from indexer.node.failures import NodeError
from indexer.protocol.records import Phase
from indexer.protocol.rules import Refused
from indexer.protocol.view import BlockView
from indexer.registrar.planning import wishes
from indexer.registrar.planning.dates import Tip
from indexer.registrar.planning.fees import FeeRate
from indexer.registrar.planning.plan import Plan, make_plan
from indexer.registrar.planning.quote import namespace_preorder_of, preorder_of
from indexer.registrar.planning.refusals import refusal
from indexer.registrar.planning.steps import Parties, StepKind, next_view, sender_of, steps_of
from indexer.registrar.planning.wishes import Wish
from indexer.registrar.work.actions import AskConsent
from indexer.registrar.work.decide import decide
from indexer.registrar.work.jobs import Attempt, Job, State, Step
from indexer.registrar.work.journal import JournalError
from indexer.registrar.work.making import counted_on
from indexer.registrar.work.reopening import consented, reopened
from indexer.registrar.work.rivals import NOT_SEEN, Rivals, waiting_operations
from indexer.registrar.work.runner import Runner
from indexer.table.snapshot import Snapshot
from indexer.wallet.coins import Coin
from indexer.wallet.psbt import BadPsbt, NotYetSigned, combine, signed_transaction
from indexer.wallet.signers import NoLegacyAddresses, Signer, SignerError

log = logging.getLogger("blockstore.registrar")

FEE_MAY_RISE = 5.0
"""How many times the rate of its plan a job may pay by itself; ``resume`` allows it more."""
LEAST_CEILING = 20.0
"""Satoshis a byte to which any fee may rise."""
MAX_HELD = 1_000
"""Scripts of one signer that are looked at."""
ASKED_FOR = "the rate that was asked for; more is paid when that proves too little"
_ID_BYTES = 5


class CannotOrder(Exception):
    """It is not begun or not done; ``str()`` says why, ``hint`` what to do next."""

    def __init__(self, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.hint = hint


class NoSuchJob(CannotOrder):
    """Nothing of this id was begun here."""


class Purse(Signer, Protocol):
    """What is asked of a signer beyond signing: what it has."""

    def held(self) -> Sequence[bytes]:
        """The legacy scripts of its own that are known to it, those with coins among them."""
        ...

    def legacy_coins(self) -> Sequence[Coin]:
        """What ``coins`` gives of each of them, asked for at once."""
        ...

    def spare(self, sender: bytes) -> int:
        """Satoshis that ``pay`` may move to a script from elsewhere, of coins of any kind."""
        ...


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
    """Takes orders for a runner. Blocks on nodes and signers, so call it from a thread."""

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
        self.signers = signers
        self.max_fee_rate = max_fee_rate
        self._clock = clock
        self._unused: dict[str, bytes] = {}
        """By signer, the address that was made for a plan and has not sent anything: the next plan
        takes it too."""

    # --- beginning

    def plan(
        self,
        wish: Wish,
        *,
        signer: str,
        has_data: bool = False,
        payer: bytes | None = None,
        fee_rate: float | None = None,
    ) -> Planned:
        """What would be done for ``wish``. Raises PlanRefused, CannotOrder, SignerError, NodeError.

        ``payer``: the script that sends where the protocol leaves it open, and else that pays;
        ``fee_rate``: satoshis a byte, None for the node's estimate.
        """
        self._refuse_second(wish)
        purse = self._purse(signer)
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
        richest = self._richest(purse, taken)
        sender = self._sender(wish, view, signer, payer, richest, tip)
        funder = self._funder(sender, purse, payer, richest)
        parties = self._parties(wish, view, signer, sender, funder)
        coins = [coin for coin in _coins(purse, parties) if (coin.txid, coin.index) not in taken]
        rivals = self._rivals(view.height)
        plan = make_plan(
            wish,
            parties,
            view,
            fee_rate=fee.rate,
            coins=coins,
            tip=tip,
            has_data=has_data,
            spare=purse.spare(sender),
            rivals=rivals.operations,
            script_sig_size=purse.script_sig_size,
            max_datacarrier=fee.max_datacarrier,
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
            parties = replace(parties, owner=self._fresh_owner(wish.name, signer, parties.sender))
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
            self._refuse_second(wish)
            digest = job.digest
            if content is not None and digest is not None:
                self.runner.books.journal.save_content(digest, content)
            self.runner.books.journal.save(job)
            if self._unused.get(signer) == parties.sender:
                del self._unused[signer]
        log.info("job %s begins: %s %s", job.id, wish.word, wish.subject)
        return self._advanced(job.id)

    def fee_ceiling(self, rate: float) -> float:
        """How far the fee of a job that was planned at ``rate`` may rise while it waits."""
        return min(self.max_fee_rate, max(FEE_MAY_RISE * rate, LEAST_CEILING))

    def _parties(
        self, wish: Wish, view: BlockView, signer: str, sender: bytes, funder: bytes | None
    ) -> Parties:
        """Who takes part; a preorder that an earlier job of ours left is used, not paid again."""
        owner: bytes | None = getattr(wish, "owner", None)
        if isinstance(wish, wishes.RegisterName) and owner is None:
            for job in reversed(self.runner.books.journal.jobs()):
                former = job.parties
                if job.subject != wish.name or job.signer != signer or former.owner is None:
                    continue
                if preorder_of(wish.name, view, [(former.sender, former.owner)]) is not None:
                    return Parties(former.sender, former.owner, funder)
        return Parties(sender, owner, funder)

    def _rivals(self, height: int) -> Rivals:
        ours = {
            a.txid for job in self.runner.books.journal.jobs() for a in job.attempts() if a.txid
        }
        try:
            return waiting_operations(self.runner.node, self.runner.network, height, ours)
        except NodeError as failure:
            log.info("What waits to be mined could not be looked through: %s", failure)
            return NOT_SEEN

    def _fresh_owner(self, name: str, signer: str, sender: bytes) -> bytes:
        """A script for a name of its own, so that nobody sees which names are one person's."""
        purse = self._purse(signer)
        try:
            for _ in range(2):
                owner = purse.fresh_script(f"blockstore {name}")
                if owner != sender:
                    return owner
        except NoLegacyAddresses:
            pass
        return sender

    def _refuse_second(self, wish: Wish) -> None:
        for job in self.runner.books.pending():
            if job.subject == wish.subject:
                note = job.note or "it begins"
                raise CannotOrder(
                    f"{job.wish.word} {job.subject} is under way already ({job.id}: {note});"
                    " nothing more was paid",
                    f"wait for it, or give it up: `blockstore-cli abandon {job.id}`",
                )

    def _purse(self, name: str) -> Purse:
        purse = self.signers.get(name)
        if purse is None:
            raise CannotOrder(
                "nobody signs here; nothing was paid",
                "set `signer`, or sign elsewhere: --psbt FILE or --key-file FILE",
            )
        return purse

    # --- who sends and who pays

    def _sender(
        self,
        wish: Wish,
        view: BlockView,
        signer: str,
        payer: bytes | None,
        richest: bytes | None,
        tip: Tip,
    ) -> bytes:
        purse = self._purse(signer)
        try:
            found = sender_of(wish, view)
        except Refused as refused:
            kind = next(k for k in steps_of(wish) if k.carries_operation)
            nobody = Parties(payer or b"")
            raise refusal(refused.flaw, kind, wish, nobody, view, tip) from None
        if found is not None:
            if not purse.owns(found):
                self._refuse_stranger(wish)
            return found
        if isinstance(wish, wishes.RevealNamespace):
            for script in (payer, *self._preorderers(wish), *purse.held()):
                if script is None:
                    continue
                pair = [(script, wish.revealer)]
                if namespace_preorder_of(wish.namespace_id, view, pair) is not None:
                    return script
        if payer is not None:
            if not purse.owns(payer):
                raise CannotOrder(
                    "whoever signs here has no key for that payer; nothing was paid",
                    "name an address of the wallet or the key file, or leave it away",
                )
            return payer
        if richest is not None:
            return richest
        if signer not in self._unused:
            self._unused[signer] = purse.fresh_script("blockstore payments")
        return self._unused[signer]

    def sender_on_chain(self, wish: Wish) -> bytes | None:
        """Who must send ``wish`` as the chain has it; None: whoever pays, or there is nobody."""
        seen = self.runner.snapshot()
        try:
            return sender_of(wish, next_view(seen, self.runner.network, seen.height, seen.height))
        except Refused:
            return None

    def _refuse_stranger(self, wish: Wish) -> None:
        raise CannotOrder(
            f"{wish.subject} is not of the wallet that signs here; nothing was paid",
            "use the wallet or the keys of its owner: settings `signer` and `key_file`, or"
            " --key-file, or --psbt",
        )

    def _preorderers(self, wish: wishes.RevealNamespace) -> Iterable[bytes]:
        for job in reversed(self.runner.books.journal.jobs()):
            same = isinstance(job.wish, wishes.PreorderNamespace)
            if same and job.subject == wish.subject:
                yield job.parties.sender

    def _funder(
        self, sender: bytes, purse: Purse, payer: bytes | None, richest: bytes | None
    ) -> bytes | None:
        if payer is not None and payer != sender and purse.owns(payer):
            return payer
        return None if richest == sender else richest

    def _richest(self, purse: Purse, taken: Collection[tuple[bytes, int]]) -> bytes | None:
        """The script of the signer that holds most of what is not ``taken``, and no names; None
        where there is none."""
        seen = self.runner.snapshot()
        worth: dict[bytes, int] = {}
        for coin in purse.legacy_coins():
            if is_p2pkh(coin.script) and (coin.txid, coin.index) not in taken:
                worth[coin.script] = worth.get(coin.script, 0) + coin.value
        for script in sorted(worth, key=lambda script: -worth[script])[:MAX_HELD]:
            if not seen.owned_by(script, limit=1, live_only=False).entries:
                return script
        return None

    # --- going on

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
                self._refuse_second(job.wish)
                job = reopened(job, self.runner.look(job, present))
                note = "its owner has it tried again"
                job = job.noted(State.RUNNING, note, int(self._clock()))
            # What the settings allow was perhaps raised for the sake of this very job.
            allowed = replace(job, max_fee_rate=max(job.max_fee_rate, self.max_fee_rate))
            if allowed.state.is_open and allowed != self.job(job_id):
                self.runner.books.journal.save(allowed)
        return self._advanced(job_id)

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
        return self._advanced(job_id)

    def abandon(self, job_id: str) -> Job:
        """Give a job up; what is not mined yet is taken back. Raises as ``resume``."""
        with self.runner.lock:
            job = self.job(job_id)
            if not job.state.is_open:
                raise CannotOrder(f"{job_id} has ended: {job.note}", "there is nothing to give up")
            self.runner.books.journal.save(replace(job, stopping=True))
        return self._advanced(job_id)

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
        return self._advanced(job_id)

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

    def _advanced(self, job_id: str) -> Job:
        try:
            return self.runner.advance(job_id)
        except (NodeError, SignerError, JournalError) as failure:
            log.warning("job %s goes on later: %s", job_id, failure)
            return self.job(job_id)

    # --- what is owned

    def owned(self, signer: str) -> list[str]:
        """The live names of a signer, in order. Raises CannotOrder, SignerError."""
        seen = self.runner.snapshot()
        scripts = dict.fromkeys(self._purse(signer).held())
        for job in self.runner.books.journal.jobs():
            if job.signer == signer:
                scripts |= dict.fromkeys(s for s in (job.parties.owner, job.parties.sender) if s)
        return sorted(name for script in scripts for name in _names_of(script, seen))


def _coins(purse: Purse, parties: Parties) -> list[Coin]:
    scripts = dict.fromkeys(s for s in (parties.sender, parties.funder) if s is not None)
    return [coin for script in scripts for coin in purse.coins(script)]


def _names_of(script: bytes, seen: Snapshot) -> Iterable[str]:
    after = ""
    while True:
        page = seen.owned_by(script, after)
        for name in page.entries:
            standing = seen.name_status(name)
            if standing is not None and standing[1].phase in (Phase.LIVE, Phase.GRACE):
                yield name
        after = page.next
        if not after:
            return
