"""The steps of a wish: which there are, what each says on the chain, and whether it would hold.

What must stay true: an operation is made as of the block that a view stands for and from what
stands in the table, never from memory; ``dry_run`` judges what can be read back from the outputs,
so it and the indexer cannot disagree; no view given here is changed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum

from indexer.bitcoin.transactions import Transaction, TxIn, is_p2pkh, script_address
from indexer.networks import CONSENSUS_WINDOW, Network
from indexer.protocol.apply import judge
from indexer.protocol.flaws import Flaw, Refused
from indexer.protocol.names import hash128, hash_name, name_consensus_hash
from indexer.protocol.operations import (
    Announce,
    Import,
    Malformed,
    NamespacePreorder,
    NamespaceReady,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    Revoke,
    Transfer,
    Update,
)
from indexer.protocol.payloads import read_operation
from indexer.protocol.rules import Effect
from indexer.protocol.view import BlockView, Store
from indexer.registrar.planning import wishes
from indexer.registrar.planning.compose import write_outputs
from indexer.registrar.planning.quote import name_payment, namespace_payment
from indexer.registrar.planning.wishes import Wish


class StepKind(Enum):
    """A step of a plan; the value is its name in JSON, and the word of the wish that it does."""

    FUND = "fund"
    """Move coins to the script that must send, by an ordinary payment."""
    PREORDER = "preorder"
    REGISTER = "register"
    UPDATE = "update"
    TRANSFER = "transfer"
    RENEW = "renew"
    REVOKE = "revoke"
    IMPORT = "import"
    NAMESPACE_PREORDER = "namespace-preorder"
    NAMESPACE_REVEAL = "namespace-reveal"
    NAMESPACE_READY = "namespace-ready"
    ANNOUNCE = "announce"
    PUBLISH = "publish"
    """Hand the data to other nodes."""
    VERIFY = "verify"
    """Resolve the name as a stranger does."""

    @property
    def carries_operation(self) -> bool:
        """Whether the step is a transaction that the indexer reads."""
        return self not in (StepKind.FUND, StepKind.PUBLISH, StepKind.VERIFY)


@dataclass(frozen=True, slots=True)
class Parties:
    """The scripts that take part in a wish."""

    sender: bytes
    """Whose coin is input 0: the only one whom the protocol believes."""
    owner: bytes | None = None
    """Who will own the name that is registered."""
    funder: bytes | None = None
    """Whose coins pay where the sender's are too few, and who gets the change then."""


def steps_of(wish: Wish, *, has_data: bool = False) -> tuple[StepKind, ...]:
    """The steps of ``wish`` in order, without ``FUND``, which only the coins decide.

    ``has_data``: whether there is data to hand to other nodes.
    """
    first = (StepKind.PREORDER,) if isinstance(wish, wishes.RegisterName) else ()
    publish = (StepKind.PUBLISH,) if has_data else ()
    return (*first, StepKind(wish.word), *publish, StepKind.VERIFY)


def next_view(store: Store, network: Network, table_height: int, node_height: int) -> BlockView:
    """The table as the node's next block will find it, where ``store`` ends at ``table_height``.

    The table may lag by a network's confirmations: the consensus hashes of those blocks are not
    known yet, and what they hold is not seen.
    """
    return BlockView(store, network, max(table_height, node_height) + 1)


def newest_consensus(view: BlockView) -> tuple[int, bytes] | None:
    """The last block whose consensus hash an operation here may name, and that hash.

    An operation that names the hash of block h can be mined up to block
    h + ``CONSENSUS_WINDOW``. None where the table lags too far behind to know any.
    """
    for height in range(view.last, max(-1, view.height - CONSENSUS_WINDOW - 1), -1):
        found = view.consensus_hash(height)
        if found is not None:
            return height, found
    return None


