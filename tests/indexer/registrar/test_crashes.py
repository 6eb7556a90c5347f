"""The registrar killed anywhere, any number of times, in a world where all that can go wrong does:
each job comes to its end, and nothing is paid twice."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from embit.hashes import hash160

from indexer.operations import Preorder
from indexer.registrar.jobs import Job, State, Step
from indexer.registrar.signers import WalletLocked
from indexer.registrar.steps import Parties, StepKind, steps_of
from indexer.registrar.wishes import (
    PreorderNamespace,
    RegisterName,
    RenewName,
    RevokeName,
    TransferName,
    UpdateName,
    Wish,
)
from indexer.transactions import TxOut
from tests.fakes_registrar import BIG, Fuse, Killed, World, person_key, send, template

RUNS = int(os.environ.get("BLOCKSTORE_REGISTRAR_RUNS", "100"))
"""How many random runs; each takes a tenth of a second."""
CONTENT = b"what alice says"
DIGEST = hash160(CONTENT)
PAYER, STRANGER = person_key("payer").script, person_key("somebody else").script
POOR = person_key("fresh 39").script
"""A key of the wallet that has no coins."""


OWNER = person_key("fresh 38").script


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of files are waited for here."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world in which alice.id is the wallet's, and holds nothing."""
    folder = tmp_path_factory.mktemp("world")
    with World(template(tmp_path_factory.mktemp("template")), folder) as world:
        begin(world, RegisterName("alice.id"), owner=OWNER)
        world.run()
        alice = world.seen.name("alice.id")
        assert alice is not None
        assert alice.sender == OWNER
        payment = world.signer.pay([TxOut(BIG, OWNER)], 20.0)
        world.node.submit(payment.raw)
        world.mine()
    shutil.rmtree(folder / "journal")
    return folder


def begin(
    world: World,
    wish: Wish,
    sender: bytes = PAYER,
    *,
    fund: int = 0,
    owner: bytes | None = None,
) -> str:
    """Put a job into the journal as it is when it begins."""
    if isinstance(wish, RegisterName) and owner is None:
        owner = world.signer.fresh_script("owner")
    has_data = getattr(wish, "value_hash", None) is not None
    steps = [Step(kind) for kind in steps_of(wish, has_data=has_data)]
    if fund:
        steps.insert(0, Step(StepKind.FUND, amount=fund))
    number = len(world.journal.jobs()) + 1
    job = Job(
        id=f"job{number:05}",
        wish=wish,
        parties=Parties(sender, owner),
        signer="purse",
        steps=tuple(steps),
        created=int(world.now),
        max_fee_rate=500.0,
    )
    world.journal.save_content(DIGEST, CONTENT)
    world.journal.save(job)
    return job.id


def register(world: World) -> str:
    return begin(world, RegisterName("bob.id", DIGEST))


def register_without_coins(world: World) -> str:
    return begin(world, RegisterName("bob.id", DIGEST), POOR, fund=2_000_000)


def update(world: World) -> str:
    return begin(world, UpdateName("alice.id", DIGEST), OWNER)


def renew(world: World) -> str:
    return begin(world, RenewName("alice.id"), OWNER)


def transfer(world: World) -> str:
    return begin(world, TransferName("alice.id", STRANGER), OWNER)


def revoke(world: World) -> str:
    return begin(world, RevokeName("alice.id"), OWNER)


def preorder_namespace(world: World) -> str:
    return begin(world, PreorderNamespace("elsewhere", STRANGER))


SCENARIOS: list[tuple[Callable[[World], str], int]] = [
    (register, 1),
    (register_without_coins, 1),
    (update, 0),
    (renew, 1),
    (transfer, 0),
    (revoke, 0),
    (preorder_namespace, 1),
]


def check_paid_once(world: World, job: Job, burnt: int) -> None:
    """That the chain holds one transaction for each step that is one, and pays the price once."""
    mined = world.mined_of(job)
    for step, txids in zip(job.steps, mined, strict=True):
        on_chain = step.kind not in (StepKind.PUBLISH, StepKind.VERIFY)
        assert len(txids) == on_chain, (step.kind, txids)
    ours = {txid for txids in mined for txid in txids}
    assert sum(txid in ours for txid, _ in world.burnt()) == burnt
    made_by_us = {a.txid for a in job.attempts()}
    assert {txid for txid, _ in world.burnt() if txid in made_by_us} <= ours


