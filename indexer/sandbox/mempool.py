"""Transactions that wait for a block of the sandbox.

What must stay true: everything in here could be mined in the order in which it stands;
no two entries spend the same output, so a replacement (BIP 125) drops what it replaces together
with all that built upon it; the size is bounded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from indexer.bitcoin.transactions import Transaction, double_sha256, hash_hex, is_coinbase_input
from indexer.bitcoin.witness import virtual_size
from indexer.sandbox.coins import (
    Coin,
    CoinSet,
    Outpoint,
    check_amounts,
    check_scripts,
    sequence_locks_hold,
    spent_by,
)
from indexer.sandbox.policy import (
    MAX_DATACARRIER,
    MIN_RELAY_FEE,
    RPC_MISSING_INPUTS,
    Rejected,
    check_standard,
    check_transaction,
    is_final,
    refuse,
)
from indexer.sandbox.switches import Switches

MAX_VERIFIED = 200_000
MAX_ANCESTORS = 25
MAX_BYTES = 64_000_000
MAX_REPLACEABLE_SEQUENCE = 0xFFFFFFFD
MAX_REPLACED = 100
INCREMENTAL_FEE = 1000
"""Satoshis for 1000 bytes that a replacement pays beyond what it replaces (BIP 125, rule 4)."""


@dataclass(frozen=True, slots=True)
class MempoolEntry:
    """A waiting transaction: its bytes, its fee in satoshis, when and at which height it came."""

    transaction: Transaction
    raw: bytes
    fee: int
    time: int
    height: int
    size: int
    """In virtual bytes."""


class Mempool:
    """The waiting transactions in an order in which they can be mined."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._entries: dict[bytes, MempoolEntry] = {}
        self._spenders: dict[Outpoint, bytes] = {}
        self.bytes = 0
        self.verified: set[bytes] = set()
        """Hashes (wtxids) of what was found to be rightly signed: they cover what is spent, too."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, txid: bytes) -> bool:
        return txid in self._entries

    def __iter__(self) -> Iterator[MempoolEntry]:
        return iter(self._entries.values())

    def get(self, txid: bytes) -> MempoolEntry | None:
        """The entry of a txid."""
        return self._entries.get(txid)

    def spender(self, outpoint: Outpoint) -> bytes | None:
        """The txid of the entry that spends ``outpoint``."""
        return self._spenders.get(outpoint)

    def coin(self, outpoint: Outpoint, height: int) -> Coin | None:
        """The output of an entry as a coin of the block to come at ``height``."""
        entry = self._entries.get(outpoint[0])
        if entry is None or outpoint[1] >= len(entry.transaction.outputs):
            return None
        value, script = entry.transaction.outputs[outpoint[1]]
        return None if script[:1] == b"\x6a" else Coin(value, script, height, False)

    def accept(
        self,
        transaction: Transaction,
        raw: bytes,
        coins: CoinSet,
        *,
        height: int,
        now: int,
        median_time_at: Callable[[int], int],
        returning: bool = False,
        max_fee_per_kb: int | None = None,
    ) -> None:
        """Take a transaction that could be in the block at ``height``; raises Rejected.

        ``returning`` lifts the limits of relay for one that was mined before, which replaces
        nothing.
        """
        check_transaction(transaction)
        size = virtual_size(raw)
        if is_coinbase_input(transaction.inputs[0]):
            raise refuse("coinbase")
        if not returning:
            check_standard(transaction, size, self._datacarrier_bytes)
        if not is_final(transaction, height, median_time_at(height - 1)):
            raise refuse("non-final")
        outpoints = [(i.previous_txid, i.previous_index) for i in transaction.inputs]
        rivals = self._rivals(outpoints)
        if any(returning or not _is_replaceable(rival) for rival in rivals):
            raise refuse("txn-mempool-conflict")
        spent = spent_by(transaction, lambda o: coins.get(o) or self.coin(o, height))
        if not sequence_locks_hold(transaction, spent, height, median_time_at):
            raise refuse("non-BIP68-final")
        fee = check_amounts(transaction, spent, height)
        if not returning:
            needed = -(-size * MIN_RELAY_FEE // 1000)
            if fee < needed:
                raise refuse(f"min relay fee not met, {fee} < {needed}")
            if len(self.ancestors(transaction)) >= MAX_ANCESTORS:
                raise refuse(
                    "too-long-mempool-chain, too many unconfirmed ancestors "
                    f"[limit: {MAX_ANCESTORS}]"
                )
            if self.bytes + len(raw) > MAX_BYTES:
                raise refuse("mempool full")
        if rivals:
            self._check_replacement(transaction, size, fee, rivals)
        shown = double_sha256(raw)  # a txid tells nothing of the witness
        if shown not in self.verified:
            check_scripts(transaction, raw, spent)
        if max_fee_per_kb is not None and fee * 1000 > max_fee_per_kb * size:
            raise Rejected(
                RPC_MISSING_INPUTS,
                "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
            )
        if len(self.verified) >= MAX_VERIFIED:
            self.verified.clear()
        self.verified.add(shown)
        entry = MempoolEntry(transaction, raw, fee, now, height - 1, size)
        for rival in rivals:
            self.drop(rival.transaction.txid)
        self._entries[transaction.txid] = entry
        self._spenders.update(dict.fromkeys(outpoints, transaction.txid))
        self.bytes += len(raw)

    @property
    def _datacarrier_bytes(self) -> int:
        switched = self._switches.max_datacarrier
        return MAX_DATACARRIER if switched is None else switched

    def _rivals(self, outpoints: Iterable[Outpoint]) -> list[MempoolEntry]:
        """The entries that spend one of these outputs, each once."""
        txids = dict.fromkeys(self._spenders[o] for o in outpoints if o in self._spenders)
        return [self._entries[txid] for txid in txids]

    def _check_replacement(
        self, transaction: Transaction, size: int, fee: int, rivals: Sequence[MempoolEntry]
    ) -> None:
        """Rules 2 to 5 of BIP 125; raises Rejected in Core's words."""
        wanted = hash_hex(transaction.txid)
        doomed = self._with_descendants(rival.transaction.txid for rival in rivals)
        if len(doomed) > MAX_REPLACED:
            raise refuse(
                f"too many potential replacements, rejecting replacement {wanted}; too many "
                f"potential replacements ({len(doomed)} > {MAX_REPLACED})"
            )
        known = {spent.previous_txid for rival in rivals for spent in rival.transaction.inputs}
        for spending in transaction.inputs:
            if spending.previous_txid in doomed:
                raise refuse(f"bad-txns-spends-conflicting-tx, {wanted} spends conflicting tx")
            if spending.previous_txid in self._entries and spending.previous_txid not in known:
                raise refuse(
                    f"replacement-adds-unconfirmed, replacement {wanted} adds unconfirmed input"
                )
        reason = f"insufficient fee, rejecting replacement {wanted}"
        for rival in rivals:
            if fee * rival.size <= rival.fee * size:
                rates = f"{_rate(fee, size)} <= old feerate {_rate(rival.fee, rival.size)}"
                raise refuse(f"{reason}; new feerate {rates}")
        replaced = sum(self._entries[txid].fee for txid in doomed)
        if fee < replaced:
            paid = f"{fee / 1e8:.8f} < {replaced / 1e8:.8f}"
            raise refuse(f"{reason}, less fees than conflicting txs; {paid}")
        needed = -(-size * INCREMENTAL_FEE // 1000)
        if fee - replaced < needed:
            paid = f"{(fee - replaced) / 1e8:.8f} < {needed / 1e8:.8f}"
            raise refuse(f"{reason}, not enough additional fees to relay; {paid}")

    def is_replaceable(self, entry: MempoolEntry) -> bool:
        """Whether the entry, or one that it builds upon, says that it may be replaced."""
        ancestors = (self._entries[txid] for txid in self.ancestors(entry.transaction))
        return _is_replaceable(entry) or any(map(_is_replaceable, ancestors))

    def ancestors(self, transaction: Transaction) -> set[bytes]:
        """The txids of all waiting transactions that this one builds upon."""
        found: set[bytes] = set()
        waiting = [transaction]
        while waiting:
            for spending in waiting.pop().inputs:
                entry = self._entries.get(spending.previous_txid)
                if entry is not None and spending.previous_txid not in found:
                    found.add(spending.previous_txid)
                    waiting.append(entry.transaction)
        return found

    def children(self, transaction: Transaction) -> list[bytes]:
        """The txids of the entries that spend outputs of ``transaction``."""
        places = ((transaction.txid, index) for index in range(len(transaction.outputs)))
        return list(dict.fromkeys(self._spenders[p] for p in places if p in self._spenders))

    def with_descendants(self, entry: MempoolEntry) -> list[MempoolEntry]:
        """The entry and all that build upon it."""
        return [self._entries[txid] for txid in self._with_descendants([entry.transaction.txid])]

    def forget_mined(self, transactions: Iterable[Transaction]) -> None:
        """Drop what a block took, and whatever the block made impossible."""
        for transaction in transactions:
            self._drop(transaction.txid)
            for spending in transaction.inputs:
                rival = self._spenders.get((spending.previous_txid, spending.previous_index))
                if rival is not None:
                    self.drop(rival)

    def take_all(self) -> list[MempoolEntry]:
        """Empty the mempool, handing over what was in it."""
        entries = list(self._entries.values())
        self._entries.clear()
        self._spenders.clear()
        self.bytes = 0
        return entries

    def drop(self, txid: bytes) -> None:
        """Forget a waiting transaction and all that builds upon it, as a full mempool does."""
        for doomed in self._with_descendants([txid]):
            self._drop(doomed)

    def _with_descendants(self, txids: Iterable[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        waiting = list(txids)
        while waiting:
            entry = self._entries.get(waiting.pop())
            if entry is not None and entry.transaction.txid not in found:
                found.add(entry.transaction.txid)
                waiting += self.children(entry.transaction)
        return found

    def _drop(self, txid: bytes) -> None:
        entry = self._entries.pop(txid, None)
        if entry is None:
            return
        self.bytes -= len(entry.raw)
        for spending in entry.transaction.inputs:
            self._spenders.pop((spending.previous_txid, spending.previous_index), None)


def _is_replaceable(entry: MempoolEntry) -> bool:
    return any(i.sequence <= MAX_REPLACEABLE_SEQUENCE for i in entry.transaction.inputs)


def _rate(fee: int, size: int) -> str:
    return f"{fee * 1000 // size / 1e8:.8f} BTC/kvB"
