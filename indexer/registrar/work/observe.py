"""What a node and the index show of a job: everything that ``decide`` asks for.

What must stay true: nothing here changes anything; what a node without an index of transactions
cannot tell of a transaction is learned from its outputs, or else from our own index of names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Protocol

from indexer.bitcoin.transactions import hash_hex
from indexer.networks import CONSENSUS_WINDOW
from indexer.node.failures import NodeRpcError
from indexer.protocol.flaws import Flaw
from indexer.protocol.view import BlockView
from indexer.registrar.planning.fees import FeeRate
from indexer.registrar.planning.steps import StepKind, dry_run, next_view
from indexer.registrar.planning.wishes import PreorderNamespace
from indexer.registrar.work.jobs import Attempt, Job
from indexer.registrar.work.observed import CoinState, Seen, Standing
from indexer.registrar.work.progress import current
from indexer.registrar.work.unindexed import Ahead
from indexer.table.snapshot import Snapshot
from indexer.wallet.coins import Coin
from indexer.wallet.node_coins import satoshis

MAX_OUTPUTS_ASKED = 4


class Node(Protocol):
    """What is asked of a Bitcoin node."""

    def call(self, method: str, *params: object) -> Any: ...
    def batch(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any | NodeRpcError]: ...


@dataclass(frozen=True, slots=True)
class Present:
    """How the node's chain is."""

    height: int
    is_current: bool
    """Whether it seems to hold the newest blocks that there are."""
    confirmations: int
    """How many the index waits for."""
    fee: FeeRate


def look(
    job: Job,
    node: Node,
    snapshot: Snapshot,
    ahead: Ahead,
    present: Present,
    sent: frozenset[bytes] = frozenset(),
) -> Seen:
    """Everything that can be seen of ``job`` now. Raises NodeError.

    ``ahead``: the table after the newest blocks, which the index has yet to take: by it is judged
    whether a step would have an effect. What an operation names comes from the index alone.
    """
    standings = look_at(job.attempts(), node, snapshot)
    for txid, height in ahead.mined.items():
        if txid in standings and not standings[txid].mined:
            standings[txid] = Standing(None, max(1, present.height - height + 1))
    seen = Seen(
        node_height=present.height,
        index_height=snapshot.height,
        confirmations=present.confirmations,
        fee_rate=present.fee.rate if job.fee_rate is None else job.fee_rate,
        node_is_current=present.is_current,
        relay_step=present.fee.relay_step,
        standings=standings,
        usable_until=usable_until(
            next_view(snapshot, snapshot.network, snapshot.height, present.height)
        ),
        sent=sent,
    )
    index = current(job, standings)
    if index is None:
        return seen
    newest = next_view(ahead.store, snapshot.network, ahead.height, present.height)
    attempts, flaw = job.steps[index].attempts, flaw_of(job, index, newest)
    if not attempts or any(standings[a.txid].mined for a in attempts if a.txid):
        return replace(seen, flaw=flaw)
    coin = coin_state(job, index, attempts[0].first_coin, standings, node)
    is_void = coin is CoinState.THERE and lacks_coins(job, index, standings, node)
    return replace(seen, flaw=flaw, coin=coin, is_void=is_void)


# --- transactions


def look_at(attempts: Iterable[Attempt], node: Node, snapshot: Snapshot) -> dict[bytes, Standing]:
    """How each of these transactions stands, by txid."""
    standings: dict[bytes, Standing] = {}
    questions: dict[bytes, list[tuple[str, tuple[Any, ...]]]] = {}
    for attempt in attempts:
        if attempt.txid is None:
            continue
        verdict, txid = snapshot.verdict(attempt.txid), hash_hex(attempt.txid)
        if verdict is not None:
            standings[attempt.txid] = Standing(verdict, 1)
            continue
        questions[attempt.txid] = [
            ("getmempoolentry", (txid,)),
            ("getrawtransaction", (txid, True)),
            *(("gettxout", (txid, place, False)) for place in _outputs_asked(attempt)),
        ]
    replies = iter(node.batch(list(chain(*questions.values()))) if questions else ())
    for asked_of, calls in questions.items():
        entry, *shown = islice(replies, len(calls))
        confirmations = max(map(_confirmations, shown))
        waits = isinstance(entry, Mapping) and not confirmations
        standings[asked_of] = Standing(None, confirmations, waits, _owed(entry))
    return standings


