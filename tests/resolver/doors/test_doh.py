"""DNS over HTTPS: every way of asking and of asking wrongly; the doors on real sockets."""

import asyncio
import base64
import contextlib
import http.client
import json
import socket
import ssl
import time

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.dns.asker import Asker
from resolver.doors.doh_json import BadQuestion, query_packet, read_fields, reply_json
from resolver.doors.doh_pages import JSON, WIRE, answer
from resolver.doors.http_values import HttpReply, HttpRequest
from tests.resolver.doors.certificates import make_certificate
from tests.resolver.doors.every_door import doors
from tests.resolver.fakes import World

ALICE = dns.message.make_query("alice.bs", "TXT", use_edns=0, id=0)
ASKER = Asker("192.0.2.7", encrypted=True)


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.zonefile("alice.id", '@ TXT "hello"\nwww 7200 A 192.0.2.1\nalias 90 CNAME www')
    world.zonefile("odd.id", r"@ TYPE65280 \# 2 abcd" + '\n@ TXT "a\\"b" "\\200"')
    world.name("slow.id", "slow", lies="network")
    world.name("lost.id", "lost", lies="nowhere")
    return world


def b64(packet: bytes) -> str:
    return base64.urlsafe_b64encode(packet).rstrip(b"=").decode()


def ask(world: World, method: str, uri: str, **more) -> HttpReply:
    reply = answer(HttpRequest(method, uri, **more), ASKER, world.resolver.begin)
    if isinstance(reply, HttpReply):
        return reply

    async def later() -> HttpReply:
        return await reply

    return asyncio.run(later())


def ask_json(world: World, query_string: str) -> dict:
    reply = ask(world, "GET", f"/resolve?{query_string}")
    assert (reply.status, reply.content_type) == (200, JSON)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    return json.loads(reply.body)


def get(query: dns.message.Message) -> tuple[str, str]:
    return "GET", f"/dns-query?dns={b64(query.to_wire())}"


def test_get_and_post_give_the_same_dns_message(world):
    got = ask(world, *get(ALICE))
    posted = ask(world, "POST", "/dns-query", content_type=WIRE, body=ALICE.to_wire())
    assert got == posted
    assert (got.status, got.content_type) == (200, WIRE)
    reply = dns.message.from_wire(got.body)
    assert ALICE.is_response(reply)
    assert reply.answer[0][0].strings == (b"hello",)
    assert got.headers["Cache-Control"] == "max-age=3600"


@pytest.mark.parametrize(
    ("qname", "rtype", "cache", "rcode"),
    [
        ("www.alice.bs", "A", "max-age=7200", dns.rcode.NOERROR),
        ("alias.alice.bs", "A", "max-age=90", dns.rcode.NOERROR),
        ("alias.alice.bs", "MX", "max-age=90", dns.rcode.NOERROR),  # a CNAME to no data
        ("alice.bs", "A", "max-age=300", dns.rcode.NOERROR),  # the SOA's minimum
        ("nosuch.bs", "A", "max-age=300", dns.rcode.NXDOMAIN),
        ("bs", "NS", "max-age=3600", dns.rcode.NOERROR),
        ("slow.bs", "TXT", "max-age=300", dns.rcode.NOERROR),
        ("lost.bs", "TXT", "no-store", dns.rcode.SERVFAIL),
        ("example.com", "A", "no-store", dns.rcode.REFUSED),
    ],
)
def test_a_reply_may_be_kept_as_long_as_its_least_ttl_and_a_failure_not_at_all(
    world, qname, rtype, cache, rcode
):
    reply = ask(world, *get(dns.message.make_query(qname, rtype, use_edns=0)))
    assert reply.status == 200
    assert dns.message.from_wire(reply.body).rcode() == rcode
    assert reply.headers["Cache-Control"] == cache


