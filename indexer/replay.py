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

from indexer.apply import Outcome, SpentCandidate, apply_block
from indexer.networks import Epoch, Network
from indexer.transactions import Candidate, CorruptTransaction, parse_transaction


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
        document = json.loads(path.read_text("utf-8"))
        network = _network(path.stem, document["params"])
        blocks = tuple(_block(block) for block in document["blocks"])
    except OSError as error:
        raise BadChainFile(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, CorruptTransaction) as error:
        kind = f"{type(error).__name__}: {error}"
        raise BadChainFile(f"{path} is not a recorded chain ({kind})") from error
    return RecordedChain(network, blocks)


def replay(chain: RecordedChain, store: MemoryStore) -> Iterator[tuple[RecordedBlock, Outcome]]:
    """Apply the blocks one after the other to ``store``, each with its outcome."""
    for block in chain.blocks:
        header = bytes(80)  # a recorded chain has no headers
        outcome = apply_block(store, chain.network, block.height, header, block.spent)
        store.write(outcome.rows)
        yield block, outcome


def _network(name: str, params: dict[str, Any]) -> Network:
    epochs = tuple(_epoch(number, row) for number, row in enumerate(params["epochs"], start=1))
    return Network(
        name=name,
        node_chain="regtest",
        genesis_hash="",
        magic=params["magic"].encode("ascii"),
        first_block=params["first_block"],
        p2pkh_version=params["p2pkh_version"],
        p2sh_version=params["p2sh_version"],
        epochs=epochs,
        confirmations=1,
        import_keyring_size=params["import_keyring_size"],
        namespace_reveal_expire=params["namespace_reveal_expire"],
        announcers=tuple(params.get("announcers", ())),
    )


def _epoch(number: int, row: dict[str, Any]) -> Epoch:
    third = number >= 3
    return Epoch(
        number=number,
        last_block=row["last_block"],
        lifetime_multiplier=row["lifetime_multiplier"],
        grace_period=row["grace_period"],
        multisig=row["multisig"],
        name_price_factor=row["name_price_factor"],
        namespace_price_divisor=row["namespace_price_divisor"],
        value_hash_at_registration=third,
        transfer_at_renewal=third,
        pay_to_creator=third,
    )


def _block(block: dict[str, Any]) -> RecordedBlock:
    return RecordedBlock(
        height=block["height"],
        spent=tuple(_spent(tx) for tx in block["txs"]),
        accepted=tuple(bool(tx["accepted"]) for tx in block["txs"]),
        serialized=tuple(block["serialized_ops"]),
        ops_hash=bytes.fromhex(block["ops_hash"]),
        consensus_hash=bytes.fromhex(block["consensus_hash"]),
    )


def _spent(tx: dict[str, Any]) -> SpentCandidate:
    transaction = parse_transaction(bytes.fromhex(tx["raw"]))
    scripts = tuple(bytes.fromhex(script) for script in tx["spent_scripts"])
    return SpentCandidate(Candidate(tx["vtxindex"], transaction), scripts)
