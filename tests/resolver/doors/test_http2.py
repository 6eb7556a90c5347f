"""HTTP/2 as DNS over HTTPS needs it: frames by hand, errors, bounds, and the real dig and kdig."""

import base64
import contextlib
import re
import shutil
import socket
import ssl
import struct
import subprocess

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.doors import hpack
from resolver.doors.hpack import TABLE_SIZE, BadHeaders, HeaderReader, write_headers
from resolver.doors.http2 import MAX_BOTHER, MAX_STREAMS, PREFACE, Asked, GivenUp, Http2
from resolver.doors.http_values import HttpReply, HttpRequest
from tests.certificates import make_certificate
from tests.resolver.doors.every_door import doors

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/x")]
OK = HttpReply(200, "text/plain", b"hello", {"Cache-Control": "max-age=1"})


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def frames(octets: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while octets:
        length = int.from_bytes(octets[:3], "big")
        kind, flags, stream = struct.unpack_from("!BBI", octets, 3)
        found.append((kind, flags, stream, octets[9 : 9 + length]))
        assert len(found[-1][3]) == length
        octets = octets[9 + length :]
    return found


def opened(*, settings: bytes = b"", max_body: int = 1_000) -> Http2:
    connection = Http2(max_body)
    assert connection.receive(PREFACE + frame(SETTINGS, 0, 0, settings)) == []
    kinds = [(kind, flags) for kind, flags, _, _ in frames(connection.take())]
    assert kinds == [(SETTINGS, 0), (SETTINGS, 1)]
    return connection


def headers(stream: int, fields=GET, flags: int = 5) -> bytes:
    return frame(HEADERS, flags, stream, write_headers(fields))


def ended_with(connection: Http2) -> int | None:
    """The code of the GOAWAY in what is sent, if there is one."""
    for kind, _, _, payload in frames(connection.take()):
        if kind == GOAWAY:
            assert connection.closing
            return int(struct.unpack_from("!II", payload)[1])
    assert not connection.closing
    return None


# Header lists

C_4 = [  # RFC 7541 C.4: three requests with Huffman coding, one table
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", []),
    ("828684be5886a8eb10649cbf", [(b"cache-control", b"no-cache")]),
    ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", [(b"custom-key", b"custom-value")]),
]


def test_the_requests_of_the_rfc_are_read():
    reader = HeaderReader()
    for number, (block, more) in enumerate(C_4):
        scheme, path = (b"https", b"/index.html") if number == 2 else (b"http", b"/")
        assert reader.read(bytes.fromhex(block)) == [
            (b":method", b"GET"), (b":scheme", scheme), (b":path", path),
            (b":authority", b"www.example.com"), *more,
        ]  # fmt: skip


@pytest.mark.parametrize(
    "block",
    ["80", "be", "ff", "ffffffffff0f", "40", "4005", "400561", "0085", "008500", "0081ff00",
     "0084ffffffff00", "3fe21f", "8220", "7f"],
)  # fmt: skip
def test_a_header_block_that_cannot_be_read_says_so(block):
    with pytest.raises(BadHeaders):
        HeaderReader().read(bytes.fromhex(block))


@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=200)), max_size=8))
def test_what_is_written_is_read(fields):
    assert HeaderReader().read(write_headers(fields)) == fields


CODES = {}
_code = _last = 0
for _length, _octets in hpack._OCTETS_BY_LENGTH.items():
    _code, _last = _code << _length - _last, _length
    for _octet in _octets:
        CODES[_octet] = f"{_code:0{_length}b}"
        _code += 1


def huffman(text: bytes, end: str = "1") -> bytes:
    """``text`` in the code of RFC 7541, bit by bit, filled up with ``end``."""
    bits = "".join(CODES[octet] for octet in text)
    bits += end * (-len(bits) % 8)
    return int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


@given(st.binary(max_size=40))
def test_what_is_coded_is_decoded(text):
    assert hpack._decoded(huffman(text)) == text
    if huffman(text, "0") != huffman(text):  # it must end in ones
        with contextlib.suppress(BadHeaders):
            assert hpack._decoded(huffman(text, "0")) != text


