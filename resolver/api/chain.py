"""What the HTTP API says of blocks and transactions, of their consensus hashes, and of prices.

What must stay true: whatever is said holds at the block it names; a consensus hash that is not
known to be everybody's is never given as one; a price is that of the next block.
"""

from indexer.bitcoin.transactions import hash_bytes, hash_hex
from indexer.protocol.names import parse_name
from indexer.protocol.prices import name_price_satoshis, namespace_price
from indexer.protocol.serialized import read_serialized
from indexer.table.pages import PAGE
from indexer.table.snapshot import Judged, Snapshot
from resolver.api import parameters as p
from resolver.api import schemas as s
from resolver.api.names import not_known
from resolver.api.request import Asked, Json, Told, not_on_chain
from resolver.api.routes import RouteTable
from resolver.api.shapes import operation_json, verdict_json
from resolver.refusals import Refusal

BLOCKS = RouteTable(refusals=(Refusal.NOT_ON_CHAIN,))
PRICES = RouteTable()


@BLOCKS.get(
    "/v1/blockchains/bitcoin/operations/{height}",
    reply=s.listed(s.named("Operation"), PAGE),
    query=(p.HISTORY_PAGE, p.ALL_OPERATIONS),
    of_present=False,
)
def operations(asked: Asked) -> Told:
    """The operations of a block that took effect; with `all`, the refused ones too."""
    told, further = asked.page_of(operations_json(asked.seen, asked["height"], every=asked["all"]))
    return Told(told, next=further)


def operations_json(seen: Snapshot, height: int, *, every: bool = False) -> list[Json]:
    """The operations of a block that took effect, or ``every`` one. Raises ``Refused``."""
    texts = {one.txid: one for one in map(read_serialized, seen.operations(indexed(seen, height)))}
    judged: list[Judged] = []
    while found := seen.verdicts_of_block(height, len(judged)):
        judged += found
    return [
        operation_json(txid, verdict, texts.get(hash_hex(txid)))
        for txid, verdict in judged
        if every or verdict.flaw is None
    ]


@BLOCKS.get("/v1/blockchains/bitcoin/consensus", reply=s.named("Consensus"))
def consensus(asked: Asked) -> Told:
    """The consensus hash of the last block."""
    return Told(consensus_json(asked.seen, indexed(asked.seen, asked.seen.height)))


@BLOCKS.get(
    "/v1/blockchains/bitcoin/consensus/{height}", reply=s.named("Consensus"), of_present=False
)
def consensus_at(asked: Asked) -> Told:
    """The consensus hash of a block; after the freeze null, and what is computed here."""
    return Told(consensus_json(asked.seen, indexed(asked.seen, asked["height"])))


def consensus_json(seen: Snapshot, height: int) -> Json:
    """The hashes of an indexed block."""
    recorded, computed = seen.consensus_hash(height), seen.computed_consensus_hash(height)
    ops_hash = seen.ops_hash(height)
    body: Json = {
        "consensus_hash": recorded.hex() if recorded else None,
        "height": height,
        "ops_hash": ops_hash.hex() if ops_hash else None,
    }
    if recorded is None:
        body["consensus"] = f"frozen at {seen.network.frozen_at}"
        body["consensus_frozen_at"] = seen.network.frozen_at
        body["computed_here"] = computed.hex() if computed else None
    return body


@BLOCKS.get("/v1/blockchains/bitcoin/consensus-block/{consensus_hash}", reply=s.BLOCK_HEIGHT)
def block_of_consensus(asked: Asked) -> Told:
    """The block of a consensus hash."""
    return Told({"block_height": height_of(asked.seen, asked["consensus_hash"])})


def height_of(seen: Snapshot, consensus_hash: str) -> int:
    """The block of a consensus hash. Raises ``Refused``."""
    height = seen.height_of_consensus_hash(bytes.fromhex(consensus_hash))
    if height is None:
        raise not_on_chain(f"no block up to {seen.height} has the consensus hash given")
    return height


@BLOCKS.get(
    "/v1/transactions/{txid}",
    "/v1/blockchains/bitcoin/transactions/{txid}",
    reply=s.named("Verdict"),
)
def transaction(asked: Asked) -> Told:
    """What became of the operation that a transaction carries."""
    txid = hash_bytes(asked["txid"])
    verdict = asked.seen.verdict(txid)
    if verdict is None:
        raise not_on_chain(
            f"no block up to {asked.seen.height} has a transaction {asked['txid']}"
            " with an operation"
        )
    return Told(verdict_json(txid, verdict))


def indexed(seen: Snapshot, height: int) -> int:
    """``height`` itself, of an indexed block. Raises ``Refused``."""
    if height < seen.network.first_block:
        raise not_on_chain(
            f"the names of {seen.network.name} begin at block {seen.network.first_block}"
        )
    if height > seen.height:
        raise not_known(seen, height)
    return height


# --- prices


@PRICES.get("/v1/prices/names/{name}", reply=s.NAME_PRICE, refusals=(Refusal.NOT_ON_CHAIN,))
def price_of_name(asked: Asked) -> Told:
    """What a name costs in the next block, in satoshis."""
    return Told({"name_price": in_satoshis(name_price_json(asked.seen, asked["name"]))})


@PRICES.get("/v2/prices/names/{name}", reply=s.NAME_PRICE_2, refusals=(Refusal.NOT_ON_CHAIN,))
def price_of_name_2(asked: Asked) -> Told:
    """What a name costs in the next block."""
    return Told({"name_price": name_price_json(asked.seen, asked["name"])})


@PRICES.get("/v1/prices/namespaces/{namespace}", reply=s.named("Price"))
def price_of_namespace(asked: Asked) -> Told:
    """What a namespace costs in the next block, in satoshis."""
    return Told(in_satoshis(namespace_price_json(asked.seen, asked["namespace"])))


@PRICES.get("/v2/prices/namespaces/{namespace}", reply=s.named("Price2"))
def price_of_namespace_2(asked: Asked) -> Told:
    """What a namespace costs in the next block."""
    return Told(namespace_price_json(asked.seen, asked["namespace"]))


def in_satoshis(price: Json) -> Json:
    """A price with its satoshis, where it is paid in bitcoin."""
    return price | ({"satoshis": int(price["amount"])} if price["units"] == "BTC" else {})


def name_price_json(seen: Snapshot, name: str) -> Json:
    """The least whole fee for a name in the next block. Raises ``Refused``."""
    label, namespace_id = parse_name(name)
    namespace = seen.namespace(namespace_id)
    if namespace is None:
        raise not_on_chain(f"there is no namespace {namespace_id}, and so no price in it")
    amount = name_price_satoshis(label, namespace, seen.network.epoch(seen.height + 1))
    # Names of namespaces of version 3 are paid for in the other ledger (spec section 2.4).
    return {"units": "STACKS" if namespace.version == 3 else "BTC", "amount": str(amount)}


def namespace_price_json(seen: Snapshot, namespace_id: str) -> Json:
    """The price of a namespace in the next block."""
    amount = namespace_price(namespace_id, seen.network.epoch(seen.height + 1))
    return {"units": "BTC", "amount": str(amount)}
