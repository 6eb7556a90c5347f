"""What the HTTP API answers: a method, a path and a body in, a status and JSON out.

No sockets here. What there is stands in ``route_table`` and ``rpc_methods``; this finds the
route, reads the parameters, keeps long walks off the event loop and says what every answer says:
its tag, its height, where the next page is, and whether the index is stale. Never raises.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from indexer.protocol.rows import DamagedRow
from indexer.table.level import TableDamaged, TableError
from resolver.api.listing_cache import ListingCache
from resolver.api.request import JSON, Asked, Behind, Json, Told, Unchanged, names_tag, tag_header
from resolver.api.route_table import ROUTES
from resolver.api.routes import Route, read_arguments
from resolver.dns.answer import stale
from resolver.refusals import Refusal, Refused
from zonefiles.text.zonefile import MAX_BYTES

__all__ = ["MAX_BODY", "Behind", "Json", "Page", "Pages", "refusal_page"]

log = logging.getLogger("blockstore.api")

MAX_BODY = 6 * MAX_BYTES + 1024
"""Bytes of a request's body: data of the greatest size, each of its bytes escaped in JSON."""
PUBLISH_TIMEOUT = 5.0
RETRY_AFTER = 30
"""Seconds after which what is refused for now is worth another request (RFC 9110 10.2.3)."""
MAX_WALKS = 16
"""Long walks that may be under way or wait for their turn."""

_UNREADABLE = "the index is damaged or cannot be read, and nothing is answered from it"
_MENDS = (
    "the log of blockstored says why; where the index is damaged, check the disk, run `blockstored"
    " stop`, `blockstored reindex` and `blockstored start`"
)

_MAY_READ = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "If-None-Match",
    "Access-Control-Max-Age": "86400",
}
"""What a browser is told that asks first: pages of other origins may read (Fetch standard)."""


