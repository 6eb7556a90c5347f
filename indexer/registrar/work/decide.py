"""What to do next for a job, from what is seen of it on the chain, in the mempool and in the index.

What must stay true: the answer follows from the job and from what is seen, never from what is
remembered of the last answer; nothing is sent that would have no effect in the next block; a
replacement pays no less than BIP 125 asks for, and no more than its job may pay by itself. Pure.
"""

from dataclasses import replace

from indexer.protocol.flaws import Flaw
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.actions import (
    Action,
    Make,
    OffChain,
    Replace,
    Rest,
    Rewrite,
    Send,
    wait,
)
from indexer.registrar.work.jobs import MAX_ATTEMPTS, Attempt, Job, State
from indexer.registrar.work.no_effect import (
    FINAL_FLAWS,
    cancelled,
    first_coin_gone,
    flawed,
    refused,
    take_back,
)
from indexer.registrar.work.observed import Seen
from indexer.registrar.work.progress import current, deadline, given_up, is_spent_by, paid

FRESH_BLOCKS = 5
"""A transaction whose consensus hash may be named in fewer blocks than this is made anew."""
PATIENCE = 3
"""Blocks that a transaction waits in the mempool before its fee is looked at again."""
TRIES_A_BLOCK = 6
"""How often a transaction that the node refuses for its fee is made anew before the next block."""
KEPT_ATTEMPTS = 20
"""Of those that a step may have: for taking it back."""
RAISE = 1.25
"""By how much a fee is raised that no estimate explains to be too low."""
ORDINARY_SHARE = 0.8
"""Of the highest fee rate allowed; the rest is kept for what must not wait any longer."""
TOO_OLD = "the consensus hash that it names grows too old"
COINS_GONE = "a coin that it spends is gone"
FEE_REFUSALS = ("insufficient fee", "min relay fee", "mempool min fee", "fee not met")
"""Words of nodes that refuse a transaction for its fee, in lower case."""
COIN_REFUSALS = ("missingorspent", "missing-inputs", "missing inputs", "txn-mempool-conflict")
"""Words of nodes that refuse a transaction for the coins it spends, in lower case."""


def decide(job: Job, seen: Seen) -> Action:
    """The next thing to do for an open job."""
    index = current(job, seen.standings)
    if index is None:
        return Rest(State.DONE, "all steps are done")
    kind = job.steps[index].kind
    if kind in (StepKind.PUBLISH, StepKind.VERIFY):
        if job.stopping:
            return Rest(State.ABANDONED, given_up(job, seen))
        return OffChain(index)
    for look in (_mined, unsigned, _unmined):
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
            return cancelled(job, standing, seen)
        if standing.verdict is not None:
            return refused(job, index, standing.verdict, seen)
        known = min(standing.confirmations, seen.confirmations)
        return wait(
            f"the {step.kind.value} is in a block with {known} of {seen.confirmations}"
            " confirmations; waiting for the index to take it"
        )
    return None


def _unmined(job: Job, index: int, seen: Seen) -> Action | None:
    """The step has transactions that may be on their way; none of them is in a block."""
    step = job.steps[index]
    if not step.signed:
        return None
    gone = first_coin_gone(job, index, seen)
    if gone is not None:
        return gone
    latest = step.signed[-1]
    if (job.stopping or seen.flaw in FINAL_FLAWS) and not latest.cancels:
        taken_back = take_back(job, index, seen)
        if taken_back is not None:
            return taken_back
    if seen.is_void:
        return make_anew(job, index, COINS_GONE, seen)
    if is_stale(latest, seen):
        return make_anew(job, index, TOO_OLD, seen)
    if seen.of(latest).in_mempool:
        return wait_or_raise(job, index, latest, seen)
    if not seen.waits(step) and not may_send(job, index, latest, seen):
        return hold_back(job, index, seen)
    return send(job, index, latest, seen)


