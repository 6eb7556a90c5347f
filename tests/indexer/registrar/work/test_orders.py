"""Planning and beginning: what is agreed to is what is done."""

import pytest

from indexer.bitcoin.transactions import TxOut
from indexer.networks import SANDBOX
from indexer.protocol.rows import DamagedRow
from indexer.registrar.planning.refusals import CannotOrder, PlanRefused, Reason
from indexer.registrar.planning.wishes import RegisterName, RenewName, UpdateName
from indexer.registrar.work.jobs import State
from indexer.registrar.work.journal import Journal
from indexer.registrar.work.rivals import Rivals, waiting_operations
from indexer.table.snapshot import Snapshot
from tests.indexer.registrar.fakes import person_key
from tests.indexer.registrar.work.office import CONTENT, DIGEST, OTHER, REGISTER, Office, Wallet


def test_what_was_agreed_to_is_begun_and_ends_with_the_name_of_a_fresh_owner(office):
    planned = office.orders.plan(REGISTER, signer="own", has_data=True)
    job = office.orders.begin(REGISTER, signer="own", max_total=planned.plan.total, content=CONTENT)
    assert job.state is State.RUNNING
    office.world.run()
    record = office.world.seen.name("bob.id")
    assert record is not None
    assert record.value_hash == DIGEST
    assert record.sender == job.parties.owner != job.parties.sender
    assert office.world.published == {DIGEST: CONTENT}
    assert sum(value for _, value in office.world.burnt()) == planned.plan.price
    assert office.orders.payers.owned("own") == ["bob.id"]


def test_planning_alone_leaves_no_trace(office):
    office.orders.plan(REGISTER, signer="own")
    assert office.orders.jobs(everything=True) == []
    assert office.world.node.mempool_size == 0


def test_what_costs_more_than_was_agreed_to_is_not_begun(office):
    total = office.orders.plan(REGISTER, signer="own").plan.total
    with pytest.raises(CannotOrder, match=rf"costs {total} satoshis now, and {total - 1} were"):
        office.orders.begin(REGISTER, signer="own", max_total=total - 1)
    assert office.orders.jobs(everything=True) == []


def test_two_names_are_paid_from_different_coins(office):
    first = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    second = office.orders.begin(RegisterName("eve.id"), signer="own", max_total=10**9)
    spent = [
        {(c.txid, c.index) for a in job.attempts() for c in a.unsigned.coins}
        for job in (first, second)
    ]
    assert spent[0]
    assert spent[1]
    assert not spent[0] & spent[1]
    office.world.run()
    assert office.world.seen.name("eve.id") is not None


def test_what_the_chain_would_refuse_is_told_before_anything_is_paid(office):
    office.registered()
    with pytest.raises(PlanRefused) as refused:
        office.orders.plan(REGISTER, signer="own")
    assert refused.value.reason is Reason.NAME_TAKEN
    with pytest.raises(PlanRefused) as refused:
        office.orders.plan(UpdateName("nobody.id", DIGEST), signer="own")
    assert refused.value.reason is Reason.NAME_NOT_REGISTERED


def test_what_is_told_of_a_damaged_table_is_the_damage(office, monkeypatch):
    office.registered()
    office.orders.begin(RenewName("bob.id"), signer="own", max_total=10**9)

    def refuse(*_: object) -> bytes:
        raise DamagedRow("short")

    monkeypatch.setattr(Snapshot, "get", refuse)
    with pytest.raises(DamagedRow):
        office.orders.plan(RenewName("bob.id"), signer="own")


def test_what_can_be_moved_is_counted_for_the_one_who_will_send(office, monkeypatch):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    office.world.mine()
    office.world.runner.books.signers = {}  # nobody can sign the registration
    office.orders.abandon(job.id)
    office.world.runner.books.signers = office.signers
    asked = []
    spare = office.wallet.spare
    monkeypatch.setattr(office.wallet, "spare", lambda one: asked.append(one) or spare(one))
    payer = person_key(OTHER).script
    plan = office.orders.plan(REGISTER, signer="own", payer=payer).plan
    assert plan.parties.sender == job.parties.sender != payer
    assert asked == [job.parties.sender]


def test_without_a_signer_nothing_is_planned(office):
    with pytest.raises(CannotOrder, match="nobody signs here"):
        office.orders.plan(REGISTER, signer="offline")


