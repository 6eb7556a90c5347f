"""HTTP/2 as DNS over HTTPS needs it: frames by hand, errors, bounds, and the real dig and kdig."""

import base64
import contextlib
import re
import shutil
import socket
import ssl
import struct
import subprocess
from importlib import metadata
from types import SimpleNamespace

import dns.message
import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from resolver.doors import doh
from resolver.doors.http2 import (
    BUDGET,
    EARNED_BY_REPLY,
    MAX_HELD,
    MAX_REMEMBERED,
    MAX_SETTINGS,
    MAX_STREAMS,
    PREFACE,
    Asked,
    GivenUp,
    Http2,
)
from resolver.doors.http_values import HttpReply, HttpRequest
from tests.conftest import ROOT
from tests.resolver.doors.certificates import make_certificate
from tests.resolver.doors.every_door import doors
from tests.resolver.doors.http2_frames import (
    ATTACKS,
    CALM,
    CLOSED,
    COMPRESSION,
    CONTINUATION,
    DATA,
    EARLIER,
    FLOW,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    POST,
    PRIORITY,
    PROTOCOL,
    PUSH,
    REFUSED,
    RST,
    SETTINGS,
    SIZE,
    WINDOW,
    block,
    frame,
    frames,
    headers,
    setting,
    window,
)

PATH = GET[3][1].decode()
OK = HttpReply(200, "text/plain", b"hello", {"Cache-Control": "max-age=1"})


def handle(connection: Http2, octets: bytes) -> list[Asked | GivenUp]:
    """What happened in all the frames of ``octets``."""
    connection.receive(octets)
    events: list[Asked | GivenUp] = []
    while (more := connection.step()) is not None:
        events += more
    return events


def opened(*, settings: bytes = b"", max_body: int = 1_000) -> Http2:
    connection = Http2(max_body)
    assert handle(connection, PREFACE + frame(SETTINGS, 0, 0, settings)) == []
    kinds = [(kind, flags) for kind, flags, _, _ in frames(connection.take())]
    assert kinds == [(SETTINGS, 0), (SETTINGS, 1)]
    return connection


def ended_with(connection: Http2) -> int | None:
    """The code of the one GOAWAY in what is sent, if there is one."""
    sent = frames(connection.take())
    codes = [struct.unpack_from("!II", what)[1] for kind, _, _, what in sent if kind == GOAWAY]
    assert connection.closing is (len(codes) == 1)
    return codes[0] if codes else None


def resets(connection: Http2) -> dict[int, int]:
    """Streams that were reset in what is sent, and the codes."""
    sent = frames(connection.take())
    return {at: int.from_bytes(what, "big") for kind, _, at, what in sent if kind == RST}


def data_sent(connection: Http2) -> list[tuple[int, int, int]]:
    return [(stream, len(payload), flags) for kind, flags, stream, payload
            in frames(connection.take()) if kind == DATA]  # fmt: skip


# Requests and replies


def test_a_request_in_one_octet_at_a_time_is_a_request():
    whole = PREFACE + frame(SETTINGS, 0, 0) + headers(1, [*GET, (b"accept", b"text/html")])
    connection = Http2(100)
    events = [event for octet in whole for event in handle(connection, bytes((octet,)))]
    assert events == [Asked(1, HttpRequest("GET", PATH, "", "text/html"))]
    connection.take()
    connection.reply(1, OK)
    head, body = frames(connection.take())
    assert head[:3] == (HEADERS, 4, 1)
    assert sorted(Decoder().decode(head[3], raw=True)) == [
        (b":status", b"200"), (b"cache-control", b"max-age=1"), (b"content-length", b"5"),
        (b"content-type", b"text/plain"), (b"x-content-type-options", b"nosniff"),
    ]  # fmt: skip
    assert body == (DATA, 1, 1, b"hello")
    assert connection.streams == 0


def test_a_body_comes_in_pieces_padding_priority_and_trailers_included():
    connection = opened()
    whole = block([*POST, (b"content-type", b"t"), (b"content-length", b"4")])
    octets = frame(HEADERS, 0x28, 1, b"\3" + bytes(5) + whole[:9] + bytes(3))
    octets += frame(CONTINUATION, 4, 1, whole[9:])
    octets += frame(DATA, 8, 1, b"\2ab" + bytes(2)) + frame(DATA, 0, 1, b"cd")
    octets += frame(HEADERS, 5, 1, block([(b"x-trailer", b"1")]))
    assert handle(connection, octets) == [Asked(1, HttpRequest("POST", PATH, "t", "", b"abcd"))]


