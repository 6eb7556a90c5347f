"""What a route of the HTTP API is, and how a request finds its own: paths, parameters, replies.

What must stay true: a path leads to one route at most; every parameter is read and checked before
anybody answers, and one that the route does not know is refused, so that a misspelt one is not
taken for none. A route is declared above the function that answers it, and what is declared there
stands nowhere else: requests are led by it, the OpenAPI document is written from it, and the
README's table is checked against it.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from resolver.api.chain_names import Zones
from resolver.api.parameters import IN_PATHS, Parameter, Schema, read_query, read_value
from resolver.api.request import JSON, Asked, Told
from resolver.refusals import Refusal, Refused

Answer = TypeVar("Answer", bound=Callable[[Asked], Told | Awaitable[Told]])


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries. It is checked by whoever answers."""

    about: str
    schema: Schema
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of question and all that is promised of its answer.

    ``paths`` are templates, the preferred one first; what stands there between braces is in
    ``IN_PATHS``. ``answer`` may be a coroutine; ``long`` ones, which are not, walk far through the
    table and are run beside the event loop, one after the other. The first paragraph of its
    docstring is for the readers of the document.
    """

    method: str
    paths: tuple[str, ...]
    answer: Callable[[Asked], Told | Awaitable[Told]]
    reply: Schema
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

    @property
    def about(self) -> str:
        """What it answers, in a sentence."""
        return " ".join((self.answer.__doc__ or "").partition("\n\n")[0].split())

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those in its path. Raises ``KeyError`` where there is no such one."""
        return tuple(IN_PATHS[name] for name in _IN_BRACES.findall(self.paths[0]))


_IN_BRACES = re.compile(r"{(\w+)}")


class RouteTable:
    """The routes of one subject, in order. ``common`` is what they have in common."""

    def __init__(self, **common: Any) -> None:
        self.all: list[Route] = []
        self._common = common

    def get(self, *paths: str, reply: Schema, **more: Any) -> Callable[[Answer], Answer]:
        """Declares the function below as what answers GET; ``more`` are members of ``Route``."""
        return self._declared("GET", paths, reply, more)

    def post(self, *paths: str, reply: Schema, **more: Any) -> Callable[[Answer], Answer]:
        """The same of POST."""
        return self._declared("POST", paths, reply, more)

    def _declared(
        self, method: str, paths: tuple[str, ...], reply: Schema, more: dict[str, Any]
    ) -> Callable[[Answer], Answer]:
        def declared(answer: Answer) -> Answer:
            self.all.append(Route(method, paths, answer, reply, **{**self._common, **more}))
            return answer

        return declared


class Routes:
    """Every route, found by its path. Raises ``ValueError`` where two have one path, and
    ``KeyError`` where nobody knows how to read a parameter of it."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.all = tuple(routes)
        found: dict[str, dict[str, Route]] = {}
        for route in routes:
            for path in route.paths:
                pattern = "([^/]*)".join(map(re.escape, re.split(_IN_BRACES.pattern, path)[::2]))
                if route.method in found.setdefault(pattern, {}):
                    raise ValueError(f"{route.method} {path} is there twice")
                assert len(route.parameters) == re.compile(pattern).groups
                found[pattern][route.method] = route
        # A fixed part of a path goes before a parameter, as letters sort behind brackets.
        last_first = sorted(found, reverse=True)
        self._by_pattern = [(re.compile(pattern), found[pattern]) for pattern in last_first]

    def find(self, path: str) -> Mapping[str, tuple[Route, dict[str, str]]]:
        """The routes of a percent-encoded path by their methods, with the text of each parameter.

        A fixed part goes before a parameter; nothing is decoded yet.
        """
        for pattern, by_method in self._by_pattern:
            if matched := pattern.fullmatch(path):
                return {
                    method: (route, dict(zip(_names(route), matched.groups(), strict=True)))
                    for method, route in by_method.items()
                }
        return {}


def _names(route: Route) -> list[str]:
    return _IN_BRACES.findall(route.paths[0])


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
                f"its parameters: {takes}; /v1/openapi.json says what each is",
            )
    for one in route.query:
        text = given.get(one.name)
        values[one.name] = one.default if text is None else read_value(one, text, zones)
    return values


def _decoded(text: str) -> str:
    """Bytes that are no UTF-8 become code points that no parameter takes."""
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")
