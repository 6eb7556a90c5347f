"""The HTTP door of the API, and of DNS over HTTP for a proxy in front or a plug-in beside it.

What must stay true: a request is answered only under a host name of this server (so that no web
page reaches it by DNS rebinding); a page of another origin may read and never write; bodies,
lines, headers, connections and idle time are bounded; an error is JSON like everything else.
"""

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from resolver.api.export import SNAPSHOT_PATH, Exports
from resolver.api.pages import MAX_BODY, Page, Pages, refusal_page
from resolver.api.request import JSON
from resolver.dns.asker import UNKNOWN, Asker
from resolver.doors.connections import BehindProxies
from resolver.doors.doh import answer_request
from resolver.doors.doh_pages import Begin, is_doh
from resolver.doors.http_values import HttpReply
from resolver.doors.web import MAX_CONNECTIONS, BoundedFactory, BoundedRequest
from resolver.refusals import Refusal, Refused

log = logging.getLogger("blockstore.api")

MOST_OF_ONE = MAX_CONNECTIONS // 4
MOST_OF_LOOPBACK = MAX_CONNECTIONS * 3 // 4
"""Connections of one other address, and of an address of this machine."""

_EXPOSED = "ETag, Link, Blockstore-Height, Blockstore-Stale"


class HostNames:
    """Which Host header names this server."""

    def __init__(self, host: str, names: Iterable[str] = ()) -> None:
        address = ipaddress.ip_address(host)
        self._address = address
        self._any_address = address.is_unspecified
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}

    def allows(self, header: str) -> bool:
        """Whether ``header`` (HOST or HOST:PORT) is ours.

        An address cannot be rebound: a server on all addresses answers to any.
        """
        try:
            host = urlsplit(f"//{header}").hostname or ""
            _ = urlsplit(f"//{header}").port
        except ValueError:
            return False
        if any(sign in header for sign in "/@?#\\ "):
            return False
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host.rstrip(".") in self._names
        return self._any_address or address.is_loopback or address == self._address


class _Request(BoundedRequest):
    """One request; its page is made by the factory's ``pages``, or by ``doh`` on its paths."""

    max_body = MAX_BODY

    def too_large(self) -> HttpReply:
        return _finished_page(refusal_page(_too_large()))

    def process(self) -> None:
        method = self.method.decode("latin-1")
        path = self.uri.decode("latin-1")
        begin = self.channel.factory.begin
        to_doh = begin is not None and is_doh(path)
        refused = self._unwelcome("GET" if to_doh else method)
        if refused is not None:
            self._send(refusal_page(refused))
            return
        if to_doh:
            client = self.asker_address
            answer_request(self, UNKNOWN if client is None else Asker(client), begin)
            return
        if self.channel.factory.exports is not None and path == SNAPSHOT_PATH and method == "GET":
            refused = self.channel.factory.exports.begin(self)
            if refused is not None:
                self._send(refusal_page(refused))
            return
        known = self.getHeader("if-none-match") or ""
        pages: Pages = self.channel.factory.pages
        task = asyncio.ensure_future(
            pages.reply(
                method,
                path,
                self.content.getvalue(),
                known,
                may_pay=self._may_pay(),
                of_other_origin=not self._is_own_page(),
            )
        )
        self.notifyFinish().addErrback(lambda _reason: task.cancel())
        task.add_done_callback(self._finished)

    def _may_pay(self) -> bool:
        """Whether the daemon's own user asks, or whoever shows the token: never from another
        machine, where it crossed the network in the clear, nor a page in a browser."""
        if self.getHeader("origin") is not None:
            return False
        factory: ApiFactory = self.channel.factory
        shown = self.getHeader("authorization") or ""
        return factory.is_own or (self.is_local and factory.lets_in(shown))

    def _is_own_page(self) -> bool:
        """Whether no page in a browser asks, or one that came from here: of the same host and port
        (RFC 6454 section 4), as the browser itself says too (Fetch Metadata, Sec-Fetch-Site)."""
        if self.getHeader("sec-fetch-site") not in (None, "same-origin", "none"):
            return False
        origin = self.getHeader("origin")
        host = (self.getHeader("host") or "").lower()
        return origin is None or origin.lower() in (f"http://{host}", f"https://{host}")

    def _unwelcome(self, method: str) -> Refused | None:
        hosts: HostNames = self.channel.factory.hosts
        headers = self.requestHeaders.getRawHeaders("host") or []
        if len(headers) != 1:
            return Refused(Refusal.BAD_REQUEST, "the request must have one Host header")
        if not hosts.allows(headers[0]):
            return Refused(Refusal.FORBIDDEN, f"{headers[0][:100]!r} is not a name of this server")
        if method not in ("GET", "HEAD", "OPTIONS") and not self._is_own_page():
            origin = self.getHeader("origin") or "another origin"
            return Refused(
                Refusal.FORBIDDEN, f"a page of {origin[:100]!r} may read here and not write"
            )
        if self.received > MAX_BODY:
            return _too_large()
        return None

    def _finished(self, task: "asyncio.Task[Page]") -> None:
        if task.cancelled():
            return
        if task.exception() is not None:  # Pages never raises; if it does, the client still hears
            log.error("Answering a request to the API failed.", exc_info=task.exception())
            self._send(refusal_page(Refused(Refusal.BROKEN, "the request could not be answered")))
            return
        self._send(task.result())

    def _send(self, page: Page) -> None:
        reply = _finished_page(page)
        if self.method in (b"GET", b"HEAD", b"OPTIONS"):
            reply.headers["Access-Control-Allow-Origin"] = "*"
            reply.headers["Access-Control-Expose-Headers"] = _EXPOSED
        self.send(reply)


