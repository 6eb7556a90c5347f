"""A wish as a plan: its steps with all their outputs, what they cost, and what is to be known.

What must stay true: a plan is made only where the indexer's rules would let every step take effect
and the coins pay for all of them; otherwise ``PlanRefused`` says why, before anything is signed.
Every satoshi of an output is told; what is called price is paid for a name or a namespace, and what
comes back is for a script of the parties. A creator who registers a name of their own namespace
pays a price that comes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from indexer.bitcoin.transactions import p2pkh_script, script_address
from indexer.networks import BLOCKS_PER_YEAR, CONSENSUS_WINDOW, PREORDER_EXPIRE
from indexer.protocol.flaws import Flaw
from indexer.protocol.operations import (
    Import,
    NamespacePreorder,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    Transfer,
)
from indexer.protocol.records import status_at
from indexer.protocol.rules import Effect
from indexer.protocol.view import BlockView
from indexer.registrar.planning import wishes
from indexer.registrar.planning.cautions import cautions
from indexer.registrar.planning.compose import write_outputs
from indexer.registrar.planning.dates import Tip, When, when
from indexer.registrar.planning.purse import Paid, Purse
from indexer.registrar.planning.quote import (
    Payment,
    name_payment,
    namespace_payment,
    pays_creator,
    preorder_of,
)
from indexer.registrar.planning.refusals import PlanRefused, Reason, refusal
from indexer.registrar.planning.steps import (
    Parties,
    StepKind,
    foresee,
    operation_for,
    steps_of,
)
from indexer.registrar.planning.wishes import Wish
from indexer.wallet.coins import (
    Coin,
    SpendingSize,
    Unsigned,
    spending_size,
)

USUAL_DATACARRIER = 83
"""Bytes of OP_RETURN scripts that nodes have passed on at least, unless told otherwise."""


SOMEBODY = p2pkh_script(b"\xff" * 20)
"""Stands for an owner whose address is made only when the job begins."""


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """One output of a step."""

    words: str
    satoshis: int
    address: str | None = None
    comes_back: bool = False
    """Whether a script of the parties can spend it."""
    is_price: bool = False
    """Whether it pays for a name or a namespace."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step, with its outputs where it is a transaction."""

    kind: StepKind
    outputs: tuple[PlannedOutput, ...] = ()
    fee: int = 0
    """The miner's, in satoshis."""
    needs: int = 0
    """What its coins must hold, in satoshis: all outputs but the change, and the fee."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done for a wish, what it costs and what comes of it. Amounts are satoshis."""

    wish: Wish
    parties: Parties
    steps: tuple[PlannedStep, ...]
    price: int
    """Paid to nobody or to a namespace's creator, still to be paid."""
    paid_already: int
    """Price that a preorder has paid before."""
    miners_fee: int
    given: int
    """What outputs give to others, or leave where nobody can spend it."""
    comes_back: int
    """What stays with the scripts of the parties: change, and outputs that name them."""
    expires: When | None
    """Until when what is had can be had; None: for ever, or there is nothing to lapse."""
    renewal_deadline: When | None
    """When the grace period after it ends."""
    warnings: tuple[str, ...]

    @property
    def total(self) -> int:
        """What all of it costs."""
        return self.price + self.miners_fee + self.given


