"""Jobs while fees change tenfold, the chain turns, coins are locked and money is short, at random.

Every job ends, pays each step once, and spends nothing that is not its own.
"""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from indexer.bitcoin.transactions import TxOut
from indexer.networks import SANDBOX
from indexer.node.failures import NodeRpcError
from indexer.node.node import BitcoinNode
from indexer.registrar.planning.refusals import CannotOrder, PlanRefused
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import RegisterName, RenewName, UpdateName, Wish
from indexer.registrar.work.jobs import Job, State
from indexer.registrar.work.making import counted_on
from indexer.registrar.work.orders import Orders
from indexer.registrar.work.payers import Purse
from indexer.wallet.key_signers import KeyFile
from indexer.wallet.keys import Key, KeyRing
from indexer.wallet.node_coins import NodeCoins
from indexer.wallet.node_wallet import NodeWallet
from indexer.wallet.signers import SignerError
from tests.indexer.registrar.fakes import World, fast_folder
from tests.rings import times

RATES = (1, 10, 100, 1000)
"""Satoshis a byte: each is ten times the one before."""
MOST = 2_000.0
MONEY = 100_000_000
KINDS = ("key-file", "legacy", "segwit", "mixed")
"""Whose coins: keys in a file, or a wallet of the node with coins of one kind or both."""
QUIET_BLOCKS = 120
MADE_A_TURN = 10
"""Transactions that one pass may make for one job."""
JOB_BYTES = 500_000