@given(st.binary(max_size=40))
def test_octets_are_the_code_of_something_or_of_nothing(octets):
    try:
        text = hpack._decoded(octets)
    except BadHeaders:
        return
    assert huffman(text) == octets


def test_the_table_of_a_peer_and_its_lists_are_bounded():
    reader = HeaderReader()
    one = b"\x40\x01a\x7f\x81\x07" + bytes(1024)
    for _ in range(50):
        reader.read(one)
    assert reader._size <= TABLE_SIZE
    with pytest.raises(BadHeaders):
        reader.read(b"\xbe" * 8)  # few octets that stand for many


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_blocks_are_header_lists_or_are_told_not_to_be(blocks):
    reader = HeaderReader()
    for block in blocks:
        try:
            fields = reader.read(block)
        except BadHeaders:
            break
        assert all(isinstance(name, bytes) for name, _ in fields)


# Frames


def test_a_request_in_one_octet_at_a_time_is_a_request():
    whole = PREFACE + frame(SETTINGS, 0, 0) + headers(1, [*GET, (b"accept", b"text/html")])
    connection = Http2(100)
    events = [event for octet in whole for event in connection.receive(bytes((octet,)))]
    assert events == [Asked(1, HttpRequest("GET", "/x", "", "text/html"))]
    connection.take()
    connection.reply(1, OK)
    head, body = frames(connection.take())
    assert head[:3] == (HEADERS, 4, 1)
    assert HeaderReader().read(head[3]) == [
        (b":status", b"200"), (b"content-length", b"5"), (b"cache-control", b"max-age=1"),
        (b"content-type", b"text/plain"),
    ]  # fmt: skip
    assert body == (DATA, 1, 1, b"hello")
    assert connection.streams == 0


def test_a_body_comes_in_pieces_padding_priority_and_trailers_included():
    connection = opened()
    post = [(b":method", b"POST"), *GET[1:], (b"content-type", b"t")]
    block = write_headers(post)
    octets = frame(HEADERS, 0x28, 1, b"\3" + bytes(5) + block[:9] + bytes(3))
    octets += frame(CONTINUATION, 4, 1, block[9:])
    octets += frame(DATA, 8, 1, b"\2ab" + bytes(2)) + frame(DATA, 0, 1, b"cd")
    octets += frame(HEADERS, 5, 1, write_headers([(b"x-trailer", b"1")]))
    assert connection.receive(octets) == [Asked(1, HttpRequest("POST", "/x", "t", "", b"abcd"))]
    windows = [(stream, payload[3]) for kind, _, stream, payload in frames(connection.take())
               if kind == WINDOW]  # fmt: skip
    assert windows == [(0, 5), (1, 5), (0, 2), (1, 2)]


def test_a_head_request_gets_no_body():
    connection = opened()
    connection.receive(headers(1, [(b":method", b"HEAD"), *GET[1:]]))
    connection.reply(1, OK)
    assert [(kind, flags) for kind, flags, _, _ in frames(connection.take())] == [(HEADERS, 5)]


def test_a_body_too_long_is_told_as_too_long():
    connection = opened(max_body=100)
    (event,) = connection.receive(headers(1, GET, 4) + frame(DATA, 0, 1, bytes(300)))
    assert len(event.request.body) == 101
    connection.reply(1, HttpReply(413, "", b""))
    for _ in range(20):  # and what still comes is borne for a while
        assert connection.receive(frame(DATA, 0, 1, bytes(300))) == []
    assert not connection.closing


def test_a_reply_waits_for_the_windows_of_connection_and_stream():
    connection = opened(settings=struct.pack("!HI", 4, 10))
    connection.receive(headers(1) + headers(3))
    connection.take()
    connection.reply(1, HttpReply(200, "", b"x" * 25))
    connection.reply(3, HttpReply(200, "", b"y" * 5))

    def sent():
        return [(stream, len(payload), flags) for kind, flags, stream, payload
                in frames(connection.take()) if kind == DATA]  # fmt: skip

    assert sent() == [(1, 10, 0), (3, 5, 1)]
    connection.receive(frame(WINDOW, 0, 1, struct.pack("!I", 3)))
    assert sent() == [(1, 3, 0)]
    connection.receive(frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 100)))
    assert sent() == [(1, 12, 1)]
    assert connection.streams == 0


