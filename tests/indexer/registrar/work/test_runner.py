"""The passes over the jobs in a world where one thing goes wrong at a time."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.networks import SANDBOX
from indexer.node.node import NodeUnavailable
from indexer.protocol.rows import DamagedRow
from indexer.registrar.planning.wishes import RegisterName, UpdateName
from indexer.registrar.work import observe
from indexer.registrar.work.execute import Executor
from indexer.registrar.work.jobs import State
from indexer.registrar.work.journal import JournalError
from indexer.table.level import TableDamaged
from tests.indexer.registrar.fakes import DIGEST, OWNER, PAYER, World, made_world
from tests.indexer.registrar.work.rival import waiting

BEGINS = made_world


def test_a_name_is_registered_filled_published_and_resolved(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id", DIGEST))
    world.run()
    job = world.job(job_id)
    assert job.state is State.DONE
    record = world.seen.name("bob.id")
    assert record is not None
    assert (record.value_hash, record.sender) == (DIGEST, job.parties.owner)
    assert list(world.published) == [DIGEST]
    assert world.verified == ["bob.id"]
    assert [event.says for event in job.history][-1] == "all steps are done"
    assert not world.signer.kept  # nothing stays locked in the wallet


def test_at_debug_every_step_of_a_job_is_a_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "blockstore.registrar")
    job_id = world.begin(RegisterName("bob.id", DIGEST))
    world.run()
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.DEBUG]
    assert all(line.startswith(f"job {job_id} at block ") for line in said)
    assert {line.rpartition(" ")[2] for line in said} >= {"Make", "Send", "OffChain", "Rest"}


@pytest.mark.parametrize(
    "damage", [lambda: TableDamaged(Path("index"), "why"), lambda: DamagedRow("short")]
)
def test_over_a_damaged_table_nothing_is_paid_and_one_sentence_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    def refuse(*_: object, **named: object) -> bytes:
        raise damage()  # each anew: one that is kept would keep the world it passed through

    job_id = world.begin(RegisterName("bob.id"))
    monkeypatch.setattr(observe, "look", refuse)
    world.turn()
    assert world.runner.trouble == str(damage())
    assert not list(world.job(job_id).attempts())
    assert not caplog.records
    monkeypatch.undo()
    world.run()
    assert world.job(job_id).state is State.DONE


def test_the_registration_spends_the_change_of_its_preorder(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    world.run()
    preorder, register = (step.attempts[-1] for step in world.job(job_id).steps[:2])
    assert register.first_coin.txid == preorder.txid
    assert preorder.unsigned.change == register.first_coin.index


def test_after_a_long_sleep_nothing_is_sent_that_grew_too_old(made: Path, tmp_path: Path) -> None:
    with World(made, tmp_path) as world:
        job_id = world.begin(RegisterName("bob.id"))
        world.client.breaks = ["before"]
        world.turn()  # written down; the laptop is shut before the node hears of it
        (attempt,) = world.job(job_id).attempts()
        assert not waiting(world)
        world.node.generate(
            40, PAYER
        )  # it opens again: the node knows the chain, the index not yet
        world.turn()
        assert not waiting(world)
        assert "waiting for the index" in world.job(job_id).note
        world.follow()
        world.turn()
        (sent,) = waiting(world)
        assert sent != attempt.txid
        world.run()
        assert world.job(job_id).state is State.DONE
        assert len(world.burnt()) == 1


def test_a_node_that_has_been_asleep_itself_is_waited_for(world: World) -> None:
    world.runner.tip_age = 3600.0
    job_id = world.begin(RegisterName("bob.id"))
    world.now += 4000
    world.turn()
    assert not waiting(world)
    assert "the node does not know the newest blocks yet" in world.job(job_id).note
    world.mine()
    world.turn()
    assert len(waiting(world)) == 1


@pytest.mark.parametrize("confirmations", [2, 6])
def test_an_index_that_waits_for_confirmations_is_waited_for(
    made: Path, tmp_path: Path, confirmations: int
) -> None:
    network = replace(SANDBOX, confirmations=confirmations)
    with World(made, tmp_path, network=network) as world:
        world.mine(confirmations)
        job_id = world.begin(RegisterName("bob.id", DIGEST))
        world.run(60)
        assert world.job(job_id).state is State.DONE
        assert len(world.burnt()) == 1
        notes = [event.says for event in world.job(job_id).history]
        assert any(f"1 of {confirmations} confirmations" in note for note in notes)


def test_a_job_that_was_done_is_taken_up_again_when_the_chain_takes_it_back(
    world: World,
) -> None:
    job_id = world.begin(RegisterName("bob.id", DIGEST))
    world.run()
    assert world.job(job_id).state is State.DONE
    world.reorganise(3)
    assert world.seen.name("bob.id") is None
    world.turn()
    assert world.job(job_id).state is State.RUNNING
    world.run()
    assert world.job(job_id).state is State.DONE
    assert world.seen.name("bob.id") is not None
    assert len(world.burnt()) == 1


def test_a_registration_is_made_anew_when_another_preorder_was_mined(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    world.turn()
    first = world.job(job_id).steps[0].attempts[0]
    world.client.estimate = 50
    for _ in range(4):
        world.mine_empty()
        world.turn()
    second = world.job(job_id).steps[0].attempts[-1]
    assert second.txid != first.txid
    world.mine()
    world.turn()
    old = world.job(job_id).steps[1].attempts[-1]
    chain = world.node._chain
    world.node.invalidate(chain.tip.hash)
    for txid in waiting(world):
        world.node.evict(txid)
    world.node.submit(first.raw)  # a miner had kept the first one
    world.node.generate(2, PAYER)
    world.follow()
    world.run()
    job = world.job(job_id)
    assert job.state is State.DONE
    assert old in job.steps[1].lost
    assert job.steps[1].attempts[-1].first_coin.txid == first.txid
    assert len(world.burnt()) == 1


def test_a_node_that_is_down_is_waited_for_and_nothing_is_written(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    world.client.down = True
    for _ in range(3):
        world.turn()
    assert "cannot reach the node" in (world.runner.trouble or "")
    assert not world.job(job_id).history
    world.client.down = False
    world.run()
    assert world.job(job_id).state is State.DONE


def test_trouble_with_one_job_leaves_the_others_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = world.begin(RegisterName("bob.id"))
    good = world.begin(UpdateName("alice.id", DIGEST), OWNER)
    real = Executor.do

    def stumbles(self: Executor, job: Any, *rest: Any) -> bool:
        if job.id == bad:
            raise ZeroDivisionError("a mistake of ours")
        return real(self, job, *rest)

    monkeypatch.setattr(Executor, "do", stumbles)
    world.turn()
    assert "mistake of ours" in (world.runner.trouble or "")
    assert world.job(good).steps[0].attempts
    monkeypatch.undo()
    world.run()
    assert {world.job(bad).state, world.job(good).state} == {State.DONE}


def test_what_cannot_be_written_down_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    with monkeypatch.context() as full:

        def fails(name: str, content: bytes) -> None:
            raise JournalError("cannot write to the registrar's journal: No space left on device")

        full.setattr(world.journal, "_write", fails)
        world.turn()
        assert "No space left" in (world.runner.trouble or "")
        assert world.client.sends == 0
        assert not list(world.job(job_id).attempts())
    world.run()
    assert world.job(job_id).state is State.DONE


def test_a_pass_never_raises_and_two_at_once_are_one(world: World) -> None:
    world.begin(RegisterName("bob.id"))
    chain_info, asked = world.client.chain_info, []

    def asks_meanwhile() -> Any:
        asked.append(world.runner.turn())
        return chain_info()

    world.client.chain_info = asks_meanwhile  # type: ignore[method-assign]
    world.turn()
    assert asked == [None]

    def unavailable() -> Any:
        raise NodeUnavailable("the node is still starting")

    world.client.chain_info = unavailable  # type: ignore[method-assign]
    world.turn()
    assert world.runner.trouble == "the node is still starting"


def test_no_key_and_no_raw_transaction_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="blockstore.registrar")
    job_id = world.begin(RegisterName("bob.id"))
    world.run()
    assert caplog.records
    for attempt in world.job(job_id).attempts():
        assert attempt.raw is not None
        assert attempt.raw.hex() not in caplog.text
    for key in world.signer.named:
        assert key.wif(SANDBOX) not in caplog.text
