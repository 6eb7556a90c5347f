"""Records of the name table as JSON, in the shapes of protocol spec sections 7.2 and 7.5.

What must stay true: an opcode has one name everywhere; txids are as block explorers write them, all
other hashes as hashed; what the chain leaves empty is null.
"""

import base64
from collections.abc import Iterable

from embit.hashes import hash160

from indexer.bitcoin.transactions import hash_hex, is_p2pkh, script_address
from indexer.networks import Network
from indexer.protocol.flaws import Flaw
from indexer.protocol.records import NameRecord, NamespaceRecord, NameStatus, Phase
from indexer.protocol.schema import Verdict
from indexer.protocol.serialized import Serialized
from indexer.table.snapshot import Creation, Snapshot, State
from resolver.api.request import Json
from resolver.api.schemas import NAMESPACE_RECORD, OPCODES, RECORD
from resolver.dns.answer import about_date

_NUMBERS = frozenset(
    [
        *("block_number", "preorder_block_number", "first_registered", "last_renewed"),
        *("vtxindex", "version", "reveal_block", "ready_block", "lifetime", "coeff", "base"),
        *("nonalpha_discount", "no_vowel_discount", "op_fee"),
    ]
)


def status_word(status: NameStatus) -> str:
    """What a name is, in one word."""
    return "grace" if status.phase is Phase.GRACE else status.phase.name.lower()


def about(seen: Snapshot, height: int | None) -> str | None:
    """The day on which a block may come, estimated from the last one; None where it never does."""
    if height is None:
        return None
    return about_date(height, seen.height, seen.block_time, seen.network.target_spacing) or None


def ends_json(seen: Snapshot, expires_at: int | None, gone_at: int | None) -> Json:
    """The two heights at which a name ends, by the words that they have everywhere, and about when
    they come: it expires, and may be renewed until it is lost."""
    return {
        "expire_block": expires_at,
        "expires_about": about(seen, expires_at),
        "renewal_deadline": gone_at,
        "gone_about": about(seen, gone_at),
    }


def name_json(seen: Snapshot, record: NameRecord, status: NameStatus) -> Json:
    """A name that is live or revoked, in the shape of protocol spec section 7.5.

    Without its zone file, which is fetched.
    """
    return {
        **_members(record, ("name", "address", "first_registered", "last_renewed")),
        "status": "revoked" if status.phase is Phase.REVOKED else "registered",
        "zonefile_hash": record.value_hash.hex() if record.value_hash else None,
        "last_txid": hash_hex(record.txid),
        "blockchain": "bitcoin",
        "did": did_text(seen.creation_of(record.name), seen.network),
        **ends_json(seen, status.expires_at, status.gone_at),
        "grace_period": status.phase is Phase.GRACE,
        "preorder_block_number": record.preorder_block_number,
        "height": seen.height,
    }


def end_json(seen: Snapshot, name: str) -> Json:
    """A name that is somebody's: when it ends, and about on which day."""
    standing = seen.name_status(name)
    assert standing is not None, "what somebody owns is in the table"
    record, status = standing
    return {
        **_members(record, ("name", "address")),
        "phase": status_word(status),
        **ends_json(seen, status.expires_at, status.gone_at),
    }


def record_json(record: NameRecord) -> Json:
    """The record of a name as the first releases gave it (spec section 7.2), without history."""
    namespace_id = record.name.partition(".")[2]
    derived = {"opcode": OPCODES[record.op], "namespace_id": namespace_id}
    return derived | _members(record, RECORD.keys() - derived)


def _members(record: object, names: Iterable[str]) -> Json:
    """What a record has under these names: bytes in hex, or null where there are none."""
    return {name: _plain(name, getattr(record, name)) for name in names}


def _plain(name: str, value: object) -> object:
    if not isinstance(value, bytes):
        return list(value) if isinstance(value, tuple) else value
    return hash_hex(value) if name == "txid" else value.hex() or None


def state_json(state: State) -> Json:
    """A name after one operation, and the block of it."""
    return {**record_json(state.record), "block_id": state.height, "vtxindex": state.vtxindex}


def namespace_json(record: NamespaceRecord, height: int, network: Network) -> Json:
    """The record of a namespace, revealed, ready or lapsed."""
    derived = {
        "opcode": OPCODES[record.op],
        "ready": record.is_ready,
        "lapsed": not record.is_ready and not record.revealed_at(height, network),
        "ready_block": record.ready_block if record.is_ready else None,
    }
    return derived | _members(record, NAMESPACE_RECORD.keys() - derived)


def verdict_json(txid: bytes, verdict: Verdict) -> Json:
    """What became of one operation; ``reason`` is the sentence for who paid."""
    flaw = None if verdict.flaw is None else Flaw.__members__.get(verdict.flaw)
    return {
        "txid": hash_hex(txid),
        "height": verdict.height,
        "vtxindex": verdict.vtxindex,
        "op": verdict.opcode,
        "opcode": OPCODES.get(verdict.opcode),
        "subject": verdict.subject or None,
        "accepted": verdict.flaw is None,
        "flaw": None if verdict.flaw is None else verdict.flaw.lower(),
        "reason": None if flaw is None else flaw.value,
    }


def operation_json(txid: bytes, verdict: Verdict, accepted: Serialized | None) -> Json:
    """One operation of a block: its verdict and, where it took effect, its consensus fields."""
    if accepted is None:
        return {**verdict_json(txid, verdict), "serialized": None}
    fields = {name: _field(name, text) for name, text in accepted.fields.items()}
    stored = str(fields.get("op") or verdict.opcode)
    named = {"op": stored, "opcode": OPCODES.get(stored)}
    return {**fields, **verdict_json(txid, verdict), **named, "serialized": accepted.text}


def _field(name: str, text: str) -> object:
    """A field of a serialised operation, which is text throughout, as what it stands for."""
    if not text:
        return None
    if name in _NUMBERS:
        return int(text) if text.isdecimal() else float(text)
    if name in ("revoked", "keep_data"):
        return text == "True"
    if name == "buckets":
        return [int(one) for one in text.strip("[]").split(",")]
    return text


def did_text(creation: Creation | None, network: Network) -> str | None:
    """The decentralised identifier of a name (spec section 6.6); None: it was never created."""
    if creation is None:
        return None
    return f"did:stack:v0:{script_address(creation.script, network)}-{creation.number}"


def did_json(seen: Snapshot, did: str, record: NameRecord, status: NameStatus) -> Json:
    """What an identifier stands for now. ``public_key`` is null until the owner's key was seen."""
    key = record.sender_pubkey
    own = key is not None and is_p2pkh(record.sender) and hash160(key) == record.sender[3:23]
    public_key = key.hex() if key is not None and own else None
    named = {"id": did, "type": "secp256k1", "publicKeyHex": public_key}
    return {
        "did": did,
        "name": record.name,
        "address": record.address,
        "status": status_word(status),
        "public_key": public_key,
        "document": {
            "@context": "https://w3id.org/did/v1",
            "id": did,
            "publicKey": [named] if public_key else [],
        },
        "height": seen.height,
    }


def content(data: bytes, key: str) -> Json:
    """Data as text, or in base64 under ``<key>_base64`` where it is no UTF-8."""
    try:
        return {key: data.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{key}_base64": base64.b64encode(data).decode("ascii")}
