"""A world for the registrar: the sandbox's node, an index that follows it, a wallet, and a fuse."""

import io
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from embit.hashes import hash160

from indexer.bitcoin.blocks import parse_block
from indexer.bitcoin.transactions import TxOut, parse_transaction
from indexer.following.follower import Follower
from indexer.networks import SANDBOX, Network
from indexer.node.node import BitcoinNode, NodeUnavailable
from indexer.node.wire import Wire
from indexer.protocol.operations import Operation
from indexer.registrar.planning.compose import compose
from indexer.registrar.planning.steps import Parties, StepKind, steps_of
from indexer.registrar.planning.wishes import RegisterName, Wish
from indexer.registrar.work.actions import Rest
from indexer.registrar.work.decide import decide
from indexer.registrar.work.jobs import Job, State, Step
from indexer.registrar.work.journal import Journal
from indexer.registrar.work.progress import consented
from indexer.registrar.work.runner import Runner
from indexer.sandbox.node import SandboxNode
from indexer.sandbox.store import ChainFile
from indexer.table.snapshot import Snapshot
from indexer.table.table import NameTable
from indexer.wallet.coins import Coin, Unsigned
from indexer.wallet.keys import Key, KeyRing
from indexer.wallet.payment import compose_payment
from indexer.wallet.signers import Payment, spends_any
from tests.indexer import fakes
from tests.indexer.fakes import Person

BIG, SMALL, TINY = 50_000_000, 1_000_000, 100_000
"""Satoshis of coins; a tiny one pays for a registration, but not for a preorder."""
NOW = 1_700_000_000


class QuietNode(SandboxNode):
    """A sandbox node that listens nowhere: it is asked in this process only."""

    def start(self) -> None:
        assert self._directory is not None
        self._directory.mkdir(parents=True, exist_ok=True)
        self._file = ChainFile(self._directory / "chain.dat")
        self._load(self._file.read())
        self._chain.keep = self._file.append

    def stop(self) -> None:
        self._close_file()


class Killed(BaseException):
    """The process ends here, as if by SIGKILL: nobody may catch it."""


class Fuse:
    """Counts the places at which the process might die, and lets it die at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.passed = 0

    def point(self) -> None:
        """A place at which the process might die."""
        self.passed += 1
        if self.passed == self.at:
            raise Killed


def person_key(word: str) -> Key:
    """A key that is the same in every run."""
    return Key(sha256(b"registrar test: " + word.encode()).digest())


class RingSigner:
    """A wallet: keys, the coins of a node, and a counter of the addresses it has given out."""

    kind = "key-file"

    def __init__(self, node: SandboxNode, words: Sequence[str]) -> None:
        self.node = node
        self.named = [person_key(word) for word in words]
        fresh = [person_key(f"fresh {number}") for number in range(40)]
        self.ring = KeyRing([*self.named, *fresh])
        self.fresh = iter(fresh)
        self.purse = self.named[0].script
        self.point: Callable[[], None] = lambda: None
        self.refuses: Exception | None = None
        self.kept: set[tuple[bytes, int]] = set()

    def fresh_script(self, label: str) -> bytes:
        return next(self.fresh).script

    def owns(self, script: bytes) -> bool:
        return script in self.ring

    def coins(self, script: bytes) -> list[Coin]:
        found = [
            Coin(u.txid, u.output_index, u.value, u.script)
            for u in self.node.unspent(script)
            if not u.coinbase or self.node.height - u.height >= 100
        ]
        waiting = self.node._chain.mempool
        free = [coin for coin in found if waiting.spender((coin.txid, coin.index)) is None]
        return sorted(free, key=lambda coin: -coin.value)

    def spending_size(self, script: bytes) -> float:
        return self.ring.spending_size(script)

    def sign(self, unsigned: Unsigned) -> bytes:
        self.point()
        if self.refuses is not None:
            raise self.refuses
        scripts = [coin.script for coin in unsigned.coins]
        raw = self.ring.sign(2, unsigned.inputs, unsigned.outputs, 0, scripts)
        self.point()
        return raw

    def pay(
        self,
        outputs: Sequence[TxOut],
        fee_rate: float,
        *,
        spending: Sequence[Coin] = (),
        leaves: Callable[[Coin], bool] = spends_any,
    ) -> Payment:
        coins = [coin for coin in self.coins(self.purse) if not leaves(coin)]
        unsigned = compose_payment(outputs, coins, self.purse, fee_rate=fee_rate, spending=spending)
        raw = self.sign(unsigned)
        return Payment(raw, parse_transaction(raw).txid, unsigned)

    def keep(self, coins: Sequence[Coin]) -> None:
        self.kept.update((coin.txid, coin.index) for coin in coins)

    def let_go(self, coins: Sequence[Coin]) -> None:
        self.kept.difference_update((coin.txid, coin.index) for coin in coins)


class _NoSocket:
    def settimeout(self, seconds: float) -> None:
        """Nothing is ever waited for."""

    def shutdown(self, how: int) -> None:
        """Nothing is ever open."""


class _Reply(io.BytesIO):
    """What a connection gives as the response to a request."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(body)
        self.status = status
        self.left = len(body)

    @property
    def length(self) -> int:
        return self.left

    def read1(self, size: int = -1, /) -> bytes:
        part = super().read1(size)
        self.left -= len(part)
        return part


