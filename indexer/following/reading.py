"""A few blocks off the node at once: fetched, checked, scanned, and completed with what they spend.

What must stay true: of a block that is damaged, or not the one that was asked for, nothing is
used; the raw bytes are let go of as soon as they are scanned, so that what waits to be applied
is small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from indexer.bitcoin.blocks import ScannedBlock, scan_block
from indexer.bitcoin.headers import CorruptBlock, Header
from indexer.bitcoin.transactions import hash_hex
from indexer.following.chain import Connect
from indexer.node.spent_outputs import Outpoint, Spending
from indexer.protocol.apply import SpentCandidate
from indexer.protocol.envelope import COINBASE_TXID


class BlockSource(Protocol):
    """Where blocks are read, and what they spend."""

    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]: ...
    def spent_scripts(
        self, block_hash: bytes, outpoints: Mapping[Outpoint, Spending]
    ) -> dict[Outpoint, bytes]: ...


class BadBlock(Exception):
    """A block that cannot be used: asking again at once will not mend it."""


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """What applying a block needs of it. ``size``: bytes of the raw block."""

    height: int
    header: Header
    size: int
    candidates: tuple[SpentCandidate, ...]


def read_blocks(
    source: BlockSource, magic: bytes, steps: Sequence[Connect]
) -> list[ReadBlock | BadBlock]:
    """The blocks of ``steps``, in their order, up to the first bad one, which is told as a value.

    Raises what the source raises.
    """
    raws = source.raw_blocks([step.block_hash for step in steps])
    found: list[ReadBlock | BadBlock] = []
    for step, raw in zip(steps, raws, strict=True):
        try:
            scanned = _scan(step, raw, magic)
            candidates = _spent(source, step, scanned)
        except BadBlock as flaw:
            return [*found, flaw]
        found.append(ReadBlock(step.height, scanned.header, len(raw), candidates))
    return found


def _scan(step: Connect, raw: bytes, magic: bytes) -> ScannedBlock:
    try:
        scanned = scan_block(raw, magic)
    except CorruptBlock as error:
        raise BadBlock(
            f"the node gave a corrupt block {step.height} ({hash_hex(step.block_hash)}):"
            f" {error}; nothing of it was used. Check the node's disk and memory"
        ) from error
    if scanned.header.hash != step.block_hash:
        raise BadBlock(
            f"the node gave another block than asked at height {step.height}:"
            f" {hash_hex(scanned.header.hash)} instead of {hash_hex(step.block_hash)};"
            " nothing of it was used. Check the node"
        )
    return scanned


def _spent(source: BlockSource, step: Connect, scanned: ScannedBlock) -> tuple[SpentCandidate, ...]:
    """The candidates with the scripts they spend; b"" for what a coinbase makes up."""
    outpoints = {
        spent[:2]: Spending(candidate.transaction.txid, (candidate.vtxindex, place))
        for candidate in scanned.candidates
        for place, spent in enumerate(candidate.transaction.inputs)
        if spent.previous_txid != COINBASE_TXID
    }
    scripts = source.spent_scripts(step.block_hash, outpoints) if outpoints else {}
    missing = next(iter(outpoints.keys() - scripts.keys()), None)
    if missing is not None:
        raise BadBlock(
            f"the node does not know output {missing[1]} of transaction {hash_hex(missing[0])},"
            f" which block {hash_hex(step.block_hash)} spends; check the node"
        )
    return tuple(
        SpentCandidate(
            candidate,
            tuple(
                scripts.get((spending.previous_txid, spending.previous_index), b"")
                for spending in candidate.transaction.inputs
            ),
        )
        for candidate in scanned.candidates
    )
