"""What a person agreed to is what is paid: the fee rate and the price that the plan has shown."""

import json

from embit.hashes import hash160

from indexer.networks import PREORDER_EXPIRE, SANDBOX
from indexer.registrar.planning.wishes import RegisterName, RevokeName, UpdateName
from indexer.registrar.work.jobs import Job, State, job_json, read_job
from indexer.registrar.work.journal import JournalError
from indexer.wallet.signers import WalletLocked

WISH = RegisterName("bob.id")


def paid_rates(job: Job) -> list[float]:
    return [attempt.fee_rate for attempt in job.attempts()]


def test_the_rate_that_was_asked_for_is_paid_and_not_the_nodes_estimate(office):
    office.world.client.estimate = 50
    planned = office.orders.plan(WISH, signer="own", fee_rate=2.0)
    job = office.orders.begin(WISH, signer="own", fee_rate=2.0, max_total=planned.plan.total)
    office.world.run()
    done = office.orders.job(job.id)
    assert all(rate < 2.1 for rate in paid_rates(done))
    fees = sum(attempt.unsigned.fee for attempt in done.attempts())
    assert fees <= planned.plan.miners_fee


def test_without_one_the_nodes_estimate_is_paid(office):
    office.world.client.estimate = 50
    job = office.orders.begin(WISH, signer="own", max_total=10**9)
    assert all(49 < rate < 51 for rate in paid_rates(job))


def test_a_rate_that_proves_too_low_is_raised_in_small_steps(office):
    office.world.client.estimate = 300
    job = office.orders.begin(WISH, signer="own", fee_rate=2.0, max_total=10**9)
    for _ in range(7):
        office.world.mine_empty()
        office.world.runner.turn()
    rates = paid_rates(office.orders.job(job.id))
    assert len(rates) > 1
    assert max(rates) < 4


def test_a_job_that_was_written_down_before_rates_were_kept_is_read(office):
    job = office.orders.begin(WISH, signer="own", max_total=10**9)
    document = json.loads(json.dumps(job_json(job, SANDBOX)))
    del document["fee_rate"]
    assert read_job(document, SANDBOX) == job


def test_a_disk_that_is_full_after_the_first_payment_hides_nothing_of_it(office, monkeypatch):
    saved = []
    save = office.world.journal.save

    def full_later(job: Job) -> None:
        saved.append(job)
        if len(saved) > 2:
            raise JournalError("the disk is full")
        save(job)

    monkeypatch.setattr(office.world.journal, "save", full_later)
    job = office.orders.begin(WISH, signer="own", max_total=10**9)
    assert office.world.node.mempool_size == 1
    assert job.steps[0].attempts[0].price > 0
    monkeypatch.undo()
    office.world.run()
    assert office.world.seen.name("bob.id") is not None
    assert len(office.world.burnt()) == 1


def test_a_job_that_waits_for_a_higher_ceiling_gets_it_by_being_resumed(office):
    office.orders.max_fee_rate = office.orders.max_fee_rate = 6.0
    job = office.orders.begin(WISH, signer="own", max_total=10**9)
    office.world.client.estimate = 300
    for _ in range(4):
        office.world.mine_empty()
        office.world.runner.turn()
    waiting = office.orders.job(job.id)
    assert len(paid_rates(waiting)) == 1
    assert f"max_fee_rate allows with `blockstore-cli resume {job.id}`" in waiting.note
    office.orders.max_fee_rate = 500.0
    assert max(paid_rates(office.orders.resume(job.id))) > 290


def test_what_cannot_be_taken_back_is_told_and_holds_the_name_no_longer(office):
    office.registered()
    office.world.client.estimate = 20  # the owner's coin of 5,500 satoshis pays for just one of it
    wish = UpdateName("bob.id", hash160(b"other data"))
    job = office.orders.begin(wish, signer="own", max_total=10**9, content=b"other data")
    given_up = office.orders.abandon(job.id)
    assert given_up.state is State.ABANDONED
    assert "the update was sent and may still be mined" in given_up.note
    office.orders.plan(RevokeName("bob.id"), signer="own")
    office.world.mine(2)
    assert office.world.seen.name("bob.id").value_hash == wish.value_hash


def test_a_registration_that_waits_for_its_wallet_says_until_when_nothing_is_lost(office):
    job = office.orders.begin(WISH, signer="own", max_total=10**9)
    office.wallet.refuses = WalletLocked("the wallet is locked; unlock it")
    office.world.mine(2)
    office.world.runner.turn()
    told = office.orders.job(job.id)
    mined = office.world.seen.verdict(told.steps[0].attempts[0].txid).height
    assert "the wallet is locked; unlock it" in told.note
    assert f"in block {mined + PREORDER_EXPIRE} at the latest, or the price that was" in told.note
    office.wallet.refuses = None
    office.world.run()
    assert office.world.seen.name("bob.id") is not None


def test_what_costs_nothing_by_waiting_names_no_deadline(office):
    office.wallet.refuses = WalletLocked("the wallet is locked; unlock it")
    job = office.orders.begin(WISH, signer="own", max_total=10**9)
    assert "the wallet is locked" in job.note
    assert "at the latest" not in job.note


def test_a_job_without_its_signer_can_be_given_up(office):
    job = office.orders.begin(WISH, signer="own", max_total=10**9)
    del office.signers["own"]
    assert office.orders.abandon(job.id).state is State.ABANDONED
    told = office.orders.job(job.id).note
    assert "the preorder was sent and may still be mined: nobody here can take it back" in told