LetsIn = Callable[[str], bool]
"""Whether the header Authorization shows the token."""


def nobody(_authorization: str) -> bool:
    """Where there is no token."""
    return False


class ApiFactory(BoundedFactory):
    """Makes connections; what they may ask is in ``pages``, under which names in ``hosts``.
    ``begin`` answers DNS packets; without it there is no DNS over HTTP. ``exports`` gives the
    snapshot of the index; without it there is none. ``limits`` are those of ``Places``."""

    is_own = False
    """Whether nobody but the daemon's own user can connect."""

    def __init__(
        self,
        pages: Pages,
        hosts: HostNames,
        reactor: Any,
        *,
        begin: Begin | None = None,
        exports: Exports | None = None,
        lets_in: LetsIn = nobody,
        **limits: Any,
    ) -> None:
        shares = {"max_per_address": MOST_OF_ONE, "max_per_loopback": MOST_OF_LOOPBACK}
        super().__init__(_Request, reactor, **{**shares, **limits})
        self.pages = pages
        self.hosts = hosts
        self.begin = begin
        self.exports = exports
        self.lets_in = lets_in


class ApiDoor:
    """The API on one address and TCP port."""

    def __init__(
        self,
        pages: Pages,
        host: str,
        port: int,
        names: Iterable[str] = (),
        *,
        proxy_headers: bool = False,
        **options: Any,
    ) -> None:
        """Whether proxies have to send PROXY headers; ``options`` are those of ``ApiFactory``."""
        self._proxy_headers = proxy_headers
        self.host = host
        self._wanted_port = port
        self._pages = pages
        self._hosts = HostNames(host, names)
        self._options = options
        self._listening: Any = None
        self._factory: ApiFactory | None = None

    @property
    def port(self) -> int:
        """The bound port."""
        port: int = self._listening.getHost().port
        return port

    def start(self) -> None:
        """Listen. Raises OSError or twisted's CannotListenError."""
        from twisted.internet import reactor

        self._factory = ApiFactory(self._pages, self._hosts, reactor, **self._options)
        factory: Any = self._factory
        if self._proxy_headers:
            factory = BehindProxies(factory, self._factory.places)
        self._listening = reactor.listenTCP(self._wanted_port, factory, interface=self.host)

    async def stop(self) -> None:
        """Close the door and what is still connected."""
        if self._listening is None:
            return
        closing = self._listening.stopListening()
        if closing is not None:
            await closing.asFuture(asyncio.get_running_loop())
        self._listening = None
        if self._factory is not None:
            self._factory.places.clear()
        await self._pages.close()


def _too_large() -> Refused:
    return Refused(Refusal.TOO_LARGE, f"the body has more than {MAX_BODY} bytes")


def _finished_page(page: Page) -> HttpReply:
    headers = {"Cache-Control": "no-store", **page.headers}
    if page.body is None:
        body = b""
    elif page.content_type == JSON:
        body = json.dumps(page.body, sort_keys=True).encode("ascii") + b"\n"
    else:
        body = str(page.body).encode("utf-8")
    return HttpReply(page.status, page.content_type, body, headers)
