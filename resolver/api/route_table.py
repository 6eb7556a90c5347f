"""Every route of the HTTP API: the one truth of its paths, parameters, replies and refusals.

What must stay true: what is served stands here and nowhere else (but DNS over HTTP and the snapshot
file, which are streams of bytes); the OpenAPI document is made from it, the README's table is
checked against it. A new call is one entry, one function that answers and one schema.
"""

from resolver.api import calendar as rest_calendar
from resolver.api import chain, lists, registrar
from resolver.api import names as rest_names
from resolver.api import parameters as p
from resolver.api import schemas as s
from resolver.api.openapi import write_document
from resolver.api.routes import Body, Route, Routes
from resolver.api.rpc import MAX_BATCH
from resolver.api.rpc_methods import METHODS
from resolver.api.values import Asked, Told
from resolver.refusals import Refusal

_BAD = (Refusal.BAD_REQUEST,)
_NAMED = (Refusal.BAD_REQUEST, Refusal.BAD_NAME)
_KNOWN = (*_NAMED, Refusal.NOT_REGISTERED)
_FOUND = (*_NAMED, Refusal.NOT_ON_CHAIN)
_LIVE = (*_KNOWN, Refusal.EXPIRED, Refusal.INDEX_BEHIND)
_FETCHED = (Refusal.DATA_UNAVAILABLE, Refusal.HASH_MISMATCH)
_OF_DATA = (*_LIVE, Refusal.REVOKED, Refusal.NO_DATA, *_FETCHED)
_BLOCK = (Refusal.BAD_REQUEST, Refusal.NOT_ON_CHAIN, Refusal.INDEX_BEHIND)
_PUT = (
    Refusal.BAD_REQUEST,
    Refusal.NOT_ANNOUNCED,
    Refusal.TOO_LARGE,
    Refusal.ARCHIVE_FULL,
    Refusal.INDEX_BEHIND,
)
_CHAIN = "/v1/blockchains/bitcoin"


def openapi(_asked: Asked) -> Told:
    """This table as a document."""
    return Told(write_document(ROUTES.all))


async def rpc(asked: Asked) -> Told:
    """The table of methods."""
    return await METHODS.reply(asked)


NODE = (
    Route(
        "GET",
        ("/v1/ping", "/v1/node/ping"),
        "Whether the node is alive.",
        rest_names.ping,
        s.PING,
        of_block=False,
        of_present=False,
    ),
    Route(
        "GET",
        ("/v1/info",),
        "What the node says of itself: heights, consensus hash, peers, counts, doors.",
        rest_names.info,
        s.named("Info"),
        of_block=False,
        of_present=False,
    ),
    Route(
        "GET",
        ("/v1/openapi.json",),
        "This document.",
        openapi,
        s.DOCUMENT,
        of_block=False,
        of_present=False,
    ),
)

OF_A_NAME = (
    Route(
        "GET",
        ("/v1/lookup/{name}",),
        "The verified data of a name.",
        rest_names.lookup,
        s.LOOKUP,
        (p.NAME,),
        refusals=_OF_DATA,
        of_block=False,
        of_name=True,
    ),
    Route(
        "GET",
        ("/v1/names/{name}",),
        "A name at present: owner, value hash, zone file, identifier, expiry.",
        rest_names.name_record,
        s.named("Name"),
        (p.NAME,),
        refusals=_LIVE,
        of_block=False,
        of_name=True,
    ),
    Route(
        "GET",
        ("/v1/names/{name}/zonefile",),
        "The verified data of a name.",
        rest_names.zonefile,
        s.named("Zonefile"),
        (p.NAME,),
        refusals=_OF_DATA,
        of_block=False,
        of_name=True,
    ),
    Route(
        "GET",
        ("/v1/names/{name}/zonefile/{hash}",),
        "Data that a name holds or held once, by its hash.",
        rest_names.old_zonefile,
        s.named("Zonefile"),
        (p.NAME, p.VALUE_HASH),
        refusals=(*_FOUND, *_FETCHED),
        of_block=False,
    ),
    Route(
        "GET",
        ("/v1/names/{name}/history",),
        "The states of a name by height, oldest first, 100 a page.",
        rest_names.history,
        s.HISTORY,
        (p.NAME,),
        (p.HISTORY_PAGE,),
        _KNOWN,
    ),
    Route(
        "GET",
        ("/v1/names/{name}/verdicts",),
        "Every operation about a name, refused ones with the reason.",
        rest_names.verdicts,
        s.VERDICTS,
        (p.NAME,),
        (p.PLACE,),
        _NAMED,
    ),
    Route(
        "GET",
        ("/v1/names/{name}/proof",),
        "A proof of the state of a name at a height, under the consensus hash of a block.",
        rest_names.proof,
        s.PROOF,
        (p.NAME,),
        (p.STATE_HEIGHT, p.UNDER),
        (*_KNOWN, Refusal.NOT_ON_CHAIN, Refusal.INDEX_BEHIND),
    ),
    Route(
        "GET",
        (f"{_CHAIN}/names/{{name}}",),
        "The record of a name, live or not, as the first releases gave it.",
        rest_names.blockchain_record,
        s.named("NameRecord"),
        (p.NAME,),
        refusals=_KNOWN,
    ),
    Route(
        "GET",
        ("/v1/dids/{did}",),
        "The name that a decentralised identifier stands for, and its owner's key.",
        rest_names.did,
        s.DID_DOCUMENT,
        (p.DID,),
        refusals=(*_BLOCK, Refusal.EXPIRED, Refusal.REVOKED),
    ),
)

