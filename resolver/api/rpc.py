"""JSON-RPC over HTTP: one request or a batch in, results out (JSON-RPC 2.0, and 1.0 leniently).

What must stay true: whatever the body is, the answer is well-formed JSON-RPC; a batch is bounded;
a notification is never answered; what goes wrong in a question is a result with ``error``, as in
the first releases, and what goes wrong in a call is an error of JSON-RPC.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import isfinite
from types import NoneType
from typing import Any, TypeVar

from resolver.api.chain_names import Zones
from resolver.api.parameters import Parameter, Schema, read_value
from resolver.api.request import Asked, Json, Told
from resolver.api.schemas import HEIGHT, TRUTH, shape
from resolver.refusals import Refusal, Refused

Answer = TypeVar("Answer", bound=Callable[..., Any])

MAX_BATCH = 50
_SEE = "/v1/openapi.json lists the methods of /rpc and what each takes"

INDEXING = "Indexing blockchain"
"""What the first releases said while the index was behind."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602


@dataclass(frozen=True, slots=True)
class Argument:
    """A parameter of a method, by position or by name. ``most``: it is a list of so many."""

    parameter: Parameter
    name: str
    optional: bool = False
    default: Any = None
    most: int = 0

    def read(self, value: Any, zones: Zones) -> Any:
        """What was given, checked as in a path. Raises ``Refused``."""
        if self.most:
            if not isinstance(value, list) or len(value) > self.most:
                raise bad_request(f"{self.name} is no list of at most {self.most}")
            return [self._one(item, zones) for item in value]
        return self._one(value, zones)

    def _one(self, value: Any, zones: Zones) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise bad_request(f"{self.name} is neither text nor a whole number")
        return read_value(self.parameter, str(value), zones)


@dataclass(frozen=True, slots=True)
class Method:
    """One question. ``answer`` gets the request and the value of each argument, in order."""

    name: str
    arguments: tuple[Argument, ...]
    answer: Callable[..., Any]
    result: Schema
    missing: str = ""
    """What the first releases said where there is nothing."""
    envelope: bool = False
    """Whether the result says ``status``, ``lastblock`` and ``indexing``, as later releases did."""
    of_present: bool = True
    """As that of a route."""

    @property
    def call(self) -> str:
        """How it is called, for people."""
        told = (f"[{one.name}]" if one.optional else one.name for one in self.arguments)
        return f"{self.name}({', '.join(told)})"


