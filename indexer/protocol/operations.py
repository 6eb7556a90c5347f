"""What can be asked of the name table by a transaction: one value for each operation.

A value holds what stands in the payload and in the outputs that carry meaning, and by whom and
where it was sent. How it is written on the wire is for ``payloads``; whether it takes effect for
``rules``. Protocol spec sections 1.3 to 1.18.
"""

from dataclasses import dataclass
from typing import TypeAlias

from indexer.protocol.flaws import Flaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """By whom and where an operation was sent; all defaults for one that is yet to be sent."""

    sender: bytes = b""
    """scriptPubKey spent by input 0: the only authenticated identity (spec section 1.2)."""
    sender_pubkey: bytes | None = None
    txid: bytes = b""
    vtxindex: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preorder(Sent):
    """NAME_PREORDER ``?`` (spec section 1.7)."""

    preorder_hash: bytes
    consensus_hash: bytes
    op_fee: int
    fee_script: bytes
    token_amount: int | None = None
    token_type: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Sent):
    """NAME_REGISTRATION ``:`` with two or three outputs (spec section 1.8)."""

    name: str
    recipient: bytes
    value_hash: bytes | None = None
    token_amount: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew(Sent):
    """NAME_RENEWAL: ``:`` with four outputs or more (spec section 1.9)."""

    name: str
    recipient: bytes
    op_fee: int
    fee_script: bytes
    value_hash: bytes | None = None
    token_amount: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Sent):
    """NAME_UPDATE ``+`` (spec section 1.10)."""

    name_consensus_hash: bytes
    value_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Sent):
    """NAME_TRANSFER ``>`` (spec section 1.11)."""

    name_hash128: bytes
    consensus_hash: bytes
    keep_data: bool
    recipient: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke(Sent):
    """NAME_REVOKE ``~`` (spec section 1.12)."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Import(Sent):
    """NAME_IMPORT ``;`` (spec section 1.13)."""

    name: str
    recipient: bytes
    value_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacePreorder(Sent):
    """NAMESPACE_PREORDER ``*`` (spec section 1.14)."""

    preorder_hash: bytes
    consensus_hash: bytes
    op_fee: int
    fee_script: bytes
    token_amount: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceReveal(Sent):
    """NAMESPACE_REVEAL ``&`` (spec section 1.15)."""

    namespace_id: str
    recipient: bytes
    lifetime: int
    coeff: int
    base: int
    buckets: tuple[int, ...]
    nonalpha_discount: int
    no_vowel_discount: int
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceReady(Sent):
    """NAMESPACE_READY ``!`` (spec section 1.16)."""

    namespace_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce(Sent):
    """ANNOUNCE ``#`` (spec section 1.17)."""

    message_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTransfer(Sent):
    """TOKEN_TRANSFER ``$`` (spec section 1.18): recognised, valid only by another ledger."""

    consensus_hash: bytes
    token_type: bytes
    amount: int
    recipient: bytes
    memo: bytes = b""


Operation: TypeAlias = (
    Preorder
    | Register
    | Renew
    | Update
    | Transfer
    | Revoke
    | Import
    | NamespacePreorder
    | NamespaceReveal
    | NamespaceReady
    | Announce
    | TokenTransfer
)

OPCODES: dict[type, bytes] = {
    Preorder: b"?",
    Register: b":",
    Renew: b":",
    Update: b"+",
    Transfer: b">",
    Revoke: b"~",
    Import: b";",
    NamespacePreorder: b"*",
    NamespaceReveal: b"&",
    NamespaceReady: b"!",
    Announce: b"#",
    TokenTransfer: b"$",
}


@dataclass(frozen=True, slots=True)
class Malformed:
    """A transaction that carries our magic and a known opcode, but no operation."""

    opcode: bytes
    flaw: Flaw
    txid: bytes
    vtxindex: int
