"""The listings and counts of the HTTP API: names, namespaces, owners, holders, names that end soon.

What must stay true: a listing is a plain JSON list of at most ``PAGE`` entries where protocol spec
section 7.5 has it so, and the header Link says where the next page is; one that is asked for by its
number is full but for the last; no answer holds the event loop for longer than a page takes.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from indexer.table.pages import PAGE, Page
from indexer.table.snapshot import Snapshot
from resolver.api import parameters as p
from resolver.api import schemas as s
from resolver.api.listing_cache import Ending, Step, ending, fill
from resolver.api.request import Asked, Told, not_on_chain, owner_script
from resolver.api.routes import RouteTable
from resolver.api.shapes import end_json, namespace_json
from resolver.refusals import Refusal, Refused

DAY = 86_400
MAX_OWNED = 10_000
"""Names of one address that are looked at for those that end soon."""

LISTINGS = RouteTable()
OF_A_NAMESPACE = RouteTable(refusals=(Refusal.NOT_ON_CHAIN,))


@LISTINGS.get(
    "/v1/names",
    reply=s.NAMES,
    query=(p.PAGE, p.AFTER, p.ALL, p.EXPIRING, p.OWNER, p.WITHIN),
    refusals=(Refusal.BAD_NAME,),
    long=True,
)
def names(asked: Asked) -> Told:
    """Names of all namespaces; with `expiring` those that end soon, the soonest first."""
    if asked["expiring"] is not None:
        return _ending_soon(asked)
    for parameter in ("address", "namespace"):
        if asked[parameter] is not None:
            raise Refused(
                Refusal.BAD_REQUEST,
                f"{parameter} goes with expiring",
                "names of an address: /v1/addresses/bitcoin/ADDRESS; of a namespace:"
                " /v1/namespaces/NAMESPACE/names",
            )
    found = _page(asked, ("names",), names_step(asked.seen, asked["all"]))
    return Told(list(found.entries), next=asked.page_after(found.next))


@LISTINGS.get(
    "/v1/namespaces", reply=s.listed(s.NAMESPACE, PAGE), query=(p.PAGE, p.AFTER), long=True
)
def namespaces(asked: Asked) -> Told:
    """Every namespace that was ever revealed."""
    found = _page(asked, ("namespaces",), asked.seen.namespaces)
    return Told(list(found.entries), next=asked.page_after(found.next))


@OF_A_NAMESPACE.get("/v1/namespaces/{namespace}", reply=s.named("NamespaceRecord"))
def namespace(asked: Asked) -> Told:
    """The record of a namespace."""
    seen, wanted = asked.seen, asked["namespace"]
    record = seen.namespace(wanted)
    if record is None:
        raise not_on_chain(f"there is no namespace {wanted}")
    return Told(namespace_json(record, seen.height, seen.network))


@OF_A_NAMESPACE.get(
    "/v1/namespaces/{namespace}/names",
    reply=s.listed(s.NAME, PAGE),
    query=(p.PAGE, p.AFTER, p.ALL),
    long=True,
)
def names_of_namespace(asked: Asked) -> Told:
    """The names in a namespace."""
    wanted = require_namespace(asked.seen, asked["namespace"])
    step = names_in_step(asked.seen, wanted, asked["all"])
    found = _page(asked, ("names", wanted), step)
    return Told(list(found.entries), next=asked.page_after(found.next))


@LISTINGS.get("/v1/blockchains/bitcoin/name_count", reply=s.NAMES_COUNT, query=(p.ALL,), long=True)
def name_count(asked: Asked) -> Told:
    """How many names are somebody's; with `all`, how many ever were."""
    seen = asked.seen
    if asked["all"]:
        return Told({"names_count": seen.name_count()})
    key = walk_key(asked, ("names",), False)
    return Told({"names_count": asked.listings.count(key, names_step(seen, False))})


@OF_A_NAMESPACE.get(
    "/v1/namespaces/{namespace}/name_count", reply=s.NAMES_COUNT, query=(p.ALL,), long=True
)
def namespace_name_count(asked: Asked) -> Told:
    """How many names of a namespace are somebody's.

    With ``all``, how many ever were.
    """
    wanted, every = require_namespace(asked.seen, asked["namespace"]), asked["all"]
    key = walk_key(asked, ("names", wanted), every)
    step = names_in_step(asked.seen, wanted, every)
    return Told({"names_count": asked.listings.count(key, step)})


