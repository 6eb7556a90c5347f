"""What the HTTP API says of one name and of data: records, zone files, histories, proofs.

What must stay true: only data whose hash is on the chain is given; a name whose data cannot be had
is described all the same.
"""

import json
from collections.abc import Iterable

from indexer.bitcoin.transactions import hash_hex
from indexer.protocol.proofs import BadProof, Proof, build_proof, write_proof
from indexer.protocol.records import NameRecord, NameStatus, Phase
from indexer.protocol.serialized import read_serialized
from indexer.table.pages import Page
from indexer.table.snapshot import Snapshot, State
from resolver.api import parameters as p
from resolver.api import schemas as s
from resolver.api.lookup import Fetched, fetch_data_of, fetch_value, require_live, require_namespace
from resolver.api.request import Asked, Json, Told, not_on_chain, owner_script
from resolver.api.routes import Body, RouteTable
from resolver.api.shapes import (
    content,
    did_json,
    did_text,
    name_json,
    record_json,
    state_json,
    verdict_json,
)
from resolver.refusals import Refusal, Refused
from resolver.words import VERSION
from zonefiles.text.zonefile import MAX_BYTES, ZonefileError, parse_zonefile, value_hash

_RESOLVER = b"_resolver"
_URI = 256  # RFC 7553

_LIVE = (Refusal.NOT_REGISTERED, Refusal.EXPIRED)
_FETCHED = (Refusal.DATA_UNAVAILABLE, Refusal.HASH_MISMATCH)
_OF_DATA = (*_LIVE, Refusal.REVOKED, Refusal.NO_DATA, *_FETCHED)
_PUT = (Refusal.NOT_ANNOUNCED, Refusal.TOO_LARGE, Refusal.ARCHIVE_FULL)

NODE = RouteTable(of_block=False, of_present=False)
DATA = RouteTable(of_block=False)
OF_A_NAME = RouteTable(refusals=(Refusal.NOT_REGISTERED,))


@DATA.get("/v1/lookup/{name}", reply=s.LOOKUP, refusals=_OF_DATA, of_name=True)
async def lookup(asked: Asked) -> Told:
    """The verified data of a name."""
    record, found, tag = await _data_of(asked)
    body = {
        "name": record.name,
        **content(found.data, "data"),
        "value_hash": record.value_hash.hex() if record.value_hash else None,
        "source": found.source,
        "height": asked.seen.height,
    }
    return Told(body, tag=tag)


@DATA.get("/v1/names/{name}/zonefile", reply=s.named("Zonefile"), refusals=_OF_DATA, of_name=True)
async def zonefile(asked: Asked) -> Told:
    """The verified data of a name."""
    _, found, tag = await _data_of(asked)
    return Told(content(found.data, "zonefile"), tag=tag)


async def _data_of(asked: Asked) -> tuple[NameRecord, Fetched, str]:
    record, _ = require_live(asked["name"], asked.seen)
    tag = "" if record.value_hash is None else asked.unless_known(record.value_hash.hex())
    return record, await fetch_data_of(record, asked.behind.fetch, asked.behind.query_timeout), tag


@DATA.get(
    "/v1/names/{name}/zonefile/{hash}",
    reply=s.named("Zonefile"),
    refusals=(Refusal.NOT_ON_CHAIN, *_FETCHED),
)
async def old_zonefile(asked: Asked) -> Told:
    """Data that a name holds or held once, by its hash."""
    name, digest = asked["name"], bytes.fromhex(asked["hash"])
    if not asked.seen.holds_or_held(name, digest):
        raise not_on_chain(f"{name} never held the value hash {digest.hex()}")
    return await _by_hash(asked, digest, name)


@DATA.get(
    "/v1/zonefiles/{hash}", reply=s.named("Zonefile"), refusals=(Refusal.NOT_ON_CHAIN, *_FETCHED)
)
async def zonefile_of_hash(asked: Asked) -> Told:
    """Data that some name holds or held once, by its hash."""
    digest = bytes.fromhex(asked["hash"])
    if not asked.seen.holders(digest, 1):
        raise not_on_chain(f"no name ever held the value hash {digest.hex()}")
    return await _by_hash(asked, digest, "")


async def _by_hash(asked: Asked, digest: bytes, name: str) -> Told:
    tag = asked.unless_known(digest.hex())
    behind = asked.behind
    found = await fetch_value(digest, behind.fetch, behind.query_timeout, name)
    return Told(content(found.data, "zonefile"), tag=tag)