def test_long_replies_stop_at_the_connections_window():
    connection = opened(settings=struct.pack("!HI", 4, 1 << 20))
    connection.receive(headers(1) + headers(3))
    connection.take()
    for stream in (1, 3):
        connection.reply(stream, HttpReply(200, "", bytes(60_000)))
    sent = frames(connection.take())
    assert sum(len(payload) for kind, _, _, payload in sent if kind == DATA) == 65_535
    assert max(len(payload) for _, _, _, payload in sent) <= 16_384
    connection.receive(frame(WINDOW, 0, 0, struct.pack("!I", 1 << 20)))
    sent = frames(connection.take())
    assert sum(len(payload) for kind, _, _, payload in sent if kind == DATA) == 120_000 - 65_535


def test_a_stream_given_up_is_told_and_its_reply_goes_nowhere():
    connection = opened()
    connection.receive(headers(1))
    assert connection.receive(frame(RST, 0, 1, bytes(4))) == [GivenUp(1)]
    connection.take()
    connection.reply(1, OK)
    assert connection.take() == b""


def test_pings_are_answered():
    connection = opened()
    connection.receive(frame(PING, 0, 0, b"12345678") + frame(PING, 1, 0, b"12345678"))
    assert frames(connection.take()) == [(PING, 1, 0, b"12345678")]


def test_unknown_frames_and_settings_are_ignored():
    connection = opened(settings=struct.pack("!HI", 0x99, 1))
    connection.receive(frame(0x77, 0xFF, 5, b"?") + frame(PRIORITY, 0, 1, bytes(5)))
    assert ended_with(connection) is None


def test_more_streams_than_offered_are_refused_alone():
    connection = opened()
    octets = b"".join(headers(2 * n + 1) for n in range(MAX_STREAMS + 5))
    assert len(connection.receive(octets)) == MAX_STREAMS
    refused = [payload for kind, _, _, payload in frames(connection.take()) if kind == RST]
    assert refused == [struct.pack("!I", 7)] * 5
    assert not connection.closing


BLOCK = write_headers(GET)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (frame(PING, 0, 0, b"short"), 6),
        (frame(PING, 0, 1, bytes(8)), 1),
        (frame(SETTINGS, 0, 0, b"short"), 6),
        (frame(SETTINGS, 1, 0, bytes(6)), 6),
        (frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 1 << 31)), 3),
        (frame(SETTINGS, 0, 0, struct.pack("!HI", 5, 100)), 1),
        (frame(WINDOW, 0, 0, bytes(4)), 1),
        (frame(WINDOW, 0, 0, bytes(3)), 6),
        (frame(WINDOW, 0, 0, struct.pack("!I", 0x7FFFFFFF)), 3),
        (frame(WINDOW, 0, 7, struct.pack("!I", 1)), 1),
        (frame(RST, 0, 0, bytes(4)), 1),
        (frame(RST, 0, 9, bytes(4)), 1),
        (frame(PUSH, 0, 1, bytes(4)), 1),
        (frame(DATA, 0, 1, b"x"), 1),
        (frame(CONTINUATION, 4, 1), 1),
        (frame(HEADERS, 5, 2, BLOCK), 1),
        (frame(HEADERS, 5, 0, BLOCK), 1),
        (frame(HEADERS, 0x2D, 1, b"\xff"), 1),
        (frame(HEADERS, 0x25, 1, b"abc"), 6),
        (frame(HEADERS, 1, 1, BLOCK) + frame(PING, 0, 0, bytes(8)), 1),
        (frame(HEADERS, 5, 1, b"\x80"), 9),
        (headers(3) + headers(1), 5),
        (struct.pack("!I", 16_385)[1:] + bytes(6), 6),
        (frame(HEADERS, 1, 1) + frame(CONTINUATION, 0, 1, bytes(9_000)) * 3, 11),
    ],
)
def test_an_error_of_the_connection_ends_it_with_its_code(octets, code):
    connection = opened()
    connection.receive(octets)
    assert ended_with(connection) == code
    assert connection.receive(headers(99)) == []
    assert connection.take() == b""