LISTINGS = (
    Route(
        "GET",
        ("/v1/names",),
        "Names of all namespaces; with `expiring` those that end soon, the soonest first.",
        lists.names,
        s.NAMES,
        query=(p.PAGE, p.AFTER, p.ALL, p.EXPIRING, p.OWNER, p.WITHIN),
        refusals=(*_NAMED, Refusal.INDEX_BEHIND, Refusal.BUSY),
        long=True,
    ),
    Route(
        "GET",
        ("/v1/namespaces",),
        "Every namespace that was ever revealed.",
        lists.namespaces,
        s.listed(s.NAMESPACE, 100),
        query=(p.PAGE, p.AFTER),
        refusals=(*_BAD, Refusal.BUSY),
        long=True,
    ),
    Route(
        "GET",
        ("/v1/namespaces/{namespace}",),
        "The record of a namespace.",
        lists.namespace,
        s.named("NamespaceRecord"),
        (p.NAMESPACE,),
        refusals=_FOUND,
    ),
    Route(
        "GET",
        ("/v1/namespaces/{namespace}/names",),
        "The names in a namespace.",
        lists.names_of_namespace,
        s.listed(s.NAME, 100),
        (p.NAMESPACE,),
        (p.PAGE, p.AFTER, p.ALL),
        (*_FOUND, Refusal.BUSY),
        long=True,
    ),
    Route(
        "GET",
        ("/v1/namespaces/{namespace}/name_count",),
        "How many names of a namespace are somebody's.",
        lists.namespace_name_count,
        s.NAMES_COUNT,
        (p.NAMESPACE,),
        (p.ALL,),
        (*_FOUND, Refusal.BUSY),
        long=True,
    ),
    Route(
        "GET",
        (f"{_CHAIN}/name_count",),
        "How many names are somebody's; with `all`, how many ever were.",
        lists.name_count,
        s.NAMES_COUNT,
        query=(p.ALL,),
        refusals=(*_BAD, Refusal.BUSY),
        long=True,
    ),
    Route(
        "GET",
        ("/v1/addresses/bitcoin/{address}",),
        "The names that an address owns.",
        lists.names_of_address,
        s.OWNED,
        (p.ADDRESS,),
        (p.ALL, p.AFTER),
        _BAD,
    ),
    Route(
        "GET",
        ("/v1/addresses/bitcoin/{address}/expiry.ics",),
        "When the names of an address end, as a calendar to subscribe to.",
        rest_calendar.calendar,
        s.CALENDAR,
        (p.ADDRESS,),
        (p.DAYS,),
        (*_BAD, Refusal.INDEX_BEHIND, Refusal.BUSY),
        content_type="text/calendar",
        long=True,
    ),
    Route(
        "GET",
        ("/v1/values/{hash}",),
        "Who holds a value hash, and who held it until when.",
        lists.holders,
        s.HOLDERS,
        (p.VALUE_HASH,),
        refusals=_BAD,
    ),
)

