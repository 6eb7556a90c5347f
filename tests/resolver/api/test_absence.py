"""What is said while the index does not know the present: by no call that there is nothing."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from resolver.api.pages import Page, Pages
from resolver.api.route_table import ROUTES
from resolver.api.routes import Route
from resolver.api.rpc_methods import METHODS
from resolver.dns.chase import Freshness
from tests.resolver.api.fakes import World
from tests.resolver.api.test_names import Door, story

ANSWERED = {
    *("ping", "info", "openapi", "rpc"),  # the node itself; the methods are looked at one by one
    *("operations", "consensus_at"),  # of a block that is indexed, and index_behind beyond it
    *("jobs", "job", "resume", "consent", "abandon", "hand_in"),  # what was begun goes on
    "fresh_address",
}
"""Routes that say nothing of what is there: a new one is added here on purpose or not at all."""
METHODS_ANSWERED = {
    *("ping", "getinfo"),
    *("get_nameops_at", "get_nameops_hash_at"),
    *("get_num_blockstack_ops_at", "get_blockstack_ops_at", "get_blockstack_ops_hash_at"),
}

LEDGER = story()
BEHIND = {
    "while it catches up": Freshness(False, 3, 1000, 0.0),
    "before it has met its node": Freshness(False, 0, 0, 0.0),
    "after a day of silence": Freshness(True, 1000, 1000, 86_400.0),
}
VALUES: dict[str, Any] = {
    "name": "nobody.id",
    "namespace": "nothing",
    "address": "mxzdcdKBCT5sDhacGSBybbgBXXZg2jSg1Z",
    "hash": "0" * 40,
    "consensus_hash": "0" * 32,
    "txid": "0" * 64,
    "height": LEDGER.height,
    "did": "did:stack:v0:mxzdcdKBCT5sDhacGSBybbgBXXZg2jSg1Z-0",
    "job": "abc123",
}
ABSENT = ("index_behind", "not_registered", "not_on_chain")
PATHS = [(route, path) for route in ROUTES.all for path in route.paths]


def pages(freshness: Freshness) -> Pages:
    """Over an index that has the beginning of a chain, and knows as much of the rest."""
    behind = Door(LEDGER).pages.behind
    return Pages(replace(behind, freshness=lambda: freshness))


def ask(route: Route, path: str, freshness: Freshness) -> Page:
    body = b'{"zonefile": "x", "wish": {"wish": "renew", "name": "a.id"}, "max_total": 5}'
    answer = pages(freshness).reply(route.method, path.format(**VALUES), body, may_pay=True)
    return asyncio.run(answer)


@pytest.mark.parametrize("freshness", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize(("route", "path"), PATHS, ids=[f"{r.method} {p}" for r, p in PATHS])
def test_no_route_speaks_of_absence(route: Route, path: str, freshness: Freshness) -> None:
    page = ask(route, path, freshness)
    if route.operation in ANSWERED:
        assert not isinstance(page.body, dict) or page.body.get("code") not in ABSENT
    else:
        assert (page.status, page.body["code"]) == (503, "index_behind")
        assert int(page.headers["Retry-After"]) > 0
        assert "status" not in page.body


@pytest.mark.parametrize("freshness", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("method", METHODS.by_name)
def test_no_method_speaks_of_absence(method: str, freshness: Freshness) -> None:
    given = {}
    for one in METHODS.by_name[method].arguments:
        value = VALUES.get(one.parameter.name, 0)
        given[one.name] = [value] if one.most else value
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
    page = asyncio.run(pages(freshness).reply("POST", "/rpc", json.dumps(call).encode()))
    result = page.body["result"]
    code = result.get("code") if isinstance(result, dict) else None
    assert code == (None if method in METHODS_ANSWERED else "index_behind")


def test_the_first_releases_word_for_it_is_kept() -> None:
    call = b'{"id": 1, "method": "get_name_blockchain_record", "params": ["nobody.id"]}'
    page = asyncio.run(pages(BEHIND["while it catches up"]).reply("POST", "/rpc", call))
    assert page.body["result"]["error"] == "Indexing blockchain"


def test_what_is_refused_for_now_says_when_to_try_again() -> None:
    world = World()
    world.freshness = BEHIND["while it catches up"]
    page = asyncio.run(world.pages().reply("GET", "/v1/names/nobody.id/history"))
    assert page.headers["Retry-After"]