class LocalConnection:
    """Stands in for the HTTP connection to a sandbox node in this process."""

    sock = _NoSocket()

    def __init__(self, node: SandboxNode) -> None:
        self.node = node
        self._reply = _Reply(500, b"")

    def request(self, method: str, path: str, body: Any = None, headers: Any = None) -> None:
        if method == "GET":
            status, _, content = self.node.reply_to_path(path)
        else:
            status, content = self.node.reply_to(body.encode())
        self._reply = _Reply(status, content)

    def getresponse(self) -> _Reply:
        return self._reply

    def close(self) -> None:
        """Nothing is ever open."""


class LocalNode(BitcoinNode):
    """A client of a sandbox node in this process, whose connection a test can break."""

    def __init__(self, node: SandboxNode) -> None:
        super().__init__("http://127.0.0.1:1")
        self.wire = Wire(False, "127.0.0.1", 1, "/", 1.0, "", 1 << 26, "the sandbox")
        self.wire._connection = LocalConnection(node)
        self.point: Callable[[], None] = lambda: None
        self.down = False
        self.estimate: int | None = None
        """Satoshis a byte that the node estimates; None: it cannot."""
        self.breaks: list[str] = []
        """"before" or "after" for each of the next sends: where the connection breaks."""
        self.sends = 0

    def _wire(self) -> Wire:
        if self.down:
            raise NodeUnavailable("cannot reach the node (connection refused)")
        return self.wire

    def _drop(self, wire: Wire) -> None:
        """It is never broken, but where a test says so."""

    def batch(self, calls: Sequence[tuple[str, tuple[Any, ...]]], *how: Any) -> list[Any]:
        found = super().batch(calls, *how)
        for place, (method, _) in enumerate(calls):
            if method == "estimatesmartfee" and self.estimate is not None:
                found[place] = {"feerate": Decimal(self.estimate) / 10**5, "blocks": 6}
        return found

    def send_transaction(self, raw: bytes) -> bytes:
        breaks = self.breaks.pop(0) if self.breaks else None
        self.point()
        self.sends += 1
        if breaks == "before":
            raise NodeUnavailable("the connection broke off")
        txid = super().send_transaction(raw)
        self.point()
        if breaks == "after":
            raise NodeUnavailable("the connection broke off")
        return txid


class FusedJournal(Journal):
    """A journal in which the process may die before, within and after each write."""

    point: Callable[[], None] = staticmethod(lambda: None)

    def _write(self, name: str, content: bytes) -> None:
        self.point()
        super()._write(name, content)
        self.point()

    def _sync_folder(self) -> None:
        self.point()
        super()._sync_folder()


CONTENT = b"what alice says"
DIGEST = hash160(CONTENT)
PAYER, STRANGER = person_key("payer").script, person_key("somebody else").script
OWNER, POOR = person_key("fresh 38").script, person_key("fresh 39").script
"""Keys of the wallet: the owner of alice.id, and one that has no coins."""

_WORDS = ("payer", "other", "revealer")


