"""Many jobs of one sender that lack coins: moved at once, and one for each."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from indexer.bitcoin.transactions import TxOut
from indexer.registrar.planning.steps import Parties, StepKind
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.jobs import Job, State, Step
from indexer.registrar.work.sharing import (
    MAX_COINS_AT_ONCE,
    carriers,
    counts,
    lacking,
    lacks,
)
from indexer.wallet.coins import Coin
from indexer.wallet.signers import InsufficientFunds, Payment
from tests.indexer.registrar.fakes import OWNER, PAYER, POOR, World

AMOUNT = 200_000
MANY = 9


def begun(world: World, count: int = MANY) -> list[str]:
    return [
        world.begin(RegisterName(f"many{n}.id"), sender=POOR, fund=AMOUNT) for n in range(count)
    ]


def payments(job: Job) -> list[int]:
    """How many coins each payment to the sender brought."""
    return [
        len(attempt.brought)
        for step in job.steps
        if step.kind is StepKind.FUND
        for attempt in step.attempts
    ]


def test_one_payment_brings_a_coin_to_each_job(world: World) -> None:
    jobs = begun(world)
    world.turn()
    assert payments(world.job(jobs[0])) == [MANY]
    assert "on their way" in world.job(jobs[-1]).note
    world.run()
    ended = [world.job(job_id) for job_id in jobs]
    assert {job.state for job in ended} == {State.DONE}
    assert [payments(job) for job in ended] == [[MANY], *[[]] * (MANY - 1)]
    firsts = [step.attempts[0].first_coin for job in ended for step in job.steps if step.attempts]
    assert len(set(firsts)) == len(firsts)
    assert len(world.burnt()) == MANY


def test_the_others_go_on_where_the_one_that_pays_is_given_up(world: World) -> None:
    first, *others = begun(world, 4)
    world.turn()
    world.journal.save(replace(world.job(first), stopping=True))
    world.run()
    assert world.job(first).state is State.ABANDONED
    assert {world.job(job_id).state for job_id in others} == {State.DONE}


def test_a_payment_that_is_lost_holds_nobody_up(world: World) -> None:
    jobs = begun(world, 3)
    world.turn()
    (payment,) = world.job(jobs[0]).steps[0].attempts
    world.node.evict(payment.txid or b"")
    world.run()
    assert {world.job(job_id).state for job_id in jobs} == {State.DONE}


def test_where_money_is_short_fewer_coins_are_brought_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay = world.signer.pay

    def poor(outputs: Sequence[TxOut], *rest: Any, **more: Any) -> Payment:
        if len(outputs) > 2:
            raise InsufficientFunds("too few coins")
        return pay(outputs, *rest, **more)

    monkeypatch.setattr(world.signer, "pay", poor)
    jobs = begun(world)
    world.turn()
    assert payments(world.job(jobs[0])) == [2]
    world.run()
    assert {world.job(job_id).state for job_id in jobs} == {State.DONE}


def test_a_wallet_that_forgot_what_it_keeps_spends_no_coin_of_another_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    coins, signer = world.signer.coins, world.signer

    def free(script: bytes) -> list[Coin]:
        return [coin for coin in coins(script) if (coin.txid, coin.index) not in signer.kept]

    monkeypatch.setattr(signer, "coins", free)
    first = world.begin(RegisterName("first.id"))
    world.client.breaks = ["before"]  # signed and written down, and never sent
    world.turn()
    spent = set(world.job(first).steps[0].attempts[0].unsigned.coins)
    signer.kept.clear()
    least = min(coin.value for coin in spent) - 20_000
    assert spent & set(signer.pay([TxOut(least, POOR)], 20.0).unsigned.coins)
    world.client.down = True  # so that nothing else is sent before the second is begun
    world.turn()
    world.client.down = False
    second = world.begin(RegisterName("second.id"), sender=POOR, fund=least)
    world.runner.advance(second)
    (fund,) = world.job(second).steps[0].attempts
    assert not spent & set(fund.unsigned.coins)
    world.run()
    assert {world.job(each).state for each in (first, second)} == {State.DONE}
    assert len(world.job(first).steps[0].attempts) == 1


def job(number: int, amount: int = AMOUNT, **more: object) -> Job:
    parties = Parties(PAYER, OWNER)
    steps = (Step(StepKind.FUND, amount=amount), Step(StepKind.PREORDER))
    made = Job(f"job{number:05}", RegisterName("a.id"), parties, "own", steps, 0, 10.0)
    return replace(made, **more)  # type: ignore[arg-type]


def test_all_jobs_of_a_signer_share_a_payment_whoever_sends() -> None:
    one, dear, other = job(1), job(3, AMOUNT * 30), job(4, parties=Parties(OWNER, OWNER))
    elsewhere = job(5, signer="offline")
    stopping, waiting = job(6, stopping=True), job(7, state=State.NEEDS_CONSENT)
    pending = [one, dear, other, elsewhere, stopping, waiting]
    assert lacking(one, pending) == [one, dear, other]
    assert lacking(other, pending, {dear.id}) == [one, other]
    assert lacking(dear, pending, {dear.id}) == [one, dear, other]
    assert [lacks(each) for each in (stopping, waiting)] == [0, 0]
    assert not carriers(one, pending)


def test_senders_of_many_addresses_are_paid_at_once(world: World) -> None:
    scripts = [world.signer.fresh_script("payments") for _ in range(MANY)]
    jobs = [
        world.begin(RegisterName(f"many{n}.id"), sender=script, fund=AMOUNT)
        for n, script in enumerate(scripts)
    ]
    world.turn()
    (payment,) = world.job(jobs[0]).steps[0].attempts
    assert {output.script for output in payment.brought} == set(scripts)
    assert world.node.mempool_size == 1
    world.run()
    assert {world.job(each).state for each in jobs} == {State.DONE}
    assert len(world.burnt()) == MANY


def test_a_job_that_money_is_too_short_for_holds_no_other_up(world: World) -> None:
    dear = world.begin(RegisterName("dear.id"), sender=POOR, fund=10**12)
    cheap = world.begin(RegisterName("cheap.id"), sender=OWNER, fund=AMOUNT)
    for _ in range(8):
        world.turn()
        world.mine()
    assert world.job(cheap).state is State.DONE
    assert world.job(dear).state is State.DONE  # less is enough, and was moved


def test_fewer_coins_are_tried_where_many_cannot_be_paid() -> None:
    assert list(counts(10**6)) == [MAX_COINS_AT_ONCE, 62, 15, 3, 1]
    assert list(counts(1)) == [1]
