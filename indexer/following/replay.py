"""Recorded chains through the same ``apply_block`` as real blocks.

A chain file is JSON: the parameters of a network, and block by block the transactions that carry
operations, raw and with the scripts they spend (the format of the original's recorded regtest
chains). What it records of the outcome, where it does, is kept for comparing.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.transactions import CorruptTransaction, hash_hex, parse_transaction
from indexer.networks import Epoch, Network
from indexer.protocol.apply import Outcome, SpentCandidate, apply_block

MAX_FILE_BYTES = 256 * 1024 * 1024
_MAX_HEIGHT = 2**32 - 2

Height = Annotated[int, Field(ge=0, le=_MAX_HEIGHT)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, val_json_bytes="hex")


class _Epoch(_Model):
    last_block: Height | None = None
    lifetime_multiplier: int = Field(ge=0, le=1000)
    grace_period: Height
    multisig: bool
    name_price_factor: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    namespace_price_divisor: int = Field(ge=1, le=10**12)


class _Params(_Model):
    magic: str = Field(pattern=r"\A[\x00-\x7f]{2}\z")
    first_block: Height
    p2pkh_version: int = Field(ge=0, le=255)
    p2sh_version: int = Field(ge=0, le=255)
    epochs: list[_Epoch] = Field(min_length=1)
    import_keyring_size: int = Field(ge=0, le=10_000)
    namespace_reveal_expire: Height
    announcers: list[str] = []


class _Transaction(_Model):
    raw: bytes
    txid: str | None = None
    vtxindex: Height
    spent_scripts: list[bytes]
    accepted: bool


class _Block(_Model):
    height: Height
    txs: list[_Transaction]
    serialized_ops: list[str]
    ops_hash: bytes = Field(min_length=32, max_length=32)
    consensus_hash: bytes = Field(min_length=16, max_length=16)


class _File(_Model):
    params: _Params
    blocks: list[_Block]


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
        chain = _File.model_validate_json(text)
        network = _network(path.stem, chain.params)
        numbered = enumerate(chain.blocks, start=network.first_block)
        return RecordedChain(network, tuple(_block(block, height) for height, block in numbered))
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, CorruptTransaction) as error:
        reason = str(error)
    raise BadChainFile(f"{path} is not a recorded chain: {' '.join(reason.split())[:200]}")


def replay(chain: RecordedChain, store: MemoryStore) -> Iterator[tuple[RecordedBlock, Outcome]]:
    """Apply the blocks one after the other to ``store``, each with its outcome."""
    for block in chain.blocks:
        header = bytes(80)  # a recorded chain has no headers
        outcome = apply_block(store, chain.network, block.height, header, block.spent)
        store.write(outcome.rows)
        yield block, outcome


def _network(name: str, params: _Params) -> Network:
    """Rules that came with an epoch are had from its number (protocol spec section 8.1)."""
    epochs = (
        Epoch(
            number=number,
            value_hash_at_registration=number >= 3,
            transfer_at_renewal=number >= 3,
            pay_to_creator=number >= 3,
            preorder_expiry_enforced=number >= 4,
            second_ledger=number >= 4,
            **row.model_dump(),
        )
        for number, row in enumerate(params.epochs, start=1)
    )
    said = params.model_dump(exclude={"magic", "epochs", "announcers"})
    return Network(
        name=name,
        node_chain="regtest",
        genesis_hash="",
        magic=params.magic.encode("ascii"),
        epochs=tuple(epochs),
        confirmations=1,
        announcers=tuple(params.announcers),
        **said,
    )


def _block(block: _Block, height: int) -> RecordedBlock:
    if block.height != height:
        raise ValueError(f"block {height} is missing, or not in its place")
    return RecordedBlock(
        height=height,
        spent=tuple(map(_spent, block.txs)),
        accepted=tuple(tx.accepted for tx in block.txs),
        serialized=tuple(block.serialized_ops),
        ops_hash=block.ops_hash,
        consensus_hash=block.consensus_hash,
    )


def _spent(tx: _Transaction) -> SpentCandidate:
    transaction = parse_transaction(tx.raw)
    if tx.txid not in (None, hash_hex(transaction.txid)):
        raise ValueError(f"transaction {str(tx.txid)[:64]} has another txid")
    return SpentCandidate(Candidate(tx.vtxindex, transaction), tuple(tx.spent_scripts))