class Methods:
    """A table of methods, by their names; each is declared above the function that answers it."""

    def __init__(self) -> None:
        self.by_name: dict[str, Method] = {}

    def first(
        self, result: Schema, *arguments: Argument, name: str = "", **more: Any
    ) -> Callable[[Answer], Answer]:
        """Declares one of the first releases (spec section 7.2); ``more`` are members of
        ``Method``."""

        def declared(answer: Answer) -> Answer:
            method = Method(name or answer.__name__, arguments, answer, result, **more)
            self.by_name[method.name] = method
            return answer

        return declared

    def later(
        self, member: str, schema: Schema, *arguments: Argument, **more: Any
    ) -> Callable[[Answer], Answer]:
        """Declares one of the later releases (spec section 7.4), whose result has this member."""
        told = shape(status=TRUTH, lastblock=HEIGHT, indexing=TRUTH, **{member: schema})
        return self.first(told, *arguments, envelope=True, **more)

    async def reply(self, asked: Asked) -> Told:
        """The answer to the body of a request."""
        try:
            body = json.loads(asked.body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return Told(_error({"jsonrpc": "2.0"}, PARSE_ERROR, "the body is no JSON"))
        if not isinstance(body, list):
            answer = await self._one(asked, body)
            return Told(None, status=204) if answer is None else Told(answer)
        if not 0 < len(body) <= MAX_BATCH:
            sentence = f"a batch has 1 to {MAX_BATCH} calls, not {len(body)}"
            return Told(_error({"jsonrpc": "2.0"}, INVALID_REQUEST, sentence))
        answers = [await self._one(asked, one) for one in body]
        told = [answer for answer in answers if answer is not None]
        return Told(told) if told else Told(None, status=204)

    async def _one(self, asked: Asked, call: Any) -> Json | None:
        """The answer to one call; None to a notification."""
        if not isinstance(call, dict) or not _has_good_id(call):
            return _error({"jsonrpc": "2.0"}, INVALID_REQUEST, "a call is an object with an id")
        answer = await self._called(asked, call)
        return None if _is_notification(call) else answer

    async def _called(self, asked: Asked, call: Json) -> Json:
        if call.get("jsonrpc", "1.0") not in ("1.0", "1.1", "2.0"):
            return _error(call, INVALID_REQUEST, "jsonrpc is 2.0, or left out for 1.0")
        name, given = call.get("method"), call.get("params")
        if not isinstance(name, str) or not isinstance(given, list | dict | NoneType):
            return _error(call, INVALID_REQUEST, "method is a name, params a list or an object")
        method = self.by_name.get(name)
        if method is None:
            return _error(call, METHOD_NOT_FOUND, f"there is no method {name[:60]!r}", _SEE)
        try:
            values = _read(method, given or [], asked.behind.zones)
        except Refused as refused:
            return _error(call, INVALID_PARAMS, refused.sentence, refused.hint)
        try:
            if method.of_present:
                asked.require_fresh()
            result = method.answer(asked, *values)
            if isinstance(result, Awaitable):
                result = await result
        except Refused as refused:
            behind = refused.refusal is Refusal.INDEX_BEHIND
            missing = method.missing and (INDEXING if behind else method.missing)
            return _result(call, refused.as_json() | ({"error": missing} if missing else {}))
        if method.envelope:
            freshness = asked.behind.freshness()
            state = {"lastblock": asked.seen.height, "indexing": not freshness.ready}
            result = {"status": True, **state, **result}
        return _result(call, result)


def _read(method: Method, given: list[Any] | Json, zones: Zones) -> list[Any]:
    """The values of the arguments of ``method``. Raises ``Refused``."""
    names = [one.name for one in method.arguments]
    if isinstance(given, list):
        if len(given) > len(names):
            raise bad_request(f"{method.call} was given {len(given)} arguments")
        given = dict(zip(names, given, strict=False))
    unknown = [name for name in given if name not in names]
    if unknown:
        raise bad_request(f"{method.call} has no argument {unknown[0][:40]!r}")
    values = []
    for one in method.arguments:
        if given.get(one.name) is not None:
            values.append(one.read(given[one.name], zones))
        elif one.optional:
            values.append(one.default)
        else:
            raise bad_request(f"{method.call} was not given {one.name}")
    return values


def _has_good_id(call: Json) -> bool:
    identity = call.get("id")
    if isinstance(identity, float):
        return isfinite(identity)
    known = isinstance(identity, str | int) and not isinstance(identity, bool)
    return identity is None or known


def _is_notification(call: Json) -> bool:
    """In 2.0 a call without an id, in 1.0 one whose id is null."""
    if call.get("jsonrpc") == "2.0":
        return "id" not in call
    return "id" in call and call["id"] is None


def _result(call: Json, result: Any) -> Json:
    if call.get("jsonrpc") == "2.0":
        return {"jsonrpc": "2.0", "id": call.get("id"), "result": result}
    return {"id": call.get("id"), "result": result, "error": None}


def _error(call: Json, code: int, sentence: str, hint: str = "") -> Json:
    error: Json = {"code": code, "message": sentence}
    if hint:
        error["data"] = {"hint": hint}
    if call.get("jsonrpc") == "2.0":
        return {"jsonrpc": "2.0", "id": call.get("id"), "error": error}
    return {"id": call.get("id"), "result": None, "error": error}


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def bad_request(sentence: str) -> Refused:
    """The call does not fit its method."""
    return Refused(Refusal.BAD_REQUEST, sentence, _SEE)
