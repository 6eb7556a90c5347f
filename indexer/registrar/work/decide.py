"""What to do next for a job, from what is seen of it on the chain, in the mempool and in the index.

What must stay true: the answer follows from the job and from what is seen, never from what is
remembered of the last answer; nothing that costs money a second time is ever answered without
consent; a step is done when the index accepted one of its transactions, and pending again when a
reorganisation took that back. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from indexer.networks import PREORDER_EXPIRE
from indexer.protocol.flaws import Flaw
from indexer.protocol.schema import Verdict
from indexer.registrar.planning.steps import StepKind
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
from indexer.registrar.work.jobs import MAX_ATTEMPTS, Attempt, Job, State, Step
from indexer.registrar.work.seen import NOWHERE, CoinState, Seen, Standing

FRESH_BLOCKS = 5
"""A transaction whose consensus hash may be named in fewer blocks than this is made anew."""
PATIENCE = 3
"""Blocks that a transaction waits in the mempool before its fee is looked at again."""
FLAW_PATIENCE = 6
"""Blocks after which a reason that may pass, such as a reorganisation under way, is final."""
TRIES_A_BLOCK = 6
"""How often a transaction that the node refuses for its fee is made anew before the next block."""
KEPT_ATTEMPTS = 20
"""Of those that a step may have: for taking it back."""
RAISE = 1.25
"""By how much a fee is raised that no estimate explains to be too low."""
ORDINARY_SHARE = 0.8
"""Of the highest fee rate allowed; the rest is kept for what must not wait any longer."""
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

FEE_REFUSALS = ("insufficient fee", "min relay fee", "mempool min fee", "fee not met")
"""Words of nodes that refuse a transaction for its fee, in lower case."""
COIN_REFUSALS = ("missingorspent", "missing-inputs", "missing inputs", "txn-mempool-conflict")
"""Words of nodes that refuse a transaction for the coins it spends, in lower case."""


# --- deciding


def is_done(job: Job, index: int, standings: Mapping[bytes, Standing]) -> bool:
    """Whether a step needs nothing any more, as of what is seen."""
    step = job.steps[index]
    if step.kind.carries_operation:
        tried = (*step.lost, *step.attempts)
        accepted = (_of(attempt, standings).accepted for attempt in tried if not attempt.cancels)
        return step.done or any(accepted)
    if step.kind is StepKind.FUND:
        # Its money was moved when it is in a block, or when what spends it stands anywhere. What
        # is moved for a transaction that waits already holds nothing up.
        moved = any(_of(attempt, standings).mined for attempt in step.attempts)
        later = job.steps[index + 1 :]
        return moved or _is_spent(step, later, standings) or _is_for_replacing(step, later)
    return step.done


def _is_spent(step: Step, later: Sequence[Step], standings: Mapping[bytes, Standing]) -> bool:
    """Whether something that stands anywhere spends what a transaction of ``step`` paid."""
    spending = (attempt for other in later for attempt in (*other.lost, *other.attempts))
    return any(_of(attempt, standings) != NOWHERE for attempt in spending if _spends(attempt, step))


def _is_for_replacing(step: Step, later: Sequence[Step]) -> bool:
    """Whether coins are moved by ``step`` only so that a later transaction can be replaced."""
    served = next(other for other in later if other.kind is not StepKind.FUND)
    return bool(served.signed) and not any(_spends(attempt, step) for attempt in served.attempts)


def _spends(attempt: Attempt, step: Step) -> bool:
    """Whether it spends what some transaction of ``step`` paid."""
    txids = {paying.txid for paying in step.attempts}
    return any(coin.txid in txids for coin in attempt.unsigned.coins)


def _of(attempt: Attempt, standings: Mapping[bytes, Standing]) -> Standing:
    return NOWHERE if attempt.txid is None else standings.get(attempt.txid, NOWHERE)


def current(job: Job, standings: Mapping[bytes, Standing]) -> int | None:
    """The first step that is not done; None: all are."""
    for index in range(len(job.steps)):
        if not is_done(job, index, standings):
            return index
    return None


def decide(job: Job, seen: Seen) -> Action:
    """The next thing to do for an open job."""
    index = current(job, seen.standings)
    if index is None:
        return Finish()
    kind = job.steps[index].kind
    if kind in (StepKind.PUBLISH, StepKind.VERIFY):
        if job.stopping:
            return Abandon(_given_up(job, seen))
        return Publish(index) if kind is StepKind.PUBLISH else Verify(index)
    for look in (_mined, _unsigned, _unmined):
        action = look(job, index, seen)
        if action is not None:
            return action
    return _first(job, index, seen)


def _mined(job: Job, index: int, seen: Seen) -> Action | None:
    """Some transaction of the step is in a block."""
    step = job.steps[index]
    for attempt in step.attempts:
        standing = seen.of(attempt)
        if not standing.mined:
            continue
        if attempt.cancels:
            return _cancelled(job, standing, seen)
        if standing.verdict is not None:
            return _refused(job, index, standing.verdict, seen)
        known = min(standing.confirmations, seen.confirmations)
        return Wait(
            f"the {step.kind.value} is in a block with {known} of {seen.confirmations}"
            " confirmations; waiting for the index to take it"
        )
    return None


def _cancelled(job: Job, standing: Standing, seen: Seen) -> Action:
    if standing.confirmations < seen.confirmations:
        return Wait(
            f"the coins were paid back in a block with {standing.confirmations} of"
            f" {seen.confirmations} confirmations; waiting for the others"
        )
    if job.stopping:
        return Abandon(_given_up(job, seen))
    why = "the job was taken back" if seen.flaw is None else seen.flaw.value
    return Fail(f"{why}; what was on its way was taken back in time. {paid(job, seen)}")


def _refused(job: Job, index: int, verdict: Verdict, seen: Seen) -> Action:
    step = job.steps[index]
    flaw = Flaw.__members__.get(verdict.flaw or "")
    said = "the index refused it" if flaw is None else flaw.value
    what = f"the {step.kind.value} was mined in block {verdict.height} and had no effect: {said}"
    if job.stopping:
        return Abandon(f"{what}. {paid(job, seen)}")
    if seen.flaw in FINAL_FLAWS:
        return Fail(f"{what}. {paid(job, seen)}")
    if seen.flaw is Flaw.PREORDER_EXISTS:
        return Anew(index)  # one stands, so none is needed
    return _ask(job, index, what, seen)


def _ask(job: Job, index: int, what: str, seen: Seen) -> AskConsent:
    """Ask for consent to begin again, from the preorder on where only another one helps."""
    begin = index
    if job.steps[index].kind is StepKind.REGISTER and seen.flaw in NEEDS_PREORDER:
        before = [i for i in range(index) if job.steps[i].kind is StepKind.PREORDER]
        begin = before[-1] if before else index
    price = max((attempt.price for attempt in job.steps[begin].tried), default=0)
    costs = f"about {price} satoshis and the miner's fee" if price else "another miner's fee"
    return AskConsent(
        begin,
        f"{what}. {paid(job, seen)} Trying again costs {costs}: consent to it, or abandon the job",
    )


def _unsigned(job: Job, index: int, seen: Seen) -> Action | None:
    """Somebody else has yet to sign the step's latest transaction."""
    step = job.steps[index]
    if not step.attempts or step.attempts[-1].raw is not None:
        return None
    latest = step.attempts[-1]
    if step.signed and not latest.cancels and (job.stopping or seen.flaw in FINAL_FLAWS):
        return None  # what was signed before may be on its way
    if job.stopping and not step.signed:
        return Abandon(f"{_given_up(job, seen)} Do not sign what was handed out for it")
    if seen.flaw in FINAL_FLAWS and seen.flaw is not None and not step.signed:
        return Fail(
            f"{seen.flaw.value}. {paid(job, seen)} Do not sign what was handed out for this job"
        )
    if not latest.cancels and _is_stale(latest, seen) and _may_make(seen):
        return Replace(index, latest.fee_rate, "the consensus hash that it names grows too old")
    for attempt in step.signed[-1:]:
        waiting = any(seen.of(other).in_mempool for other in step.signed)
        if not waiting and attempt.txid not in seen.sent and _may_send(job, index, attempt, seen):
            return Send(index, attempt)
    return AwaitSignature(
        f"the {step.kind.value} waits for a signature: sign the PSBT of this job where the keys"
        f" are, and hand it back. {paid(job, seen)}{deadline(job, index, seen)}"
    )


