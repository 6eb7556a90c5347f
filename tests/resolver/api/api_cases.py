"""Requests drawn from the API's own OpenAPI document, and replies held against it, over real HTTP.

Knows nothing of the code behind: it reads ``/v1/openapi.json``, draws parameters and bodies that
the document allows and some that it does not, learns real names, hashes and heights from the
replies and asks on with them. The same seed draws the same requests of the same replies.
"""

import http.client
import json
import re
import re._parser as sre  # type: ignore[import-not-found]
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from jsonschema import Draft202012Validator

TIMEOUT = 30.0
POOL = 200
WILD = (
    *("", " ", ".", "..", "a", "A", "-1", "0", "1", "007", "1e3", "99999999999", "4294967295"),
    *("null", "true", "%", "%00", "\x00", "\x7f", "é", "名", "\udcff", "'", '"', "<script>"),
    *("a.b.c", "a/../b", "../../etc/passwd", "x" * 300, "a." + "b" * 40, "-" * 37, "id", "a.id"),
    *("0" * 40, "f" * 64, "F" * 32, "did:stack:v0:x-1", "did:stack:v0:" + "1" * 26 + "-0"),
)
_MEMBERS = {
    "name": ("name", "names"),
    "namespace": ("namespace_id", "namespaces"),
    "address": ("address", "recipient_address", "importer_address"),
    "txid": ("txid", "last_txid"),
    "hash": ("value_hash", "zonefile_hash", "consensus_hash"),
    "height": ("height", "block_id", "last_block_processed", "ready_block", "first_registered"),
    "did": ("did",),
    "after": ("next",),
}
_LEARN = {member: name for name, members in _MEMBERS.items() for member in members}


@dataclass(frozen=True)
class Operation:
    """One method of one path, as the document has it."""

    path: str
    method: str
    told: dict[str, Any]


@dataclass
class Case:
    """One request."""

    operation: Operation
    method: str
    target: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = "" if self.body is None else f" with {self.body[:200]!r}"
        return f"{self.method} {self.target} {self.headers}{shown}"


class Unexpected(AssertionError):
    """A reply that the document does not promise."""


