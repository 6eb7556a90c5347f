"""HTTP/2 as far as DNS over HTTPS needs it (RFC 9113): frames in, requests out, replies to frames.

No sockets here: ``receive`` takes octets and gives what happened, ``take`` gives the octets to
send. What must stay true:
- nothing that is received raises; an error of the connection ends it with GOAWAY, one of a stream
  ends that stream;
- streams, header blocks, bodies, what waits for the peer's window and what a peer can make us
  answer (PING, SETTINGS, streams it resets) are bounded;
- a reply waits for windows and for nothing else.
"""

import struct
from dataclasses import dataclass, field

from resolver.doors.hpack import BadHeaders, Field, HeaderReader, write_headers
from resolver.doors.http_values import HttpReply, HttpRequest

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_STREAMS = 100
MAX_FRAME = 16_384
MAX_HEADER_BLOCK = 16_384
WINDOW = 65_535
MAX_WINDOW = 0x7FFF_FFFF
MAX_WAITING = 256 * 1024
"""Octets of replies that wait for the peer's window; beyond it new requests are refused."""
MAX_BOTHER = 1_000
"""Frames that cost us and ask nothing, beyond two for each request, before the peer is told to
calm down."""

_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(
    10
)
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _HAS_PRIORITY = 0x4, 0x8, 0x20
_NO_ERROR, _PROTOCOL, _FLOW, _CLOSED, _SIZE = 0, 1, 3, 5, 6
_REFUSED, _COMPRESSION, _CALM = 7, 9, 11
_MAX_CONCURRENT, _INITIAL_WINDOW, _FRAME_SIZE, _LIST_SIZE = 3, 4, 5, 6

_head = struct.Struct("!BHBBI")
_setting = struct.Struct("!HI")
_PSEUDO = (b":method", b":scheme", b":authority", b":path")
_FORBIDDEN = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")