def _unmined(job: Job, index: int, seen: Seen) -> Action | None:
    """The step has transactions that may be on their way; none of them is in a block."""
    step = job.steps[index]
    if not step.signed:
        return None
    waiting = any(seen.of(attempt).in_mempool for attempt in step.signed)
    gone = _first_coin_gone(job, index, waiting, seen)
    if gone is not None:
        return gone
    latest = step.signed[-1]
    if (job.stopping or seen.flaw in FINAL_FLAWS) and not latest.cancels:
        taken_back = _take_back(job, index, seen)
        if taken_back is not None:
            return taken_back
    if not latest.cancels and _is_stale(latest, seen) and _may_make(seen):
        why = "the consensus hash that it names grows too old"
        return _replace(job, index, seen.fee_rate, why, seen)
    if seen.of(latest).in_mempool:
        return _wait_or_raise(job, index, latest, seen)
    if not waiting and not _may_send(job, index, latest, seen):
        return _hold_back(job, index, seen)
    return _send(job, index, latest, seen)


def _first_coin_gone(job: Job, index: int, waiting: bool, seen: Seen) -> Action | None:
    step = job.steps[index]
    if waiting or seen.coin not in (CoinState.GONE, CoinState.REPLACED):
        if step.missing_since is None:
            return None
        return Remember(index, None, step.flawed_since)
    if seen.coin is CoinState.REPLACED:
        return Anew(index)
    if step.missing_since is None:
        return Remember(index, seen.node_height, step.flawed_since)
    if seen.index_height < step.missing_since:
        # A block spends the coin that the index has not come to: perhaps by our own transaction.
        return Wait(
            f"the coin that pays for the {step.kind.value} was spent; the index will tell by what"
            f" when it has come to block {step.missing_since}"
        )
    if job.stopping:
        return Abandon(_given_up(job, seen))
    if not any(attempt.price for attempt in step.attempts):
        return Anew(index)
    what = f"the coin that was to pay for the {step.kind.value} was spent by another transaction"
    return _ask(job, index, what, seen)


