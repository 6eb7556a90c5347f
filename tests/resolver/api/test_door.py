"""The HTTP API: its pages, and the door in front of them on a real socket."""

import asyncio
import base64
import http.client
import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.protocol.records import Phase
from resolver.api.door import HostNames
from resolver.api.pages import MAX_BODY, Page
from resolver.api.request import JSON
from resolver.dns.chase import Freshness
from resolver.doors.web import MAX_DISCARDED
from resolver.refusals import Refusal, Refused
from tests.resolver.api.fakes import BYTES, HEIGHT, SWIFT, ZONES, World
from tests.resolver.api.openapi_check import check_reply
from tests.resolver.daemon.daemon_process import serving_world
from zonefiles.text.zonefile import MAX_BYTES, value_hash


def ask(path: str, method: str = "GET", body: bytes = b"", world: World | None = None) -> Page:
    return asyncio.run((world or World()).pages().reply(method, path, body))


def test_a_lookup_gives_the_data_its_hash_its_source_and_the_height():
    page = ask("/v1/lookup/swiftonsecurity.id")
    assert page.status == 200
    assert page.body == {
        "name": "swiftonsecurity.id",
        "data": SWIFT.decode(),
        "value_hash": value_hash(SWIFT).hex(),
        "source": "archive",
        "height": HEIGHT,
    }


def test_a_bare_label_means_the_namespace_id():
    assert ask("/v1/lookup/swiftonsecurity").body["name"] == "swiftonsecurity.id"


def test_data_that_is_no_text_is_given_in_base64():
    body = ask("/v1/lookup/bytes.id").body
    assert base64.b64decode(body["data_base64"]) == BYTES
    assert "data" not in body


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("nobody.id", Refusal.NOT_REGISTERED),
        ("expired.id", Refusal.EXPIRED),
        ("revoked.id", Refusal.REVOKED),
        ("empty.id", Refusal.NO_DATA),
        ("nowhere.id", Refusal.DATA_UNAVAILABLE),
        ("late.id", Refusal.DATA_UNAVAILABLE),
        ("lied.id", Refusal.HASH_MISMATCH),
        ("up+per.id", Refusal.BAD_NAME),
        ("a.b.id", Refusal.BAD_NAME),
        ("", Refusal.BAD_NAME),
        ("%ff", Refusal.BAD_NAME),
        ("%2e%2e", Refusal.BAD_NAME),
        ("n" * 40, Refusal.BAD_NAME),
    ],
)
def test_each_reason_for_no_data_has_its_own_code_and_a_next_step(name, refusal):
    page = ask(f"/v1/lookup/{name}")
    assert page.status == refusal.status
    assert page.body["code"] == refusal.name.lower()
    assert page.body["error"]
    assert page.body["hint"]


@pytest.mark.parametrize(
    "freshness",
    [Freshness(False, 5, 900, 0.0), Freshness(False, 5, 5, 0.0), Freshness(True, 5, 5, 90_000.0)],
)
@pytest.mark.parametrize("name", ["swiftonsecurity.id", "nobody.id", "expired.id"])
def test_while_the_index_is_behind_nothing_is_said_of_any_name(freshness, name):
    world = World()
    world.freshness = freshness
    for path in (f"/v1/lookup/{name}", f"/v1/names/{name}", f"/v1/names/{name}/zonefile"):
        page = ask(path, world=world)
        assert (page.status, page.body["code"]) == (503, "index_behind")
        assert "5" in page.body["error"]


@pytest.mark.parametrize("name", ["swiftonsecurity.id", "nobody.id", "expired.id"])
def test_what_a_stale_index_says_of_a_name_says_that_it_is_stale(name):
    world = World()
    for freshness, expected in (
        (Freshness(True, 5, 5, 60.0), None),
        (Freshness(True, 5, 5, 8_000.0), "last block 5, 8000 seconds ago"),
        (
            Freshness(True, 5, 5, 60.0, stopped=True),
            "last block 5, 60 seconds ago; the index has stopped",
        ),
    ):
        world.freshness = freshness
        for path in (f"/v1/lookup/{name}", f"/v1/names/{name}"):
            assert ask(path, world=world).body.get("stale") == expected
        assert "stale" not in ask("/v1/ping", world=world).body


