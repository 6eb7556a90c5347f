"""The chain of the sandbox node: its blocks and forks, its coins and its mempool. No sockets.

What must stay true: the active chain is the valid branch with the most work, the first seen
among equals; every block on it passed every check, mined here or not; coins and mempool
always belong to the tip. Not safe for threads: whoever shares a chain locks it.
"""

from collections.abc import Callable, Sequence

from indexer.bitcoin.blocks import parse_block
from indexer.bitcoin.headers import CorruptBlock
from indexer.bitcoin.transactions import (
    CorruptTransaction,
    Transaction,
    double_sha256,
    parse_transaction,
)
from indexer.sandbox.blocks import (
    GENESIS_BLOCK,
    MAX_BLOCK_SIZE,
    REGTEST_WORK,
    BlockNode,
    BlockRejected,
    coinbase,
    mine,
    place_block,
    raws_of,
    subsidy,
)
from indexer.sandbox.coins import (
    Coin,
    CoinSet,
    Outpoint,
    Unspent,
    check_amounts,
    check_scripts,
    sequence_locks_hold,
    spent_by,
)
from indexer.sandbox.mempool import Mempool, MempoolEntry
from indexer.sandbox.policy import (
    RPC_ALREADY_KNOWN,
    RPC_DESERIALIZATION,
    Rejected,
    refuse,
)
from indexer.sandbox.switches import Switches

COINBASE_ROOM = 1000

BLOCK, TRANSACTION, INVALIDATE, RECONSIDER = b"B", b"T", b"I", b"R"
"""The kinds of record that a chain keeps, and is rebuilt from."""


