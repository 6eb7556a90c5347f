"""The follower behind a real Bitcoin node that is not ours: bcoin, on regtest, over its RPC.

Every operation is composed and signed by the registrar with coins mined to our keys, judged by
the node's own scripts and policy, mined by it, and read back from it.
"""

import select
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from indexer.bitcoin.blocks import parse_block
from indexer.bitcoin.transactions import TxIn, TxOut, hash_bytes, hash_hex
from indexer.following.follower import Follower
from indexer.networks import REGTEST
from indexer.node.node import BitcoinNode, NodeRpcError, NodeUnavailable
from indexer.protocol.names import hash128, hash_name, name_consensus_hash
from indexer.protocol.operations import (
    Import,
    NamespacePreorder,
    NamespaceReady,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    Revoke,
    Transfer,
    Update,
)
from indexer.protocol.prices import name_price_satoshis, namespace_price
from indexer.protocol.records import Phase
from indexer.registrar.planning.compose import compose
from indexer.table.table import NameTable, Snapshot
from indexer.wallet.coins import Coin
from indexer.wallet.keys import Key, KeyRing
from tests.indexer.fakes import BUCKETS
from tests.indexer.node.bcoin import Bcoin, needs_bcoin

pytestmark = [pytest.mark.live, needs_bcoin, pytest.mark.timeout(120)]

FEE_RATE = 20.0
DIGEST, OTHER_DIGEST = bytes(range(20)), bytes(range(1, 21))


def key(word: str) -> Key:
    """A key for worthless coins."""
    return Key(sha256(b"live test: " + word.encode()).digest())


MINER, CREATOR, REVEALER, PAYER, ALICE, BOB = map(
    key, ("miner", "creator", "revealer", "payer", "alice", "bob")
)


