"""The wire format of every operation: a transaction to what it asks for, and back to a payload.

What must stay true:
* ``read_operation`` never raises, whatever the bytes; it answers an operation, ``Malformed`` with
  the flaw, or None for a transaction that is not ours.
* ``write_operation`` is the inverse of reading for every operation that can be read.
* Nothing here knows the name table: whether an operation takes effect is for ``rules``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from indexer.bitcoin.transactions import Transaction, TxOut, is_p2pkh, is_p2sh, op_return_payload
from indexer.networks import Epoch, Network
from indexer.protocol.envelope import payload_of, sent_by
from indexer.protocol.flaws import Flaw, Refused, require
from indexer.protocol.names import BadName, check_namespace, is_name
from indexer.protocol.operations import (
    OPCODES,
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
    TokenTransfer,
    Transfer,
    Update,
)

NAME_FIELD = 37  # bytes of the NUL-padded name where a value hash follows it
TOKEN_TYPE_BYTES = 19

_KNOWN_OPCODES = frozenset(OPCODES.values())


@dataclass(frozen=True, slots=True)
class _Wire:
    """What the reader of one payload sees."""

    payload: bytes
    outputs: Sequence[TxOut]
    epoch: Epoch
    sent: dict[str, Any]


def read_operation(
    transaction: Transaction,
    vtxindex: int,
    spent_scripts: Sequence[bytes],
    network: Network,
    epoch: Epoch,
) -> Operation | Malformed | None:
    """What ``transaction`` asks for under the rules of ``epoch``.

    ``spent_scripts`` are the scriptPubKeys of the outputs its inputs spend, in order. Returns None
    where the transaction is not an operation of this protocol at all. Never raises.
    Protocol spec sections 1.2 to 1.18.
    """
    tag = payload_of(transaction, network.magic)
    if tag is None:
        return None
    payload, decides = tag
    opcode = payload[2:3]
    if opcode not in _KNOWN_OPCODES or (opcode == b"$" and not epoch.second_ledger):
        return None
    try:
        require(decides, Flaw.PAYLOAD_CANCELLED)
        sent = sent_by(transaction, vtxindex, spent_scripts)
        return _READERS[opcode](_Wire(payload[3:], transaction.outputs, epoch, sent))
    except Refused as refused:
        return Malformed(opcode, refused.flaw, transaction.txid, vtxindex)


def script_hash(script: bytes) -> bytes:
    """The 20 bytes inside a p2pkh or p2sh scriptPubKey."""
    return script[3:23] if is_p2pkh(script) else script[2:22]


def _typed(wire: _Wire, count: int) -> None:
    """The first ``count`` outputs must exist and be of the kinds that carry meaning."""
    require(len(wire.outputs) >= count, Flaw.OUTPUT_MISSING)
    for output in wire.outputs[:count]:
        known = _is_nulldata(output.script) or _has_address(output.script)
        require(known, Flaw.OUTPUT_TYPE)


def _is_nulldata(script: bytes) -> bool:
    """Whether ``script`` is OP_RETURN and one token more: a push, or an opcode like OP_1."""
    if op_return_payload(script) is not None:
        return True
    return len(script) == 2 and script[0] == 0x6A and (script[1] == 0 or script[1] > 0x4E)


def _addressed(wire: _Wire, index: int, flaw: Flaw) -> TxOut:
    require(len(wire.outputs) > index, Flaw.OUTPUT_MISSING)
    output = wire.outputs[index]
    require(_has_address(output.script), flaw)
    return output


def _has_address(script: bytes) -> bool:
    return is_p2pkh(script) or is_p2sh(script)


def _recipient(wire: _Wire, typed: int = 2) -> bytes:
    """The script of output 1; the first ``typed`` outputs must be of kinds that carry meaning."""
    _typed(wire, typed)
    return _addressed(wire, 1, Flaw.RECIPIENT_TYPE).script


def _fee(wire: _Wire, index: int) -> dict[str, Any]:
    """What the output at ``index`` pays, and to whom."""
    output = _addressed(wire, index, Flaw.FEE_OUTPUT_TYPE)
    return {"op_fee": output.value, "fee_script": output.script}


def _length(wire: _Wire, *allowed: int) -> None:
    require(len(wire.payload) in allowed, Flaw.PAYLOAD_LENGTH)


def _name(raw: bytes) -> str:
    name = raw.decode("latin-1")
    require(is_name(name), Flaw.BAD_NAME)
    return name


def _namespace(raw: bytes) -> str:
    try:
        return check_namespace(raw.decode("latin-1"))
    except BadName:
        raise Refused(Flaw.BAD_NAMESPACE) from None


def _read_preorder(wire: _Wire) -> Operation:
    tokens = 63 if wire.epoch.second_ledger else 36
    _length(wire, 36, tokens)
    require(len(wire.outputs) == 3, Flaw.OUTPUT_COUNT)
    _typed(wire, 3)
    p = wire.payload
    return Preorder(
        preorder_hash=p[:20],
        consensus_hash=p[20:36],
        token_amount=int.from_bytes(p[36:44], "big") if len(p) > 36 else None,
        token_type=p[44:63].strip(b"\0"),
        **_fee(wire, 2),
        **wire.sent,
    )


def _read_register_or_renew(wire: _Wire) -> Operation:
    p = wire.payload
    said: dict[str, Any] = {"value_hash": None, "token_amount": None}
    if wire.epoch.value_hash_at_registration and len(p) >= NAME_FIELD + 20:
        _length(wire, 57, 65 if wire.epoch.second_ledger else 57)
        raw_name = p[:NAME_FIELD].rstrip(b"\0")
        said["value_hash"] = p[NAME_FIELD:57]
        said["token_amount"] = int.from_bytes(p[57:], "big") if len(p) == 65 else None
    else:
        hashed = p[:NAME_FIELD].rstrip(b"\0").decode("latin-1") if len(p) == 57 else ""
        require(not is_name(hashed), Flaw.VALUE_HASH_TOO_EARLY)
        raw_name = p
    said |= {"name": _name(raw_name), "recipient": _recipient(wire), **wire.sent}
    if len(wire.outputs) < 4:
        return Register(**said)
    # The amount is mandatory there, spec section 1.9.
    require(not wire.epoch.second_ledger or len(p) != 57, Flaw.PAYLOAD_LENGTH)
    return Renew(**_fee(wire, 3), **said)


def _read_update(wire: _Wire) -> Operation:
    _length(wire, 36)
    p = wire.payload
    return Update(name_consensus_hash=p[:16], value_hash=p[16:], **wire.sent)


def _read_transfer(wire: _Wire) -> Operation:
    _length(wire, 33)
    p = wire.payload
    require(p[:1] in (b">", b"~"), Flaw.BAD_TRANSFER_FLAG)
    return Transfer(
        name_hash128=p[1:17],
        consensus_hash=p[17:],
        keep_data=p[:1] == b">",
        recipient=_recipient(wire),
        **wire.sent,
    )


def _read_revoke(wire: _Wire) -> Operation:
    return Revoke(name=_name(wire.payload), **wire.sent)


def _read_import(wire: _Wire) -> Operation:
    name = _name(wire.payload)
    recipient = _recipient(wire, typed=3)
    disguised = _addressed(wire, 2, Flaw.OUTPUT_TYPE).script
    return Import(name=name, recipient=recipient, value_hash=script_hash(disguised), **wire.sent)


def _read_namespace_preorder(wire: _Wire) -> Operation:
    _length(wire, 44 if wire.epoch.second_ledger else 36)
    _typed(wire, 3)
    p = wire.payload
    return NamespacePreorder(
        preorder_hash=p[:20],
        consensus_hash=p[20:36],
        token_amount=int.from_bytes(p[36:], "big") if len(p) > 36 else None,
        **_fee(wire, 2),
        **wire.sent,
    )


def _read_namespace_reveal(wire: _Wire) -> Operation:
    p = wire.payload
    require(18 <= len(p) <= 17 + 19, Flaw.PAYLOAD_LENGTH)
    namespace_id = _namespace(p[17:])
    nonalpha_discount, no_vowel_discount = p[14] >> 4, p[14] & 15
    require(nonalpha_discount > 0 and no_vowel_discount > 0, Flaw.BAD_DISCOUNT)
    version = int.from_bytes(p[15:17], "big")
    require(version in (1, 2, 3), Flaw.BAD_VERSION)
    require(len(wire.outputs) == 3, Flaw.OUTPUT_COUNT)
    return NamespaceReveal(
        namespace_id=namespace_id,
        recipient=_recipient(wire, typed=3),
        lifetime=int.from_bytes(p[:4], "big"),
        coeff=p[4],
        base=p[5],
        buckets=tuple(nibble for byte in p[6:14] for nibble in (byte >> 4, byte & 15)),
        nonalpha_discount=nonalpha_discount,
        no_vowel_discount=no_vowel_discount,
        version=version,
        **wire.sent,
    )


def _read_namespace_ready(wire: _Wire) -> Operation:
    require(wire.payload[:1] == b".", Flaw.BAD_NAMESPACE)
    return NamespaceReady(namespace_id=_namespace(wire.payload[1:]), **wire.sent)


def _read_announce(wire: _Wire) -> Operation:
    _length(wire, 20)
    return Announce(message_hash=wire.payload, **wire.sent)


def _read_token_transfer(wire: _Wire) -> Operation:
    p = wire.payload
    require(43 <= len(p) <= 77, Flaw.PAYLOAD_LENGTH)
    return TokenTransfer(
        consensus_hash=p[:16],
        token_type=p[16:35].strip(b"\0"),
        amount=int.from_bytes(p[35:43], "big"),
        memo=p[43:],
        recipient=_recipient(wire),
        **wire.sent,
    )


_READERS = {
    b"?": _read_preorder,
    b":": _read_register_or_renew,
    b"+": _read_update,
    b">": _read_transfer,
    b"~": _read_revoke,
    b";": _read_import,
    b"*": _read_namespace_preorder,
    b"&": _read_namespace_reveal,
    b"!": _read_namespace_ready,
    b"#": _read_announce,
    b"$": _read_token_transfer,
}


def write_operation(operation: Operation, magic: bytes) -> bytes:
    """The bytes that the OP_RETURN output of ``operation`` pushes (3 to 80).

    Raises ``ValueError`` where a field does not fit its place on the wire.
    """
    return magic + OPCODES[type(operation)] + _body(operation)


def _body(op: Operation) -> bytes:
    match op:
        case Preorder():
            body = _sized(op.preorder_hash, 20) + _sized(op.consensus_hash, 16)
            if op.token_amount is not None:
                token_type = op.token_type.ljust(TOKEN_TYPE_BYTES, b"\0")
                body += op.token_amount.to_bytes(8, "big") + _sized(token_type, TOKEN_TYPE_BYTES)
            return body
        case Register() | Renew():
            return _named_body(op)
        case Update():
            return _sized(op.name_consensus_hash, 16) + _sized(op.value_hash, 20)
        case Transfer():
            flag = b">" if op.keep_data else b"~"
            return flag + _sized(op.name_hash128, 16) + _sized(op.consensus_hash, 16)
        case Revoke() | Import():
            return op.name.encode("ascii")
        case NamespacePreorder():
            body = _sized(op.preorder_hash, 20) + _sized(op.consensus_hash, 16)
            return body + (b"" if op.token_amount is None else op.token_amount.to_bytes(8, "big"))
        case NamespaceReveal():
            high, low = op.buckets[::2], op.buckets[1::2]
            return (
                op.lifetime.to_bytes(4, "big")
                + bytes((op.coeff, op.base))
                + bytes(h << 4 | n for h, n in zip(high, low, strict=True))
                + bytes((op.nonalpha_discount << 4 | op.no_vowel_discount,))
                + op.version.to_bytes(2, "big")
                + op.namespace_id.encode("ascii")
            )
        case NamespaceReady():
            return b"." + op.namespace_id.encode("ascii")
        case Announce():
            return _sized(op.message_hash, 20)
        case TokenTransfer():
            token_type = op.token_type.rjust(TOKEN_TYPE_BYTES, b"\0")
            return (
                _sized(op.consensus_hash, 16)
                + _sized(token_type, TOKEN_TYPE_BYTES)
                + op.amount.to_bytes(8, "big")
                + op.memo
            )


def _named_body(op: Register | Renew) -> bytes:
    name = op.name.encode("ascii")
    if op.value_hash is None and op.token_amount is None:
        return name
    body = _sized(name.ljust(NAME_FIELD, b"\0"), NAME_FIELD)
    body += _sized(op.value_hash or bytes(20), 20)
    return body + (b"" if op.token_amount is None else op.token_amount.to_bytes(8, "big"))


def _sized(field_bytes: bytes, size: int) -> bytes:
    if len(field_bytes) != size:
        raise ValueError(f"{len(field_bytes)} bytes do not fit a field of {size}")
    return field_bytes