class Market:
    """A world whose miners take what pays, and those who sign in it with coins of some kind."""

    def __init__(self, world: World, kind: str, coins: int, money: int) -> None:
        self.world = world
        self.kind = kind
        self.client = BitcoinNode(world.node.url)
        ring = KeyRing(Key(bytes(31) + bytes((n,))) for n in range(1, 30))
        source = NodeCoins(self.client)
        self.signers: dict[str, Purse] = {
            "own": NodeWallet(world.client, SANDBOX, None, self.owns_names),
            "keys": KeyFile(ring, self.client, SANDBOX, source, self.owns_names),
        }
        if kind == "key-file":
            self.signers["own"] = self.signers.pop("keys")
        world.node.switches.segwit_wallet = kind in ("segwit", "mixed")
        self.locked: set[tuple[str, int]] = set()
        """What the user locked by himself."""
        self.consented: set[str] = set()
        self._looked_at: set[bytes] = set()
        self.open_desk()
        for who in self.signers:
            self.give(who, money, coins)
        world.mine()

    def close(self) -> None:
        """End its own connections."""
        self.client.close()

    def open_desk(self) -> None:
        """Take orders, as after a start."""
        world = self.world
        self.orders = Orders(world.runner, self.signers, max_fee_rate=MOST)
        world.runner.books.signers = self.signers

    def owns_names(self, script: bytes) -> bool:
        return bool(self.world.seen.owned_by(script, limit=1, live_only=False).entries)

    def give(self, who: str, satoshis: int, coins: int = 1) -> None:
        """Money for one who signs, in so many coins."""
        outputs = [TxOut(satoshis // coins, self._script(who, n)) for n in range(coins)]
        self.world.node.submit(self.world.signer.pay(outputs, MOST).raw)

    def _script(self, who: str, number: int) -> bytes:
        bech32 = self.kind == "segwit" or (self.kind == "mixed" and number % 2 == 0)
        if who == "own" and bech32:
            address = self.client.call("getnewaddress", "gift")
            shown = self.client.call("getaddressinfo", address)
            assert shown["iswitness"]
            return bytes.fromhex(shown["scriptPubKey"])
        return self.signers[who].fresh_script("gift")

    def begin(self, wish: Wish, *, who: str = "own", eager: bool) -> None:
        """Order it; ``eager``: it may pay all that the settings allow."""
        job = self.orders.begin(wish, signer=who, max_total=10**9)
        if eager:
            self.orders.resume(job.id)

    # --- time that passes

    def turn(self) -> None:
        """A pass, after which what it made is looked at."""
        before = {job.id: len(list(job.attempts())) for job in self.world.journal.jobs()}
        self.world.turn()
        assert "mistake" not in (self.world.runner.trouble or "")
        jobs = self.world.journal.jobs()
        for job in jobs:
            assert len(list(job.attempts())) - before[job.id] <= MADE_A_TURN
            for step in job.steps:
                if step.kind is StepKind.FUND:
                    self._look_at(job, step.attempts, jobs)
        for path in (self.world.folder / "journal").glob("*.json"):
            assert path.stat().st_size < JOB_BYTES

    def _look_at(self, job: Job, moves: Any, jobs: list[Job]) -> None:
        """Coins that were moved just now are nobody else's."""
        for move in moves:
            if move.txid not in self._looked_at:
                self._looked_at.add(move.txid)
                assert not any(self.owns_names(coin.script) for coin in move.unsigned.coins)
                others = counted_on(o for o in jobs if o.id != job.id and o.state.is_open)
                assert not others & {(coin.txid, coin.index) for coin in move.unsigned.coins}

    def block(self, rate: int) -> None:
        """A pass at this rate, and a block with what pays for it."""
        self.world.client.estimate = rate
        self.turn()
        taken: list[bytes] = []
        mempool = self.world.node._chain.mempool
        for entry in mempool:
            parents = {i.previous_txid for i in entry.transaction.inputs}
            waits = any(txid in mempool and txid not in taken for txid in parents)
            if not waits and entry.fee >= 0.7 * rate * entry.size:
                taken.append(entry.transaction.txid)
        self.world.mine_only(*taken)

    def settle(self, reorganised: bool = False) -> None:
        """Quiet blocks, and some money, until all jobs have ended."""
        for number in range(QUIET_BLOCKS):
            for job in self.world.runner.books.pending():
                if job.state is State.NEEDS_CONSENT:
                    assert reorganised, job.note  # nothing else makes anything lost
                    self.consented.add(job.id)
                    self.orders.consent(job.id)
            if not self.world.runner.books.pending():
                return
            if number in (5, 30):
                for who in self.signers:
                    self.give(who, MONEY, 3)
            self.block(RATES[0])
        notes = [(job.state, job.note) for job in self.world.runner.books.pending()]
        raise AssertionError(f"these do not end: {notes}")

    def check(self) -> None:
        """Every job is done, each step was mined once, and nothing is kept any more."""
        for job in self.world.journal.jobs():
            assert job.state is State.DONE, job.note
            assert self.world.seen.name(job.subject) is not None
            for step, mined in zip(job.steps, self.world.mined_of(job), strict=True):
                assert len(mined) <= 1 or job.id in self.consented
                assert mined or not step.kind.carries_operation
        kept = {(one["txid"], one["vout"]) for one in self.client.call("listlockunspent")}
        assert kept <= self.locked
        for signer in self.signers.values():
            held = getattr(signer, "_kept", ())  # a key file tells nobody what it keeps
            assert not [place for place in held if self.world.node._chain.coin(place, True)]


@contextlib.contextmanager
def market(
    made: Path, folder: Path, kind: str, coins: int = 1, money: int = MONEY
) -> Iterator[Market]:
    with World(made, folder, listens=True) as world:
        found = Market(world, kind, coins, money)
        yield found
        found.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_fees_that_rise_after_the_preorder_hold_no_registration_up(
    made: Path, tmp_path: Path, kind: str, count: int
) -> None:
    shutil.rmtree(tmp_path)
    with market(made, tmp_path, kind) as found:
        found.world.client.estimate = 1
        for number in range(count):
            found.begin(RegisterName(f"n{number}.id"), eager=True)
        for rate in (1, 1, 1, *[10] * 8, *[100] * 12, *[1000] * 20):
            found.block(rate)
        found.settle()
        found.check()
        assert len(found.world.burnt()) == count


class Story:
    """What befalls a market, drawn by ``rng``."""

    def __init__(self, found: Market, rng: random.Random) -> None:
        self.found, self.world, self.rng = found, found.world, rng
        self.reorganised = False
        self._names = 0

    def go_on(self) -> None:
        """Something happens, and a block comes at some rate."""
        events: list[tuple[Callable[[], object], int]] = [
            (lambda: None, 4),
            (self.begin, 3),
            (self.reorganise, 2),
            (self.evict, 1),
            (self.restart, 1),
            (self.empty_mempool, 1),
            (self.lock, 1),
            (self.unlock, 1),
            (self.spend, 1),
            (self.give, 1),
            (lambda: [self.found.turn() for _ in range(5)], 1),
        ]
        happens, often = zip(*events, strict=True)
        self.rng.choices(happens, often)[0]()
        self.found.block(self.rng.choice(RATES))

    def begin(self) -> None:
        done = [job for job in self.world.journal.jobs() if job.state is State.DONE]
        who, wish = self.rng.choice(list(self.found.signers)), None
        if done and self.rng.random() < 0.4:
            former = self.rng.choice(done)
            who, name = former.signer, former.subject
            wish = self.rng.choice([RenewName(name), UpdateName(name, self.rng.randbytes(20))])
        if len(self.world.runner.books.pending()) < 8:
            self._names += 1
            wish = wish or RegisterName(f"n{self._names}.id")
            with contextlib.suppress(CannotOrder, PlanRefused, SignerError):
                self.found.begin(wish, who=who, eager=self.rng.random() < 0.6)

    def reorganise(self) -> None:
        self.reorganised = True
        self.world.reorganise(self.rng.randint(1, 4), empty=self.rng.random() < 0.5)

    def evict(self) -> None:
        waiting = [entry.transaction.txid for entry in self.world.node._chain.mempool]
        if waiting:
            self.world.node.evict(self.rng.choice(waiting))

    def empty_mempool(self) -> None:
        """As by a restart of the node."""
        for entry in list(self.world.node._chain.mempool):
            if entry.transaction.txid in self.world.node._chain.mempool:
                self.world.node.evict(entry.transaction.txid)

    def restart(self) -> None:
        self.world.crash()
        self.world.start()
        self.found.open_desk()

    def _free(self) -> dict[str, Any] | None:
        """A coin of the wallet that nobody keeps."""
        free = [one for one in self.found.client.call("listunspent") if one["spendable"]]
        return self.rng.choice(free) if free else None

    def lock(self) -> None:
        """The user locks a coin of his wallet, and means it."""
        if coin := self._free():
            place = {"txid": coin["txid"], "vout": coin["vout"]}
            self.found.client.call("lockunspent", False, [place], True)
            self.found.locked.add((coin["txid"], coin["vout"]))

    def unlock(self) -> None:
        """The user unlocks a coin, be it kept for a job."""
        if locked := self.found.client.call("listlockunspent"):
            place = self.rng.choice(locked)
            self.found.client.call("lockunspent", True, [place])
            self.found.locked.discard((place["txid"], place["vout"]))

    def spend(self) -> None:
        """The user spends a coin by himself."""
        coin, call = self._free(), self.found.client.call
        if coin is not None and coin["amount"] * 10**8 > 100_000:
            spent = [{"txid": coin["txid"], "vout": coin["vout"]}]
            paid = [{call("getnewaddress", "x"): f"{float(coin['amount']) - SPENT_FEE:.8f}"}]
            raw = call("createrawtransaction", spent, paid)
            signed = call("signrawtransactionwithwallet", raw)["hex"]
            with contextlib.suppress(NodeRpcError):  # it is ours, and pays more
                call("sendrawtransaction", signed)

    def give(self) -> None:
        who = self.rng.choice(list(self.found.signers))
        self.found.give(who, self.rng.choice([MONEY // 1000, MONEY // 100, MONEY]))


SPENT_FEE = 60_000 / 10**8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(times(4, 12, 150)))
def test_jobs_end_whatever_befalls_them(
    made: Path, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(
        "indexer.registrar.work.orders.secrets.token_hex", lambda count: rng.randbytes(count).hex()
    )
    coins, money = rng.choice([1, 2, 3, 12]), rng.choice([MONEY // 100, MONEY // 4, MONEY])
    with (
        TemporaryDirectory(dir=fast_folder()) as folder,
        market(made, Path(folder), kind, coins, money) as found,
    ):
        story = Story(found, rng)
        found.world.client.estimate = rng.choice(RATES)
        for _ in range(rng.randint(1, 4)):
            story.begin()
        for _ in range(rng.randint(4, 25)):
            story.go_on()
        found.settle(story.reorganised)
        found.check()
