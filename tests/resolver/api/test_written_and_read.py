"""What the API writes, its own readers take back: links, tags, identifiers, tokens, signers."""

from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitcoin.transactions import script_address
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.table.snapshot import Creation
from resolver.api import parameters as p
from resolver.api.listing_cache import ListingCache
from resolver.api.payer import Signers, Signing, offline_name
from resolver.api.request import Asked, names_tag, tag_header
from resolver.api.route_table import ROUTES
from resolver.api.routes import Route, read_arguments
from resolver.api.shapes import did_text
from resolver.api.token import Token
from tests.resolver.api.fakes import ZONES, World

NODE = BitcoinNode("http://127.0.0.1:1")  # nobody asks it
hashes = st.binary(min_size=20, max_size=20)
legacy = st.builds(lambda digest: b"\x76\xa9\x14" + digest + b"\x88\xac", hashes) | st.builds(
    lambda digest: b"\xa9\x14" + digest + b"\x87", hashes
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "after": st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64),
    "all": st.booleans(),
    "expiring": st.integers(1, 36_500) | st.sampled_from([0.01, 0.5, 1.25, 12345.123456789]),
    "address": st.builds(lambda script: script_address(script, SANDBOX), legacy),
    "namespace": st.from_regex("[a-z0-9_-]{1,19}", fullmatch=True),
}
PAGED = [route for route in ROUTES.all if {"page", "after"} & {one.name for one in route.query}]


def asked(route: Route, arguments: dict[str, Any]) -> Asked:
    """A request of this route with these parameters in its query."""
    query = tuple(one.name for one in route.query)
    given = {one.name: one.default for one in route.query} | arguments
    behind = World().pages().behind
    return Asked(behind, World().names, ListingCache(), "/path", given, query)


@given(st.data())
@pytest.mark.parametrize("route", PAGED, ids=lambda route: route.operation)
def test_the_link_to_the_next_page_is_read_as_it_was_meant(route: Route, data: Any) -> None:
    names = [one.name for one in route.query if one.name in VALUES and one.name != "after"]
    arguments = {name: data.draw(VALUES[name]) for name in names if data.draw(st.booleans())}
    place = "12-7" if p.PLACE in route.query else data.draw(VALUES["after"])
    number = data.draw(st.integers(0, 999)) if "page" in {q.name for q in route.query} else None
    if number is not None:
        arguments["page"] = number
    request = asked(route, arguments)
    link = request.page_after(place)
    path, _, query = link.partition("?")
    texts = {one.name: "" for one in route.parameters}
    read = read_arguments(_of_query(route), texts, query, ZONES)
    turned = {"after": place} if number is None else {"page": number + 1}
    wanted = {one.name: one.default for one in route.query} | arguments | turned
    assert (path, read) == ("/path", wanted)


def _of_query(route: Route) -> Route:
    """The same without parameters in its path, which a link leaves as they are."""
    return Route("GET", ("/path",), route.answer, {}, route.query)


@given(st.lists(legacy, max_size=16), st.lists(st.binary(min_size=1, max_size=80), max_size=16))
def test_who_signs_elsewhere_is_known_again_by_name(
    scripts: list[bytes], redeem_scripts: list[bytes]
) -> None:
    signers = Signers(Signing("nobody"), NODE, SANDBOX, lambda script: False)
    known = cast(Any, signers[offline_name(scripts, redeem_scripts, SANDBOX)])
    assert set(scripts) <= set(known.scripts)


@given(legacy, st.integers(0, 9_999_999_999))
def test_an_identifier_is_read_as_it_was_written(script: bytes, number: int) -> None:
    did = did_text(Creation(script, number, 1, 0, "alice.id"), SANDBOX)
    assert did is not None
    assert p.DID.read(did) == (script_address(script, SANDBOX), number)


@given(st.from_regex("[0-9a-f-]{1,60}", fullmatch=True))
def test_a_tag_is_known_again(tag: str) -> None:
    assert names_tag(tag_header(tag), tag)


def test_a_token_that_was_made_is_taken(tmp_path: Path) -> None:
    made = Token.on_file(tmp_path / "token")
    text = (tmp_path / "token").read_text().strip()
    assert made.lets_in(f"Bearer {text}")
    assert Token.on_file(tmp_path / "token").lets_in(f"Bearer {text}")
