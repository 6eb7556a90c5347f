"""What is next for a step that has, or would have, no effect: it fails, waits, or asks for consent.

What must stay true: nothing that costs money a second time is answered without consent; each
answer that ends a job says what was paid. Pure.
"""

from dataclasses import replace

from indexer.protocol.flaws import Flaw
from indexer.protocol.schema import Verdict
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.actions import (
    Action,
    Cancel,
    Rest,
    Rewrite,
    wait,
)
from indexer.registrar.work.jobs import Job, State
from indexer.registrar.work.observed import CoinState, Seen, Standing
from indexer.registrar.work.progress import given_up, paid

FLAW_PATIENCE = 6
"""Blocks after which a reason that may pass, such as a reorganisation under way, is final."""
FINAL_FLAWS = frozenset(
    [
        Flaw.NAME_TAKEN,
        Flaw.NAME_REVOKED,
        Flaw.NOT_THE_OWNER,
        Flaw.NAMESPACE_EXISTS,
        Flaw.NOT_THE_REVEALER,
        Flaw.NOT_AN_IMPORTER,
        Flaw.NOT_AN_ANNOUNCER,
        Flaw.IMPORTER_UNKNOWN,
        Flaw.SENT_TO_ITSELF,
        Flaw.BAD_NAME,
        Flaw.BAD_NAMESPACE,
        Flaw.BAD_DISCOUNT,
        Flaw.BAD_VERSION,
        Flaw.OTHER_LEDGER,
        Flaw.P2SH_OWNER,
        Flaw.VALUE_HASH_TOO_EARLY,
        Flaw.OWNER_MAY_NOT_CHANGE,
    ]
)
"""What no waiting mends."""
NEEDS_PREORDER = frozenset(
    [
        Flaw.NO_PREORDER,
        Flaw.PREORDER_EXPIRED,
        Flaw.PREORDER_BEFORE_READY,
        Flaw.FEE_TOO_LOW,
        Flaw.FEE_WENT_ELSEWHERE,
    ]
)
"""What only another preorder mends, where a registration has it."""


def cancelled(job: Job, standing: Standing, seen: Seen) -> Action:
    """Its coins were paid back in a block, as ``standing`` has it."""
    if standing.confirmations < seen.confirmations:
        return wait(
            f"the coins were paid back in a block with {standing.confirmations} of"
            f" {seen.confirmations} confirmations; waiting for the others"
        )
    if job.stopping:
        return Rest(State.ABANDONED, given_up(job, seen))
    why = "the job was taken back" if seen.flaw is None else seen.flaw.value
    return Rest(
        State.FAILED, f"{why}; what was on its way was taken back in time. {paid(job, seen)}"
    )


def refused(job: Job, index: int, verdict: Verdict, seen: Seen) -> Action:
    """A transaction of the step was mined, and the index found it without effect."""
    step = job.steps[index]
    flaw = Flaw.__members__.get(verdict.flaw or "")
    said = "the index refused it" if flaw is None else flaw.value
    what = f"the {step.kind.value} was mined in block {verdict.height} and had no effect: {said}"
    if job.stopping:
        return Rest(State.ABANDONED, f"{what}. {paid(job, seen)}")
    if seen.flaw in FINAL_FLAWS:
        return Rest(State.FAILED, f"{what}. {paid(job, seen)}")
    if seen.flaw is Flaw.PREORDER_EXISTS:
        return Rewrite(index, job.steps[index].anew())  # one stands, so none is needed
    return _ask(job, index, what, seen)


def first_coin_gone(job: Job, index: int, seen: Seen) -> Action | None:
    """What is to be done about the coin that all transactions of the step spend; None: nothing, for
    it is there, or one of them waits."""
    step = job.steps[index]
    if seen.waits(step) or seen.coin not in (CoinState.GONE, CoinState.REPLACED):
        if step.missing_since is None:
            return None
        return Rewrite(index, replace(step, missing_since=None))
    if seen.coin is CoinState.REPLACED:
        return Rewrite(index, job.steps[index].anew())
    if step.missing_since is None:
        return Rewrite(index, replace(step, missing_since=seen.node_height))
    if seen.index_height < step.missing_since:
        # A block spends the coin that the index has not come to: perhaps by our own transaction.
        return wait(
            f"the coin that pays for the {step.kind.value} was spent; the index will tell by what"
            f" when it has come to block {step.missing_since}"
        )
    if job.stopping:
        return Rest(State.ABANDONED, given_up(job, seen))
    if not any(attempt.price for attempt in step.attempts):
        return Rewrite(index, job.steps[index].anew())
    what = f"the coin that was to pay for the {step.kind.value} was spent by another transaction"
    return _ask(job, index, what, seen)


def take_back(job: Job, index: int, seen: Seen) -> Action | None:
    """Stop what is on its way and unwanted; None: it may as well be mined."""
    step = job.steps[index]
    if step.kind in (StepKind.REGISTER, StepKind.FUND):
        # A registration costs no more than the miner's fee, for its preorder is paid already; and
        # what FUND moves stays its owner's.
        if not job.stopping:
            return None
        return Rest(
            State.ABANDONED,
            f"{given_up(job, seen)} The {step.kind.value} was sent and may still be mined",
        )
    if job.stopping:
        return Cancel(index, "the job was given up")
    if seen.flaw is not None and any(attempt.price for attempt in step.signed):
        return Cancel(index, seen.flaw.value)
    return None


def flawed(job: Job, index: int, seen: Seen) -> Action:
    """Nothing of the step is on its way, and what it would send had no effect."""
    step = job.steps[index]
    assert seen.flaw is not None, "only asked where there is a flaw"
    what = f"the {step.kind.value} would have no effect: {seen.flaw.value}"
    preordered = any(before.kind is StepKind.PREORDER for before in job.steps[:index])
    if preordered and step.kind is StepKind.REGISTER and seen.flaw in NEEDS_PREORDER:
        return _ask(job, index, what, seen)
    if seen.flaw in FINAL_FLAWS:
        return Rest(State.FAILED, f"{what}. {paid(job, seen)}")
    if step.flawed_since is None:
        return Rewrite(index, replace(step, flawed_since=seen.node_height))
    if seen.node_height - step.flawed_since >= FLAW_PATIENCE:
        return Rest(State.FAILED, f"{what}. {paid(job, seen)}")
    return wait(f"{what}; waiting whether that passes. {paid(job, seen)}")


def _ask(job: Job, index: int, what: str, seen: Seen) -> Rest:
    """Ask for consent to begin again, from the preorder on where only another one helps."""
    begin = index
    if job.steps[index].kind is StepKind.REGISTER and seen.flaw in NEEDS_PREORDER:
        before = [i for i in range(index) if job.steps[i].kind is StepKind.PREORDER]
        begin = before[-1] if before else index
    price = max((attempt.price for attempt in job.steps[begin].tried), default=0)
    costs = f"about {price} satoshis and the miner's fee" if price else "another miner's fee"
    why = f"{what}. {paid(job, seen)} Trying again costs {costs}: consent to it, or abandon the job"
    return Rest(State.NEEDS_CONSENT, why, begin)
