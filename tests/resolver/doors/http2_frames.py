"""Frames of HTTP/2 made by hand, right ones and those of peers who mean harm."""

import struct
from collections.abc import Callable

from hpack import Encoder, NeverIndexedHeaderTuple

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
NO_ERROR, PROTOCOL, FLOW, CLOSED, SIZE, REFUSED, COMPRESSION, CALM = 0, 1, 3, 5, 6, 7, 9, 11
GET = [
    (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"),
    (b":path", b"/dns-query?dns=AAABAAABAAAAAAAABWFsaWNlAmJzAAAQAAE"),
]  # fmt: skip
"""The TXT records of alice.bs."""
POST = [(b":method", b"POST"), *GET[1:]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def frames(octets: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of whole frames."""
    found = []
    while octets:
        length = int.from_bytes(octets[:3], "big")
        kind, flags, stream = struct.unpack_from("!BBI", octets, 3)
        found.append((kind, flags, stream, octets[9 : 9 + length]))
        assert len(found[-1][3]) == length
        octets = octets[9 + length :]
    return found


def block(fields: list[tuple[bytes, bytes]] = GET) -> bytes:
    """A header block that needs no table."""
    return Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)


def headers(stream: int, fields: list[tuple[bytes, bytes]] = GET, flags: int = 5) -> bytes:
    return frame(HEADERS, flags, stream, block(fields))


def window(stream: int, more: int) -> bytes:
    return frame(WINDOW, 0, stream, struct.pack("!I", more))


def setting(number: int, value: int) -> bytes:
    return struct.pack("!HI", number, value)


OPEN = frame(SETTINGS, 0, 0)
SHUT = frame(SETTINGS, 0, 0, setting(4, 0)) + b"".join(headers(2 * n + 1) for n in range(100))
"""Windows that let no reply go, and as many requests as may be open."""
UNFINISHED = OPEN + headers(1, POST, 4)
ASKED = OPEN + headers(1)

_GET, _TRAILERS = block(), block([(b"a", b"b")] * 180)


def _request(number: int, more: bytes = b"", flags: int = 5) -> bytes:
    return frame(HEADERS, flags, 1_001 + 2 * number, _GET + more)


def _reset(number: int) -> bytes:
    return frame(RST, 0, 1_001 + 2 * number, bytes(4))


ATTACKS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "ping": (OPEN, lambda n: frame(PING, 0, 0, bytes(8))),
    "settings": (OPEN, lambda n: frame(SETTINGS, 0, 0, setting(4, n))),
    "settings, replies waiting": (SHUT, lambda n: frame(SETTINGS, 0, 0, setting(4, 0))),
    "settings nobody knows": (
        OPEN, lambda n: frame(SETTINGS, 0, 0, b"".join(
            setting(1_000 + (n * 100 + at) % 60_000, 1) for at in range(100)))),
    "priority": (OPEN, lambda n: frame(PRIORITY, 0, 1, bytes(5))),
    "priority of many": (OPEN, lambda n: frame(PRIORITY, 0, 2 * n + 1, bytes(5))),
    "window": (OPEN, lambda n: window(0, 1)),
    "window, replies waiting": (SHUT, lambda n: window(0, 1)),
    "a stream's window, replies waiting": (SHUT, lambda n: window(2 * (n % 100) + 1, 1)),
    "streams that stall": (SHUT[:15], lambda n: _request(n)),
    "streams with tiny windows": (
        frame(SETTINGS, 0, 0, setting(4, 1)), lambda n: _request(n) + window(1_001 + 2 * n, 1)),
    "rapid reset": (OPEN, lambda n: _request(n) + _reset(n)),
    "rapid reset, unfinished": (OPEN, lambda n: _request(n, flags=4) + _reset(n)),
    "rapid reset, windows shut": (SHUT[:15], lambda n: _request(n) + _reset(n)),
    "reset by a fault": (SHUT[:15], lambda n: _request(n) + window(1_001 + 2 * n, 0x7FFF_FFFF)),
    "resets of nothing": (UNFINISHED, lambda n: frame(RST, 0, 1, bytes(4))),
    "empty data": (UNFINISHED, lambda n: frame(DATA, 0, 1)),
    "padded empty data": (UNFINISHED, lambda n: frame(DATA, 8, 1, b"\xff" + bytes(255))),
    "data in crumbs": (UNFINISHED, lambda n: frame(DATA, 0, 1, b"x")),
    "data after the end": (ASKED, lambda n: frame(DATA, 0, 1, bytes(256))),
    "continuation": (OPEN + frame(HEADERS, 1, 1, _GET), lambda n: frame(CONTINUATION, 0, 1)),
    "long continuation": (
        OPEN + frame(HEADERS, 1, 1, _GET), lambda n: frame(CONTINUATION, 0, 1, b"\0\1a\0" * 2_000)),
    "unfinished requests": (OPEN, lambda n: _request(n, flags=4)),
    "trailers": (
        OPEN, lambda n: _request(n, flags=4) + frame(HEADERS, 5, 1_001 + 2 * n, _TRAILERS)),
    "many indexed fields": (OPEN, lambda n: _request(n, b"\x90" * 100)),
    "tiny fields": (OPEN, lambda n: _request(n, b"\0\1a\0" * 200)),
    "header bomb": (
        OPEN, lambda n: _request(n, b"\x40\1a\x7f\x81\x07" + b"a" * 1_024 + b"\xbe" * 4_000)),
    "table resizes": (OPEN, lambda n: frame(HEADERS, 5, 1_001 + 2 * n, b"\x20" * 2_000 + _GET)),
    "unknown frames": (OPEN, lambda n: frame(0x42, 0, 0)),
    "long unknown frames": (OPEN, lambda n: frame(0x42, 0, 0, bytes(16_384))),
    "goodbyes": (OPEN, lambda n: frame(GOAWAY, 0, 0, bytes(8))),
}  # fmt: skip
"""What is sent first, and what is then sent again and again, by number."""
EARLIER = {"continuation": PROTOCOL, "table resizes": COMPRESSION}
"""Attacks that end for another reason before the budget is spent, and the code of it."""