def sender_of(wish: Wish, view: BlockView) -> bytes | None:
    """The script that must send the steps of ``wish``; None: whoever pays.

    Raises ``Refused`` where nobody can, for there is no such name or namespace. A namespace must
    be revealed by who preordered it, which the table does not tell: see ``namespace_preorder_of``.
    """
    match wish:
        case wishes.UpdateName() | wishes.TransferName() | wishes.RenewName() | wishes.RevokeName():
            record = view.name(wish.name)
            if record is None or not view.is_live(record, view.last):
                raise Refused(Flaw.NAME_NOT_REGISTERED)
            return record.sender
        case wishes.ImportName() | wishes.ReadyNamespace():
            namespace = view.namespace(wish.subject.rpartition(".")[2])
            if namespace is None or not namespace.revealed_at(view.last, view.network):
                raise Refused(Flaw.NAMESPACE_NOT_REVEALED)
            return namespace.recipient
        case wishes.Announce():
            for name in view.network.announcers:
                record = view.name(name)
                if view.is_owned(record) and record is not None:
                    return record.sender
            raise Refused(Flaw.NOT_AN_ANNOUNCER)
        case _:
            return None


def operation_for(kind: StepKind, wish: Wish, parties: Parties, view: BlockView) -> Operation:
    """What step ``kind`` of ``wish`` says in the block of ``view``: with the newest consensus hash
    that may be named there, and with the price of that block.

    Raises ``Refused`` where something that it must name is not there, ``ValueError`` for a step
    that the wish does not have.
    """
    operation = _operation(kind, wish, parties, view)
    return replace(operation, sender=parties.sender)


def _operation(kind: StepKind, wish: Wish, parties: Parties, view: BlockView) -> Operation:
    match kind, wish:
        case StepKind.PREORDER, wishes.RegisterName():
            # Who must be paid is decided by the block of the registration.
            payment = name_payment(wish.name, view, view.height + 1)
            return Preorder(
                preorder_hash=_salted(wish.name, parties.sender, _owner(parties), view),
                consensus_hash=_latest(view),
                op_fee=payment.satoshis,
                fee_script=payment.script,
            )
        case StepKind.REGISTER, wishes.RegisterName():
            return Register(name=wish.name, recipient=_owner(parties), value_hash=wish.value_hash)
        case StepKind.UPDATE, wishes.UpdateName():
            bound = name_consensus_hash(wish.name, _latest(view))
            return Update(name_consensus_hash=bound, value_hash=wish.value_hash)
        case StepKind.TRANSFER, wishes.TransferName():
            return Transfer(
                name_hash128=hash128(wish.name),
                consensus_hash=_latest(view),
                keep_data=wish.keep_data,
                recipient=wish.recipient,
            )
        case StepKind.RENEW, wishes.RenewName():
            payment = name_payment(wish.name, view)
            # Where another ledger is paid in too, a renewal with a value hash must say how much:
            # nothing (spec section 1.9).
            says_amount = view.epoch.second_ledger and wish.value_hash is not None
            return Renew(
                name=wish.name,
                recipient=parties.sender,
                op_fee=payment.satoshis,
                fee_script=payment.script,
                value_hash=wish.value_hash,
                token_amount=0 if says_amount else None,
            )
        case StepKind.REVOKE, wishes.RevokeName():
            return Revoke(name=wish.name)
        case StepKind.IMPORT, wishes.ImportName():
            return Import(name=wish.name, recipient=wish.recipient, value_hash=wish.value_hash)
        case StepKind.NAMESPACE_PREORDER, wishes.PreorderNamespace():
            payment = namespace_payment(wish.namespace_id, view)
            return NamespacePreorder(
                preorder_hash=_salted(wish.namespace_id, parties.sender, wish.revealer, view),
                consensus_hash=_latest(view),
                op_fee=payment.satoshis,
                fee_script=payment.script,
            )
        case StepKind.NAMESPACE_REVEAL, wishes.RevealNamespace():
            terms = asdict(wish)
            return NamespaceReveal(recipient=terms.pop("revealer"), **terms)
        case StepKind.NAMESPACE_READY, wishes.ReadyNamespace():
            return NamespaceReady(namespace_id=wish.namespace_id)
        case StepKind.ANNOUNCE, wishes.Announce():
            return Announce(message_hash=wish.message_hash)
    raise ValueError(f"the wish to {wish.word} has no step {kind.value}")


def _owner(parties: Parties) -> bytes:
    if parties.owner is None:
        raise ValueError("whoever registers a name must know who will own it")
    return parties.owner


