"""Coins that a sender lacks are moved to it first, and what is said where there are none."""

from typing import Any

import pytest

from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.jobs import State
from indexer.wallet.signers import InsufficientFunds
from tests.indexer.registrar.fakes import POOR, World, made_world

BEGINS = made_world


def test_a_sender_without_coins_is_given_some_first(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"), POOR, fund=1_000)  # far too little
    for _ in range(3):
        world.turn()
        world.mine()
    (fund,) = (step for step in world.job(job_id).steps if step.kind is StepKind.FUND)
    assert fund.attempts[0].unsigned.outputs[0].value > 100_000  # the price is more than that
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(world.burnt()) == 1


def test_a_wallet_without_money_is_told_and_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = world.begin(RegisterName("bob.id"), POOR, fund=2_000_000)
    with monkeypatch.context() as poor:

        def pay(*_: object, **__: object) -> Any:
            raise InsufficientFunds("the coins hold 7 satoshis; send more; nothing was paid")

        poor.setattr(world.signer, "pay", pay)
        world.turn()
        job = world.job(job_id)
        assert job.state is State.RUNNING
        assert "send more; nothing was paid" in job.note
    world.run()
    assert world.job(job_id).state is State.DONE


def test_two_jobs_never_touch_each_others_coins(world: World) -> None:
    ids = [world.begin(RegisterName(f"name{number}.id")) for number in range(4)]
    world.run()
    spent: list[tuple[bytes, int]] = []
    for job_id in ids:
        job = world.job(job_id)
        assert job.state is State.DONE
        spent += [(c.txid, c.index) for a in job.attempts() for c in a.unsigned.coins]
    assert len(spent) == len(set(spent))
    assert len(world.burnt()) == 4
