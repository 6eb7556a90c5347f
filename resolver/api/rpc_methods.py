"""The questions of the first releases and of the later ones, as JSON-RPC methods.

What must stay true: names, parameters and shapes are those of protocol spec sections 7.2 and 7.4;
every answer is bounded, so that what is longer is asked for in pages; all methods only read.
"""

from indexer.table.pages import PAGE
from indexer.table.snapshot import Snapshot, State
from resolver.api import parameters as p
from resolver.api import schemas as s
from resolver.api.chain import (
    height_of,
    in_satoshis,
    indexed,
    name_price_json,
    namespace_price_json,
    operations_json,
)
from resolver.api.listing_cache import Step
from resolver.api.lists import names_in_step, names_step, require_namespace, walk_key
from resolver.api.lookup import fetch_data_of, require_live
from resolver.api.names import by_height, creation_of_did, history_page, never_registered
from resolver.api.request import Asked, Json, not_on_chain, owner_script
from resolver.api.rpc import Argument, Methods
from resolver.api.shapes import (
    content,
    did_text,
    namespace_json,
    record_json,
    state_json,
)
from resolver.words import VERSION

MAX_STATES = 1000
"""States of a name in one answer; further ones are on the pages of its history."""
MAX_OPERATIONS = 1000
MAX_HEIGHTS = 32

NAME = Argument(p.NAME, "name")
NAMESPACE = Argument(p.NAMESPACE, "namespace_id")
HEIGHT = Argument(p.HEIGHT, "block_id")
ADDRESS = Argument(p.ADDRESS, "address")
OFFSET = Argument(p.OFFSET, "offset", optional=True, default=0)
COUNT = Argument(p.COUNT, "count", optional=True, default=PAGE)

_GETINFO = {"type": "object", "required": ["blocks", "blockstore_version", "testset"]}
_STATES = s.listed(s.named("NameState"))
_HISTORY = {"type": "object", "additionalProperties": _STATES}
_DATA = {"type": "object", "minProperties": 1, "maxProperties": 1}
_NAMES = s.listed(s.NAME, PAGE)
_COST = s.shape({"satoshis": s.COUNT}, units=s.UNITS, amount=s.AMOUNT)
_START = Argument(p.HEIGHT, "start_block")
_END = Argument(p.HEIGHT, "end_block")
_RECORD_AND_HISTORY = {
    **s.SCHEMAS["NameState"],
    "properties": {**s.RECORD, "history": _HISTORY},
    "required": [*sorted(s.RECORD), "history"],
}
_OPERATIONS = s.listed(s.named("Operation"))
_HASHES = {"type": "object", "additionalProperties": s.nullable(s.HASH16)}
_PAGE_OF_HISTORY = Argument(p.HISTORY_PAGE, "page", optional=True, default=0)

METHODS = Methods()


# --- the node


@METHODS.first(s.PING, of_present=False)
def ping(_asked: Asked) -> Json:
    return {"status": "alive", "version": VERSION}


@METHODS.first(_GETINFO, of_present=False)
def getinfo(asked: Asked) -> Json:
    """The members of the first releases, and those of the later ones."""
    figures = asked.behind.figures()
    members = s.SCHEMAS["Info"]["properties"]
    return {
        "bitcoind_blocks": figures.get("last_block_seen"),
        "blocks": figures["last_block_processed"],
        "blockstore_version": VERSION,
        "testset": str(bool(figures.get("testnet"))),
        **{name: figures[name] for name in members if name in figures},
    }


# --- names


@METHODS.first(_DATA, NAME)
async def lookup(asked: Asked, name: str) -> Json:
    record, _ = require_live(name, asked.seen)
    found = await fetch_data_of(record, asked.behind.fetch, asked.behind.query_timeout)
    return content(found.data, "data")


@METHODS.first(_RECORD_AND_HISTORY, NAME, missing="Not found.")
def get_name_blockchain_record(asked: Asked, name: str) -> Json:
    record = asked.seen.name(name)
    if record is None:
        raise never_registered(name, asked.seen)
    return {**record_json(record), "history": by_height(states(asked.seen, name))}