@dataclass(frozen=True, slots=True)
class Page:
    """A finished reply. ``body`` is JSON, or text of another type; None: there is no body."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON


class Pages:
    """Answers requests; never raises."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind
        self._inner = replace(behind, publish=self._publish)
        self._listings = ListingCache()
        self._walker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long walk")
        self._walking = 0

    async def close(self) -> None:
        """Wait until nothing reads the table any more."""
        await asyncio.to_thread(self._walker.shutdown, wait=True, cancel_futures=True)

    async def reply(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        known: str = "",
        *,
        may_pay: bool = False,
        of_other_origin: bool = False,
    ) -> Page:
        """``path`` with its query, percent-encoded; ``known`` is the header If-None-Match;
        ``may_pay``: whether it is the daemon's own user who asks, or whoever has the token;
        ``of_other_origin``: whether a page asks that came from elsewhere."""
        path, _, query = path.partition("?")
        found = ROUTES.find(path)
        wanted = found.get("GET" if method == "HEAD" else method)
        if wanted is not None:
            route, texts = wanted
            if route.secret and not may_pay:
                refused = Refused(Refusal.NEEDS_TOKEN, "this is only for the daemon's own user")
                return refusal_page(refused, {"WWW-Authenticate": "Bearer"})
            return await self._answer(route, path, texts, query, body, known, of_other_origin)
        if not found:
            return refusal_page(Refused(Refusal.NO_SUCH_PAGE, f"there is no page {path[:200]!r}"))
        allowed = {*found, "OPTIONS"} | ({"HEAD"} if "GET" in found else set())
        methods = ", ".join(sorted(allowed))
        if method == "OPTIONS":
            may_read = _MAY_READ if "GET" in found else {}
            return Page(200, {"allow": methods}, {"Allow": methods, **may_read})
        sentence = f"{path[:200]} has no method {method[:20]!r}"
        return refusal_page(Refused(Refusal.WRONG_METHOD, sentence), {"Allow": methods})

    async def _answer(
        self,
        route: Route,
        path: str,
        texts: Mapping[str, str],
        query: str,
        body: bytes,
        known: str,
        of_other_origin: bool,
    ) -> Page:
        mark = self._staleness()
        try:
            arguments = read_arguments(route, texts, query, self.behind.zones)
            names = tuple(one.name for one in route.query)
            seen = self.behind.snapshot()
            asked = Asked(
                self._inner,
                seen,
                self._listings,
                path,
                arguments,
                names,
                body,
                known,
                self._aside,
                of_other_origin,
            )
            if route.of_present:
                asked.require_fresh()
            told = await self._told(route, asked)
            tag = told.tag or (asked.block_tag if route.of_block else "")
            headers = {"Blockstore-Height": str(seen.height)} if route.of_block else {}
            return _finished(told, tag, headers, route, mark, known)
        except Unchanged as unchanged:
            return _unchanged(unchanged.tag, {})
        except Refused as refused:
            page = refusal_page(refused)
            return replace(page, body=_marked(page.body, route, mark))
        except (TableError, DamagedRow) as error:
            if not isinstance(error, TableDamaged):  # that was logged when it was found
                log.error("Answering a request to the API failed: %s", error)
            return refusal_page(Refused(Refusal.INDEX_BEHIND, _UNREADABLE, _MENDS))
        except Exception:
            log.exception("Answering a request to the API failed.")
            return refusal_page(Refused(Refusal.BROKEN, "the request could not be answered"))

    async def _told(self, route: Route, asked: Asked) -> Told:
        if route.long:
            found: Told = await self._aside(lambda: route.answer(asked))
            return found
        told = route.answer(asked)
        return told if isinstance(told, Told) else await told

    async def _aside(self, walk: Callable[[], Any]) -> Any:
        if self._walking >= MAX_WALKS:
            raise Refused(Refusal.BUSY, "too many long listings are under way")
        self._walking += 1
        under_way = asyncio.get_running_loop().run_in_executor(self._walker, walk)
        under_way.add_done_callback(self._walked)
        return await under_way

    def _walked(self, _walk: object) -> None:
        self._walking -= 1

    def _staleness(self) -> str:
        """Why the index may be behind the chain, as DNS says it; "" where it is not."""
        freshness = self.behind.freshness()
        if not freshness.ready or not self.behind.staleness.mark(freshness):
            return ""
        return stale(freshness.height, freshness.silent_for, freshness.stopped).text

    async def _publish(self, digest: bytes, data: bytes) -> int:
        try:
            return await asyncio.wait_for(self.behind.publish(digest, data), PUBLISH_TIMEOUT)
        except TimeoutError:
            return 0  # it is kept, and published again later


def _finished(
    told: Told, tag: str, headers: dict[str, str], route: Route, mark: str, known: str
) -> Page:
    if mark:
        headers["Blockstore-Stale"] = mark
    elif tag:  # what is stale tells its age, and is another answer each time
        headers |= {"ETag": tag_header(tag), "Cache-Control": "no-cache"}
        if known.strip() == "*" or names_tag(known, tag):
            return _unchanged(tag, headers)
    if told.next:
        headers["Link"] = f'<{told.next}>; rel="next"'
    return Page(told.status, _marked(told.body, route, mark), headers, told.content_type)


def _unchanged(tag: str, headers: Mapping[str, str]) -> Page:
    """RFC 9110 section 15.4.5: what a cache needs, and no body."""
    always = {"ETag": tag_header(tag), "Cache-Control": "no-cache"}
    return Page(304, None, {**always, **headers}, "")


def _marked(body: Any, route: Route, mark: str) -> Any:
    """What is said of a name says so where the index is stale, as DNS does."""
    return {**body, "stale": mark} if mark and route.of_name else body


def refusal_page(refused: Refused, headers: Mapping[str, str] | None = None) -> Page:
    """A refusal as a reply; a name that may be registered says so as the spec has it (7.5)."""
    body: Json = dict(refused.as_json())
    if refused.leaves_free:
        body["status"] = "available"
    status = refused.refusal.status
    later = {"Retry-After": str(RETRY_AFTER)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Page(status, body, {**later, **(headers or {})})