@pytest.mark.parametrize(
    "fields",
    [
        GET[1:], [*GET, GET[0]], [(b"a", b"b"), *GET], [*GET, (b"Accept", b"x")],
        [*GET, (b"connection", b"close")], [*GET, (b":status", b"200")], [*GET, (b"", b"x")],
    ],
)  # fmt: skip
def test_a_request_of_no_form_ends_its_stream_alone(fields):
    connection = opened()
    assert connection.receive(headers(1, fields)) == [GivenUp(1)]
    assert frames(connection.take()) == [(RST, 0, 1, struct.pack("!I", 1))]
    assert len(connection.receive(headers(3))) == 1


@pytest.mark.parametrize(
    "bother",
    [
        lambda n: frame(PING, 0, 0, bytes(8)),
        lambda n: frame(SETTINGS, 0, 0),
        lambda n: frame(PRIORITY, 0, 1, bytes(5)),
        lambda n: frame(WINDOW, 0, 0, struct.pack("!I", 1)),
        lambda n: headers(2 * n + 1, GET, 4) + frame(RST, 0, 2 * n + 1, bytes(4)) * 4,
        lambda n: frame(0x42, 0, 0),
    ],
    ids=["ping", "settings", "priority", "window", "reset", "unknown"],
)
def test_who_only_bothers_is_told_to_calm_down(bother):
    connection = opened()
    for number in range(MAX_BOTHER + 10):
        connection.receive(bother(number))
        if connection.closing:
            break
    assert ended_with(connection) == 11


def test_who_asks_much_and_reads_its_replies_is_no_bother():
    connection = opened()
    for number in range(5_000):
        stream = 2 * number + 1
        (event,) = connection.receive(headers(stream))
        connection.reply(stream, OK)
        more = struct.pack("!I", 5)
        connection.receive(frame(WINDOW, 0, 0, more) + frame(WINDOW, 0, stream, more))
        connection.take()
        assert isinstance(event, Asked)
    assert not connection.closing


def test_no_preface_no_connection():
    for first in (b"GET / HTTP/1.1\r\n\r\n", PREFACE + headers(1), b"\0" * 30):
        connection = Http2(100)
        connection.receive(first)
        assert ended_with(connection) == 1


