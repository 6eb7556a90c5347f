"""DNS over TLS on real sockets: what a client sees, and clients that behave badly."""

import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
import time

import dns.edns
import dns.message
import dns.query
import pytest

from tests.resolver.doors.certificates import make_certificate
from tests.resolver.doors.every_door import doors

ALICE = dns.message.make_query("alice.bs", "TXT", use_edns=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def door(files, tmp_path_factory):
    limits = {"idle": 1.0, "max_connections": 20, "max_per_loopback": 10}
    options = {"certificate": files[0], "key": files[1], "limits": limits}
    with doors(tmp_path_factory.mktemp("doors"), **options) as running:
        yield running


def client(files, **more) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files[0]))
    context.set_alpn_protocols(more.get("alpn", ["dot"]))
    return context


def connect(door, context, server="dns.test"):
    plain = socket.create_connection(("127.0.0.1", door.dot), 5)
    return context.wrap_socket(plain, server_hostname=server)


def ask(connection, query=ALICE) -> dns.message.Message:
    dns.query.send_tcp(connection, query, time.time() + 5)
    reply, _ = dns.query.receive_tcp(connection, time.time() + 5)
    assert query.is_response(reply)
    return reply


def ended(connection) -> bool:
    """Whether the server has ended the connection, or does so within five seconds."""
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        return True
    except TimeoutError:
        return False
    return True


def test_a_question_over_tls_is_answered(door, files):
    with connect(door, client(files)) as connection:
        assert connection.selected_alpn_protocol() == "dot"
        assert connection.version() == "TLSv1.3"
        for _ in range(3):
            assert ask(connection).answer[0][0].strings == (b"hello",)


def test_replies_are_padded_for_those_who_pad(door, files):
    padding = dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(40))
    padded = dns.message.make_query("alice.bs", "TXT", use_edns=0, options=[padding])
    with connect(door, client(files)) as connection:
        assert len(ask(connection).to_wire()) < 468
        dns.query.send_tcp(connection, padded, time.time() + 5)
        (length,) = struct.unpack("!H", connection.recv(2))
        assert length == 468


def test_a_long_answer_and_one_from_the_network_arrive_whole(door, files):
    with connect(door, client(files)) as connection:
        big = ask(connection, dns.message.make_query("big.bs", "TXT", use_edns=0))
        assert sum(map(len, big.answer[0][0].strings)) == 95 * 400
        slow = ask(connection, dns.message.make_query("slow.bs", "TXT", use_edns=0))
        assert slow.answer[0][0].strings == (b"over the network",)


@pytest.mark.parametrize("alpn", [[], ["h2", "http/1.1"]])
def test_other_application_protocols_are_no_reason_to_refuse(door, files, alpn):
    context = ssl.create_default_context(cafile=str(files[0]))
    if alpn:
        context.set_alpn_protocols(alpn)
    with connect(door, context) as connection:
        assert connection.selected_alpn_protocol() is None
        assert ask(connection).answer


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_2_is_the_oldest(door, files):
    context = client(files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connect(door, context) as connection:
        assert connection.version() == "TLSv1.2"
        assert ask(connection).answer
    context = client(files)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(door, context)


@pytest.mark.parametrize(
    "octets",
    [b"", b"\x16", b"\x16\x03\x01\x40\x00" + bytes(100), b"GET / HTTP/1.1\r\n\r\n", bytes(3000),
     struct.pack("!H", 26) + ALICE.to_wire()],
    ids=["silence", "a byte", "half a hello", "http", "zeros", "dns without tls"],
)  # fmt: skip
def test_who_does_not_speak_tls_is_gone_in_time(door, files, octets):
    with socket.create_connection(("127.0.0.1", door.dot), 5) as connection:
        connection.sendall(octets)
        assert ended(connection)
    with connect(door, client(files)) as connection:
        assert ask(connection).answer


def test_silence_inside_tls_is_ended_too(door, files):
    with connect(door, client(files)) as connection:
        assert ask(connection).answer
        assert ended(connection)


def test_connections_are_bounded_from_their_first_byte(door, files):
    with contextlib.ExitStack() as stack:
        begun = [  # handshakes that never begin
            stack.enter_context(socket.create_connection(("127.0.0.1", door.dot), 5))
            for _ in range(11)
        ]
        assert ended(begun[0])
        with connect(door, client(files)) as connection:
            assert ask(connection).answer


def test_a_new_certificate_serves_new_connections_and_old_ones_live_on(tmp_path):
    certificate, key = make_certificate(tmp_path, "old.test")
    old = client((certificate, key))
    with doors(tmp_path, certificate=certificate, key=key, reload=0.05) as door:
        with connect(door, old, "old.test") as kept:
            assert ask(kept).answer
            fresh, fresh_key = make_certificate(tmp_path, "fresh.test")
            new = client((fresh, fresh_key))
            certificate.unlink()
            fresh.rename(tmp_path / "new.pem")
            fresh_key.replace(key)
            (tmp_path / "new.pem").replace(certificate)
            deadline = time.monotonic() + 5
            while True:
                try:
                    with connect(door, new, "fresh.test") as connection:
                        assert ask(connection).answer
                        break
                except ssl.SSLCertVerificationError:
                    assert time.monotonic() < deadline
            assert ask(kept).answer
        (tmp_path / "doors.log").write_text("")  # half a change was spoken of, as it should be


@pytest.mark.live
@pytest.mark.skipif(shutil.which("kdig") is None, reason="kdig is missing: install knot-dnsutils")
def test_kdig_finds_nothing_to_complain_about(door, files):
    done = subprocess.run(
        ["kdig", "@127.0.0.1", "-p", str(door.dot), f"+tls-ca={files[0]}", "+tls-host=dns.test",
         "+padding", "+keepopen", "alice.bs", "TXT", "www.alice.bs", "A", "nosuch.bs", "A"],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert '"hello"' in done.stdout
    assert "192.0.2.1" in done.stdout
    assert "NXDOMAIN" in done.stdout
    assert "PADDING" in done.stdout
    assert "TLS session (TLS1.3)" in done.stdout
    assert "WARNING" not in done.stdout
