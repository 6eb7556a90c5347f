"""What a node and the index show of a job: everything that ``decide`` asks for.

What must stay true: nothing here changes anything; what a node without an index of transactions
cannot tell of a transaction is learned from its outputs, or else from our own index of names.
"""

from collections.abc import Iterable, Mapping, Sequence
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


def look(
    job: Job,
    node: Node,
    snapshot: Snapshot,
    ahead: Ahead,
    *,
    node_height: int,
    confirmations: int,
    fee: FeeRate,
    node_is_current: bool = True,
    sent: frozenset[bytes] = frozenset(),
) -> Seen:
    """Everything that can be seen of ``job`` now. Raises NodeError.

    ``ahead``: the table after the newest blocks, which the index has yet to take: by it is judged
    whether a step would have an effect. What an operation names comes from the index alone.
    """
    standings = look_at(job.attempts(), node, snapshot)
    for txid, height in ahead.mined.items():
        if txid in standings and not standings[txid].mined:
            standings[txid] = Standing(None, max(1, node_height - height + 1))
    index = current(job, standings)
    view = next_view(snapshot, snapshot.network, snapshot.height, node_height)
    coin, is_void, flaw = CoinState.THERE, False, None
    if index is not None:
        attempts = job.steps[index].attempts
        if attempts and not any(standings[a.txid].mined for a in attempts if a.txid):
            coin = coin_state(job, index, attempts[0].first_coin, standings, node)
            is_void = coin is CoinState.THERE and lacks_coins(job, index, standings, node)
        newest = next_view(ahead.store, snapshot.network, ahead.height, node_height)
        flaw = flaw_of(job, index, newest)
    return Seen(
        node_height=node_height,
        index_height=snapshot.height,
        confirmations=confirmations,
        fee_rate=fee.rate if job.fee_rate is None else job.fee_rate,
        node_is_current=node_is_current,
        relay_step=fee.relay_step,
        standings=standings,
        coin=coin,
        is_void=is_void,
        flaw=flaw,
        usable_until=usable_until(view),
        sent=sent,
    )


# --- transactions


def look_at(attempts: Iterable[Attempt], node: Node, snapshot: Snapshot) -> dict[bytes, Standing]:
    """How each of these transactions stands, by txid."""
    standings: dict[bytes, Standing] = {}
    asked: dict[bytes, Attempt] = {}
    for attempt in attempts:
        if attempt.txid is None:
            continue
        verdict = snapshot.verdict(attempt.txid)
        if verdict is None:
            asked[attempt.txid] = attempt
        standings[attempt.txid] = Standing(verdict, 0 if verdict is None else 1)
    if asked:
        standings.update(_ask(list(asked.values()), node))
    return standings


def _ask(attempts: Sequence[Attempt], node: Node) -> dict[bytes, Standing]:
    calls: list[tuple[str, tuple[Any, ...]]] = []
    for attempt in attempts:
        txid = hash_hex(attempt.txid or b"")
        calls.append(("getmempoolentry", (txid,)))
        calls.append(("getrawtransaction", (txid, True)))
        calls += [("gettxout", (txid, place, False)) for place in _outputs_asked(attempt)]
    replies = iter(node.batch(calls))
    standings = {}
    for attempt in attempts:
        entry = next(replies)
        waiting = isinstance(entry, Mapping)
        shown = [next(replies), *(next(replies) for _ in _outputs_asked(attempt))]
        confirmations = max(map(_confirmations, shown))
        assert attempt.txid is not None, "only what has a txid is asked for"
        standings[attempt.txid] = Standing(
            None, confirmations, waiting and not confirmations, _owed(entry)
        )
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
    if is_unspent(coin, node, with_mempool=False):
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


def is_unspent(coin: Coin, node: Node, *, with_mempool: bool) -> bool:
    """Whether the node knows the coin as unspent, in blocks or in its mempool as well."""
    shown = node.call("gettxout", hash_hex(coin.txid), coin.index, with_mempool)
    return isinstance(shown, Mapping)


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