@LISTINGS.get("/v1/addresses/bitcoin/{address}", reply=s.OWNED, query=(p.ALL, p.AFTER))
def names_of_address(asked: Asked) -> Told:
    """The names that an address owns."""
    seen, every = asked.seen, asked["all"]
    script = owner_script(asked["address"], seen)
    found = seen.owned_by(script, asked["after"], live_only=not every)
    body = {"names": list(found.entries), "next": found.next or None, "height": seen.height}
    return Told(body, next=asked.page_after(found.next))


@LISTINGS.get("/v1/values/{hash}", reply=s.HOLDERS)
def holders(asked: Asked) -> Told:
    """Who holds a value hash, and who held it until when."""
    digest = asked["hash"]
    found = asked.seen.holders(bytes.fromhex(digest))
    told = [{"name": holder.name, "until": holder.until} for holder in found]
    return Told({"value_hash": digest, "holders": told, "height": asked.seen.height})


# --- names that end


def _ending_soon(asked: Asked) -> Told:
    seen, days = asked.seen, asked["expiring"]
    if asked["all"] or asked["after"]:
        raise Refused(
            Refusal.BAD_REQUEST,
            "neither all nor after goes with expiring",
            "further pages are asked for by page=N",
        )
    if asked["address"] is not None:
        script = owner_script(asked["address"], seen)
        soon = endings_of(seen, script, days)
    else:
        every = asked.listings.endings(seen)
        soon = every[: bisect_right(every, within(seen, days), key=lambda e: e.expires_at)]
    if asked["namespace"] is not None:
        tail = f".{asked['namespace']}"
        soon = [one for one in soon if one.name.endswith(tail)]
    entries, further = asked.page_of(soon)
    return Told([end_json(seen, one.name) for one in entries], next=further)


def within(seen: Snapshot, days: float) -> int:
    """The height that the chain may have in so many days."""
    return seen.height + round(days * DAY / seen.network.target_spacing)


def endings_of(seen: Snapshot, script: bytes, days: float) -> Sequence[Ending]:
    """The names of an owner that end within so many days, the first one first."""
    last = within(seen, days)
    found = []
    for name in islice(_owned(seen, script), MAX_OWNED):
        standing = seen.name_status(name)
        one = None if standing is None else ending(*standing)
        if one is not None and one.expires_at <= last:
            found.append(one)
    return sorted(found)


def _owned(seen: Snapshot, script: bytes) -> Any:
    after = ""
    while True:
        found = seen.owned_by(script, after)
        yield from found.entries
        after = found.next
        if not after:
            return


# --- pages


def require_namespace(seen: Snapshot, wanted: str) -> str:
    """``wanted`` itself. Raises ``Refused`` where nobody ever revealed it."""
    if seen.namespace(wanted) is None:
        raise not_on_chain(f"there is no namespace {wanted}")
    return wanted


def names_step(seen: Snapshot, every: bool) -> Step:
    """The names of all namespaces, step by step."""
    return lambda after, limit: seen.names(after, limit, live_only=not every)


def names_in_step(seen: Snapshot, namespace_id: str, every: bool) -> Step:
    """The names of one namespace, step by step."""
    return lambda after, limit: seen.names_in(namespace_id, after, limit, live_only=not every)


def walk_key(asked: Asked, listing: tuple[str, ...], every: bool) -> tuple[object, ...]:
    """What names a listing at one block."""
    return (*listing, every, asked.seen.height, asked.seen.block_hash)


def _page(
    asked: Asked, listing: tuple[str, ...], step: Callable[[str, int], Page[str]]
) -> Page[str]:
    number, after = asked["page"], asked["after"]
    if number is None:
        return fill(step, after)
    if after:
        raise Refused(Refusal.BAD_REQUEST, "a page is asked for by page or by after, not by both")
    every = bool(asked.arguments.get("all"))
    return asked.listings.page(walk_key(asked, listing, every), step, number)
