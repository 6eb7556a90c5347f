"""JSON-RPC as Bitcoin Core speaks it: the envelope around a method, and its parameters.

What must stay true: one request or batch in, one reply out, whatever the bytes; error codes
and words are Bitcoin Core's, in the three envelopes it speaks (1.0, 1.1 and strict 2.0).
"""

import inspect
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal, InvalidOperation
from typing import Any

from embit.script import address_to_scriptpubkey

from indexer.bitcoin.transactions import address_script, hash_bytes
from indexer.networks import REGTEST
from indexer.sandbox.core_json import Json, encode
from indexer.sandbox.policy import RPC_DESERIALIZATION, Rejected
from indexer.sandbox.switches import Switches

log = logging.getLogger("blockstore.indexer")

RPC_MISC, RPC_TYPE, RPC_NOT_FOUND, RPC_PARAMETER, RPC_VERIFY = -1, -3, -5, -8, -25
RPC_INVALID_REQUEST, RPC_METHOD_NOT_FOUND, RPC_PARSE = -32600, -32601, -32700
RPC_WARMING_UP = -28

MAX_BATCH = 5_000
MAX_REPLY = 64_000_000
SATOSHIS = Decimal(100_000_000)


class RpcError(Exception):
    """An error reply: code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Envelope:
    """Reads requests, calls the methods of ``tables``, writes replies.

    ``lock`` is held while a method runs; ``waitfornewblock`` lets go of it while it waits.
    ``before_each`` is told, with the lock held, of the wallet that the request's URL names.
    """

    def __init__(
        self,
        tables: Sequence[object],
        lock: AbstractContextManager[Any],
        *,
        before_each: Callable[[str | None], None] = lambda wallet: None,
        after_each: Callable[[], None],
        switches: Switches | None = None,
    ) -> None:
        self._switches = switches or Switches()
        self.asked: set[str] = set()
        """The names of all methods that were asked for."""
        self._lock = lock
        self._before_each = before_each
        self._after_each = after_each
        self._methods = {
            name: (method, inspect.signature(method))
            for table in tables
            for name, method in inspect.getmembers(table, inspect.ismethod)
            if not name.startswith("_")
        }

    def reply_to(self, body: bytes, wallet: str | None = None) -> tuple[int, bytes]:
        """HTTP status and body of the reply to one request body; 204 and b"" for silence.

        ``wallet``: the name in a URL /wallet/NAME.
        """
        try:
            request = json.loads(body, parse_float=Decimal)
        except (ValueError, RecursionError):
            return 500, encode(_failure(RpcError(RPC_PARSE, "Parse error"), None, False))
        if not self._may(request):
            return 403, b""
        if isinstance(request, list):
            return self._reply_to_batch(request, wallet)
        reply, status = self._reply_to_one(request, wallet)
        return (status, encode(reply)) if reply is not None else (204, b"")

    def _may(self, request: object) -> bool:
        """Whether the whitelist, where there is one, names every method of the request."""
        allowed = self._switches.allowed
        calls = request if isinstance(request, list) else [request]
        return allowed is None or all(
            call.get("method") in allowed for call in calls if isinstance(call, dict)
        )

    def _reply_to_batch(self, requests: list[Any], wallet: str | None) -> tuple[int, bytes]:
        if len(requests) > MAX_BATCH:
            error = RpcError(RPC_INVALID_REQUEST, f"a batch has at most {MAX_BATCH} calls")
            return 400, encode(_failure(error, None, False))
        parts: list[bytes] = []
        size = 0
        for request in requests:
            reply, _ = self._reply_to_one(request, wallet)
            if reply is None:
                continue
            parts.append(encode(reply))
            size += len(parts[-1])
            if size > MAX_REPLY:
                error = RpcError(RPC_MISC, "the reply is too large; ask for less at once")
                return 500, encode(_failure(error, None, False))
        return (200, b"[" + b",".join(parts) + b"]\n") if parts or not requests else (204, b"")

    def _reply_to_one(self, request: object, wallet: str | None) -> tuple[Json | None, int]:
        identity: object = None
        strict = silent = False
        try:
            if not isinstance(request, dict):
                raise RpcError(RPC_INVALID_REQUEST, "Invalid Request object")
            identity = request.get("id")
            asked_strictly = request.get("jsonrpc") == "2.0"
            silent = asked_strictly and "id" not in request
            strict = asked_strictly or self._switches.strict
            method, params = request.get("method"), request.get("params")
            if not isinstance(method, str):
                raise RpcError(RPC_INVALID_REQUEST, "Method must be a string")
            if self._switches.warming_up is not None:
                raise RpcError(RPC_WARMING_UP, self._switches.warming_up)
            self.asked.add(method)
            result = self._call(method, [] if params is None else params, wallet)
        except RpcError as error:
            return (None if silent else _failure(error, identity, strict)), _status(error, strict)
        if silent:
            return None, 204
        if strict:
            return {"jsonrpc": "2.0", "result": result, "id": identity}, 200
        return {"result": result, "error": None, "id": identity}, 200

    def _call(self, name: str, params: object, wallet: str | None) -> object:
        known = self._methods.get(name)
        if name == "help":
            return "\n".join(
                f"{method}{form}".partition(" ->")[0] for method, (_, form) in self._methods.items()
            )
        if known is None:
            raise RpcError(RPC_METHOD_NOT_FOUND, "Method not found")
        method, signature = known
        try:
            if isinstance(params, list):
                bound = signature.bind(*params)
            elif isinstance(params, dict):
                bound = signature.bind(**params)
            else:
                raise RpcError(RPC_INVALID_REQUEST, "Params must be an array or object")
        except TypeError:
            raise RpcError(RPC_MISC, f"usage: {name}{signature}".partition(" ->")[0]) from None
        with self._lock:
            try:
                self._before_each(wallet)
                return method(*bound.args, **bound.kwargs)
            except Rejected as refusal:
                raise RpcError(refusal.code, refusal.message) from None
            except RpcError:
                raise
            except Exception as failure:
                log.exception("the sandbox node failed in %s", name)
                raise RpcError(RPC_MISC, f"internal error in {name}") from failure
            finally:
                self._after_each()


def _failure(error: RpcError, identity: object, strict: bool) -> Json:
    shown: Json = {"code": error.code, "message": error.message}
    if strict:
        return {"jsonrpc": "2.0", "error": shown, "id": identity}
    return {"result": None, "error": shown, "id": identity}


def _status(error: RpcError, strict: bool) -> int:
    if strict:
        return 200
    return {RPC_INVALID_REQUEST: 400, RPC_METHOD_NOT_FOUND: 404}.get(error.code, 500)


# Parameters of methods; each raises RpcError with Core's code and words


def integer(value: object) -> int:
    """A 32-bit integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RpcError(RPC_TYPE, "JSON value is not of expected type number")
    if not -(2**31) <= value < 2**31:
        raise RpcError(RPC_MISC, "JSON integer out of range")
    return value


