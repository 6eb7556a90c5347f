"""The registrar killed anywhere, any number of times, in a world where all that can go wrong does:
each job comes to its end, and nothing is paid twice."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.networks import SANDBOX
from indexer.protocol.operations import Preorder
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import (
    PreorderNamespace,
    RegisterName,
    RenewName,
    RevokeName,
    TransferName,
    UpdateName,
)
from indexer.registrar.work.jobs import Job, State
from indexer.wallet.signers import WalletLocked
from tests.indexer.registrar.fakes import (
    DIGEST,
    OWNER,
    POOR,
    STRANGER,
    Fuse,
    Killed,
    World,
    made_world,
    send,
)
from tests.rings import times

RUNS = times(10, 100, 1000)
"""How many random runs; each takes a tenth of a second."""


BEGINS = made_world


def register(world: World) -> str:
    return world.begin(RegisterName("bob.id", DIGEST))


def register_without_coins(world: World) -> str:
    return world.begin(RegisterName("bob.id", DIGEST), POOR, fund=2_000_000)


def update(world: World) -> str:
    return world.begin(UpdateName("alice.id", DIGEST), OWNER)


def renew(world: World) -> str:
    return world.begin(RenewName("alice.id"), OWNER)


def transfer(world: World) -> str:
    return world.begin(TransferName("alice.id", STRANGER), OWNER)


def revoke(world: World) -> str:
    return world.begin(RevokeName("alice.id"), OWNER)


def preorder_namespace(world: World) -> str:
    return world.begin(PreorderNamespace("elsewhere", STRANGER))


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
        self.deeds = [self.mine]
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
                world.consent(job.id)
            world.mine()
        raise AssertionError((job.state, job.note))


@pytest.mark.parametrize("seed", range(RUNS))
def test_whatever_happens_a_name_is_paid_for_once(made: Path, tmp_path: Path, seed: int) -> None:
    with World(made, tmp_path) as world:
        scenario, burnt = SCENARIOS[seed % len(SCENARIOS)]
        job_id = scenario(world)
        chaos = Chaos(world, seed, others=False)
        job = chaos.run(job_id)
        assert job.state is State.DONE, job.note
        check_paid_once(world, job, burnt)


@pytest.mark.parametrize("seed", range(1000, 1000 + RUNS // 5))
def test_with_others_on_the_chain_more_is_paid_only_with_consent(
    made: Path, tmp_path: Path, seed: int
) -> None:
    """Others' operations change the consensus hashes, so that what names one may be lost."""
    with World(made, tmp_path) as world:
        scenario, burnt = SCENARIOS[seed % len(SCENARIOS)]
        job_id = scenario(world)
        chaos = Chaos(world, seed, others=True)
        job = chaos.run(job_id)
        assert job.state is State.DONE, job.note
        ours = {attempt.txid for attempt in job.attempts()}
        assert sum(txid in ours for txid, _ in world.burnt()) <= burnt * (1 + chaos.consents)
        for step, txids in zip(job.steps, world.mined_of(job), strict=True):
            accepted = [t for t in txids if (v := world.seen.verdict(t)) and v.flaw is None]
            assert len(accepted) == step.kind.carries_operation
            assert len(txids) <= 1 + chaos.consents


@pytest.mark.parametrize("seed", range(2000, 2000 + RUNS // 10))
def test_where_the_index_waits_for_confirmations_it_is_the_same(
    made: Path, tmp_path: Path, seed: int
) -> None:
    with World(made, tmp_path, network=replace(SANDBOX, confirmations=3)) as world:
        world.mine(3)
        scenario, burnt = SCENARIOS[seed % len(SCENARIOS)]
        job_id = scenario(world)
        job = Chaos(world, seed, others=False).run(job_id)
        assert job.state is State.DONE, job.note
        check_paid_once(world, job, burnt)


@pytest.mark.parametrize("seed", range(3000, 3000 + max(1, RUNS // 20)))
def test_several_jobs_at_once_pay_once_each(made: Path, tmp_path: Path, seed: int) -> None:
    with World(made, tmp_path) as world:
        poor = [RegisterName(f"poor{number}.id", DIGEST) for number in range(3)]
        job_ids = [world.begin(wish, POOR, fund=2_000_000) for wish in poor]
        job_ids += [register(world), renew(world), preorder_namespace(world)]
        # They are others to each other: one may take with it what another one names or spends.
        chaos = Chaos(world, seed, others=True)
        jobs = [chaos.run(job_id) for job_id in job_ids]
        assert {job.state for job in jobs} == {State.DONE}, [job.note for job in jobs]
        for job in jobs:
            for step, txids in zip(job.steps, world.mined_of(job), strict=True):
                accepted = [t for t in txids if (v := world.seen.verdict(t)) and v.flaw is None]
                assert len(accepted) == step.kind.carries_operation
                assert len(txids) <= 1 + chaos.consents
        ours = {attempt.txid for job in jobs for attempt in job.attempts()}
        burnt = [txid for txid, _ in world.burnt() if txid in ours]
        assert len(jobs) <= len(burnt) <= len(jobs) + chaos.consents