BLOCKS = (
    Route(
        "GET",
        ("/v1/transactions/{txid}", f"{_CHAIN}/transactions/{{txid}}"),
        "What became of the operation that a transaction carries.",
        chain.transaction,
        s.named("Verdict"),
        (p.TXID,),
        refusals=(*_BAD, Refusal.NOT_ON_CHAIN),
    ),
    Route(
        "GET",
        (f"{_CHAIN}/operations/{{height}}",),
        "The operations of a block that took effect; with `all`, the refused ones too.",
        chain.operations,
        s.listed(s.named("Operation"), 100),
        (p.HEIGHT,),
        (p.HISTORY_PAGE, p.ALL_OPERATIONS),
        _BLOCK,
        of_present=False,
    ),
    Route(
        "GET",
        (f"{_CHAIN}/consensus",),
        "The consensus hash of the last block.",
        chain.consensus,
        s.named("Consensus"),
        refusals=_BLOCK,
    ),
    Route(
        "GET",
        (f"{_CHAIN}/consensus/{{height}}",),
        "The consensus hash of a block; after the freeze null, and what is computed here.",
        chain.consensus_at,
        s.named("Consensus"),
        (p.HEIGHT,),
        refusals=_BLOCK,
        of_present=False,
    ),
    Route(
        "GET",
        (f"{_CHAIN}/consensus-block/{{hash}}",),
        "The block of a consensus hash.",
        chain.block_of_consensus,
        s.BLOCK_HEIGHT,
        (p.CONSENSUS_HASH,),
        refusals=(*_BAD, Refusal.NOT_ON_CHAIN),
    ),
)

PRICES = (
    Route(
        "GET",
        ("/v1/prices/names/{name}",),
        "What a name costs in the next block, in satoshis.",
        chain.price_of_name,
        s.NAME_PRICE,
        (p.NAME,),
        refusals=_FOUND,
    ),
    Route(
        "GET",
        ("/v2/prices/names/{name}",),
        "What a name costs in the next block.",
        chain.price_of_name_2,
        s.NAME_PRICE_2,
        (p.NAME,),
        refusals=_FOUND,
    ),
    Route(
        "GET",
        ("/v1/prices/namespaces/{namespace}",),
        "What a namespace costs in the next block, in satoshis.",
        chain.price_of_namespace,
        s.named("Price"),
        (p.NAMESPACE,),
        refusals=_NAMED,
    ),
    Route(
        "GET",
        ("/v2/prices/namespaces/{namespace}",),
        "What a namespace costs in the next block.",
        chain.price_of_namespace_2,
        s.named("Price2"),
        (p.NAMESPACE,),
        refusals=_NAMED,
    ),
)

DATA = (
    Route(
        "GET",
        ("/v1/zonefiles/{hash}",),
        "Data that some name holds or held once, by its hash.",
        rest_names.zonefile_of_hash,
        s.named("Zonefile"),
        (p.VALUE_HASH,),
        refusals=(*_BAD, Refusal.NOT_ON_CHAIN, *_FETCHED),
        of_block=False,
    ),
    Route(
        "POST",
        ("/v1/zonefile",),
        "Hand in the data that a live name announces, as text.",
        rest_names.put_zonefile,
        s.named("Stored"),
        refusals=_PUT,
        body=Body("The data.", s.PUT_ZONEFILE),
        of_block=False,
    ),
    Route(
        "POST",
        ("/v1/data",),
        "Hand in the data that a live name announces, as it is.",
        rest_names.put_data,
        s.named("Stored"),
        refusals=_PUT,
        body=Body("The data.", {"type": "string"}, "application/octet-stream"),
        of_block=False,
    ),
)

RPC = (
    Route(
        "POST",
        ("/rpc",),
        "The questions of the first releases, as JSON-RPC 2.0 (and 1.0), also in batches.",
        rpc,
        s.RPC_REPLY,
        body=Body("A call, or a batch of calls.", s.rpc_calls(METHODS.by_name, MAX_BATCH)),
        refusals=(Refusal.TOO_LARGE, Refusal.BUSY),
        also={204: {}},
        of_block=False,
        of_present=False,
    ),
)

ROUTES = Routes((*NODE, *OF_A_NAME, *LISTINGS, *BLOCKS, *PRICES, *DATA, *RPC, *registrar.ROUTES))
