"""What each page of the HTTP API answers: a method, a path and a body in, a status and JSON out.

No sockets here. Paths and shapes follow the protocol spec, section 7.5; what goes beyond it is
listed in the README. Whatever is asked, the reply is JSON, and an error has a code and a hint.
"""

import asyncio
import base64
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, cast
from urllib.parse import unquote_to_bytes

from indexer.records import NameRecord, NameStatus, Phase
from indexer.snapshot import Snapshot
from indexer.transactions import hash_hex
from resolver import history_pages
from resolver.answer import stale
from resolver.chase import Freshness, StalenessLimits
from resolver.refusals import Refusal, Refused
from resolver.settings import VERSION
from resolver.value import Fetch, Value, chain_name, find_value, require_fresh, require_live
from zonefiles.zonefile import MAX_BYTES, value_hash

log = logging.getLogger("blockstore.api")

MAX_BODY = 6 * MAX_BYTES + 1024
"""Bytes of a request's body: data of the greatest size, each of its bytes escaped in JSON."""
PUBLISH_TIMEOUT = 5.0

Json = dict[str, Any]


class View(Protocol):
    """What is needed of a snapshot of the name table."""

    @property
    def height(self) -> int: ...
    def name_status(self, name: str, /) -> tuple[NameRecord, NameStatus] | None: ...
    def is_announced(self, digest: bytes, /) -> bool: ...
    def names_of_value(self, digest: bytes, /) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind the pages.

    ``keep`` has data on disk under its hash when it is done, and raises Refused where it cannot;
    ``publish`` returns to how many nodes of the network the data went. Times are in seconds.
    """

    snapshot: Callable[[], View]
    freshness: Callable[[], Freshness]
    fetch: Fetch
    keep: Callable[[bytes, bytes], Awaitable[object]]
    publish: Callable[[bytes, bytes], Awaitable[int]]
    figures: Callable[[], Json]
    query_timeout: float = 3.0
    staleness: StalenessLimits = field(default_factory=StalenessLimits)


@dataclass(frozen=True, slots=True)
class Page:
    """A finished reply; ``body`` is JSON."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


Answerer = Callable[["Pages", str, bytes], Awaitable[Json]]