def test_a_name_is_described_as_the_protocol_has_it():
    body = ask("/v1/names/swiftonsecurity.id").body
    assert body["status"] == "registered"
    assert body["zonefile_hash"] == value_hash(SWIFT).hex()
    assert body["last_txid"] == b"swiftonsecurity.id".ljust(32, b".")[::-1].hex()
    assert body["blockchain"] == "bitcoin"
    assert (body["expire_block"], body["renewal_deadline"]) == (HEIGHT + 4900, HEIGHT + 5000)
    assert body["grace_period"] is False
    assert ask("/v1/names/late.id").body["grace_period"] is True
    assert ask("/v1/names/revoked.id").body["status"] == "revoked"


@pytest.mark.parametrize("name", ["nobody.id", "expired.id"])
def test_a_name_that_anybody_may_take_is_called_available(name):
    page = ask(f"/v1/names/{name}")
    assert (page.status, page.body["status"]) == (404, "available")


def test_the_zone_file_has_a_page_of_its_own():
    assert ask("/v1/names/swiftonsecurity.id/zonefile").body == {"zonefile": SWIFT.decode()}


def test_ping_and_info_answer():
    assert ask("/v1/ping").body["status"] == "alive"
    assert ask("/v1/node/ping").body["status"] == "alive"
    assert ask("/v1/info").body["last_block_processed"] == HEIGHT


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/data", b"nobody has this"),
        ("/v1/zonefile", json.dumps({"zonefile": "nobody has this"}).encode()),
    ],
)
def test_announced_data_is_kept_and_published(path, body):
    world = World()
    page = ask(path, "POST", body, world)
    digest = value_hash(b"nobody has this")
    assert page.status == 200
    assert page.body["value_hash"] == digest.hex()
    assert page.body["names"] == ["nowhere.id"]
    assert world.held[digest] == b"nobody has this"
    assert world.published == [digest]
    assert ask("/v1/lookup/nowhere", world=world).body["data"] == "nobody has this"


@pytest.mark.parametrize("data", [b"expired", b"never announced"])
def test_data_that_no_live_name_announces_is_not_taken(data):
    world = World()
    page = ask("/v1/data", "POST", data, world)
    assert (page.status, page.body["code"]) == (409, "not_announced")
    assert value_hash(data).hex() in page.body["error"]
    assert value_hash(data) not in world.held
    assert not world.published


def test_unannounced_data_is_not_judged_before_the_chain_is_known():
    world = World()
    world.freshness = Freshness(False, 1, 9, 0.0)
    assert ask("/v1/data", "POST", b"new", world).body["code"] == "index_behind"


@pytest.mark.parametrize("size", [MAX_BYTES, MAX_BYTES + 1])
def test_data_is_taken_up_to_40960_bytes(size):
    world = World()
    data = b"x" * size
    world.names.add("big.id", data)
    page = ask("/v1/data", "POST", data, world)
    assert (page.status == 200) is (size <= MAX_BYTES)
    assert page.body.get("code", "too_large") == "too_large"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"zonefile": 5}', b"\xff", b"[" * 5000])
def test_a_body_of_another_shape_is_told_the_right_one(body):
    page = ask("/v1/zonefile", "POST", body)
    assert (page.status, page.body["code"]) == (400, "bad_request")


def test_a_full_archive_says_which_setting_to_raise():
    world = World()

    async def full(digest: bytes, data: bytes) -> None:
        raise Refused(Refusal.ARCHIVE_FULL, "full")

    world.keep = full  # type: ignore[method-assign]
    page = ask("/v1/data", "POST", b"nobody has this", world)
    assert page.status == 507
    assert "archive_max_bytes" in page.body["hint"]


def test_a_bug_of_ours_is_told_without_its_details():
    world = World()
    world.figures = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    page = ask("/v1/info", world=world)
    assert (page.status, page.body["code"]) == (500, "broken")
    assert "Zero" not in json.dumps(page.body)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/ping", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v1/names/a.id", "GET, HEAD, OPTIONS"),
        ("GET", "/v1/data", "OPTIONS, POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method, path, allow):
    page = ask(path, method)
    assert (page.status, page.headers["Allow"]) == (405, allow)


def test_only_live_names_are_named_as_holders_of_data():
    world = World()
    world.names.add("twin.id", b"nobody has this", Phase.EXPIRED)
    assert ask("/v1/data", "POST", b"nobody has this", world).body["names"] == ["nowhere.id"]


@given(st.text(max_size=60), st.sampled_from(["GET", "POST", "PUT", ""]), st.binary(max_size=30))
def test_any_path_method_and_body_gets_a_page(path, method, body):
    page = ask("/" + path, method, body)
    assert page.status in {200, 400, 404, 405, 409, 413, 502, 503, 504}
    json.dumps(page.body)


@pytest.mark.parametrize(
    ("bound", "header", "ours"),
    [
        ("127.0.0.1", "127.0.0.1:6264", True),
        ("127.0.0.1", "localhost:1", True),
        ("127.0.0.1", "LOCALHOST.", True),
        ("127.0.0.1", "[::1]:6264", True),
        ("127.0.0.1", "127.9.9.9", True),
        ("127.0.0.1", "blockstore.example", True),
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "192.0.2.1", False),
        ("192.0.2.1", "192.0.2.1:80", True),
        ("0.0.0.0", "192.0.2.7", True),
        ("0.0.0.0", "evil.example", False),
        ("::", "[2001:db8::1]:6264", True),
        ("127.0.0.1", "localhost@evil.example", False),
        ("127.0.0.1", "localhost/evil", False),
        ("127.0.0.1", "localhost:x", False),
        ("127.0.0.1", "[::1", False),
        ("127.0.0.1", "", False),
    ],
)
def test_only_names_that_cannot_be_rebound_are_ours(bound, header, ours):
    assert HostNames(bound, ["Blockstore.Example"]).allows(header) is ours