@pytest.mark.parametrize("padding", [0, 200])
def test_a_body_longer_than_the_first_window_arrives(padding):
    connection = opened(max_body=65_535)
    arrived = handle(connection, headers(1, POST, 4))
    pad = bytes((padding,)), bytes(padding)
    room, left, sent = 65_535, 65_000, 0
    while left:
        piece = min(left, 10_000)
        left -= piece
        payload = pad[0] + bytes(piece) + pad[1]
        sent += len(payload)
        assert sent <= room
        arrived += handle(connection, frame(DATA, 8 + (not left), 1, payload))
        for kind, _, stream, more in frames(connection.take()):
            if kind == WINDOW and not stream:
                room += int.from_bytes(more, "big")
    assert [len(event.request.body) for event in arrived] == [65_000]


def test_a_head_request_and_a_status_without_a_body_get_none():
    connection = opened()
    handle(connection, headers(1, [(b":method", b"HEAD"), *GET[1:]]) + headers(3))
    connection.take()
    connection.reply(1, OK)
    connection.reply(3, HttpReply(204, "", b""))
    head, empty = frames(connection.take())
    assert (head[:3], empty[:3]) == ((HEADERS, 5, 1), (HEADERS, 5, 3))
    assert (b"content-length", b"5") in Decoder().decode(head[3], raw=True)
    assert b"content-length" not in dict(Decoder().decode(empty[3], raw=True))


def test_a_body_too_long_is_told_as_too_long_and_the_rest_of_it_is_borne():
    connection = opened(max_body=100)
    (event,) = handle(connection, headers(1, POST, 4) + frame(DATA, 0, 1, bytes(300)))
    assert len(event.request.body) == 101
    connection.take()
    connection.reply(1, HttpReply(413, "", b""))
    for last in (*[0] * 20, 1):
        assert handle(connection, frame(DATA, last, 1, bytes(10_000))) == []
    assert {kind for kind, _, _, _ in frames(connection.take())} == {HEADERS, WINDOW}
    assert not connection.closing


def test_a_reply_waits_for_the_windows_of_connection_and_stream():
    connection = opened(settings=setting(4, 10))
    handle(connection, headers(1) + headers(3))
    connection.take()
    connection.reply(1, HttpReply(200, "", b"x" * 25))
    connection.reply(3, HttpReply(200, "", b"y" * 5))
    assert data_sent(connection) == [(1, 10, 0), (3, 5, 1)]
    handle(connection, window(1, 3))
    assert data_sent(connection) == [(1, 3, 0)]
    handle(connection, frame(SETTINGS, 0, 0, setting(4, 100)))
    assert data_sent(connection) == [(1, 12, 1)]
    assert connection.streams == 0


def test_long_replies_stop_at_the_connections_window():
    connection = opened(settings=setting(4, 1 << 20) + setting(5, 1 << 20))
    handle(connection, headers(1) + headers(3))
    connection.take()
    for stream in (1, 3):
        connection.reply(stream, HttpReply(200, "", bytes(60_000)))
    sent = data_sent(connection)
    assert sum(length for _, length, _ in sent) == 65_535
    assert max(length for _, length, _ in sent) <= 16_384
    handle(connection, window(0, 1 << 20))
    assert sum(length for _, length, _ in data_sent(connection)) == 120_000 - 65_535


def test_a_stream_given_up_is_told_and_its_reply_goes_nowhere():
    connection = opened()
    handle(connection, headers(1))
    assert handle(connection, frame(RST, 0, 1, bytes(4))) == [GivenUp(1)]
    connection.take()
    connection.reply(1, OK)
    assert connection.take() == b""


def test_pings_are_answered():
    connection = opened()
    handle(connection, frame(PING, 0, 0, b"12345678") + frame(PING, 1, 0, b"12345678"))
    assert frames(connection.take()) == [(PING, 1, 0, b"12345678")]