class Pages:
    """Answers requests; never raises."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def reply(self, method: str, path: str, body: bytes = b"") -> Page:
        """``path`` is still percent-encoded; only what tells of the chain looks at its query."""
        path, _, query = path.partition("?")
        allowed: set[str] = set()
        for route in history_pages.ROUTES:
            found = route.pattern.fullmatch(path)
            if found is not None:
                allowed.add("GET")
                if method in ("GET", "HEAD"):
                    of_chain = partial(_of_history, route, found[1] or "", query)
                    return await self._run(of_chain, "", body)
        for route_method, pattern, answer in _ROUTES:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            allowed.add(route_method)
            if route_method == ("GET" if method == "HEAD" else method):
                return await self._run(answer, match.groupdict().get("name") or "", body)
        if not allowed:
            return refusal_page(Refused(Refusal.NO_SUCH_PAGE, f"there is no page {path[:200]!r}"))
        if "GET" in allowed:
            allowed.add("HEAD")
        methods = ", ".join(sorted(allowed | {"OPTIONS"}))
        if method == "OPTIONS":
            return Page(200, {"allow": methods}, {"Allow": methods})
        sentence = f"{path[:200]} has no method {method[:20]!r}"
        return refusal_page(Refused(Refusal.WRONG_METHOD, sentence), {"Allow": methods})

    async def _run(self, answer: Answerer, name: str, body: bytes) -> Page:
        try:
            return self._marked(Page(200, await answer(self, name, body)), name)
        except Refused as refused:
            return self._marked(refusal_page(refused), name)
        except Exception:
            log.exception("Answering a request to the API failed.")
            return refusal_page(Refused(Refusal.BROKEN, "the request could not be answered"))

    def _marked(self, page: Page, name: str) -> Page:
        """What is said of a name says so where the index is stale, as DNS does."""
        freshness = self.behind.freshness()
        if name and freshness.ready and self.behind.staleness.mark(freshness):
            remark = stale(freshness.height, freshness.silent_for, freshness.stopped)
            return replace(page, body=page.body | {"stale": remark.text})
        return page

    async def _ping(self, _name: str, _body: bytes) -> Json:
        return {"status": "alive", "version": VERSION}

    async def _info(self, _name: str, _body: bytes) -> Json:
        return self.behind.figures()

    async def _lookup(self, raw_name: str, _body: bytes) -> Json:
        value = await self._value(raw_name)
        return {
            "name": value.name,
            **_content(value.data, "data"),
            "value_hash": value.value_hash.hex(),
            "source": value.source,
            "height": value.height,
        }

    async def _zonefile(self, raw_name: str, _body: bytes) -> Json:
        return _content((await self._value(raw_name)).data, "zonefile")

    async def _value(self, raw_name: str) -> Value:
        behind = self.behind
        return await find_value(
            _read_name(raw_name),
            behind.snapshot(),
            behind.freshness(),
            behind.fetch,
            timeout=behind.query_timeout,
            refuse_after=behind.staleness.refuse_after,
        )

    async def _name(self, raw_name: str, _body: bytes) -> Json:
        name = _read_name(raw_name)
        view = self.behind.snapshot()
        require_fresh(self.behind.freshness(), self.behind.staleness.refuse_after)
        try:
            record, status = require_live(name, view)
        except Refused as refused:
            if refused.refusal is not Refusal.REVOKED:
                raise
            found = view.name_status(name)
            if found is None:
                raise
            record, status = found
        return name_page(record, status)

    async def _put_zonefile(self, _name: str, body: bytes) -> Json:
        try:
            text = json.loads(body)["zonefile"]
            data = text.encode("utf-8")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Refused(
                Refusal.BAD_REQUEST, 'the body must be JSON of the form {"zonefile": "text"}'
            ) from None
        return await self._put(data)

    async def _put_data(self, _name: str, body: bytes) -> Json:
        return await self._put(body)

    async def _put(self, data: bytes) -> Json:
        if len(data) > MAX_BYTES:
            raise Refused(
                Refusal.TOO_LARGE,
                f"{len(data)} bytes are more than the {MAX_BYTES} a name may hold",
            )
        digest = value_hash(data)
        view = self.behind.snapshot()
        if not view.is_announced(digest):
            require_fresh(self.behind.freshness(), self.behind.staleness.refuse_after)
            raise Refused(
                Refusal.NOT_ANNOUNCED,
                f"no live name announces {digest.hex()}, the hash of this data",
            )
        await self.behind.keep(digest, data)
        try:
            nodes = await asyncio.wait_for(self.behind.publish(digest, data), PUBLISH_TIMEOUT)
        except TimeoutError:
            nodes = 0  # it is kept, and published again later
        return {
            "status": True,
            "value_hash": digest.hex(),
            "names": _live(view, digest),
            "bytes": len(data),
            "stored_at_nodes": nodes,
        }


async def _of_history(
    route: history_pages.Route, argument: str, query: str, pages: Pages, _name: str, _body: bytes
) -> Json:
    snapshot = cast(Snapshot, pages.behind.snapshot())  # these ask for more than a View has
    return route.answer(snapshot, argument, history_pages.read_query(query))


def _live(view: View, digest: bytes) -> list[str]:
    """The names that announce ``digest`` now."""
    found = {name: view.name_status(name) for name in view.names_of_value(digest)}
    phases = (Phase.LIVE, Phase.GRACE)
    return sorted(name for name, entry in found.items() if entry and entry[1].phase in phases)


def refusal_page(refused: Refused, headers: Mapping[str, str] | None = None) -> Page:
    """A refusal as a reply; a name that may be registered says so as the spec has it (7.5)."""
    body: Json = dict(refused.as_json())
    if refused.refusal in (Refusal.NOT_REGISTERED, Refusal.EXPIRED):
        body["status"] = "available"
    return Page(refused.refusal.status, body, headers or {})


def name_page(record: NameRecord, status: NameStatus) -> Json:
    """A name that is live or revoked, in the shape of protocol spec section 7.5."""
    return {
        "status": "revoked" if status.phase is Phase.REVOKED else "registered",
        "name": record.name,
        "address": record.address,
        "zonefile_hash": record.value_hash.hex() if record.value_hash else None,
        "last_txid": hash_hex(record.txid),
        "blockchain": "bitcoin",
        "expire_block": status.expires_at,
        "renewal_deadline": status.gone_at,
        "grace_period": status.phase is Phase.GRACE,
        "first_registered": record.first_registered,
        "last_renewed": record.last_renewed,
        "preorder_block_number": record.preorder_block_number,
    }


def _content(data: bytes, key: str) -> Json:
    """Data as text, or in base64 under ``<key>_base64`` where it is no UTF-8."""
    try:
        return {key: data.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{key}_base64": base64.b64encode(data).decode("ascii")}


def _read_name(raw_name: str) -> str:
    try:
        return chain_name(unquote_to_bytes(raw_name).decode("utf-8"))
    except UnicodeDecodeError:
        raise Refused(Refusal.BAD_NAME, "the name is not even text") from None


_ROUTES: tuple[tuple[str, re.Pattern[str], Answerer], ...] = (
    ("GET", re.compile(r"/v1/(node/)?ping"), Pages._ping),
    ("GET", re.compile(r"/v1/info"), Pages._info),
    ("GET", re.compile(r"/v1/lookup/(?P<name>[^/]*)"), Pages._lookup),
    ("GET", re.compile(r"/v1/names/(?P<name>[^/]*)"), Pages._name),
    ("GET", re.compile(r"/v1/names/(?P<name>[^/]*)/zonefile"), Pages._zonefile),
    ("POST", re.compile(r"/v1/zonefile"), Pages._put_zonefile),
    ("POST", re.compile(r"/v1/data"), Pages._put_data),
)
