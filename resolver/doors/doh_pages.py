"""DNS over HTTPS without sockets (RFC 8484): a request in, a reply out, at once where it can be.

What must stay true: whatever is asked, the reply is an HTTP reply with a status that fits; a DNS
error is a DNS reply with HTTP status 200 (RFC 8484 4.2.1); how long a reply may be kept is never
longer than its least TTL, and what failed is not kept; anybody's page may ask (CORS).
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from resolver.dns.asker import Asker
from resolver.dns.message import STREAM_LIMIT
from resolver.dns.upstream_reply import BadReply, least_ttl, read_reply
from resolver.doors.doh_json import BadQuestion, query_packet, read_fields, reply_json
from resolver.doors.http_values import HttpReply, HttpRequest

WIRE = "application/dns-message"
JSON = "application/dns-json"
_JSON_KINDS = (JSON, "application/json")
PATHS = ("/dns-query", "/resolve")
MAX_MESSAGE = 65_535

_METHODS = {"/dns-query": "GET, HEAD, POST, OPTIONS", "/resolve": "GET, HEAD, OPTIONS"}
_CORS = {"Access-Control-Allow-Origin": "*"}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_ONLY_DNS = re.compile(r"dns=[A-Za-z0-9_-]+")
"""The usual query string, with nothing in it to take apart or to decode."""
MOST_REMEMBERED = 512
"""Bytes of a reply of which it is remembered how long it may be kept."""

Begin = Callable[[bytes, int, Asker], bytes | Coroutine[Any, Any, bytes | None] | None]


class Unfit(Exception):
    """A request that is answered with an HTTP error."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def is_doh(uri: str) -> bool:
    """Whether ``uri`` is one of the paths answered here."""
    return uri.partition("?")[0] in PATHS


def answer(
    request: HttpRequest, asker: Asker, begin: Begin
) -> HttpReply | Coroutine[Any, Any, HttpReply]:
    """The reply, or a coroutine that gives it. ``begin`` answers DNS packets."""
    try:
        if request.method == "OPTIONS":
            return _preflight(request)
        packet, as_json = read_request(request)
    except Unfit as unfit:
        return error_reply(unfit.status, str(unfit), unfit.headers)
    reply = begin(packet, STREAM_LIMIT, asker)
    if reply is None or isinstance(reply, bytes):
        return _finished(reply, as_json)

    async def later() -> HttpReply:
        return _finished(await reply, as_json)

    return later()


def read_request(request: HttpRequest) -> tuple[bytes, bool]:
    """The DNS packet in ``request``, and whether JSON is wanted. Raises Unfit."""
    path, _, query_string = request.uri.partition("?")
    if path not in PATHS:
        raise Unfit(404, f"there is no page {path[:200]!r}: ask {PATHS[0]} or {PATHS[1]}")
    if request.method not in _METHODS[path].split(", "):
        raise Unfit(405, f"{path} has no method {request.method[:20]!r}", Allow=_METHODS[path])
    if request.method == "POST":
        kind = request.content_type.partition(";")[0].strip().lower()
        if kind != WIRE:
            raise Unfit(415, f"the body must be {WIRE}", Accept=WIRE)
        if len(request.body) > MAX_MESSAGE:
            raise too_large()
        if not request.body:
            raise Unfit(400, "the body is empty; it must be a DNS message")
        return request.body, False
    if path == PATHS[0] and _ONLY_DNS.fullmatch(query_string):
        return _decoded(query_string[4:]), False
    try:
        fields = read_fields(query_string)
        if "dns" in fields and path == PATHS[0]:
            return _decoded(fields["dns"]), False
        if path == PATHS[0] and not _takes_json(request.accept, fields):
            raise Unfit(400, "the parameter dns is missing: a DNS message in base64url")
        return query_packet(fields), True
    except BadQuestion as error:
        raise Unfit(400, str(error)) from None


def too_large() -> Unfit:
    return Unfit(413, f"a DNS message has at most {MAX_MESSAGE} bytes")


def error_reply(status: int, sentence: str, headers: dict[str, str] | None = None) -> HttpReply:
    """An HTTP error, in JSON as on every page of ours."""
    body = json.dumps({"error": sentence}).encode("ascii") + b"\n"
    more = {"Cache-Control": "no-store", **_CORS, **(headers or {})}
    return HttpReply(status, "application/json", body, more)


def _takes_json(accept: str, fields: Mapping[str, str]) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return not kinds.isdisjoint(_JSON_KINDS) or fields.get("ct") in _JSON_KINDS


def _decoded(text: str) -> bytes:
    """Base64url without padding (RFC 8484 6, RFC 4648 5)."""
    if len(text) > -(-MAX_MESSAGE * 4 // 3):
        raise too_large()
    try:
        if not _BASE64URL.fullmatch(text):
            raise ValueError
        packet = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise Unfit(400, "the parameter dns is not base64url without padding") from None
    if not packet:
        raise Unfit(400, "the parameter dns is empty; it must be a DNS message")
    return packet


def _finished(packet: bytes | None, as_json: bool) -> HttpReply:
    if packet is None:  # what any other door meets with silence
        return error_reply(400, "the message is no DNS query")
    if len(packet) <= MOST_REMEMBERED:
        kept = _remembered_ttl(b"\0\0" + packet[2:])  # whatever its ID
    else:
        kept = _kept_for(packet)
    headers = {"Cache-Control": "no-store" if kept is None else f"max-age={kept}", **_CORS}
    if not as_json:
        return HttpReply(200, WIRE, packet, headers)
    body = json.dumps(reply_json(packet), separators=(",", ":")).encode("ascii") + b"\n"
    return HttpReply(200, JSON, body, headers)


def _kept_for(packet: bytes) -> int | None:
    """How many seconds the reply may be kept; None: not at all."""
    try:
        return least_ttl(read_reply(packet))
    except BadReply:
        return None  # a bare refusal, such as the one for a header alone


_remembered_ttl = lru_cache(maxsize=1_024)(_kept_for)


def _preflight(request: HttpRequest) -> HttpReply:
    path = unquote(request.uri.partition("?")[0])
    methods = _METHODS.get(path, "GET, HEAD, POST, OPTIONS")
    headers = {
        **_CORS,
        "Allow": methods,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": "Accept, Content-Type",
        "Access-Control-Max-Age": "86400",
    }
    return HttpReply(204, "", b"", headers)
