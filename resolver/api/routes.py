"""What a route of the HTTP API is, and how a request finds its own: paths, parameters, replies.

What must stay true: a path leads to one route at most; every parameter is read and checked before
anybody answers, and one that the route does not know is refused, so that a misspelt one is not
taken for none. The tables of routes (``rest_table``) are read by the pages, by the OpenAPI document
and by the README's test: what is true of the API stands nowhere else.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from resolver.api.chain_names import Zones
from resolver.api.values import JSON, Asked, Told
from resolver.refusals import Refusal, Refused

MAX_QUERY = 1024
MAX_PARAMETERS = 8

Schema = Mapping[str, Any]
"""A JSON Schema, in the dialect of OpenAPI 3.1."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value in a path or a query. ``read`` takes its text and raises ``Refused``, or
    ``ValueError`` with a sentence; ``default`` is what a query without it means."""

    name: str
    about: str
    schema: Schema
    read: Callable[..., Any]
    default: Any = None
    example: str | None = None
    of_zones: bool = False
    """Whether ``read`` takes the zones too, for its text may be a name of DNS."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries. It is checked by whoever answers."""

    about: str
    schema: Schema
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of question and all that is promised of its answer.

    ``paths`` are templates whose parameters are in ``parameters``; the first one is the preferred
    one. ``answer`` may be a coroutine; ``long`` ones, which are not, walk far through the table
    and are run beside the event loop, one after the other.
    """

    method: str
    paths: tuple[str, ...]
    about: str
    answer: Callable[[Asked], Told | Awaitable[Told]]
    reply: Schema
    parameters: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    body: Body | None = None
    content_type: str = JSON
    long: bool = False
    of_block: bool = True
    """Whether the answer follows from the name table alone, and so holds until the next block."""
    of_present: bool = True
    """Whether it says what is there and what is not, and so is refused while the index is behind.
    Only what never speaks of absence is excepted."""
    of_name: bool = False
    """Whether it speaks of one name at present, and says so where the index is stale."""
    secret: bool = False
    """Whether only the daemon's own user is answered, or who has the token."""
    also: Mapping[int, Schema] = field(default_factory=dict)
    """Replies of other statuses than 200 that are no refusals, by their status."""

    @property
    def operation(self) -> str:
        """Its name in the OpenAPI document."""
        return self.answer.__name__


@dataclass(slots=True)
class _Branch:
    """What may follow a part of a path."""

    fixed: dict[str, "_Branch"] = field(default_factory=dict)
    any: "_Branch | None" = None
    routes: dict[str, tuple[Route, tuple[str, ...]]] = field(default_factory=dict)
    """By the method: the route that ends here, and the names of its parameters on the way."""


class Routes:
    """Every route, found by its path. Raises ``ValueError`` where two have one path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.all = tuple(routes)
        self._root = _Branch()
        for route in routes:
            for path in route.paths:
                self._add(route, path)

    def _add(self, route: Route, path: str) -> None:
        branch, names = self._root, []
        for part in path.removeprefix("/").split("/"):
            if part.startswith("{"):
                names.append(part.strip("{}"))
                branch.any = branch.any or _Branch()
                branch = branch.any
            else:
                branch = branch.fixed.setdefault(part, _Branch())
        known = {parameter.name for parameter in route.parameters}
        if set(names) != known or route.method in branch.routes:
            raise ValueError(f"{route.method} {path} is there twice, or has other parameters")
        branch.routes[route.method] = (route, tuple(names))

    def find(self, path: str) -> Mapping[str, tuple[Route, dict[str, str]]]:
        """The routes of a percent-encoded path by their methods, with the text of each parameter.

        A fixed part goes before a parameter; nothing is decoded yet.
        """
        branch: _Branch | None = self._root
        texts: list[str] = []
        for part in path.removeprefix("/").split("/") if path.startswith("/") else ("",):
            assert branch is not None
            if part in branch.fixed:
                branch = branch.fixed[part]
            else:
                branch = branch.any
                texts.append(part)
            if branch is None:
                return {}
        assert branch is not None
        return {
            method: (route, dict(zip(names, texts, strict=True)))
            for method, (route, names) in branch.routes.items()
        }


def read_arguments(
    route: Route, texts: Mapping[str, str], query: str, zones: Zones
) -> dict[str, Any]:
    """The values of every parameter of ``route``. Raises ``Refused``."""
    values = {
        one.name: read_value(one, _decoded(texts[one.name]), zones) for one in route.parameters
    }
    given = read_query(query)
    known = {one.name for one in route.query}
    for name in given:
        if name not in known:
            takes = ", ".join(sorted(known)) or "none"
            raise Refused(
                Refusal.BAD_REQUEST,
                f"this page has no parameter {name[:40]!r}",
                f"its parameters: {takes}; see /v1/openapi.json",
            )
    for one in route.query:
        text = given.get(one.name)
        values[one.name] = one.default if text is None else read_value(one, text, zones)
    return values


def read_query(text: str) -> dict[str, str]:
    """The parameters behind the ``?`` of a path, each once. Raises ``Refused``."""
    if len(text) > MAX_QUERY:
        raise Refused(Refusal.BAD_REQUEST, f"a query has at most {MAX_QUERY} characters")
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            max_num_fields=MAX_PARAMETERS,
            errors="strict",
        )
    except UnicodeDecodeError:
        raise Refused(Refusal.BAD_REQUEST, "the query is not even text") from None
    except ValueError:
        raise Refused(Refusal.BAD_REQUEST, "the query has too many parameters") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused(Refusal.BAD_REQUEST, "the query says something twice")
    return found


def _decoded(text: str) -> str:
    """Bytes that are no UTF-8 become code points that no parameter takes."""
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def read_value(parameter: Parameter, text: str, zones: Zones) -> Any:
    """The value that ``text`` gives a parameter. Raises ``Refused``."""
    try:
        return parameter.read(text, zones) if parameter.of_zones else parameter.read(text)
    except ValueError as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from None
