"""Every route of the HTTP API, from the tables of its subjects.

What is served stands there and nowhere else (but DNS over HTTP and the snapshot file, which are
streams of bytes). A new call is one function that answers, with its declaration above it.
"""

from itertools import chain as joined

from resolver.api import calendar, chain, lists, names, registrar
from resolver.api import schemas as s
from resolver.api.openapi import write_document
from resolver.api.request import Asked, Told
from resolver.api.routes import Body, Routes, RouteTable
from resolver.api.rpc import MAX_BATCH
from resolver.api.rpc_methods import METHODS
from resolver.refusals import Refusal

ITSELF = RouteTable(of_block=False, of_present=False)


@ITSELF.get("/v1/openapi.json", reply=s.DOCUMENT)
def openapi(_asked: Asked) -> Told:
    """This document."""
    return Told(write_document(ROUTES.all))


@ITSELF.post(
    "/rpc",
    reply=s.RPC_REPLY,
    body=Body("A call, or a batch of calls.", s.rpc_calls(METHODS.by_name, MAX_BATCH)),
    refusals=(Refusal.TOO_LARGE, Refusal.BUSY),
    also={204: {}},
)
async def rpc(asked: Asked) -> Told:
    """The questions of the first releases, as JSON-RPC 2.0 (and 1.0), also in batches."""
    return await METHODS.reply(asked)


TABLES = (
    *(names.NODE, ITSELF, names.DATA, names.OF_A_NAME),
    *(lists.LISTINGS, lists.OF_A_NAMESPACE, calendar.ROUTES),
    *(chain.BLOCKS, chain.PRICES, registrar.ROUTES, registrar.JOBS),
)
ROUTES = Routes(tuple(joined.from_iterable(table.all for table in TABLES)))
