"""The table of routes as an OpenAPI 3.1 document.

What must stay true: every path and method of the table is in it with all that it may answer, and
nothing else is; it is JSON, and the same table always gives the same document.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from resolver.api.parameters import Parameter
from resolver.api.request import JSON
from resolver.api.routes import Route
from resolver.api.schemas import SCHEMAS, named
from resolver.refusals import Refusal
from resolver.words import VERSION

EVERYWHERE = (Refusal.BAD_REQUEST, Refusal.FORBIDDEN, Refusal.INDEX_BEHIND, Refusal.BROKEN)
"""What any page may answer: a query it does not know, another host's name, a bug of ours."""

_HEADERS: Mapping[str, Any] = {
    "ETag": {
        "description": "Names this answer; sent back as If-None-Match it is answered with 304.",
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'Where the next page is, with rel="next" (RFC 8288).',
        "schema": {"type": "string"},
    },
    "Blockstore-Height": {
        "description": "The last block that the answer knows of.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "Blockstore-Stale": {
        "description": "Why the index may be behind the chain; only there when it may.",
        "schema": {"type": "string"},
    },
}


def write_document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of these routes, ready for JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for number, path in enumerate(route.paths, start=1):
            suffix = "" if number == 1 else f"_{number}"
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, suffix)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Blockstore",
            "version": VERSION,
            "summary": "A key-value store on Bitcoin: names, their owners and their data.",
            "description": "Pages of other origins may read and never write. Every page that is"
            " asked with GET may be asked with HEAD too, and every path with OPTIONS.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "What stands in the file of the setting `api_token_file`; taken"
                    " from the same machine only, and only with `api_pay_over_tcp`. Over the"
                    " daemon's socket none is needed.",
                }
            },
        },
    }


def _operation(route: Route, suffix: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation + suffix,
        "summary": route.about,
        "responses": _responses(route),
    }
    parameters = [_parameter(one, "path") for one in route.parameters]
    parameters += [_parameter(one, "query") for one in route.query]
    if parameters:
        operation["parameters"] = parameters
    if route.secret:
        operation["security"] = [{"token": []}]
    if route.body is not None:
        operation["requestBody"] = {
            "description": route.body.about,
            "required": True,
            "content": {route.body.content_type: {"schema": route.body.schema}},
        }
    return operation


def _parameter(parameter: Parameter, where: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": where,
        "description": parameter.about,
        "required": where == "path",
        "schema": parameter.schema,
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _responses(route: Route) -> dict[str, Any]:
    headers = {
        name: header
        for name, header in _HEADERS.items()
        if route.method == "GET" and (route.of_block or name in ("ETag", "Blockstore-Stale"))
    }
    answered: dict[str, Any] = {
        "description": "The answer.",
        "content": {route.content_type: {"schema": route.reply}},
    }
    if headers:
        answered["headers"] = headers
    responses: dict[str, Any] = {"200": answered}
    if route.method == "GET":
        responses["304"] = {"description": "What If-None-Match names is still the answer."}
    for status, schema in route.also.items():
        responses[str(status)] = {"description": "As asked for."}
        if schema:
            responses[str(status)]["content"] = {JSON: {"schema": schema}}
    reasons: dict[int, list[Refusal]] = {}
    for refusal in dict.fromkeys((*_of_parameters(route), *route.refusals, *EVERYWHERE)):
        reasons.setdefault(refusal.status, []).append(refusal)
    for status, refusals in sorted(reasons.items()):
        told = "; ".join(f"`{one.name.lower()}`: {one.meaning}" for one in refusals)
        content = {JSON: {"schema": named("Error")}}
        responses[str(status)] = {"description": told, "content": content}
    return responses


def _of_parameters(route: Route) -> Iterator[Refusal]:
    """What follows from what it takes, and how."""
    if {"name", "namespace"} & {one.name for one in route.parameters}:
        yield Refusal.BAD_NAME
    if route.long:
        yield Refusal.BUSY