def make_plan(
    wish: Wish,
    parties: Parties,
    view: BlockView,
    *,
    fee_rate: float,
    coins: Sequence[Coin],
    tip: Tip,
    has_data: bool = False,
    spare: int = 0,
    rivals: Sequence[Operation] = (),
    size_of: SpendingSize = spending_size,
    max_datacarrier: int | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """The plan of ``wish`` as of the block of ``view``; raises ``PlanRefused``.

    ``fee_rate``: satoshis a virtual byte. ``coins``: the confirmed coins of the parties' scripts;
    ``spare``: satoshis that whoever signs can move to the sender from elsewhere, by a step of its
    own. ``rivals``: what others have sent and is not mined yet. ``max_datacarrier``: the most bytes
    of OP_RETURN scripts that the node passes on, where it tells. ``notes``: what is to be known of
    the data, which is said before all else. An owner who is not known yet gets a fresh address.
    """
    asked = parties
    if isinstance(wish, wishes.RegisterName) and parties.owner is None:
        parties = replace(parties, owner=wish.owner or SOMEBODY)
    kinds = [k for k in steps_of(wish) if k.carries_operation]
    paid_already = _paid_already(wish, parties, view)
    if paid_already is not None:
        kinds.remove(StepKind.PREORDER)
    effect = _check(kinds, wish, parties, view, tip, rivals)
    if paid_already is None:
        _check_price(wish, _payment(wish, view), view, tip)
    operations = [operation_for(kind, wish, parties, view) for kind in kinds]
    _check_carried(operations, parties, view, max_datacarrier)
    purse = Purse(parties, view, fee_rate, size_of)
    paid = purse.pay(operations, coins, spare)
    made = paid.transactions
    steps = _funding(paid, parties, view)
    for kind, operation, unsigned in zip(kinds, operations, made, strict=True):
        outputs = _described(operation, unsigned, parties, view)
        change = 0 if unsigned.change is None else unsigned.outputs[unsigned.change].value
        held = sum(coin.value for coin in unsigned.coins)
        steps.append(PlannedStep(kind, outputs, unsigned.fee, held - change))
    steps += [PlannedStep(k) for k in steps_of(wish, has_data=has_data) if not k.carries_operation]
    shown = [output for step in steps if step.kind is not StepKind.FUND for output in step.outputs]
    gone = [output for output in shown if not output.comes_back]
    price = sum(output.satoshis for output in gone if output.is_price)
    expires, renewal_deadline = _ends(effect, view, tip)
    return Plan(
        wish=wish,
        parties=asked,
        steps=tuple(steps),
        price=price,
        paid_already=paid_already or 0,
        miners_fee=sum(step.fee for step in steps),
        given=sum(output.satoshis for output in gone) - price,
        comes_back=_kept(made, parties),
        expires=expires,
        renewal_deadline=renewal_deadline,
        warnings=(*notes, *cautions(wish, parties, view, tip)),
    )


def _paid_already(wish: Wish, parties: Parties, view: BlockView) -> int | None:
    """What a preorder that stands has paid for the very registration; None: there is none."""
    if not isinstance(wish, wishes.RegisterName) or parties.owner is None:
        return None
    preorder = preorder_of(wish.name, view, [(parties.sender, parties.owner)])
    return None if preorder is None else preorder.op_fee


def _check(
    kinds: Sequence[StepKind],
    wish: Wish,
    parties: Parties,
    view: BlockView,
    tip: Tip,
    rivals: Sequence[Operation],
) -> Effect:
    """What the last step would write; ``PlanRefused`` where some step would have no effect."""
    effect: Effect | None = None
    for kind in kinds:
        found = foresee(kind, wish, parties, view, rivals)
        if isinstance(found, Flaw):
            raise refusal(found, kind, wish, parties, view, tip)
        effect = found
    assert effect is not None, "every wish has a step that the indexer reads"
    if isinstance(wish, wishes.PreorderNamespace):
        _refuse_existing(wish, parties, view, tip)
    return effect


def _check_carried(
    operations: Sequence[Operation], parties: Parties, view: BlockView, most: int | None
) -> None:
    """``PlanRefused`` where the node would not pass on some step: a preorder may be short enough,
    and its registration too long."""
    scripts = [write_outputs(o, view.network, parties.sender)[0][0].script for o in operations]
    needed = max(map(len, scripts))
    if most is None or needed <= most:
        return
    raise PlanRefused(
        Reason.NOT_CARRIED,
        f"the node passes on {most} bytes of OP_RETURN at most, and this needs {needed}",
        f"take datacarrier=0 out of its bitcoin.conf, set datacarriersize={USUAL_DATACARRIER} "
        "there, and start it again; or use another node",
    )


def _refuse_existing(
    wish: wishes.PreorderNamespace, parties: Parties, view: BlockView, tip: Tip
) -> None:
    """A preorder does not say which namespace it is of, so only we know that it is in vain."""
    record = view.namespace(wish.namespace_id)
    if record is not None and (record.is_ready or record.revealed_at(view.last, view.network)):
        kind = StepKind.NAMESPACE_PREORDER
        raise refusal(Flaw.NAMESPACE_EXISTS, kind, wish, parties, view, tip)


def _payment(wish: Wish, view: BlockView) -> Payment | None:
    match wish:
        case wishes.RegisterName():
            return name_payment(wish.name, view, view.height + 1)
        case wishes.RenewName():
            return name_payment(wish.name, view)
        case wishes.PreorderNamespace():
            return namespace_payment(wish.namespace_id, view)
    return None


def _check_price(wish: Wish, payment: Payment | None, view: BlockView, tip: Tip) -> None:
    if payment is None:
        return
    ceiling = getattr(wish, "max_price", None)
    if ceiling is not None and payment.satoshis > ceiling:
        raise PlanRefused(
            Reason.PRICE_TOO_HIGH,
            f"{wish.subject} costs {payment.satoshis} satoshis; at most {ceiling} were allowed",
            "allow a higher price, or choose a longer name",
        )
    if isinstance(wish, wishes.PreorderNamespace):
        return
    namespace = view.namespace(wish.subject.partition(".")[2])
    assert namespace is not None, "a name without a namespace has no price"
    # Whom to pay is decided by the block in which the registration or renewal is mined.
    registers = isinstance(wish, wishes.RegisterName)
    last = view.height + (PREORDER_EXPIRE if registers else CONSENSUS_WINDOW)
    if payment.to_creator and not pays_creator(namespace, last):
        free = when(namespace.reveal_block + BLOCKS_PER_YEAR + 1, tip, view.network)
        raise PlanRefused(
            Reason.PAYEE_CHANGES_SOON,
            f"from {free} on, names of {namespace.namespace_id} are paid to nobody instead of to "
            "their creator, and what is mined on the other side of that block is lost",
            f"wait until {free}",
        )


def _ends(effect: Effect, view: BlockView, tip: Tip) -> tuple[When | None, When | None]:
    """Until when what is had can be had, and when it is gone; None: never, or nothing is."""
    if effect.namespace is not None and not effect.namespace.is_ready:
        lapses = effect.namespace.reveal_block + view.network.namespace_reveal_expire
        return when(lapses, tip, view.network), when(lapses, tip, view.network)
    if effect.name is None:
        return None, None
    namespace = view.namespace_of(effect.name)
    status = status_at(effect.name, namespace, view.network, view.height)
    until, gone = (
        None if height is None else when(height, tip, view.network)
        for height in (status.expires_at, status.gone_at)
    )
    return (None if effect.name.revoked else until), gone


def _funding(paid: Paid, parties: Parties, view: BlockView) -> list[PlannedStep]:
    if not paid.moved:
        return []
    words = "moves coins to the address that must send"
    address = script_address(parties.sender, view.network)
    output = PlannedOutput(words, paid.moved, address, comes_back=True)
    return [PlannedStep(StepKind.FUND, (output,), paid.move_fee, paid.moved + paid.move_fee)]


def _kept(made: Sequence[Unsigned], parties: Parties) -> int:
    """What the parties' scripts hold of the outputs once all steps are done."""
    ours = {parties.sender, parties.owner, parties.funder}
    received = sum(o.value for unsigned in made for o in unsigned.outputs if o.script in ours)
    own = {bytes((number,)) * 32 for number in range(1, len(made) + 1)}
    spent_again = sum(c.value for unsigned in made for c in unsigned.coins if c.txid in own)
    return received - spent_again


# Outputs in words


def _described(
    operation: Operation, unsigned: Unsigned, parties: Parties, view: BlockView
) -> tuple[PlannedOutput, ...]:
    """The outputs of ``unsigned``, which carries ``operation``, in their order."""
    ours = {parties.sender, parties.owner, parties.funder}
    words = _meanings(operation)
    fee_at = _fee_place(operation)
    found = []
    for index, output in enumerate(unsigned.outputs):
        if index == unsigned.change:
            said = "change"
        elif index == fee_at:
            said = _price_words(output.script, view)
        else:
            said = words.get(index, "the coin that names the sender, whole")
        is_price = index == fee_at
        known = output.script != SOMEBODY
        found.append(
            PlannedOutput(
                words=said,
                satoshis=output.value,
                address=script_address(output.script, view.network) if known else None,
                comes_back=output.script in ours,
                is_price=is_price,
            )
        )
    return tuple(found)


def _fee_place(operation: Operation) -> int | None:
    match operation:
        case Preorder() | NamespacePreorder():
            return 2
        case Renew():
            return 3
    return None


def _meanings(operation: Operation) -> dict[int, str]:
    """What the outputs say that are neither price, change nor a coin on its way back."""
    words = {0: "the operation itself (OP_RETURN)"}
    match operation:
        case Register():
            words[1] = "says who owns the name"
        case Transfer():
            words[1] = "says who owns the name from then on"
        case Renew():
            words[1] = "says who owns the name still"
        case NamespaceReveal():
            words[1] = "says who imports into the namespace and opens it"
        case Import():
            words[1] = "says who owns the name"
            words[2] = "the hash of the data, written as an address that nobody can spend from"
    return words


def _price_words(script: bytes, view: BlockView) -> str:
    if script == view.network.burn_script:
        return "the price, paid to an address that nobody has the key of"
    return "the price, paid to the creator of the namespace"