def flag(value: object) -> bool:
    """A boolean, or 0 and 1."""
    if not isinstance(value, bool | int):
        raise RpcError(RPC_TYPE, "JSON value is not of expected type bool")
    return bool(value)


def text_of(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise RpcError(RPC_TYPE, "JSON value is not of expected type string")
    return value


def list_of(value: object) -> list[Any]:
    """An array."""
    if not isinstance(value, list):
        raise RpcError(RPC_TYPE, "JSON value is not of expected type array")
    return value


def outpoint_of(entry: object) -> tuple[bytes, int]:
    """The outpoint in an object with txid and vout."""
    if not isinstance(entry, dict):
        raise RpcError(RPC_TYPE, "JSON value is not of expected type object")
    for name in ("txid", "vout"):
        if name not in entry:
            raise RpcError(RPC_PARAMETER, f"Invalid parameter, missing {name} key")
    index = integer(entry["vout"])
    if index < 0:
        raise RpcError(RPC_PARAMETER, "Invalid parameter, vout cannot be negative")
    return hash_of(entry["txid"], "txid"), index


def hash_of(value: object, name: str) -> bytes:
    """The 32 bytes of a hash in display hex, in internal order."""
    if not isinstance(value, str):
        raise RpcError(RPC_TYPE, "JSON value is not of expected type string")
    if len(value) != 64:
        reason = f"{name} must be of length 64 (not {len(value)}, for '{value:.200}')"
        raise RpcError(RPC_PARAMETER, reason)
    try:
        return hash_bytes(value)
    except ValueError:
        reason = f"{name} must be hexadecimal string (not '{value}')"
        raise RpcError(RPC_PARAMETER, reason) from None


def hex_of(value: object, reason: str = "Decode failed", code: int = RPC_DESERIALIZATION) -> bytes:
    """The bytes of a hex string."""
    if not isinstance(value, str):
        raise RpcError(RPC_TYPE, "JSON value is not of expected type string")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise RpcError(code, reason) from None


def satoshis_of(value: object) -> int:
    """Satoshis of an amount in bitcoin."""
    try:
        satoshis = Decimal(str(value)) * SATOSHIS
        if satoshis != satoshis.to_integral_value() or not 0 <= satoshis <= 21 * 10**14:
            raise RpcError(RPC_TYPE, "Amount out of range")
    except InvalidOperation:
        raise RpcError(RPC_TYPE, "Invalid amount") from None
    return int(satoshis)


def script_of(address: object) -> bytes:
    """The scriptPubKey of an address of this network."""
    if not isinstance(address, str):
        raise RpcError(RPC_TYPE, "JSON value is not of expected type string")
    try:
        return address_script(address, REGTEST)
    except ValueError as flaw:
        if not address.startswith("bcrt1"):
            raise RpcError(RPC_NOT_FOUND, f"Invalid address: {flaw}") from None
    try:
        return bytes(address_to_scriptpubkey(address).data)
    except Exception:  # noqa: BLE001 - embit raises what its bech32 reader happens to
        raise RpcError(RPC_NOT_FOUND, "Invalid address") from None
