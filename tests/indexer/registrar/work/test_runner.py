"""The registrar in a world where one thing goes wrong at a time: what it does, and what it says."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from indexer.bitcoin.transactions import TxOut, parse_transaction
from indexer.networks import SANDBOX
from indexer.node.node import NodeRpcError, NodeUnavailable
from indexer.protocol.names import hash_name
from indexer.protocol.operations import Preorder, Register
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import RegisterName, RenewName, RevokeName, UpdateName
from indexer.registrar.work.actions import Send
from indexer.registrar.work.doing import Doing
from indexer.registrar.work.jobs import State
from indexer.registrar.work.journal import JournalError
from indexer.registrar.work.unindexed import Unindexed
from indexer.sandbox.blocks import serialize
from indexer.wallet.coins import Unsigned
from indexer.wallet.psbt import sign_psbt, signed_transaction, write_psbt
from indexer.wallet.signers import InsufficientFunds, NeedsSignature, WalletLocked
from tests.fakes_registrar import (
    DIGEST,
    OWNER,
    PAYER,
    POOR,
    RingSigner,
    World,
    fast_folder,
    made_world,
    person_key,
    send,
)

RIVAL = person_key("other")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with TemporaryDirectory(dir=fast_folder()) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_world(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Iterator[World]:
    with World(made, tmp_path) as found:
        yield found


def waiting(world: World) -> list[bytes]:
    return [entry.transaction.txid for entry in world.node._chain.mempool]


def rival_takes(world: World, name: str, *also: bytes) -> None:
    """Somebody else has ``name``, and the index knows it."""
    rival_registers(world, name, *also)
    taken = world.seen.name(name)
    assert taken is not None
    assert taken.sender == RIVAL.script


def rival_registers(world: World, name: str, *also: bytes) -> None:
    """Somebody else preorders and registers ``name``; the miners leave our transactions out, but
    for those that are named."""
    height = world.seen.height
    price = Preorder(
        preorder_hash=hash_name(name, RIVAL.script, RIVAL.address(SANDBOX)),
        consensus_hash=world.seen.consensus_hash(height) or b"",
        op_fee=640_000,
        fee_script=SANDBOX.burn_script,
    )
    world.mine_only(send(world.signer, SANDBOX, RIVAL, price), *also)
    registration = Register(name=name, recipient=RIVAL.script)
    world.mine_only(send(world.signer, SANDBOX, RIVAL, registration))


def ours_burnt(world: World, job_id: str) -> int:
    ours = {attempt.txid for attempt in world.job(job_id).attempts()}
    return sum(satoshis for txid, satoshis in world.burnt() if txid in ours)


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
    assert {line.rpartition(" ")[2] for line in said} >= {"Wait", "Publish", "Verify", "Finish"}


def test_the_registration_spends_the_change_of_its_preorder(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    world.run()
    preorder, register = (step.attempts[-1] for step in world.job(job_id).steps[:2])
    assert register.first_coin.txid == preorder.txid
    assert preorder.unsigned.change == register.first_coin.index


# --- somebody else is quicker


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


# --- time


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


# --- reorganisations


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


# --- the node says no, or nothing


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


def test_what_is_in_the_chain_already_counts_as_sent(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    world.turn()
    job = world.job(job_id)
    world.mine()
    attempt = job.steps[0].attempts[0]
    doing = Doing(world.runner.books, world.client, world.table.snapshot, world.network)
    seen = world.runner.look(job, world.runner.ask_node())
    doing.do(job, Send(0, attempt), seen, set())  # error -27
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


# --- coins


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


def test_a_price_above_what_was_allowed_is_not_paid(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id", max_price=1000))
    world.turn()
    assert (
        "the price is 640000 satoshis now, and at most 1000 were allowed" in world.job(job_id).note
    )
    assert not waiting(world)


# --- giving up


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


# --- signed elsewhere


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


# --- off the chain, and trouble of all kinds


def test_publishing_and_resolving_are_tried_until_they_work(world: World) -> None:
    answers = iter([False, False, True])
    world._verify = lambda name, digest: next(answers)
    copies = iter([0, 2])
    publish = world._publish
    world._publish = lambda digest, content: min(next(copies), publish(digest, content) * 2)
    job_id = world.begin(UpdateName("alice.id", DIGEST), OWNER)
    world.run()
    job = world.job(job_id)
    assert job.state is State.DONE
    notes = [event.says for event in job.history]
    assert any("no other node has taken the data yet" in note for note in notes)
    assert sum("does not resolve to what was written yet" in note for note in notes) == 1


def test_trouble_with_one_job_leaves_the_others_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = world.begin(RegisterName("bob.id"))
    good = world.begin(UpdateName("alice.id", DIGEST), OWNER)
    real = Doing.do

    def stumbles(self: Doing, job: Any, *rest: Any) -> bool:
        if job.id == bad:
            raise ZeroDivisionError("a mistake of ours")
        return real(self, job, *rest)

    monkeypatch.setattr(Doing, "do", stumbles)
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