def template(folder: Path, network: Network = SANDBOX) -> Path:
    """A chain with the namespace ``id`` open and coins for everybody; made once, then copied."""
    with QuietNode(folder / "chain", clock=lambda: NOW, start_time=NOW) as node:
        table = NameTable(folder / "index", network)
        follower = follower_of(LocalNode(node), table, network)
        signer = RingSigner(node, _WORDS)
        payer, other, revealer = signer.named
        node.generate(120, payer.script, 5)
        coin = signer.coins(payer.script)[0]
        outputs = [TxOut(BIG, key.script) for key in (payer, other, revealer) for _ in range(4)]
        outputs += [TxOut(SMALL, other.script)] * 6 + [TxOut(TINY, payer.script)] * 4
        unsigned = compose_payment(outputs, [coin], payer.script, fee_rate=10)
        node.submit(signer.sign(unsigned))
        node.generate(1, payer.script, 5)
        _follow(follower)
        person = _as_person(revealer)
        consensus = table.snapshot().consensus_hash(table.snapshot().height) or b""
        wish = fakes.namespace_preorder(network, "id", _as_person(payer), person, consensus)
        for key, operation in (
            (payer, wish),
            (payer, fakes.namespace_reveal("id", person)),
            (revealer, fakes.namespace_ready("id")),
        ):
            send(signer, network, key, operation)
            node.generate(1, payer.script, 5)
        _follow(follower)
        table.close()
    return folder


def _as_person(key: Key) -> Person:
    person = Person("")
    person.public_key, person.script = key.public_key, key.script
    return person


def follower_of(node: BitcoinNode, table: NameTable, network: Network) -> Follower:
    return Follower(node, table, network, confirmations=network.confirmations)


def _follow(follower: Follower) -> None:
    while follower.step():
        pass


def send(signer: RingSigner, network: Network, key: Key, operation: Operation) -> bytes:
    """Send an operation by hand, as somebody who has no registrar; its txid."""
    operation = replace(operation, sender=key.script)
    unsigned = compose(operation, network, signer.coins(key.script), key.script, fee_rate=20.0)
    scripts = [coin.script for coin in unsigned.coins]
    raw = signer.ring.sign(2, unsigned.inputs, unsigned.outputs, 0, scripts)
    return signer.node.submit(raw)


