"""What readers ask of the name table: its present state after one block, and all of its history.

What must stay true: a snapshot never changes, so what one answer says fits the next; and no answer
costs more because the table is larger (the table of costs is in ``schema``). Listings come in
pages: a page says where the next one begins, and "" where there is none.
"""

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Protocol

from indexer.bitcoin.transactions import double_sha256
from indexer.networks import Network
from indexer.protocol import schema
from indexer.protocol.records import NameRecord, NamespaceRecord, NameStatus, Phase, status_at
from indexer.protocol.rows import DamagedRow
from indexer.table.pages import PAGE, Page, after_text, end_of, place_after, place_of_page

_PRESENT = (Phase.LIVE, Phase.GRACE)
_REMEMBERED_NAMESPACES = 64


class Rows(Protocol):
    """Rows that do not change while they are read."""

    def get(self, key: bytes, /) -> bytes | None: ...

    def between(
        self, start: bytes, stop: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The rows from key ``start`` up to and without ``stop``, in the order of their keys."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """A name after one operation, which the record names; ``height`` is of its block."""

    height: int
    vtxindex: int
    record: NameRecord


@dataclass(frozen=True, slots=True)
class Creation:
    """A registration, or the first import, of a name: the ``number``-th (from 0) for ``script``."""

    script: bytes
    number: int
    height: int
    vtxindex: int
    name: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A name that holds a value hash, or held it until its operation at ``until``."""

    name: str
    until: int | None


_NamespaceOf = Callable[[str], NamespaceRecord | None]
Judged = tuple[bytes, schema.Verdict]
"""A txid (internal order) and what became of its operation."""


class Snapshot:
    """The table after one block, unchanging; cheap to hold and to ask, from any thread."""

    def __init__(self, rows: Rows, network: Network) -> None:
        self._rows = rows
        self.network = network
        tip = rows.get(schema.TIP_KEY)
        self.height = network.first_block - 1 if tip is None else int.from_bytes(tip, "big")
        """The last block in the table; one below the first block where there is none."""
        header = rows.get(schema.header_key(self.height))
        self.block_hash = bytes(32) if header is None else double_sha256(header)
        self.block_time = 0 if header is None else int.from_bytes(header[68:72], "little")
        """Unix time in seconds that the block's header claims."""
        self._namespaces: dict[str, NamespaceRecord] = {}

    # --- the rows themselves, as the block to come finds them (``view.Store``)

    def get(self, key: bytes) -> bytes | None:
        """The row under ``key``."""
        return self._rows.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows whose key begins with ``prefix``, in the order of their keys."""
        return self._from(prefix, prefix)

    # --- names and namespaces at present

    def name(self, name: str) -> NameRecord | None:
        """The record of a name, live or not."""
        row = self._rows.get(schema.name_key(name))
        return None if row is None else schema.NAME_ROW.read(row)

    def namespace(self, namespace_id: str) -> NamespaceRecord | None:
        """The record of a namespace, revealed, ready or lapsed."""
        row = self._rows.get(schema.namespace_key(namespace_id))
        return None if row is None else schema.NAMESPACE_ROW.read(row)

    def name_status(self, name: str) -> tuple[NameRecord, NameStatus] | None:
        """The record of a name and what it means at this height; None: never registered."""
        record = self.name(name)
        if record is None:
            return None
        namespace_id = name.partition(".")[2]
        namespace = self._namespaces.get(namespace_id)
        if namespace is None:
            # Most names that are asked for are in one namespace, and reading its row takes as long
            # as reading the name's.
            namespace = self.namespace(namespace_id)
            if namespace is not None and len(self._namespaces) < _REMEMBERED_NAMESPACES:
                self._namespaces[namespace_id] = namespace
        return record, status_at(record, namespace, self.network, self.height)

    def name_count(self) -> int:
        """How many names have ever been registered or imported."""
        row = self._rows.get(schema.NAME_COUNT_KEY)
        return 0 if row is None else int.from_bytes(row, "big")

    def names_of_value(self, digest: bytes) -> list[str]:
        """The names whose last state holds this value hash, live or not."""
        return list(self._holding(digest))

    def _holding(self, digest: bytes) -> Iterator[str]:
        prefix = schema.value_prefix(digest)
        return (key[len(prefix) :].decode() for key, _ in self.scan(prefix))

    def is_announced(self, digest: bytes) -> bool:
        """Whether a live name holds this value hash."""
        return any(self._is_present(name) for name in self._holding(digest))

    def _is_present(self, name: str) -> bool:
        found = self.name_status(name)
        return found is not None and found[1].phase in _PRESENT

    def holds_or_held(self, name: str, digest: bytes) -> bool:
        """Whether the value hash of a name is ``digest``, or ever was."""
        key = schema.value_prefix(digest) + name.encode()
        held = schema.past_value_prefix(digest) + name.encode() + b"\0"
        return self._rows.get(key) is not None or any(True for _ in self.scan(held))

    def announced_values(self) -> Iterator[bytes]:
        """Every value hash that a live name holds, each once. Walks the whole index of values."""
        last = b""
        for key, _ in self.scan(b"d"):
            digest = key[1:21]
            if digest != last and self._is_present(key[21:].decode()):
                last = digest
                yield digest

    # --- blocks and their hashes

    @property
    def consensus_frozen_at(self) -> int | None:
        """The last height whose recorded consensus hash is known, where the table is beyond it."""
        return self.network.frozen_at if self.network.is_frozen(self.height) else None

    def consensus_hash(self, height: int) -> bytes | None:
        """The 16-byte consensus hash of a block, as every node of the network has it.

        None where the block is not indexed, and for every block after ``network.frozen_at``.
        """
        return None if self.network.is_frozen(height) else self.computed_consensus_hash(height)

    def computed_consensus_hash(self, height: int) -> bytes | None:
        """What follows from this table; after the freeze, only nodes with these rules share it."""
        row = self._rows.get(schema.hashes_key(height))
        return None if row is None else row[32:]

    def ops_hash(self, height: int) -> bytes | None:
        """The 32-byte hash of the accepted operations of a block; None where it is not indexed."""
        row = self._rows.get(schema.hashes_key(height))
        return None if row is None else row[:32]

    def height_of_consensus_hash(self, consensus_hash: bytes) -> int | None:
        """The block whose recorded consensus hash this is; None: none that is known."""
        row = self._rows.get(schema.consensus_key(consensus_hash))
        height = None if row is None else int.from_bytes(row, "big")
        return None if height is None or self.network.is_frozen(height) else height

    def operations(self, height: int) -> tuple[str, ...]:
        """The accepted operations of a block as they enter its ops hash, in block order."""
        row = self._rows.get(schema.operations_key(height))
        return () if row is None else tuple(row.decode("ascii").split("\n"))

    # --- what a table is made anew from

    def header(self, height: int) -> bytes:
        """The 80 bytes of an indexed block's header. Raises ``DamagedRow`` where it is gone."""
        row = self._rows.get(schema.header_key(height))
        if row is None or len(row) != 80:
            raise DamagedRow(f"the header of block {height} is missing or damaged")
        return row

    def carried(self, height: int) -> bytes:
        """The row of the transactions of a block's operations (``carried.py``); b"": none."""
        return self._rows.get(schema.carried_key(height)) or b""

    @property
    def began_at(self) -> int | None:
        """The last block of the snapshot file that the table was made from, up to which refused
        operations are not known; None: every block came from a node."""
        row = self._rows.get(schema.BEGAN_KEY)
        return None if row is None else int.from_bytes(row, "big")

    # --- verdicts

    def verdict(self, txid: bytes) -> schema.Verdict | None:
        """What became of the operation that transaction ``txid`` (internal order) carries."""
        row = self._rows.get(schema.verdict_key(txid))
        return None if row is None else schema.VERDICT_ROW.read(row)

    def verdicts_of_block(
        self, height: int, skip: int = 0, limit: int = PAGE
    ) -> tuple[Judged, ...]:
        """Every operation that a block carries, refused ones too, in block order."""
        row = self._rows.get(schema.txids_key(height)) or b""
        stop = min(len(row), (skip + limit) * 32)
        return tuple(self._judged(row[at : at + 32]) for at in range(skip * 32, stop, 32))

    def verdicts_about(self, subject: str, after: str = "", limit: int = PAGE) -> Page[Judged]:
        """Every operation about a name or a namespace, refused ones too, in the chain's order.

        The preorder of a name is among them from its registration on. Raises ``ValueError`` for
        an ``after`` that no page gave.
        """
        begin = place_after(after)
        states = (
            (key[-8:], schema.NAME_ROW.read(row).txid)
            for key, row in self._after(schema.history_prefix(subject), begin)
        )
        others = (
            (key[-8:], txid) for key, txid in self._after(schema.about_prefix(subject), begin)
        )
        found = list(islice(heapq.merge(states, others), limit + 1))
        entries = tuple(self._judged(txid) for _, txid in found[:limit])
        return Page(entries, place_of_page(found[limit - 1][0]) if len(found) > limit else "")

    def _judged(self, txid: bytes) -> Judged:
        verdict = self.verdict(txid)
        assert verdict is not None, "every operation that a row names has a verdict"
        return txid, verdict

    # --- what was

    def states(self, name: str, after: str = "", limit: int = PAGE) -> Page[State]:
        """Every state of a name, the first one first. Raises ``ValueError`` as above."""
        rows = self._after(schema.history_prefix(name), place_after(after))
        found = list(islice(rows, limit + 1))
        entries = tuple(_state(key, row) for key, row in found[:limit])
        return Page(entries, place_of_page(found[limit - 1][0][-8:]) if len(found) > limit else "")

    def state_at(self, name: str, height: int) -> State | None:
        """The state of a name once block ``height`` was processed; None: there was none yet."""
        found = self._last(schema.history_prefix(name), height)
        return None if found is None else _state(*found)

    def namespace_at(self, namespace_id: str, height: int) -> NamespaceRecord | None:
        """The record of a namespace once block ``height`` was processed."""
        found = self._last(schema.namespace_history_prefix(namespace_id), height)
        return None if found is None else schema.NAMESPACE_ROW.read(found[1])

    def status_at(self, name: str, height: int) -> tuple[State, NameStatus] | None:
        """The state of a name once block ``height`` was processed, and what it meant then."""
        state = self.state_at(name, height)
        if state is None:
            return None
        namespace = self.namespace_at(name.partition(".")[2], height)
        return state, status_at(state.record, namespace, self.network, height)

    def _last(self, prefix: bytes, height: int) -> tuple[bytes, bytes] | None:
        if height < 0:
            return None
        stop = prefix + schema.height_bytes(min(height, 2**32 - 2) + 1)
        return next(self._rows.between(prefix, stop, reverse=True), None)

    def creation(self, script: bytes, number: int) -> Creation | None:
        """The name that was created as number ``number`` for ``script``; None: not so many."""
        row = self._rows.get(schema.creation_key(script, number)) if number < 2**32 else None
        if row is None:
            return None
        return Creation(script, number, *schema.place_of_key(row[:8]), row[8:].decode())

    def creation_of(self, name: str) -> Creation | None:
        """The creation that the present record of a name goes back to; None: never registered."""
        record = self.name(name)
        state = None if record is None else self.state_at(name, record.first_registered)
        if state is None:
            return None
        script = state.record.sender
        row = self._rows.get(schema.creations_key(script)) or b""
        wanted = schema.height_bytes(state.height) + schema.height_bytes(state.vtxindex)

        def place(number: int) -> bytes:
            return (self._rows.get(schema.creation_key(script, number)) or b"")[:8]

        number = bisect_left(range(int.from_bytes(row, "big")), wanted, key=place)
        creation = self.creation(script, number)
        return creation if creation is not None and creation.name == name else None

    # --- listings, in the order of names

    def owned_by(
        self, script: bytes, after: str = "", limit: int = PAGE, *, live_only: bool = True
    ) -> Page[str]:
        """The names whose last state says ``script`` as their owner.

        Live only: neither lapsed nor revoked.
        """
        prefix = schema.owner_prefix(script)
        begin = prefix + after_text(after)
        names = ((key[len(prefix) :].decode(), None) for key, _ in self._from(begin, prefix))
        return self._names(names, limit, live_only)

    def names_in(
        self, namespace_id: str, after: str = "", limit: int = PAGE, *, live_only: bool = True
    ) -> Page[str]:
        """The names of a namespace; live only: neither lapsed nor revoked."""
        prefix = schema.name_key(f".{namespace_id}")
        begin = prefix + after_text(after.partition(".")[0])
        names = ((schema.name_of_key(key), row) for key, row in self._from(begin, prefix))
        return self._names(names, limit, live_only)

    def _names(
        self, names: Iterable[tuple[str, bytes | None]], limit: int, live_only: bool
    ) -> Page[str]:
        entries: list[str] = []
        namespace_of = cache(self.namespace)
        walked, last = 0, ""
        for name, row in names:
            if len(entries) == limit or walked == schema.PAGE_ROWS:
                return Page(tuple(entries), last)
            walked, last = walked + 1, name
            if not live_only or self._is_live(name, row, namespace_of):
                entries.append(name)
        return Page(tuple(entries), "")

    def _is_live(self, name: str, row: bytes | None, namespace_of: "_NamespaceOf") -> bool:
        """Whether a name, whose row is at hand or not, is neither lapsed nor revoked."""
        record = self.name(name) if row is None else schema.NAME_ROW.read(row)
        if record is None:
            return False
        namespace = namespace_of(name.partition(".")[2])
        return status_at(record, namespace, self.network, self.height).phase in _PRESENT

    def names(self, after: str = "", limit: int = PAGE, *, live_only: bool = True) -> Page[str]:
        """The names of all namespaces, one namespace after the other; live only: as above."""
        begin = schema.name_key(after) + b"\0" if after else b"N"
        names = ((schema.name_of_key(key), row) for key, row in self._from(begin, b"N"))
        return self._names(names, limit, live_only)

    def standings(self) -> Iterator[tuple[NameRecord, NameStatus]]:
        """Every name and what it means at this height. Walks the whole table."""
        namespace_of = cache(self.namespace)
        for _, row in self.scan(b"N"):
            record = schema.NAME_ROW.read(row)
            namespace = namespace_of(record.name.partition(".")[2])
            yield record, status_at(record, namespace, self.network, self.height)

    def namespaces(self, after: str = "", limit: int = PAGE) -> Page[str]:
        """Every namespace that was ever revealed."""
        found = list(islice(self._from(b"S" + after_text(after), b"S"), limit + 1))
        entries = tuple(key[1:].decode() for key, _ in found)
        return Page(entries[:limit], entries[limit - 1] if len(entries) > limit else "")

    def holders(self, digest: bytes, limit: int = PAGE) -> tuple[Holder, ...]:
        """The names that hold a value hash, then those that held it and until when."""
        present = (Holder(name, None) for name in self._holding(digest))
        held = schema.past_value_prefix(digest)
        past = (
            Holder(key[len(held) : -9].decode(), schema.place_of_key(key)[0])
            for key, _ in self.scan(held)
        )
        return (*islice(present, limit), *islice(past, limit))

    def _from(self, begin: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._rows.between(begin, end_of(prefix))

    def _after(self, prefix: bytes, place: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._from(prefix + place, prefix)


def _state(key: bytes, row: bytes) -> State:
    height, vtxindex = schema.place_of_key(key)
    return State(height, vtxindex, schema.NAME_ROW.read(row))