def _first(job: Job, index: int, seen: Seen) -> Action:
    """The step has no transaction yet."""
    step = job.steps[index]
    if job.stopping:
        return Rest(State.ABANDONED, given_up(job, seen))
    if not seen.is_current:
        return wait_for_chain(seen)
    if seen.flaw is Flaw.PREORDER_EXISTS:
        return Rewrite(
            index, replace(step, done=True)
        )  # the same name for the same owner: paid by us, whoever remembers it
    if seen.flaw is not None:
        return flawed(job, index, seen)
    if step.flawed_since is not None:
        return Rewrite(index, replace(step, flawed_since=None))
    return Make(index)


# --- signed and sent


def unsigned(job: Job, index: int, seen: Seen) -> Action | None:
    """Somebody else has yet to sign the step's latest transaction."""
    step = job.steps[index]
    if not step.attempts or step.attempts[-1].raw is not None:
        return None
    latest = step.attempts[-1]
    if step.signed and not latest.cancels and (job.stopping or seen.flaw in FINAL_FLAWS):
        return None  # what was signed before may be on its way
    if job.stopping and not step.signed:
        return Rest(
            State.ABANDONED, f"{given_up(job, seen)} Do not sign what was handed out for it"
        )
    if seen.flaw in FINAL_FLAWS and seen.flaw is not None and not step.signed:
        return Rest(
            State.FAILED,
            f"{seen.flaw.value}. {paid(job, seen)} Do not sign what was handed out for this job",
        )
    if is_stale(latest, seen) or (seen.is_void and _may_make(seen)):
        return Replace(index, latest.fee_rate, COINS_GONE if seen.is_void else TOO_OLD)
    for attempt in step.signed[-1:]:
        sent = seen.waits(step) or attempt.txid in seen.sent
        if not sent and may_send(job, index, attempt, seen):
            return Send(index, attempt)
    return Rest(
        State.WAITING_FOR_SIGNATURE,
        f"the {step.kind.value} waits for a signature: sign the PSBT of this job where the keys"
        f" are, and hand it back. {paid(job, seen)}{deadline(job, index, seen)}",
    )


def send(job: Job, index: int, latest: Attempt, seen: Seen) -> Action:
    """The latest transaction of the step is not in the mempool."""
    step = job.steps[index]
    if latest.txid not in seen.sent:
        return Send(index, latest)
    waited = seen.node_height - latest.made_at
    if latest.refusal is None:
        if waited >= PATIENCE:
            why = "no node keeps it at its fee"
            return pay_more(job, index, latest.fee_rate * RAISE, why, seen)
        return wait(f"the {step.kind.value} was sent; the node does not show it yet")
    if any(words in latest.refusal.lower() for words in FEE_REFUSALS):
        if sum(attempt.made_at == seen.node_height for attempt in step.signed) >= TRIES_A_BLOCK:
            return wait(
                f"the node asks for a higher fee than the {step.kind.value} pays"
                f" ({latest.refusal}); a higher one is tried after the next block"
            )
        why = "the node asks for a higher fee"
        wanted = max(seen.fee_rate, latest.fee_rate * RAISE)
        return pay_more(job, index, wanted, why, seen)
    return wait(
        f"the node does not take the {step.kind.value}: {latest.refusal}. {paid(job, seen)} It is"
        " offered again until the node takes it or the job is abandoned"
    )


def may_send(job: Job, index: int, attempt: Attempt, seen: Seen) -> bool:
    """Whether it would have an effect in the next block, as far as is known: what has slept too
    long, or lost its name, is not sent (again)."""
    if attempt.cancels:
        return True
    if not seen.is_current or seen.flaw is not None:
        return False
    if attempt.consensus_hash is None:
        return True
    return seen.usable_until.get(attempt.consensus_hash, -1) > seen.node_height


def hold_back(job: Job, index: int, seen: Seen) -> Action:
    """The latest transaction of the step waits nowhere, and must not be sent."""
    kind = job.steps[index].kind
    if not seen.is_current:
        return wait_for_chain(seen)
    if seen.flaw is None:
        return wait(
            f"the {kind.value} names a consensus hash that is too old, and is not sent any more"
        )
    return flawed(job, index, seen)


# --- raised and replaced