class World:
    """A copy of the template, and a registrar in it that can be killed and started again."""

    def __init__(
        self,
        made: Path,
        folder: Path,
        *,
        network: Network = SANDBOX,
        fuse: Fuse | None = None,
        verify: Callable[[str, bytes | None], bool] | None = None,
        listens: bool = False,
    ) -> None:
        """``listens``: the node has a port, for clients that are not in this process."""
        shutil.copytree(made, folder, dirs_exist_ok=True)
        self.network = network
        self.folder = folder
        self.now = float(NOW + 100_000)
        self.fuse = fuse or Fuse()
        kind = SandboxNode if listens else QuietNode
        self.node = kind(folder / "chain", clock=lambda: self.now)
        self.node.start()
        self.client = LocalNode(self.node)
        self.table = NameTable(folder / "index", network)
        self.follower = follower_of(self.client, self.table, network)
        self.signer = RingSigner(self.node, _WORDS)
        self.published: dict[bytes, bytes] = {}
        self.verified: list[str] = []
        self.zones = {"bs": "id"}
        self.confirmations = network.confirmations
        self._verify = verify
        self.first_height = self.node.height
        self.journal: FusedJournal
        self.runner: Runner
        self.start()

    # --- life of the registrar

    def start(self) -> None:
        """Start the registrar, as after a crash."""
        self.journal = FusedJournal(self.folder / "journal", self.network)
        self.journal.point = self.fuse.point
        self.client.point = self.fuse.point
        self.signer.point = self.fuse.point
        self.runner = Runner(
            self.journal,
            self.client,
            self.table.snapshot,
            self.network,
            {"purse": self.signer},
            publish=lambda digest, content: self._publish(digest, content),
            verify=self._resolve,
            zones=self.zones,
            clock=lambda: self.now,
        )

    def crash(self) -> None:
        """What is left of the registrar when its process is gone: its files."""
        self.journal.close()

    def close(self) -> None:
        self.journal.close()
        self.table.close()
        self.node.stop()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _publish(self, digest: bytes, content: bytes) -> int:
        self.fuse.point()
        self.published[digest] = content
        return 1

    def _resolve(self, name: str, digest: bytes | None) -> bool:
        self.fuse.point()
        self.verified.append(name)
        if self._verify is not None:
            return self._verify(name, digest)
        record = self.seen.name(name)
        return record is not None and (digest is None or record.value_hash == digest)

    # --- verbs

    @property
    def seen(self) -> Snapshot:
        return self.table.snapshot()

    def follow(self) -> None:
        _follow(self.follower)

    def mine(self, count: int = 1) -> None:
        """Blocks with what waits; the index follows."""
        self.node.generate(count, person_key("miner").script)
        self.follow()

    def mine_only(self, *txids: bytes) -> None:
        """A block of a miner who takes just these."""
        self.node._chain.generate_block(person_key("miner").script, list(txids))
        self.follow()

    def mine_empty(self, count: int = 1) -> None:
        """Blocks of a miner who takes nothing."""
        for _ in range(count):
            self.mine_only()

    def reorganise(self, depth: int, *, empty: bool = True) -> None:
        """Take back blocks, and mine one more on the other branch; what was in the old ones waits
        again, and is left out of the new ones unless told."""
        chain = self.node._chain
        depth = min(depth, chain.height - self.first_height)
        if depth < 1:
            return
        block = chain.at_height(chain.height - depth + 1)
        self.node.invalidate(block.hash)
        if empty:
            self.mine_empty(depth + 1)
        else:
            self.mine(depth + 1)

    def turn(self, seconds: float = 30.0) -> None:
        """A pass of the registrar, some time after the last."""
        self.now += seconds
        self.runner.turn()

    def run(self, blocks: int = 40) -> None:
        """Passes and blocks until no job is open."""
        for _ in range(blocks):
            self.turn()
            if not self.runner.books.pending():
                return
            self.mine()
        raise AssertionError(f"not done: {[(j.state, j.note) for j in self.journal.jobs()]}")

    def job(self, job_id: str) -> Job:
        found = self.journal.load(job_id)
        assert found is not None
        return found

    def begin(
        self,
        wish: Wish,
        sender: bytes = PAYER,
        *,
        fund: int = 0,
        owner: bytes | None = None,
        signer: str = "purse",
        max_fee_rate: float = 500.0,
    ) -> str:
        """Put a job into the journal as it is when it begins; its id."""
        if isinstance(wish, RegisterName) and owner is None:
            owner = self.signer.fresh_script("owner")
        has_data = getattr(wish, "value_hash", None) is not None
        steps = [Step(kind) for kind in steps_of(wish, has_data=has_data)]
        if fund:
            steps.insert(0, Step(StepKind.FUND, amount=fund))
        number = len(self.journal.jobs()) + 1
        job = Job(
            id=f"job{number:05}",
            wish=wish,
            parties=Parties(sender, owner),
            signer=signer,
            steps=tuple(steps),
            created=int(self.now),
            max_fee_rate=max_fee_rate,
        )
        self.journal.save_content(DIGEST, CONTENT)
        self.journal.save(job)
        return job.id

    def consent(self, job_id: str) -> None:
        """Agree to pay anew."""
        job = self.job(job_id)
        seen = self.runner.look(job, self.runner.ask_node())
        action = decide(job, seen)
        assert isinstance(action, Rest), action
        assert action.state is State.NEEDS_CONSENT, action
        self.journal.save(consented(job, action, seen))

    # --- what the chain shows

    def burnt(self) -> list[tuple[bytes, int]]:
        """(txid, satoshis) of every output since the start that pays to nobody."""
        chain = self.node._chain
        found = []
        for height in range(self.first_height + 1, chain.height + 1):
            for transaction in parse_block(chain.at_height(height).raw)[1]:
                for output in transaction.outputs:
                    if output.script == self.network.burn_script:
                        found.append((transaction.txid, output.value))
        return found

    def mined_of(self, job: Job) -> list[list[bytes]]:
        """For each step, the txids of its attempts that are in a block."""
        chain = self.node._chain
        return [
            [a.txid for a in step.tried if a.txid and chain.find_transaction(a.txid)]
            for step in job.steps
        ]


def made_world(folder: Path) -> Path:
    """A template in which alice.id is OWNER's, and holds nothing."""
    with World(template(folder / "template"), folder / "world") as world:
        world.begin(RegisterName("alice.id"), owner=OWNER)
        world.run()
        alice = world.seen.name("alice.id")
        assert alice is not None
        assert alice.sender == OWNER
        payment = world.signer.pay([TxOut(BIG, OWNER)], 20.0)
        world.node.submit(payment.raw)
        world.mine()
    shutil.rmtree(folder / "world" / "journal")
    return folder / "world"


def fast_folder() -> Path | None:
    """A folder in memory where there is one: thousands of files are waited for in these tests."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None
