"""Which name or namespace an operation was about, also where it has no effect.

For looking verdicts up by name: whoever paid for an operation that was refused looks for it under
the name. A preorder hides its name, and so has none until the name is registered.
"""

from indexer.bitcoin.transactions import Transaction
from indexer.networks import MAX_NAMES_PER_SENDER, Network
from indexer.protocol.envelope import payload_of
from indexer.protocol.flaws import Flaw
from indexer.protocol.names import BadName, check_namespace, find_bound_name, is_name
from indexer.protocol.operations import Announce, Operation, Transfer, Update
from indexer.protocol.payloads import NAME_FIELD
from indexer.protocol.view import BlockView

_HASHED_NAME = NAME_FIELD + 20


def subject_of_refused(operation: Operation, flaw: Flaw, view: BlockView) -> str:
    """What an ``operation`` refused for ``flaw`` was about; "" where it does not tell."""
    match operation:
        case Transfer():
            record = view.name_of_hash128(operation.name_hash128)
            return "" if record is None else record.name
        case Update():
            return "" if flaw is Flaw.NO_NAME_MATCHES else _updated(operation, view)
        case Announce():
            return ""
    subject: str = getattr(operation, "name", getattr(operation, "namespace_id", ""))
    return subject


def _updated(operation: Update, view: BlockView) -> str:
    names = view.held(operation.sender, MAX_NAMES_PER_SENDER)
    found = find_bound_name(operation.name_consensus_hash, names, view.window)
    return "" if found is None else found[0]


def subject_of_malformed(transaction: Transaction, network: Network) -> str:
    """The well-formed name or namespace that stands in the payload of ``transaction``, or ""."""
    payload, _ = payload_of(transaction, network.magic) or (b"", False)
    opcode, body = payload[2:3], payload[3:]
    if opcode in (b":", b";", b"~"):
        if len(body) >= _HASHED_NAME:
            body = body[:NAME_FIELD].rstrip(b"\0")
        name = body.decode("latin-1")
        return name if is_name(name) else ""
    if opcode == b"&":
        return _namespace(body[17:])
    return _namespace(body[1:]) if opcode == b"!" else ""


def _namespace(raw: bytes) -> str:
    try:
        return check_namespace(raw.decode("latin-1"))
    except BadName:
        return ""
