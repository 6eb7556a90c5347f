"""The API's pages of what the chain has been, over a real index and over one beyond its freeze."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.networks import EPOCH_3
from indexer.protocol.proofs import read_proof, verify_proof
from indexer.table.snapshot import Snapshot
from resolver.api.pages import Page, Pages
from resolver.dns.chase import Freshness
from resolver.refusals import Refusal
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    PAYER,
    THIRD,
    Ledger,
    network,
    opened,
    revoke,
)
from tests.indexer.protocol.test_frozen import FREEZE, frozen
from tests.resolver.api.fakes import World

ONE, TWO = b"\1" * 20, b"\2" * 20


def pages_of(ledger: Ledger) -> Pages:
    world = World()
    snapshot = Snapshot(ledger.store, ledger.network)
    behind: dict[str, Any] = {
        "snapshot": lambda: snapshot,
        "freshness": lambda: Freshness(True, ledger.height, ledger.height, 0.0),
    }
    return Pages(replace(world.pages().behind, **behind))


def story() -> Ledger:
    """alice.id: registered, updated twice in one block, transferred to bob; carol was refused."""
    ledger = opened(THIRD)
    ledger.register("alice.id")
    ledger.accept((ALICE, ledger.update("alice.id", ONE)), (ALICE, ledger.update("alice.id", TWO)))
    ledger.block((CAROL, revoke("alice.id")), (ALICE, ledger.transfer("alice.id", BOB)))
    ledger.skip(3)
    return ledger


@pytest.fixture(scope="module")
def told() -> Ledger:
    return story()


def ask(ledger: Ledger, path: str, method: str = "GET") -> Page:
    page = asyncio.run(pages_of(ledger).reply(method, path))
    json.dumps(page.body)
    return page


def got(ledger: Ledger, path: str) -> Any:
    page = ask(ledger, path)
    assert page.status == 200, page.body
    return page.body


def test_a_history_is_the_states_by_height(told: Ledger) -> None:
    body = got(told, "/v1/names/alice.id/history")
    heights = sorted(body, key=int)
    assert [[state["opcode"] for state in body[height]] for height in heights] == [
        ["NAME_REGISTRATION"],
        ["NAME_UPDATE", "NAME_UPDATE"],
        ["NAME_TRANSFER"],
    ]
    last = body[heights[-1]][0]
    assert last["address"] == BOB.address(told.network)
    assert last["value_hash"] == TWO.hex()
    assert last["block_id"] == int(heights[-1]) == told.height - 3
    assert got(told, "/v1/names/alice.id/history?page=0") == body
    assert got(told, "/v1/names/alice.id/history?page=1") == {}


def test_a_long_history_has_pages(told: Ledger) -> None:
    ledger = story()
    for n in range(120):
        ledger.accept((BOB, ledger.update("alice.id", bytes([n]) * 20)))
    first, second = (got(ledger, f"/v1/names/alice.id/history?page={n}") for n in (0, 1))
    assert (sum(map(len, first.values())), sum(map(len, second.values()))) == (100, 24)
    assert not first.keys() & second.keys()


def test_verdicts_tell_who_was_refused_and_why(told: Ledger) -> None:
    body = got(told, "/v1/names/alice.id/verdicts")
    refused = [v for v in body["verdicts"] if not v["accepted"]]
    assert [(v["opcode"], v["flaw"]) for v in refused] == [("NAME_REVOKE", "not_the_owner")]
    assert refused[0]["reason"] == "the sender does not own the name"
    txid = refused[0]["txid"]
    for path in (f"/v1/transactions/{txid}", f"/v1/blockchains/bitcoin/transactions/{txid}"):
        assert got(told, path) == refused[0]
    assert body["next"] is None
    after = got(told, f"/v1/names/alice.id/verdicts?after={told.height}-0")
    assert after["verdicts"] == []


def test_the_operations_of_a_block_are_all_there_refused_ones_too(told: Ledger) -> None:
    path = f"/v1/blockchains/bitcoin/operations/{told.height - 3}"
    refused, accepted = got(told, f"{path}?all=true")
    assert (refused["op"], refused["accepted"], refused["serialized"]) == ("~", False, None)
    assert (accepted["op"], accepted["opcode"]) == (">>", "NAME_TRANSFER")
    assert (accepted["keep_data"], accepted["revoked"], accepted["importer"]) == (True, False, None)
    assert accepted["serialized"].startswith(">:8:alice.id,")
    assert got(told, path) == [accepted]
    assert got(told, f"/v1/blockchains/bitcoin/operations/{told.height}") == []


def test_a_consensus_hash_is_found_by_its_height_and_the_height_by_its_hash(told: Ledger) -> None:
    latest = got(told, "/v1/blockchains/bitcoin/consensus")
    assert (latest["consensus_hash"], latest["height"]) == (told.ch().hex(), told.height)
    earlier = got(told, f"/v1/blockchains/bitcoin/consensus/{told.height - 5}")
    assert earlier["consensus_hash"] == told.ch(told.height - 5).hex()
    path = f"/v1/blockchains/bitcoin/consensus-block/{earlier['consensus_hash']}"
    assert got(told, path) == {"block_height": told.height - 5}


def test_owners_namespaces_and_holders_are_listed(told: Ledger) -> None:
    address = {p: p.address(told.network) for p in (ALICE, BOB)}
    assert got(told, f"/v1/addresses/bitcoin/{address[BOB]}")["names"] == ["alice.id"]
    assert got(told, f"/v1/addresses/bitcoin/{address[ALICE]}?all=true")["names"] == []
    assert got(told, "/v1/namespaces") == ["id"]
    assert got(told, "/v1/namespaces/id/names") == ["alice.id"]
    assert got(told, "/v1/namespaces/id/names?after=alice.id") == []
    assert got(told, f"/v1/values/{TWO.hex()}")["holders"] == [{"name": "alice.id", "until": None}]
    past = got(told, f"/v1/values/{ONE.hex()}")["holders"]
    assert past == [{"name": "alice.id", "until": told.height - 4}]


@pytest.mark.parametrize("back", [0, 3, 4])
def test_a_proof_from_the_api_is_checked_by_a_stranger(back: int, told: Ledger) -> None:
    height = told.height - back
    body = got(told, f"/v1/names/alice.id/proof?height={height}")
    assert body["under"] == {"height": told.height, "consensus_hash": told.ch().hex()}
    proof = read_proof(json.dumps(body["proof"]))
    proven = verify_proof(proof, told.height, told.ch(), told.network)
    state = Snapshot(told.store, told.network).state_at("alice.id", height)
    assert state is not None
    assert proven.operation.txid == state.record.txid[::-1].hex()
    assert proven.height == state.height
    under = got(told, f"/v1/names/alice.id/proof?height={height}&under={height}")
    assert under["under"]["consensus_hash"] == told.ch(height).hex()


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/v1/names/nobody.id/history", Refusal.NOT_REGISTERED),
        ("/v1/names/nobody.id/proof", Refusal.NOT_REGISTERED),
        ("/v1/names/alice.id/proof?height=1", Refusal.NOT_REGISTERED),
        ("/v1/names/alice.id/proof?height=4000000000", Refusal.INDEX_BEHIND),
        ("/v1/names/alice.id/proof?under=4000000000", Refusal.INDEX_BEHIND),
        ("/v1/names/alice.id/proof?under=104", Refusal.NOT_REGISTERED),
        ("/v1/names/alice.id/proof?height=107&under=106", Refusal.BAD_REQUEST),
        ("/v1/names/alice.id/proof?height=-1", Refusal.BAD_REQUEST),
        ("/v1/names/alice.id/history?page=1001", Refusal.BAD_REQUEST),
        ("/v1/names/alice.id/history?page=x", Refusal.BAD_REQUEST),
        ("/v1/names/alice.id/history?page=1&page=2", Refusal.BAD_REQUEST),
        ("/v1/names/alice.id/history?" + "a=1&" * 9, Refusal.BAD_REQUEST),
        ("/v1/names/alice.id/history?" + "a" * 2000, Refusal.BAD_REQUEST),
        ("/v1/names/al%20ice.id/history", Refusal.BAD_NAME),
        ("/v1/names/alice.id/verdicts?after=7", Refusal.BAD_REQUEST),
        ("/v1/addresses/bitcoin/nonsense", Refusal.BAD_REQUEST),
        ("/v1/addresses/bitcoin/%ff", Refusal.BAD_REQUEST),
        ("/v1/namespaces/io/names", Refusal.NOT_ON_CHAIN),
        ("/v1/namespaces/i.d/names", Refusal.BAD_NAME),
        ("/v1/namespaces/id/names?all=perhaps", Refusal.BAD_REQUEST),
        ("/v1/blockchains/bitcoin/operations/1", Refusal.NOT_ON_CHAIN),
        ("/v1/blockchains/bitcoin/operations/9999", Refusal.INDEX_BEHIND),
        ("/v1/blockchains/bitcoin/consensus/9999", Refusal.INDEX_BEHIND),
        (f"/v1/blockchains/bitcoin/consensus-block/{'0' * 32}", Refusal.NOT_ON_CHAIN),
        (f"/v1/transactions/{'0' * 64}", Refusal.NOT_ON_CHAIN),
        ("/v1/transactions/0", Refusal.BAD_REQUEST),
    ],
)
def test_each_reason_for_no_answer_has_its_own_code(
    path: str, refusal: Refusal, told: Ledger
) -> None:
    page = ask(told, path)
    assert (page.status, page.body["code"]) == (refusal.status, refusal.name.lower())
    assert page.body["error"]


def test_the_pages_are_only_read(told: Ledger) -> None:
    page = ask(told, "/v1/namespaces", "POST")
    assert (page.status, page.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert ask(told, "/v1/namespaces", "HEAD").status == 200


def test_before_the_first_block_nothing_is_known() -> None:
    ledger = Ledger(network(EPOCH_3))
    assert ask(ledger, "/v1/blockchains/bitcoin/consensus").status == 404
    assert got(ledger, "/v1/namespaces") == []


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=40))
def test_whatever_is_asked_is_answered(argument: str, query: str) -> None:
    ledger = _ANY
    for path in ("names/{}/history", "names/{}/proof", "namespaces/{}/names", "values/{}"):
        page = ask(ledger, f"/v1/{path.format(argument)}?{query}")
        assert page.status in (200, 400, 404, 503), page.body


_ANY = story()


def test_beyond_the_freeze_every_page_with_a_consensus_hash_says_so() -> None:
    ledger = frozen(3)
    frozen_page = got(ledger, "/v1/blockchains/bitcoin/consensus")
    assert frozen_page == {
        "consensus_hash": None,
        "height": ledger.height,
        "ops_hash": frozen_page["ops_hash"],
        "consensus": f"frozen at {FREEZE}",
        "consensus_frozen_at": FREEZE,
        "computed_here": ledger.ch().hex(),
    }
    path = f"/v1/blockchains/bitcoin/consensus/{FREEZE}"
    assert got(ledger, path)["consensus_hash"] == ledger.ch(FREEZE).hex()
    path = f"/v1/blockchains/bitcoin/consensus-block/{ledger.ch().hex()}"
    assert ask(ledger, path).status == 404
    body = got(ledger, "/v1/names/alice.id/proof")
    assert body["under"]["height"] == FREEZE
    late = ask(ledger, f"/v1/names/alice.id/proof?under={FREEZE + 1}")
    assert late.status == 404
    assert f"frozen at {FREEZE}" in late.body["error"]
    ledger.register("new.id", PAYER)
    assert ask(ledger, "/v1/names/new.id/proof").status == 404  # not yet there at the freeze
