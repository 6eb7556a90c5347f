"""The API's listings, counts and ends of names, over a real index."""

import asyncio
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar

from indexer.table.pages import PAGE, Page
from indexer.table.snapshot import Snapshot
from resolver.api.listing_cache import ListingCache
from resolver.api.pages import MAX_WALKS, Pages
from resolver.dns.chase import Freshness
from resolver.refusals import Refusal
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    SHORT_GRACE,
    Holder,
    Ledger,
    opened,
    revoke,
)
from tests.resolver.api.fakes import World
from tests.resolver.api.test_names import Door
from tests.rings import sampled

DAY_OF_BLOCKS = 144


def filled() -> Ledger:
    """130 names in two namespaces; one of them is revoked."""
    ledger = opened(SHORT_GRACE)
    ledger.open_namespace("io")
    for n in range(6):
        ledger.register_many(20, Holder(f"owner {n}"), f"n{n}x")
    for name in ("a.io", "b.io", "c.io"):
        ledger.register(name, BOB)
    ledger.register("carol.id", CAROL)
    ledger.accept((CAROL, revoke("carol.id")))
    return ledger


@pytest.fixture(scope="module")
def door() -> Door:
    return Door(filled())


@pytest.fixture(scope="module")
def every(door: Door) -> list[str]:
    """All names that are somebody's, by the table itself."""
    seen = Snapshot(door.ledger.store, door.ledger.network)
    found = list(seen.names(limit=1000).entries)
    assert len(found) == 123
    return found


def test_names_come_a_hundred_a_page_until_none_are_left(door: Door, every: list[str]) -> None:
    pages = [door.ask(f"/v1/names?page={n}").body for n in range(3)]
    assert pages == [every[:100], every[100:], []]
    assert door.ask("/v1/names").body == every[:100]
    assert door.ask("/v1/names?page=100000").body == []


@pytest.mark.parametrize("path", ["/v1/names", "/v1/names?page=0", "/v1/namespaces/id/names"])
def test_the_header_link_leads_through_a_listing(path: str, door: Door, every: list[str]) -> None:
    found: list[str] = []
    for _ in range(5):
        page = door.ask(path)
        found += page.body
        link = page.headers.get("Link", "")
        if not link:
            break
        path = link.removeprefix("<").removesuffix('>; rel="next"')
    assert found == [name for name in every if "/id/" not in path or name.endswith(".id")]


def test_revoked_and_lapsed_names_are_listed_on_demand(door: Door) -> None:
    assert "carol.id" not in door.ask("/v1/namespaces/id/names?page=0").body
    assert "carol.id" in door.ask("/v1/namespaces/id/names?page=0&all=true").body
    assert door.ask("/v1/namespaces/io/names").body == ["a.io", "b.io", "c.io"]


def test_names_are_counted(door: Door) -> None:
    def count(path: str) -> int:
        found: int = door.ask(path).body["names_count"]
        return found

    assert count("/v1/blockchains/bitcoin/name_count") == 123
    assert count("/v1/blockchains/bitcoin/name_count?all=true") == 124
    assert count("/v1/namespaces/io/name_count") == 3
    assert count("/v1/namespaces/id/name_count") == 120
    assert count("/v1/namespaces/id/name_count?all") == 121


def test_a_namespace_has_a_page_of_its_own(door: Door) -> None:
    body = door.ask("/v1/namespaces/io").body
    assert (body["namespace_id"], body["op"], body["ready"]) == ("io", "!", True)
    assert body["buckets"] == [6, 5, 4, 3, 2, 1] + [0] * 10
    assert door.ask("/v1/namespaces").body == ["id", "io"]
    assert door.ask("/v1/namespaces?page=0").body == ["id", "io"]
    assert door.ask("/v1/namespaces?page=1").body == []


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/v1/names?page=-1", Refusal.BAD_REQUEST),
        ("/v1/names?page=1&after=a.id", Refusal.BAD_REQUEST),
        ("/v1/names?expirng=3", Refusal.BAD_REQUEST),
        ("/v1/names?namespace=id", Refusal.BAD_REQUEST),
        ("/v1/names?address=1111111111111111111114oLvT2", Refusal.BAD_REQUEST),
        ("/v1/names?expiring=0", Refusal.BAD_REQUEST),
        ("/v1/names?expiring=9&all=true", Refusal.BAD_REQUEST),
        ("/v1/names?expiring=9&address=1111111111111111111114oLvT2", Refusal.BAD_REQUEST),
        ("/v1/names?expiring=9&namespace=i.d", Refusal.BAD_NAME),
        ("/v1/names?after=%c3%a9", Refusal.BAD_REQUEST),
        ("/v1/namespaces/ix/name_count", Refusal.NOT_ON_CHAIN),
        ("/v1/namespaces/ix", Refusal.NOT_ON_CHAIN),
    ],
)
def test_each_listing_that_cannot_be_says_why(path: str, refusal: Refusal, door: Door) -> None:
    page = door.ask(path)
    assert (page.status, page.body["code"]) == (refusal.status, refusal.name.lower())
    assert page.body["hint"]


