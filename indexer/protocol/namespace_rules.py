"""The rules of namespaces and of the names imported into them before they open.

The same contract as ``rules``: each function asks the view, changes nothing, and follows the order
of its section in the protocol spec.
"""

from dataclasses import replace

from embit.bip32 import HDKey
from embit.ec import PublicKey
from embit.hashes import hash160

from indexer.bitcoin.transactions import is_p2pkh
from indexer.protocol import schema
from indexer.protocol.flaws import Flaw, Refused, require
from indexer.protocol.names import hash_name, parse_name
from indexer.protocol.operations import Import, NamespacePreorder, NamespaceReady, NamespaceReveal
from indexer.protocol.prices import name_price, namespace_price
from indexer.protocol.records import NameRecord, NamespaceRecord
from indexer.protocol.rules import Effect, is_recent, outstanding
from indexer.protocol.serialized import write_serialized
from indexer.protocol.view import BlockView


def judge_namespace_preorder(op: NamespacePreorder, view: BlockView) -> Effect:
    """NAMESPACE_PREORDER, spec section 1.14."""
    key = schema.namespace_preorder_key(op.preorder_hash)
    if view.namespace_preorder(op.preorder_hash) is not None:
        carrier = view.namespace_preordered_as(op.preorder_hash)
        carried = carrier is not None and _exists(carrier, view)
        require(carried, Flaw.PREORDER_EXISTS)
    require(key not in view.preorders_seen, Flaw.PREORDER_EXISTS)
    require(is_recent(op.consensus_hash, view), Flaw.CONSENSUS_HASH)
    require(op.fee_script == view.network.burn_script, Flaw.FEE_WENT_ELSEWHERE)
    require(op.token_amount is None, Flaw.OTHER_LEDGER)
    record = outstanding(op, view)
    return Effect("", write_serialized("*", record), preorder=record)


def judge_namespace_reveal(op: NamespaceReveal, view: BlockView) -> Effect:
    """NAMESPACE_REVEAL, spec section 1.15."""
    old = view.namespace(op.namespace_id)
    require(old is None or not _exists(old, view), Flaw.NAMESPACE_EXISTS)
    recipient_address = view.address(op.recipient)
    preorder_hash = hash_name(op.namespace_id, op.sender, recipient_address)
    preorder = view.namespace_preorder(preorder_hash)
    if preorder is None:
        raise Refused(Flaw.COLLISION if op.namespace_id in view.claimed else Flaw.NO_PREORDER)
    require(preorder.sender == op.sender, Flaw.PREORDER_SENDER)
    require(op.version != 2 or view.epoch.pay_to_creator, Flaw.BAD_VERSION)
    require(op.version != 3 or view.epoch.second_ledger, Flaw.BAD_VERSION)
    require(op.version != 3, Flaw.OTHER_LEDGER)
    if not view.epoch.second_ledger:
        # A preorder in bitcoins met no bitcoin price there, and passed: spec section 9, item 20.
        price = namespace_price(op.namespace_id, view.epoch)
        require(preorder.op_fee >= price, Flaw.FEE_TOO_LOW)
    require(op.namespace_id not in view.claimed, Flaw.COLLISION)
    record = NamespaceRecord(
        namespace_id=op.namespace_id,
        preorder_hash=preorder_hash,
        version=op.version,
        sender=op.sender,
        sender_pubkey=op.sender_pubkey,
        address=view.address(op.sender),
        recipient=op.recipient,
        recipient_address=recipient_address,
        block_number=preorder.block_number if old is None else old.block_number,
        reveal_block=view.height,
        ready_block=0,
        op="&",
        txid=op.txid,
        vtxindex=op.vtxindex,
        lifetime=op.lifetime,
        coeff=op.coeff,
        base=op.base,
        buckets=op.buckets,
        nonalpha_discount=op.nonalpha_discount,
        no_vowel_discount=op.no_vowel_discount,
    )
    return Effect(
        op.namespace_id,
        write_serialized("&", record),
        namespace=record,
        spends=schema.namespace_preorder_key(preorder_hash),
    )


def judge_namespace_ready(op: NamespaceReady, view: BlockView) -> Effect:
    """NAMESPACE_READY, spec section 1.16."""
    namespace = _revealed(op.namespace_id, view)
    require(op.sender == namespace.recipient, Flaw.NOT_THE_REVEALER)
    record = replace(
        namespace,
        op="!",
        ready_block=view.height,
        sender=op.sender,
        txid=op.txid,
        vtxindex=op.vtxindex,
    )
    return Effect(op.namespace_id, write_serialized("!", record), namespace=record)


def judge_import(op: Import, view: BlockView) -> Effect:
    """NAME_IMPORT, spec section 1.13."""
    if op.sender_pubkey is None or not is_p2pkh(op.sender):
        raise Refused(Flaw.IMPORTER_UNKNOWN)
    label, namespace_id = parse_name(op.name)
    namespace = _revealed(namespace_id, view)
    keys = view.keyring(namespace)
    first_keys: frozenset[bytes] | None = None
    if keys is None:
        require(op.sender == namespace.recipient, Flaw.NOT_AN_IMPORTER)
        keys = first_keys = import_keys(op.sender_pubkey, view.network.import_keyring_size)
    require(op.sender[3:23] in keys, Flaw.NOT_AN_IMPORTER)
    recipient_address = view.address(op.recipient)
    old = view.name(op.name)
    kept = old if old is not None and view.is_live(old, view.last) else None
    record = NameRecord(
        name=op.name,
        value_hash=op.value_hash,
        sender=op.recipient,
        sender_pubkey=op.sender_pubkey,
        address=recipient_address,
        block_number=kept.block_number if kept else view.height,
        preorder_block_number=kept.preorder_block_number if kept else view.height,
        first_registered=kept.first_registered if kept else view.height,
        last_renewed=kept.last_renewed if kept else view.height,
        revoked=False,
        op=";",
        txid=op.txid,
        vtxindex=op.vtxindex,
        op_fee=name_price(label, namespace, view.epoch),
        importer=op.sender,
        importer_address=view.address(op.sender),
        consensus_hash=None,
        preorder_hash=(
            kept.preorder_hash if kept else hash_name(op.name, op.sender, recipient_address)
        ),
        imported=True,
        update_consensus_hash=None,
    )
    return Effect(
        op.name,
        write_serialized(";", record),
        name=record,
        import_keys=None if first_keys is None else (namespace, first_keys),
    )


def import_keys(public_key: bytes, size: int) -> frozenset[bytes]:
    """hash160 of every key that may import: ``public_key`` as pushed, and its children.

    Children 0 to ``size``-1 are the BIP32 public, non-hardened ones of the compressed key with a
    chain code of 32 zero bytes (spec section 1.13). Raises nothing: a key off the curve has none.
    """
    own = hash160(public_key)
    try:
        point = PublicKey.parse(public_key)
    except Exception:  # noqa: BLE001 - whatever the curve library says of it, it has no children
        return frozenset((own,))
    point.compressed = True
    parent = HDKey(point, bytes(32))
    children = (hash160(parent.child(index).key.sec()) for index in range(size))
    return frozenset((own, *children))


def _exists(namespace: NamespaceRecord, view: BlockView) -> bool:
    return namespace.is_ready or namespace.revealed_at(view.last, view.network)


def _revealed(namespace_id: str, view: BlockView) -> NamespaceRecord:
    namespace = view.namespace(namespace_id)
    if namespace is None or not namespace.revealed_at(view.last, view.network):
        raise Refused(Flaw.NAMESPACE_NOT_REVEALED)
    return namespace