def test_dns_errors_are_dns_replies(world):
    notify = dns.message.make_query("alice.bs", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    reply = ask(world, *get(notify))
    assert dns.message.from_wire(reply.body).rcode() == dns.rcode.NOTIMP
    bare = ask(world, "POST", "/dns-query", content_type=WIRE, body=bytes(12))
    assert dns.message.from_wire(bare.body).rcode() == dns.rcode.FORMERR
    assert bare.headers["Cache-Control"] == "no-store"


REPLY = dns.message.make_response(ALICE).to_wire()


@pytest.mark.parametrize(
    ("method", "uri", "more", "status", "says"),
    [
        ("GET", "/dns-query", {}, 400, "dns is missing"),
        ("GET", "/dns-query?x=1", {}, 400, "dns is missing"),
        ("GET", "/dns-query?name=alice.bs", {}, 400, "dns is missing"),
        ("GET", "/dns-query?dns=", {}, 400, "empty"),
        ("GET", "/dns-query?dns=AA==", {}, 400, "base64url"),
        ("GET", "/dns-query?dns=A", {}, 400, "base64url"),
        ("GET", "/dns-query?dns=ab+/", {}, 400, "base64url"),
        ("GET", "/dns-query?dns=%00", {}, 400, "base64url"),
        ("GET", "/dns-query?dns=AA&dns=AA", {}, 400, "twice"),
        ("GET", "/dns-query?dns=AAAA", {}, 400, "no DNS query"),
        ("GET", f"/dns-query?dns={b64(REPLY)}", {}, 400, "no DNS query"),
        ("GET", f"/dns-query?dns={'A' * 87_400}", {}, 413, "65535"),
        ("GET", "/dns-query?" + "&".join(f"f{n}=1" for n in range(30)), {}, 400, "query string"),
        ("GET", "/dns-query?name=%ff", {"accept": JSON}, 400, "query string"),
        ("POST", "/dns-query", {"body": b"x"}, 415, WIRE),
        ("POST", "/dns-query", {"body": b"x", "content_type": "text/plain"}, 415, WIRE),
        ("POST", "/dns-query", {"body": b"{}", "content_type": JSON}, 415, WIRE),
        ("POST", "/dns-query", {"content_type": WIRE}, 400, "empty"),
        ("POST", "/dns-query", {"content_type": WIRE, "body": b"x"}, 400, "no DNS query"),
        ("POST", "/dns-query", {"content_type": WIRE, "body": bytes(65_536)}, 413, "65535"),
        ("POST", "/resolve?name=a", {"content_type": WIRE, "body": b"x"}, 405, "POST"),
        ("PUT", "/dns-query", {}, 405, "PUT"),
        ("DELETE", "/dns-query", {}, 405, "DELETE"),
        ("BREW", "/resolve", {}, 405, "BREW"),
        ("GET", "/", {}, 404, "/dns-query"),
        ("GET", "/dns-query/", {}, 404, "/dns-query"),
        ("GET", "/resolve", {}, 400, "name"),
        ("GET", "/resolve?name=", {}, 400, "name"),
        ("GET", "/resolve?name=a..b", {}, 400, "label"),
        ("GET", "/resolve?name=" + "a" * 64, {}, 400, "label"),
        ("GET", "/resolve?name=" + "a." * 600, {}, 400, "long"),
        ("GET", "/resolve?name=a&type=NOSUCH", {}, 400, "NOSUCH"),
        ("GET", "/resolve?name=a&type=0", {}, 400, "type"),
        ("GET", "/resolve?name=a&type=65536", {}, 400, "type"),
        ("GET", "/resolve?name=a&type=-1", {}, 400, "type"),
        ("GET", "/resolve?name=a&cd=maybe", {}, 400, "cd"),
        ("GET", "/resolve?name=a&do=2", {}, 400, "do"),
    ],
)  # fmt: skip
def test_a_wrong_request_gets_the_status_that_fits_and_one_sentence(
    world, method, uri, more, status, says
):
    reply = ask(world, method, uri, **more)
    assert reply.status == status
    assert reply.content_type == "application/json"
    assert reply.headers["Cache-Control"] == "no-store"
    error = json.loads(reply.body)["error"]
    assert says in error
    assert len(error) < 300
    assert ("Allow" in reply.headers) is (status == 405)


@pytest.mark.parametrize("path", ["/dns-query", "/resolve"])
def test_a_page_of_any_origin_may_ask(world, path):
    reply = ask(world, "OPTIONS", path)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "GET" in reply.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in reply.headers["Access-Control-Allow-Headers"]
    assert ask(world, *get(ALICE)).headers["Access-Control-Allow-Origin"] == "*"


def test_the_json_form_has_the_fields_that_everybody_reads(world):
    assert ask_json(world, "name=WWW.alice.bs") == {
        "Status": 0, "TC": False, "RD": True, "RA": False, "AD": False, "CD": False,
        "Question": [{"name": "WWW.alice.bs.", "type": 1}],
        "Answer": [{"name": "WWW.alice.bs.", "type": 1, "TTL": 7200, "data": "192.0.2.1"}],
    }  # fmt: skip
    missing = ask_json(world, "name=nosuch.bs&type=txt")
    assert missing["Status"] == 3
    assert "Answer" not in missing
    assert missing["Authority"] == [
        {"name": "bs.", "type": 6, "TTL": 300,
         "data": "localhost. nobody.invalid. 1000 600 300 604800 300"}
    ]  # fmt: skip
    assert missing["Comment"] == ["EDE(0): not registered at block 1000"]


def test_types_go_by_number_and_by_name_and_data_is_as_in_a_zone_file(world):
    for kind in ("16", "TXT", "txt", "TYPE16"):
        assert ask_json(world, f"name=odd.bs&type={kind}")["Answer"][0]["data"] == '"a\\"b" "\\200"'
    assert ask_json(world, "name=odd.bs&type=65280")["Answer"][0]["data"] == r"\# 2 abcd"


def test_dns_query_speaks_json_to_those_who_accept_it(world):
    for accept in (JSON, f"text/html, {JSON};q=0.9", "application/json"):
        reply = ask(world, "GET", "/dns-query?name=alice.bs&type=TXT", accept=accept)
        assert json.loads(reply.body)["Answer"][0]["data"] == '"hello"'
        assert reply.headers["Cache-Control"] == "max-age=3600"
    assert ask(world, "GET", get(ALICE)[1], accept=JSON).content_type == WIRE


@pytest.mark.parametrize(
    ("query_string", "flags", "wants_dnssec"),
    [
        ("name=a", dns.flags.RD, False),
        ("name=a&cd=1&do=true", dns.flags.RD | dns.flags.CD, True),
        ("name=a&cd=0&do=false", dns.flags.RD, False),
        ("name=a&cd=&do=", dns.flags.RD, False),
        ("name=a&random_padding=xxxx&edns_client_subnet=0.0.0.0/0", dns.flags.RD, False),
    ],
)
def test_cd_and_do_become_bits(query_string, flags, wants_dnssec):
    query = dns.message.from_wire(query_packet(read_fields(query_string)))
    assert query.flags == flags
    assert bool(query.ednsflags & dns.flags.DO) is wants_dnssec
    assert query.question[0].rdtype == dns.rdatatype.A


def test_a_name_beyond_ascii_is_asked_in_its_own_form():
    query = dns.message.from_wire(query_packet({"name": "bücher.example"}))
    assert query.question[0].name.to_text() == "xn--bcher-kva.example."


@given(st.dictionaries(st.sampled_from(["name", "type", "cd", "do", "ct"]), st.text(max_size=30)))
def test_any_fields_are_a_query_or_a_sentence(fields):
    asked, said = 0, ""
    try:
        asked = len(dns.message.from_wire(query_packet(fields)).question)
    except BadQuestion as error:
        said = str(error)
    assert asked == 1 or (said and "\n" not in said)


WORLD = World()
WORLD.zonefile("alice.id", "@ TXT hello")


@given(
    st.sampled_from(["GET", "POST", "HEAD", "X", ""]),
    st.text("/dns-query?resolve=&name%.\\\0ÿ", max_size=40),
    st.sampled_from(["", WIRE, JSON, ";;,"]),
    st.binary(max_size=60),
)
def test_any_request_gets_a_reply(method, rest, kind, body):
    for uri in (rest, "/dns-query?" + rest, "/resolve?name=" + rest):
        reply = ask(WORLD, method, uri, content_type=kind, accept=kind, body=body)
        assert reply.status in (200, 204, 400, 404, 405, 413, 415)


@pytest.mark.data
def test_no_recorded_malformed_packet_is_more_than_a_reply_or_a_sentence(world, data_dir):
    for file in sorted((data_dir / "dns" / "malformed").glob("*.bin")):
        packet = file.read_bytes()
        started = time.perf_counter()
        reply = ask(world, "POST", "/dns-query", content_type=WIRE, body=packet)
        assert time.perf_counter() - started < 0.05
        assert reply.status in (200, 400, 413)
        if reply.status == 200:
            dns.message.from_wire(reply.body)
            reply_json(reply.body)


# On real sockets


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def door(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    with doors(folder, certificate=files[0], key=files[1]) as running:
        yield running


@pytest.fixture(params=["https", "api"])
def connection(request, door, files):
    """A connection to the door with TLS, and to the API's port without."""
    if request.param == "api":
        made = http.client.HTTPConnection("127.0.0.1", door.api, timeout=5)
    else:
        context = ssl.create_default_context(cafile=str(files[0]))
        context.set_alpn_protocols(["http/1.1"])
        made = http.client.HTTPSConnection("127.0.0.1", door.doh, timeout=5, context=context)
    yield made
    made.close()


def fetch(connection, method, uri, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, uri, body, headers)
    reply = connection.getresponse()
    return reply, reply.read()


def test_questions_over_http_on_one_connection(connection):
    for method, uri in (get(ALICE), ("POST", "/dns-query"), ("HEAD", get(ALICE)[1])):
        body = ALICE.to_wire() if method == "POST" else None
        reply, octets = fetch(connection, method, uri, body, Content_Type=WIRE)
        assert (reply.status, reply.version) == (200, 11)
        assert reply.getheader("Content-Type") == WIRE
        assert reply.getheader("Cache-Control") == "max-age=3600"
        assert reply.getheader("Access-Control-Allow-Origin") == "*"
        if method != "HEAD":
            assert dns.message.from_wire(octets).answer
    reply, octets = fetch(connection, "GET", "/resolve?name=slow.bs&type=TXT")
    assert json.loads(octets)["Answer"][0]["data"] == '"over the network"'
    reply, octets = fetch(connection, "GET", "/dns-query?dns=!", Origin="https://a.example")
    assert (reply.status, reply.getheader("Access-Control-Allow-Origin")) == (400, "*")


def test_a_page_of_another_origin_may_post_a_question(connection):
    reply, octets = fetch(
        connection, "POST", "/dns-query", ALICE.to_wire(),
        Content_Type=WIRE, Origin="https://a.example",
    )  # fmt: skip
    assert reply.status == 200
    assert dns.message.from_wire(octets).answer


@pytest.mark.parametrize("size", [65_536, 1_000_000])
def test_a_body_too_large_is_refused_and_the_connection_lives(connection, size):
    reply, octets = fetch(connection, "POST", "/dns-query", bytes(size), Content_Type=WIRE)
    assert reply.status == 413
    assert "error" in json.loads(octets)
    assert fetch(connection, *get(ALICE))[0].status == 200


def test_a_body_that_never_ends_is_cut_off(connection):
    connection.putrequest("POST", "/dns-query")
    connection.putheader("Content-Type", WIRE)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    ended = time.monotonic() + 10
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while time.monotonic() < ended:
            connection.send(b"10000\r\n" + bytes(65_536) + b"\r\n")
    assert time.monotonic() < ended


def test_padding_is_for_the_door_that_encrypts(connection):
    padded = dns.message.make_query("alice.bs", "TXT", use_edns=0, pad=128)
    _, octets = fetch(connection, *get(padded))
    encrypted = isinstance(connection, http.client.HTTPSConnection)
    assert (len(octets) == 468) is encrypted
    keepalive = dns.edns.GenericOption(11, b"")
    asked = dns.message.make_query("alice.bs", "TXT", use_edns=0, options=[keepalive])
    assert dns.message.from_wire(fetch(connection, *get(asked))[1]).options == ()


def raw(connection, octets: bytes) -> bytes:
    """Send ``octets`` and read to the end of the connection."""
    connection.connect()
    connection.sock.sendall(octets)
    connection.sock.settimeout(5)
    got = b""
    try:
        while piece := connection.sock.recv(65_536):
            got += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return got


GOOD = f"GET {get(ALICE)[1]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\0\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /dns-query HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /dns-query HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /dns-query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\nabcdef",
        b"POST /dns-query HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /dns-query HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n",
        b"GET /" + b"a" * 40_000,
    ],
    ids=lambda octets: octets[:30].decode("latin-1"),
)
def test_pipelined_rubbish_ends_the_connection_after_what_was_good(connection, rubbish):
    alone = raw(connection, rubbish)
    assert alone == b"" or alone.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    connection.close()
    got = raw(connection, GOOD * 3 + rubbish)
    assert got.count(b"HTTP/1.1 200 OK") <= 3
    assert got.count(b"HTTP/1.1 200 OK") == 3 or b" 400 " in got or got == b""
    connection.close()
    assert fetch(connection, *get(ALICE))[0].status == 200


def test_a_long_pipeline_is_answered_in_order(connection):
    queries = [dns.message.make_query("alice.bs", "TXT", use_edns=0) for _ in range(200)]
    pipeline = [
        f"GET {get(query)[1]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for query in queries
    ]
    last = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    got = raw(connection, b"".join(pipeline) + last)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in got.split(b"HTTP/1.1 200 OK")[1:]]
    assert [dns.message.from_wire(body).id for body in bodies] == [q.id for q in queries] + [0]


def test_the_api_port_keeps_its_own_rules(door):
    """DNS over HTTP is for every origin, yet only under a name of this server."""
    connection = http.client.HTTPConnection("127.0.0.1", door.api, timeout=5)
    assert fetch(connection, *get(ALICE), Host="rebound.example")[0].status == 403
    assert fetch(connection, "GET", "/v1/ping")[0].status == 200
    reply, _ = fetch(connection, "POST", "/v1/data", b"x", Origin="https://a.example")
    assert reply.status == 403
    connection.close()


def test_an_https_port_without_tls_is_no_port(door):
    with socket.create_connection(("127.0.0.1", door.doh), 5) as plain:
        plain.sendall(GOOD)
        got = plain.recv(4096)
    assert not got.startswith(b"HTTP/1.1 200")
