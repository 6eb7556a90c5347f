"""One block's operations, in order, to everything that the block writes.

Pure: the store is only read. ``Outcome`` holds every row to write and what each key held before,
so writing it and taking it back are mechanical (protocol spec section 3).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.transactions import Transaction
from indexer.networks import Network
from indexer.protocol import consensus, schema
from indexer.protocol.carried import Carried, write_carried
from indexer.protocol.flaws import Flaw, Refused
from indexer.protocol.namespace_rules import (
    judge_import,
    judge_namespace_preorder,
    judge_namespace_ready,
    judge_namespace_reveal,
)
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
from indexer.protocol.payloads import read_operation
from indexer.protocol.records import NameRecord
from indexer.protocol.rows import write_pairs
from indexer.protocol.rules import (
    Effect,
    Rule,
    judge_announce,
    judge_preorder,
    judge_register,
    judge_renew,
    judge_revoke,
    judge_transfer,
    judge_update,
)
from indexer.protocol.subjects import subject_of_malformed, subject_of_refused
from indexer.protocol.view import BlockView, Store

_RULES: dict[type, Rule] = {
    Preorder: judge_preorder,
    Register: judge_register,
    Renew: judge_renew,
    Update: judge_update,
    Transfer: judge_transfer,
    Revoke: judge_revoke,
    Import: judge_import,
    NamespacePreorder: judge_namespace_preorder,
    NamespaceReveal: judge_namespace_reveal,
    NamespaceReady: judge_namespace_ready,
    Announce: judge_announce,
}


def judge(operation: Operation, view: BlockView) -> Effect | Flaw:
    """What ``operation`` would write at this point of the block, or why it has no effect."""
    if isinstance(operation, TokenTransfer):
        return Flaw.OTHER_LEDGER
    try:
        return _RULES[type(operation)](operation, view)
    except Refused as refused:
        return refused.flaw


@dataclass(frozen=True, slots=True)
class SpentCandidate:
    """A candidate with the scriptPubKeys its inputs spend, in order."""

    candidate: Candidate
    spent_scripts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one block writes."""

    height: int
    header: bytes
    """The 80 bytes of the block's header."""
    rows: dict[bytes, bytes | None]
    verdicts: tuple[tuple[bytes, schema.Verdict], ...]
    """(txid, verdict) of every operation, malformed ones included, in block order."""
    serialized: tuple[str, ...]
    ops_hash: bytes
    consensus_hash: bytes
    touched: frozenset[str]
    """Names whose records the block changed."""


def apply_block(
    store: Store, network: Network, height: int, header: bytes, spent: Sequence[SpentCandidate]
) -> Outcome:
    """Judge and apply the candidates of block ``height`` to the table in ``store``.

    ``header`` is the block's 80 bytes; ``spent`` in block order. The rows of the outcome include
    the block's header, hashes, undo and the new tip.
    """
    view = BlockView(store, network, height)
    operations = []
    sources = []
    for s in spent:
        place, transaction = s.candidate.vtxindex, s.candidate.transaction
        operation = read_operation(transaction, place, s.spent_scripts, network, view.epoch)
        if operation is not None:
            operations.append(operation)
            sources.append(s)
    view.claimed |= _collisions(operations, BlockView(store, network, height))
    serialized: list[str] = []
    verdicts: list[tuple[bytes, schema.Verdict]] = []
    carried: list[Carried] = []
    for operation, source in zip(operations, sources, strict=True):
        transaction = source.candidate.transaction
        verdict, text = _commit(operation, transaction, view)
        verdicts.append((operation.txid, verdict))
        if text is not None:
            serialized.append(text)
        place, counted = operation.vtxindex, text is not None
        carried.append(Carried(place, counted, transaction, source.spent_scripts))
    if carried:
        view.put(schema.carried_key(height), write_carried(carried))
    ops_hash = consensus.ops_hash(serialized)
    earlier = _Earlier(view)
    consensus_hash = consensus.consensus_hash(height, network.first_block, ops_hash, earlier)
    rows = _seal(view, header, verdicts, serialized, ops_hash, consensus_hash)
    return Outcome(
        height,
        header,
        rows,
        tuple(verdicts),
        tuple(serialized),
        ops_hash,
        consensus_hash,
        frozenset(view.touched),
    )


class _Earlier:
    """The consensus hashes of earlier blocks, which must all be there."""

    def __init__(self, view: BlockView) -> None:
        self._view = view

    def __call__(self, height: int) -> bytes:
        found = self._view.consensus_hash(height)
        assert found is not None, f"blocks are applied in order, but {height} is missing"
        return found


