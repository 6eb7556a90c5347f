"""Whether a reply of the HTTP API is what its own document promises."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from resolver.api.openapi import write_document
from resolver.api.route_table import ROUTES
from resolver.api.routes import Route


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The document, as a client reads it."""
    read: dict[str, Any] = json.loads(json.dumps(write_document(ROUTES.all)))
    return read


def operation(route: Route) -> dict[str, Any]:
    """What the document says of a route."""
    found: dict[str, Any] = document()["paths"][route.paths[0]][route.method.lower()]
    return found


@lru_cache(maxsize=512)
def _validator(path: str, method: str, status: int) -> Draft202012Validator | None:
    response = document()["paths"][path][method.lower()]["responses"][str(status)]
    content = response.get("content")
    if content is None:
        return None
    (described,) = content.values()
    whole = {**described["schema"], "components": document()["components"]}
    return Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)


def check_reply(method: str, path: str, status: int, content_type: str, body: Any) -> None:
    """Raises ``AssertionError`` where the reply to this request is not as promised.

    ``body`` is the JSON, or the text of another type; None where there is no body.
    """
    found = ROUTES.find(path.partition("?")[0]).get("GET" if method == "HEAD" else method)
    if found is None:
        assert status in (200, 400, 403, 404, 405, 413), (method, path, status)
        return
    route = found[0]
    responses: Mapping[str, Any] = operation(route)["responses"]
    assert str(status) in responses, f"{method} {path} is not promised to answer {status}: {body}"
    validator = _validator(route.paths[0], route.method, status)
    if validator is None:
        assert body is None
        return
    assert content_type.partition(";")[0] in responses[str(status)]["content"]
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]
    assert not errors, f"{method} {path} answered {status} with {body}: {errors}"
