"""From accepted operations to text, from text to the ops hash, from there to the consensus hash.

Two nodes with the same name table have the same consensus hash; every byte of the serialisation
counts (protocol spec sections 4.1 to 4.4).
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from embit.hashes import hash160

from indexer.protocol.prices import python2_float
from indexer.protocol.records import NameRecord, NamespaceRecord, PreorderRecord

CONSENSUS_HASH_BYTES = 16


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if value is None:
        return ""
    if isinstance(value, tuple):
        return str(list(value))
    return str(value)


def _line(opcode: str, values: Iterable[object]) -> str:
    texts = [_text(value) for value in values]
    return f"{opcode}:" + ",".join([f"{len(text)}:{text}" for text in texts])


def _txid(txid: bytes) -> str:
    return txid[::-1].hex()


def _name_fields(r: NameRecord) -> tuple[object, ...]:
    fee = python2_float(r.op_fee) if r.imported else int(r.op_fee)
    return (
        r.name,
        r.value_hash,
        r.sender,
        r.sender_pubkey,
        r.address,
        r.block_number,
        r.preorder_block_number,
        r.first_registered,
        r.last_renewed,
        r.revoked,
        r.op,
        _txid(r.txid),
        r.vtxindex,
        fee,
        r.importer,
        r.importer_address,
    )


def serialize_creation(record: NameRecord, opcode: str) -> str:
    """A registration or renewal (``:``) or import (``;``), after it was applied."""
    return _line(opcode, (*_name_fields(record), record.sender, record.address))


def serialize_update(record: NameRecord, name_consensus_hash: bytes) -> str:
    """An update, after it was applied."""
    return _line("+", (*_name_fields(record), name_consensus_hash, record.consensus_hash))


def serialize_transfer(record: NameRecord, name_hash128: bytes, keep_data: bool) -> str:
    """A transfer, after it was applied; the record holds the hash of spec section 1.11."""
    return _line(">", (*_name_fields(record), name_hash128, record.consensus_hash, keep_data))


def serialize_revoke(record: NameRecord) -> str:
    """A revocation, after it was applied."""
    return _line("~", _name_fields(record))


def serialize_preorder(r: PreorderRecord) -> str:
    """A name's preorder."""
    return _line(
        "?",
        (
            r.preorder_hash,
            r.consensus_hash,
            r.sender,
            r.sender_pubkey,
            r.address,
            r.block_number,
            r.op,
            _txid(r.txid),
            r.vtxindex,
            r.op_fee,
        ),
    )


def serialize_namespace_preorder(r: PreorderRecord) -> str:
    """A namespace's preorder."""
    return _line(
        "*",
        (
            r.preorder_hash,
            r.consensus_hash,
            r.op,
            r.op_fee,
            _txid(r.txid),
            r.vtxindex,
            r.block_number,
            r.sender,
            r.sender_pubkey,
            r.address,
        ),
    )


def serialize_namespace(r: NamespaceRecord) -> str:
    """A reveal or a ready, after it was applied."""
    values: tuple[object, ...] = (
        r.namespace_id,
        r.preorder_hash,
        r.version,
        r.sender,
        r.sender_pubkey,
        r.address,
        r.recipient,
        r.recipient_address,
        r.block_number,
        r.reveal_block,
        r.op,
        _txid(r.txid),
        r.vtxindex,
        r.lifetime,
        r.coeff,
        r.base,
        r.buckets,
        r.nonalpha_discount,
        r.no_vowel_discount,
    )
    return _line(r.op, (*values, r.ready_block) if r.is_ready else values)


def _sha256d(message: bytes) -> bytes:
    return sha256(sha256(message).digest()).digest()


def _merkle_root(leaves: Iterable[bytes]) -> bytes:
    """The Merkle root over ``leaves`` in display order, sorted as their hex strings sort."""
    # Hex keeps the order of bytes, and a prefix sorts before what it begins, in both forms.
    row = [leaf[::-1] for leaf in sorted(leaves)]
    while len(row) > 1:
        if len(row) % 2:
            row.append(row[-1])
        row = [_sha256d(row[i] + row[i + 1]) for i in range(0, len(row), 2)]
    return row[0][::-1]


def ops_hash(serialized: Sequence[str]) -> bytes:
    """The 32-byte hash of a block's accepted operations, in any order (spec section 4.4)."""
    return _merkle_root([_sha256d(text.encode("ascii")) for text in serialized or ("",)])


def skip_heights(height: int, first_block: int) -> list[int]:
    """The earlier heights whose consensus hashes enter the one of ``height``: B-1, B-3, B-7, …"""
    heights = []
    step = 1
    while height - step >= first_block:
        heights.append(height - step)
        step = step * 2 + 1
    return heights


def consensus_hash(
    height: int, first_block: int, block_ops_hash: bytes, earlier: Callable[[int], bytes]
) -> bytes:
    """The 16-byte consensus hash of ``height``; ``earlier(h)`` is that of an earlier height."""
    leaves = [earlier(h) for h in skip_heights(height, first_block)]
    root = _merkle_root([block_ops_hash, *leaves])
    digest: bytes = hash160(root)
    return digest[:CONSENSUS_HASH_BYTES]
