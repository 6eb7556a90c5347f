"""Jobs on a node that is not ours: a namespace opens, a name lives in it, and fees are raised."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.follower import Follower
from indexer.node import BitcoinNode
from indexer.records import Phase
from indexer.registrar.coins import Coin
from indexer.registrar.jobs import Job, State, Step
from indexer.registrar.journal import Journal
from indexer.registrar.key_file import KeyFile
from indexer.registrar.runner import Present, Runner
from indexer.registrar.steps import Parties, StepKind, steps_of
from indexer.registrar.wallet import KeyRing
from indexer.registrar.wishes import (
    PreorderNamespace,
    ReadyNamespace,
    RegisterName,
    RenewName,
    RevealNamespace,
    RevokeName,
    TransferName,
    UpdateName,
    Wish,
)
from indexer.table import NameTable
from indexer.transactions import hash_hex, is_coinbase_input, parse_block
from tests.bcoin import BCOIN_REGTEST, Bcoin, needs_bcoin
from tests.fakes_registrar import CONTENT, DIGEST, OWNER, PAYER, STRANGER, person_key

pytestmark = [pytest.mark.live, needs_bcoin]

MINER = person_key("miner").script
FIRST_BLOCKS = 261
NAMESPACE = "elsewhere"


class WalkedCoins:
    """The coins of scripts, found by walking over every block: this node has no wallet."""

    def __init__(self, node: BitcoinNode) -> None:
        self.node = node

    def coins(self, scripts: Sequence[bytes], soon: Sequence[bytes] = ()) -> list[Coin]:
        tip = self.node.chain_info().blocks
        found: dict[tuple[bytes, int], Coin] = {}
        hashes = self.node.block_hashes(range(1, tip + 1))
        for height, raw in enumerate(self.node.raw_blocks(hashes), 1):
            for transaction in parse_block(raw)[1]:
                for spent in transaction.inputs:
                    found.pop((spent.previous_txid, spent.previous_index), None)
                if is_coinbase_input(transaction.inputs[0]) and tip - height < 100:
                    continue
                for place, (value, script) in enumerate(transaction.outputs):
                    if script in scripts:
                        coin = Coin(transaction.txid, place, value, script)
                        found[transaction.txid, place] = coin
        free = (c for c in found.values() if self.is_free(c))
        return sorted(free, key=lambda coin: -coin.value)

    def is_free(self, coin: Coin) -> bool:
        return self.node.call("gettxout", hash_hex(coin.txid), coin.index, True) is not None


class Life:
    """A registrar beside the node."""

    def __init__(self, bcoin: Bcoin, folder: Path) -> None:
        self.bcoin = bcoin
        self.now = 1_700_000_000.0
        self.node = BitcoinNode(bcoin.url)
        self.network = BCOIN_REGTEST
        self.table = NameTable(folder / "index", self.network)
        self.follower = Follower(self.node, self.table, self.network, confirmations=1)
        ring = KeyRing([person_key("payer"), person_key("fresh 38")])
        signer = KeyFile(ring, self.node, self.network, WalkedCoins(self.node))
        self.published: list[bytes] = []
        self.journal = Journal(folder / "journal", self.network)
        self.runner = Runner(
            self.journal,
            self.node,
            self.table.snapshot,
            self.network,
            {"purse": signer},
            publish=self._publish,
            verify=lambda name, digest: True,
            clock=lambda: self.now,
        )
        bcoin.generate(FIRST_BLOCKS - 110, PAYER)
        bcoin.generate(110, MINER)
        self.follow()

    def _publish(self, digest: bytes, content: bytes) -> int:
        self.published.append(content)
        return 1

    def follow(self) -> None:
        while self.follower.step():
            pass

    def turn(self) -> None:
        self.now += 30
        self.runner.turn()

    def mine(self) -> None:
        self.bcoin.generate(1, MINER)
        self.follow()

    def begin(self, wish: Wish, sender: bytes = PAYER, *, fund: int = 0) -> str:
        has_data = getattr(wish, "value_hash", None) == DIGEST
        steps = [Step(kind) for kind in steps_of(wish, has_data=has_data)]
        if fund:
            steps.insert(0, Step(StepKind.FUND, amount=fund))
        job_id = f"job{len(self.journal.jobs()):05}"
        parties = Parties(sender, OWNER)
        self.journal.save_content(DIGEST, CONTENT)
        self.journal.save(Job(job_id, wish, parties, "purse", tuple(steps), 0, 300.0))
        return job_id

    def job(self, job_id: str) -> Job:
        found = self.journal.load(job_id)
        assert found is not None
        return found

    def run(self, *job_ids: str, blocks: int = 12) -> None:
        for _ in range(blocks):
            self.turn()
            if not any(self.job(job_id).state.is_open for job_id in job_ids):
                return
            self.mine()
        raise AssertionError([(self.job(i).state, self.job(i).note) for i in job_ids])

    def do(self, wish: Wish, sender: bytes = PAYER, *, fund: int = 0) -> Job:
        job_id = self.begin(wish, sender, fund=fund)
        self.run(job_id)
        job = self.job(job_id)
        assert job.state is State.DONE, job.note
        return job

    def open_namespace(self) -> None:
        self.do(PreorderNamespace(NAMESPACE, PAYER))
        buckets = (6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self.do(RevealNamespace(NAMESPACE, PAYER, 52595, 250, 4, buckets, 10, 10))
        self.do(ReadyNamespace(NAMESPACE))

    def burnt(self) -> int:
        """How many payments to nobody the chain holds."""
        tip = self.node.chain_info().blocks
        raws = self.node.raw_blocks(self.node.block_hashes(range(FIRST_BLOCKS + 1, tip + 1)))
        return sum(
            output.script == self.network.burn_script
            for raw in raws
            for transaction in parse_block(raw)[1]
            for output in transaction.outputs
        )


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with Bcoin(tmp_path / "bcoin") as bcoin:
        found = Life(bcoin, tmp_path)
        yield found
        found.journal.close()
        found.table.close()


def test_a_name_lives_its_whole_life(life: Life) -> None:
    name = f"alice.{NAMESPACE}"
    life.open_namespace()
    life.do(RegisterName(name, DIGEST))
    record = life.table.snapshot().name(name)
    assert record is not None
    assert (record.sender, record.value_hash) == (OWNER, DIGEST)
    assert life.published == [CONTENT]
    for wish in (RenewName(name), UpdateName(name, b"\x07" * 20), RevokeName(name)):
        life.do(wish, OWNER, fund=5_000_000 if isinstance(wish, RenewName) else 0)
    found = life.table.snapshot().name_status(name)
    assert found is not None
    assert found[1].phase is Phase.REVOKED
    assert life.burnt() == 3  # the namespace, the name, its renewal


def test_a_node_that_replaces_nothing_and_says_nothing_is_no_second_payment(life: Life) -> None:
    """This one takes what says that it may be replaced, and then replaces it by nothing."""
    life.open_namespace()
    slow = life.begin(RegisterName(f"slow.{NAMESPACE}"))
    life.turn()
    (first,) = life.job(slow).attempts()
    present = life.runner.ask_node

    def ahead() -> Present:
        """As if six blocks had come that have no room for it."""
        return replace(present(), height=present().height + 6)

    life.runner.ask_node = ahead  # type: ignore[method-assign]
    life.runner.confirmations += 6
    life.turn()
    life.runner.ask_node = present  # type: ignore[method-assign]
    life.runner.confirmations -= 6
    attempts = life.job(slow).steps[0].attempts
    assert len(attempts) == 2
    assert attempts[1].unsigned.fee > first.unsigned.fee
    assert attempts[1].first_coin == first.first_coin
    assert life.node.call("getrawmempool") == [hash_hex(first.txid or b"")]

    given_up = life.begin(RegisterName(f"never.{NAMESPACE}"))
    life.turn()
    life.journal.save(replace(life.job(given_up), stopping=True))
    life.run(slow, given_up)
    assert life.job(slow).state is State.DONE
    assert life.job(given_up).state is State.ABANDONED
    assert "satoshis were paid for it" in life.job(given_up).note  # and it does not say otherwise
    assert life.burnt() == 3
    life.do(TransferName(f"slow.{NAMESPACE}", STRANGER), OWNER, fund=1_000_000)