def _take_back(job: Job, index: int, seen: Seen) -> Action | None:
    """Stop what is on its way and unwanted; None: it may as well be mined."""
    step = job.steps[index]
    if step.kind in (StepKind.REGISTER, StepKind.FUND):
        # A registration costs no more than the miner's fee, for its preorder is paid already; and
        # what FUND moves stays its owner's.
        if not job.stopping:
            return None
        return Abandon(
            f"{_given_up(job, seen)} The {step.kind.value} was sent and may still be mined"
        )
    if job.stopping:
        return Cancel(index, "the job was given up")
    if seen.flaw is not None and any(attempt.price for attempt in step.signed):
        return Cancel(index, seen.flaw.value)
    return None


def _may_send(job: Job, index: int, attempt: Attempt, seen: Seen) -> bool:
    """Whether it would have an effect in the next block, as far as is known: what has slept too
    long, or lost its name, is not sent (again)."""
    if attempt.cancels:
        return True
    if not seen.is_current or seen.flaw is not None:
        return False
    if attempt.consensus_hash is None:
        return True
    return seen.usable_until.get(attempt.consensus_hash, -1) > seen.node_height


def _hold_back(job: Job, index: int, seen: Seen) -> Action:
    """The latest transaction of the step waits nowhere, and must not be sent."""
    kind = job.steps[index].kind
    if not seen.is_current:
        return _wait_for_chain(seen)
    if seen.flaw is None:
        return Wait(
            f"the {kind.value} names a consensus hash that is too old, and is not sent any more"
        )
    return _flawed(job, index, seen)


def _send(job: Job, index: int, latest: Attempt, seen: Seen) -> Action:
    """The latest transaction of the step is not in the mempool."""
    step = job.steps[index]
    if latest.txid not in seen.sent:
        return Send(index, latest)
    waited = seen.node_height - latest.made_at
    if latest.refusal is None:
        if waited >= PATIENCE:
            why = "no node keeps it at its fee"
            return _replace(job, index, latest.fee_rate * RAISE, why, seen)
        return Wait(f"the {step.kind.value} was sent; the node does not show it yet")
    if any(words in latest.refusal.lower() for words in FEE_REFUSALS):
        if sum(attempt.made_at == seen.node_height for attempt in step.signed) >= TRIES_A_BLOCK:
            return Wait(
                f"the node asks for a higher fee than the {step.kind.value} pays"
                f" ({latest.refusal}); a higher one is tried after the next block"
            )
        why = "the node asks for a higher fee"
        wanted = max(seen.fee_rate, latest.fee_rate * RAISE)
        return _replace(job, index, wanted, why, seen)
    return Wait(
        f"the node does not take the {step.kind.value}: {latest.refusal}. {paid(job, seen)} It is"
        " offered again until the node takes it or the job is abandoned"
    )


