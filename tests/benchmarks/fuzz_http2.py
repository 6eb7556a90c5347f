"""As much of an HTTP/2 client as the fuzzing of the doors needs: one question after another on one
connection, and connections that break the rules."""

import random
import socket
import ssl
import struct

from hpack import Decoder

from resolver.doors.http2 import PREFACE
from tests.resolver.doors.http2_frames import (
    DATA,
    GOAWAY,
    HEADERS,
    RST,
    SETTINGS,
    WINDOW,
    frame,
    headers,
)

END_STREAM, END_HEADERS = 0x1, 0x4
MOST_IN_A_FRAME = 16_384

_head = struct.Struct("!BHBBI")


def post(stream: int, packet: bytes) -> bytes:
    """A DNS message asked on ``stream``."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", b"/dns-query"),
        (b"content-type", b"application/dns-message"),
    ]
    octets = headers(stream, fields, END_HEADERS)
    for at in range(0, len(packet), MOST_IN_A_FRAME):
        octets += frame(DATA, 0, stream, packet[at : at + MOST_IN_A_FRAME])
    return octets + frame(DATA, END_STREAM, stream)


def broken_connection(draw: random.Random, packet: bytes) -> bytes:
    """What a peer sends who has the rules wrong somewhere."""
    octets = bytearray(PREFACE + frame(SETTINGS, 0, 0))
    for number in range(draw.randint(1, 5)):
        octets += post(2 * number + 1, packet)
        if draw.random() < 0.5:
            payload = draw.randbytes(draw.choice((0, 1, 4, 5, 8, 40)))
            stream = draw.choice((0, 1, 2, 3, 7, 1 << 31, (1 << 31) - 1))
            octets += frame(draw.randrange(12), draw.randrange(256), stream, payload)
    for _ in range(draw.randint(0, 6)):
        at = draw.randrange(len(octets))
        octets[at : at + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 4))
    return bytes(octets)


class Http2Client:
    """A connection to the HTTPS door, made anew when it has ended."""

    def __init__(self, port: int, timeout: float) -> None:
        self._port = port
        self._timeout = timeout
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self._tls.set_alpn_protocols(["h2"])
        self._socket: ssl.SSLSocket | None = None
        self._held = b""
        self._stream = 1
        self._reader = Decoder()

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self._port), self._timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(plain)

    def ask(self, packet: bytes) -> tuple[int, bytes]:
        """Status and body of the reply. Raises ConnectionError when the server has hung up."""
        if self._socket is None:
            self._socket = self.connect()
            self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0))
            self._held, self._stream, self._reader = b"", 1, Decoder()
        stream, self._stream = self._stream, self._stream + 2
        self._socket.sendall(post(stream, packet))
        status, body = 0, b""
        while True:
            kind, flags, at, payload = self._frame()
            if kind == GOAWAY or (kind == RST and at == stream):
                raise ConnectionError(f"the server gave up: {payload[4:60]!r}")
            if kind == DATA and payload:
                self._socket.sendall(frame(WINDOW, 0, 0, struct.pack("!I", len(payload))))
            if at != stream:
                continue
            if kind == HEADERS:
                status = int(dict(self._reader.decode(payload, raw=True))[b":status"])
            elif kind == DATA:
                body += payload
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                return status, body

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _frame(self) -> tuple[int, int, int, bytes]:
        high, low, kind, flags, stream = _head.unpack(self._read(9))
        return kind, flags, stream, self._read(high << 16 | low)

    def _read(self, size: int) -> bytes:
        assert self._socket is not None
        while len(self._held) < size:
            piece = self._socket.recv(65_536)
            if not piece:
                raise ConnectionError
            self._held += piece
        taken, self._held = self._held[:size], self._held[size:]
        return taken
