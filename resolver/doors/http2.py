"""HTTP/2 for DNS over HTTPS: ``h2`` reads and writes the frames, a budget above it bounds a peer.

No sockets here: ``receive`` takes octets, ``step`` handles one frame, ``take`` gives the octets to
send. What must stay true:
- nothing that is received raises; what breaks RFC 9113 ends the connection with GOAWAY;
- ``h2`` sees a frame only after the budget has paid for it, so that whoever costs much and gets no
  replies is told to calm down (ENHANCE_YOUR_CALM) before more work is done;
- streams, header lists, bodies and what waits for the peer's window are bounded.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import (
    Decoder,
    Encoder,
    HeaderTuple,
    HPACKError,
    NeverIndexedHeaderTuple,
    OversizedHeaderListError,
)

from resolver.doors.http_values import HttpReply, HttpRequest

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_STREAMS = 100
"""Streams that may be open; a request beyond them is refused alone."""
MAX_FRAME = 16_384
MAX_HEADER_LIST = 8_192
"""Octets of a header list, each field counted with 32 more (RFC 9113 6.5.2)."""
MAX_HELD = 256 * 1024
"""Octets of bodies, beyond which a request is refused; and of replies that wait for the peer's
window, beyond which requests wait as well."""
MAX_SETTINGS = 64
"""Kinds of settings that a peer may give; ``h2`` remembers also those it does not know."""
MAX_REMEMBERED = 1_000
"""Ended streams of which it is remembered how they ended."""

BUDGET = 400
"""What a peer may cost before it has got replies, and never more than this in advance."""
OCTETS_A_UNIT, FIELDS_A_UNIT = 64, 4
"""A frame costs one unit and one more for so many octets (of DATA they cost nothing) and for so
many header fields."""
DATA_FOR_FREE = 256
"""A DATA frame that carries so many octets of a request costs nothing."""
EARNED_BY_REPLY = 12
"""Units that the peer gets back with each reply that it took to its end."""
SENT_A_UNIT = 1_024
"""Octets of a reply sent for which it gets one unit back, so that opening windows pays."""

_DATA, _RST, _SETTINGS, _GOAWAY, _ACK = 0x0, 0x3, 0x4, 0x7, 0x1
_HEAD = 9
_RESIZES = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){3}")
"""More changes of the table's size than the two that RFC 7541 4.2 has a use for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A whole request on a stream."""

    stream: int
    request: HttpRequest


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The peer wants no reply on this stream any more."""

    stream: int


class _Refused(Exception):
    """What h2 is not to see ends the connection."""

    def __init__(self, code: ErrorCodes) -> None:
        super().__init__(code.name)
        self.code = code


class _CompressionError(ProtocolError):
    error_code = ErrorCodes.COMPRESSION_ERROR


class _HeaderReader(Decoder):
    """Ends with the code of RFC 9113 4.3, and before many changes of the table are made."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        if _RESIZES.match(data):
            raise _CompressionError("too many changes of the table's size")
        try:
            return super().decode(data, raw)
        except OversizedHeaderListError:
            raise
        except HPACKError as error:
            raise _CompressionError(str(error)) from error


class _HeaderWriter(Encoder):
    """Writes literals of which neither side remembers any, so that no table of ours grows by what
    a peer asks; a list that was written before is not written again."""

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        return super().encode(()) + _literals(tuple(headers))  # first the changes of the table


@lru_cache(maxsize=1_024)
def _literals(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)


class _Connection(H2Connection):
    MAX_CLOSED_STREAMS = MAX_REMEMBERED


@dataclass(slots=True)
class _Stream:
    fields: dict[bytes, bytes]
    body: bytearray = field(default_factory=bytearray)
    asked: bool = False
    waiting: bytes = b""
    """What is left of the reply."""


