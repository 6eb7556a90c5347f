"""One thing is done for a job at a time: made, sent, called back, or waited for with a reason."""

import shutil
from dataclasses import replace

import pytest

from indexer.bitcoin.transactions import TxOut, parse_transaction
from indexer.node.node import NodeRpcError
from indexer.registrar.planning.wishes import RegisterName, RenewName, RevokeName, UpdateName
from indexer.registrar.work.actions import Send
from indexer.registrar.work.execute import Executor
from indexer.registrar.work.jobs import State
from indexer.sandbox.blocks import serialize
from indexer.wallet.coins import Unsigned
from indexer.wallet.psbt import sign_psbt, signed_transaction, write_psbt
from indexer.wallet.signers import NeedsSignature, WalletLocked
from tests.indexer.registrar.fakes import DIGEST, OWNER, POOR, RingSigner, World, made_world
from tests.indexer.registrar.work.rival import ours_burnt, rival_takes, waiting

BEGINS = made_world


def test_a_preorder_whose_name_is_taken_is_called_back_in_time(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id", DIGEST))
    world.turn()
    assert len(waiting(world)) == 1
    rival_takes(world, "bob.id")
    world.run()
    job = world.job(job_id)
    assert job.state is State.FAILED
    assert "the name belongs to somebody; what was on its way was taken back in time" in job.note
    assert "Nothing was paid but" in job.note
    assert ours_burnt(world, job_id) == 0


def test_a_preorder_that_was_mined_before_the_name_was_taken_is_lost_and_told(
    world: World,
) -> None:
    job_id = world.begin(RegisterName("bob.id", DIGEST))
    world.turn()
    (preorder,) = waiting(world)
    rival_takes(world, "bob.id", preorder)
    world.run()
    job = world.job(job_id)
    assert job.state is State.FAILED
    assert "the name belongs to somebody. 640000 satoshis were paid for it" in job.note
    assert not job.steps[1].attempts  # no registration was sent after it


def test_what_is_taken_before_anything_is_sent_costs_nothing(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id", DIGEST))
    rival_takes(world, "bob.id")
    world.turn()
    job = world.job(job_id)
    assert (job.state, not any(job.attempts())) == (State.FAILED, True)
    assert job.note.endswith("Nothing was paid.")


def test_a_preorder_that_waits_for_too_long_is_made_anew_from_the_same_coin(
    world: World,
) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    for _ in range(21):
        world.turn()
        world.mine_empty()
    world.turn()
    attempts = world.job(job_id).steps[0].attempts
    named = list(dict.fromkeys(attempt.consensus_hash for attempt in attempts))
    assert len(named) >= 2
    assert len({attempt.first_coin for attempt in attempts}) == 1
    fees = [attempt.unsigned.fee for attempt in attempts]
    assert fees == sorted(fees)
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(world.burnt()) == 1


def test_a_fee_is_raised_up_to_the_ceiling_and_no_further(world: World) -> None:
    job_id = world.begin(RevokeName("alice.id"), OWNER, max_fee_rate=20.0)
    world.client.estimate = 400
    for _ in range(30):
        world.turn()
        world.mine_empty()
    job = world.job(job_id)
    assert max(attempt.fee_rate for attempt in job.attempts()) <= 20.5
    assert "the most that this job may pay by itself is 20.0" in job.note
    world.run()
    assert world.job(job_id).state is State.DONE


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_connection_that_breaks_at_the_send_is_no_second_payment(
    world: World, where: str
) -> None:
    job_id = world.begin(RegisterName("bob.id", DIGEST))
    world.client.breaks = [where] * 3
    world.turn()
    assert "the connection broke off" in (world.runner.trouble or "")
    world.run()
    assert world.runner.trouble is None
    job = world.job(job_id)
    assert job.state is State.DONE
    assert [len(step.attempts) for step in job.steps] == [1, 1, 0, 0]


def test_what_is_in_the_chain_already_counts_as_sent(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    world.turn()
    job = world.job(job_id)
    world.mine()
    attempt = job.steps[0].attempts[0]
    executor = Executor(world.runner.books, world.client, world.table.snapshot, world.zones)
    seen = world.runner.look(job, world.runner.ask_node())
    executor.do(job, Send(0, attempt), seen, set())  # error -27
    assert world.job(job_id).steps[0].attempts[0].refusal is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-26, "scriptpubkey"),
        (-26, "txn-mempool-conflict"),
        (-25, "bad-txns-inputs-missingorspent"),
        (-26, "max-fee-exceeded"),
    ],
)
def test_a_refusal_is_told_with_what_was_paid_and_offered_again(
    world: World, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    with monkeypatch.context() as broken:

        def refuses(raw: bytes) -> bytes:
            raise NodeRpcError(code, words, "sendrawtransaction")

        broken.setattr(world.client, "send_transaction", refuses)
        world.turn()
        job = world.job(job_id)
        assert job.state is State.RUNNING
        assert f"the node does not take the preorder: {words}. Nothing was paid." in job.note
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(list(world.job(job_id).attempts())) == 2


def test_a_node_that_asks_for_more_is_paid_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    asked: list[int] = []
    real = world.client.send_transaction

    def dear(raw: bytes) -> bytes:
        asked.append(len(raw))
        if len(asked) < 3:
            raise NodeRpcError(-26, "mempool min fee not met, 1000 < 3000", "sendrawtransaction")
        return real(raw)

    monkeypatch.setattr(world.client, "send_transaction", dear)
    world.turn()
    assert len(waiting(world)) == 1
    rates = [attempt.fee_rate for attempt in world.job(job_id).attempts()]
    assert len(rates) == 3
    assert rates == sorted(rates)
    world.run()
    assert len(world.burnt()) == 1


def test_without_an_estimate_the_floor_is_paid(world: World) -> None:
    fee = world.runner.ask_node().fee
    assert (fee.rate, fee.estimated) == (5.0, False)
    assert "the node has no estimate" in fee.says
    world.client.estimate = 33
    fee = world.runner.ask_node().fee
    assert (round(fee.rate), fee.estimated) == (33, True)


def test_a_preorder_of_a_journal_that_was_lost_is_not_paid_again(world: World) -> None:
    world.begin(RegisterName("bob.id", DIGEST), owner=OWNER)
    world.turn()
    world.mine()
    world.crash()
    shutil.rmtree(world.folder / "journal")
    world.start()
    job_id = world.begin(RegisterName("bob.id", DIGEST), owner=OWNER)
    world.run()
    job = world.job(job_id)
    assert job.state is State.DONE
    assert (job.steps[0].done, job.steps[0].attempts) == (True, ())
    assert len(world.burnt()) == 1


def test_a_coin_spent_elsewhere_is_told_and_paid_anew_only_with_consent(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    world.client.breaks = ["before"]
    world.turn()
    (attempt,) = world.job(job_id).attempts()
    coin = attempt.first_coin
    elsewhere = Unsigned((coin,), (TxOut(coin.value - 5_000, POOR),), 5_000)
    world.node.submit(world.signer.sign(elsewhere))
    world.mine()
    for _ in range(3):
        world.turn()
        world.mine_empty()
    job = world.job(job_id)
    assert job.state is State.NEEDS_CONSENT
    assert "was spent by another transaction. Nothing was paid." in job.note
    assert not ours_burnt(world, job_id)
    world.consent(job_id)
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(world.burnt()) == 1


def test_a_locked_wallet_is_told_and_waited_for(world: World) -> None:
    world.signer.refuses = WalletLocked("unlock the wallet with walletpassphrase; nothing was paid")
    job_id = world.begin(UpdateName("alice.id", DIGEST), OWNER)
    for _ in range(3):
        world.turn()
    job = world.job(job_id)
    assert job.state is State.RUNNING
    assert "unlock the wallet with walletpassphrase" in job.note
    assert len(job.history) == 1
    world.signer.refuses = None
    world.run()
    assert world.job(job_id).state is State.DONE


def test_a_signer_that_is_gone_is_told(world: World) -> None:
    job_id = world.begin(UpdateName("alice.id", DIGEST), OWNER, signer="another")
    world.turn()
    assert "another) is not set up any more" in world.job(job_id).note


def test_a_price_above_what_was_allowed_is_not_paid(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id", max_price=1000))
    world.turn()
    assert (
        "the price is 640000 satoshis now, and at most 1000 were allowed" in world.job(job_id).note
    )
    assert not waiting(world)


def test_what_is_given_up_in_time_is_paid_back(world: World) -> None:
    job_id = world.begin(RenewName("alice.id"), OWNER)
    world.turn()
    world.journal.save(replace(world.job(job_id), stopping=True))
    world.run()
    job = world.job(job_id)
    assert job.state is State.ABANDONED
    assert "Nothing was paid but" in job.note
    assert not ours_burnt(world, job_id)
    back = job.steps[0].attempts[-1]
    assert back.cancels
    assert [output.script for output in back.unsigned.outputs] == [OWNER]


def test_what_is_given_up_before_it_is_made_costs_nothing(world: World) -> None:
    job_id = world.begin(RenewName("alice.id"), OWNER)
    world.journal.save(replace(world.job(job_id), stopping=True))
    world.turn()
    assert world.job(job_id).state is State.ABANDONED
    assert not list(world.job(job_id).attempts())


class Elsewhere(RingSigner):
    """A signer without keys: it hands out what to sign."""

    kind = "offline"

    def sign(self, unsigned: Unsigned) -> bytes:
        found = [self.node._chain.find_transaction(coin.txid) for coin in unsigned.coins]
        previous = {one[0].txid: serialize(one[0]) for one in found if one is not None}
        raise NeedsSignature(write_psbt(unsigned, previous), unsigned)


def test_what_is_signed_elsewhere_waits_for_it_and_goes_on(world: World) -> None:
    offline = Elsewhere(world.node, ["payer"])
    world.runner.books.signers = {"paper": offline}
    job_id = world.begin(RegisterName("bob.id", DIGEST), signer="paper")
    for index in (0, 1):
        world.turn()
        job = world.job(job_id)
        assert job.state is State.WAITING_FOR_SIGNATURE
        assert "sign the PSBT" in job.note
        attempt = job.steps[index].attempts[-1]
        assert attempt.psbt is not None
        raw = signed_transaction(sign_psbt(attempt.psbt, offline.ring), attempt.unsigned)
        signed = replace(attempt, raw=raw, txid=parse_transaction(raw).txid)
        world.journal.save(job.with_changed(index, attempt, signed))
        world.turn()
        world.mine()
    world.run()
    assert world.job(job_id).state is State.DONE
    assert len(world.burnt()) == 1


def test_a_psbt_that_lies_for_too_long_is_made_anew_from_the_same_coin(world: World) -> None:
    world.runner.books.signers = {"paper": Elsewhere(world.node, ["payer"])}
    job_id = world.begin(RegisterName("bob.id"), signer="paper")
    world.turn()
    world.mine_empty(22)
    world.turn()
    first, second = world.job(job_id).steps[0].attempts
    assert first.consensus_hash != second.consensus_hash
    assert first.first_coin == second.first_coin