@dataclass(frozen=True, slots=True)
class Asked:
    """A whole request on a stream."""

    stream: int
    request: HttpRequest


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The peer wants no reply on this stream any more."""

    stream: int


class _ConnectionError(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class _StreamError(Exception):
    def __init__(self, stream: int, code: int) -> None:
        super().__init__()
        self.stream = stream
        self.code = code


@dataclass(slots=True)
class _Stream:
    fields: list[Field]
    window: int
    """What may still be sent on it."""
    body: bytearray = field(default_factory=bytearray)
    asked: bool = False
    waiting: bytearray | None = None
    """What is left of the reply; None until there is one."""


class Http2:
    """One connection, server side. ``max_body`` octets of a request are kept and a little more is
    told as too long by whoever answers it."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._received = bytearray()
        self._out = bytearray()
        self._streams: dict[int, _Stream] = {}
        self._reader = HeaderReader()
        self._preface_seen = False
        self._settings_seen = False
        self._last = 0
        self._block: tuple[int, int, bytearray] | None = None
        self._window = WINDOW
        self._first_window = WINDOW
        self._frame_size = MAX_FRAME
        self._waiting = 0
        self._bother = 0
        self.closing = False
        """After an error: what is in ``take`` is the last."""
        settings = ((_MAX_CONCURRENT, MAX_STREAMS), (_LIST_SIZE, 8_192))
        self._frame(_SETTINGS, 0, 0, b"".join(_setting.pack(*pair) for pair in settings))

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def take(self) -> bytes:
        """What is to be sent now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def receive(self, octets: bytes) -> list[Asked | GivenUp]:
        """What happened in ``octets``."""
        events: list[Asked | GivenUp] = []
        if self.closing:
            return events
        self._received += octets
        try:
            while self._one_frame(events):
                pass
        except _ConnectionError as error:
            self._go_away(error.code, str(error))
        return events

    def reply(self, stream: int, reply: HttpReply) -> None:
        """Send ``reply`` on a stream, as far as its windows allow."""
        open_stream = self._streams.get(stream)
        if open_stream is None or open_stream.waiting is not None or self.closing:
            return
        fields = [(b":status", b"%d" % reply.status)]
        headers = {"Content-Length": str(len(reply.body)), **reply.headers}
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        fields += [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
        no_body = not reply.body or dict(open_stream.fields).get(b":method") == b"HEAD"
        flags = _END_HEADERS | (_END_STREAM if no_body else 0)
        self._frame(_HEADERS, flags, stream, write_headers(fields))
        if no_body:
            self._forget(stream)
            return
        open_stream.waiting = bytearray(reply.body)
        self._waiting += len(reply.body)
        self._send(stream, open_stream)

    def go_away(self) -> None:
        """End in order: no more requests are taken."""
        self._go_away(_NO_ERROR, "")

    # Inside

    def _one_frame(self, events: list[Asked | GivenUp]) -> bool:
        """Handle the next whole frame; whether there was one."""
        if not self._preface_seen:
            seen = bytes(self._received[: len(PREFACE)])
            if not PREFACE.startswith(seen):
                raise _ConnectionError(_PROTOCOL, "no preface")
            if len(seen) < len(PREFACE):
                return False
            self._preface_seen = True
            del self._received[: len(PREFACE)]
        if len(self._received) < 9:
            return False
        high, low, kind, flags, stream = _head.unpack_from(self._received)
        length = high << 16 | low
        if length > MAX_FRAME:
            raise _ConnectionError(_SIZE, "a frame is too long")
        if len(self._received) < 9 + length:
            return False
        payload = bytes(self._received[9 : 9 + length])
        del self._received[: 9 + length]
        stream &= MAX_WINDOW
        if not self._settings_seen and kind != _SETTINGS:
            raise _ConnectionError(_PROTOCOL, "the first frame is no SETTINGS")
        if self._block is not None and (kind != _CONTINUATION or stream != self._block[0]):
            raise _ConnectionError(_PROTOCOL, "a header block is interrupted")
        try:
            self._handle(kind, flags, stream, payload, events)
        except _StreamError as error:
            self._bothered()
            self._frame(_RST, 0, error.stream, struct.pack("!I", error.code))
            if error.stream in self._streams:
                self._forget(error.stream)
                events.append(GivenUp(error.stream))
        return True

    def _handle(
        self, kind: int, flags: int, stream: int, payload: bytes, events: list[Asked | GivenUp]
    ) -> None:
        if kind == _HEADERS:
            self._headers(flags, stream, payload, events)
        elif kind == _CONTINUATION:
            self._continuation(flags, payload, events)
        elif kind == _DATA:
            self._data(flags, stream, payload, events)
        elif kind == _SETTINGS:
            self._settings(flags, stream, payload)
        elif kind == _WINDOW:
            self._window_update(stream, payload)
        elif kind == _PING:
            if stream or len(payload) != 8:
                raise _ConnectionError(_SIZE if not stream else _PROTOCOL, "a PING of no form")
            if not flags & _ACK:
                self._bothered()
                self._frame(_PING, _ACK, 0, payload)
        elif kind == _RST:
            if not stream or len(payload) != 4 or stream > self._last:
                raise _ConnectionError(_PROTOCOL, "a RST_STREAM of no form")
            self._bothered()
            if stream in self._streams:
                self._forget(stream)
                events.append(GivenUp(stream))
        elif kind == _PUSH:
            raise _ConnectionError(_PROTOCOL, "clients do not push")
        else:  # PRIORITY, GOAWAY (what is open is still answered) and kinds that we do not know
            self._bothered()

    def _headers(
        self, flags: int, stream: int, payload: bytes, events: list[Asked | GivenUp]
    ) -> None:
        if not stream & 1:
            raise _ConnectionError(_PROTOCOL, "clients open odd streams")
        payload = _unpadded(flags, payload)
        if flags & _HAS_PRIORITY:
            if len(payload) < 5:
                raise _ConnectionError(_SIZE, "HEADERS breaks off")
            payload = payload[5:]
        self._block = (stream, flags, bytearray(payload))
        if flags & _END_HEADERS:
            self._block_ended(events)

    def _continuation(self, flags: int, payload: bytes, events: list[Asked | GivenUp]) -> None:
        if self._block is None:
            raise _ConnectionError(_PROTOCOL, "CONTINUATION of nothing")
        self._bothered()
        self._block[2].extend(payload)
        if len(self._block[2]) > MAX_HEADER_BLOCK:
            raise _ConnectionError(_CALM, "a header block is too long")
        if flags & _END_HEADERS:
            self._block_ended(events)

    def _block_ended(self, events: list[Asked | GivenUp]) -> None:
        assert self._block is not None
        stream, flags, block = self._block
        self._block = None
        try:
            fields = self._reader.read(bytes(block))
        except BadHeaders as error:
            raise _ConnectionError(_COMPRESSION, str(error)) from None
        known = self._streams.get(stream)
        if known is not None:
            if known.asked or not flags & _END_STREAM:
                raise _StreamError(stream, _PROTOCOL)
            self._ended(stream, known, events)  # trailers, which say nothing to us
            return
        if stream <= self._last:
            raise _ConnectionError(_CLOSED, "HEADERS on a closed stream")
        self._last = stream
        if len(self._streams) >= MAX_STREAMS or self._waiting > MAX_WAITING:
            raise _StreamError(stream, _REFUSED)
        self._bother = max(0, self._bother - 2)
        opened = self._streams[stream] = _Stream(fields, self._first_window)
        if not _lawful(fields):
            raise _StreamError(stream, _PROTOCOL)
        if flags & _END_STREAM:
            self._ended(stream, opened, events)

    def _data(self, flags: int, stream: int, payload: bytes, events: list[Asked | GivenUp]) -> None:
        if not stream or stream > self._last:
            raise _ConnectionError(_PROTOCOL, "DATA on an idle stream")
        if payload:
            self._frame(_WINDOW, 0, 0, struct.pack("!I", len(payload)))
        known = self._streams.get(stream)
        if known is None or known.asked:
            self._bothered()
            if known is not None:
                raise _StreamError(stream, _CLOSED)
            return  # the rest of a stream that was reset
        if not payload:
            self._bothered()
        known.body += _unpadded(flags, payload)
        if len(known.body) > self._max_body:
            del known.body[self._max_body + 1 :]  # enough to be told as too long
            flags |= _END_STREAM
        elif payload and not flags & _END_STREAM:
            self._frame(_WINDOW, 0, stream, struct.pack("!I", len(payload)))
        if flags & _END_STREAM:
            self._ended(stream, known, events)

    def _ended(self, stream: int, known: _Stream, events: list[Asked | GivenUp]) -> None:
        known.asked = True
        fields = dict(reversed(known.fields))
        request = HttpRequest(
            fields.get(b":method", b"").decode("latin-1"),
            fields.get(b":path", b"").decode("latin-1"),
            fields.get(b"content-type", b"").decode("latin-1"),
            fields.get(b"accept", b"").decode("latin-1"),
            bytes(known.body),
        )
        events.append(Asked(stream, request))

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) % 6 or (flags & _ACK and payload):
            raise _ConnectionError(_SIZE, "SETTINGS of no form")
        self._settings_seen = True
        if flags & _ACK:
            return
        self._bothered()
        for at in range(0, len(payload), 6):
            number, value = _setting.unpack_from(payload, at)
            if number == _INITIAL_WINDOW:
                if value > MAX_WINDOW:
                    raise _ConnectionError(_FLOW, "a window is too great")
                grown = value - self._first_window
                self._first_window = value
                for known in self._streams.values():
                    known.window += grown
            elif number == _FRAME_SIZE:
                if not MAX_FRAME <= value < 1 << 24:
                    raise _ConnectionError(_PROTOCOL, "a frame size is out of bounds")
                self._frame_size = MAX_FRAME
        self._frame(_SETTINGS, _ACK, 0, b"")
        self._send_all()

    def _window_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _ConnectionError(_SIZE, "WINDOW_UPDATE of no form")
        self._bothered(waiting=self._waiting > 0)
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        if not stream:
            self._window += more
            if not more or self._window > MAX_WINDOW:
                raise _ConnectionError(_PROTOCOL if not more else _FLOW, "a window of no size")
            self._send_all()
            return
        if stream > self._last:
            raise _ConnectionError(_PROTOCOL, "WINDOW_UPDATE on an idle stream")
        known = self._streams.get(stream)
        if known is None:
            return
        known.window += more
        if not more or known.window > MAX_WINDOW:
            raise _StreamError(stream, _PROTOCOL if not more else _FLOW)
        self._send(stream, known)

    def _send_all(self) -> None:
        for stream, known in list(self._streams.items()):
            self._send(stream, known)

    def _send(self, stream: int, known: _Stream) -> None:
        while known.waiting:
            room = min(known.window, self._window, self._frame_size, len(known.waiting))
            if room <= 0:
                return
            piece = bytes(known.waiting[:room])
            del known.waiting[:room]
            known.window -= room
            self._window -= room
            self._waiting -= room
            self._frame(_DATA, 0 if known.waiting else _END_STREAM, stream, piece)
            if not known.waiting:
                self._forget(stream)

    def _forget(self, stream: int) -> None:
        known = self._streams.pop(stream)
        self._waiting -= len(known.waiting or b"")

    def _bothered(self, *, waiting: bool = False) -> None:
        self._bother += 0 if waiting else 1
        if self._bother > MAX_BOTHER:
            raise _ConnectionError(_CALM, "too many frames that ask nothing")

    def _go_away(self, code: int, why: str) -> None:
        self.closing = True
        self._frame(_GOAWAY, 0, 0, struct.pack("!II", self._last, code) + why.encode())

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        length = len(payload)
        self._out += _head.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _ConnectionError(_PROTOCOL, "more padding than there is")
    return payload[1 : len(payload) - payload[0]]


def _lawful(fields: list[Field]) -> bool:
    """RFC 9113 8.2 and 8.3: names in lower case, pseudo-fields first and each once."""
    names = [name for name, _ in fields]
    pseudo = [name for name in names if name[:1] == b":"]
    return (
        names[: len(pseudo)] == pseudo
        and len(set(pseudo)) == len(pseudo)
        and set(pseudo) <= set(_PSEUDO)
        and {b":method", b":scheme", b":path"} <= set(pseudo)
        and all(name and name == name.lower() and name not in _FORBIDDEN for name in names)
    )
