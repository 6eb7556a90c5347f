"""May this operation take effect here, and what would it write; if not, which flaw is it.

``judge`` is pure: it asks the view and changes nothing. The indexer commits what it answers, the
registrar only looks. Operations of names are here, those of namespaces in ``namespace_rules``.
Each function follows the order of its section in the protocol spec.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from indexer.bitcoin.transactions import is_p2sh
from indexer.networks import (
    BLOCKS_PER_YEAR,
    INFINITE_LIFETIME,
    MAX_NAMES_PER_SENDER,
    PREORDER_EXPIRE,
)
from indexer.protocol import schema
from indexer.protocol.flaws import Flaw, Refused, require
from indexer.protocol.names import find_bound_name, hash_name
from indexer.protocol.operations import (
    OPCODES,
    Announce,
    NamespacePreorder,
    Preorder,
    Register,
    Renew,
    Revoke,
    Transfer,
    Update,
)
from indexer.protocol.prices import name_price
from indexer.protocol.records import NameRecord, NamespaceRecord, PreorderRecord
from indexer.protocol.serialized import write_serialized
from indexer.protocol.view import BlockView


@dataclass(frozen=True, slots=True)
class Effect:
    """What an accepted operation writes; ``serialized`` is its text in the ops hash."""

    subject: str
    serialized: str | None
    name: NameRecord | None = None
    namespace: NamespaceRecord | None = None
    preorder: PreorderRecord | None = None
    spends: bytes | None = None
    """Key of the preorder row that is used up."""
    import_keys: tuple[NamespaceRecord, frozenset[bytes]] | None = None
    """hash160 of each import key of the namespace, where this was its first import."""


Rule = Callable[[Any, BlockView], Effect]


def judge_preorder(op: Preorder, view: BlockView) -> Effect:
    """NAME_PREORDER, spec section 1.7."""
    key = schema.preorder_key(op.preorder_hash)
    if view.preorder(op.preorder_hash) is not None:
        carrier = view.name_preordered_as(op.preorder_hash)
        carried = carrier is not None and view.is_live(carrier, view.last)
        require(carried, Flaw.PREORDER_EXISTS)
    require(is_recent(op.consensus_hash, view), Flaw.CONSENSUS_HASH)
    require(has_room(op.sender, view), Flaw.QUOTA)
    require(op.token_amount is None, Flaw.OTHER_LEDGER)
    require(key not in view.preorders_seen, Flaw.PREORDER_EXISTS)
    record = outstanding(op, view)
    return Effect("", write_serialized("?", record), preorder=record)


def outstanding(op: Preorder | NamespacePreorder, view: BlockView) -> PreorderRecord:
    """The record of a preorder that is accepted here."""
    return PreorderRecord(
        preorder_hash=op.preorder_hash,
        consensus_hash=op.consensus_hash,
        sender=op.sender,
        sender_pubkey=op.sender_pubkey,
        address=view.address(op.sender),
        block_number=view.height,
        op=OPCODES[type(op)].decode("ascii"),
        txid=op.txid,
        vtxindex=op.vtxindex,
        op_fee=op.op_fee,
        fee_script=op.fee_script,
    )


def judge_register(op: Register, view: BlockView) -> Effect:
    """NAME_REGISTRATION, spec section 1.8."""
    old = view.name(op.name)
    live = old is not None and view.is_live(old, view.last)
    require(not (live and old is not None and old.revoked), Flaw.NAME_REVOKED)
    namespace = ready_namespace(op.name, view)
    require(has_room(op.recipient, view), Flaw.QUOTA)
    require(view.epoch.multisig or not is_p2sh(op.recipient), Flaw.P2SH_OWNER)
    require(not live, Flaw.NAME_TAKEN)
    owner_address = view.address(op.recipient)
    preorder_hash = hash_name(op.name, op.sender, owner_address)
    preorder = view.preorder(preorder_hash)
    if preorder is None:
        raise Refused(Flaw.COLLISION if op.name in view.claimed else Flaw.NO_PREORDER)
    multiplier = view.network.epoch(view.last).lifetime_multiplier
    usable_until = preorder.block_number + namespace.lifetime * multiplier
    require(usable_until > view.last, Flaw.PREORDER_EXPIRED)
    if view.epoch.preorder_expiry_enforced:
        fresh = preorder.block_number + PREORDER_EXPIRE >= view.height
        require(fresh, Flaw.PREORDER_EXPIRED)
    require(preorder.block_number >= namespace.ready_block, Flaw.PREORDER_BEFORE_READY)
    require(preorder.sender == op.sender, Flaw.PREORDER_SENDER)
    require(not op.token_amount, Flaw.OTHER_LEDGER)
    check_payment(
        op.name, namespace, view, preorder.block_number, preorder.op_fee, preorder.fee_script
    )
    require(op.name not in view.claimed, Flaw.COLLISION)
    record = NameRecord(
        name=op.name,
        value_hash=op.value_hash,
        sender=op.recipient,
        sender_pubkey=op.sender_pubkey,
        address=owner_address,
        block_number=preorder.block_number if old is None else old.block_number,
        preorder_block_number=preorder.block_number,
        first_registered=view.height,
        last_renewed=view.height,
        revoked=False,
        op=":",
        txid=op.txid,
        vtxindex=op.vtxindex,
        op_fee=preorder.op_fee,
        importer=None,
        importer_address=None,
        consensus_hash=None,
        preorder_hash=preorder_hash,
        imported=False,
        update_consensus_hash=None,
    )
    return Effect(
        op.name,
        write_serialized(":", record),
        name=record,
        spends=schema.preorder_key(preorder_hash),
    )


def judge_renew(op: Renew, view: BlockView) -> Effect:
    """NAME_RENEWAL, spec section 1.9."""
    may_transfer = view.epoch.transfer_at_renewal
    require(may_transfer or op.sender == op.recipient, Flaw.OWNER_MAY_NOT_CHANGE)
    old = view.name(op.name)
    refuse_revoked(old, view)
    namespace = ready_namespace(op.name, view)
    # An owner of exactly 25 names cannot renew any of them: spec section 9, item 14.
    require(has_room(op.recipient, view), Flaw.QUOTA)
    record = owned_name(old, op.sender, view)
    require(not op.token_amount, Flaw.OTHER_LEDGER)
    check_payment(op.name, namespace, view, view.height, op.op_fee, op.fee_script)
    record = replace(
        record,
        last_renewed=view.height,
        sender=op.recipient,
        address=view.address(op.recipient),
        op_fee=op.op_fee,
        value_hash=record.value_hash if op.value_hash is None else op.value_hash,
        op="::",
        txid=op.txid,
        vtxindex=op.vtxindex,
    )
    return Effect(op.name, write_serialized(":", record), name=record)


def judge_update(op: Update, view: BlockView) -> Effect:
    """NAME_UPDATE, spec section 1.10."""
    names = view.held(op.sender, MAX_NAMES_PER_SENDER)
    require(len(names) <= MAX_NAMES_PER_SENDER, Flaw.QUOTA)
    record, consensus_hash = _updated_name(op, names, view)
    namespace = ready_namespace(record.name, view)
    if namespace.lifetime != INFINITE_LIFETIME:
        in_grace = record.in_grace_at(view.height, namespace, view.network)
        require(not in_grace, Flaw.NAME_IN_GRACE)
    record = replace(
        record,
        value_hash=op.value_hash,
        consensus_hash=consensus_hash,
        update_consensus_hash=consensus_hash,
        op="+",
        txid=op.txid,
        vtxindex=op.vtxindex,
    )
    serialized = write_serialized("+", record, name_consensus_hash=op.name_consensus_hash)
    return Effect(record.name, serialized, name=record)


def _updated_name(op: Update, names: list[str], view: BlockView) -> tuple[NameRecord, bytes | None]:
    """The name meant and the consensus hash that tells; None where that is not known any more."""
    # Most updates are only a few blocks late, so the newest hashes come first.
    found = find_bound_name(op.name_consensus_hash, names, reversed(view.window))
    if found is not None:
        record = view.name(found[0])
        if record is not None and view.is_owned(record):
            return record, found[1]
    if view.network.is_frozen(view.last):
        # The hash may be one that only the other ledger gives. Whoever owns one name means it;
        # with several, nothing on this chain tells which.
        records = [view.name(name) for name in names]
        owned = [r for r in records if r is not None and view.is_owned(r)]
        require(len(owned) < 2, Flaw.OTHER_LEDGER)
        if owned:
            return owned[0], None
    raise Refused(Flaw.NO_NAME_MATCHES)


def judge_transfer(op: Transfer, view: BlockView) -> Effect:
    """NAME_TRANSFER, spec section 1.11."""
    old = view.name_of_hash128(op.name_hash128)
    refuse_revoked(old, view)
    record = registered_name(old, view)
    namespace = ready_namespace(record.name, view)
    in_grace = record.in_grace_at(view.height, namespace, view.network)
    require(not in_grace, Flaw.NAME_IN_GRACE)
    require(is_recent(op.consensus_hash, view), Flaw.CONSENSUS_HASH)
    require(op.sender != op.recipient, Flaw.SENT_TO_ITSELF)
    require(record.sender == op.sender, Flaw.NOT_THE_OWNER)
    held = view.held(op.recipient, MAX_NAMES_PER_SENDER - 1)
    require(len(held) < MAX_NAMES_PER_SENDER, Flaw.QUOTA)
    require(view.epoch.multisig or not is_p2sh(op.sender), Flaw.P2SH_OWNER)
    record = replace(
        record,
        sender=op.recipient,
        address=view.address(op.recipient),
        sender_pubkey=None,
        value_hash=record.value_hash if op.keep_data else None,
        consensus_hash=record.update_consensus_hash or op.consensus_hash,
        op=">>" if op.keep_data else ">~",
        txid=op.txid,
        vtxindex=op.vtxindex,
    )
    more = {"name_hash128": op.name_hash128, "keep_data": op.keep_data}
    serialized = write_serialized(">", record, **more)
    return Effect(record.name, serialized, name=record)


def judge_revoke(op: Revoke, view: BlockView) -> Effect:
    """NAME_REVOKE, spec section 1.12: unlike elsewhere the name must be live in this block too."""
    old = view.name(op.name)
    refuse_revoked(old, view)
    record = registered_name(old, view)
    namespace = ready_namespace(op.name, view)
    require(view.is_live(record, view.height), Flaw.NAME_NOT_REGISTERED)
    in_grace = record.in_grace_at(view.height, namespace, view.network)
    require(not in_grace, Flaw.NAME_IN_GRACE)
    require(record.sender == op.sender, Flaw.NOT_THE_OWNER)
    record = replace(
        record, revoked=True, value_hash=None, op="~", txid=op.txid, vtxindex=op.vtxindex
    )
    return Effect(op.name, write_serialized("~", record), name=record)


def judge_announce(op: Announce, view: BlockView) -> Effect:
    """ANNOUNCE, spec section 1.17: recorded as a verdict, no state, not in the consensus."""
    for name in view.network.announcers:
        record = view.name(name)
        if record is None or record.revoked or record.sender != op.sender:
            continue
        if view.is_live(record, view.last):
            return Effect(name, None)
    raise Refused(Flaw.NOT_AN_ANNOUNCER)


# --- what several rules ask


def has_room(script: bytes, view: BlockView) -> bool:
    """Whether ``script`` may own one name more, those registered for it earlier in this block
    included (spec section 1.6)."""
    room = MAX_NAMES_PER_SENDER - 1 - view.registered[script]
    return len(view.held(script, room)) <= room


def is_recent(consensus_hash: bytes, view: BlockView) -> bool:
    """Whether an operation here may name ``consensus_hash`` (the window of spec section 1.5).

    Where the window reaches beyond the freeze, the recorded hashes in it are not known here. A
    hash that is no known block's may be one of them, and the operation goes on by the other rules;
    one that is known, and of a block before the window, is as stale as ever.
    """
    if consensus_hash in view.window:
        return True
    if not view.network.is_frozen(view.last):
        return False
    known = view.get(schema.consensus_key(consensus_hash)) is not None
    return not known and consensus_hash not in view.network.genesis_consensus.values()


def ready_namespace(name: str, view: BlockView) -> NamespaceRecord:
    """The namespace of ``name``, which must be ready."""
    namespace = view.namespace(name.partition(".")[2])
    if namespace is None or not namespace.is_ready:
        raise Refused(Flaw.NAMESPACE_NOT_READY)
    return namespace


def refuse_revoked(record: NameRecord | None, view: BlockView) -> None:
    """Refuse where the name is revoked and has not lapsed since."""
    if record is not None and record.revoked and view.is_live(record, view.last):
        raise Refused(Flaw.NAME_REVOKED)


def registered_name(record: NameRecord | None, view: BlockView) -> NameRecord:
    """The record, which must be live and not revoked once the last block was processed."""
    if record is None or record.revoked or not view.is_live(record, view.last):
        raise Refused(Flaw.NAME_NOT_REGISTERED)
    return record


def owned_name(record: NameRecord | None, sender: bytes, view: BlockView) -> NameRecord:
    """The record, which must be registered and owned by ``sender``."""
    record = registered_name(record, view)
    require(record.sender == sender, Flaw.NOT_THE_OWNER)
    return record


def check_payment(
    name: str,
    namespace: NamespaceRecord,
    view: BlockView,
    fee_height: int,
    fee: int,
    fee_script: bytes,
) -> None:
    """The payment rule of spec section 2.4; ``fee`` in satoshis was paid to ``fee_script``."""
    payee = view.network.burn_script
    if namespace.version == 2 and namespace.reveal_block + BLOCKS_PER_YEAR >= view.height:
        require(view.address(fee_script) == namespace.address, Flaw.FEE_WENT_ELSEWHERE)
    else:
        require(fee_script == payee, Flaw.FEE_WENT_ELSEWHERE)
    require(namespace.version != 3, Flaw.OTHER_LEDGER)
    label = name.partition(".")[0]
    price = name_price(label, namespace, view.network.epoch(fee_height))
    require(fee >= price, Flaw.FEE_TOO_LOW)