# --- names that end


def test_names_that_end_soon_come_in_the_order_of_their_ends(door: Door) -> None:
    soon = door.ask("/v1/names?expiring=2").body
    ends = [one["expire_block"] for one in soon]
    assert ends == sorted(ends)
    height = door.ledger.height
    assert all(end <= height + 2 * DAY_OF_BLOCKS for end in ends)
    first = soon[0]
    assert (first["phase"], first["name"][:3]) == ("live", "n0x")
    assert first["renewal_deadline"] > first["expire_block"]
    assert date.fromisoformat(first["expires_about"])
    assert door.ask("/v1/names?expiring=1").body == [
        one for one in soon if one["expire_block"] <= height + DAY_OF_BLOCKS
    ]


def test_every_name_ends_some_day_page_by_page(door: Door, every: list[str]) -> None:
    pages = [door.ask(f"/v1/names?expiring=36500&page={n}") for n in range(3)]
    assert sorted(one["name"] for page in pages for one in page.body) == sorted(every)
    assert pages[0].headers["Link"] == '</v1/names?page=1&expiring=36500>; rel="next"'
    assert [len(page.body) for page in pages] == [100, 23, 0]


def test_the_ends_of_one_owner_and_of_one_namespace_are_told(door: Door) -> None:
    address = BOB.address(SHORT_GRACE)
    owned = door.ask(f"/v1/names?expiring=9&address={address}").body
    assert [one["name"] for one in owned] == ["a.io", "b.io", "c.io"]
    assert {one["address"] for one in owned} == {address}
    assert door.ask("/v1/names?expiring=9&namespace=io").body == owned
    assert door.ask(f"/v1/names?expiring=9&namespace=id&address={address}").body == []


def test_a_name_in_its_grace_period_ends_soon_and_a_lapsed_one_has_ended() -> None:
    ledger = opened(SHORT_GRACE)
    ledger.register("alice.id", ALICE)
    door = Door(ledger)
    ledger.skip(2 * 100)
    (one,) = door.ask("/v1/names?expiring=1").body
    assert (one["phase"], one["expire_block"]) == ("grace", ledger.height)
    ledger.skip(11)
    assert door.ask("/v1/names?expiring=1").body == []


def test_nothing_is_said_of_ends_while_the_index_is_behind() -> None:
    world = World()
    world.freshness = Freshness(False, 5, 900, 0.0)
    for path in ("/v1/names?expiring=5", f"/v1/addresses/bitcoin/{BURN}/expiry.ics"):
        page = asyncio.run(world.pages().reply("GET", path))
        assert page.body["code"] == "index_behind"


BURN = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"


# --- the calendar


def calendar(door: Door, owner: Holder, query: str = "") -> str:
    page = door.ask(f"/v1/addresses/bitcoin/{owner.address(SHORT_GRACE)}/expiry.ics{query}")
    assert (page.status, page.content_type) == (200, "text/calendar; charset=utf-8")
    text: str = page.body
    return text


def test_a_calendar_has_both_ends_of_every_name_of_its_owner(door: Door) -> None:
    text = calendar(door, BOB)
    events = Calendar.from_ical(text).walk("VEVENT")
    assert [str(event["summary"]) for event in events] == [
        f"{name} {what}" for name in ("a.io", "b.io", "c.io") for what in ("expires", "is lost")
    ]
    for one in door.ask(f"/v1/names?expiring=99&address={BOB.address(SHORT_GRACE)}").body:
        days = {str(e["summary"]): e.decoded("dtstart").isoformat() for e in events}
        assert days[f"{one['name']} expires"] == one["expires_about"]
        assert days[f"{one['name']} is lost"] == one["gone_about"]
    assert "estimated" in str(events[0]["description"])
    assert events[0].walk("VALARM")


