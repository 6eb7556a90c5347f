"""The name table as seen part-way through one block.

Reads fall through to the store; writes stay here, with the bytes each key held before the block,
so that the block can be taken back. Nothing here judges: what may be written is for ``rules``.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Protocol, TypeVar

from indexer.bitcoin.transactions import script_address
from indexer.networks import CONSENSUS_WINDOW, Epoch, Network
from indexer.protocol import schema
from indexer.protocol.names import hash128
from indexer.protocol.records import NameRecord, NamespaceRecord, PreorderRecord
from indexer.protocol.rows import RowOf

T = TypeVar("T")


class Store(Protocol):
    """What the view asks of the database: the rows as they were before the block."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """All rows whose key begins with ``prefix``, in the order of their keys."""
        ...


@lru_cache(maxsize=16)  # a namespace is filled by thousands of imports in a row
def _keys_of_keyring(row: bytes) -> frozenset[bytes]:
    return frozenset(row[at : at + 20] for at in range(4, len(row), 20))


class BlockView:
    """The table while the operations of block ``height`` take effect one after the other."""

    def __init__(self, store: Store, network: Network, height: int) -> None:
        self._store = store
        self.network = network
        self.height = height
        self.writes: dict[bytes, bytes | None] = {}
        self._before: dict[bytes, bytes | None] = {}  # what was read of the store, row by row
        self._decoded: dict[bytes, object] = {}
        self._entries: dict[bytes, set[bytes]] = {}
        self.registered: Counter[bytes] = Counter()
        """Registrations accepted in this block, by the new owner's script (spec section 1.6)."""
        self.preorders_seen: set[bytes] = set()
        """Preorder hashes accepted in this block."""
        self.claimed: set[str] = set()
        """Names and namespaces that no registration or reveal can have in this block any more."""
        self.touched: set[str] = set()
        """Names whose records changed."""

    @property
    def last(self) -> int:
        """The last block already processed (L in the spec)."""
        return self.height - 1

    @cached_property
    def epoch(self) -> Epoch:
        """The rules of this block."""
        return self.network.epoch(self.height)

    # --- rows

    def get(self, key: bytes) -> bytes | None:
        """The row under ``key`` as it is now."""
        if key in self.writes:
            return self.writes[key]
        return self._stored(key)

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """All rows whose key begins with ``prefix`` as they are now, in the order of their keys.

        So a view is a ``Store`` itself, to the block that would come after it.
        """
        rows = {key: row for key, row in self._store.scan(prefix) if key not in self.writes}
        rows |= {
            key: row
            for key, row in self.writes.items()
            if row is not None and key.startswith(prefix)
        }
        return sorted(rows.items())

    def _stored(self, key: bytes) -> bytes | None:
        if key not in self._before:
            self._before[key] = self._store.get(key)
        return self._before[key]

    def put(self, key: bytes, row: bytes | None) -> None:
        """Write a row, or with None remove it."""
        self._stored(key)
        self.writes[key] = row

    def _put_new(self, key: bytes, row: bytes | None) -> None:
        """Write a row that the store cannot have: its key says this height, or a new name."""
        self._before[key] = None
        self.writes[key] = row

    def undo(self) -> list[tuple[bytes, bytes | None]]:
        """Every key written, in order, with what it held before the block."""
        return [(key, self._before[key]) for key in sorted(self.writes)]

    def _read(self, key: bytes, rows: RowOf[T]) -> T | None:
        if key in self._decoded:
            return self._decoded[key]  # type: ignore[return-value]
        row = self.get(key)
        record = None if row is None else rows.read(row)
        self._decoded[key] = record
        return record

    def _write(self, key: bytes, rows: RowOf[T], record: T | None) -> None:
        self.put(key, None if record is None else rows.write(record))
        self._decoded[key] = record

    def _put_entry(self, prefix: bytes, suffix: bytes, present: bool) -> None:
        # Entries say what the records say, so the store has what is removed, and not what is added.
        key = prefix + suffix
        self._before.setdefault(key, None if present else b"")
        self.writes[key] = b"" if present else None
        self._entries.setdefault(prefix, set()).add(suffix)

    def _suffixes(self, prefix: bytes) -> list[bytes]:
        size = len(prefix)
        suffixes = [key[size:] for key, _ in self._store.scan(prefix)]
        changed = self._entries.get(prefix)
        if changed is None:
            return suffixes
        kept = [suffix for suffix in suffixes if suffix not in changed]
        return kept + [s for s in sorted(changed) if self.writes[prefix + s] is not None]

    # --- records

    def name(self, name: str) -> NameRecord | None:
        """The record of a name, live or not."""
        return self._read(schema.name_key(name), schema.NAME_ROW)

    def namespace(self, namespace_id: str) -> NamespaceRecord | None:
        """The record of a namespace, revealed, ready or lapsed."""
        return self._read(schema.namespace_key(namespace_id), schema.NAMESPACE_ROW)

    def namespace_of(self, record: NameRecord) -> NamespaceRecord | None:
        """The namespace a name lies in."""
        return self.namespace(record.name.partition(".")[2])

    def preorder(self, preorder_hash: bytes) -> PreorderRecord | None:
        """The outstanding preorder of a name."""
        return self.preorder_under(schema.preorder_key(preorder_hash))

    def namespace_preorder(self, preorder_hash: bytes) -> PreorderRecord | None:
        """The outstanding preorder of a namespace."""
        return self.preorder_under(schema.namespace_preorder_key(preorder_hash))

    def preorder_under(self, key: bytes) -> PreorderRecord | None:
        """The outstanding preorder in the row under ``key``."""
        return self._read(key, schema.PREORDER_ROW)

    def name_preordered_as(self, preorder_hash: bytes) -> NameRecord | None:
        """The name whose record carries this preorder hash."""
        row = self.get(schema.preordered_name_key(preorder_hash))
        record = None if row is None else self.name(row.decode())
        return record if record is not None and record.preorder_hash == preorder_hash else None

    def namespace_preordered_as(self, preorder_hash: bytes) -> NamespaceRecord | None:
        """The namespace whose record carries this preorder hash."""
        row = self.get(schema.preordered_namespace_key(preorder_hash))
        record = None if row is None else self.namespace(row.decode())
        return record if record is not None and record.preorder_hash == preorder_hash else None

    def name_of_hash128(self, hash128: bytes) -> NameRecord | None:
        """The name with this hash, live or not."""
        row = self.get(schema.hash128_key(hash128))
        return None if row is None else self.name(row.decode())

    def is_live(self, record: NameRecord, height: int) -> bool:
        """Whether the name is live at ``height`` (U in the spec)."""
        return record.live_at(height, self.namespace_of(record), self.network)

    def held(self, script: bytes, bound: int) -> list[str]:
        """The names whose records say ``script``; where they are more than ``bound``, only those
        that count: so ``script`` owns at most ``bound`` names exactly when no more are returned.
        """
        names = [suffix.decode() for suffix in self._suffixes(schema.owner_prefix(script))]
        if len(names) <= bound:
            return names  # nearly always, and without reading a single record
        return [name for name in names if self.is_owned(self.name(name))]

    def is_owned(self, record: NameRecord | None) -> bool:
        """Whether the name is somebody's: live at L and not revoked."""
        return record is not None and not record.revoked and self.is_live(record, self.last)

    def keyring(self, namespace: NamespaceRecord) -> frozenset[bytes] | None:
        """The hash160 of each import key of a revealed namespace; None before its first import."""
        row = self.get(schema.keyring_key(namespace.namespace_id))
        if row is None or row[:4] != schema.height_bytes(namespace.reveal_block):
            return None  # the keys of an earlier reveal, which has lapsed
        return _keys_of_keyring(row)

    # --- consensus hashes

    def consensus_hash(self, height: int) -> bytes | None:
        """The consensus hash of an earlier block, the network's constants included."""
        row = self._store.get(schema.hashes_key(height))
        return self.network.genesis_consensus.get(height) if row is None else row[32:]

    @cached_property
    def window(self) -> tuple[bytes, ...]:
        """The consensus hashes that an operation here may name, oldest first, each once."""
        heights = range(self.height - CONSENSUS_WINDOW, self.height)
        hashes = (self.consensus_hash(height) for height in heights if height >= 0)
        return tuple(dict.fromkeys(h for h in hashes if h is not None))

    def address(self, script: bytes) -> str:
        """The base58check address of a p2pkh or p2sh script on this network."""
        address = script_address(script, self.network)
        assert address is not None, "only p2pkh and p2sh scripts reach the rules"
        return address

    # --- what an accepted operation writes

    def put_name(self, record: NameRecord, vtxindex: int) -> None:
        """Make ``record`` the state of its name, in the table, its indexes and its history."""
        encoded = record.name.encode()
        old = self.name(record.name)
        if old is None:
            self._count_name()
            self._put_new(schema.hash128_key(hash128(record.name)), encoded)
        if old is not None and old.sender != record.sender:
            self._put_entry(schema.owner_prefix(old.sender), encoded, False)
        if old is None or old.sender != record.sender:
            self._put_entry(schema.owner_prefix(record.sender), encoded, True)
        old_value = None if old is None else old.value_hash
        if old_value != record.value_hash:
            if old_value is not None:
                self._put_entry(schema.value_prefix(old_value), encoded, False)
            if record.value_hash is not None:
                self._put_entry(schema.value_prefix(record.value_hash), encoded, True)
        if old is None or old.preorder_hash != record.preorder_hash:
            self.put(schema.preordered_name_key(record.preorder_hash), encoded)
        key = schema.name_key(record.name)
        self._write(key, schema.NAME_ROW, record)
        self._put_new(schema.history_key(record.name, self.height, vtxindex), self.writes[key])
        self.touched.add(record.name)

    def note_creation(self, record: NameRecord, vtxindex: int) -> None:
        """Number a name that was registered or imported anew among those of its owner's script."""
        row = self.get(schema.creations_key(record.sender))
        number = 0 if row is None else int.from_bytes(row, "big")
        self.put(schema.creations_key(record.sender), schema.height_bytes(number + 1))
        place = schema.height_bytes(self.height) + schema.height_bytes(vtxindex)
        entry = place + record.name.encode()
        self._put_new(schema.creation_key(record.sender, number), entry)

    def put_namespace(self, record: NamespaceRecord) -> None:
        """Make ``record`` the state of its namespace."""
        encoded = record.namespace_id.encode()
        self.put(schema.preordered_namespace_key(record.preorder_hash), encoded)
        self._write(schema.namespace_key(record.namespace_id), schema.NAMESPACE_ROW, record)

    def put_preorder(self, record: PreorderRecord) -> None:
        """Remember an outstanding preorder; where one with its hash stands, the first stays."""
        key_of = schema.preorder_key if record.op == "?" else schema.namespace_preorder_key
        key = key_of(record.preorder_hash)
        if self.get(key) is None:
            self._write(key, schema.PREORDER_ROW, record)
        self.preorders_seen.add(key)

    def spend_preorder(self, key: bytes) -> None:
        """Forget a preorder that was used."""
        self._write(key, schema.PREORDER_ROW, None)

    def put_keyring(self, namespace: NamespaceRecord, keys: Iterable[bytes]) -> None:
        """Remember the import keys of a namespace, as hash160 of each."""
        row = schema.height_bytes(namespace.reveal_block) + b"".join(sorted(keys))
        self.put(schema.keyring_key(namespace.namespace_id), row)

    def _count_name(self) -> None:
        row = self.get(schema.NAME_COUNT_KEY)
        count = 0 if row is None else int.from_bytes(row, "big")
        self.put(schema.NAME_COUNT_KEY, (count + 1).to_bytes(8, "big"))
