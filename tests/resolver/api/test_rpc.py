"""JSON-RPC: the envelopes of both versions, and every method over a real index."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from indexer.protocol.prices import name_price_satoshis
from resolver.api.pages import Page
from resolver.api.rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MAX_BATCH,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
)
from resolver.api.rpc_methods import METHODS
from tests.indexer.protocol.ledger import ALICE, BOB, Ledger
from tests.resolver.api.fakes import SWIFT, World
from tests.resolver.api.openapi_check import document
from tests.resolver.api.test_chain import ONE, TWO, pages_of, story
from zonefiles.text.zonefile import value_hash


@pytest.fixture(scope="module")
def told() -> Ledger:
    return story()


def post(ledger: Ledger, body: Any) -> Page:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(pages_of(ledger).reply("POST", "/rpc", data))


def call(ledger: Ledger, method: str, *params: Any) -> Any:
    """The result, which must be what the method's schema says."""
    body = post(ledger, {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).body
    assert (body["jsonrpc"], body["id"]) == ("2.0", 7)
    assert "error" not in body, body
    result = body["result"]
    if not (isinstance(result, dict) and "error" in result):
        schema = {**METHODS.by_name[method].result, "components": document()["components"]}
        errors = [error.message for error in Draft202012Validator(schema).iter_errors(result)]
        assert not errors, (method, result, errors)
    return result


def of_world(method: str, *params: Any) -> Any:
    """The result over names in every state."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    return asyncio.run(World().pages().reply("POST", "/rpc", body)).body["result"]


def test_the_node_is_alive_and_tells_where_it_is() -> None:
    assert of_world("ping")["status"] == "alive"
    figures = of_world("getinfo")
    assert (figures["blocks"], figures["testset"]) == (1000, "False")


def test_a_look_up_gives_the_data_as_the_first_release_did() -> None:
    assert of_world("lookup", "swiftonsecurity") == {"data": SWIFT.decode()}
    assert of_world("lookup", "nobody.id")["code"] == "not_registered"


def test_a_record_has_the_members_of_the_first_releases_and_its_history(told: Ledger) -> None:
    record = call(told, "get_name_blockchain_record", "alice.id")
    assert record["address"] == BOB.address(told.network)
    assert record["value_hash"] == TWO.hex()
    assert (record["op"], record["opcode"], record["revoked"]) == (">>", "NAME_TRANSFER", False)
    heights = sorted(record["history"], key=int)
    assert [len(record["history"][height]) for height in heights] == [1, 2, 1]
    assert call(told, "get_name_blockchain_record", "nobody.id")["error"] == "Not found."


def test_a_history_is_cut_to_the_blocks_asked_for(told: Ledger) -> None:
    last = told.height - 3
    ops = [s["op"] for s in call(told, "get_name_blockchain_history", "alice.id", 0, last)]
    assert ops == [":", "+", "+"]
    between = call(told, "get_name_blockchain_history", "alice.id", last - 1, last + 1)
    assert [state["op"] for state in between] == ["+", "+", ">>"]
    assert call(told, "get_name_blockchain_history", "alice.id", last + 1, last + 2) == []


def test_the_operations_of_a_block_are_those_that_took_effect(told: Ledger) -> None:
    last = told.height - 3
    (operation,) = call(told, "get_nameops_at", last)
    assert (operation["op"], operation["name"]) == (">>", "alice.id")
    assert call(told, "get_num_blockstack_ops_at", last)["count"] == 1
    later = call(told, "get_blockstack_ops_at", last, 0, 10)
    assert later["nameops"] == [operation]
    assert (later["status"], later["lastblock"], later["indexing"]) == (True, told.height, False)
    ops_hash = call(told, "get_nameops_hash_at", last)
    assert call(told, "get_blockstack_ops_hash_at", last)["ops_hash"] == ops_hash
    assert call(told, "get_nameops_at", told.height + 1)["code"] == "index_behind"


def test_names_are_listed_by_owner_by_namespace_and_all_together(told: Ledger) -> None:
    address = BOB.address(told.network)
    assert call(told, "get_names_owned_by_address", address) == ["alice.id"]
    assert call(told, "get_names_owned_by_address", ALICE.address(told.network)) == []
    assert call(told, "get_all_names", 0, 10) == ["alice.id"]
    assert call(told, "get_all_names_cumulative")["names"] == ["alice.id"]
    assert call(told, "get_names_in_namespace", "id", 0, 1) == {"results": ["alice.id"]}
    assert call(told, "get_names_in_namespace", "id", 1, 1) == {"results": []}
    assert call(told, "get_all_namespaces")["namespaces"] == ["id"]
    for method in ("get_num_names", "get_num_names_cumulative"):
        assert call(told, method)["count"] == 1
    assert call(told, "get_num_names_in_namespace", "id")["count"] == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 260), st.integers(1, 100))
def test_any_slice_of_all_names_is_the_slice_of_the_whole(offset: int, count: int) -> None:
    sliced = call(_MANY, "get_all_names", offset, count)
    assert sliced == _MANY_NAMES[offset : offset + count]


def test_prices_are_those_of_the_next_block(told: Ledger) -> None:
    terms, epoch = told.namespace(), told.network.epoch(told.height + 1)
    cost = call(told, "get_name_cost", "bob.id")
    assert cost["satoshis"] == name_price_satoshis("bob", terms, epoch)
    assert call(told, "get_name_cost", "bob.io")["error"] == "Unknown/invalid namespace"
    assert call(told, "get_namespace_cost", "io")["satoshis"] == 400_000_000


def test_a_namespace_is_told_of_when_it_is_ready(told: Ledger) -> None:
    record = call(told, "get_namespace_blockchain_record", "id")
    assert (record["op"], record["ready"], record["lifetime"]) == ("!", True, 100)
    answer = call(told, "get_namespace_blockchain_record", "io")
    assert answer["error"] == "No such ready namespace"


def test_consensus_hashes_are_found_both_ways(told: Ledger) -> None:
    latest = told.ch().hex()
    assert call(told, "get_consensus_at", told.height) == latest
    assert call(told, "get_consensus_at", told.height + 1) is None
    hashes = call(told, "get_consensus_hashes", [told.height, 1])["consensus_hashes"]
    assert hashes == {str(told.height): latest, "1": None}
    assert call(told, "get_block_from_consensus", latest)["block_id"] == told.height


def test_later_questions_about_a_name_have_their_envelope(told: Ledger) -> None:
    assert call(told, "get_name_record", "alice.id")["record"]["op"] == ">>"
    identifier = f"did:stack:v0:{ALICE.address(told.network)}-0"
    assert call(told, "get_name_DID", "alice.id")["did"] == identifier
    assert call(told, "get_DID_record", identifier)["record"]["name"] == "alice.id"
    assert len(call(told, "get_name_history_page", "alice.id", 0)["history"]) == 3
    assert call(told, "get_name_history_page", "alice.id", 1)["history"] == {}
    at = told.height - 4
    for method in ("get_name_at", "get_historic_name_at"):
        assert call(told, method, "alice.id", at)["records"][0]["value_hash"] == TWO.hex()
        assert call(told, method, "nobody.id", at)["records"] is None
    held = [
        call(told, "is_name_zonefile_hash", "alice.id", digest.hex())["result"]
        for digest in (ONE, TWO, value_hash(b""))
    ]
    assert held == [True, True, False]


# --- envelopes


def test_version_1_is_answered_in_its_own_shape(told: Ledger) -> None:
    body = post(told, {"method": "get_consensus_at", "params": [1], "id": "a"}).body
    assert body == {"id": "a", "result": None, "error": None}
    body = post(told, {"method": "nothing", "params": [], "id": 3}).body
    assert (body["id"], body["result"], body["error"]["code"]) == (3, None, METHOD_NOT_FOUND)


def test_a_batch_is_answered_call_by_call_without_its_notifications(told: Ledger) -> None:
    calls = [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "ping"},
        {"method": "ping", "id": None},
        {"jsonrpc": "2.0", "id": 2, "method": "nothing"},
        5,
    ]
    answers = post(told, calls).body
    assert [answer["id"] for answer in answers] == [1, 2, None]
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        None,
        METHOD_NOT_FOUND,
        INVALID_REQUEST,
    ]


@pytest.mark.parametrize(
    "body", [{"jsonrpc": "2.0", "method": "ping"}, [{"method": "ping", "id": None}]]
)
def test_notifications_alone_are_answered_with_nothing(told: Ledger, body: Any) -> None:
    page = post(told, body)
    assert (page.status, page.body) == (204, None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", PARSE_ERROR),
        (b"{", PARSE_ERROR),
        (b"[" * 9000, PARSE_ERROR),
        (b'{"id": NaN, "method": "ping"}', PARSE_ERROR),
        (b"\xff", PARSE_ERROR),
        (b'{"id": 1e999, "method": "ping"}', INVALID_REQUEST),
        (b'{"id": true, "method": "ping"}', INVALID_REQUEST),
        ([], INVALID_REQUEST),
        ([{}] * (MAX_BATCH + 1), INVALID_REQUEST),
        (5, INVALID_REQUEST),
        ({"id": [], "method": "ping"}, INVALID_REQUEST),
        ({"id": 1, "method": 5}, INVALID_REQUEST),
        ({"id": 1, "method": "ping", "params": 5}, INVALID_REQUEST),
        ({"id": 1, "method": "ping", "jsonrpc": "3.0"}, INVALID_REQUEST),
        ({"id": 1, "method": "__init__"}, METHOD_NOT_FOUND),
        ({"id": 1, "method": "ping", "params": [1]}, INVALID_PARAMS),
        ({"id": 1, "method": "lookup"}, INVALID_PARAMS),
        ({"id": 1, "method": "lookup", "params": ["a b.id"]}, INVALID_PARAMS),
        ({"id": 1, "method": "lookup", "params": {"nome": "a.id"}}, INVALID_PARAMS),
        ({"id": 1, "method": "get_consensus_at", "params": [True]}, INVALID_PARAMS),
        ({"id": 1, "method": "get_consensus_at", "params": [1.5]}, INVALID_PARAMS),
        ({"id": 1, "method": "get_consensus_at", "params": [2**40]}, INVALID_PARAMS),
        ({"id": 1, "method": "get_all_names", "params": [0, 101]}, INVALID_PARAMS),
        ({"id": 1, "method": "get_consensus_hashes", "params": [[1] * 33]}, INVALID_PARAMS),
    ],
)
def test_a_bad_call_has_the_code_for_it(told: Ledger, body: Any, code: int) -> None:
    page = post(told, body)
    assert (page.status, page.body["error"]["code"]) == (200, code)
    assert page.body["error"]["message"]


def test_arguments_may_be_named_and_optional_ones_left_out(told: Ledger) -> None:
    for params in ({}, {"count": 5}, [], [0], None, {"offset": "0", "count": "100"}):
        body = post(told, {"id": 1, "method": "get_all_names", "params": params}).body
        assert body["result"] == ["alice.id"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(METHODS.by_name)), st.lists(json_values, max_size=4))
def test_whatever_a_method_is_given_it_answers(method: str, params: list[Any]) -> None:
    page = post(_STORY, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert page.status == 200, page.body
    json.dumps(page.body, allow_nan=False)


def test_the_readme_lists_every_method() -> None:
    from tests.conftest import ROOT

    text = (ROOT / "resolver" / "api" / "README.md").read_text("utf-8")
    missing = [method.call for method in METHODS.by_name.values() if method.call not in text]
    assert not missing


def _many() -> Ledger:
    ledger = story()
    for n in range(10):
        owner = type(ALICE)(f"owner {n}")
        for name in ledger.register_many(25, owner, f"n{n}x"):
            assert name
    return ledger


_STORY = story()
_MANY = _many()
_MANY_NAMES = sorted(
    key[4:].decode() + ".id" for key in _MANY.store.rows if key.startswith(b"Nid.")
)
