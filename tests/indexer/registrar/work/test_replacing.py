"""Transactions in the place of others: at their true sizes, for more than all they take away."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from indexer.bitcoin.transactions import TxOut, hash_hex
from indexer.bitcoin.witness import has_witness, virtual_size
from indexer.networks import SANDBOX
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.decide import PATIENCE
from indexer.registrar.work.jobs import Attempt, State
from indexer.registrar.work.orders import Orders
from indexer.wallet.node_wallet import NodeWallet
from indexer.wallet.payment import compose_payment
from indexer.wallet.signers import Payment
from tests.indexer.registrar.fakes import PAYER, POOR, World, person_key
from tests.indexer.registrar.work.rival import waiting

MONEY = 50_000_000


def bech32_wallet(world: World) -> Orders:
    """A desk at a wallet of the node with one bech32 coin, as Core makes them."""
    world.node.switches.segwit_wallet = True
    wallet = NodeWallet(world.client, SANDBOX)
    address = world.client.call("getnewaddress")
    script = bytes.fromhex(world.client.call("getaddressinfo", address)["scriptPubKey"])
    world.node.submit(world.signer.pay([TxOut(MONEY, script)], 20.0).raw)
    world.mine()
    world.runner.books.signers = {"own": wallet}
    return Orders(world.runner, {"own": wallet}, max_fee_rate=500.0)


def funds(world: World, job_id: str) -> tuple[Attempt, ...]:
    step = next(step for step in world.job(job_id).steps if step.kind is StepKind.FUND)
    return step.attempts


def test_the_rate_of_a_payment_is_that_of_its_bytes(world: World) -> None:
    world.client.estimate = 2
    orders = bech32_wallet(world)
    job = orders.begin(RegisterName("bob.id"), signer="own", max_total=MONEY)
    (fund,) = funds(world, job.id)
    assert fund.raw is not None
    assert has_witness(fund.raw)
    assert fund.fee_rate == fund.unsigned.fee / virtual_size(fund.raw)
    assert 2.0 <= fund.fee_rate < 2.1


def test_a_payment_that_waits_is_replaced_once_and_taken(world: World) -> None:
    world.client.estimate = 2
    orders = bech32_wallet(world)
    job = orders.begin(RegisterName("bob.id"), signer="own", max_total=MONEY)
    world.client.estimate = 10
    world.mine_empty(PATIENCE)
    for _ in range(20):
        world.turn()
    first, second = funds(world, job.id)
    assert second.refusal is None
    assert second.unsigned.fee > first.unsigned.fee
    entry = world.client.call("getmempoolentry", hash_hex(second.txid or b""))
    shown = entry["fees"]["base"] * 10**8 / entry["vsize"]
    assert float(shown) == pytest.approx(second.fee_rate)
    world.run()
    assert world.job(job.id).state is State.DONE


def test_a_replacement_that_would_pay_no_more_is_not_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay = world.signer.pay

    def stubborn(outputs: Sequence[TxOut], rate: float, **more: Any) -> Payment:
        return pay(outputs, 5.0, **more)  # a signer that does not do as it is told

    monkeypatch.setattr(world.signer, "pay", stubborn)
    world.client.estimate = 5
    job_id = world.begin(RegisterName("bob.id"), POOR, fund=1_000_000)
    world.turn()
    world.client.estimate = 50
    world.mine_empty(PATIENCE)
    for _ in range(30):
        world.turn()
    assert len(funds(world, job_id)) == 1
    assert "nodes ask for more than" in world.job(job_id).note
    world.client.estimate = 5
    world.run()
    assert world.job(job_id).state is State.DONE


def test_the_fee_of_what_builds_upon_it_is_reckoned_in_a_replacement(world: World) -> None:
    world.client.estimate = 2
    job_id = world.begin(RegisterName("bob.id"), PAYER)
    world.turn()
    world.mine()
    world.client.estimate = 60
    world.turn()  # the registration is sent, for thirty times as much
    registration = world.job(job_id).steps[1].attempts[0]
    world.node.invalidate(world.node.tip)
    world.follow()
    assert world.node.mempool_size == 2
    world.client.estimate = 10
    world.mine_empty(PATIENCE + 1)
    for _ in range(10):
        world.turn()
    first, *others = world.job(job_id).steps[0].attempts
    assert [attempt.refusal for attempt in others] == [None]
    (second,) = others
    assert second.unsigned.fee > first.unsigned.fee + registration.unsigned.fee
    world.client.estimate = 2
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(world.burnt()) == 1


def test_a_wallet_of_many_names_is_paid_for_at_once(world: World) -> None:
    world.client.estimate = 2
    orders = bech32_wallet(world)
    jobs = [
        orders.begin(RegisterName(f"n{n}.id"), signer="own", max_total=MONEY).id for n in range(8)
    ]
    senders = {world.job(each).parties.sender for each in jobs}
    assert len(senders) > 1
    world.run()
    ended = [world.job(each) for each in jobs]
    assert {job.state for job in ended} == {State.DONE}
    paid = [a for job in ended for s in job.steps if s.kind is StepKind.FUND for a in s.attempts]
    assert len(paid) <= 2  # the first's own, and one for all that came while it waited
    owners = {job.parties.owner for job in ended}
    assert not owners & {coin.script for payment in paid for coin in payment.unsigned.coins}
    assert Decimal(str(world.client.call("getbalances")["mine"]["trusted"])) > 0


def test_more_coins_are_moved_for_a_transaction_that_its_own_cannot_raise(world: World) -> None:
    world.client.estimate = 1
    orders = bech32_wallet(world)
    job_id = orders.begin(RegisterName("bob.id"), signer="own", max_total=MONEY).id
    orders.resume(job_id)  # it may pay all that the settings allow
    while not world.job(job_id).steps[1].attempts:
        world.turn()
        if not world.job(job_id).steps[1].attempts:
            world.mine()
    world.client.estimate = 200
    world.mine_empty(PATIENCE)
    for _ in range(5):
        world.turn()
    job = world.job(job_id)
    moves = [step for step in job.steps if step.kind is StepKind.FUND]
    assert len(moves) == 2
    assert moves[1].attempts
    waiting = next(step for step in job.steps if step.kind is StepKind.PREORDER).attempts[-1]
    world.mine_only(moves[1].attempts[-1].txid or b"")
    world.turn()
    raised = next(s for s in world.job(job_id).steps if s.kind is StepKind.PREORDER).attempts[-1]
    assert raised.fee_rate > 100 * waiting.fee_rate
    assert replace(raised, refusal=None) == raised
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(world.burnt()) == 1


@pytest.mark.parametrize("fund", [0, 700_000])
def test_a_coin_that_is_spent_elsewhere_is_replaced_by_another(world: World, fund: int) -> None:
    """One that another coin stands beside, by which the transaction cannot be mined twice."""
    sender, other = person_key("fresh 37"), person_key("fresh 38")
    payer = other if fund else sender
    world.node.submit(world.signer.pay([TxOut(400_000, payer.script)] * 3, 20.0).raw)
    world.mine()
    world.signer.purse = payer.script
    world.client.breaks = ["before"]  # signed and written down, and never sent
    job_id = world.begin(RegisterName("bob.id"), sender.script, fund=fund)
    world.turn()
    (first,) = world.job(job_id).steps[0].attempts
    assert len(first.unsigned.coins) == 2
    elsewhere = compose_payment(
        [TxOut(100_000, PAYER)], first.unsigned.coins[1:], PAYER, fee_rate=20.0
    )
    world.node.submit(world.signer.sign(elsewhere))
    world.mine_only(*waiting(world))
    world.turn()
    second = world.job(job_id).steps[0].attempts[-1]
    assert second.first_coin == first.first_coin
    assert first.unsigned.coins[1] not in second.unsigned.coins
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(world.burnt()) == 1


def test_a_payment_that_was_replaced_takes_nothing_of_what_it_paid_for_with_it(
    world: World,
) -> None:
    """A reorganisation takes back the coins that a registration was raised with."""
    world.client.estimate = 1
    orders = bech32_wallet(world)
    job_id = orders.begin(RegisterName("bob.id"), signer="own", max_total=MONEY).id
    while len(world.job(job_id).steps) < 5:  # until coins are moved for the registration, too
        world.turn()
        world.mine()
        world.client.estimate = 10
    world.turn()
    register = next(s for s in world.job(job_id).steps if s.kind is StepKind.REGISTER)
    moved = world.job(job_id).steps[2].attempts[-1]
    assert register.attempts[-1].unsigned.coins[-1].txid == moved.txid
    for txid in waiting(world):
        world.node.evict(txid)
    world.node.invalidate(world.node.tip)
    world.node.evict(moved.txid or b"")
    other = orders.runner.books.signers["own"].pay(  # somebody else's, from the same coin
        [TxOut(700_000, PAYER)], 50.0, spending=moved.unsigned.coins
    )
    world.node.submit(other.raw)
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(world.burnt()) == 1
