"""The transactions of a job: composed from the table and the coins, signed, and not sent.

What must stay true: every transaction of a step spends the coin that the first one of it spent
first; a registration spends the change of its own preorder, so that it can never be mined without
it, nor two of them; no coin that another open job counts on is touched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from indexer.bitcoin.transactions import TxOut, op_return_payload, parse_transaction
from indexer.bitcoin.witness import virtual_size
from indexer.protocol.names import find_bound_name
from indexer.protocol.operations import (
    NamespacePreorder,
    Operation,
    Preorder,
    Transfer,
    Update,
)
from indexer.protocol.view import BlockView
from indexer.registrar.planning.compose import compose, take_back
from indexer.registrar.planning.purse import Purse
from indexer.registrar.planning.refusals import PlanRefused
from indexer.registrar.planning.steps import StepKind, operation_for
from indexer.registrar.planning.wishes import MAX_MONEY
from indexer.registrar.work.jobs import Attempt, Job, Step
from indexer.registrar.work.observed import Seen
from indexer.wallet.coins import (
    LEAST_FEE_RATE,
    RELAY_DUST,
    CannotPay,
    Coin,
    FeeTooHigh,
    Unsigned,
    transaction_size,
)
from indexer.wallet.signers import NeedsSignature, Signer

Outpoint = tuple[bytes, int]

SPARE_BYTES = 500
"""How many bytes' fee is moved to a sender beyond what a replacement lacks, lest fees rise."""


class PriceTooHigh(Exception):
    """The price has risen above what the wish allows; nothing was signed."""

    def __init__(self, price: int, ceiling: int) -> None:
        super().__init__(f"the price is {price} satoshis now, and at most {ceiling} were allowed")


class NoMore(Exception):
    """What was made would pay no more than what it is to replace, and is thrown away."""

    def __init__(self, fee: int, least: int) -> None:
        super().__init__(
            f"in its place {fee} satoshis would be paid to the miner, and nodes ask for more than "
            f"{least}"
        )


@dataclass(frozen=True, slots=True)
class Means:
    """With what a transaction of a job is made."""

    signer: Signer
    view: BlockView
    """The table as the next block will find it."""
    node_height: int
    taken: frozenset[Outpoint] = frozenset()
    """Coins that other open jobs count on."""
    senders: frozenset[bytes] = frozenset()
    """The scripts that coins are moved to, of this job and of those that wait for some: what is
    there is not moved elsewhere."""
    own: tuple[Coin, ...] = ()
    """Unspent coins that the job itself counts on: a wallet does not show what it keeps."""

    def coins(self, job: Job, index: int) -> list[Coin]:
        """What may pay for a step: the coins of its parties, but for those counted on elsewhere."""
        ours = job.steps[:index] + job.steps[index + 1 :]
        taken = self.taken | frozenset(spent_by(ours))
        scripts = dict.fromkeys(s for s in (job.parties.sender, job.parties.funder) if s)
        found = [coin for coin in self.own if coin.script in scripts]
        found += (coin for script in scripts for coin in self.signer.coins(script))
        return [coin for coin in dict.fromkeys(found) if (coin.txid, coin.index) not in taken]


def make(
    job: Job,
    index: int,
    fee_rate: float,
    means: Means,
    first: Coin | None,
    replaces: Unsigned | None = None,
    owed: int = 0,
) -> Attempt:
    """A transaction of a step that carries an operation; ``first``: the coin to spend first, where
    one was left for it; ``replaces`` and ``owed``: as in ``compose``. Raises SignerError,
    CannotPay, FeeTooHigh, PriceTooHigh, Refused."""
    operation = operation_for(job.steps[index].kind, job.wish, job.parties, means.view)
    price: int = getattr(operation, "op_fee", 0)
    ceiling: int | None = getattr(job.wish, "max_price", None)
    if ceiling is not None and price > ceiling:
        raise PriceTooHigh(price, ceiling)
    unsigned = compose(
        operation,
        means.view.network,
        means.coins(job, index),
        job.parties.sender,
        fee_rate=fee_rate,
        first=first,
        replaces=replaces,
        owed=owed,
    )
    _checked(_attempt(unsigned, means), job)
    named = consensus_hash_of(operation, job, means.view)
    return replace(_signed(unsigned, means), price=price, consensus_hash=named)