@DATA.get("/v1/names/{name}", reply=s.named("Name"), refusals=_LIVE, of_name=True)
async def name_record(asked: Asked) -> Told:
    """A name at present: owner, value hash, zone file, identifier, expiry.

    The zone file is null where it cannot be had just now.
    """
    record, status = _live_or_revoked(asked.seen, asked["name"])
    block = asked.block_tag
    if record.value_hash is None or record.revoked:
        nothing: Json = {"zonefile": None, "resolver": None}
        return Told(name_json(asked.seen, record, status) | nothing, tag=block)
    tag = asked.unless_known(f"{record.value_hash.hex()}-{block}")
    body = name_json(asked.seen, record, status)
    behind = asked.behind
    try:
        found = await fetch_value(
            record.value_hash, behind.fetch, behind.query_timeout, record.name
        )
    except Refused as refused:
        missing = {"zonefile": None, "resolver": None, "zonefile_missing": refused.as_json()}
        return Told(body | missing)  # without a tag: the data may come before the next block
    resolver = {"resolver": registrar_url(found.data, record.name)}
    return Told(body | content(found.data, "zonefile") | resolver, tag=tag)


def _live_or_revoked(seen: Snapshot, name: str) -> tuple[NameRecord, NameStatus]:
    try:
        return require_live(name, seen)
    except Refused as refused:
        found = seen.name_status(name)
        if refused.refusal is not Refusal.REVOKED or found is None:
            raise
        return found


def registrar_url(data: bytes, name: str) -> str | None:
    """The URL of the record ``_resolver URI`` in a zone file: who answers for names below it."""
    if _RESOLVER not in data.lower():
        return None  # as nearly always, and without reading 40 KB
    try:
        found = parse_zonefile(data, name).rrset((_RESOLVER,), _URI)
    except ZonefileError:
        return None
    targets = [] if found is None else [rdata[4:] for rdata in found.to_wire(())]
    # RFC 7553 section 4.5: priority, weight, and the target without a length
    return next((target.decode("ascii") for target in targets if target.isascii()), None)


@OF_A_NAME.get("/v1/blockchains/bitcoin/names/{name}", reply=s.named("NameRecord"), of_name=True)
def blockchain_record(asked: Asked) -> Told:
    """The record of a name, live or not, as the first releases gave it."""
    found = asked.seen.name_status(asked["name"])
    if found is None:
        raise never_registered(asked["name"], asked.seen)
    record, status = found
    spans = {"expire_block": status.expires_at, "renewal_deadline": status.gone_at}
    return Told(record_json(record) | spans)


@OF_A_NAME.get("/v1/names/{name}/history", reply=s.HISTORY, query=(p.HISTORY_PAGE,))
def history(asked: Asked) -> Told:
    """The states of a name by height, oldest first, 100 a page.

    {height: [states]}, the pages of the spec; a page behind the last one is empty.
    """
    found = history_page(asked.seen, asked["name"], asked["page"])
    return Told(by_height(found.entries), next=asked.page_after(found.next))


def history_page(seen: Snapshot, name: str, number: int) -> Page[State]:
    """A page of the states of a name, empty behind the last one. Raises ``Refused``."""
    found = seen.states(name)
    if not found.entries:
        raise never_registered(name, seen)
    for _ in range(number):
        found = seen.states(name, found.next) if found.next else Page((), "")
    return found


def by_height(states: Iterable[State]) -> Json:
    """The states of a name by the height at which each began."""
    heights: Json = {}
    for state in states:
        heights.setdefault(str(state.height), []).append(state_json(state))
    return heights


@OF_A_NAME.get("/v1/names/{name}/verdicts", reply=s.VERDICTS, query=(p.PLACE,), refusals=())
def verdicts(asked: Asked) -> Told:
    """Every operation about a name, refused ones with the reason."""
    name = asked["name"]
    found = asked.seen.verdicts_about(name, asked["after"])
    told = [verdict_json(txid, verdict) for txid, verdict in found.entries]
    body = {"name": name, "height": asked.seen.height, "verdicts": told, "next": found.next or None}
    return Told(body, next=asked.page_after(found.next))


@OF_A_NAME.get(
    "/v1/names/{name}/proof",
    reply=s.PROOF,
    query=(p.STATE_HEIGHT, p.UNDER),
    refusals=(Refusal.NOT_REGISTERED, Refusal.NOT_ON_CHAIN),
)
def proof(asked: Asked) -> Told:
    """A proof of the state of a name at a height, under the consensus hash of a block.

    It is of the operation that made the state, with one of the operation that opened the namespace,
    from which the end of the name follows.
    """
    seen, name = asked.seen, asked["name"]
    top = seen.height if seen.consensus_frozen_at is None else seen.consensus_frozen_at
    under = top if asked["under"] is None else asked["under"]
    height = under if asked["height"] is None else asked["height"]
    if max(under, height) > top:
        raise not_known(seen, max(under, height))
    state = seen.state_at(name, height)
    if state is None:
        require_namespace(name, seen)
        raise Refused(Refusal.NOT_REGISTERED, f"{name} was not registered at block {height}")
    txid = hash_hex(state.record.txid)
    namespace = seen.namespace_at(name.partition(".")[2], under)
    try:
        built = _proof_of(seen, txid, state.height, under)
        opening = None
        if namespace is not None and namespace.is_ready:
            ready_txid = hash_hex(namespace.txid)
            opening = _proof_of(seen, ready_txid, namespace.ready_block, under)
    except BadProof as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from None
    trusted = seen.consensus_hash(under)
    consensus_hash = trusted.hex() if trusted else None
    return Told(
        {
            "name": name,
            "proof": write_proof(built),
            "namespace_proof": None if opening is None else write_proof(opening),
            "under": {"height": under, "consensus_hash": consensus_hash},
        }
    )