class Http2:
    """One connection, server side. Of a request's body ``max_body`` octets are kept, and one more
    that tells whoever answers that it is too long."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._received = bytearray()
        self._streams: dict[int, _Stream] = {}
        self._asked: dict[int, HttpRequest] = {}
        """Whole requests that nobody has taken yet, in order."""
        self._bodies = self._waiting = 0
        """Octets held of requests and of replies."""
        self._budget = BUDGET
        self.spent = 0
        """Units of all work so far: what frames cost, and one for each request handed out."""
        self._preface_seen = self._settings_seen = False
        self.closing = False
        """After GOAWAY: what is in ``take`` is the last."""
        self._h2 = _Connection(
            H2Configuration(
                client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self._h2.decoder = _HeaderReader(MAX_HEADER_LIST)
        self._h2.encoder = _HeaderWriter()
        self._h2.local_settings = _settings(MAX_STREAMS)
        self._h2.initiate_connection()
        # Told 100; who did not know it yet is refused by us a stream, not by h2 the connection.
        self._h2.local_settings = _settings(2 * MAX_STREAMS)

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def take(self) -> bytes:
        """What is to be sent now."""
        return self._h2.data_to_send()

    def receive(self, octets: bytes) -> None:
        """Octets from the peer, to be handled by ``step``."""
        if not self.closing:
            self._received += octets

    def step(self) -> list[Asked | GivenUp] | None:
        """The next request that was read, or what happened in the next frame. None: there is no
        whole frame."""
        if self.closing:
            return None
        if self._asked and self._waiting <= MAX_HELD:
            stream = next(iter(self._asked))
            request = self._asked.pop(stream)
            self._bodies -= len(request.body)
            self.spent += 1
            return [Asked(stream, request)]
        try:
            frame = self._next_frame()
            if frame is None:
                return None
            return [told for event in self._h2.receive_data(frame) for told in self._told(event)]
        except ProtocolError:  # of which h2 has told the peer
            self.closing = True
        except _Refused as refused:
            self.go_away(refused.code)
        self._received.clear()
        return None

    def reply(self, stream: int, reply: HttpReply) -> None:
        """Send ``reply`` on a stream, as far as its windows allow."""
        known = self._streams.get(stream)
        if known is None or self.closing:
            return
        fields = [(b":status", b"%d" % reply.status), *reply.fields()]
        no_body = not reply.body or known.fields[b":method"] == b"HEAD"
        self._h2.send_headers(stream, fields, no_body)
        if no_body:
            self._finished(stream)
            return
        known.waiting = reply.body
        self._waiting += len(reply.body)
        self._send(stream, known)

    def go_away(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """End: no more requests are taken."""
        self.closing = True
        self._h2.close_connection(code)

    def _next_frame(self) -> bytes | None:
        """The next frame, paid for. Raises _Refused."""
        received = self._received
        if not self._preface_seen:
            if not PREFACE.startswith(received[: len(PREFACE)]):
                raise _Refused(ErrorCodes.PROTOCOL_ERROR)
            if len(received) < len(PREFACE):
                return None
            self._preface_seen = True
            self._h2.receive_data(PREFACE)
            del received[: len(PREFACE)]
        if len(received) < _HEAD:
            return None
        length, kind = int.from_bytes(received[:3], "big"), received[3]
        stream = int.from_bytes(received[5:9], "big") & 0x7FFF_FFFF
        if length > MAX_FRAME:  # which h2 would say after it has come
            raise _Refused(ErrorCodes.FRAME_SIZE_ERROR)
        if len(received) < _HEAD + length:
            return None
        frame = bytes(received[: _HEAD + length])
        del received[: _HEAD + length]
        self._spend(1 if kind == _DATA else 1 + length // OCTETS_A_UNIT)
        if not self._settings_seen and (kind != _SETTINGS or frame[4] & _ACK):
            raise _Refused(ErrorCodes.PROTOCOL_ERROR)
        self._settings_seen = True
        if kind == _SETTINGS and frame[4] & _ACK and length:
            raise _Refused(ErrorCodes.FRAME_SIZE_ERROR)  # h2 has another code
        if kind == _RST and (not stream & 1 or stream > self._h2.highest_inbound_stream_id):
            raise _Refused(ErrorCodes.PROTOCOL_ERROR)  # an idle stream, which h2 would let pass
        if kind == _GOAWAY and not stream and length >= 8:
            return b""  # h2 would send nothing more, and what is open is still answered
        return frame

    def _told(self, event: Event) -> list[GivenUp]:
        if isinstance(event, RequestReceived | TrailersReceived):
            self._spend(len(event.headers) // FIELDS_A_UNIT)
        if isinstance(event, RequestReceived):
            self._open(event.stream_id, dict(reversed(event.headers)))
        elif isinstance(event, DataReceived):
            self._data(event)
        elif isinstance(event, StreamEnded):
            self._ended(event.stream_id)
        elif isinstance(event, StreamReset):
            return self._forget(event.stream_id)
        elif isinstance(event, WindowUpdated) and event.stream_id:
            if known := self._streams.get(event.stream_id):
                self._send(event.stream_id, known)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            if len(self._h2.remote_settings) > MAX_SETTINGS:
                raise _Refused(ErrorCodes.ENHANCE_YOUR_CALM)
            for stream, known in list(self._streams.items()):
                self._send(stream, known)
        return []

    def _open(self, stream: int, fields: dict[bytes, bytes]) -> None:
        if len(self._streams) >= MAX_STREAMS:
            self._h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        else:
            self._streams[stream] = _Stream(fields)

    def _data(self, event: DataReceived) -> None:
        stream, known = event.stream_id, self._streams.get(event.stream_id)
        self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
        if known is None or known.asked:
            return
        if len(event.data) >= DATA_FOR_FREE:
            self._earn(1)
        known.body += event.data
        self._bodies += len(event.data)
        if len(known.body) > self._max_body:
            self._ask(stream, known)
        elif self._bodies > MAX_HELD:
            self._h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            self._forget(stream)

    def _ended(self, stream: int) -> None:
        known = self._streams.get(stream)
        if known is None or known.asked:
            return
        length = known.fields.get(b"content-length")
        if length is None or int(length) == len(known.body):
            self._ask(stream, known)
        else:  # RFC 9113 8.1.1; h2 looks at DATA, and not where none came or trailers end it
            self._h2.reset_stream(stream, ErrorCodes.PROTOCOL_ERROR)
            self._forget(stream)

    def _ask(self, stream: int, known: _Stream) -> None:
        known.asked = True
        body = bytes(known.body[: self._max_body + 1])
        self._bodies += len(body) - len(known.body)
        known.body = bytearray()
        method, path, kind, accept = (
            known.fields.get(name, b"").decode("latin-1")
            for name in (b":method", b":path", b"content-type", b"accept")
        )
        self._asked[stream] = HttpRequest(method, path, kind, accept, body)

    def _send(self, stream: int, known: _Stream) -> None:
        """As much of the reply as the windows take."""
        while known.waiting:
            room = min(self._h2.local_flow_control_window(stream), MAX_FRAME, len(known.waiting))
            if room <= 0:
                return
            piece, known.waiting = known.waiting[:room], known.waiting[room:]
            self._h2.send_data(stream, piece, end_stream=not known.waiting)
            self._waiting -= room
            self._earn(room // SENT_A_UNIT)
            if not known.waiting:
                self._finished(stream)

    def _finished(self, stream: int) -> None:
        # What is left of a body too long is let come and dropped: after a reset there are clients
        # (curl) that throw away the reply that says so.
        self._earn(EARNED_BY_REPLY)
        self._forget(stream)

    def _forget(self, stream: int) -> list[GivenUp]:
        known = self._streams.pop(stream, None)
        if known is None:
            return []
        request = self._asked.pop(stream, None)
        self._bodies -= len(known.body) + (len(request.body) if request else 0)
        self._waiting -= len(known.waiting)
        return [GivenUp(stream)] if known.asked and request is None else []

    def _spend(self, units: int) -> None:
        self.spent += units
        self._budget -= units
        if self._budget < 0:
            raise _Refused(ErrorCodes.ENHANCE_YOUR_CALM)

    def _earn(self, units: int) -> None:
        self._budget = min(BUDGET, self._budget + units)


def _settings(streams: int) -> Settings:
    return Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
        },
    )