def lacking(job: Job, index: int, fee_rate: float, means: Means) -> int:
    """Satoshis that must be moved to the sender before the step ``index``, with as much again for
    the miners lest fees rise; 0: none. A preorder lacks what its registration does.

    Raises CannotPay where no coin would help.
    """
    kinds = [job.steps[index].kind]
    if kinds[0] is StepKind.PREORDER:
        kinds += [step.kind for step in job.steps[index:] if step.kind is StepKind.REGISTER]
    operations = [operation_for(kind, job.wish, job.parties, means.view) for kind in kinds]
    size = means.signer.spending_size
    purse = Purse(job.parties, means.view, fee_rate, size)
    try:
        return purse.pay(operations, means.coins(job, index), MAX_MONEY).moved
    except PlanRefused as refused:
        raise CannotPay(f"{refused}; {refused.hint}") from None


def make_again(job: Job, index: int, fee_rate: float, means: Means, owed: int | None) -> Attempt:
    """A transaction in the place of the step's latest, at a higher rate, and with the consensus
    hash and price of now. ``owed``: satoshis of fees that go with what is replaced, those of what
    builds upon it among them; None: nothing waits, so that nothing but the first coin binds it.
    Raises what ``make`` raises, and NoMore."""
    step = job.steps[index]
    latest = (step.signed or step.attempts)[-1]
    if latest.cancels:
        return make_cancelling(job, index, fee_rate, means, owed)
    if step.kind is StepKind.FUND:
        if owed:  # the rate at which a payment of the same size pays that, and for itself
            fee_rate = max(fee_rate, owed / _size(latest.unsigned, latest.raw) + LEAST_FEE_RATE)
        kept = _kept(latest.unsigned, means, owed)
        made = make_fund(job, latest.brought, fee_rate, means, kept.coins)
    elif owed is None:
        return make(job, index, fee_rate, means, latest.first_coin)
    else:
        made = make(job, index, fee_rate, means, latest.first_coin, latest.unsigned, owed)
    if owed is not None and made.unsigned.fee <= max(owed, latest.unsigned.fee):
        raise NoMore(made.unsigned.fee, max(owed, latest.unsigned.fee))
    return made


def make_cancelling(
    job: Job, index: int, fee_rate: float, means: Means, owed: int | None
) -> Attempt:
    """A payment of the step's coins back to the sender. Raises what ``make`` raises."""
    unsigned = take_back(
        _kept(job.steps[index].signed[-1].unsigned, means, owed),
        job.parties.sender,
        fee_rate=fee_rate,
        owed=owed or 0,
    )
    return replace(_signed(unsigned, means), cancels=True)


def make_fund(
    job: Job,
    outputs: Sequence[TxOut],
    fee_rate: float,
    means: Means,
    spending: Sequence[Coin] = (),
) -> Attempt:
    """A payment that brings coins to senders, the first of them for this job. ``spending``: coins
    that it must spend. Raises SignerError, FeeTooHigh."""

    def leaves(coin: Coin) -> bool:
        return coin.script in means.senders or (coin.txid, coin.index) in means.taken

    try:
        payment = means.signer.pay(outputs, fee_rate, spending=spending, leaves=leaves)
        made = _attempt(payment.unsigned, means, payment.raw)
    except NeedsSignature as needed:
        made = _attempt(needed.unsigned, means, psbt=needed.psbt)
    return _checked(made, job)


def _kept(unsigned: Unsigned, means: Means, owed: int | None) -> Unsigned:
    """What is replaced, without the coins that are gone meanwhile where it waits nowhere."""
    if owed is not None:
        return unsigned
    first, *others = unsigned.coins
    return replace(unsigned, coins=(first, *(coin for coin in others if coin in means.own)))