@METHODS.first(_STATES, NAME, _START, _END)
def get_name_blockchain_history(asked: Asked, name: str, start: int, end: int) -> list[Json]:
    """The states with start <= block < end."""
    found = states(asked.seen, name, start)
    return [state_json(state) for state in found if state.height < end]


def states(seen: Snapshot, name: str, start: int = 0) -> list[State]:
    """The first ``MAX_STATES`` states of a name from a height on."""
    found = seen.states(name, f"{start - 1}-{p.MAX_HEIGHT}" if start else "", MAX_STATES)
    return list(found.entries)


@METHODS.later("record", s.shape(**s.RECORD), NAME)
def get_name_record(asked: Asked, name: str) -> Json:
    record = asked.seen.name(name)
    if record is None:
        raise never_registered(name, asked.seen)
    return {"record": record_json(record)}


@METHODS.later("did", p.DID.schema, NAME, name="get_name_DID")
def get_name_did(asked: Asked, name: str) -> Json:
    found = did_text(asked.seen.creation_of(name), asked.seen.network)
    if found is None:
        raise never_registered(name, asked.seen)
    return {"did": found}


@METHODS.later("record", s.shape(**s.RECORD), Argument(p.DID, "did"), name="get_DID_record")
def get_did_record(asked: Asked, did: tuple[str, int]) -> Json:
    record, _ = creation_of_did(asked.seen, *did)
    return {"record": record_json(record)}


@METHODS.later("history", _HISTORY, NAME, _PAGE_OF_HISTORY)
def get_name_history_page(asked: Asked, name: str, page: int) -> Json:
    return {"history": by_height(history_page(asked.seen, name, page).entries)}


@METHODS.later("records", s.nullable(_STATES), NAME, HEIGHT)
def get_name_at(asked: Asked, name: str, height: int) -> Json:
    """The state at a height of a name that was live then."""
    found = asked.seen.status_at(name, indexed(asked.seen, height))
    live = found is not None and found[1].phase.name in ("LIVE", "GRACE", "REVOKED")
    return {"records": [state_json(found[0])] if found is not None and live else None}


@METHODS.later("records", s.nullable(_STATES), NAME, HEIGHT)
def get_historic_name_at(asked: Asked, name: str, height: int) -> Json:
    """The same, though it had lapsed."""
    state = asked.seen.state_at(name, indexed(asked.seen, height))
    return {"records": None if state is None else [state_json(state)]}


@METHODS.later("result", s.TRUTH, NAME, Argument(p.VALUE_HASH, "zonefile_hash"))
def is_name_zonefile_hash(asked: Asked, name: str, digest: str) -> Json:
    return {"result": asked.seen.holds_or_held(name, bytes.fromhex(digest))}


@METHODS.first(s.listed(s.NAME), ADDRESS)
def get_names_owned_by_address(asked: Asked, address: str) -> list[str]:
    """Live names, the first thousand."""
    found = asked.seen.owned_by(owner_script(address, asked.seen), limit=MAX_STATES)
    return list(found.entries)


# --- prices


@METHODS.first(_COST, NAME, missing="Unknown/invalid namespace")
def get_name_cost(asked: Asked, name: str) -> Json:
    return in_satoshis(name_price_json(asked.seen, name))


@METHODS.first(_COST, NAMESPACE)
def get_namespace_cost(asked: Asked, namespace_id: str) -> Json:
    return in_satoshis(namespace_price_json(asked.seen, namespace_id))


# --- listings


@METHODS.first(s.named("NamespaceRecord"), NAMESPACE, missing="No such ready namespace")
def get_namespace_blockchain_record(asked: Asked, namespace_id: str) -> Json:
    seen = asked.seen
    record = seen.namespace(namespace_id)
    if record is None or not record.is_ready:
        raise not_on_chain(f"there is no ready namespace {namespace_id}")
    return namespace_json(record, seen.height, seen.network)


@METHODS.later("namespaces", s.listed(s.NAMESPACE))
def get_all_namespaces(asked: Asked) -> Json:
    return {"namespaces": list(asked.seen.namespaces(limit=MAX_STATES).entries)}


@METHODS.first(_NAMES, OFFSET, COUNT)
async def get_all_names(asked: Asked, offset: int, count: int) -> list[str]:
    return await _slice(asked, ("names",), names_step(asked.seen, False), offset, count)