class Cases:
    """Draws requests to the API on a port of this machine, and checks what comes."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self.random = Random(seed)
        self.port = port
        self.statuses: Counter[int] = Counter()
        self.asked: Counter[str] = Counter()
        self._pool: dict[str, list[str]] = {}
        self._tags: list[str] = ['W/"x"', "*"]
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self._validators: dict[tuple[str, str, str], Any] = {}
        status, _, body = self._exchange("GET", "/v1/openapi.json", None, {})
        assert status == 200
        self.document: dict[str, Any] = json.loads(body)
        self.operations = [
            Operation(path, method.upper(), told)
            for path, methods in self.document["paths"].items()
            for method, told in methods.items()
        ]

    def run(self, count: int) -> None:
        """Ask ``count`` requests, every operation as often. Raises ``Unexpected``."""
        for number in range(count):
            self.ask(self.draw(self.operations[number % len(self.operations)]))

    # --- asking

    def ask(self, case: Case) -> None:
        """Send one request and check the reply. Raises ``Unexpected``."""
        status, headers, body = self._exchange(case.method, case.target, case.body, case.headers)
        self.statuses[status] += 1
        self.asked[case.operation.path] += 1
        try:
            self._check(case, status, headers, body)
        except Unexpected as unexpected:
            raise Unexpected(f"{case}: {unexpected}") from None

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, Any, bytes]:
        for last in (False, True):
            try:
                self._connection.request(method, target, body, headers)
                response = self._connection.getresponse()
                return response.status, response.headers, response.read()
            except (http.client.HTTPException, ConnectionError):
                self._connection.close()  # closed while idle, or after a refusal: once more
                if last:
                    raise
        raise AssertionError("one of the two has returned or raised")

    def _check(self, case: Case, status: int, headers: Any, body: bytes) -> None:
        responses = case.operation.told["responses"]
        if case.method in ("OPTIONS", "DELETE"):
            if status not in (200, 405) or "Allow" not in headers:
                raise Unexpected(f"{status} to {case.method}")
            return
        if str(status) not in responses or status == 500:
            raise Unexpected(f"{status} is not promised: {body[:300]!r}")
        if case.method == "HEAD" or status in (204, 304):
            if body:
                raise Unexpected(f"{status} has a body")
            return
        content = responses[str(status)]["content"]
        kind = headers.get("Content-Type", "").partition(";")[0]
        if kind not in content:
            raise Unexpected(f"{kind} is not promised")
        told = json.loads(body) if kind == "application/json" else body.decode()
        key = (case.operation.path, case.operation.method, str(status))
        if key not in self._validators:
            schema = {**content[kind]["schema"], "components": self.document["components"]}
            self._validators[key] = Draft202012Validator(schema)
        for error in self._validators[key].iter_errors(told):
            raise Unexpected(f"{status} at {error.json_path}: {error.message[:300]}")
        if "ETag" in headers:
            self._keep(self._tags, headers["ETag"])
        self._learn(told)

    def _learn(self, told: Any, name: str = "") -> None:
        """Remember real values for the questions to come."""
        if isinstance(told, dict):
            for member, value in list(told.items())[:40]:
                self._learn(value, _LEARN.get(member, ""))
        elif isinstance(told, list):
            for value in told[:20]:
                self._learn(value, name or "name")
        elif name and isinstance(told, str | int) and not isinstance(told, bool):
            self._keep(self._pool.setdefault(name, []), str(told))

    def _keep(self, pool: list[str], text: str) -> None:
        if text in pool:
            return
        if len(pool) < POOL:
            pool.append(text)
        else:
            pool[self.random.randrange(POOL)] = text

    # --- drawing

    def draw(self, operation: Operation) -> Case:
        """A request of one operation."""
        random = self.random
        path, pairs = operation.path, []
        for one in operation.told.get("parameters", []):
            if one["in"] == "path":
                text = self._text(one["name"], one["schema"])
                path = path.replace(f"{{{one['name']}}}", _escaped(text))
            elif random.random() < 0.4:
                pairs.append((one["name"], self._text(one["name"], one["schema"])))
        if random.random() < 0.03:
            pairs.append((random.choice(WILD), "1"))
        query = urlencode([(a.encode("utf-8", "surrogateescape"), _bytes(b)) for a, b in pairs])
        case = Case(operation, operation.method, f"{path}?{query}" if pairs else path)
        if operation.method == "GET":
            case.method = random.choices(("GET", "HEAD", "OPTIONS", "DELETE"), (90, 6, 2, 2))[0]
            if random.random() < 0.1:
                case.headers["If-None-Match"] = random.choice(self._tags)
        else:
            case.body = self._body(operation)
        return case

    def _text(self, name: str, schema: dict[str, Any]) -> str:
        """A value of a parameter: a real one, one that is allowed, or anything."""
        chance = self.random.random()
        pool = self._pool.get(name)
        if pool and chance < 0.5:
            return self.random.choice(pool)
        if chance < 0.85:
            drawn = self.value(schema)
            return json.dumps(drawn) if isinstance(drawn, bool) else str(drawn)
        return self.random.choice(WILD)

    def _body(self, operation: Operation) -> bytes:
        random = self.random
        (kind, content), *_ = operation.told["requestBody"]["content"].items()
        if random.random() < 0.1:
            return random.choice([b"", b"{", b"[]", b"null", b"\xff", b"[" * 500, b'"\\ud800"'])
        if kind != "application/json":
            return random.choice(WILD).encode("utf-8", "surrogateescape")
        drawn = self.value(content["schema"])
        return json.dumps(drawn).encode()

    def value(self, schema: dict[str, Any], depth: int = 0) -> Any:
        """A value that ``schema`` allows, as far as it says; real ones where they are known."""
        random = self.random
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self.value(random.choice(schema[choice]), depth)
        if "const" in schema or "enum" in schema:
            return schema.get("const", random.choice(schema.get("enum", [None])))
        if schema.get("examples") and random.random() < 0.9:
            return random.choice(schema["examples"])
        kind = schema.get("type", "string")
        kind = random.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            least, most = schema.get("minItems", 0), min(schema.get("maxItems", 4), 4)
            item = schema.get("items", {"type": ["string", "integer"]})
            count = random.randint(least, max(least, most)) if depth < 4 else least
            return [self._argument(item, depth) for _ in range(count)]
        if kind in ("integer", "number"):
            least, most = schema.get("minimum", -5), schema.get("maximum", 10**6)
            between = (
                random.randint(least, most) if kind == "integer" else random.uniform(least, most)
            )
            return random.choice([least, most, between])
        if kind == "boolean":
            return random.random() < 0.5
        return None if kind == "null" else self._string(schema)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        random, required = self.random, schema.get("required", ())
        return {
            name: self.value(member, depth + 1)
            for name, member in schema.get("properties", {}).items()
            if name in required or random.random() < 0.7
        }

    def _argument(self, schema: dict[str, Any], depth: int) -> Any:
        """An item of a list that says nothing of its items: very often a real value."""
        pools = [pool for pool in self._pool.values() if pool]
        if schema.get("type") == ["string", "integer"] and pools and self.random.random() < 0.8:
            text = self.random.choice(self.random.choice(pools))
            return int(text) if text.isdecimal() and len(text) < 9 else text
        return self.value(schema, depth + 1)

    def _string(self, schema: dict[str, Any]) -> str:
        if "pattern" in schema:
            drawn = "".join(self._matching(sre.parse(schema["pattern"])))
            return drawn[: schema.get("maxLength", len(drawn))]
        return self.random.choice(WILD)[: schema.get("maxLength", 300)].replace("\udcff", "?")

    def _matching(self, parsed: Any) -> Iterator[str]:
        """The parts of a text that a regular expression matches."""
        random = self.random
        for operator, argument in parsed:
            match str(operator):
                case "LITERAL":
                    yield chr(argument)
                case "IN":
                    yield _member(random, argument)
                case "MAX_REPEAT":
                    least, most, inner = argument
                    for _ in range(random.randint(least, min(int(most), least + 30))):
                        yield from self._matching(inner)
                case "SUBPATTERN":
                    yield from self._matching(argument[3])
                case "BRANCH":
                    yield from self._matching(random.choice(argument[1]))
                case "AT":
                    pass
                case unknown:
                    raise NotImplementedError(f"{unknown} in a pattern of the document")


def _member(random: Random, choices: Any) -> str:
    """One character of a class."""
    operator, argument = random.choice(choices)
    if str(operator) == "RANGE":
        return chr(random.randint(*argument))
    assert str(operator) == "LITERAL", operator
    return chr(argument)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _escaped(text: str) -> str:
    """As one part of a path; a few characters are left as they are where a client may do so."""
    return quote(_bytes(text), safe=":-_.~@!$'()*,;=" if re.fullmatch(r"[ -~]*", text) else "")
