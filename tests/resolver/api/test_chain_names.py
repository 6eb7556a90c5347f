"""What people type for a name, and what is meant: by one function, in every call alike."""

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.api.chain_names import chain_name, namespace_id
from resolver.api.pages import Pages
from resolver.api.route_table import ROUTES
from resolver.api.rpc_methods import METHODS
from resolver.refusals import Refusal, Refused
from tests.resolver.api.fakes import ZONES
from tests.resolver.api.test_chain import pages_of, story
from tests.resolver.api.test_registrar import Desk

TYPED = (
    "alice",
    "alice.id",
    "Alice.ID",
    "alice.bs",
    "ALICE.BS.",
    "alice.id.",
    "Alice.names.example",
)
SERVED = {**ZONES, "names.example": "id"}
LEDGER = story()


@pytest.mark.parametrize(
    ("text", "name"), [("alice", "alice.id"), ("alice.id", "alice.id"), ("a.podcast", "a.podcast")]
)
def test_a_bare_label_is_in_the_namespace_id(text, name):
    assert chain_name(text, ZONES) == name


@pytest.mark.parametrize("text", ["", ".", ".id", "a.b.c", "ä", "a b", "x" * 38])
def test_text_that_is_no_name_is_refused_with_a_reason(text):
    with pytest.raises(Refused) as caught:
        chain_name(text, ZONES)
    assert caught.value.refusal is Refusal.BAD_NAME
    assert caught.value.sentence


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("webhost", "webhost.id"),
        ("webhost.id", "webhost.id"),
        ("webhost.bs", "webhost.id"),
        ("WebHost.BS.", "webhost.id"),
        ("WebHost.ID.", "webhost.id"),
        ("WebHost", "webhost.id"),
        ("WebHost.id", "webhost.id"),
        ("webhost.podcast.", "webhost.podcast"),
        ("episode.podcast.example.net", "episode.podcast"),
    ],
)
def test_a_name_is_taken_as_the_chain_has_it_and_as_dns_has_it(typed, meant):
    assert chain_name(typed, ZONES) == meant


def test_a_suffix_that_is_no_zone_stays_a_namespace():
    assert chain_name("webhost.bs", {}) == "webhost.bs"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("www.webhost.bs", "a label inside webhost.id"),
        ("www.webhost.id.", "a label inside webhost.id"),
        ("bücher", "xn--bcher-kva.id"),
        ("bücher.bs", "xn--bcher-kva.id"),
        ("faß.bs", "xn--fa-hia.id"),  # not fass.id, which is another name
        ("straße", "xn--strae-oqa.id"),
        ("\u212aey.id", "write key.id"),  # the sign of kelvin, whose lower case is k
        ("", "nothing before its dot"),
        (".", "nothing before its dot"),
        (".bs", "nothing before its dot"),
        ("a..bs", "more than one dot"),
        ("\udcff.bs", "may hold only"),
    ],
)
def test_what_is_no_name_is_told_what_it_would_be(typed, says):
    with pytest.raises(Refused) as raised:
        chain_name(typed, ZONES)
    assert raised.value.refusal is Refusal.BAD_NAME
    assert says in f"{raised.value.sentence} {raised.value.hint}"


@given(st.text(max_size=60))
def test_any_text_is_a_chain_name_or_refused(typed):
    with contextlib.suppress(Refused):
        name = chain_name(typed, ZONES)
        assert chain_name(name, {}) == name


def ask(method: str, path: str, body: Any = None, desk: Any = None) -> Any:
    pages = Pages(replace(pages_of(LEDGER).behind, zones=SERVED, registrar=desk))
    content = b"" if body is None else json.dumps(body).encode()
    return asyncio.run(pages.reply(method, path, content, may_pay=True))


OF_A_NAME = [
    path
    for route in ROUTES.all
    for path in route.paths
    if "{name}" in path and "{hash}" not in path
]


@pytest.mark.parametrize("path", OF_A_NAME)
def test_every_path_takes_a_name_however_it_is_typed(path: str) -> None:
    pages = [ask("GET", path.format(name=typed)) for typed in TYPED]
    assert pages[0].status in (200, 504)
    assert all((page.status, page.body) == (pages[0].status, pages[0].body) for page in pages)


NAMING = [
    name for name, one in METHODS.by_name.items() if any(a.name == "name" for a in one.arguments)
]


@pytest.mark.parametrize("method", NAMING)
def test_every_method_takes_a_name_however_it_is_typed(method: str) -> None:
    others = {"start_block": 0, "end_block": 999, "block_id": 110, "zonefile_hash": "0" * 40}
    known = {one.name for one in METHODS.by_name[method].arguments}
    told = [
        ask("POST", "/rpc", {"id": 1, "method": method, "params": {"name": typed, **given}}).body
        for typed in TYPED
        for given in [{key: value for key, value in others.items() if key in known}]
    ]
    assert told[0]["error"] is None
    assert told == [told[0]] * len(TYPED)


@pytest.mark.parametrize("path", ["/v1/registrar/plan", "/v1/registrar/jobs"])
def test_every_order_takes_a_name_however_it_is_typed(path: str) -> None:
    for typed in TYPED:
        desk = Desk()
        wish = {"wish": "renew", "name": typed}
        ask("POST", path, {"wish": wish} | ({"max_total": 5} if "jobs" in path else {}), desk)
        assert desk.told[0][1].wish == {"wish": "renew", "name": "alice.id"}


def test_a_namespace_is_meant_in_any_case() -> None:
    assert namespace_id("PodCast") == namespace_id("podcast.") == "podcast"
    assert ask("GET", "/v1/namespaces/ID/names").body == ["alice.id"]
    desk = Desk()
    ask(
        "POST",
        "/v1/registrar/plan",
        {"wish": {"wish": "namespace-ready", "namespace_id": "NEW"}},
        desk,
    )
    assert desk.told[0][1].wish["namespace_id"] == "new"
    with pytest.raises(Refused) as refused:
        namespace_id("i.d")
    assert refused.value.refusal is Refusal.BAD_NAME


def test_the_node_says_which_suffixes_it_serves() -> None:
    assert ask("GET", "/v1/info").body["zones"] == SERVED
