"""How far a job has come: which steps are done, what it has cost, and what of it begins again.

What must stay true: a step is done when the index accepted one of its transactions, and pending
again when a reorganisation took that back; only what is in a block counts as paid; what was tried
stays written down, for it may still be mined. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from indexer.networks import PREORDER_EXPIRE
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import ReadyNamespace, RegisterName, Wish
from indexer.registrar.work.actions import Rest
from indexer.registrar.work.jobs import Attempt, Job, State, Step
from indexer.registrar.work.observed import NOWHERE, Seen, Standing


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


def current(job: Job, standings: Mapping[bytes, Standing]) -> int | None:
    """The first step that is not done; None: all are."""
    for index in range(len(job.steps)):
        if not is_done(job, index, standings):
            return index
    return None


def is_spent_by(job: Job, index: int, fund: int) -> bool:
    """Whether a transaction of the step ``index`` spends what the step ``fund`` moved."""
    return any(_spends(attempt, job.steps[fund]) for attempt in job.steps[index].attempts)


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
    txids = {paying.txid for paying in step.tried}
    return any(coin.txid in txids for coin in attempt.unsigned.coins)


def _of(attempt: Attempt, standings: Mapping[bytes, Standing]) -> Standing:
    return NOWHERE if attempt.txid is None else standings.get(attempt.txid, NOWHERE)


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


def hint_of_zone(wish: Wish, zones: Mapping[str, str]) -> str:
    """What is to be set so that what was opened or registered is answered over DNS, after a
    semicolon; "" where it is. ``zones``: DNS suffixes to the namespaces that they serve."""
    match wish:
        case ReadyNamespace(namespace_id=namespace):
            pass
        case RegisterName(name=name):
            namespace = name.partition(".")[2]
        case _:
            return ""
    if namespace in zones.values():
        return ""
    suffix = namespace.replace("_", "-").strip("-") or "names"
    while suffix in zones:
        suffix += "-names"
    wanted = ", ".join(
        f'"{one}" = "{other}"' for one, other in (*zones.items(), (suffix, namespace))
    )
    return (
        f"; names of {namespace} are refused over DNS here until a zone serves them: write"
        f" zones = {{{wanted}}} into the settings file, and start blockstored again"
    )


def given_up(job: Job, seen: Seen) -> str:
    return f"the job was given up. {paid(job, seen)}"


# --- what begins again


def consented(job: Job, rest: Rest, seen: Seen) -> Job:
    """The job after its owner agreed to pay anew. What took effect in a step before the current one
    was of no use, and counts for nothing from now on."""
    at = current(job, seen.standings)
    begin = len(job.steps) if at is None else at
    steps = tuple(
        step if index < rest.step or step.kind is StepKind.FUND else step.anew(forgo=index < begin)
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
