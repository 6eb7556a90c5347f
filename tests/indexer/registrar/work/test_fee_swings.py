"""Fees that rise and fall tenfold while jobs are under way: all end, and pay each step once."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from indexer.bitcoin.transactions import TxOut
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.jobs import Job, State
from indexer.registrar.work.orders import Orders
from indexer.registrar.work.payers import Purse
from indexer.wallet.key_file import KeyFile
from indexer.wallet.keys import Key, KeyRing
from indexer.wallet.node_coins import NodeCoins
from indexer.wallet.node_wallet import NodeWallet
from tests.indexer.registrar.fakes import World, fast_folder
from tests.rings import times

RATES = (1, 10, 100, 1000)
"""Satoshis a byte: each is ten times the one before."""
MOST = 2_000.0
MONEY = 100_000_000
KINDS = ("key-file", "legacy", "segwit", "mixed")
"""Whose coins: keys in a file, or a wallet of the node with coins of one kind or both."""
QUIET_BLOCKS = 60


class Market:
    """A world whose miners take what pays, and one who signs in it with coins of some kind."""

    def __init__(self, world: World, kind: str, coins: int) -> None:
        self.world = world
        self.client = BitcoinNode(world.node.url) if kind == "key-file" else world.client
        self.signer: Purse = NodeWallet(self.client, SANDBOX)
        if kind == "key-file":
            ring = KeyRing(Key(bytes(31) + bytes((n,))) for n in range(1, 30))
            self.signer = KeyFile(ring, self.client, SANDBOX, NodeCoins(self.client))
        self.orders = Orders(
            world.runner, {"own": self.signer}, max_fee_rate=MOST, clock=lambda: world.now
        )
        world.runner.books.signers = {"own": self.signer}
        world.node.switches.segwit_wallet = kind in ("segwit", "mixed")
        scripts = [self._script(kind, number) for number in range(coins)]
        outputs = [TxOut(MONEY // coins, script) for script in scripts]
        world.node.submit(world.signer.pay(outputs, 20.0).raw)
        world.mine()

    def _script(self, kind: str, number: int) -> bytes:
        if kind == "segwit" or (kind == "mixed" and number % 2 == 0):
            address = self.client.call("getnewaddress", "gift")
            shown = self.client.call("getaddressinfo", address)
            assert shown["iswitness"]
            return bytes.fromhex(shown["scriptPubKey"])
        return self.signer.fresh_script("gift")

    def begin(self, count: int, *, eager: bool) -> list[str]:
        """Registrations of so many names; ``eager``: each may pay all that the settings allow."""
        jobs = []
        for number in range(count):
            job = self.orders.begin(RegisterName(f"n{number}.id"), signer="own", max_total=MONEY)
            jobs.append(job.id)
            if eager:
                self.orders.begun.resume(job.id)
        return jobs

    def block(self, rate: int) -> None:
        """A pass at this rate, and a block with what pays for it."""
        self.world.client.estimate = rate
        self.world.turn()
        taken: list[bytes] = []
        mempool = self.world.node._chain.mempool
        for entry in mempool:
            parents = {i.previous_txid for i in entry.transaction.inputs}
            waits = any(txid in mempool and txid not in taken for txid in parents)
            if not waits and entry.fee >= 0.7 * rate * entry.size:
                taken.append(entry.transaction.txid)
        self.world.mine_only(*taken)

    def settle(self) -> None:
        """Quiet blocks until all jobs have ended."""
        for _ in range(QUIET_BLOCKS):
            if not self.world.runner.books.pending():
                return
            self.block(RATES[0])
        notes = [(job.state, job.note) for job in self.world.runner.books.pending()]
        raise AssertionError(f"these do not end: {notes}")


@contextmanager
def market(made: Path, folder: Path, kind: str, coins: int = 1) -> Iterator[Market]:
    with World(made, folder, listens=kind == "key-file") as world:
        found = Market(world, kind, coins)
        yield found
        if found.client is not world.client:
            found.client.close()


def check(found: Market, jobs: Sequence[str]) -> None:
    """Every name is had, each step was mined once, and nothing is kept any more."""
    world = found.world
    ended: list[Job] = [world.job(job_id) for job_id in jobs]
    assert {job.state for job in ended} == {State.DONE}, [job.note for job in ended]
    assert len(world.burnt()) == len(jobs)
    for job in ended:
        assert world.seen.name(job.subject) is not None
        for step, mined in zip(job.steps, world.mined_of(job), strict=True):
            assert len(mined) <= 1
            assert len(mined) == 1 or not step.kind.carries_operation
        preorder, register = (
            next(step for step in job.steps if step.kind is kind)
            for kind in (StepKind.PREORDER, StepKind.REGISTER)
        )
        spent = {coin.txid for coin in register.attempts[-1].unsigned.coins}
        assert spent & {attempt.txid for attempt in preorder.tried}
    if isinstance(found.signer, NodeWallet):
        assert found.client.call("listlockunspent") == []
    else:
        kept = found.signer._kept  # type: ignore[attr-defined]
        assert not [place for place in kept if found.world.node._chain.coin(place, True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_fees_that_rise_after_the_preorder_hold_no_registration_up(
    made: Path, tmp_path: Path, kind: str, count: int
) -> None:
    shutil.rmtree(tmp_path)
    with market(made, tmp_path, kind) as found:
        found.world.client.estimate = 1
        jobs = found.begin(count, eager=True)
        for rate in (1, 1, 1, *[10] * 8, *[100] * 12, *[1000] * 20):
            found.block(rate)
        found.settle()
        check(found, jobs)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=times(4, 12, 60),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],  # to make a story shorter takes longer than to read it
)
@given(
    rates=st.lists(st.sampled_from(RATES), min_size=2, max_size=16),
    count=st.integers(1, 8),
    coins=st.sampled_from([1, 3, 12]),
    eager=st.booleans(),
)
def test_jobs_end_whatever_fees_do(
    made: Path,
    kind: str,
    rates: list[int],
    count: int,
    coins: int,
    eager: bool,
) -> None:
    with (
        TemporaryDirectory(dir=fast_folder()) as folder,
        market(made, Path(folder), kind, coins) as found,
    ):
        found.world.client.estimate = rates[0]
        jobs = found.begin(count, eager=eager)
        for rate in rates:
            found.block(rate)
        found.settle()
        check(found, jobs)
