"""What a page of the HTTP API is made from and what it gives: values, and the doors to the rest.

What must stay true: one request reads one snapshot, so that what it says fits together; whoever
answers raises ``Refused`` where there is no answer, and nothing else on purpose.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from indexer.bitcoin.transactions import address_script
from indexer.table.pages import PAGE
from indexer.table.snapshot import Snapshot
from resolver.api.chain_names import Zones
from resolver.api.listing_cache import ListingCache
from resolver.api.lookup import Fetch, require_fresh
from resolver.dns.chase import Freshness, StalenessLimits
from resolver.refusals import Refusal, Refused

Json = dict[str, Any]
T = TypeVar("T")

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind the pages.

    ``keep`` has data on disk under its hash when it is done, and raises Refused where it cannot;
    ``publish`` returns to how many nodes of the network the data went. Times are in seconds.
    """

    snapshot: Callable[[], Snapshot]
    freshness: Callable[[], Freshness]
    fetch: Fetch
    keep: Callable[[bytes, bytes], Awaitable[object]]
    publish: Callable[[bytes, bytes], Awaitable[int]]
    figures: Callable[[], Json]
    query_timeout: float = 3.0
    staleness: StalenessLimits = field(default_factory=StalenessLimits)
    zones: Zones = field(default_factory=dict)
    registrar: Any = None
    """Takes orders (``registrar.Registrar``); None: nothing is registered here."""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: JSON, or text of another type. ``next`` is the path of the page that follows, and
    ``tag`` names this very answer, "" where it has no name."""

    body: Any
    next: str = ""
    tag: str = ""
    content_type: str = JSON
    status: int = 200


class Unchanged(Exception):
    """Who asks has the answer already, under this tag."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        super().__init__(tag)


Aside = Callable[[Callable[[], Any]], Awaitable[Any]]


async def at_once(walk: Callable[[], Any]) -> Any:
    """Where nobody else waits."""
    return walk()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what was asked, with its parameters read, and what it is answered from."""

    behind: Behind
    seen: Snapshot
    listings: ListingCache
    path: str
    """Percent-encoded, without the query."""
    arguments: Mapping[str, Any]
    """What stood in the path and the query, by the parameter's name."""
    query: tuple[str, ...] = ()
    """Which of them belong to the query."""
    body: bytes = b""
    known: str = ""
    """The header If-None-Match."""
    aside: Aside = at_once
    """Runs what walks far through the table beside the event loop. Raises ``Refused``."""
    of_other_origin: bool = False
    """Whether a page in a browser asks that came from elsewhere."""

    def __getitem__(self, parameter: str) -> Any:
        return self.arguments[parameter]

    @property
    def block_tag(self) -> str:
        """Names whatever follows from the name table alone."""
        return f"{self.seen.height}-{self.seen.block_hash[:8].hex()}"

    def page_after(self, place: str) -> str:
        """The path of the next page, which begins behind ``place``: by its number where this one
        was asked for by its number. "": there is none, as ``place`` is empty."""
        number = self.arguments.get("page")
        if not place:
            return ""
        return self._path(after=place) if number is None else self.page_numbered(number + 1)

    def page_of(self, entries: Sequence[T]) -> tuple[Sequence[T], str]:
        """The page of a whole list that is asked for by its number, and the path of the next."""
        number = self.arguments.get("page") or 0
        end = (number + 1) * PAGE
        further = self.page_numbered(number + 1) if len(entries) > end else ""
        return entries[number * PAGE : end], further

    def page_numbered(self, number: int) -> str:
        """The path of this page under another number."""
        return self._path(page=number)

    def _path(self, **changed: object) -> str:
        """The path of this request with other parameters."""
        given = {**self.arguments, "page": None, "after": "", **changed}
        query = {
            name: "true" if value is True else str(value)
            for name, value in given.items()
            if name in self.query and value not in (None, False, "")
        }
        return f"{self.path}?{urlencode(query, quote_via=quote)}"

    def unless_known(self, tag: str) -> str:
        """``tag`` itself. Raises ``Unchanged`` where whoever asks has what it names."""
        if names_tag(self.known, tag):
            raise Unchanged(tag)
        return tag

    def require_fresh(self) -> None:
        """Raises ``Refused`` where the index cannot speak of the present."""
        require_fresh(self.behind.freshness(), self.behind.staleness.refuse_after)


def tag_header(tag: str) -> str:
    """The ETag of an answer: weak, as its bytes may differ where it says the same."""
    return f'W/"{tag}"'


def names_tag(header: str, tag: str) -> bool:
    """Whether the header If-None-Match lists ``tag`` (RFC 9110 sections 8.8.3.2 and 13.1.2).

    Our tags hold neither commas nor quotes. ``*`` is for whoever has the answer at hand to judge.
    """
    wanted = f'"{tag}"'
    listed = (one.strip() for one in header.split(","))
    return any(one.removeprefix("W/") == wanted for one in listed)


def not_on_chain(sentence: str) -> Refused:
    """The index has nothing of this."""
    return Refused(Refusal.NOT_ON_CHAIN, sentence)


def owner_script(address: str, seen: Snapshot) -> bytes:
    """The scriptPubKey of an address of the network. Raises ``Refused``."""
    try:
        return address_script(address, seen.network)
    except ValueError as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from None
