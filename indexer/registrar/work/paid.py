"""What people are told of a job's money: what it has cost, and by when what it paid is lost; and of
what it brought, where that needs a setting to be seen.

What must stay true: only what is in a block counts as paid. Pure.
"""

from collections.abc import Mapping

from indexer.networks import PREORDER_EXPIRE
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import ReadyNamespace, RegisterName, Wish
from indexer.registrar.work.jobs import Job
from indexer.registrar.work.seen import Seen


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
