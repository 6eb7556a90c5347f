"""The methods of the sandbox node's JSON-RPC: questions and orders about one chain. No sockets.

What must stay true: each public method of ``SandboxRpc`` is a method of the RPC, with the
names, defaults, fields, error codes and words of Bitcoin Core's.
"""

import time
from collections.abc import Callable
from threading import Condition

from indexer.bitcoin.transactions import (
    Transaction,
    hash_hex,
)
from indexer.bitcoin.witness import weight
from indexer.sandbox.blocks import BlockNode, BlockRejected, serialize
from indexer.sandbox.chain import SandboxChain
from indexer.sandbox.core_json import (
    Json,
    amount,
    bits_json,
    block_json,
    header_json,
    script_json,
    transaction_json,
)
from indexer.sandbox.envelope import (
    RPC_METHOD_NOT_FOUND,
    RPC_MISC,
    RPC_NOT_FOUND,
    RPC_PARAMETER,
    RPC_VERIFY,
    RpcError,
    flag,
    hash_of,
    hex_of,
    integer,
    satoshis_of,
    script_of,
)
from indexer.sandbox.mempool import INCREMENTAL_FEE, MAX_BYTES, MempoolEntry
from indexer.sandbox.policy import MIN_RELAY_FEE, RPC_DESERIALIZATION
from indexer.sandbox.switches import Switches

MAX_GENERATE = 20_000
DEFAULT_MAX_FEE_RATE = "0.10"
PREVOUTS_SINCE, PREVOUTS_OF_ONE_SINCE, TOLD_TIP_SINCE = 230000, 250000, 300000


