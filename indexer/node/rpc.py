"""Calls to a Bitcoin node over HTTP: one connection a thread, who we are, what may be repeated.

What must stay true: every failure leaves here as one of our exceptions, with a sentence that
says what to do and never shows a credential; every reply is bounded and is one to what was
asked; no call that changes something is ever sent twice, but for sendrawtransaction, which the
node itself takes only once.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bitcoinrpc.authproxy import JSONRPCException

from indexer.bitcoin.transactions import hash_bytes
from indexer.node.credentials import Credentials
from indexer.node.failures import (
    DROPPED,
    NodeError,
    NodeRpcError,
    NodeUnavailable,
    NotLetIn,
    translated,
)
from indexer.node.replies import read_json
from indexer.node.wire import Call, Proxy, Wire

log = logging.getLogger("blockstore.indexer")

DEFAULT_PORT = 8332
MAX_CALLS = 200
MAX_REPLY_BYTES = 96_000_000
STALE_SECONDS = 4.0
"""Nodes close idle connections after 5 (bcoin) to 30 seconds (Bitcoin Core)."""

RPC_WARMING_UP = -28

_ASKS_ONLY = ("get", "list", "estimate", "decode", "validate", "test", "help", "uptime", "wait")


class Rpc:
    """One node, asked over HTTP(S). Threads may share it: each has its own connection.

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
        self.credentials = Credentials(
            unquote(parts.username or "") if user is None else user,
            unquote(parts.password or "") if password is None else password,
            cookie_file,
            self.place,
        )
        self._timeout = timeout
        self._max_reply_bytes = max_reply_bytes
        self._local = threading.local()
        self._wires: weakref.WeakSet[Wire] = weakref.WeakSet()
        self._wires_lock = threading.Lock()
        self.losses = 0
        """How often it was out of reach or starting: each time it may come back as another."""

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
        return f"{type(self).__name__}({self.place})"

    def close(self) -> None:
        """End the connections of all threads; the next call makes a new one."""
        with self._wires_lock:
            for wire in list(self._wires):
                wire.close()
        self._local.wire = None

    def call(self, method: str, *params: object) -> Any:
        """The result of one call. Raises NodeUnavailable, NodeRefused, NodeRpcError, NodeError."""

        def ask(wire: Wire) -> Any:
            return Proxy(wire, method)(*params)

        try:
            return self._exchange(ask, method.startswith((*_ASKS_ONLY, "sendrawtransaction")))
        except JSONRPCException as failure:
            raise self._rpc_error(failure.error, method) from None

    def batch(
        self,
        calls: Sequence[Call],
        many: int = MAX_CALLS,
        at_most: int | None = None,
        read: Callable[[bytes], Any] = read_json,
    ) -> list[Any | NodeRpcError]:
        """The result of each call, or the node's error as a value, in the order of ``calls``.

        Sent ``many`` at a time; ``at_most``: bytes of a reply, which ``read`` reads. Raises what
        ``call`` raises except NodeRpcError.
        """
        results: list[Any | NodeRpcError] = []
        for start in range(0, len(calls), many):
            part = calls[start : start + many]
            once = all(method.startswith(_ASKS_ONLY) for method, _ in part)
            asking = partial(Wire.ask_batch, calls=part, at_most=at_most, read=read)
            replies = self._exchange(asking, once)
            results += self._matched(part, replies)
        return results

    def rest(self, path: str) -> bytes | None:
        """The body at ``/rest/PATH``; None where the node has nothing there, or no REST at all."""
        answer: bytes | None = self._exchange(lambda wire: wire.get(f"/rest/{path}"), True)
        return answer

    # Checks of what came

    def bytes_in(self, value: object, method: str) -> bytes:
        """The bytes that ``method`` answered in hexadecimal. Raises NodeError."""
        if isinstance(value, bytes):
            return value
        try:
            return bytes.fromhex(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self.nonsense(method) from None

    def hash_in(self, value: object, method: str) -> bytes:
        """The hash that ``method`` answered. Raises NodeError."""
        try:
            return hash_bytes(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self.nonsense(method) from None

    def nonsense(self, method: str) -> NodeError:
        """What to raise where the answer to ``method`` is none."""
        return NodeError(
            f"the node at {self.place} answered {method} with something that is no answer to it; "
            "check that the address is that of a Bitcoin node"
        )

    # The exchange

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
                raise self.nonsense(method)

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
                    self.losses += 1
                if isinstance(failure, NodeError) or not isinstance(failure, Exception):
                    raise
                self.losses += 1
                raise translated(failure, self.place, self._timeout) from None
            wire.rest()
            self.credentials.taken()
            return result

    def _is_worth_repeating(self, failure: BaseException, kept_and_may_repeat: bool) -> bool:
        if isinstance(failure, NotLetIn):
            return self.credentials.refused(failure)
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
                self.credentials.header(),
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
            return self.nonsense(method)
        if code == RPC_WARMING_UP:
            self.losses += 1
            return NodeUnavailable(
                f"the node at {self.place} is still starting ({message}); it will answer soon"
            )
        return NodeRpcError(code, message, method)


def or_raise(result: Any) -> Any:
    """One result of a batch; raises it where it is the node's error."""
    if isinstance(result, NodeRpcError):
        raise result
    return result