def _latest(view: BlockView) -> bytes:
    newest = newest_consensus(view)
    if newest is None:
        raise Refused(Flaw.CONSENSUS_HASH)
    return newest[1]


def _salted(subject: str, sender: bytes, owner: bytes, view: BlockView) -> bytes:
    return hash_name(subject, sender, script_address(owner, view.network))


# --- would it hold


def dry_run(
    kind: StepKind,
    wish: Wish,
    parties: Parties,
    view: BlockView,
    rivals: Sequence[Operation] = (),
) -> Flaw | None:
    """Why step ``kind`` would have no effect in the block of ``view``; None: it would have.

    A registration whose preorder does not stand yet is judged in the block after, as if the
    preorder had been mined in that of ``view``. ``rivals``: what others have sent and is not
    mined yet, with its senders: a registration or a reveal of the same that would hold as well
    leaves nothing to anybody.
    """
    found = foresee(kind, wish, parties, view, rivals)
    return found if isinstance(found, Flaw) else None


def foresee(
    kind: StepKind,
    wish: Wish,
    parties: Parties,
    view: BlockView,
    rivals: Sequence[Operation] = (),
) -> Effect | Flaw:
    """What step ``kind`` would write, or why it has no effect; the arguments are ``dry_run``'s."""
    ahead = BlockView(view, view.network, view.height)
    try:
        if kind is StepKind.REGISTER:
            ahead = _with_preorder(wish, parties, ahead)
        operation = operation_for(kind, wish, parties, ahead)
        effect = judge_as_read(operation, ahead)
    except Refused as refused:
        return refused.flaw
    if isinstance(effect, Flaw):
        return effect
    claimed = _CLAIMED.get(type(operation), "")
    for rival in rivals if claimed else ():
        same = getattr(rival, claimed, None) == getattr(operation, claimed)
        if same and type(rival) is type(operation) and not isinstance(judge(rival, ahead), Flaw):
            return Flaw.COLLISION
    return effect


_CLAIMED: dict[type[Operation], str] = {Register: "name", NamespaceReveal: "namespace_id"}
"""What several may claim in one block, so that nobody gets it."""


def _with_preorder(wish: Wish, parties: Parties, view: BlockView) -> BlockView:
    salted = _salted(wish.subject, parties.sender, _owner(parties), view)
    if view.preorder(salted) is not None:
        return view
    effect = judge_as_read(operation_for(StepKind.PREORDER, wish, parties, view), view)
    if isinstance(effect, Flaw):
        raise Refused(effect)
    if effect.preorder is not None:
        view.put_preorder(effect.preorder)
    return BlockView(view, view.network, view.height + 1)


_SOME_KEY = b"\x02" + bytes(32)


def judge_as_read(operation: Operation, view: BlockView) -> Effect | Flaw:
    """What a transaction that carries ``operation`` would write, once it is read back.

    A sender that is the hash of a key shows that key when it signs, so it is taken as shown.
    """
    outputs, _ = write_outputs(operation, view.network, operation.sender)
    spent = (TxIn(b"\x01" * 32, 0, b"", 0),)
    unsigned = Transaction(bytes(32), 1, spent, tuple(outputs), 0)
    read = read_operation(unsigned, 1, (operation.sender,), view.network, view.epoch)
    if read is None:
        return Flaw.OTHER_LEDGER  # the only opcode that not every height knows
    if isinstance(read, Malformed):
        return read.flaw
    if is_p2pkh(operation.sender):
        read = replace(read, sender_pubkey=operation.sender_pubkey or _SOME_KEY)
    if isinstance(read, Import):
        view = _with_keyring(read, view)
    return judge(read, view)


def _with_keyring(operation: Import, view: BlockView) -> BlockView:
    """The table after the first import, whose sender shows the key that all others follow from."""
    namespace = view.namespace(operation.name.partition(".")[2])
    if namespace is None or view.keyring(namespace) is not None:
        return view
    if operation.sender != namespace.recipient or not is_p2pkh(operation.sender):
        return view
    shown = BlockView(view, view.network, view.height)
    shown.put_keyring(namespace, {operation.sender[3:23]})
    return shown