def _collisions(operations: Sequence[Operation | Malformed], start: BlockView) -> set[str]:
    """Names and namespaces that two valid operations claim, seen from the block's start."""
    valid: Counter[str] = Counter()
    claims = [op for op in operations if isinstance(op, Register | NamespaceReveal)]
    claimed = Counter(map(_subject, claims))
    for op in claims:
        subject = _subject(op)
        if claimed[subject] > 1 and not isinstance(judge(op, start), Flaw):
            valid[subject] += 1
        if isinstance(op, Register):
            start.registered[op.recipient] += 1
    return {subject for subject, count in valid.items() if count > 1}


def _subject(claim: Register | NamespaceReveal) -> str:
    return claim.name if isinstance(claim, Register) else claim.namespace_id


def _commit(
    operation: Operation | Malformed, transaction: Transaction, view: BlockView
) -> tuple[schema.Verdict, str | None]:
    """Let ``operation`` take effect if it may, and remember it under what it was about."""
    height, place = view.height, operation.vtxindex
    if isinstance(operation, Malformed):
        subject = subject_of_malformed(transaction, view.network)
        _note(subject, place, operation.txid, view)
        opcode = operation.opcode.decode("latin-1")
        return schema.Verdict(height, place, opcode, subject, operation.flaw.name), None
    opcode = OPCODES[type(operation)].decode("ascii")
    effect = judge(operation, view)
    if isinstance(effect, Flaw):
        subject = subject_of_refused(operation, effect, view)
        _note(subject, place, operation.txid, view)
        return schema.Verdict(height, place, opcode, subject, effect.name), None
    _take_effect(effect, operation, view)
    if effect.name is None:  # where it is not, the history of the name tells
        _note(effect.subject, place, operation.txid, view)
    return schema.Verdict(height, place, opcode, effect.subject, None), effect.serialized


def _note(subject: str, vtxindex: int, txid: bytes, view: BlockView) -> None:
    if subject:
        view.put(schema.about_key(subject, view.height, vtxindex), txid)


def _take_effect(effect: Effect, operation: Operation, view: BlockView) -> None:
    if effect.preorder is not None:
        view.put_preorder(effect.preorder)
    if effect.spends is not None:
        _note_preorder(effect.spends, effect.subject, view)
        view.spend_preorder(effect.spends)
    if effect.name is not None:
        _note_past_value(effect.name, operation.vtxindex, view)
        view.put_name(effect.name, operation.vtxindex)
        if isinstance(operation, Register | Import) and effect.name.first_registered == view.height:
            view.note_creation(effect.name, operation.vtxindex)
    if effect.namespace is not None:
        view.put_namespace(effect.namespace)
        namespace_id = effect.namespace.namespace_id
        key = schema.namespace_history_key(namespace_id, view.height, operation.vtxindex)
        view.put(key, schema.NAMESPACE_ROW.write(effect.namespace))
    if effect.import_keys is not None:
        view.put_keyring(*effect.import_keys)
    if isinstance(operation, Register):
        view.registered[operation.recipient] += 1
        view.claimed.add(operation.name)
    elif isinstance(operation, NamespaceReveal):
        view.claimed.add(operation.namespace_id)


def _note_preorder(key: bytes, subject: str, view: BlockView) -> None:
    """The preorder under ``key`` was for ``subject``, as is known from now on."""
    preorder = view.preorder_under(key)
    if preorder is not None:
        place = schema.about_key(subject, preorder.block_number, preorder.vtxindex)
        view.put(place, preorder.txid)


def _note_past_value(record: NameRecord, vtxindex: int, view: BlockView) -> None:
    """Where the name held another value until now, remember that it did."""
    old = view.name(record.name)
    if old is not None and old.value_hash is not None and old.value_hash != record.value_hash:
        key = schema.past_value_key(old.value_hash, record.name, view.height, vtxindex)
        view.put(key, b"")


def _seal(
    view: BlockView,
    header: bytes,
    verdicts: Sequence[tuple[bytes, schema.Verdict]],
    serialized: Sequence[str],
    ops_hash: bytes,
    consensus_hash: bytes,
) -> dict[bytes, bytes | None]:
    """The rows of the block itself beside those of its names, its undo row last."""
    height = view.height
    for txid, verdict in verdicts:
        view.put(schema.verdict_key(txid), schema.VERDICT_ROW.write(verdict))
    view.put(schema.header_key(height), header)
    view.put(schema.hashes_key(height), ops_hash + consensus_hash)
    view.put(schema.consensus_key(consensus_hash), schema.height_bytes(height))
    if verdicts:
        view.put(schema.txids_key(height), b"".join(txid for txid, _ in verdicts))
    if serialized:
        view.put(schema.operations_key(height), "\n".join(serialized).encode("ascii"))
    view.put(schema.TIP_KEY, schema.height_bytes(height))
    rows = dict(view.writes)
    rows[schema.undo_key(height)] = write_pairs(view.undo())
    if height - schema.UNDO_BLOCKS >= view.network.first_block:
        rows[schema.undo_key(height - schema.UNDO_BLOCKS)] = None
    return rows
