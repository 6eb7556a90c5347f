"""Every reason for which an operation on the chain has no effect, each with a sentence for its payer.

The set is closed: whatever reads or judges an operation names one of these, and a row of the
database stores its ``name``, so a member is never renamed.
"""

from enum import Enum


class Flaw(Enum):
    """Why an operation was refused; the value is the sentence for the person who paid."""

    # the transaction that carries it (spec section 1.2)
    PAYLOAD_CANCELLED = (
        "a later OP_RETURN output of the transaction decides, and carries no operation"
    )
    SPENDS_OTHER_SCRIPTS = "an input spends something that is neither p2pkh nor p2sh, so nobody signed it in a way the protocol knows"
    SCRIPTS_UNKNOWN = "the scripts spent by the transaction do not match its inputs"
    COINBASE = "a coinbase transaction cannot carry an operation"
    OUTPUT_MISSING = "an output that the operation needs is missing"
    OUTPUT_COUNT = "the operation needs exactly three outputs"
    OUTPUT_TYPE = "one of the outputs that carry meaning is neither OP_RETURN, p2pkh nor p2sh"
    RECIPIENT_TYPE = "the new owner's output is neither p2pkh nor p2sh"
    FEE_OUTPUT_TYPE = "the output that pays the fee is neither p2pkh nor p2sh"
    # the payload
    PAYLOAD_LENGTH = "the payload has a length that the operation does not have at this height"
    BAD_NAME = (
        "the name is malformed: lower case a-z, 0-9, '-' and '_', one dot, at most 37 characters"
    )
    BAD_NAMESPACE = "the namespace is malformed: 1 to 19 characters of a-z, 0-9, '-' and '_'"
    BAD_TRANSFER_FLAG = "a transfer says '>' to keep the data or '~' to drop it, and nothing else"
    BAD_DISCOUNT = "a discount of the namespace is zero; discounts go from 1 to 15"
    BAD_VERSION = "the namespace has a version that is not allowed at this height"
    OTHER_LEDGER = (
        "the operation is paid or valid only by another ledger, which this index does not follow"
    )
    # consensus hash and preorders
    CONSENSUS_HASH = "the consensus hash is not one of the last 24 blocks'; it was sent too late, or on another chain"
    PREORDER_EXISTS = "the same preorder is outstanding already"
    NO_PREORDER = "no preorder by this sender, for this name and this owner, is outstanding"
    PREORDER_EXPIRED = "the preorder is too old"
    PREORDER_BEFORE_READY = "the preorder was sent before the namespace was ready"
    PREORDER_SENDER = "the preorder was sent by somebody else"
    # money
    FEE_TOO_LOW = "the fee paid is less than the price"
    FEE_WENT_ELSEWHERE = "the fee was paid to another address than the rules demand"
    # namespaces
    NAMESPACE_EXISTS = "the namespace exists already"
    NAMESPACE_NOT_REVEALED = "the namespace is not revealed, or was revealed in this very block, or its reveal has lapsed"
    NAMESPACE_NOT_READY = "the namespace does not exist or is not open yet"
    NOT_THE_REVEALER = "only the address that the reveal named may do this"
    IMPORTER_UNKNOWN = (
        "the sender's public key is not in the input, so the importer cannot be recognised"
    )
    NOT_AN_IMPORTER = "the sender's key is not one of the namespace's import keys"
    # names
    COLLISION = "another operation in the same block claims the same name; nobody gets it, the preorder stays usable"
    NAME_TAKEN = "the name belongs to somebody"
    NAME_REVOKED = "the name is revoked"
    NAME_NOT_REGISTERED = (
        "the name is not registered, or was registered in this very block, or has expired"
    )
    NAME_IN_GRACE = "the name is in its grace period and can only be renewed"
    NOT_THE_OWNER = "the sender does not own the name"
    QUOTA = "an address may own at most 25 names"
    P2SH_OWNER = "p2sh owners are not allowed at this height"
    VALUE_HASH_TOO_EARLY = "a value hash cannot be set by this operation at this height"
    OWNER_MAY_NOT_CHANGE = "a renewal cannot change the owner at this height"
    NO_NAME_MATCHES = (
        "no name of the sender, with any recent consensus hash, gives this update's hash"
    )
    SENT_TO_ITSELF = "the name was transferred to the address that owns it already"
    NOT_AN_ANNOUNCER = "the sender owns none of the names whose announcements are taken"


class Refused(Exception):
    """How a reader or a rule says no; who asked it turns this into the flaw."""

    def __init__(self, flaw: Flaw) -> None:
        self.flaw = flaw


def require(condition: bool, flaw: Flaw) -> None:
    """Refuse with ``flaw`` unless ``condition`` holds."""
    if not condition:
        raise Refused(flaw)
