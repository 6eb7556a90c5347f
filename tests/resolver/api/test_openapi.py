"""The OpenAPI document: it says what is served, the whole of it, and nothing else."""

import asyncio
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from resolver.api.parameters import Parameter, read_value
from resolver.api.request import Asked, Told
from resolver.api.route_table import ROUTES
from resolver.api.routes import Route, Routes, read_arguments
from resolver.refusals import Refusal, Refused
from tests.conftest import ROOT
from tests.resolver.api.fakes import ZONES, World
from tests.resolver.api.openapi_check import document

OPERATIONS = [
    (path, method, told)
    for path, methods in document()["paths"].items()
    for method, told in methods.items()
]


def references(node: Any) -> list[str]:
    """Every ``$ref`` in a document."""
    if isinstance(node, dict):
        found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return found + [ref for value in node.values() for ref in references(value)]
    return [ref for item in node for ref in references(item)] if isinstance(node, list) else []


def test_every_route_is_in_the_document_and_nothing_else_is() -> None:
    served = {(path, route.method.lower()) for route in ROUTES.all for path in route.paths}
    assert {(path, method) for path, method, _ in OPERATIONS} == served


def test_the_document_is_served_as_it_is() -> None:
    page = asyncio.run(World().pages().reply("GET", "/v1/openapi.json"))
    assert json.loads(json.dumps(page.body)) == document()
    assert page.body["openapi"] == "3.1.0"


def test_operations_have_names_of_their_own() -> None:
    names = [told["operationId"] for _, _, told in OPERATIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("path", "method", "told"), OPERATIONS, ids=lambda v: str(v)[:40])
def test_an_operation_is_described_whole(path: str, method: str, told: Any) -> None:
    named = set(re.findall(r"{(\w+)}", path))
    parameters = told.get("parameters", [])
    assert {one["name"] for one in parameters if one["in"] == "path"} == named
    assert all(one["required"] for one in parameters if one["in"] == "path")
    assert ("requestBody" in told) is (method == "post")
    assert {"200", "400", "403", "500"} <= told["responses"].keys()
    assert told["summary"].endswith(".")


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    whole = document()
    schemas = list(whole["components"]["schemas"].values())
    for _, _, told in OPERATIONS:
        schemas += [one["schema"] for one in told.get("parameters", [])]
        for response in told["responses"].values():
            schemas += [kind["schema"] for kind in response.get("content", {}).values()]
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
    for reference in references(whole):
        *_, name = reference.split("/")
        assert name in whole["components"]["schemas"]


def examples(parameter: Parameter) -> list[str]:
    """Texts that the schema of a parameter allows, and some that it does not."""
    schema = parameter.schema
    texts = ["", "0", "1", "-1", "007", "1.5", "x", "a.id", "A.id", "a" * 40, "true", "é", "7-7"]
    texts += ["ab" * 10, "AB" * 10, "ab" * 16, "ab" * 20, "ab" * 32, "1" * 26, "0" * 26]
    texts += [f"did:stack:v0:{'1' * 26}-{n}" for n in ("0", "12", "012")]
    for member in ("minimum", "maximum"):
        if member in schema:
            texts += [str(schema[member] + n) for n in (-1, 0, 1)]
    return texts


def as_json(parameter: Parameter, text: str) -> Any:
    kind = parameter.schema["type"]
    if kind == "integer":
        return int(text) if re.fullmatch("[0-9]{1,10}", text, re.ASCII) else text
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text


EVERY = {id(one): one for route in ROUTES.all for one in (*route.parameters, *route.query)}


@pytest.mark.parametrize("parameter", EVERY.values(), ids=lambda one: f"{one.name}-{one.about}")
def test_a_parameter_takes_what_its_schema_describes(parameter: Parameter) -> None:
    allowed = Draft202012Validator(dict(parameter.schema))
    taken = 0
    for text in examples(parameter):
        try:
            read_value(parameter, text, ZONES)
        except Exception:  # noqa: BLE001 - any refusal will do
            assert not allowed.is_valid(as_json(parameter, text)), (parameter.name, text)
        else:
            taken += 1
    assert taken


def test_a_default_is_what_leaving_the_parameter_out_means() -> None:
    for one in EVERY.values():
        if "default" in one.schema:
            assert one.schema["default"] == one.default


def placed(path: str) -> str:
    """A path as the README writes it."""
    return re.sub(r"{(\w+)}", lambda found: found[1].upper(), path)


def test_the_readme_has_every_path() -> None:
    text = (ROOT / "resolver" / "api" / "README.md").read_text("utf-8")
    text = text.replace("`CHAIN/", "`/v1/blockchains/bitcoin/").replace(
        "GET CHAIN/", "GET /v1/blockchains/bitcoin/"
    )
    missing = [
        path
        for route in ROUTES.all
        for path in map(placed, route.paths)
        if not re.search(rf"{re.escape(path)}[`? ]", text)
    ]
    assert not missing


# --- how a path finds its route


def nothing(_asked: Asked) -> Told:
    """Nothing."""
    return Told({})


def route(*paths: str) -> Route:
    return Route("GET", paths, nothing, {})


def test_two_routes_on_one_path_are_a_mistake_that_is_found_at_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Routes([route("/a"), route("/a")])
    with pytest.raises(ValueError, match="twice"):
        Routes([route("/a/{name}"), route("/a/{hash}")])
    with pytest.raises(KeyError, match="unheard_of"):
        Routes([route("/{unheard_of}")])


def test_a_fixed_part_of_a_path_goes_before_a_parameter() -> None:
    routes = Routes([route("/a/{name}"), route("/a/b")])
    assert routes.find("/a/b")["GET"][1] == {}
    assert routes.find("/a/c%2F")["GET"][1] == {"name": "c%2F"}
    for path in ("/a", "/a/b/c", "a/b", "", "/"):
        assert not routes.find(path)


@pytest.mark.parametrize(
    "query", ["x=1", "page=1&page=2", "a" * 2000, "page=%ff", "&".join(f"p{n}=1" for n in range(9))]
)
def test_a_query_that_is_not_understood_is_refused(query: str) -> None:
    (route, texts) = ROUTES.find("/v1/names")["GET"]
    with pytest.raises(Refused) as refused:
        read_arguments(route, texts, query, ZONES)
    assert refused.value.refusal is Refusal.BAD_REQUEST
