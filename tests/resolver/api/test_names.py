"""The API's pages of one name and of data, and what makes an answer worth keeping: its tag."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.networks import EPOCH_3
from indexer.protocol.records import Phase
from indexer.protocol.rows import DamagedRow
from indexer.table.level import TableDamaged, TableError
from indexer.table.snapshot import Snapshot
from resolver.api.names import registrar_url
from resolver.api.pages import Page, Pages
from resolver.dns.chase import Freshness
from resolver.refusals import Refusal
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    SHORT_GRACE,
    THIRD,
    Ledger,
    network,
    opened,
    register,
    revoke,
)
from tests.resolver.api.fakes import SWIFT, Has, HasNot, World
from zonefiles.text.zonefile import value_hash

FIRST = b"$ORIGIN alice.id\n$TTL 3600\nwww A 192.0.2.1\n"
SECOND = b'$ORIGIN alice.id\n$TTL 60\n_resolver URI 10 1 "https://registrar.example/v1"\n'
HASH = {data: value_hash(data) for data in (FIRST, SECOND)}


def story(chain: Any = THIRD) -> Ledger:
    """alice.id held the first zone file and holds the second one."""
    ledger = opened(chain)
    ledger.register("alice.id")
    for data in (FIRST, SECOND):
        ledger.accept((ALICE, ledger.update("alice.id", HASH[data])))
    return ledger


class Door:
    """Pages over a ledger, with data of our choice."""

    def __init__(self, ledger: Ledger, *held: bytes) -> None:
        self.ledger = ledger
        self.held = {value_hash(data): data for data in held}
        self.fetched: list[bytes] = []
        behind: dict[str, Any] = {
            "snapshot": lambda: Snapshot(ledger.store, ledger.network),
            "freshness": lambda: Freshness(True, ledger.height, ledger.height, 0.0),
            "fetch": self._fetch,
        }
        self.pages = Pages(replace(World().pages().behind, **behind))

    async def _fetch(self, digest: bytes, timeout: float) -> Has | HasNot:
        self.fetched.append(digest)
        return Has(self.held[digest], "archive") if digest in self.held else HasNot(2, 0)

    def ask(self, path: str, known: str = "", method: str = "GET", body: bytes = b"") -> Page:
        page = asyncio.run(self.pages.reply(method, path, body, known))
        json.dumps(page.body)
        return page


@pytest.fixture
def door() -> Door:
    return Door(story(), FIRST, SECOND)


def test_a_name_comes_with_its_zone_file_its_registrar_and_its_identifier(door: Door) -> None:
    body = door.ask("/v1/names/alice.id").body
    assert (body["zonefile"], body["zonefile_hash"]) == (SECOND.decode(), HASH[SECOND].hex())
    assert body["resolver"] == "https://registrar.example/v1"
    assert body["did"] == f"did:stack:v0:{ALICE.address(THIRD)}-0"
    assert body["height"] == door.ledger.height
    assert body["expires_about"] < body["gone_about"]


def test_a_name_whose_data_nobody_has_is_described_all_the_same() -> None:
    page = Door(story()).ask("/v1/names/alice.id")
    assert (page.status, page.body["zonefile"]) == (200, None)
    assert page.body["zonefile_missing"]["code"] == "data_unavailable"
    assert "ETag" not in page.headers  # it may come before the next block


def test_a_revoked_name_has_no_zone_file(door: Door) -> None:
    door.ledger.accept((ALICE, revoke("alice.id")))
    body = door.ask("/v1/names/alice.id").body
    assert (body["status"], body["zonefile"], door.fetched) == ("revoked", None, [])


def test_what_a_name_held_once_is_still_to_be_had(door: Door) -> None:
    for data in (FIRST, SECOND):
        for path in (f"/v1/names/alice.id/zonefile/{HASH[data].hex()}",):
            assert door.ask(path).body == {"zonefile": data.decode()}
        assert door.ask(f"/v1/zonefiles/{HASH[data].hex().upper()}").body == {
            "zonefile": data.decode()
        }


@pytest.mark.parametrize(
    "path", ["/v1/names/alice.id/zonefile/{}", "/v1/names/bob.id/zonefile/{}", "/v1/zonefiles/{}"]
)
def test_data_that_the_chain_never_named_is_not_asked_for(door: Door, path: str) -> None:
    page = door.ask(path.format(value_hash(b"elsewhere").hex()))
    assert (page.status, page.body["code"], door.fetched) == (404, "not_on_chain", [])


@pytest.mark.parametrize(
    ("data", "url"),
    [
        (SECOND, "https://registrar.example/v1"),
        (FIRST, None),
        (b"_resolver nonsense", None),
        (b'_resolver URI 1 1 "caf\xc3\xa9"\n', None),
        (b'_RESOLVER URI 1 1 "a:b"\n', "a:b"),
        (b"\xff _resolver", None),
    ],
)
def test_the_registrar_is_read_from_the_zone_file_if_it_is_one(
    data: bytes, url: str | None
) -> None:
    assert registrar_url(data, "alice.id") == url


def test_the_record_of_a_name_is_told_though_it_lapsed() -> None:
    ledger = story(SHORT_GRACE)
    ledger.skip(2 * 100 + 10 + 2)
    door = Door(ledger)
    assert door.ask("/v1/names/alice.id").body["status"] == "available"
    record = door.ask("/v1/blockchains/bitcoin/names/alice.id").body
    assert (record["op"], record["opcode"]) == ("+", "NAME_UPDATE")
    assert record["renewal_deadline"] <= ledger.height
    missing = door.ask("/v1/blockchains/bitcoin/names/bob.id")
    assert (missing.status, missing.body["status"]) == (404, "available")


# --- identifiers


def test_an_identifier_follows_its_name_to_other_owners(door: Door) -> None:
    ledger = door.ledger
    did = f"did:stack:v0:{ALICE.address(THIRD)}-0"
    before = door.ask(f"/v1/dids/{did}").body
    assert (before["name"], before["address"]) == ("alice.id", ALICE.address(THIRD))
    assert before["public_key"] is None  # somebody else paid, so the chain has not shown it
    ledger.accept((ALICE, ledger.transfer("alice.id", BOB)))
    after = door.ask(f"/v1/dids/{did}").body
    assert (after["name"], after["address"]) == ("alice.id", BOB.address(THIRD))


def test_an_identifier_has_the_key_that_its_owner_has_shown(door: Door) -> None:
    ledger = door.ledger
    ledger.accept((BOB, ledger.preorder("own.id", BOB, BOB)))
    ledger.accept((BOB, register("own.id", BOB)))
    did = f"did:stack:v0:{BOB.address(THIRD)}-0"
    body = door.ask(f"/v1/dids/{did}").body
    assert BOB.public_key is not None
    assert body["public_key"] == BOB.public_key.hex()
    assert body["document"]["publicKey"][0]["publicKeyHex"] == body["public_key"]


def test_an_identifier_ends_with_the_registration_that_made_it() -> None:
    ledger = story(SHORT_GRACE)
    ledger.skip(2 * 100 + 10 + 2)
    door = Door(ledger)
    did = f"did:stack:v0:{ALICE.address(SHORT_GRACE)}-0"
    assert door.ask(f"/v1/dids/{did}").body["code"] == "expired"
    ledger.register("alice.id", BOB)
    assert door.ask(f"/v1/dids/{did}").body["code"] == "not_on_chain"
    assert door.ask(f"/v1/dids/did:stack:v0:{BOB.address(SHORT_GRACE)}-0").status == 200


@pytest.mark.parametrize(
    ("did", "refusal"),
    [
        ("did:stack:v0:{}-1", Refusal.NOT_ON_CHAIN),
        ("did:stack:v0:{}-01", Refusal.BAD_REQUEST),
        ("did:stack:v0:{}-9999999999", Refusal.NOT_ON_CHAIN),
        ("did:stack:v1:{}-0", Refusal.BAD_REQUEST),
        ("did:stack:v0:1111111111111111111114oLvT2-0", Refusal.BAD_REQUEST),
        ("%ff", Refusal.BAD_REQUEST),
    ],
)
def test_each_identifier_without_a_name_is_told_why(did: str, refusal: Refusal, door: Door) -> None:
    page = door.ask(f"/v1/dids/{did.format(ALICE.address(THIRD))}")
    assert (page.status, page.body["code"]) == (refusal.status, refusal.name.lower())


# --- prices


def test_prices_are_given_in_both_shapes(door: Door) -> None:
    amount = {"units": "BTC", "amount": "100000"}
    for name, satoshis in (("muneeb.id", 10_000), ("patrickstanley.id", 2_500), ("was2bme", 250)):
        price = {"units": "BTC", "amount": str(satoshis)}
        assert door.ask(f"/v2/prices/names/{name}").body == {"name_price": price}
        told = door.ask(f"/v1/prices/names/{name}").body["name_price"]
        assert told == {**price, "satoshis": satoshis}
    assert door.ask("/v1/prices/names/a.io").body["code"] == "not_on_chain"
    four = {**amount, "amount": "40000000"}
    assert door.ask("/v2/prices/namespaces/test").body == four
    assert door.ask("/v1/prices/namespaces/test").body == {**four, "satoshis": 40_000_000}


def test_names_of_a_namespace_of_the_other_ledger_are_priced_in_its_units() -> None:
    ledger = opened(network(EPOCH_3), version=2)
    record = ledger.namespace()
    assert Door(ledger).ask("/v1/prices/names/muneeb.id").body["name_price"]["units"] == "BTC"
    from indexer.protocol import schema

    row = schema.NAMESPACE_ROW.write(replace(record, version=3))
    ledger.store.write({schema.namespace_key("id"): row})
    price = Door(ledger).ask("/v1/prices/names/muneeb.id").body["name_price"]
    assert price["units"] == "STACKS"
    assert "satoshis" not in price


# --- tags


def tag(page: Page) -> str:
    return page.headers["ETag"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/names/alice.id",
        "/v1/names/alice.id/history",
        "/v1/namespaces",
        "/v1/namespaces/id",
        "/v1/prices/names/bob.id",
        "/v1/blockchains/bitcoin/consensus",
        "/v1/addresses/bitcoin/mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8",
    ],
)
def test_what_follows_from_the_chain_is_unchanged_until_the_next_block(
    path: str, door: Door
) -> None:
    page = door.ask(path)
    assert (page.status, page.headers["Cache-Control"]) == (200, "no-cache")
    for known in (tag(page), f'"x", {tag(page)}', tag(page).removeprefix("W/"), "*"):
        again = door.ask(path, known)
        assert (again.status, again.body, tag(again)) == (304, None, tag(page))
    door.ledger.skip()
    changed = door.ask(path, tag(page))
    assert changed.status == 200
    assert tag(changed) != tag(page)


def test_whoever_has_the_data_of_a_hash_is_told_so_without_fetching_it(door: Door) -> None:
    known = f'W/"{HASH[SECOND].hex()}"'
    for path in (
        "/v1/lookup/alice.id",
        "/v1/names/alice.id/zonefile",
        f"/v1/zonefiles/{HASH[SECOND].hex()}",
    ):
        assert tag(door.ask(path)) == known
        door.fetched.clear()
        page = door.ask(path, known)
        assert (page.status, tag(page), door.fetched) == (304, known, [])
    door.ledger.skip()
    assert door.ask("/v1/lookup/alice.id", known).status == 304
    door.ledger.accept((ALICE, door.ledger.update("alice.id", HASH[FIRST])))
    assert door.ask("/v1/lookup/alice.id", known).body["data"] == FIRST.decode()


@pytest.mark.parametrize("known", ['W/"x"', "x", "", ",", '"*"'])
def test_another_tag_is_answered_in_full(known: str, door: Door) -> None:
    assert door.ask("/v1/lookup/alice.id", known).status == 200
    assert door.ask("/v1/namespaces", known).status == 200


def test_nothing_that_is_missing_is_unchanged(door: Door) -> None:
    page = door.ask("/v1/names/alice.id")
    assert door.ask("/v1/names/bob.id", tag(page)).status == 404
    assert door.ask("/v1/names/bob.id", "*").status == 404


def test_what_is_stale_has_no_tag_and_says_so_in_a_header() -> None:
    world = World()
    world.freshness = Freshness(True, 5, 5, 8_000.0)
    for path in ("/v1/lookup/swiftonsecurity", "/v1/namespaces"):
        page = asyncio.run(world.pages().reply("GET", path))
        assert page.headers["Blockstore-Stale"] == "last block 5, 8000 seconds ago"
        assert "ETag" not in page.headers


def test_every_page_may_be_asked_what_may_be_done_with_it(door: Door) -> None:
    page = door.ask("/v1/names/alice.id", method="OPTIONS")
    assert (page.status, page.headers["Allow"]) == (200, "GET, HEAD, OPTIONS")
    assert page.headers["Access-Control-Allow-Headers"] == "If-None-Match"
    writing = door.ask("/rpc", method="OPTIONS")
    assert writing.headers == {"Allow": "OPTIONS, POST"}


def test_a_world_by_hand_has_names_in_every_state() -> None:
    pages = World().pages()
    phases = {name: entry[1].phase for name, entry in World().names.names_by_hand.items()}
    for name, phase in phases.items():
        page = asyncio.run(pages.reply("GET", f"/v1/names/{name}"))
        assert page.status == (404 if phase is Phase.EXPIRED else 200)
    assert SWIFT.decode() in json.dumps(
        asyncio.run(pages.reply("GET", "/v1/names/swiftonsecurity.id")).body["zonefile"]
    ).replace('\\"', '"')


@pytest.mark.parametrize(
    "error",
    [TableDamaged(Path("/names"), "Corruption"), TableError("too many files"), DamagedRow("row")],
)
@pytest.mark.parametrize("path", ["/v1/names/alice.id", "/v1/names", "/v1/info"])
def test_an_index_that_cannot_be_read_is_no_fault_of_the_request_and_has_a_next_step(
    error: Exception, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise error

    behind = replace(World().pages().behind, snapshot=broken, figures=broken)
    page = asyncio.run(Pages(behind).reply("GET", path))
    assert page.status == 503
    assert page.body["code"] == "index_behind"
    assert "blockstored reindex" in page.body["hint"]
    assert "Traceback" not in caplog.text