# The door, on a real socket.


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving_world() as bound:
        yield bound


def over_http(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        kind = response.headers.get("Content-Type", "")
        if kind == JSON and content:
            check_reply(method, path, response.status, kind, json.loads(content))
        return response.status, response.headers, content
    finally:
        connection.close()


def over_tcp(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(request)
        received = b""
        while piece := sock.recv(65536):
            received += piece
        return received


def test_the_door_serves_json_that_web_pages_may_read(port):
    status, headers, body = over_http(port, "GET", "/v1/lookup/swiftonsecurity")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert json.loads(body)["data"] == SWIFT.decode()


def test_head_gives_the_headers_of_get_and_no_body(port):
    got = over_http(port, "GET", "/v1/ping")
    head = over_http(port, "HEAD", "/v1/ping")
    assert head[0] == 200
    assert head[1]["Content-Length"] == got[1]["Content-Length"] == str(len(got[2]))
    assert head[2] == b""


def test_one_connection_carries_many_requests(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/v1/lookup/nobody")
        response = connection.getresponse()
        assert response.status == 404
        assert json.loads(response.read())["code"] == "not_registered"
    connection.close()


def test_another_host_name_is_turned_away(port):
    status, _, body = over_http(port, "GET", "/v1/ping", headers={"Host": "evil.example"})
    assert (status, json.loads(body)["code"]) == (403, "forbidden")
    status, _, _ = over_http(port, "GET", "/v1/ping", headers={"Host": "blockstore.example"})
    assert status == 200


def test_a_page_of_another_origin_may_not_write(port):
    origin = {"Origin": "https://evil.example"}
    status, headers, body = over_http(port, "POST", "/v1/data", b"nobody has this", origin)
    assert (status, json.loads(body)["code"]) == (403, "forbidden")
    assert "Access-Control-Allow-Origin" not in headers
    status, _, _ = over_http(port, "POST", "/v1/data", b"x", {"Origin": "null"})
    assert status == 403
    own = f"127.0.0.1:{port}"
    for origin, site, expected in (
        (f"http://{own}", None, 409),
        (f"http://{own}", "same-origin", 409),
        (f"HTTP://{own}", None, 409),
        (f"http://{own}", "same-site", 403),
        (f"http://{own}", "cross-site", 403),
        (None, "cross-site", 403),
        (None, "none", 409),
        (f"http://localhost:{port}", None, 403),
        ("http://localhost:3000", None, 403),
        ("http://127.0.0.1:3000", None, 403),
        ("http://127.0.0.1", None, 403),
        (f"http://{own}.evil.example", None, 403),
        (f"ftp://{own}", None, 403),
        ("", None, 403),
    ):
        headers = {} if origin is None else {"Origin": origin}
        headers |= {} if site is None else {"Sec-Fetch-Site": site}
        status, _, _ = over_http(port, "POST", "/v1/data", b"x", headers)
        assert status == expected, (origin, site)
        if origin is not None and expected == 403:
            assert over_http(port, "POST", "/rpc", b"{}", headers)[0] == 403


def test_a_page_of_another_origin_learns_nothing_of_this_machine():
    world = World()
    whole = {"last_block_processed": HEIGHT, "server_alive": True, "names": 4}
    private = {"pid": 7, "addresses": {}, "dht": {"peers": 3}, "node": {"error": "/home/ada"}}
    world.figures = lambda: whole | private  # type: ignore[method-assign]

    def info(**asked: bool) -> object:
        return asyncio.run(world.pages().reply("GET", "/v1/info", **asked)).body

    assert info(of_other_origin=True) == whole | {"zones": ZONES}
    assert info() == whole | private | {"zones": ZONES}


def test_which_page_asks_is_told_by_the_browser(port):
    for headers in ({"Origin": "http://localhost:3000"}, {"Sec-Fetch-Site": "cross-site"}):
        status, _, body = over_http(port, "GET", "/v1/info", headers=headers)
        assert status == 200
        assert "pid" not in json.loads(body)
    assert "pid" in json.loads(over_http(port, "GET", "/v1/info")[2])


def test_data_may_come_as_a_form_type_and_is_still_taken_as_it_is(port):
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, body = over_http(port, "POST", "/v1/data", b"nobody has this", kind)
    assert status == 200
    assert json.loads(body)["names"] == ["nowhere.id"]


def test_wrong_methods_and_pages_are_refused_in_json(port):
    status, headers, body = over_http(port, "PUT", "/v1/ping")
    assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert json.loads(body)["code"] == "wrong_method"
    status, _, body = over_http(port, "GET", "/%00<script>")
    assert (status, json.loads(body)["code"]) == (404, "no_such_page")


def test_a_body_too_large_is_refused_and_not_kept(port):
    status, _, body = over_http(port, "POST", "/v1/data", b"x" * (MAX_BODY + 1))
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    head = b"POST /v1/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    assert over_tcp(port, head % (MAX_DISCARDED + 1)).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_bounded_too(port):
    chunks = iter([b"y" * 65536] * (MAX_BODY // 65536 + 2))
    status, _, _ = over_http(port, "POST", "/v1/data", chunks)
    assert status == 413


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/ping HTTP/1.1\r\n\r\n",
        b"GET /v1/ping HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    ],
)
def test_a_request_without_exactly_one_host_is_bad(port, request_bytes):
    close = request_bytes[:-2] + b"Connection: close\r\n\r\n"
    assert over_tcp(port, close).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no http\r\n\r\n",
    ],
)
def test_a_request_without_bounds_ends_the_connection(port, request_bytes):
    try:
        reply = over_tcp(port, request_bytes)
    except ConnectionError:
        reply = b""
    assert reply == b"" or reply.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 414 "))
    assert over_http(port, "GET", "/v1/ping")[0] == 200


def test_a_cache_is_told_that_nothing_has_changed_and_nothing_else(port):
    for path in ("/v1/lookup/swiftonsecurity", "/v1/namespaces"):
        status, headers, _ = over_http(port, "GET", path)
        assert (status, headers["Cache-Control"]) == (200, "no-cache")
        known = {"If-None-Match": headers["ETag"]}
        status, again, body = over_http(port, "GET", path, headers=known)
        assert (status, again["ETag"], body) == (304, headers["ETag"], b"")
        assert again["Content-Length"] is None
        assert again["Content-Type"] is None
        assert over_http(port, "HEAD", path, headers=known)[0] == 304


def test_what_may_change_at_any_time_is_not_kept(port):
    for path in ("/v1/info", "/v1/lookup/nobody"):
        _, headers, _ = over_http(port, "GET", path)
        assert headers["Cache-Control"] == "no-store"
        assert "ETag" not in headers


def test_a_web_page_that_asks_first_may_read_with_a_tag_and_may_not_write(port):
    asks = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    status, headers, _ = over_http(port, "OPTIONS", "/v1/names/alice.id", headers=asks)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert "POST" not in headers["Access-Control-Allow-Methods"]
    assert "If-None-Match" in headers["Access-Control-Allow-Headers"]
    assert "ETag" in headers["Access-Control-Expose-Headers"]
    _, headers, _ = over_http(port, "OPTIONS", "/rpc", headers=asks)
    assert "Access-Control-Allow-Methods" not in headers


def test_a_calendar_comes_as_text(port):
    path = "/v1/addresses/bitcoin/mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8/expiry.ics"
    status, headers, body = over_http(port, "GET", path)
    assert (status, headers["Content-Type"]) == (200, "text/calendar; charset=utf-8")
    assert body.startswith(b"BEGIN:VCALENDAR\r\n")


def test_json_rpc_is_for_programs_and_not_for_web_pages(port):
    call = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
    status, _, body = over_http(port, "POST", "/rpc", call)
    assert (status, json.loads(body)["result"]["status"]) == (200, "alive")
    status, headers, body = over_http(port, "POST", "/rpc", call.replace(b'"id": 1, ', b""))
    assert (status, headers["Content-Length"], body) == (204, None, b"")
    page = {"Origin": "https://a.example"}
    assert over_http(port, "POST", "/rpc", call, page)[0] == 403