def test_a_calendar_is_written_as_rfc_5545_has_it(door: Door) -> None:
    text = calendar(door, BOB)
    assert text.endswith("END:VCALENDAR\r\n")
    lines = text.split("\r\n")
    assert all(len(line.encode()) <= 75 and "\n" not in line for line in lines)
    assert any(line.startswith(" ") for line in lines)  # long ones are folded
    assert calendar(door, BOB) == text
    identities = [line for line in lines if line.startswith("UID:")]
    assert len(set(identities)) == len(identities) == 6


def test_a_calendar_looks_as_far_ahead_as_it_is_asked(door: Door) -> None:
    assert "VEVENT" not in calendar(door, ALICE)
    assert "VEVENT" not in calendar(door, BOB, "?days=1")
    assert "VEVENT" in calendar(door, BOB, "?days=2")


def test_a_renewed_name_keeps_its_events_and_moves_them() -> None:
    ledger = opened(SHORT_GRACE)
    ledger.register("alice.id", ALICE)
    door = Door(ledger)
    before = Calendar.from_ical(calendar(door, ALICE)).walk("VEVENT")
    ledger.skip(150)
    ledger.accept((ALICE, ledger.renew("alice.id")))
    after = Calendar.from_ical(calendar(door, ALICE)).walk("VEVENT")
    assert [e["uid"] for e in before] == [e["uid"] for e in after]
    ends = [
        [int(str(e["description"]).split(" at block ")[1].split(".")[0]) for e in events]
        for events in (before, after)
    ]
    assert [then - now for now, then in zip(*ends, strict=True)] == [151, 151]
    assert all(a["sequence"] > b["sequence"] for a, b in zip(after, before, strict=True))


# --- walks


def step_of(entries: list[str], breaks: frozenset[int]) -> Any:
    """A listing that ends a step wherever ``breaks`` says."""

    def step(after: str, limit: int) -> Page[str]:
        begin = entries.index(after) + 1 if after else 0
        end = min(begin + limit, len(entries))
        end = next((n for n in range(begin + 1, end) if n in breaks), end)
        return Page(tuple(entries[begin:end]), entries[end - 1] if end < len(entries) else "")

    return step


@settings(max_examples=sampled(60), deadline=None)
@given(
    st.integers(0, 450),
    st.frozensets(st.integers(0, 450), max_size=8),
    st.lists(st.integers(0, 6), max_size=6),
)
def test_pages_are_slices_whatever_is_asked_first(
    count: int, breaks: frozenset[int], asked: list[int]
) -> None:
    entries = [f"{n:04}" for n in range(count)]
    walks, step = ListingCache(), step_of(entries, breaks)
    for number in asked:
        found = walks.page("key", step, number)
        assert list(found.entries) == entries[number * PAGE : (number + 1) * PAGE]
        assert bool(found.next) is (count > (number + 1) * PAGE)
    assert walks.count("key", step) == count


def test_a_page_after_another_costs_one_page() -> None:
    entries = [f"{n:04}" for n in range(1000)]
    inner, steps = step_of(entries, frozenset()), []

    def step(after: str, limit: int) -> Page[str]:
        steps.append(after)
        page: Page[str] = inner(after, limit)
        return page

    walks = ListingCache()
    for number in range(10):
        steps.clear()
        walks.page("key", step, number)
        assert len(steps) <= 2


def test_no_more_walks_are_remembered_than_allowed() -> None:
    walks = ListingCache(most=3)
    for key in range(10):
        walks.page(key, step_of(["a"], frozenset()), 0)
    assert len(walks._marks) == 3


def test_long_walks_wait_in_a_bounded_line_and_never_on_the_event_loop() -> None:
    pages = Pages(World().pages().behind)

    async def crowd() -> list[int]:
        asked = [pages.reply("GET", "/v1/names?page=0") for _ in range(MAX_WALKS + 5)]
        replies = await asyncio.gather(*asked)
        assert pages._walking == 0
        await pages.close()
        return [reply.status for reply in replies]

    statuses = asyncio.run(crowd())
    assert statuses.count(200) == MAX_WALKS
    assert statuses.count(Refusal.BUSY.status) == 5


def test_what_was_learned_of_one_block_is_not_said_of_the_next(door: Door) -> None:
    ledger = opened(SHORT_GRACE)
    fresh = Door(ledger)
    assert fresh.ask("/v1/names?page=0").body == []
    assert fresh.ask("/v1/names?expiring=9").body == []
    ledger.register("alice.id")
    assert fresh.ask("/v1/names?page=0").body == ["alice.id"]
    assert json.loads(json.dumps(fresh.ask("/v1/names?expiring=9").body))[0]["name"] == "alice.id"