def _signed(unsigned: Unsigned, means: Means) -> Attempt:
    try:
        return _attempt(unsigned, means, means.signer.sign(unsigned))
    except NeedsSignature as needed:
        return _attempt(unsigned, means, psbt=needed.psbt)


def _attempt(
    unsigned: Unsigned, means: Means, raw: bytes | None = None, psbt: str | None = None
) -> Attempt:
    txid = None if raw is None else parse_transaction(raw).txid
    rate = unsigned.fee / _size(unsigned, raw)
    return Attempt(unsigned, rate, means.node_height, raw=raw, txid=txid, psbt=psbt)


def _size(unsigned: Unsigned, raw: bytes | None) -> int:
    """Virtual bytes: as they are once it is signed, and the most that they can be until then."""
    if raw is not None:
        return virtual_size(raw)
    return transaction_size(unsigned.coins, unsigned.outputs)


def _checked(made: Attempt, job: Job) -> Attempt:
    """It, where its fee is no more than may be paid; else FeeTooHigh."""
    size = _size(made.unsigned, made.raw)
    most = int(job.max_fee_rate * size) + RELAY_DUST  # change too small to be an output is fee
    if made.unsigned.fee > most:
        raise FeeTooHigh(made.unsigned.fee, most)
    return made


def consensus_hash_of(operation: Operation, job: Job, view: BlockView) -> bytes | None:
    """The consensus hash that an operation names, also where only its hash shows it."""
    if isinstance(operation, Preorder | NamespacePreorder | Transfer):
        return operation.consensus_hash
    if isinstance(operation, Update):
        bound = operation.name_consensus_hash
        found = find_bound_name(bound, [job.subject], reversed(view.window))
        return None if found is None else found[1]
    return None


# --- coins that are counted on


def spent_by(steps: Iterable[Step]) -> Iterable[Outpoint]:
    """What the transactions of these steps spend."""
    for step in steps:
        for attempt in step.attempts:
            yield from ((coin.txid, coin.index) for coin in attempt.unsigned.coins)


def counted_on(jobs: Iterable[Job]) -> frozenset[Outpoint]:
    """What these jobs spend, and what comes back to their senders for their next steps."""
    found: set[Outpoint] = set()
    for job in jobs:
        found.update(spent_by(job.steps))
        for step in job.steps:
            for attempt in step.attempts:
                found.update((coin.txid, coin.index) for coin in left_by(attempt, job))
    return frozenset(found)


def left_by(attempt: Attempt, job: Job) -> list[Coin]:
    """The coins that a signed transaction pays to its job's sender, but for those that it brings
    for other jobs."""
    if attempt.txid is None:
        return []
    outputs = attempt.unsigned.outputs
    moves = op_return_payload(outputs[0].script) is None
    others = range(1, len(attempt.brought)) if moves else range(0)
    return [
        Coin(attempt.txid, place, output.value, output.script)
        for place, output in enumerate(outputs)
        if output.script == job.parties.sender and place not in others
    ]


def coins_left_for(job: Job, index: int, seen: Seen) -> list[Coin]:
    """The coins that the step before left for this one, the largest first: of the transaction that
    took effect. A registration has them of its preorder, whatever was moved in between."""
    for step in reversed(job.steps[:index]):
        if job.steps[index].kind is StepKind.REGISTER and step.kind is not StepKind.PREORDER:
            continue
        for attempt in reversed((*step.lost, *step.attempts)):
            standing = seen.of(attempt)
            if standing.accepted or (step.kind is StepKind.FUND and standing.mined):
                return sorted(left_by(attempt, job), key=lambda coin: -coin.value)
    return []


def known_coins(job: Job) -> list[Coin]:
    """Every coin that a transaction of the job ever spent, or left to its sender."""
    found = [coin for attempt in job.attempts() for coin in attempt.unsigned.coins]
    found += [coin for attempt in job.attempts() for coin in left_by(attempt, job)]
    return list(dict.fromkeys(found))