def test_who_says_goodbye_still_gets_what_it_asked_for():
    connection = opened()
    handle(connection, headers(1) + frame(GOAWAY, 0, 0, bytes(8)))
    connection.take()
    connection.reply(1, OK)
    assert data_sent(connection) == [(1, 5, 1)]


def test_unknown_frames_and_settings_are_ignored():
    connection = opened(settings=setting(0x99, 1))
    handle(connection, frame(0x77, 0xFF, 5, b"?") + frame(PRIORITY, 0, 1, bytes(5)))
    assert ended_with(connection) is None


def test_more_streams_than_offered_are_refused_alone():
    connection = opened()
    octets = b"".join(headers(2 * n + 1) for n in range(MAX_STREAMS + 5))
    assert len(handle(connection, octets)) == MAX_STREAMS
    assert list(resets(connection).values()) == [REFUSED] * 5
    assert not connection.closing


def test_a_change_of_the_peers_table_is_followed_though_replies_use_none():
    """RFC 7541 4.2: a smaller table is acknowledged at the head of the next block."""
    connection = opened(settings=setting(1, 0))
    handle(connection, headers(1))
    connection.take()
    connection.reply(1, OK)
    reader = Decoder()
    reader.max_allowed_table_size = 0
    assert dict(reader.decode(frames(connection.take())[0][3], raw=True))[b":status"] == b"200"


