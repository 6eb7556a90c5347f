"""What the HTTP API tells of the chain: histories, verdicts, owners, hashes, and proofs of them.

No sockets here, and nothing but one snapshot a request: what a page says is true at the height that
it names. Listings come in pages of at most ``PAGE`` entries. Shapes follow the protocol spec,
section 7.5, where it has the page.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

from indexer.flaws import Flaw
from indexer.names import BadName, check_namespace
from indexer.proofs import BadProof, build_proof, write_proof
from indexer.records import NameRecord
from indexer.schema import Verdict
from indexer.scripts import address_script
from indexer.serialized import read_serialized
from indexer.snapshot import PAGE, Snapshot, State
from indexer.transactions import hash_bytes, hash_hex
from resolver.refusals import Refusal, Refused
from resolver.value import chain_name

MAX_PAGE = 1000
MAX_QUERY = 1024

Json = dict[str, Any]
Query = Mapping[str, str]
Answer = Callable[[Snapshot, str, Query], Json]


@dataclass(frozen=True, slots=True)
class Route:
    """One page, asked with GET: its path and what answers it."""

    pattern: re.Pattern[str]
    answer: Answer


def read_query(text: str) -> Query:
    """The parameters behind the ``?`` of a path, each once. Raises ``Refused``."""
    try:
        pairs = parse_qs(text[: MAX_QUERY + 1], keep_blank_values=True, max_num_fields=8)
    except ValueError:
        raise Refused(Refusal.BAD_REQUEST, "the query has too many parameters") from None
    if len(text) > MAX_QUERY or any(len(values) > 1 for values in pairs.values()):
        raise Refused(Refusal.BAD_REQUEST, "the query is too long, or says something twice")
    return {name: values[0] for name, values in pairs.items()}


# --- names


def _history(seen: Snapshot, raw_name: str, query: Query) -> Json:
    """{height: [states]}, the pages of the spec; a page behind the last one is empty."""
    name = _name(raw_name)
    wanted, after = _number(query, "page", 0, MAX_PAGE), ""
    found = seen.states(name, after)
    for _ in range(wanted):
        if not found.next:
            return {}
        found = seen.states(name, found.next)
    if not found.entries:
        raise Refused(Refusal.NOT_REGISTERED, f"{name} was never registered")
    heights: Json = {}
    for state in found.entries:
        heights.setdefault(str(state.height), []).append(state_json(state))
    return heights


def _proof(seen: Snapshot, raw_name: str, query: Query) -> Json:
    """A proof of the operation that made the state of a name at a height."""
    name = _name(raw_name)
    top = seen.height if seen.consensus_frozen_at is None else seen.consensus_frozen_at
    under = _number(query, "under", top, 2**32 - 2)
    height = _number(query, "height", under, 2**32 - 2)
    if max(under, height) > top:
        raise _not_known(seen, max(under, height))
    state = seen.state_at(name, height)
    if state is None:
        raise Refused(Refusal.NOT_REGISTERED, f"{name} was not registered at block {height}")
    txid = hash_hex(state.record.txid)
    operations = seen.operations(state.height)
    text = next(one for one in operations if read_serialized(one).txid == txid)
    try:
        proof = build_proof(seen, text, state.height, under)
    except BadProof as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from None
    trusted = seen.consensus_hash(under)
    return {
        "name": name,
        "proof": write_proof(proof),
        "under": {"height": under, "consensus_hash": trusted.hex() if trusted else None},
    }


def _verdicts(seen: Snapshot, raw_name: str, query: Query) -> Json:
    """Every operation about a name, refused ones too."""
    name = _name(raw_name)
    try:
        found = seen.verdicts_about(name, query.get("after", ""))
    except ValueError as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from None
    verdicts = [verdict_json(txid, verdict) for txid, verdict in found.entries]
    return {"name": name, "height": seen.height, "verdicts": verdicts, "next": found.next or None}


def _owned(seen: Snapshot, raw_address: str, query: Query) -> Json:
    try:
        script = address_script(_plain(raw_address), seen.network)
    except ValueError as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from None
    found = seen.owned_by(script, query.get("after", ""), live_only=not _truth(query, "all"))
    return {"names": list(found.entries), "next": found.next or None, "height": seen.height}


def _namespaces(seen: Snapshot, _none: str, query: Query) -> Json:
    found = seen.namespaces(query.get("after", ""))
    return {"namespaces": list(found.entries), "next": found.next or None, "height": seen.height}


def _names(seen: Snapshot, raw_namespace: str, query: Query) -> Json:
    try:
        namespace_id = check_namespace(_plain(raw_namespace))
    except BadName as error:
        raise Refused(Refusal.BAD_NAME, str(error)) from None
    if seen.namespace(namespace_id) is None:
        raise Refused(Refusal.NOT_ON_CHAIN, f"there is no namespace {namespace_id}")
    live_only = not _truth(query, "all")
    found = seen.names_in(namespace_id, query.get("after", ""), live_only=live_only)
    return {"names": list(found.entries), "next": found.next or None, "height": seen.height}


def _holders(seen: Snapshot, digest_hex: str, _query: Query) -> Json:
    holders = seen.holders(bytes.fromhex(digest_hex))
    names = [{"name": holder.name, "until": holder.until} for holder in holders]
    return {"value_hash": digest_hex, "holders": names, "height": seen.height}


# --- blocks and transactions


def _operations(seen: Snapshot, digits: str, query: Query) -> Json:
    """The operations of a block in order, with the text of those that took effect."""
    height = _indexed(seen, digits)
    skip = _number(query, "page", 0, MAX_PAGE) * PAGE
    verdicts = seen.verdicts_of_block(height, skip, PAGE + 1)
    texts = {read_serialized(text).txid: text for text in seen.operations(height)}
    operations = [
        {**verdict_json(txid, verdict), "serialized": texts.get(hash_hex(txid))}
        for txid, verdict in verdicts[:PAGE]
    ]
    ops_hash = seen.ops_hash(height)
    return {
        "height": height,
        "ops_hash": ops_hash.hex() if ops_hash else None,
        "operations": operations,
        "more": len(verdicts) > PAGE,
    }


def _consensus(seen: Snapshot, digits: str, _query: Query) -> Json:
    """The consensus hash of a block; after the freeze none, and what is computed under its name."""
    height = _indexed(seen, digits or str(seen.height))
    recorded, computed = seen.consensus_hash(height), seen.computed_consensus_hash(height)
    body: Json = {"consensus_hash": recorded.hex() if recorded else None, "height": height}
    if recorded is None:
        body["consensus"] = f"frozen at {seen.network.frozen_at}"
        body["consensus_frozen_at"] = seen.network.frozen_at
        body["computed_here"] = computed.hex() if computed else None
    return body


def _consensus_block(seen: Snapshot, digest_hex: str, _query: Query) -> Json:
    height = seen.height_of_consensus_hash(bytes.fromhex(digest_hex))
    if height is None:
        raise Refused(
            Refusal.NOT_ON_CHAIN, f"no block up to {seen.height} has the consensus hash given"
        )
    return {"block_height": height}


def _transaction(seen: Snapshot, txid_hex: str, _query: Query) -> Json:
    txid = hash_bytes(txid_hex)
    verdict = seen.verdict(txid)
    if verdict is None:
        raise Refused(
            Refusal.NOT_ON_CHAIN,
            f"no block up to {seen.height} has a transaction {txid_hex} with an operation",
        )
    return verdict_json(txid, verdict)


# --- JSON


def verdict_json(txid: bytes, verdict: Verdict) -> Json:
    """What became of one operation; ``reason`` is the sentence for who paid."""
    flaw = None if verdict.flaw is None else Flaw.__members__.get(verdict.flaw)
    return {
        "txid": hash_hex(txid),
        "height": verdict.height,
        "vtxindex": verdict.vtxindex,
        "opcode": verdict.opcode,
        "subject": verdict.subject or None,
        "accepted": verdict.flaw is None,
        "flaw": None if verdict.flaw is None else verdict.flaw.lower(),
        "reason": None if flaw is None else flaw.value,
    }


def state_json(state: State) -> Json:
    """A name after one operation."""
    record: NameRecord = state.record
    return {
        "opcode": record.op,
        "txid": hash_hex(record.txid),
        "block_id": state.height,
        "vtxindex": state.vtxindex,
        "name": record.name,
        "address": record.address,
        "sender": record.sender.hex(),
        "value_hash": record.value_hash.hex() if record.value_hash else None,
        "revoked": record.revoked,
        "first_registered": record.first_registered,
        "last_renewed": record.last_renewed,
        "preorder_block_number": record.preorder_block_number,
        "importer_address": record.importer_address,
    }


# --- what stands in a path or a query; each raises ``Refused``


def _plain(raw: str) -> str:
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Refusal.BAD_REQUEST, "the path is not even text") from None


def _name(raw_name: str) -> str:
    return chain_name(_plain(raw_name))


def _number(query: Query, member: str, default: int, highest: int) -> int:
    text = query.get(member, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 10) or int(text) > highest:
        raise Refused(Refusal.BAD_REQUEST, f"{member} is not a whole number up to {highest}")
    return int(text)


def _truth(query: Query, member: str) -> bool:
    text = query.get(member, "false").lower()
    if text not in ("true", "false", "1", "0", ""):
        raise Refused(Refusal.BAD_REQUEST, f"{member} is neither true nor false")
    return text in ("true", "1", "")


def _indexed(seen: Snapshot, digits: str) -> int:
    height = int(digits)
    if height < seen.network.first_block:
        raise Refused(
            Refusal.NOT_ON_CHAIN,
            f"the names of {seen.network.name} begin at block {seen.network.first_block}",
        )
    if height > seen.height:
        raise _not_known(seen, height)
    return height


def _not_known(seen: Snapshot, height: int) -> Refused:
    if height <= seen.height:
        frozen = f"consensus: frozen at {seen.consensus_frozen_at}"
        return Refused(Refusal.NOT_ON_CHAIN, f"block {height} cannot be proven; {frozen}")
    return Refused(
        Refusal.INDEX_BEHIND, f"block {height} is not indexed; the last one is {seen.height}"
    )


_CHAIN = r"/v1/blockchains/bitcoin"
ROUTES: tuple[Route, ...] = (
    Route(re.compile(r"/v1/names/([^/]*)/history"), _history),
    Route(re.compile(r"/v1/names/([^/]*)/proof"), _proof),
    Route(re.compile(r"/v1/names/([^/]*)/verdicts"), _verdicts),
    Route(re.compile(r"/v1/addresses/bitcoin/([^/]{1,100})"), _owned),
    Route(re.compile(r"/v1/namespaces()"), _namespaces),
    Route(re.compile(r"/v1/namespaces/([^/]{1,100})/names"), _names),
    Route(re.compile(r"/v1/values/([0-9a-f]{40})"), _holders),
    Route(re.compile(_CHAIN + r"/operations/([0-9]{1,10})"), _operations),
    Route(re.compile(_CHAIN + r"/consensus(?:/([0-9]{1,10}))?"), _consensus),
    Route(re.compile(_CHAIN + r"/consensus-block/([0-9a-f]{32})"), _consensus_block),
    Route(re.compile(r"/v1(?:/blockchains/bitcoin)?/transactions/([0-9a-f]{64})"), _transaction),
)
