"""An accepted operation as the text that enters the ops hash, and that text back to its fields.

Every byte of what is written counts (protocol spec sections 4.1 and 4.2). Reading is for proofs,
for pages and to say which field of two texts differs. Strict: what is read has exactly the fields
of its operation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from indexer.protocol.prices import python2_float
from indexer.protocol.records import NameRecord, NamespaceRecord, PreorderRecord

MAX_TEXT = 4096  # characters; the longest that any operation gives is far below

_NAME = (
    *("name", "value_hash", "sender", "sender_pubkey", "address", "block_number"),
    *("preorder_block_number", "first_registered", "last_renewed", "revoked", "op", "txid"),
    *("vtxindex", "op_fee", "importer", "importer_address"),
)
_CREATION = (*_NAME, "recipient", "recipient_address")
_NAMESPACE = (
    *("namespace_id", "preorder_hash", "version", "sender", "sender_pubkey", "address"),
    *("recipient", "recipient_address", "block_number", "reveal_block", "op", "txid", "vtxindex"),
    *("lifetime", "coeff", "base", "buckets", "nonalpha_discount", "no_vowel_discount"),
)
FIELDS: Mapping[str, tuple[str, ...]] = {
    "?": (
        *("preorder_hash", "consensus_hash", "sender", "sender_pubkey", "address"),
        *("block_number", "op", "txid", "vtxindex", "op_fee"),
    ),
    ":": _CREATION,
    ";": _CREATION,
    "+": (*_NAME, "name_consensus_hash", "consensus_hash"),
    ">": (*_NAME, "name_hash128", "consensus_hash", "keep_data"),
    "~": _NAME,
    "*": (
        *("preorder_hash", "consensus_hash", "op", "op_fee", "txid", "vtxindex"),
        *("block_number", "sender", "sender_pubkey", "address"),
    ),
    "&": _NAMESPACE,
    "!": (*_NAMESPACE, "ready_block"),
}
"""The names of the fields of each operation, by its opcode, in the order of the text. They are
those of its record, but for the ones that ``write_serialized`` is given or makes."""

_BLOCK_FIELD = {
    "?": "block_number",
    ":": "last_renewed",
    "*": "block_number",
    "&": "reveal_block",
    "!": "ready_block",
}


class BadSerialization(ValueError):
    """Text that no operation gives; ``str()`` of it says where it stops making sense."""


@dataclass(frozen=True, slots=True)
class Serialized:
    """One operation as it enters the ops hash; all values are text, "" for none."""

    text: str
    opcode: str
    fields: Mapping[str, str]

    @property
    def txid(self) -> str:
        """The transaction that carried it, in display hex."""
        return self.fields["txid"]

    @property
    def block(self) -> int | None:
        """The height of its block where its text says it; None for what changes a name."""
        column = _BLOCK_FIELD.get(self.opcode)
        return None if column is None else int(self.fields[column])

    @property
    def not_before(self) -> int:
        """A height that its block is not below, from its text alone."""
        known = ("block_number", "last_renewed")
        heights = (self.fields.get(column, "0") for column in known)
        return max(int(height) for height in heights)


def write_serialized(
    opcode: str, record: NameRecord | NamespaceRecord | PreorderRecord, **more: object
) -> str:
    """The text of an operation after it was applied to ``record``; ``more``: what that has not.

    A registration, a renewal (both ``:``) and an import (``;``) say their owner twice.
    """
    more["txid"] = record.txid[::-1]
    if isinstance(record, NameRecord):
        more |= {"recipient": record.sender, "recipient_address": record.address}
        more["op_fee"] = python2_float(record.op_fee) if record.imported else int(record.op_fee)
    values = (more[n] if n in more else getattr(record, n) for n in FIELDS[opcode])
    texts = [_text(value) for value in values]
    return f"{opcode}:" + ",".join([f"{len(text)}:{text}" for text in texts])


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if value is None:
        return ""
    return str(list(value) if isinstance(value, tuple) else value)


def read_serialized(text: str) -> Serialized:
    """The fields of ``text``. Raises ``BadSerialization``."""
    if len(text) > MAX_TEXT:
        raise BadSerialization(f"an operation has at most {MAX_TEXT} characters, not {len(text)}")
    opcode, colon, rest = text[:1], text[1:2], text[2:]
    names = FIELDS.get(opcode)
    if names is None or colon != ":" or not text.isascii():
        raise BadSerialization("an operation begins with its opcode and a colon")
    values = _values(rest)
    if len(values) != len(names):
        raise BadSerialization(f"{opcode!r} has {len(names)} fields, not {len(values)}")
    fields = dict(zip(names, values, strict=True))
    for column in ("block_number", "last_renewed", "reveal_block", "ready_block"):
        if column in fields and not _is_height(fields[column]):
            raise BadSerialization(f"{column} is not a height")
    return Serialized(text, opcode, fields)


def _values(rest: str) -> list[str]:
    values: list[str] = []
    at = 0
    while True:
        colon = rest.find(":", at, at + 6)
        size = rest[at:colon] if colon >= 0 else ""
        if not size.isdecimal() or (len(size) > 1 and size[0] == "0"):
            raise BadSerialization(f"no length stands where field {len(values) + 1} begins")
        end = colon + 1 + int(size)
        if end > len(rest):
            raise BadSerialization(f"field {len(values) + 1} runs past the end")
        values.append(rest[colon + 1 : end])
        if end == len(rest):
            return values
        if rest[end] != ",":
            raise BadSerialization(f"no comma stands behind field {len(values)}")
        at = end + 1


def _is_height(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10 and (text == "0" or text[0] != "0")