@pytest.mark.parametrize(("scenario", "burnt"), SCENARIOS, ids=lambda s: getattr(s, "__name__", ""))
def test_a_registrar_that_is_killed_anywhere_goes_on_and_pays_once(
    made: Path, tmp_path: Path, scenario: Callable[[World], str], burnt: int
) -> None:
    kills = 0
    for at in range(1, 200):
        with World(made, tmp_path / str(at)) as world:
            job_id = scenario(world)
            world.fuse = fuse = Fuse(at)
            world.crash()
            world.start()
            try:
                world.run()
            except Killed:
                kills += 1
                world.crash()
                world.fuse = Fuse()
                world.start()
                world.run()
            job = world.job(job_id)
            assert job.state is State.DONE, job.note
            check_paid_once(world, job, burnt)
        if fuse.passed < at:
            break
    else:
        pytest.fail("there is no end of places to die at")
    assert kills == at - 1 > 8


class Chaos:
    """Everything that can happen to a registrar, by the throw of a dice."""

    def __init__(self, world: World, seed: int, *, others: bool) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.others = others
        self.kills = 0
        self.consents = 0
        self.deeds: list[Callable[[], None]] = [
            self.mine,
            self.mine,
            world.mine_empty,
            self.reorganise,
            self.evict,
            self.go_down,
            self.break_sends,
            self.ask_more,
            self.lock,
        ]
        if others:
            self.deeds += [self.somebody_else, self.somebody_else]

    def mine(self) -> None:
        self.world.mine(self.dice.randint(1, 3))

    def reorganise(self) -> None:
        # Mined at once on the other branch, before the registrar has seen it, a transaction may
        # name a block that is on this one no more: then it is lost, and nobody could help it.
        empty = not self.others or self.dice.random() < 0.7
        self.world.reorganise(self.dice.randint(1, 4), empty=empty)

    def evict(self) -> None:
        waiting = [entry.transaction.txid for entry in self.world.node._chain.mempool]
        if waiting:
            self.world.node.evict(self.dice.choice(waiting))

    def go_down(self) -> None:
        self.world.client.down = True
        self.pass_by()
        self.world.client.down = False

    def break_sends(self) -> None:
        self.world.client.breaks = [self.dice.choice(("before", "after"))]

    def ask_more(self) -> None:
        self.world.client.estimate = self.dice.choice((None, 5, 8, 20))

    def lock(self) -> None:
        self.world.signer.refuses = WalletLocked("unlock the wallet; nothing was paid")
        self.pass_by()
        self.world.signer.refuses = None

    def somebody_else(self) -> None:
        """An operation of a stranger, which changes the consensus hash of its block."""
        world = self.world
        digest = self.dice.randbytes(20)
        height = world.seen.height
        wish = Preorder(
            preorder_hash=digest,
            consensus_hash=world.seen.consensus_hash(height) or b"",
            op_fee=1000,
            fee_script=STRANGER,
        )
        other = world.signer.named[1]
        if world.signer.coins(other.script):
            send(world.signer, world.network, other, wish)

    def pass_by(self) -> None:
        """One pass of the registrar, which may die in it."""
        world = self.world
        world.fuse.passed = 0
        world.fuse.at = self.dice.randint(1, 25) if self.dice.random() < 0.6 else None
        try:
            world.turn(self.dice.choice((1, 30)))
        except Killed:
            self.kills += 1
            world.fuse.at = None
            world.crash()
            world.start()

    def run(self, job_id: str) -> Job:
        world = self.world
        for _ in range(25):
            self.dice.choice(self.deeds)()
            self.pass_by()
        world.fuse.at = None
        world.client.breaks = []
        for _ in range(60):
            world.turn()
            job = world.job(job_id)
            if not job.state.is_open:
                return job
            if job.state is State.NEEDS_CONSENT:
                assert self.others, job.note
                self.consents += 1
                self.consent(job)
            world.mine()
        raise AssertionError((job.state, job.note))

    def consent(self, job: Job) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("seed", range(RUNS))
def test_whatever_happens_a_name_is_paid_for_once(made: Path, tmp_path: Path, seed: int) -> None:
    with World(made, tmp_path) as world:
        scenario, burnt = SCENARIOS[seed % len(SCENARIOS)]
        job_id = scenario(world)
        chaos = Chaos(world, seed, others=False)
        job = chaos.run(job_id)
        assert job.state is State.DONE, job.note
        check_paid_once(world, job, burnt)
