"""The plan of a wish in words for people, and as JSON for programs.

What must stay true: both say the same, every amount is in satoshis, and nothing is rounded.
"""

from collections.abc import Iterator

from indexer.bitcoin.transactions import script_address
from indexer.networks import Network
from indexer.registrar.planning import wishes
from indexer.registrar.planning.plan import Plan, PlannedStep
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import wish_json

_IN_BITCOIN = 1_000_000

STEP_WORDS: dict[StepKind, str] = {
    StepKind.FUND: "move coins to the address that must send",
    StepKind.PREORDER: "preorder the name: pay for it, without saying which it is",
    StepKind.REGISTER: "register the name, once the preorder is mined",
    StepKind.UPDATE: "say which data the name holds",
    StepKind.TRANSFER: "give the name to its new owner",
    StepKind.RENEW: "renew the name",
    StepKind.REVOKE: "revoke the name",
    StepKind.IMPORT: "import the name into its namespace",
    StepKind.NAMESPACE_PREORDER: "preorder the namespace: pay for it, without saying which it is",
    StepKind.NAMESPACE_REVEAL: "reveal the namespace and its terms",
    StepKind.NAMESPACE_READY: "open the namespace to everybody",
    StepKind.ANNOUNCE: "announce the message's hash",
    StepKind.PUBLISH: "hand the data to other nodes",
    StepKind.VERIFY: "look the result up as a stranger does",
}
"""What each step does, as one would say it."""


def amount(satoshis: int) -> str:
    """``satoshis`` as people read them."""
    text = f"{satoshis:,} satoshi" + ("" if satoshis == 1 else "s")
    if satoshis < _IN_BITCOIN:
        return text
    bitcoins = f"{satoshis // 100_000_000}.{satoshis % 100_000_000:08d}".rstrip("0").rstrip(".")
    return f"{text} ({bitcoins} BTC)"


def plan_lines(plan: Plan, network: Network) -> list[str]:
    """The plan as lines of text."""
    lines = [f"{_title(plan, network)}:", ""]
    for number, step in enumerate(plan.steps, start=1):
        lines.append(f"  {number}. {STEP_WORDS[step.kind]}")
        lines += [f"       {line}" for line in _step_lines(step)]
    lines += ["", *_sums(plan), *_lifetime(plan)]
    lines += [f"Note: {warning}." for warning in plan.warnings]
    return lines


def _title(plan: Plan, network: Network) -> str:
    wish = plan.wish
    title = f"To {wish.word} {wish.subject}"
    match wish:
        case wishes.RegisterName():
            owner = plan.parties.owner or wish.owner
            return f"{title} for {_address(owner, network) or 'a fresh address'}"
        case wishes.TransferName() | wishes.ImportName():
            return f"{title} to {_address(wish.recipient, network)}"
    return title


def _address(script: bytes | None, network: Network) -> str | None:
    return None if script is None else script_address(script, network)


def _step_lines(step: PlannedStep) -> Iterator[str]:
    for output in step.outputs:
        if output.satoshis:
            where = f" ({output.address})" if output.address else ""
            back = ", yours" if output.comes_back else ""
            yield f"{amount(output.satoshis):>24}  {output.words}{where}{back}"
    if step.fee:
        yield f"{amount(step.fee):>24}  the miner's fee"


def _sums(plan: Plan) -> Iterator[str]:
    parts = [f"{amount(plan.price)} price"] if plan.price else []
    parts.append(f"{amount(plan.miners_fee)} for the miners")
    if plan.given:
        parts.append(f"{amount(plan.given)} to others")
    yield f"It costs {amount(plan.total)}: {', '.join(parts)}."
    if plan.paid_already:
        yield f"A preorder has paid {amount(plan.paid_already)} for it already."
    if plan.comes_back:
        yield f"{amount(plan.comes_back)} of what is spent stays yours."


def _lifetime(plan: Plan) -> Iterator[str]:
    subject, deadline = plan.wish.subject, plan.renewal_deadline
    match plan.wish:
        case wishes.RegisterName() | wishes.RenewName() | wishes.UpdateName():
            if plan.expires is None:
                yield f"{subject} never expires."
            elif deadline is None or deadline.height <= plan.expires.height + 1:
                yield f"{subject} expires at {plan.expires}."
            else:
                yield f"{subject} expires at {plan.expires}; it can be renewed until {deadline}."
        case wishes.RevokeName():
            if deadline is None:
                yield f"{subject} can never be registered again."
            else:
                yield f"{subject} can be registered again, by anybody, after {deadline}."


def plan_json(plan: Plan, network: Network) -> dict[str, object]:
    """The plan as JSON: amounts in satoshis; heights and their probable days under the words that
    the answers about names have for them."""
    expires, deadline = plan.expires, plan.renewal_deadline
    return {
        "wish": wish_json(plan.wish, network),
        "sender": _address(plan.parties.sender, network),
        "owner": _address(plan.parties.owner, network),
        "steps": [_step_json(step) for step in plan.steps],
        "price": plan.price,
        "paid_already": plan.paid_already,
        "miners_fee": plan.miners_fee,
        "given": plan.given,
        "total": plan.total,
        "comes_back": plan.comes_back,
        "expire_block": None if expires is None else expires.height,
        "expires_about": None if expires is None else expires.day,
        "renewal_deadline": None if deadline is None else deadline.height,
        "gone_about": None if deadline is None else deadline.day,
        "warnings": list(plan.warnings),
    }


def _step_json(step: PlannedStep) -> dict[str, object]:
    return {
        "step": step.kind.value,
        "does": STEP_WORDS[step.kind],
        "outputs": [
            {
                "for": output.words,
                "satoshis": output.satoshis,
                "address": output.address,
                "comes_back": output.comes_back,
            }
            for output in step.outputs
        ],
        "fee": step.fee,
        "needs": step.needs,
    }