def _proof_of(seen: Snapshot, txid: str, height: int, under: int) -> Proof:
    operations = seen.operations(height)
    text = next(one for one in operations if read_serialized(one).txid == txid)
    return build_proof(seen, text, height, under)


@OF_A_NAME.get(
    "/v1/dids/{did}",
    reply=s.DID_DOCUMENT,
    refusals=(Refusal.NOT_ON_CHAIN, Refusal.EXPIRED, Refusal.REVOKED),
)
def did(asked: Asked) -> Told:
    """The name that a decentralised identifier stands for, and its owner's key.

    Protocol spec section 6.6.
    """
    record, status = creation_of_did(asked.seen, *asked["did"])
    wanted = did_text(asked.seen.creation_of(record.name), asked.seen.network)
    return Told(did_json(asked.seen, wanted or "", record, status))


def creation_of_did(seen: Snapshot, address: str, number: int) -> tuple[NameRecord, NameStatus]:
    """The live name that was the ``number``-th created for ``address``. Raises ``Refused``."""
    creation = seen.creation(owner_script(address, seen), number)
    if creation is None:
        raise not_on_chain(f"no name with the number {number} was created for {address}")
    if seen.creation_of(creation.name) != creation:
        raise not_on_chain(f"the identifier ended: {creation.name} lapsed and was registered anew")
    return require_live(creation.name, seen)


def not_known(seen: Snapshot, height: int) -> Refused:
    """Why there is no consensus hash of a block."""
    if height <= seen.height:
        frozen = f"consensus: frozen at {seen.consensus_frozen_at}"
        return not_on_chain(f"block {height} cannot be proven; {frozen}")
    return Refused(
        Refusal.INDEX_BEHIND, f"block {height} is not indexed; the last one is {seen.height}"
    )


def never_registered(name: str, seen: Snapshot) -> Refused:
    """The chain has never had the name. Raises ``Refused`` where it cannot have it."""
    require_namespace(name, seen)
    return Refused(Refusal.NOT_REGISTERED, f"{name} was never registered")


# --- data handed in


@DATA.post(
    "/v1/zonefile",
    reply=s.named("Stored"),
    refusals=_PUT,
    body=Body("The data.", s.PUT_ZONEFILE),
)
async def put_zonefile(asked: Asked) -> Told:
    """Hand in the data that a live name announces, as text."""
    try:
        text = json.loads(asked.body)["zonefile"]
        data = text.encode("utf-8")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Refused(
            Refusal.BAD_REQUEST, 'the body must be JSON of the form {"zonefile": "text"}'
        ) from None
    return await _put(asked, data)


@DATA.post(
    "/v1/data",
    reply=s.named("Stored"),
    refusals=_PUT,
    body=Body("The data.", {"type": "string"}, "application/octet-stream"),
)
async def put_data(asked: Asked) -> Told:
    """Hand in the data that a live name announces, as it is."""
    return await _put(asked, asked.body)


async def _put(asked: Asked, data: bytes) -> Told:
    if len(data) > MAX_BYTES:
        sentence = f"{len(data)} bytes are more than the {MAX_BYTES} a name may hold"
        raise Refused(Refusal.TOO_LARGE, sentence)
    digest = value_hash(data)
    if not asked.seen.is_announced(digest):
        raise Refused(
            Refusal.NOT_ANNOUNCED,
            f"no live name announces {digest.hex()}, the hash of this data",
        )
    await asked.behind.keep(digest, data)
    nodes = await asked.behind.publish(digest, data)
    return Told(
        {
            "status": True,
            "value_hash": digest.hex(),
            "names": _announcers(asked.seen, digest),
            "bytes": len(data),
            "stored_at_nodes": nodes,
        }
    )


def _announcers(seen: Snapshot, digest: bytes) -> list[str]:
    """The names that announce ``digest`` now."""
    found = {name: seen.name_status(name) for name in seen.names_of_value(digest)}
    phases = (Phase.LIVE, Phase.GRACE)
    return sorted(name for name, entry in found.items() if entry and entry[1].phase in phases)


# --- the node


@NODE.get("/v1/ping", "/v1/node/ping", reply=s.PING)
def ping(_asked: Asked) -> Told:
    """Whether the node is alive."""
    return Told({"status": "alive", "version": VERSION})


@NODE.get("/v1/info", reply=s.named("Info"))
def info(asked: Asked) -> Told:
    """What the node says of itself: heights, consensus hash, peers, counts, doors.

    To pages that came from elsewhere it tells what the document names, and nothing of this machine,
    its peers and its doors.
    """
    figures = {**asked.behind.figures(), "zones": dict(asked.behind.zones)}
    if asked.of_other_origin:
        public = s.SCHEMAS["Info"]["properties"]
        return Told({key: figures[key] for key in figures if key in public})
    return Told(figures)