# What breaks the rules


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (frame(PING, 0, 0, b"short"), SIZE),
        (frame(PING, 0, 1, bytes(8)), PROTOCOL),
        (frame(SETTINGS, 0, 0, b"short"), SIZE),
        (frame(SETTINGS, 1, 0, bytes(6)), SIZE),
        (frame(SETTINGS, 0, 1), PROTOCOL),
        (frame(SETTINGS, 0, 0, setting(2, 2)), PROTOCOL),
        (frame(SETTINGS, 0, 0, setting(4, 1 << 31)), FLOW),
        (frame(SETTINGS, 0, 0, setting(5, 100)), PROTOCOL),
        (frame(SETTINGS, 0, 0, setting(5, 1 << 24)), PROTOCOL),
        (window(0, 0), PROTOCOL),
        (frame(WINDOW, 0, 0, bytes(3)), SIZE),
        (window(0, 0x7FFFFFFF), FLOW),
        (window(7, 1), PROTOCOL),
        (headers(1) + window(1, 1) + frame(SETTINGS, 0, 0, setting(4, 0x7FFFFFFF)), FLOW),
        (frame(RST, 0, 0, bytes(4)), PROTOCOL),
        (frame(RST, 0, 9, bytes(4)), PROTOCOL),
        (frame(RST, 0, 2, bytes(4)), PROTOCOL),
        (headers(1) + frame(RST, 0, 1, bytes(3)), SIZE),
        (frame(PRIORITY, 0, 1, bytes(4)), SIZE),
        (frame(PRIORITY, 0, 1, b"\0\0\0\1\0"), PROTOCOL),
        (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
        (frame(GOAWAY, 0, 0, bytes(7)), SIZE),
        (frame(PUSH, 4, 1, bytes(4)), PROTOCOL),
        (headers(1, GET, 4) + frame(PUSH, 4, 1, b"\0\0\0\2" + block()), PROTOCOL),
        (frame(DATA, 0, 0, b"x"), PROTOCOL),
        (frame(DATA, 0, 1, b"x"), PROTOCOL),
        (headers(1, POST, 4) + frame(DATA, 8, 1, b"\5abc"), PROTOCOL),
        (frame(CONTINUATION, 4, 1), PROTOCOL),
        (frame(HEADERS, 5, 2, block()), PROTOCOL),
        (frame(HEADERS, 5, 0, block()), PROTOCOL),
        (frame(HEADERS, 0x0D, 1, b"\xff"), PROTOCOL),
        (frame(HEADERS, 0x2D, 1, b"\xff"), SIZE),
        (frame(HEADERS, 0x25, 1, b"abc"), SIZE),
        (frame(HEADERS, 0x25, 1, b"\0\0\0\1\0" + block()), PROTOCOL),
        (frame(HEADERS, 1, 1, block()) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
        (frame(HEADERS, 1, 1, block()) + frame(CONTINUATION, 4, 3), PROTOCOL),
        (frame(HEADERS, 5, 1, b"\x80"), COMPRESSION),
        (frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\x0f"), COMPRESSION),
        (frame(HEADERS, 5, 1, b"\0\x84\xff\xff\xff\xff\0"), COMPRESSION),
        (frame(HEADERS, 5, 1, b"\0\5a"), COMPRESSION),
        (frame(HEADERS, 5, 1, b"\x3f\xe2\x1f" + block()), COMPRESSION),
        (frame(HEADERS, 5, 1, block() + b"\x20"), COMPRESSION),
        (frame(HEADERS, 5, 1, b"\x20\x3f\xe1\x1f\x20" + block()), COMPRESSION),
        (headers(3) + headers(1), PROTOCOL),
        (headers(1, POST, 4) + headers(1, [(b"x-trailer", b"1")], 4), PROTOCOL),
        (headers(1, POST, 4) + headers(1, [(b":path", b"/")]), PROTOCOL),
        (struct.pack("!I", 16_385)[1:] + bytes(6), SIZE),
    ],
)  # fmt: skip
def test_an_error_of_the_connection_ends_it_with_its_code(octets, code):
    connection = opened()
    handle(connection, octets)
    assert ended_with(connection) == code
    assert handle(connection, headers(99)) == []
    assert connection.take() == b""


@pytest.mark.parametrize(
    "fields",
    [
        GET[1:], [*GET[:1], *GET[2:]], GET[:3], [*GET, GET[0]], [(b"a", b"b"), *GET],
        [*GET[:2], *GET[3:]], [*GET[:3], (b":path", b"")],
        [*GET, (b"Accept", b"x")], [*GET, (b"", b"x")], [*GET, (b"a b", b"x")],
        [*GET, (b"a:b", b"x")], [*GET, (b"a\x7f", b"x")], [*GET, (b"\xe4", b"x")],
        [*GET, (b":status", b"200")], [*GET[:2], (b":protocol", b"x"), *GET[2:]],
        [*GET[:2], (b":else", b"x"), *GET[2:]],
        *([*GET, (name, b"x")] for name in (b"connection", b"keep-alive", b"proxy-connection",
                                            b"transfer-encoding", b"upgrade")),
        [*GET, (b"te", b"gzip")], [*GET, (b"te", b"trailers, deflate")],
        *([*GET, (b"x", value)] for value in (b"a\rb", b"a\nb", b"a\0b", b" a", b"a ", b"\ta")),
        [*GET[:3], (b":path", b"/x\r\nHost: b")], [*GET[:3], (b":path", b"/\0")],
        [*GET, (b"host", b"b")], [*GET, (b"host", b"localhost"), (b"host", b"localhost")],
        [*GET, (b"content-length", b"-1")], [*GET, (b"content-length", b"+0")],
        [*GET, (b"content-length", b"")], [*GET, (b"content-length", b"1"),
                                           (b"content-length", b"2")],
        [*GET, (b"content-length", b"9" * 5_000)],
    ],
)  # fmt: skip
def test_a_request_of_no_form_is_not_answered(fields):
    connection = opened()
    assert handle(connection, headers(1, fields)) == []
    assert ended_with(connection) == PROTOCOL


@pytest.mark.parametrize(
    "fields",
    [
        [*GET, (b"te", b"trailers")], [*GET, (b"host", b"localhost")],
        [*GET[:2], *GET[3:], (b"host", b"a")], [*GET, (b"x", b"")], [*GET, (b"x", b"a \xff\tb")],
        [*GET, (b"content-length", b"0")], [*GET, (b"cookie", b"a"), (b"cookie", b"b")],
    ],
)  # fmt: skip
def test_a_request_of_unusual_form_is_answered(fields):
    assert len(handle(opened(), headers(1, fields))) == 1


FIVE = [*POST, (b"content-length", b"5")]


@pytest.mark.parametrize(
    "octets",
    [
        headers(1, FIVE),
        headers(1, FIVE, 4) + frame(DATA, 1, 1, b"1234"),
        headers(1, FIVE, 4) + frame(DATA, 1, 1, b"123456"),
        headers(1, FIVE, 4) + frame(DATA, 1, 1),
        headers(1, FIVE, 4) + frame(DATA, 9, 1, b"\x011234\0"),
        headers(1, FIVE, 4) + frame(DATA, 0, 1, b"123") + headers(1, [(b"x-trailer", b"1")]),
        headers(1, FIVE, 4) + frame(DATA, 0, 1, b"123") + headers(1, [(b"content-length", b"3")]),
    ],
)
def test_a_length_that_does_not_match_is_an_error(octets):
    connection = opened()
    assert handle(connection, octets) == []
    sent = frames(connection.take())
    assert sent[-1][0] in (RST, GOAWAY)
    assert sent[-1][3][-4:] == struct.pack("!I", PROTOCOL)


@pytest.mark.parametrize("more", [headers(1), frame(DATA, 1, 1, b"x")])
def test_who_goes_on_after_the_end_of_a_request_loses_the_stream_alone(more):
    connection = opened()
    assert handle(connection, headers(1)) == [Asked(1, HttpRequest("GET", PATH))]
    connection.take()
    assert handle(connection, more) == [GivenUp(1)]
    assert resets(connection) == {1: CLOSED}
    assert len(handle(connection, headers(3))) == 1


def test_a_streams_window_that_overflows_ends_the_stream_alone():
    connection = opened()
    handle(connection, headers(1) + headers(3))
    connection.take()
    assert handle(connection, window(1, 0x7FFFFFFF)) == [GivenUp(1)]
    assert resets(connection) == {1: FLOW}
    connection.reply(3, OK)
    assert data_sent(connection) == [(3, 5, 1)]


def test_who_sends_more_than_its_window_is_stopped():
    connection = opened(max_body=1 << 20)
    connection._h2.acknowledge_received_data = lambda *_: None  # nothing is given back
    handle(connection, headers(1, POST, 4) + frame(DATA, 0, 1, bytes(16_384)) * 4)
    assert ended_with(connection) == FLOW


def test_no_preface_or_no_settings_no_connection():
    for first in (
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE[:20] + b"x",
        PREFACE + headers(1),
        PREFACE + frame(SETTINGS, 1, 0),
        PREFACE + frame(PING, 0, 0, bytes(8)),
        bytes(30),
    ):
        connection = Http2(100)
        handle(connection, first)
        assert ended_with(connection) == PROTOCOL


@given(
    st.lists(
        st.one_of(
            st.builds(frame, st.integers(0, 11), st.integers(0, 255), st.integers(0, 9),
                      st.binary(max_size=40)),
            st.builds(headers, st.integers(0, 9), st.just(GET), st.integers(0, 255)),
            st.builds(headers, st.sampled_from((1, 3, 5)), st.just(POST), st.just(4)),
            st.builds(window, st.integers(0, 5), st.integers(0, 0x7FFFFFFF)),
            st.builds(lambda value: frame(SETTINGS, 0, 0, setting(4, value)),
                      st.sampled_from((0, 3, 100, 0x7FFFFFFF))),
            st.binary(max_size=20),
        ),
        max_size=12,
    ),
    st.booleans(),
)  # fmt: skip
def test_any_frames_are_borne(pieces, late):
    connection = opened(settings=setting(4, 3), max_body=30)
    asked = []
    for piece in pieces:
        for event in handle(connection, piece):
            if isinstance(event, Asked):
                asked.append(event.stream)
        while asked and not late:
            connection.reply(asked.pop(), OK)
    for stream in asked:
        connection.reply(stream, OK)
    frames(connection.take())
    # The bounds rely on these counts, and no peer can see that they are right.
    streams = connection._streams.values()
    assert connection._waiting == sum(len(stream.waiting) for stream in streams)
    held = [stream.body for stream in streams] + [r.body for r in connection._asked.values()]
    assert connection._bodies == sum(map(len, held))


# What a peer may cost


@pytest.mark.parametrize("attack", ATTACKS)
def test_who_costs_much_and_gets_no_replies_is_told_to_calm_down(attack):
    """After so many frames as are counted here, whatever the time they take."""
    first, one = ATTACKS[attack]
    connection = Http2(65_535)
    for event in handle(connection, PREFACE + first):
        connection.reply(event.stream, OK)
    connection._budget = BUDGET
    allowed = BUDGET + EARNED_BY_REPLY * connection.streams  # the last replies, once each
    frames_handled = octets_sent = number = 0
    while not connection.closing:
        connection.receive(one(number))
        number += 1
        while connection.step() is not None:
            frames_handled += 1
        octets_sent += len(connection.take()) if not connection.closing else 0
        assert frames_handled <= allowed
    assert ended_with(connection) == EARLIER.get(attack, CALM)
    assert octets_sent <= 64 * BUDGET


@pytest.mark.parametrize("attack", ["many indexed fields", "tiny fields"])
def test_costly_requests_end_though_each_is_answered(attack):
    connection, one = opened(settings=setting(4, 1 << 30)), ATTACKS[attack][1]
    handle(connection, window(0, 1 << 30))
    for number in range(BUDGET):
        for event in handle(connection, one(number)):
            connection.reply(event.stream, OK)
        if connection.closing:
            break
    assert ended_with(connection) == CALM


def test_who_asks_much_and_reads_its_replies_may_go_on():
    connection = opened()
    writer, kept = Encoder(), []
    for number in range(3 * MAX_REMEMBERED):
        stream = 2 * number + 1
        fields = [*GET, *((b"x-%d" % n, b"a browser says much of itself") for n in range(12))]
        block = writer.encode(fields)
        (event,) = handle(connection, frame(HEADERS, 5, stream, block))
        assert isinstance(event, Asked)
        connection.reply(stream, OK)
        handle(connection, window(0, 5) + window(stream, 5) + frame(PING, 0, 0, bytes(8)))
        connection.take()
        kept.append(len(connection._h2._closed_streams))
    assert not connection.closing
    assert max(kept) <= MAX_REMEMBERED


def test_a_long_reply_may_be_fetched_by_small_windows():
    connection = opened()
    handle(connection, window(0, 1 << 30))
    for number in range(20):
        stream = 2 * number + 1
        (_,) = handle(connection, headers(stream))
        connection.reply(stream, HttpReply(200, "", bytes(130_000)))
        for _ in range(64):
            handle(connection, window(stream, 1_024))
        connection.take()
    assert not connection.closing
    assert connection.streams == 0


def test_bodies_held_for_one_peer_are_bounded():
    connection = opened(max_body=65_535)
    piece = bytes(10_000)
    for number in range(MAX_STREAMS):
        stream = 2 * number + 1
        handle(connection, headers(stream, POST, 4) + frame(DATA, 0, stream, piece))
        assert connection._bodies <= MAX_HELD
    assert not connection.closing
    assert REFUSED in resets(connection).values()


def test_requests_wait_while_replies_do():
    """As many as fit; the others as soon as the peer has made room, and none is lost."""
    connection = opened()
    connection.receive(b"".join(headers(2 * n + 1) for n in range(20)))
    answered = []

    def go_on():
        while (events := connection.step()) is not None:
            for event in events:
                answered.append(event.stream)
                connection.reply(event.stream, HttpReply(200, "", bytes(50_000)))
            assert connection._waiting <= MAX_HELD + 50_000

    go_on()
    assert len(answered) == 7
    assert handle(connection, frame(RST, 0, 31, bytes(4))) == []  # it had not been taken
    while connection.streams:
        for _ in range(2):
            connection.receive(window(0, 25_000))
        go_on()
    assert answered == [n for n in range(1, 40, 2) if n != 31]


def test_settings_that_nobody_knows_are_few():
    connection = opened()
    for number in range(MAX_SETTINGS + 1):
        handle(connection, frame(SETTINGS, 0, 0, setting(1_000 + number, 1)))
    assert ended_with(connection) == CALM


def test_a_frame_too_long_is_told_before_it_has_come():
    connection = opened()
    handle(connection, b"\xff\xff\xff" + bytes(6))
    assert ended_with(connection) == SIZE


def test_nothing_that_is_required_switches_on_twisteds_own_http2():
    """``priority`` beside ``h2`` would."""
    setup = (ROOT / "setup.py").read_text("utf-8")
    assert '"h2>=' in setup
    assert "priority" not in setup
    assert "http2" not in setup
    for library in ("h2", "hpack", "hyperframe"):
        assert not any("priority" in needed for needed in metadata.requires(library) or ())


# In turns with all others


class Turns(Clock):
    """Each ``advance`` by ``TURN`` is one turn of the reactor."""

    def callLater(self, when, what, *args, **more):
        return super().callLater(when or TURN, what, *args, **more)


TURN = 1e-6


class Peer:
    """A transport that counts, in place of TLS."""

    negotiatedProtocol = doh.H2

    def __init__(self) -> None:
        self.reading, self.written = True, bytearray()
        self.wrappedProtocol: doh.Http2Connection

    def write(self, octets: bytes) -> None:
        self.written += octets

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def setTcpNoDelay(self, on: bool) -> None: ...
    def registerProducer(self, producer: object, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...


@pytest.fixture
def turns(monkeypatch):
    """A connection of the door after its handshake; its clock and its peer."""
    monkeypatch.setattr(doh.TLSMemoryBIOProtocol, "write", lambda peer, octets: peer.write(octets))
    clock = Turns()
    factory = doh.HttpsFactory(lambda packet, limit, asker: packet, clock)
    handshake = factory.buildProtocol(SimpleNamespace(host="127.0.0.1"))
    peer = Peer()
    handshake.makeConnection(peer)
    handshake.handshakeCompleted()
    connection = peer.wrappedProtocol
    connection.dataReceived(PREFACE + frame(SETTINGS, 0, 0))
    yield SimpleNamespace(connection=connection, clock=clock, peer=peer)
    connection.connectionLost()


@pytest.mark.parametrize("fields", [0, 100])
def test_one_connection_may_cost_so_much_and_then_others_have_their_turn(turns, fields):
    http2, octets = turns.connection.http2, block() + b"\x90" * fields
    turn_began = http2.spent
    turns.connection.dataReceived(b"".join(frame(HEADERS, 5, n, octets) for n in range(1, 80, 2)))
    while not turns.peer.reading:
        assert doh.UNITS_A_TURN <= http2.spent - turn_began < doh.UNITS_A_TURN + 40
        turn_began = http2.spent
        turns.connection.dataReceived(b"")  # what TLS had in hand waits its turn as well
        assert http2.spent == turn_began
        turns.clock.advance(TURN)
    assert http2.spent - turn_began <= doh.UNITS_A_TURN + 40
    replies = sum(kind == DATA for kind, _, _, _ in frames(bytes(turns.peer.written)))
    assert (replies == 40) is (fields == 0)


def test_a_peer_that_does_not_read_is_not_answered_until_it_does(turns):
    turns.connection.pauseProducing()
    turns.peer.written.clear()
    turns.connection.dataReceived(frame(PING, 0, 0, bytes(8)))
    assert (turns.peer.written, turns.peer.reading) == (b"", False)
    turns.connection.resumeProducing()
    assert turns.peer.reading
    assert frames(bytes(turns.peer.written))[-1] == (PING, 1, 0, bytes(8))


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
                peer.sendall(window(0, max(1, len(payload))))
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
    big = doh_get(1, dns.message.make_query("big.bs", "TXT", use_edns=0))[9:]
    peer.sendall(PREFACE + frame(SETTINGS, 0, 0, setting(4, 0x7FFFFFFF)))
    peer.sendall(window(0, 0x7FFF0000 - 65_535))
    peer.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError, ssl.SSLError, ConnectionError):
        while sent < 500_000:
            streams = range(2 * sent + 1, 2 * sent + 201, 2)
            peer.sendall(b"".join(frame(HEADERS, 5, stream, big) for stream in streams))
            sent += 100
    assert sent < 500_000


@pytest.mark.live
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: install curl")
def test_curl_asks_and_is_told_what_is_too_long(door, files, tmp_path):
    long = tmp_path / "long"
    long.write_bytes(bytes(300_000))

    def curl(*more: str) -> str:
        command = ["curl", "-s", "--http2", "--cacert", files[0], "--resolve",
                   f"dns.test:{door.doh}:127.0.0.1", "-o", tmp_path / "body",
                   "-w", "%{http_version} %{http_code}", *more]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout

    place = f"https://dns.test:{door.doh}"
    assert curl(place + PATH) == "2 200"
    assert dns.message.from_wire((tmp_path / "body").read_bytes()).answer
    kind = "Content-Type: application/dns-message"
    assert curl("--data-binary", f"@{long}", "-H", kind, place + "/dns-query") == "2 413"


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