def wait_or_raise(job: Job, index: int, latest: Attempt, seen: Seen) -> Action:
    """The latest transaction of the step is in the mempool."""
    waited = seen.node_height - latest.made_at
    wanted = seen.fee_rate
    if waited >= 2 * PATIENCE:
        wanted = max(wanted, latest.fee_rate * RAISE, latest.fee_rate + seen.relay_step)
    if waited >= PATIENCE and wanted >= latest.fee_rate + seen.relay_step:
        why = f"it has waited for {waited} blocks"
        return pay_more(job, index, wanted, why, seen, ORDINARY_SHARE)
    what = "payment back" if latest.cancels else job.steps[index].kind.value
    return wait(f"the {what} waits for a block at {latest.fee_rate:.1f} satoshis a byte")


def pay_more(
    job: Job, index: int, wanted: float, why: str, seen: Seen, share: float = 1.0
) -> Action:
    """Replace at the rate wanted, at no less than BIP 125 asks for, and below the ceiling.

    A payment back knows no ceiling: it costs little more than the fee that it replaces.
    """
    step = job.steps[index]
    cancels = step.signed[-1].cancels
    if step.kind.carries_operation and not cancels and not _may_make(seen):
        return wait_for_chain(seen) if not seen.is_current else flawed(job, index, seen)
    if len(step.signed) >= MAX_ATTEMPTS - (0 if cancels else KEPT_ATTEMPTS):
        return wait(f"the {step.kind.value} was made so often that it is not made anew any more")
    if not cancels:
        on_its_way = _coins_on_their_way(job, index, seen)
        if on_its_way is not None:
            return on_its_way
    least = max(attempt.fee_rate for attempt in step.signed) + 1.1 * seen.relay_step
    ceiling = job.max_fee_rate * share
    if least > ceiling and not cancels:
        return wait(
            f"the {step.kind.value} should pay {least:.1f} satoshis a byte, for {why}; the most"
            f" that this job may pay by itself is {job.max_fee_rate:.1f}: wait, or allow it all"
            f" that max_fee_rate allows with `blockstore-cli resume {job.id}`"
        )
    return Replace(index, max(least, min(wanted, ceiling)), why)


def make_anew(job: Job, index: int, why: str, seen: Seen) -> Action:
    """Make once more what would have no effect, or can never be mined. Where it waits nowhere,
    nobody asks it to pay more, and it is made even at the ceiling."""
    step = job.steps[index]
    action = pay_more(job, index, seen.fee_rate, why, seen)
    made_often = len(step.signed) >= MAX_ATTEMPTS - KEPT_ATTEMPTS
    if not isinstance(action, Rest) or seen.waits(step) or made_often or not _may_make(seen):
        return action
    return Replace(index, job.max_fee_rate, why)


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
        return unsigned(job, fund, seen)
    if seen.of(latest).in_mempool:
        return wait_or_raise(job, fund, latest, seen)
    if any(words in (latest.refusal or "").lower() for words in COIN_REFUSALS):
        return Rewrite(fund, job.steps[fund].anew())
    return send(job, fund, latest, seen)


# --- what stands in the way


def wait_for_chain(seen: Seen) -> Rest:
    """The node or the index does not know the newest blocks."""
    if not seen.node_is_current:
        return wait(
            "the node does not know the newest blocks yet (or this machine's clock is wrong);"
            " waiting until it does"
        )
    return wait(
        f"the index is at block {seen.index_height} and the node at {seen.node_height}; waiting"
        " for the index"
    )


def is_stale(attempt: Attempt, seen: Seen) -> bool:
    """Whether the consensus hash that it names can soon not be named any more, or is none now,
    and it can be made anew with a newer one."""
    if attempt.consensus_hash is None or not seen.usable_until or not _may_make(seen):
        return False
    until = seen.usable_until.get(attempt.consensus_hash)
    if until is None:
        return True
    newer = max(seen.usable_until.values()) - until
    return until - seen.node_height < FRESH_BLOCKS <= newer


def _may_make(seen: Seen) -> bool:
    return seen.flaw is None and seen.is_current