def _wait_or_raise(job: Job, index: int, latest: Attempt, seen: Seen) -> Action:
    waited = seen.node_height - latest.made_at
    wanted = seen.fee_rate
    if waited >= 2 * PATIENCE:
        wanted = max(wanted, latest.fee_rate * RAISE, latest.fee_rate + seen.relay_step)
    if waited >= PATIENCE and wanted >= latest.fee_rate + seen.relay_step:
        why = f"it has waited for {waited} blocks"
        return _replace(job, index, wanted, why, seen, ORDINARY_SHARE)
    what = "payment back" if latest.cancels else job.steps[index].kind.value
    return Wait(f"the {what} waits for a block at {latest.fee_rate:.1f} satoshis a byte")


def _replace(
    job: Job, index: int, wanted: float, why: str, seen: Seen, share: float = 1.0
) -> Action:
    """Replace at the rate wanted, at no less than BIP 125 asks for, and below the ceiling.

    A payment back knows no ceiling: it costs little more than the fee that it replaces.
    """
    step = job.steps[index]
    cancels = step.signed[-1].cancels
    if step.kind.carries_operation and not cancels and not _may_make(seen):
        return _wait_for_chain(seen) if not seen.is_current else _flawed(job, index, seen)
    if len(step.signed) >= MAX_ATTEMPTS - (0 if cancels else KEPT_ATTEMPTS):
        return Wait(f"the {step.kind.value} was made so often that it is not made anew any more")
    if not cancels:
        on_its_way = _coins_on_their_way(job, index, seen)
        if on_its_way is not None:
            return on_its_way
    least = max(attempt.fee_rate for attempt in step.signed) + 1.1 * seen.relay_step
    ceiling = job.max_fee_rate * share
    if least > ceiling and not cancels:
        return Wait(
            f"the {step.kind.value} should pay {least:.1f} satoshis a byte, for {why}; the most"
            f" that this job may pay by itself is {job.max_fee_rate:.1f}: wait, or allow it all"
            f" that max_fee_rate allows with `blockstore-cli resume {job.id}`"
        )
    return Replace(index, max(least, min(wanted, ceiling)), why)


def _coins_on_their_way(job: Job, index: int, seen: Seen) -> Action | None:
    """What is next for the payment that moves coins for replacing the step's transaction; None:
    none waits."""
    fund = index - 1
    if index < 1 or job.steps[fund].kind is not StepKind.FUND or not job.steps[fund].attempts:
        return None
    latest = job.steps[fund].attempts[-1]
    if seen.of(latest).mined or is_spent_by(job, index, fund):
        return None
    if latest.raw is None:
        return _unsigned(job, fund, seen)
    if seen.of(latest).in_mempool:
        return _wait_or_raise(job, fund, latest, seen)
    if any(words in (latest.refusal or "").lower() for words in COIN_REFUSALS):
        return Anew(fund)
    return _send(job, fund, latest, seen)


def is_spent_by(job: Job, index: int, fund: int) -> bool:
    """Whether a transaction of the step ``index`` spends what the step ``fund`` moved."""
    return any(_spends(attempt, job.steps[fund]) for attempt in job.steps[index].attempts)


def _first(job: Job, index: int, seen: Seen) -> Action:
    """The step has no transaction yet."""
    step = job.steps[index]
    if job.stopping:
        return Abandon(_given_up(job, seen))
    if not seen.is_current:
        return _wait_for_chain(seen)
    if seen.flaw is Flaw.PREORDER_EXISTS:
        return Skip(index)  # the same name for the same owner: paid by us, whoever remembers it
    if seen.flaw is not None:
        return _flawed(job, index, seen)
    if step.flawed_since is not None:
        return Remember(index, step.missing_since, None)
    return Make(index)


def _flawed(job: Job, index: int, seen: Seen) -> Action:
    """Nothing of the step is on its way, and what it would send had no effect."""
    step = job.steps[index]
    assert seen.flaw is not None, "only asked where there is a flaw"
    what = f"the {step.kind.value} would have no effect: {seen.flaw.value}"
    preordered = any(before.kind is StepKind.PREORDER for before in job.steps[:index])
    if preordered and step.kind is StepKind.REGISTER and seen.flaw in NEEDS_PREORDER:
        return _ask(job, index, what, seen)
    if seen.flaw in FINAL_FLAWS:
        return Fail(f"{what}. {paid(job, seen)}")
    if step.flawed_since is None:
        return Remember(index, step.missing_since, seen.node_height)
    if seen.node_height - step.flawed_since >= FLAW_PATIENCE:
        return Fail(f"{what}. {paid(job, seen)}")
    return Wait(f"{what}; waiting whether that passes. {paid(job, seen)}")