def test_miners_who_ask_too_much_are_not_paid(office):
    with pytest.raises(CannotOrder, match="at most 500 are paid here"):
        office.orders.plan(REGISTER, signer="own", fee_rate=501.0)


def test_a_name_that_somebody_else_is_registering_now_is_told_before_it_is_paid(office):
    world = office.world
    office.orders.begin(RegisterName("eve.id"), signer="own", max_total=10**9)
    world.turn()
    world.mine()
    world.turn()  # the registration of eve.id waits in the mempool, and says its name
    (job,) = world.journal.jobs()
    found = waiting_operations(world.client, world.network, world.node.height + 1, ours=())
    assert found.seen
    assert [one.name for one in found.operations] == ["eve.id"]
    ours = {a.txid for a in job.attempts() if a.txid}
    assert waiting_operations(world.client, world.network, 1, ours) == Rivals((), True)
    with Journal(world.folder / "another", SANDBOX) as journal:
        world.runner.books.journal = journal  # whoever sent it is somebody else now
    with pytest.raises(PlanRefused) as refused:
        office.orders.plan(RegisterName("eve.id"), signer="own")
    assert refused.value.reason is Reason.BEING_REGISTERED


def test_a_name_that_another_daemon_renews_just_now_is_not_renewed_again(office):
    office.registered()
    other = Office(office.world)
    with Journal(office.world.folder / "another", SANDBOX) as journal:
        other.world.runner.books.journal = journal
        renewed = other.orders.begin(RenewName("bob.id"), signer="own", max_total=10**9)
        other.world.runner.books.journal = office.world.journal
    assert list(renewed.attempts())
    with pytest.raises(CannotOrder, match=r"a renewal of bob\.id waits to be mined already"):
        office.orders.begin(RenewName("bob.id"), signer="own", max_total=10**9)


def test_a_mempool_that_is_too_large_is_not_looked_through(office, monkeypatch):
    office.orders.begin(RegisterName("eve.id"), signer="own", max_total=10**9)
    monkeypatch.setattr("indexer.registrar.work.rivals.MAX_TRANSACTIONS", 0)
    planned = office.orders.plan(RegisterName("adam.id"), signer="own")
    assert not planned.rivals_seen


def test_the_coins_of_who_sends_are_not_counted_twice(office: Office) -> None:
    world, pauper = office.world, Wallet(office.world.node, ["pauper"])
    office.signers["pauper"] = pauper
    gifts = [TxOut(9_000, pauper.purse), TxOut(600, pauper.purse)]
    world.node.submit(world.signer.pay(gifts, 20.0).raw)
    world.mine()
    with pytest.raises(PlanRefused) as refused:
        office.orders.plan(RegisterName("poor.id"), signer="pauper")
    assert refused.value.reason is Reason.NOT_ENOUGH_MONEY


def test_a_fee_rises_by_itself_to_five_times_the_planned_one_and_further_when_allowed(office):
    job = office.orders.begin(
        REGISTER, signer="own", max_total=10**9, content=CONTENT, fee_rate=10.0
    )
    assert job.max_fee_rate == 50.0
    assert office.orders.fee_ceiling(1.0) == 20.0
    assert office.orders.fee_ceiling(400.0) == 500.0
    office.orders.resume(job.id)
    assert office.orders.job(job.id).max_fee_rate == 500.0


def test_a_job_pays_the_price_that_was_agreed_to_and_no_other(office):
    planned = office.orders.plan(REGISTER, signer="own")
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    assert isinstance(job.wish, RegisterName)
    assert job.wish.max_price == planned.plan.price


@pytest.mark.parametrize(("most", "taken"), [(0, False), (44, False), (82, True), (None, True)])
def test_what_the_node_would_not_pass_on_is_told_before_the_price_is_paid(office, most, taken):
    office.world.node.switches.max_datacarrier = most
    if taken:
        office.registered()
        return
    with pytest.raises(PlanRefused, match=f"passes on {most} bytes of OP_RETURN") as refused:
        office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    assert refused.value.reason is Reason.NOT_CARRIED
    assert "datacarriersize=83" in refused.value.hint
    assert not office.orders.jobs(everything=True)