def _owed(entry: object) -> int:
    """The fees of a waiting transaction and all that builds upon it, in satoshis."""
    fees = entry.get("fees") if isinstance(entry, Mapping) else None
    try:
        return satoshis(fees["descendant"]) if isinstance(fees, Mapping) else 0
    except (KeyError, ValueError):
        return 0


def _outputs_asked(attempt: Attempt) -> list[int]:
    """Outputs that show that a transaction was mined for as long as they are unspent: what is paid
    to nobody is so for ever."""
    outputs = attempt.unsigned.outputs
    places = [place for place, output in enumerate(outputs) if output.script[:1] != b"\x6a"]
    return places[:1] + places[1:][1 - MAX_OUTPUTS_ASKED :]


def _confirmations(reply: object) -> int:
    found = reply.get("confirmations") if isinstance(reply, Mapping) else None
    return found if isinstance(found, int) and found > 0 else 0


# --- coins


def coin_state(
    job: Job, index: int, coin: Coin, standings: Mapping[bytes, Standing], node: Node
) -> CoinState:
    """What has become of the coin that all attempts of step ``index`` spend first."""
    if unspent([coin], node, with_mempool=False):
        return CoinState.THERE
    try:
        if isinstance(node.call("getmempoolentry", hash_hex(coin.txid)), Mapping):
            return CoinState.UNCONFIRMED
    except NodeRpcError:
        pass  # it does not wait
    for step in job.steps[:index]:
        siblings = [a.txid for a in step.tried if a.txid is not None]
        if coin.txid in siblings and not standings[coin.txid].mined:
            others = (txid for txid in siblings if txid != coin.txid)
            replaced = any(standings[txid].mined for txid in others)
            return CoinState.REPLACED if replaced else CoinState.UNCONFIRMED
    return CoinState.GONE


def lacks_coins(job: Job, index: int, standings: Mapping[bytes, Standing], node: Node) -> bool:
    """Whether some coin but the first is gone that the latest transaction of a step spends, which
    waits nowhere."""
    latest = job.steps[index].attempts[-1]
    if latest.txid is not None and standings[latest.txid].in_mempool:
        return False
    others = latest.unsigned.coins[1:]
    there = unspent(others, node, with_mempool=False)
    states = (coin_state(job, index, coin, standings, node) for coin in others if coin not in there)
    return any(state in (CoinState.GONE, CoinState.REPLACED) for state in states)


def unspent(coins: Sequence[Coin], node: Node, *, with_mempool: bool = True) -> tuple[Coin, ...]:
    """Those of these coins that are in a block, and that nothing spends, not in the mempool
    either."""
    calls = [("gettxout", (hash_hex(coin.txid), coin.index, with_mempool)) for coin in coins]
    replies = node.batch(calls) if calls else []
    shown = zip(coins, replies, strict=True)
    return tuple(coin for coin, reply in shown if _confirmations(reply))


# --- rules


def flaw_of(job: Job, index: int, view: BlockView) -> Flaw | None:
    """Why the step, or the one that a FUND is for, would have no effect in the block of ``view``.

    A preorder is of no use where its registration would have no effect.
    """
    step = next((step for step in job.steps[index:] if step.kind.carries_operation), None)
    if step is None:
        return None
    if isinstance(job.wish, PreorderNamespace):
        record = view.namespace(job.wish.namespace_id)
        if record is not None and (record.is_ready or record.revealed_at(view.last, view.network)):
            return Flaw.NAMESPACE_EXISTS
    if step.kind is StepKind.PREORDER:
        flaw = dry_run(StepKind.REGISTER, job.wish, job.parties, view)
        if flaw is not None:
            return flaw
    return dry_run(step.kind, job.wish, job.parties, view)


def usable_until(view: BlockView) -> dict[bytes, int]:
    """The last block that may name each consensus hash which the block of ``view`` may name."""
    heights = range(max(0, view.height - CONSENSUS_WINDOW), view.height)
    found = ((view.consensus_hash(height), height + CONSENSUS_WINDOW) for height in heights)
    return {consensus: until for consensus, until in found if consensus is not None}
