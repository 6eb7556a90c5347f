"""A Bitcoin node over JSON-RPC: what the indexer and the registrar ask it, and its failures.

What must stay true: every failure leaves here as one of our exceptions, with a sentence that
says what to do and never shows a credential; every reply is bounded and checked to be about
what was asked; no call that changes something is ever sent twice, but for sendrawtransaction,
which the node itself takes only once. A ``BitcoinNode`` may be shared by threads: each has
its own connection.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bitcoinrpc.authproxy import JSONRPCException

from indexer.bitcoin.transactions import (
    HEADER_BYTES,
    CorruptBlock,
    CorruptTransaction,
    hash_bytes,
    hash_hex,
    parse_header,
    parse_transaction,
)
from indexer.node.capabilities import Capabilities, ChainInfo, Prevouts, ask
from indexer.node.failures import DROPPED, translated
from indexer.node.prevouts import Outpoint, scripts_of_spent_outputs, scripts_of_verbose_block
from indexer.node.replies import read_hex_results, read_json
from indexer.node.wire import (
    Call,
    NodeError,
    NodePruned,
    NodeRefused,
    NodeRpcError,
    NodeUnavailable,
    NotLetIn,
    Proxy,
    Wire,
    authorization,
)

__all__ = [
    "BitcoinNode",
    "ChainInfo",
    "NodeError",
    "NodePruned",
    "NodeRefused",
    "NodeRpcError",
    "NodeUnavailable",
]

log = logging.getLogger("blockstore.indexer")

DEFAULT_PORT = 8332
MAX_CALLS = 200
MAX_EXPECTED_BYTES = 8_000_000
MAX_REPLY_BYTES = 96_000_000
BLOCK_REPLY_BYTES = 4_000_000
"""What a block is expected to take in a reply: hexadecimal doubles it."""
STALE_SECONDS = 4.0
"""Nodes close idle connections after 5 (bcoin) to 30 seconds (Bitcoin Core)."""

REST_BLOCK_BYTES = 20_000
"""Blocks that are larger than this on average are read over REST where it is offered: half the
bytes and no text to decode. Smaller ones come faster by the hundred in one batch."""

OLD_WAIT_SECONDS = 0.8

RPC_MISC, RPC_NOT_FOUND, RPC_ALREADY_KNOWN, RPC_WARMING_UP = -1, -5, -27, -28
RPC_METHOD_NOT_FOUND = -32601

_ASKS_ONLY = ("get", "list", "estimate", "decode", "validate", "test", "help", "uptime", "wait")


class BitcoinNode:
    """One node, asked over HTTP(S).

    ``url``: http://[user:password@]host[:port], percent-encoded. Credentials come from the
    cookie file, the arguments or the URL, in this order. ``timeout``: seconds of
    silence, and a tenth of what a whole reply may take. ValueError, without any credential,
    for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        cookie_file: Path | None = None,
        timeout: float = 30.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORT
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the node's address must look like http://127.0.0.1:8332")
        self.place_and_key: dict[str, Any] = {
            "url": url,
            "user": user,
            "password": password,
            "cookie_file": cookie_file,
            "timeout": timeout,
            "max_reply_bytes": max_reply_bytes,
        }
        """The arguments of another client of the same node: holds secrets, so never to be shown."""
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._path = parts.path or "/"
        self._user = unquote(parts.username or "") if user is None else user
        self._password = unquote(parts.password or "") if password is None else password
        self._cookie_file = cookie_file
        self._timeout = timeout
        self._max_reply_bytes = max_reply_bytes
        self._local = threading.local()
        self._wires: weakref.WeakSet[Wire] = weakref.WeakSet()
        self._wires_lock = threading.Lock()
        self._capabilities: Capabilities | None = None
        self._failed_ways: set[Prevouts] = set()
        self._mean_block_bytes = 0.0
        self._waits_blindly = False

    @property
    def host(self) -> str:
        """The host part of the node's address."""
        return self._host

    @property
    def place(self) -> str:
        """host:port, for messages."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    def __repr__(self) -> str:
        return f"BitcoinNode({self.place})"

    def close(self) -> None:
        """End the connections of all threads; the next call makes a new one."""
        with self._wires_lock:
            for wire in list(self._wires):
                wire.close()
        self._local.wire = None

    # What is asked

    def call(self, method: str, *params: object) -> Any:
        """The result of one call. Raises NodeUnavailable, NodeRefused, NodeRpcError, NodeError."""

        def ask(wire: Wire) -> Any:
            return Proxy(wire, method)(*params)

        try:
            return self._exchange(ask, method.startswith((*_ASKS_ONLY, "sendrawtransaction")))
        except JSONRPCException as failure:
            raise self._rpc_error(failure.error, method) from None

    def batch(self, calls: Sequence[Call]) -> list[Any | NodeRpcError]:
        """The result of each call, or the node's error as a value, in the order of ``calls``.

        Sent in batches of at most MAX_CALLS. Raises what ``call`` raises except NodeRpcError.
        """
        return self._batch(calls, MAX_CALLS)

    def chain_info(self) -> ChainInfo:
        """Which chain the node is on and how far it is."""
        shown = self.call("getblockchaininfo")
        try:
            return ChainInfo(
                chain=str(shown["chain"]),
                blocks=int(shown["blocks"]),
                headers=int(shown.get("headers", shown["blocks"])),
                best_block_hash=hash_bytes(shown["bestblockhash"]),
                initial_block_download=bool(shown.get("initialblockdownload", False)),
            )
        except (TypeError, KeyError, AttributeError, ValueError):
            raise self._nonsense("getblockchaininfo") from None

    def block_hash(self, height: int) -> bytes:
        """The hash of the node's block at ``height``; NodeRpcError (-8) beyond its tip."""
        return self._hash(self.call("getblockhash", height), "getblockhash")

    def block_hashes(self, heights: Sequence[int]) -> list[bytes]:
        """The hashes at these heights; NodeRpcError as soon as one is beyond the tip."""
        found = self.batch([("getblockhash", (height,)) for height in heights])
        return [self._hash(_or_raise(result), "getblockhash") for result in found]

    def headers(self, hashes: Sequence[bytes]) -> list[bytes] | None:
        """The 80 raw bytes of each header, each checked to have the hash that was asked for.

        None where the node does not show them so, or not to us.
        """
        try:
            found = self.batch([("getblockheader", (hash_hex(h), False)) for h in hashes])
        except NodeRefused:
            return None
        headers = []
        for wanted, result in zip(hashes, found, strict=True):
            if isinstance(result, NodeRpcError) and result.code != RPC_METHOD_NOT_FOUND:
                raise result
            if not isinstance(result, str) or len(result) != 2 * HEADER_BYTES:
                return None
            headers.append(self._bytes(result, "getblockheader"))
            self._check_header(headers[-1], wanted)
        return headers

    def raw_block(self, block_hash: bytes) -> bytes:
        """The bytes of one block, whose header has this hash."""
        return self.raw_blocks([block_hash])[0]

    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]:
        """The bytes of each block; its header is checked to have the hash asked for.

        NodePruned where the node has thrown one away.
        """
        mean, self._mean_block_bytes = self._mean_block_bytes, 0.0
        blocks = self._blocks_over_rest(hashes, mean)
        if blocks is None:
            try:
                blocks = self._blocks_over_rpc(hashes, mean)
            except (NodeUnavailable, NodeRefused, NodePruned):
                raise
            except NodeError:
                if not mean:
                    raise
                # The blocks may have grown all of a sudden, so that one reply could not hold them.
                blocks = self._blocks_over_rpc(hashes, 0.0)
        for wanted, raw in zip(hashes, blocks, strict=True):
            self._check_header(raw[:HEADER_BYTES], wanted)
        if blocks:
            self._mean_block_bytes = sum(map(len, blocks)) / len(blocks)
        return blocks

    def ask_early(self, hashes: Sequence[bytes]) -> None:
        """Let the node make ready what ``raw_blocks(hashes)``, asked next, asks for first.

        Nothing else may be asked in this thread meanwhile: it would take a new connection. Raises
        nothing: what goes wrong here goes wrong then.
        """
        wire = None
        try:
            mean = self._mean_block_bytes
            path = f"/rest/{_block_path(hashes[0])}" if self._is_over_rest(mean) else None
            calls, many = self._block_calls(hashes, mean)
            wire = self._wire()
            wire.send_early(path, calls[:many])
        except (OSError, HTTPException, NodeError):
            if wire is not None:
                self._drop(wire)

    def _is_over_rest(self, mean: float) -> bool:
        return mean >= REST_BLOCK_BYTES and self.capabilities().rest

    def _blocks_over_rest(self, hashes: Sequence[bytes], mean: float) -> list[bytes] | None:
        if not self._is_over_rest(mean):
            return None
        blocks = []
        for block_hash in hashes:
            raw = self.rest(_block_path(block_hash))
            if raw is None:
                return None
            blocks.append(raw)
        return blocks

    def _blocks_over_rpc(self, hashes: Sequence[bytes], mean: float) -> list[bytes]:
        calls, many = self._block_calls(hashes, mean)
        at_most = MAX_EXPECTED_BYTES if many == MAX_CALLS else None
        found = self._batch(calls, many, at_most, read_hex_results)
        blocks = []
        for wanted, result in zip(hashes, found, strict=True):
            if isinstance(result, NodeRpcError) and result.code != RPC_NOT_FOUND:
                if result.code == RPC_MISC and "pruned" in result.message:
                    raise self._pruned(wanted)
                # Some nodes want a truth value where Bitcoin Core wants a number.
                result = self.call("getblock", hash_hex(wanted), False)
            blocks.append(self._bytes(_or_raise(result), "getblock"))
        return blocks

    def _block_calls(self, hashes: Sequence[bytes], mean: float) -> tuple[list[Call], int]:
        """The calls for these blocks, and how many go into one batch."""
        calls: list[Call] = [("getblock", (hash_hex(h), 0)) for h in hashes]
        if 0 < mean < REST_BLOCK_BYTES:
            return calls, MAX_CALLS
        return calls, max(1, MAX_EXPECTED_BYTES // BLOCK_REPLY_BYTES)

    def _pruned(self, block_hash: bytes) -> NodePruned:
        self._capabilities = None  # the height below which nothing is left grows
        keeps = self.capabilities().prune_height
        since = "" if keeps is None else f" (it keeps those from {keeps} on)"
        return NodePruned(
            f"the node at {self.place} has pruned block {hash_hex(block_hash)}{since}, which the "
            "index needs; let it download the chain again with prune=0, or use another node"
        )

    def raw_transaction(self, txid: bytes) -> bytes:
        """The bytes of a transaction; NodeRpcError (-5) where the node knows of none."""
        raw = self._bytes(
            self.call("getrawtransaction", hash_hex(txid), False), "getrawtransaction"
        )
        self._outputs_of(raw, txid)
        return raw

    def spent_scripts(
        self,
        block_hash: bytes,
        outpoints: Collection[Outpoint] | Mapping[Outpoint, tuple[int, int]],
    ) -> dict[Outpoint, bytes]:
        """The scriptPubKey of each outpoint that some transaction of this block spends.

        By the fastest way that the node offers; the outputs that REST shows are without names, so
        that way needs ``outpoints`` as keys of where they are spent: (place of the transaction in
        the block, place of the input in it). NodeError where no way leads there.
        """
        wanted = list(dict.fromkeys(outpoints))
        places = outpoints if isinstance(outpoints, Mapping) else None
        if not wanted:
            return {}
        for way in self.capabilities().prevouts:
            if way in self._failed_ways or (way is Prevouts.REST and places is None):
                continue
            found: dict[Outpoint, bytes] | None
            if way is Prevouts.REST and places is not None:
                raw = self.rest(f"spenttxouts/{hash_hex(block_hash)}.bin")
                found = None if raw is None else scripts_of_spent_outputs(raw, places)
            elif way is Prevouts.TRANSACTIONS:
                found = self._scripts_by_transaction(wanted)
            else:
                found = self._scripts_by_block(block_hash, wanted)
            if found is not None:
                return found
            self._failed_ways.add(way)
            log.info("the node at %s does not show previous outputs by %s", self.place, way.value)
        self._failed_ways.clear()
        raise NodeError(
            f"the node at {self.place} cannot show what transactions spend; "
            "start bitcoind with txindex=1, or use Bitcoin Core 25 or later"
        )

    def capabilities(self) -> Capabilities:
        """What the node can do; asked at the first need, and anew after it was out of reach."""
        found = self._capabilities
        if found is None:
            found = self._capabilities = ask(self)
            self._failed_ways.clear()
            log.info(
                "the node at %s %s; previous outputs are read from %s",
                self.place,
                found,
                found.prevouts[0].value,
            )
        return found

    def rest(self, path: str) -> bytes | None:
        """The body at ``/rest/PATH``; None where the node has nothing there, or no REST at all."""
        answer: bytes | None = self._exchange(lambda wire: wire.get(f"/rest/{path}"), True)
        return answer

    def wait_for_block(self, seconds: float, known: bytes | None = None) -> bytes:
        """The hash of the node's tip, as soon as it is not ``known`` or ``seconds`` have gone by.

        Nodes before Bitcoin Core 30 cannot be told what we know, and a block that comes between
        two calls goes unheard: they are not waited for longer than OLD_WAIT_SECONDS. Only for nodes
        that offer it (``Capabilities.long_polling``). Raises what ``call`` raises.
        """
        patience = min(seconds, self._timeout / 2)
        shown: Any = None
        if known is not None and not self._waits_blindly:
            try:
                shown = self.call("waitfornewblock", int(patience * 1000) or 1, hash_hex(known))
            except NodeRpcError:
                self._waits_blindly = True
        if shown is None:
            patience = min(patience, OLD_WAIT_SECONDS) if known is not None else 0.001
            shown = self.call("waitfornewblock", int(patience * 1000) or 1)
        return self._hash(shown.get("hash") if isinstance(shown, dict) else None, "waitfornewblock")

    def send_transaction(self, raw: bytes) -> bytes:
        """Hand a transaction to the node; its txid.

        Sending the same bytes again is safe and gives the same txid, also when the transaction
        is in a block by now (-27): so a send whose answer was lost is simply sent once more.
        NodeRpcError with the node's reason when it is not taken.
        """
        try:
            reply = self.call("sendrawtransaction", raw.hex())
        except NodeRpcError as failure:
            if failure.code != RPC_ALREADY_KNOWN:
                raise
            try:
                return parse_transaction(raw).txid
            except CorruptTransaction:
                raise failure from None
        return self._hash(reply, "sendrawtransaction")

    # Previous outputs

    def _scripts_by_transaction(self, wanted: Sequence[Outpoint]) -> dict[Outpoint, bytes] | None:
        txids = list(dict.fromkeys(txid for txid, _ in wanted))
        calls = [("getrawtransaction", (hash_hex(txid), False)) for txid in txids]
        outputs: dict[bytes, Sequence[tuple[int, bytes]]] = {}
        for txid, result in zip(txids, self.batch(calls), strict=True):
            if isinstance(result, NodeRpcError):
                return None
            outputs[txid] = self._outputs_of(self._bytes(result, "getrawtransaction"), txid)
        try:
            return {(txid, index): outputs[txid][index][1] for txid, index in wanted}
        except IndexError:
            raise NodeError("a block spends an output that its transaction never had") from None

    def _scripts_by_block(
        self, block_hash: bytes, wanted: Sequence[Outpoint]
    ) -> dict[Outpoint, bytes] | None:
        try:
            shown = self.call("getblock", hash_hex(block_hash), 3)
        except NodeRpcError as failure:
            log.info("%s", failure)
            return None
        return scripts_of_verbose_block(shown, wanted)

    # Checks of what came

    def _outputs_of(self, raw: bytes, txid: bytes) -> Sequence[tuple[int, bytes]]:
        try:
            transaction = parse_transaction(raw)
        except CorruptTransaction:
            raise self._nonsense("getrawtransaction") from None
        if transaction.txid != txid:
            raise self._nonsense("getrawtransaction")
        return transaction.outputs

    def _check_header(self, raw: bytes, wanted: bytes) -> None:
        try:
            same = parse_header(raw).hash == wanted
        except CorruptBlock:
            same = False
        if not same:
            raise NodeError(
                f"asked for block {hash_hex(wanted)}, the node at {self.place} gave another; "
                "check the node's disk and its log"
            )

    def _bytes(self, value: object, method: str) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            return bytes.fromhex(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self._nonsense(method) from None

    def _hash(self, value: object, method: str) -> bytes:
        try:
            return hash_bytes(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self._nonsense(method) from None

    def _nonsense(self, method: str) -> NodeError:
        return NodeError(
            f"the node at {self.place} answered {method} with something that is no answer to it; "
            "check that the address is that of a Bitcoin node"
        )

    # The exchange

    def _batch(
        self,
        calls: Sequence[Call],
        many: int,
        at_most: int | None = None,
        read: Callable[[bytes], Any] = read_json,
    ) -> list[Any | NodeRpcError]:
        results: list[Any | NodeRpcError] = []
        for start in range(0, len(calls), many):
            part = calls[start : start + many]
            once = all(method.startswith(_ASKS_ONLY) for method, _ in part)
            asking = partial(Wire.ask_batch, calls=part, at_most=at_most, read=read)
            replies = self._exchange(asking, once)
            results += self._matched(part, replies)
        return results

    def _matched(self, calls: Sequence[Call], replies: Any) -> Iterable[Any]:
        """The replies in the order of the calls: a node may answer in any order."""
        if isinstance(replies, dict) and isinstance(replies.get("error"), dict):
            raise self._rpc_error(replies["error"], "a batch")
        by_id: dict[int, Any] = {}
        if isinstance(replies, list):
            for reply in replies:
                if isinstance(reply, dict) and isinstance(reply.get("id"), int):
                    by_id[reply["id"]] = reply
        for number, (method, _) in enumerate(calls):
            reply = by_id.get(number)
            if reply is None:
                raise NodeError(
                    f"the node at {self.place} left {len(calls) - len(by_id)} of {len(calls)} "
                    "calls of a batch without an answer; see its log"
                )
            error = reply.get("error")  # absent in strict JSON-RPC 2.0 where all went well
            if error is not None:
                failure = self._rpc_error(error, method)
                if not isinstance(failure, NodeRpcError):
                    raise failure
                yield failure
            elif "result" in reply:
                yield reply["result"]
            else:
                raise self._nonsense(method)

    def _exchange(self, ask: Callable[[Wire], Any], may_repeat: bool) -> Any:
        """One request and its reply over this thread's connection.

        A connection that failed in any way is never used again. A call that only asks is sent
        once more when a kept connection turns out to be dead, and any call after a 401 when
        credentials are in a file that may have changed: it was not executed then.
        """
        repeated = False
        while True:
            wire = self._wire()
            kept = wire.used
            try:
                result = ask(wire)
            except JSONRPCException:
                wire.rest()
                raise
            except BaseException as failure:
                ended_by_us = wire.closed
                self._drop(wire)
                if not (repeated or ended_by_us) and self._is_worth_repeating(
                    failure, kept and may_repeat
                ):
                    repeated = True
                    continue
                if isinstance(failure, NodeUnavailable):
                    self._capabilities = None  # it may come back as another
                if isinstance(failure, NodeError) or not isinstance(failure, Exception):
                    raise
                self._capabilities = None
                raise translated(failure, self.place, self._timeout) from None
            wire.rest()
            return result

    def _is_worth_repeating(self, failure: BaseException, kept_and_may_repeat: bool) -> bool:
        if isinstance(failure, NotLetIn):
            return self._cookie_file is not None and failure.status == 401
        return kept_and_may_repeat and isinstance(failure, DROPPED)

    def _wire(self) -> Wire:
        wire: Wire | None = getattr(self._local, "wire", None)
        if wire is not None and (wire.closed or time.monotonic() - wire.rested > STALE_SECONDS):
            self._drop(wire)
            wire = None
        if wire is None:
            wire = Wire(
                self._secure,
                self._host,
                self._port,
                self._path,
                self._timeout,
                authorization(self._user, self._password, self._cookie_file),
                self._max_reply_bytes,
                self.place,
            )
            self._local.wire = wire
            with self._wires_lock:
                self._wires.add(wire)
        return wire

    def _drop(self, wire: Wire) -> None:
        wire.close()
        self._local.wire = None

    def _rpc_error(self, error: Any, method: str) -> NodeError:
        try:
            code, message = int(error["code"]), str(error["message"])[:1000]
        except (TypeError, KeyError, ValueError):
            return self._nonsense(method)
        if code == RPC_WARMING_UP:
            self._capabilities = None  # it was started anew, and perhaps otherwise
            return NodeUnavailable(
                f"the node at {self.place} is still starting ({message}); it will answer soon"
            )
        return NodeRpcError(code, message, method)


def _block_path(block_hash: bytes) -> str:
    return f"block/{hash_hex(block_hash)}.bin"


def _or_raise(result: Any) -> Any:
    if isinstance(result, NodeRpcError):
        raise result
    return result