@dataclass
class World:
    """A node, an index that follows it, and people with coins."""

    bcoin: Bcoin
    path: Path
    coins: dict[bytes, list[Coin]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node = BitcoinNode(self.bcoin.url)
        self.table = NameTable(self.path, REGTEST)
        self.told: list[frozenset[str]] = []
        self.follower = self.follow_with(self.table)

    def follow_with(self, table: NameTable) -> Follower:
        return Follower(
            self.node,
            table,
            REGTEST,
            confirmations=1,
            poll_interval=0.02,
            on_blocks=lambda snapshot, names: self.told.append(names),
        )

    def close(self) -> None:
        self.table.close()
        self.node.close()

    def fund(self) -> None:
        """Mine past the first block of the index, and give everybody a few coins."""
        wishes = {CREATOR: (3, 10**9), REVEALER: (4, 10**7), PAYER: (8, 10**7)}
        wishes |= {ALICE: (6, 10**7), BOB: (6, 10**7)}
        first = self.bcoin.generate(3, MINER.script)
        self.bcoin.generate(REGTEST.first_block, key("nobody").script)
        spent = [self._coinbase(block) for block in first]
        outputs = [TxOut(v, k.script) for k, (count, v) in wishes.items() for _ in range(count)]
        change = sum(c.value for c in spent) - sum(o.value for o in outputs) - 100_000
        outputs.append(TxOut(change, MINER.script))
        inputs = [TxIn(c.txid, c.index, b"", 0xFFFFFFFF) for c in spent]
        raw = KeyRing([MINER]).sign(1, inputs, outputs, 0, [c.script for c in spent])
        txid = hash_bytes(self.bcoin.submit(raw))
        for index, output in enumerate(outputs):
            mine = self.coins.setdefault(output.script, [])
            mine.append(Coin(txid, index, output.value, output.script))
        self.mine()

    def _coinbase(self, block_hash: str) -> Coin:
        _, transactions = parse_block(self.node.raw_blocks([hash_bytes(block_hash)])[0])
        paid = transactions[0].outputs[0]
        return Coin(transactions[0].txid, 0, paid.value, paid.script)

    def send(self, sender: Key, operation: Operation) -> None:
        """Compose, sign and send; the change is a coin of the next block."""
        unsigned = compose(
            operation,
            REGTEST,
            [self.coins[sender.script].pop(0)],
            sender.script,
            fee_rate=FEE_RATE,
        )
        spent = [coin.script for coin in unsigned.coins]
        raw = KeyRing([sender]).sign(1, unsigned.inputs, unsigned.outputs, 0, spent)
        self.bcoin.submit(raw)

    def mine(self, count: int = 1) -> None:
        self.bcoin.generate(count, key("nobody").script)
        self.follow()

    def follow(self) -> None:
        while self.follower.step():
            pass
        assert self.seen.height == self.bcoin.height

    @property
    def seen(self) -> Snapshot:
        return self.table.snapshot()

    @property
    def consensus(self) -> bytes:
        found = self.seen.consensus_hash(self.seen.height)
        assert found is not None
        return found

    def rows(self) -> dict[bytes, bytes]:
        return dict(self.table.scan(b""))

    def open_namespace(self, *imported: Import) -> None:
        """From preorder to ready."""
        burn, epoch = REGTEST.burn_script, REGTEST.epoch(self.seen.height)
        preorder = NamespacePreorder(
            preorder_hash=hash_name("live", CREATOR.script, REVEALER.address(REGTEST)),
            consensus_hash=self.consensus,
            op_fee=namespace_price("live", epoch),
            fee_script=burn,
        )
        reveal = NamespaceReveal(
            namespace_id="live",
            recipient=REVEALER.script,
            lifetime=52595,
            coeff=4,
            base=4,
            buckets=BUCKETS,
            nonalpha_discount=10,
            no_vowel_discount=10,
        )
        for operation in (preorder, reveal):
            self.send(CREATOR, operation)
            self.mine()
        for wish in imported:
            self.send(REVEALER, wish)
            self.mine()
        self.send(REVEALER, NamespaceReady(namespace_id="live"))
        self.mine()

    def price(self, name: str) -> int:
        namespace = self.seen.namespace("live")
        assert namespace is not None
        epoch = REGTEST.epoch(self.seen.height)
        return max(5500, name_price_satoshis(name.partition(".")[0], namespace, epoch))

    def preorder(self, name: str, owner: Key) -> Preorder:
        return Preorder(
            preorder_hash=hash_name(name, PAYER.script, owner.address(REGTEST)),
            consensus_hash=self.consensus,
            op_fee=self.price(name),
            fee_script=REGTEST.burn_script,
        )

    def register(self, name: str, owner: Key, digest: bytes | None = None) -> None:
        self.send(PAYER, self.preorder(name, owner))
        self.mine()
        self.send(PAYER, Register(name=name, recipient=owner.script, value_hash=digest))
        self.mine()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Bcoin(tmp_path / "node") as bcoin:
        world = World(bcoin, tmp_path / "index")
        try:
            world.fund()
            yield world
        finally:
            world.close()


def test_names_live_their_whole_life_on_a_real_node(world: World) -> None:
    world.open_namespace(Import(name="gift.live", recipient=BOB.script, value_hash=DIGEST))
    namespace = world.seen.namespace("live")
    assert namespace is not None
    assert namespace.ready_block == world.bcoin.height
    gift = world.seen.name("gift.live")
    assert gift is not None
    assert (gift.sender, gift.value_hash, gift.importer) == (BOB.script, DIGEST, REVEALER.script)

    world.register("alice.live", ALICE)
    record = world.seen.name("alice.live")
    assert record is not None
    assert (record.sender, record.value_hash) == (ALICE.script, None)

    bound = name_consensus_hash("alice.live", world.consensus)
    world.send(ALICE, Update(name_consensus_hash=bound, value_hash=OTHER_DIGEST))
    world.mine()
    assert world.seen.names_of_value(OTHER_DIGEST) == ["alice.live"]
    assert world.told[-1] == {"alice.live"}

    world.send(
        ALICE,
        Transfer(
            name_hash128=hash128("alice.live"),
            consensus_hash=world.consensus,
            keep_data=True,
            recipient=BOB.script,
        ),
    )
    world.mine()
    record = world.seen.name("alice.live")
    assert record is not None
    assert (record.sender, record.value_hash) == (BOB.script, OTHER_DIGEST)
    assert record.address == BOB.address(REGTEST)

    renewal = Renew(
        name="alice.live",
        recipient=BOB.script,
        op_fee=world.price("alice.live"),
        fee_script=REGTEST.burn_script,
        value_hash=DIGEST,
    )
    world.send(BOB, renewal)
    world.mine()
    record = world.seen.name("alice.live")
    assert record is not None
    assert record.last_renewed == world.bcoin.height
    assert record.value_hash == DIGEST

    # Alice no longer owns it: the chain takes her transaction, the rules do not.
    world.send(ALICE, Revoke(name="alice.live"))
    world.mine()
    found = world.seen.name_status("alice.live")
    assert found is not None
    assert found[1].phase is Phase.LIVE
    world.send(BOB, Revoke(name="alice.live"))
    world.mine()
    found = world.seen.name_status("alice.live")
    assert found is not None
    assert found[1].phase is Phase.REVOKED
    assert world.seen.is_announced(DIGEST)  # by the imported name, still


def test_a_reorganisation_of_a_real_node_ends_where_a_straight_replay_ends(
    world: World, tmp_path: Path
) -> None:
    world.open_namespace()
    world.register("alice.live", ALICE, DIGEST)
    world.mine(2)
    before = world.seen.name("alice.live")
    lost = world.bcoin.call("getblockhash", world.bcoin.height - 3)  # of the preorder
    world.bcoin.call("invalidateblock", lost)
    world.bcoin.generate(6, key("somebody else").script)
    world.follow()
    seen = world.seen.name("alice.live")
    assert world.told[-1] == {"alice.live"}
    assert seen != before  # its transactions may be in other blocks now, or in none
    replayed = NameTable(tmp_path / "straight", REGTEST)
    follower = world.follow_with(replayed)
    while follower.step():
        pass
    assert replayed.snapshot().height == world.bcoin.height
    assert dict(replayed.scan(b"")) == world.rows()
    assert replayed.snapshot().name("alice.live") == seen
    replayed.close()
    assert hash_hex(world.seen.block_hash) == world.bcoin.call("getbestblockhash")


def test_a_node_that_switches_twice_while_nobody_looks_is_followed(world: World) -> None:
    world.open_namespace()
    world.mine(2)
    before, height = world.rows(), world.bcoin.height
    tip = world.bcoin.call("getblockhash", height)
    world.bcoin.call("invalidateblock", tip)
    world.bcoin.generate(2, key("one").script)
    world.bcoin.call("invalidateblock", world.bcoin.call("getblockhash", height))
    world.bcoin.generate(3, key("two").script)
    world.follow()
    assert hash_hex(world.seen.block_hash) == world.bcoin.call("getbestblockhash")
    assert world.rows() != before
    assert world.seen.namespace("live") is not None


def test_the_node_may_restart_under_the_follower(world: World) -> None:
    world.open_namespace()
    stop = threading.Event()
    thread = threading.Thread(target=world.follower.run, args=(stop,))
    thread.start()
    try:
        world.bcoin.stop()
        _wait(lambda: world.follower.status.state == "node unavailable", "the loss is noticed")
        assert "cannot reach the node" in (world.follower.status.last_error or "")
        assert world.seen.namespace("live") is not None
        world.bcoin.start()
        world.bcoin.generate(1, MINER.script)
        height = world.bcoin.height
        _wait(lambda: world.seen.height == height, "the next block is indexed")
        assert world.follower.status.state == "following"
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def test_a_connection_that_the_node_closed_for_being_idle_is_made_anew(world: World) -> None:
    best = world.node.chain_info().best_block_hash
    wire = world.node._local.wire
    readable, _, _ = select.select([wire.sock], [], [], 20.0)
    assert readable, "bcoin closes idle connections after five seconds"
    wire.rested += 3600  # as if it had been used a moment ago: the node was quicker
    assert world.node.chain_info().best_block_hash == best
    assert world.node._local.wire is not wire
    assert world.node.batch([("getblockcount", ())]) == [world.bcoin.height]


def test_what_a_real_node_does_not_know_is_an_error_with_its_words(world: World) -> None:
    with pytest.raises(NodeRpcError):
        world.node.block_hash(world.bcoin.height + 1)
    with pytest.raises(NodeRpcError):
        world.node.raw_transaction(bytes(32))
    with pytest.raises(NodeRpcError):
        world.node.raw_blocks([bytes(32)])
    world.bcoin.kill()
    with pytest.raises(NodeUnavailable, match="is bitcoind running"):
        world.node.chain_info()


def _wait(condition: object, what: str) -> None:
    """A claim fails when ``condition`` does not hold soon."""
    assert callable(condition)
    pause = threading.Event()
    for _ in range(1500):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(what)