def _wait_for_chain(seen: Seen) -> Wait:
    if not seen.node_is_current:
        return Wait(
            "the node does not know the newest blocks yet (or this machine's clock is wrong);"
            " waiting until it does"
        )
    return Wait(
        f"the index is at block {seen.index_height} and the node at {seen.node_height}; waiting"
        " for the index"
    )


def _is_stale(attempt: Attempt, seen: Seen) -> bool:
    """Whether the consensus hash that it names can soon not be named any more, or is none now,
    and a newer one can be named instead."""
    if attempt.consensus_hash is None or not seen.usable_until:
        return False
    until = seen.usable_until.get(attempt.consensus_hash)
    if until is None:
        return True
    newer = max(seen.usable_until.values()) - until
    return until - seen.node_height < FRESH_BLOCKS <= newer


def _may_make(seen: Seen) -> bool:
    return seen.flaw is None and seen.is_current


# --- what people agree to


def consented(job: Job, action: AskConsent, seen: Seen) -> Job:
    """The job after its owner agreed to pay anew. What took effect in a step before the current one
    was of no use, and counts for nothing from now on."""
    at = current(job, seen.standings)
    begin = len(job.steps) if at is None else at
    steps = tuple(
        step
        if index < action.step or step.kind is StepKind.FUND
        else step.anew(forgo=index < begin)
        for index, step in enumerate(job.steps)
    )
    return replace(job, steps=steps)


def reopened(job: Job, seen: Seen) -> Job:
    """A job that had ended, to be carried on: what was taken back is paid again."""
    steps = tuple(
        replace(step, missing_since=None, flawed_since=None)
        if not any(attempt.cancels and seen.of(attempt).mined for attempt in step.attempts)
        else step.anew()
        for step in job.steps
    )
    return replace(job, steps=steps, state=State.RUNNING, stopping=False, closed_at=None)


# --- what the chain takes back


def turned_by_chain(job: Job, standings: Mapping[bytes, Standing]) -> tuple[Job, State, str] | None:
    """A job that had ended, its state and what to say, where the chain has turned since; None: its
    end stands. ``standings``: by the index alone."""
    on_chain = [index for index, step in enumerate(job.steps) if step.kind.carries_operation]
    done = [index for index in on_chain if is_done(job, index, standings)]
    if job.state is State.DONE:
        if done == on_chain:
            return None
        why = "a reorganisation took back what was done; it is done again"
        return replace(job, closed_at=None), State.RUNNING, why
    survived = [i for i in done if any(attempt.cancels for attempt in job.steps[i].attempts)]
    if not survived and not (done == on_chain and job.state is State.FAILED):
        return None
    for index in survived:
        step = job.steps[index]
        backs = tuple(attempt for attempt in step.attempts if attempt.cancels)
        others = tuple(attempt for attempt in step.attempts if not attempt.cancels)
        job = job.with_step(index, replace(step, attempts=others, lost=(*step.lost, *backs)))
    price = sum(attempt.price for index in survived for attempt in job.steps[index].attempts[-1:])
    why = f"a reorganisation let it be mined after all: {price} satoshis were paid for it"
    if job.state is State.ABANDONED:
        return job, State.ABANDONED, f"the job was given up, but {why}"
    return replace(job, closed_at=None), State.RUNNING, why


# --- what people are told


def paid(job: Job, seen: Seen) -> str:
    """A sentence on what the job has cost until now."""
    mined = [attempt for attempt in job.attempts() if seen.of(attempt).mined]
    price = sum(attempt.price for attempt in mined)
    fees = sum(attempt.unsigned.fee for attempt in mined)
    if not mined:
        return "Nothing was paid."
    if not price:
        return f"Nothing was paid but {fees} satoshis to miners."
    return f"{price} satoshis were paid for it, and {fees} satoshis to miners."


def deadline(job: Job, index: int, seen: Seen) -> str:
    """A sentence, after a blank, on until when a registration must be mined lest its price is lost;
    "" where that is not so."""
    if job.steps[index].kind is not StepKind.REGISTER:
        return ""
    before = (attempt for step in job.steps[:index] for attempt in (*step.lost, *step.attempts))
    verdicts = (seen.of(attempt).verdict for attempt in before if attempt.price)
    heights = [one.height for one in verdicts if one is not None and one.flaw is None]
    if not heights:
        return ""
    last = max(heights) + PREORDER_EXPIRE
    return f" It must be in block {last} at the latest, or the price that was paid is lost."


def _given_up(job: Job, seen: Seen) -> str:
    return f"the job was given up. {paid(job, seen)}"