class SandboxChain:
    """All blocks of one sandbox, the coins of its tip, and what waits to be mined.

    ``clock`` gives unix seconds; ``start_time`` is the time of the block after genesis when
    blocks are mined with a spacing; ``keep`` receives (kind, payload) of everything from which the
    chain can be rebuilt, in order.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        start_time: int | None = None,
        switches: Switches | None = None,
        keep: Callable[[bytes, bytes], None] = lambda kind, payload: None,
    ) -> None:
        self._clock = clock
        self._start_time = start_time
        self.keep = keep
        self._index: dict[bytes, BlockNode] = {}
        self._active: list[BlockNode] = []
        self._where: dict[bytes, BlockNode] = {}
        self.size = len(GENESIS_BLOCK)
        """Bytes of all known blocks."""
        self.coins = CoinSet()
        self.mempool = Mempool(switches or Switches())
        header, transactions = parse_block(GENESIS_BLOCK)
        raws = raws_of(GENESIS_BLOCK, transactions)
        genesis = BlockNode(
            header, GENESIS_BLOCK, transactions, raws, None, 0, REGTEST_WORK, 0, (header.time,)
        )
        self._index[genesis.hash] = genesis
        self._active.append(genesis)  # its coinbase was never spendable and is no coin

    # Questions

    @property
    def tip(self) -> BlockNode:
        """The last block of the active chain."""
        return self._active[-1]

    @property
    def height(self) -> int:
        """The height of the tip."""
        return len(self._active) - 1

    def block(self, block_hash: bytes) -> BlockNode | None:
        """Any known block, on the active chain or not."""
        return self._index.get(block_hash)

    def at_height(self, height: int) -> BlockNode:
        """The block of the active chain; IndexError outside 0 .. height."""
        if height < 0:
            raise IndexError(height)
        return self._active[height]

    def is_active(self, block: BlockNode) -> bool:
        """Whether the block is on the active chain."""
        return block.height < len(self._active) and self._active[block.height] is block

    def find_transaction(self, txid: bytes) -> tuple[Transaction, BlockNode] | None:
        """A transaction of the active chain and its block."""
        block = self._where.get(txid)
        if block is None:
            return None
        return next(t for t in block.transactions if t.txid == txid), block

    def unspent(self, script: bytes) -> list[Unspent]:
        """The unspent outputs that pay to ``script``, oldest first; the mempool is not asked."""
        return sorted(
            self.coins.of_script(script), key=lambda u: (u.height, u.txid, u.output_index)
        )

    def knows(self, txid: bytes) -> bool:
        """Whether a transaction waits, or is in the active chain."""
        return txid in self.mempool or txid in self._where

    def median_time_at(self, height: int) -> int:
        """Median time past of the active block at ``height``."""
        return self._active[height].median_time

    # Transactions

    def submit(self, raw: bytes, *, max_fee_per_kb: int | None = None) -> bytes:
        """Take a transaction into the mempool; its txid. Raises Rejected with Core's code."""
        transaction = self._readable(raw)
        if transaction.txid in self.mempool:
            return transaction.txid
        self._accept(transaction, raw, max_fee_per_kb=max_fee_per_kb)
        self.keep(TRANSACTION, raw)
        return transaction.txid

    def _readable(self, raw: bytes) -> Transaction:
        try:
            transaction = parse_transaction(raw)
        except CorruptTransaction:
            raise Rejected(
                RPC_DESERIALIZATION,
                "TX decode failed. Make sure the tx has at least one input.",
            ) from None
        txid = transaction.txid
        if any(self.coins.get((txid, index)) for index in range(len(transaction.outputs))):
            raise Rejected(RPC_ALREADY_KNOWN, "Transaction outputs already in utxo set")
        return transaction

    def _accept(
        self,
        transaction: Transaction,
        raw: bytes,
        *,
        returning: bool = False,
        max_fee_per_kb: int | None = None,
    ) -> None:
        self.mempool.accept(
            transaction,
            raw,
            self.coins,
            height=self.height + 1,
            now=int(self._clock()),
            median_time_at=self.median_time_at,
            returning=returning,
            max_fee_per_kb=max_fee_per_kb,
        )

    # Blocks

    def generate(self, count: int, script: bytes, spacing: int | None = None) -> list[bytes]:
        """Mine ``count`` blocks on the tip, each with what the mempool holds; their hashes.

        Block times follow the clock, or each other by ``spacing`` seconds when that is given;
        they never go back.
        """
        hashes = []
        for _ in range(count):
            raw = self._assemble(script, self._fitting(), spacing)
            hashes.append(self.accept_block(raw).hash)
        return hashes

    def generate_block(self, script: bytes, txids: Sequence[bytes]) -> bytes:
        """Mine one block with exactly these waiting transactions; KeyError for an unknown one."""
        entries = []
        for txid in txids:
            entry = self.mempool.get(txid)
            if entry is None:
                raise KeyError(txid)
            entries.append(entry)
        return self.accept_block(self._assemble(script, entries, None)).hash

    def _fitting(self) -> list[MempoolEntry]:
        room = MAX_BLOCK_SIZE - COINBASE_ROOM
        chosen: list[MempoolEntry] = []
        left_out: set[bytes] = set()
        for entry in self.mempool:
            parents = {spending.previous_txid for spending in entry.transaction.inputs}
            if len(entry.raw) > room or not left_out.isdisjoint(parents):
                left_out.add(entry.transaction.txid)
                continue
            room -= len(entry.raw)
            chosen.append(entry)
        return chosen

    def _assemble(
        self, script: bytes, entries: Sequence[MempoolEntry], spacing: int | None
    ) -> bytes:
        height = self.height + 1
        value = subsidy(height) + sum(entry.fee for entry in entries)
        raws = [entry.raw for entry in entries]
        first = coinbase(height, len(self._index), value, script, raws)
        return mine(self.tip.hash, self._next_time(spacing), [first, *raws])

    def _next_time(self, spacing: int | None) -> int:
        parent = self.tip
        if spacing is None:
            wanted = max(int(self._clock()), parent.header.time)
        elif parent.previous is None:
            wanted = int(self._clock()) if self._start_time is None else self._start_time
        else:
            wanted = parent.header.time + spacing
        return max(wanted, parent.median_time + 1)

    def accept_block(
        self, raw: bytes, *, trusted: bool = False, now: float | None = None
    ) -> BlockNode:
        """Take a block whose parent is known, and follow it if its branch has the most work.

        ``trusted`` skips signatures, for blocks of our own file that passed before. With
        ``now`` a block from further ahead than two hours is refused. Raises BlockRejected.
        """
        try:
            header, transactions = parse_block(raw)
        except CorruptBlock as flaw:
            raise BlockRejected(str(flaw)) from None
        known = self._index.get(header.hash)
        if known is not None:
            return known
        previous = self._index.get(header.previous_hash)
        if previous is None:
            raise BlockRejected("prev-blk-not-found")
        block = place_block(header, transactions, raw, previous, len(self._index), now)
        self._index[block.hash] = block
        self.size += len(raw)
        self.keep(BLOCK, raw)
        if block.previous is self.tip:
            try:
                self._connect(block, trusted)
            except BlockRejected:
                self._fail(block)
                raise
            self.mempool.forget_mined(transactions)
        elif block.work > self.tip.work:
            self._follow_most_work(trusted)
            if block.failed:
                raise BlockRejected("a block of its branch is invalid")
        return block

    def _connect(self, block: BlockNode, trusted: bool) -> None:
        """Make ``block``, a child of the tip, the tip; BlockRejected, and then nothing changed."""
        undo: list[list[Coin]] = []
        transactions, height = block.transactions, block.height
        allowed = subsidy(height)
        try:
            for place, transaction in enumerate(transactions):
                if place:
                    shown = None if trusted else block.raws[place]
                    allowed += self._check_spending(transaction, height, shown)
                undo.append(self.coins.apply(transaction, height, place == 0))
            if sum(output.value for output in transactions[0].outputs) > allowed:
                raise refuse("bad-cb-amount")
        except Rejected as refusal:
            for transaction, spent in zip(transactions[: len(undo)][::-1], undo[::-1], strict=True):
                self.coins.take_back(transaction, spent)
            raise BlockRejected(refusal.message) from None
        block.undo = undo
        self._active.append(block)
        for transaction in transactions:
            self._where[transaction.txid] = block

    def _check_spending(self, transaction: Transaction, height: int, raw: bytes | None) -> int:
        """``raw``: None for a transaction whose signatures are taken to be good."""
        spent = spent_by(transaction, self.coins.get)
        if not sequence_locks_hold(transaction, spent, height, self.median_time_at):
            raise refuse("bad-txns-nonfinal")
        fee = check_amounts(transaction, spent, height)
        if raw is not None and double_sha256(raw) not in self.mempool.verified:
            check_scripts(transaction, raw, spent)
        return fee

    def _disconnect(self) -> BlockNode:
        """Take the tip back; it stays known."""
        block = self._active.pop()
        for transaction, spent in zip(block.transactions[::-1], block.undo[::-1], strict=True):
            self.coins.take_back(transaction, spent)
            self._where.pop(transaction.txid, None)
        block.undo = []
        return block

    # Branches

    def invalidate(self, block_hash: bytes) -> None:
        """Count a block and all that build upon it as invalid; KeyError when it is unknown."""
        block = self._index[block_hash]
        if block.previous is None:
            raise ValueError("the genesis block cannot be invalidated")
        self.keep(INVALIDATE, block_hash)
        self._fail(block)
        self._follow_most_work()

    def reconsider(self, block_hash: bytes) -> None:
        """Take ``invalidate`` back, for the block, its ancestors and all that build upon it."""
        block = self._index[block_hash]
        self.keep(RECONSIDER, block_hash)
        ancestor: BlockNode | None = block
        while ancestor is not None:
            ancestor.failed = False
            ancestor = ancestor.previous
        family = {id(block)}
        for other in self._index.values():  # parents stand before their children
            if id(other.previous) in family:
                family.add(id(other))
                other.failed = False
        self._follow_most_work()

    def _fail(self, block: BlockNode) -> None:
        block.failed = True
        for other in self._index.values():
            if other.previous is not None and other.previous.failed:
                other.failed = True

    def _follow_most_work(self, trusted: bool = False) -> None:
        """Make the best branch active; what it takes back returns to the mempool if it can."""
        returned: list[BlockNode] = []
        while True:
            best = max(
                (block for block in self._index.values() if not block.failed),
                key=lambda block: (block.work, -block.arrival),
            )
            if best is self.tip:
                break
            path = []
            ancestor: BlockNode | None = best
            while ancestor is not None and not self.is_active(ancestor):
                path.append(ancestor)
                ancestor = ancestor.previous
            while self.tip is not ancestor:
                returned.append(self._disconnect())
            for block in reversed(path):
                try:
                    self._connect(block, trusted)
                except BlockRejected:
                    self._fail(block)
                    break
        waiting = self.mempool.take_all()
        for block in reversed(returned):
            for transaction, raw in zip(block.transactions[1:], block.raws[1:], strict=True):
                self._welcome_back(transaction, raw)
        for entry in waiting:
            self._welcome_back(entry.transaction, entry.raw)

    def _welcome_back(self, transaction: Transaction, raw: bytes) -> None:
        if transaction.txid in self._where or transaction.txid in self.mempool:
            return
        try:
            self._accept(transaction, raw, returning=True)
        except Rejected:
            return  # the new branch spends its coins, or never made them

    def coin(self, outpoint: Outpoint, with_mempool: bool) -> Coin | None:
        """An unspent output; with the mempool, of its outputs too and without what it spends."""
        if with_mempool and self.mempool.spender(outpoint) is not None:
            return None
        found = self.coins.get(outpoint)
        if found is None and with_mempool:
            found = self.mempool.coin(outpoint, self.height + 1)
        return found

    def waiting_outputs(self, script: bytes) -> list[tuple[bytes, int, Coin]]:
        """The outputs of the mempool that pay to ``script``, as coins of the block to come."""
        height = self.height + 1
        return [
            (entry.transaction.txid, index, Coin(output.value, script, height, False))
            for entry in self.mempool
            for index, output in enumerate(entry.transaction.outputs)
            if output.script == script
        ]