class SandboxRpc:
    """What the node answers about one chain. Whoever calls holds the chain's lock."""

    def __init__(
        self,
        chain: SandboxChain,
        *,
        clock: Callable[[], float],
        stop: Callable[[], None],
        stopping: Callable[[], bool] = lambda: False,
        tx_index: bool = True,
        switches: Switches | None = None,
        new_tip: Condition | None = None,
    ) -> None:
        """``new_tip`` is told of every change of the tip, and its lock is the chain's."""
        self._chain = chain
        self._switches = switches or Switches()
        self._new_tip = new_tip or Condition()
        self._clock = clock
        self._stop = stop
        self._stopping = stopping
        self._tx_index = tx_index
        self._began = time.monotonic()

    # The chain

    def getblockchaininfo(self) -> Json:
        tip = self._chain.tip
        return {
            "chain": "regtest",
            "blocks": tip.height,
            "headers": tip.height + self._switches.headers_ahead,
            "bestblockhash": hash_hex(tip.hash),
            **bits_json(tip.header.bits),
            "time": tip.header.time,
            "mediantime": tip.median_time,
            "verificationprogress": 1,
            "initialblockdownload": self._switches.initial_download,
            "chainwork": f"{tip.work:064x}",
            "size_on_disk": self._chain.size,
            "pruned": self._switches.prune_height is not None,
            **self._pruning(),
            "warnings": [],
        }

    def _pruning(self) -> Json:
        if self._switches.prune_height is None:
            return {}
        return {
            "pruneheight": self._switches.prune_height,
            "automatic_pruning": True,
            "prune_target_size": 576716800,
        }

    def getblockcount(self) -> int:
        return self._chain.height

    def getbestblockhash(self) -> str:
        return hash_hex(self._chain.tip.hash)

    def getblockhash(self, height: object) -> str:
        try:
            return hash_hex(self._chain.at_height(integer(height)).hash)
        except IndexError:
            raise RpcError(RPC_PARAMETER, "Block height out of range") from None

    def getblockheader(self, blockhash: object, verbose: object = True) -> object:
        block = self._block(blockhash)
        if not flag(verbose):
            return block.header.raw.hex()
        return header_json(self._chain, block)

    def getblock(self, blockhash: object, verbosity: object = 1) -> object:
        level = int(verbosity) if isinstance(verbosity, bool) else integer(verbosity)
        block = self._block(blockhash)
        pruned_below = self._switches.prune_height
        if pruned_below is not None and block.height < pruned_below:
            raise RpcError(RPC_MISC, "Block not available (pruned data)")
        if self._switches.version < PREVOUTS_SINCE:
            level = min(level, 2)
        return block.raw.hex() if level <= 0 else block_json(self._chain, block, level)

    def waitfornewblock(self, timeout: object = 0, current_tip: object = None) -> Json:
        """Wait, with the chain's lock let go, until the tip is another; timeout 0: for ever."""
        if not self._switches.long_polling:
            raise RpcError(RPC_METHOD_NOT_FOUND, "Method not found")
        if current_tip is not None and self._switches.version < TOLD_TIP_SINCE:
            raise RpcError(RPC_MISC, "waitfornewblock ( timeout )")
        patience = integer(timeout)
        if patience < 0:
            raise RpcError(RPC_MISC, "Negative timeout")
        known = self._chain.tip.hash if current_tip is None else hash_of(current_tip, "current_tip")
        self._new_tip.wait_for(
            lambda: self._chain.tip.hash != known or self._stopping(), patience / 1000 or None
        )
        return {"hash": hash_hex(self._chain.tip.hash), "height": self._chain.height}

    def invalidateblock(self, blockhash: object) -> None:
        block = self._block(blockhash)
        try:
            self._chain.invalidate(block.hash)
        except ValueError as flaw:
            raise RpcError(RPC_PARAMETER, str(flaw)) from None

    def generatetoaddress(
        self, nblocks: object, address: object, maxtries: object = None
    ) -> list[str]:
        count = integer(nblocks)
        if not 0 <= count <= MAX_GENERATE:
            raise RpcError(RPC_PARAMETER, f"nblocks must be between 0 and {MAX_GENERATE}")
        script = script_of(address)
        return [hash_hex(mined) for mined in self._chain.generate(count, script)]

    def generateblock(self, output: object, transactions: object, submit: object = True) -> Json:
        script = script_of(output)
        if not isinstance(transactions, list) or not flag(submit):
            raise RpcError(RPC_PARAMETER, "transactions must be a list, and submit true")
        txids = []
        for entry in transactions:
            if isinstance(entry, str) and len(entry) != 64:
                txids.append(self._chain.submit(hex_of(entry)))
            else:
                txids.append(hash_of(entry, "txid"))
        try:
            return {"hash": hash_hex(self._chain.generate_block(script, txids))}
        except KeyError as missing:
            text = f"Transaction {hash_hex(missing.args[0])} not in mempool."
            raise RpcError(RPC_NOT_FOUND, text) from None
        except BlockRejected as refusal:
            raise RpcError(RPC_VERIFY, f"TestBlockValidity failed: {refusal}") from None

    def submitblock(self, hexdata: object, dummy: object = None) -> str | None:
        raw = hex_of(hexdata, "Block decode failed")
        try:
            self._chain.accept_block(raw, now=self._clock())
        except BlockRejected as refusal:
            return str(refusal)
        return None

    # Transactions

    def getrawtransaction(
        self, txid: object, verbosity: object = 0, blockhash: object = None
    ) -> object:
        wanted = hash_of(txid, "parameter 1")
        level = int(verbosity) if isinstance(verbosity, bool) else integer(verbosity)
        transaction, block = self._transaction(wanted, blockhash)
        if block is not None:
            raw = block.raw_of(transaction)
        else:
            entry = self._chain.mempool.get(wanted)
            raw = serialize(transaction) if entry is None else entry.raw
        if level <= 0:
            return raw.hex()
        spent = None
        if self._switches.version < PREVOUTS_OF_ONE_SINCE:
            level = min(level, 1)
        if level >= 2 and block is not None and block.undo:
            spent = block.undo[block.transactions.index(transaction)]
        shown = transaction_json(transaction, spent, with_prevouts=True, raw=raw)
        if block is not None:
            active = self._chain.is_active(block)
            if blockhash is not None:
                shown["in_active_chain"] = active
            shown["blockhash"] = hash_hex(block.hash)
            shown["confirmations"] = self._chain.height - block.height + 1 if active else 0
            shown["time"] = shown["blocktime"] = block.header.time
        return shown

    def _transaction(self, txid: bytes, blockhash: object) -> tuple[Transaction, BlockNode | None]:
        if blockhash is not None:
            block = self._chain.block(hash_of(blockhash, "parameter 3"))
            if block is None:
                raise RpcError(RPC_NOT_FOUND, "Block hash not found")
            for transaction in block.transactions:
                if transaction.txid == txid:
                    return transaction, block
            reason = "No such transaction found in the provided block"
            raise RpcError(RPC_NOT_FOUND, f"{reason}. Use gettransaction for wallet transactions.")
        entry = self._chain.mempool.get(txid)
        if entry is not None:
            return entry.transaction, None
        if txid == self._chain.at_height(0).transactions[0].txid:
            reason = "The genesis block coinbase is not considered an ordinary transaction"
            raise RpcError(RPC_NOT_FOUND, f"{reason} and cannot be retrieved")
        found = self._chain.find_transaction(txid) if self._tx_index else None
        if found is not None:
            return found
        reason = "No such mempool or blockchain transaction"
        if not self._tx_index:
            reason = (
                "No such mempool transaction. Use -txindex or provide a block hash to enable "
                "blockchain transaction queries"
            )
        raise RpcError(RPC_NOT_FOUND, f"{reason}. Use gettransaction for wallet transactions.")

    def sendrawtransaction(
        self, hexstring: object, maxfeerate: object = None, maxburnamount: object = None
    ) -> str:
        reason = "TX decode failed. Make sure the tx has at least one input."
        raw = hex_of(hexstring, reason, RPC_DESERIALIZATION)
        rate = satoshis_of(DEFAULT_MAX_FEE_RATE if maxfeerate is None else maxfeerate)
        return hash_hex(self._chain.submit(raw, max_fee_per_kb=rate or None))

    def getrawmempool(self, verbose: object = False, mempool_sequence: object = False) -> object:
        entries = list(self._chain.mempool)
        if not flag(verbose):
            return [hash_hex(entry.transaction.txid) for entry in entries]
        return {hash_hex(entry.transaction.txid): self._entry(entry) for entry in entries}

    def getmempoolinfo(self) -> Json:
        mempool, carried = self._chain.mempool, self._switches.max_datacarrier
        return {
            "loaded": True,
            "size": len(mempool),
            "bytes": mempool.bytes,
            "usage": mempool.bytes,
            "total_fee": amount(sum(entry.fee for entry in mempool)),
            "maxmempool": MAX_BYTES,
            "mempoolminfee": amount(MIN_RELAY_FEE),
            "minrelaytxfee": amount(MIN_RELAY_FEE),
            "incrementalrelayfee": amount(INCREMENTAL_FEE),
            "unbroadcastcount": 0,
            "fullrbf": False,
            **({} if carried is None else {"maxdatacarriersize": carried}),
        }

    def getmempoolentry(self, txid: object) -> Json:
        entry = self._chain.mempool.get(hash_of(txid, "txid"))
        if entry is None:
            raise RpcError(RPC_NOT_FOUND, "Transaction not in mempool")
        return self._entry(entry)

    def _entry(self, entry: MempoolEntry) -> Json:
        mempool = self._chain.mempool
        family = mempool.with_descendants(entry)
        parents = dict.fromkeys(spending.previous_txid for spending in entry.transaction.inputs)
        return {
            "vsize": entry.size,
            "weight": weight(entry.raw),
            "time": entry.time,
            "height": entry.height,
            "ancestorcount": len(mempool.ancestors(entry.transaction)) + 1,
            "descendantcount": len(family),
            "fees": {
                "base": amount(entry.fee),
                "modified": amount(entry.fee),
                "descendant": amount(sum(one.fee for one in family)),
            },
            "depends": [hash_hex(txid) for txid in parents if txid in mempool],
            "spentby": [hash_hex(txid) for txid in mempool.children(entry.transaction)],
            "bip125-replaceable": mempool.is_replaceable(entry),
            "unbroadcast": False,
        }

    def gettxout(self, txid: object, n: object, include_mempool: object = True) -> Json | None:
        outpoint = (hash_of(txid, "txid"), integer(n))
        coin = self._chain.coin(outpoint, flag(include_mempool))
        if coin is None:
            return None
        return {
            "bestblock": hash_hex(self._chain.tip.hash),
            "confirmations": self._chain.height - coin.height + 1,
            "value": amount(coin.value),
            "scriptPubKey": script_json(coin.script),
            "coinbase": coin.coinbase,
        }

    def estimatesmartfee(self, conf_target: object, estimate_mode: object = None) -> Json:
        blocks = integer(conf_target)
        if not 1 <= blocks <= 1008:
            raise RpcError(RPC_PARAMETER, "Invalid conf_target, must be between 1 and 1008")
        rate = self._switches.fee_rate
        if rate is None:
            return {"errors": ["Insufficient data or no feerate found"], "blocks": blocks}
        return {"feerate": amount(rate), "blocks": blocks}

    # The node

    def getnetworkinfo(self) -> Json:
        return {
            "version": self._switches.version,
            "subversion": "/blockstore-sandbox:1/",
            "protocolversion": 70016,
            "localrelay": True,
            "networkactive": False,
            "connections": 0,
            "networks": [],
            "relayfee": amount(MIN_RELAY_FEE),
            "incrementalfee": amount(INCREMENTAL_FEE),
            "warnings": [],
        }

    def getindexinfo(self, index_name: object = None) -> Json:
        if not self._tx_index or index_name not in (None, "txindex"):
            return {}
        return {"txindex": {"synced": True, "best_block_height": self._chain.height}}

    def getzmqnotifications(self) -> list[Json]:
        address = self._switches.zmq_hashblock
        return (
            [] if address is None else [{"type": "pubhashblock", "address": address, "hwm": 1000}]
        )

    def stop(self, wait: object = None) -> str:
        self._stop()
        return "Blockstore sandbox node stopping"

    def _block(self, blockhash: object) -> BlockNode:
        block = self._chain.block(hash_of(blockhash, "blockhash"))
        if block is None:
            raise RpcError(RPC_NOT_FOUND, "Block not found")
        return block
