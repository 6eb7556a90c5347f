"""Recorded chains through the same ``apply_block`` as real blocks.

A chain file is JSON: the parameters of a network, and block by block the transactions that carry
operations, raw and with the scripts they spend (the format of the original's recorded regtest
chains). What it records of the outcome, where it does, is kept for comparing.
"""

import json
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.transactions import CorruptTransaction, hash_hex, parse_transaction
from indexer.networks import Epoch, Network
from indexer.protocol.apply import Outcome, SpentCandidate, apply_block

MAX_FILE_BYTES = 256 * 1024 * 1024
_MAX_HEIGHT = 2**32 - 2

Json = dict[str, Any]


class BadChainFile(ValueError):
    """A file that is no recorded chain; ``str()`` of it says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class RecordedBlock:
    """One block of a chain file."""

    height: int
    spent: tuple[SpentCandidate, ...]
    accepted: tuple[bool, ...]
    serialized: tuple[str, ...]
    ops_hash: bytes
    consensus_hash: bytes


@dataclass(frozen=True, slots=True)
class RecordedChain:
    """A whole chain file."""

    network: Network
    blocks: tuple[RecordedBlock, ...]


class MemoryStore:
    """Rows in memory, asked as the database is asked; for tables that need not last."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self._keys: dict[bytes, list[bytes]] = {}  # in order, by their first letter

    def get(self, key: bytes, /) -> bytes | None:
        """The row under ``key``."""
        return self.rows.get(key)

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All rows under ``prefix``, which is not empty, in the order of their keys."""
        keys = self._keys.get(prefix[:1], [])
        found = []
        for at in range(bisect_left(keys, prefix), len(keys)):
            if not keys[at].startswith(prefix):
                break
            found.append((keys[at], self.rows[keys[at]]))
        return found

    def between(
        self, start: bytes, stop: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As ``snapshot.Rows``; both keys begin with the same letter, or one with the next."""
        keys = self._keys.get(start[:1], [])
        within = range(bisect_left(keys, start), bisect_left(keys, stop))
        for at in reversed(within) if reverse else within:
            yield keys[at], self.rows[keys[at]]

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Write and remove rows, as one block does."""
        for key, row in rows.items():
            keys = self._keys.setdefault(key[:1], [])
            if row is None:
                if self.rows.pop(key, None) is not None:
                    del keys[bisect_left(keys, key)]
                continue
            if key not in self.rows:
                insort(keys, key)
            self.rows[key] = row


def read_chain(path: Path) -> RecordedChain:
    """The chain recorded in ``path``. Raises ``BadChainFile``."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadChainFile(f"cannot read {path}: {error.strerror}") from error
    if len(text) > MAX_FILE_BYTES:
        raise BadChainFile(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        document = _object(json.loads(text.decode("utf-8")), "the file")
        network = _network(path.stem, _object(_member(document, "params"), "params"))
        blocks = tuple(
            _block(_object(block, "a block"), height)
            for height, block in enumerate(_list(document, "blocks"), start=network.first_block)
        )
    except RecursionError as error:
        raise BadChainFile(f"{path} is not a recorded chain: it is nested too deep") from error
    except (ValueError, CorruptTransaction) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadChainFile(f"{path} is not a recorded chain: {reason}") from error
    return RecordedChain(network, blocks)


def replay(chain: RecordedChain, store: MemoryStore) -> Iterator[tuple[RecordedBlock, Outcome]]:
    """Apply the blocks one after the other to ``store``, each with its outcome."""
    for block in chain.blocks:
        header = bytes(80)  # a recorded chain has no headers
        outcome = apply_block(store, chain.network, block.height, header, block.spent)
        store.write(outcome.rows)
        yield block, outcome


def _network(name: str, params: Json) -> Network:
    magic = _text(params, "magic")
    if len(magic) != 2 or not magic.isascii():
        raise ValueError("magic is not two ASCII characters")
    rows = _list(params, "epochs")
    if not rows:
        raise ValueError("there are no epochs")
    epochs = (_epoch(number, _object(row, "an epoch")) for number, row in enumerate(rows, start=1))
    return Network(
        name=name,
        node_chain="regtest",
        genesis_hash="",
        magic=magic.encode("ascii"),
        first_block=_number(params, "first_block", 0, _MAX_HEIGHT),
        p2pkh_version=_number(params, "p2pkh_version", 0, 255),
        p2sh_version=_number(params, "p2sh_version", 0, 255),
        epochs=tuple(epochs),
        confirmations=1,
        import_keyring_size=_number(params, "import_keyring_size", 0, 10_000),
        namespace_reveal_expire=_number(params, "namespace_reveal_expire", 0, _MAX_HEIGHT),
        announcers=tuple(str(one) for one in _list({"announcers": [], **params}, "announcers")),
    )


def _epoch(number: int, row: Json) -> Epoch:
    third, fourth = number >= 3, number >= 4
    factor = _member(row, "name_price_factor")
    if type(factor) not in (int, float) or not 0 <= factor <= 1e6:
        raise ValueError("name_price_factor is not a number from 0 to a million")
    last = None if row.get("last_block") is None else _number(row, "last_block", 0, _MAX_HEIGHT)
    return Epoch(
        number=number,
        last_block=last,
        lifetime_multiplier=_number(row, "lifetime_multiplier", 0, 1000),
        grace_period=_number(row, "grace_period", 0, _MAX_HEIGHT),
        multisig=bool(_member(row, "multisig")),
        name_price_factor=factor,
        namespace_price_divisor=_number(row, "namespace_price_divisor", 1, 10**12),
        value_hash_at_registration=third,
        transfer_at_renewal=third,
        pay_to_creator=third,
        preorder_expiry_enforced=fourth,
        second_ledger=fourth,
    )


def _block(block: Json, height: int) -> RecordedBlock:
    if _number(block, "height", 0, _MAX_HEIGHT) != height:
        raise ValueError(f"block {height} is missing, or not in its place")
    transactions = [_object(tx, "a transaction") for tx in _list(block, "txs")]
    return RecordedBlock(
        height=height,
        spent=tuple(_spent(tx) for tx in transactions),
        accepted=tuple(bool(_member(tx, "accepted")) for tx in transactions),
        serialized=tuple(str(text) for text in _list(block, "serialized_ops")),
        ops_hash=_digest(block, "ops_hash", 32),
        consensus_hash=_digest(block, "consensus_hash", 16),
    )


def _spent(tx: Json) -> SpentCandidate:
    transaction = parse_transaction(bytes.fromhex(_text(tx, "raw")))
    if "txid" in tx and hash_hex(transaction.txid) != tx["txid"]:
        raise ValueError(f"transaction {str(tx['txid'])[:64]} has another txid")
    scripts = tuple(bytes.fromhex(str(script)) for script in _list(tx, "spent_scripts"))
    vtxindex = _number(tx, "vtxindex", 0, _MAX_HEIGHT)
    return SpentCandidate(Candidate(vtxindex, transaction), scripts)


# --- what stands in a member of the file; each raises ``ValueError`` with its name


def _member(row: Json, name: str) -> Any:
    if name not in row:
        raise ValueError(f"{name} is missing")
    return row[name]


def _object(value: Any, what: str) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    return value


def _list(row: Json, name: str) -> list[Any]:
    value = _member(row, name)
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


def _text(row: Json, name: str) -> str:
    value = _member(row, name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    return value


def _number(row: Json, name: str, low: int, high: int) -> int:
    value = _member(row, name)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is not a whole number from {low} to {high}")
    return value


def _digest(row: Json, name: str, size: int) -> bytes:
    digest = bytes.fromhex(_text(row, name))
    if len(digest) != size:
        raise ValueError(f"{name} does not have {size} bytes")
    return digest