@METHODS.later("names", _NAMES, OFFSET, COUNT)
async def get_all_names_cumulative(asked: Asked, offset: int, count: int) -> Json:
    step = names_step(asked.seen, True)
    return {"names": await _slice(asked, ("names",), step, offset, count, every=True)}


@METHODS.first(s.shape(results=_NAMES), NAMESPACE, OFFSET, COUNT)
async def get_names_in_namespace(asked: Asked, namespace_id: str, offset: int, count: int) -> Json:
    step = names_in_step(asked.seen, require_namespace(asked.seen, namespace_id), False)
    return {"results": await _slice(asked, ("names", namespace_id), step, offset, count)}


@METHODS.later("count", s.COUNT)
async def get_num_names(asked: Asked) -> Json:
    return {"count": await _count(asked, ("names",), names_step(asked.seen, False))}


@METHODS.later("count", s.COUNT)
def get_num_names_cumulative(asked: Asked) -> Json:
    return {"count": asked.seen.name_count()}


@METHODS.later("count", s.COUNT, NAMESPACE)
async def get_num_names_in_namespace(asked: Asked, namespace_id: str) -> Json:
    step = names_in_step(asked.seen, require_namespace(asked.seen, namespace_id), False)
    return {"count": await _count(asked, ("names", namespace_id), step)}


async def _slice(
    asked: Asked, listing: tuple[str, ...], step: Step, offset: int, count: int, every: bool = False
) -> list[str]:
    """``count`` entries from ``offset`` on, at most ``PAGE``."""
    key = walk_key(asked, listing, every)
    first, skip = divmod(offset, PAGE)

    def walk() -> list[str]:
        found = list(asked.listings.page(key, step, first).entries)
        if skip and len(found) == PAGE:
            found += asked.listings.page(key, step, first + 1).entries
        return found[skip : skip + count]

    sliced: list[str] = await asked.aside(walk)
    return sliced


async def _count(asked: Asked, listing: tuple[str, ...], step: Step) -> int:
    key = walk_key(asked, listing, False)
    counted: int = await asked.aside(lambda: asked.listings.count(key, step))
    return counted


# --- blocks


@METHODS.first(_OPERATIONS, HEIGHT, of_present=False)
def get_nameops_at(asked: Asked, height: int) -> list[Json]:
    """The operations of a block that took effect, with all their consensus fields."""
    return operations_json(asked.seen, height)[:MAX_OPERATIONS]


@METHODS.first(s.nullable(s.HASH32), HEIGHT, of_present=False)
def get_nameops_hash_at(asked: Asked, height: int) -> str | None:
    found = asked.seen.ops_hash(indexed(asked.seen, height))
    return None if found is None else found.hex()


@METHODS.later("count", s.COUNT, HEIGHT, of_present=False)
def get_num_blockstack_ops_at(asked: Asked, height: int) -> Json:
    return {"count": len(asked.seen.operations(indexed(asked.seen, height)))}


@METHODS.later("nameops", _OPERATIONS, HEIGHT, OFFSET, COUNT, of_present=False)
def get_blockstack_ops_at(asked: Asked, height: int, offset: int, count: int) -> Json:
    return {"nameops": operations_json(asked.seen, height)[offset : offset + count]}


@METHODS.later("ops_hash", s.nullable(s.HASH32), HEIGHT, of_present=False)
def get_blockstack_ops_hash_at(asked: Asked, height: int) -> Json:
    return {"ops_hash": get_nameops_hash_at(asked, height)}


@METHODS.first(s.nullable(s.HASH16), HEIGHT)
def get_consensus_at(asked: Asked, height: int) -> str | None:
    found = asked.seen.consensus_hash(height)
    return None if found is None else found.hex()


@METHODS.later("consensus_hashes", _HASHES, Argument(p.HEIGHT, "block_id_list", most=MAX_HEIGHTS))
def get_consensus_hashes(asked: Asked, heights: list[int]) -> Json:
    return {"consensus_hashes": {str(h): get_consensus_at(asked, h) for h in heights}}


@METHODS.later("block_id", s.HEIGHT, Argument(p.CONSENSUS_HASH, "hash"))
def get_block_from_consensus(asked: Asked, consensus_hash: str) -> Json:
    return {"block_id": height_of(asked.seen, consensus_hash)}
