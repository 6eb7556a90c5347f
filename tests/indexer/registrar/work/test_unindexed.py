"""The newest blocks, which the index takes later: a rival in them is seen at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from indexer.networks import SANDBOX
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.jobs import State
from indexer.registrar.work.unindexed import Unindexed
from tests.indexer.registrar.fakes import DIGEST, World, made_world
from tests.indexer.registrar.work.rival import ours_burnt, rival_registers, waiting

BEGINS = made_world


@pytest.mark.parametrize("mined", [False, True])
def test_a_rival_is_noticed_before_the_index_may_know(
    made: Path, tmp_path: Path, mined: bool
) -> None:
    """Six confirmations are an hour, in which a preorder on its way can still be called back."""
    with World(made, tmp_path, network=replace(SANDBOX, confirmations=6)) as world:
        world.mine(6)
        job_id = world.begin(RegisterName("bob.id", DIGEST))
        world.turn()
        ours = waiting(world)
        rival_registers(world, "bob.id", *(ours if mined else []))
        assert world.seen.name("bob.id") is None
        world.turn()
        step = world.job(job_id).steps[0]
        assert step.attempts[-1].cancels is not mined
        world.run(60)
        job = world.job(job_id)
        assert job.state is State.FAILED
        assert ours_burnt(world, job_id) == (640_000 if mined else 0)
        assert ("640000 satoshis were paid for it" if mined else "Nothing was paid but") in job.note


def test_a_rival_whose_block_was_orphaned_is_forgotten(made: Path, tmp_path: Path) -> None:
    with World(made, tmp_path, network=replace(SANDBOX, confirmations=6)) as world:
        world.mine(6)
        rival_registers(world, "bob.id")
        look = Unindexed(world.client).look
        assert look(world.seen, world.node.height).mined
        world.reorganise(2)
        for txid in waiting(world):
            world.node.evict(txid)
        assert not look(world.seen, world.node.height).mined
        job_id = world.begin(RegisterName("bob.id"))
        world.run(60)
        assert world.job(job_id).state is State.DONE


def test_what_lies_ahead_is_what_the_index_then_says(made: Path, tmp_path: Path) -> None:
    with World(made, tmp_path, network=replace(SANDBOX, confirmations=4)) as world:
        world.mine(4)
        rival_registers(world, "bob.id")
        ahead = Unindexed(world.client).look(world.seen, world.node.height)
        assert ahead.height == world.node.height > world.seen.height
        keys = [key for key, _ in ahead.store.scan(b"N")]  # type: ignore[attr-defined]
        rows = {key: ahead.store.get(key) for key in keys}
        world.mine(3)
        assert rows == dict(world.seen.scan(b"N"))