@given(
    st.lists(
        st.one_of(
            st.builds(frame, st.integers(0, 11), st.integers(0, 255), st.integers(0, 9),
                      st.binary(max_size=40)),
            st.builds(headers, st.integers(0, 9), st.just(GET), st.integers(0, 255)),
            st.binary(max_size=20),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_any_frames_are_borne(pieces):
    connection = opened()
    for piece in pieces:
        for event in connection.receive(piece):
            if isinstance(event, Asked):
                connection.reply(event.stream, OK)
    frames(connection.take())
    assert connection._waiting >= 0
    assert connection._waiting == sum(len(s.waiting or b"") for s in connection._streams.values())


# On a real socket


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def door(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    with doors(folder, certificate=files[0], key=files[1]) as running:
        yield running


@pytest.fixture
def peer(door, files):
    context = ssl.create_default_context(cafile=str(files[0]))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", door.doh), 5) as plain,
        context.wrap_socket(plain, server_hostname="dns.test") as secret,
    ):
        assert secret.selected_alpn_protocol() == "h2"
        secret.settimeout(5)
        yield secret


def doh_get(stream: int, query: dns.message.Message) -> bytes:
    packet = base64.urlsafe_b64encode(query.to_wire()).rstrip(b"=")
    return headers(stream, [*GET[:3], (b":path", b"/dns-query?dns=" + packet)])


def read_replies(peer, count: int) -> dict[int, bytes]:
    """The bodies of ``count`` finished streams."""
    octets, bodies, finished = b"", {}, set()
    while len(finished) < count:
        piece = peer.recv(65_536)
        assert piece, "the connection ended"
        octets += piece
        while len(octets) >= 9 and len(octets) >= 9 + int.from_bytes(octets[:3], "big"):
            length = int.from_bytes(octets[:3], "big")
            ((kind, flags, stream, payload),) = frames(octets[: 9 + length])
            octets = octets[9 + length :]
            if kind == DATA:
                bodies[stream] = bodies.get(stream, b"") + payload
                peer.sendall(frame(WINDOW, 0, 0, struct.pack("!I", max(1, len(payload)))))
            if kind in (DATA, HEADERS) and flags & 1:
                finished.add(stream)
    return bodies


def test_many_questions_at_once_on_one_connection(peer):
    names = [("alice.bs", "TXT"), ("slow.bs", "TXT"), ("big.bs", "TXT"), ("nosuch.bs", "A")] * 20
    queries = {
        2 * n + 1: dns.message.make_query(name, rtype, use_edns=0)
        for n, (name, rtype) in enumerate(names)
    }
    octets = b"".join(doh_get(stream, query) for stream, query in queries.items())
    peer.sendall(PREFACE + frame(SETTINGS, 0, 0) + octets)
    bodies = read_replies(peer, len(queries))
    for stream, query in queries.items():
        assert query.is_response(dns.message.from_wire(bodies[stream]))


def test_each_reply_of_a_burst_has_a_tls_record_of_its_own(peer):
    query = dns.message.make_query("alice.bs", "TXT", use_edns=0)
    burst = b"".join(doh_get(2 * n + 1, query) for n in range(20))
    peer.sendall(PREFACE + frame(SETTINGS, 0, 0) + burst)
    ended = []
    while sum(ended) < 20:
        record = frames(peer.recv(65_536))  # which gives no more than one record at a time
        ended.append(sum(kind == DATA and flags & 1 for kind, flags, _, _ in record))
    assert set(ended) <= {0, 1}


def test_rubbish_ends_the_connection_and_no_other(peer, door, files):
    peer.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(PUSH, 0, 0))
    got = b""
    while piece := peer.recv(4096):
        got += piece
    assert frames(got)[-1][0] == GOAWAY


def test_a_peer_that_never_reads_is_held_back(peer):
    """After the buffers of both kernels nothing more is taken from it."""
    big = dns.message.make_query("big.bs", "TXT", use_edns=0)
    peer.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 0x7FFFFFFF)))
    peer.sendall(frame(WINDOW, 0, 0, struct.pack("!I", 0x7FFF0000 - 65_535)))
    peer.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError, ssl.SSLError, ConnectionError):
        while sent < 500_000:
            peer.sendall(b"".join(doh_get(2 * (sent + n) + 1, big) for n in range(100)))
            sent += 100
    assert sent < 500_000


@pytest.mark.live
@pytest.mark.skipif(shutil.which("kdig") is None, reason="kdig is missing: install knot-dnsutils")
@pytest.mark.parametrize("more", [[], ["+https-get"]])
def test_kdig_asks_over_https(door, files, more):
    done = subprocess.run(
        ["kdig", "@127.0.0.1", "-p", str(door.doh), "+https", *more, f"+tls-ca={files[0]}",
         "+tls-host=dns.test", "+padding", "alice.bs", "TXT", "big.bs", "TXT"],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert '"hello"' in done.stdout
    assert "PADDING" in done.stdout
    assert "WARNING" not in done.stdout


@pytest.mark.live
@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is missing: install bind9-dnsutils")
@pytest.mark.parametrize("option", ["+https", "+https-get", "+tls"])
def test_dig_asks_over_https_and_tls(door, option):
    port = door.dot if option == "+tls" else door.doh
    done = subprocess.run(
        ["dig", "@127.0.0.1", "-p", str(port), option, "+tries=1", "+norecurse", "alice.bs", "TXT"],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"status: NOERROR", done.stdout)
    assert '"hello"' in done.stdout
    assert "WARNING" not in done.stdout
