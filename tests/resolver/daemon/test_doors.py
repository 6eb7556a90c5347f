"""A daemon with a certificate and with upstreams, by its settings alone."""

import http.client
import json
import ssl
from collections.abc import Iterator

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.resolver.daemon.daemon_process import Blockstored
from tests.resolver.doors.certificates import make_certificate
from tests.resolver.forwarding.authority import Authority, serving_in_thread

pytestmark = pytest.mark.live

NOWHERE = "http://ada:hunter2@127.0.0.1:1"  # port 1 is nobody's


@pytest.fixture
def files(tmp_path):
    return make_certificate(tmp_path)


def flags(files) -> list[str]:
    certificate, key = (str(path) for path in files)
    return ["--tls-certificate", certificate, "--tls-key", key, "--dot-port", "0"]


@pytest.fixture
def daemon(tmp_path, files) -> Iterator[Blockstored]:
    one = Blockstored(tmp_path / "w", NOWHERE, *flags(files), "--doh-port", "0", network="regtest")
    yield one
    one.kill()


def test_dot_and_doh_are_open_once_there_is_a_certificate(daemon, files):
    started = daemon.start()
    assert started.returncode == 0, started.stderr.decode()
    ports = daemon.ports()
    query = dns.message.make_query("alice.bs", "TXT", use_edns=0)
    context = ssl.create_default_context(cafile=str(files[0]))
    reply = dns.query.tls(
        query, "127.0.0.1", 10, ports["dot"][0]["port"],
        ssl_context=context, server_hostname="dns.test",
    )  # fmt: skip
    assert reply.rcode() == dns.rcode.SERVFAIL  # nothing is known of the chain yet
    connection = http.client.HTTPSConnection(
        "127.0.0.1", ports["doh"][0]["port"], timeout=10, context=context
    )
    connection.request("GET", "/resolve?name=alice.bs")
    assert json.loads(connection.getresponse().read())["Status"] == dns.rcode.SERVFAIL
    connection.close()
    assert daemon.ask("GET", "/resolve?name=alice.bs")["Status"] == dns.rcode.SERVFAIL
    assert daemon.stop().returncode == 0


def test_a_certificate_that_cannot_serve_is_one_line_at_the_start(tmp_path, files):
    files[1].write_text("no key")
    one = Blockstored(
        tmp_path / "w", NOWHERE, *flags(files), "--doh-port", "off", network="regtest"
    )
    ended = one.start()
    assert ended.returncode == 2
    (line,) = ended.stderr.decode().splitlines()
    assert line == f"blockstored: {files[1]} holds no private key in PEM form"


def test_a_door_that_is_off_is_not_there(tmp_path, files):
    one = Blockstored(
        tmp_path / "w", NOWHERE, *flags(files), "--doh-port", "off", network="regtest"
    )
    try:
        assert one.start().returncode == 0
        assert one.ports()["doh"] == []
        assert len(one.ports()["dot"]) == 1
    finally:
        one.kill()


def test_a_daemon_with_upstreams_forwards_and_counts(tmp_path):
    authority = Authority()
    authority.add("www.example.org", 300, "A", "192.0.2.80")
    authority.add("www.bahamas.bs", 300, "A", "192.0.2.81")
    with serving_in_thread(authority):
        one = Blockstored(
            tmp_path / "w", NOWHERE, "--forward", f"127.0.0.1:{authority.port}", network="regtest"
        )
        try:
            started = one.start()
            assert started.returncode == 0, started.stderr.decode()
            for tcp in (False, True):
                reply = one.dig("www.example.org", "A", tcp=tcp)
                assert reply.answer[0][0].address == "192.0.2.80"
            told = one.ask("GET", "/resolve?name=www.example.org")
            assert told["Answer"][0]["data"] == "192.0.2.80"
            assert told["RA"] is True
            assert one.dig("www.bahamas.bs", "A").rcode() == dns.rcode.SERVFAIL
            figures = one.info()["forward"]
            assert (figures["upstreams"], figures["healthy"]) == (1, 1)
            assert figures["outcomes"]["asked"] == len(authority.asked) == 1
            assert one.stop().returncode == 0
        finally:
            one.kill()


def test_a_daemon_asks_over_tls_whom_it_is_told_to_trust_and_says_whom_it_does_not(tmp_path, files):
    authority = Authority()
    authority.add("www.example.org", 300, "A", "192.0.2.80")
    with serving_in_thread(authority, files):
        place = f"tls://127.0.0.1:{authority.tls_port}"
        for name, rcode in (("dns.test", dns.rcode.NOERROR), ("other.test", dns.rcode.SERVFAIL)):
            folder = tmp_path / name
            more = ("--forward", f"{place}#{name}", "--forward-ca", str(files[0]))
            one = Blockstored(folder, NOWHERE, *more, network="regtest")
            try:
                started = one.start()
                assert started.returncode == 0, started.stderr.decode()
                assert one.dig("www.example.org", "A").rcode() == rcode
                log = one.log.read_text()
                wrong = rcode != dns.rcode.NOERROR
                assert ("is refused, it is not for other.test: give the name" in log) is wrong
                assert one.stop().returncode == 0
            finally:
                one.kill()
    assert len(authority.asked) == 1
    assert authority.ports == []


def test_a_file_of_issuers_that_holds_none_is_one_line_at_the_start(tmp_path, files):
    more = ("--forward", "tls://192.0.2.1", "--forward-ca", str(files[1]))
    one = Blockstored(tmp_path / "w", NOWHERE, *more, network="regtest")
    ended = one.start()
    assert ended.returncode == 2
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith(f"blockstored: forward_ca: {files[1]} holds no certificates in PEM form")
