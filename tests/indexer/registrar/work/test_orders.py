"""What people tell the registrar: planned, agreed to, begun once, signed elsewhere, given up."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from embit.hashes import hash160

from indexer.bitcoin.transactions import TxOut
from indexer.registrar.planning.refusals import CannotOrder, NoSuchJob, PlanRefused, Reason
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import (
    PreorderNamespace,
    RegisterName,
    RevealNamespace,
    RevokeName,
    TransferName,
    UpdateName,
)
from indexer.registrar.work.jobs import State
from indexer.registrar.work.orders import Orders
from indexer.registrar.work.rivals import Rivals, waiting_operations
from indexer.wallet.coins import Coin
from indexer.wallet.keys import KeyRing, multisig_script, script_of_redeem_script
from indexer.wallet.offline import Offline
from indexer.wallet.psbt import sign_psbt
from indexer.wallet.signers import NoLegacyAddresses
from tests.fakes_registrar import BIG, RingSigner, World, person_key, template

CONTENT = b"$ORIGIN bob.id\n@ A 192.0.2.1\n"
DIGEST = hash160(CONTENT)
REGISTER = RegisterName("bob.id", DIGEST)
PAYER, OTHER = "payer", "other"
STRANGER = person_key("a stranger").script


class Wallet(RingSigner):
    """A wallet that tells what it has."""

    def held(self) -> Sequence[bytes]:
        return [script for script in self.ring.scripts if self.coins(script)]

    def legacy_coins(self) -> Sequence[Coin]:
        return [coin for script in self.ring.scripts for coin in self.coins(script)]

    def spare(self, sender: bytes) -> int:
        return sum(coin.value for coin in self.legacy_coins() if coin.script != sender)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("template"))


class Office:
    """A world with a desk in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wallet = Wallet(world.node, [PAYER, OTHER])
        self.signers = {"own": self.wallet}
        world.runner.books.signers = self.signers
        self.orders = Orders(
            world.runner, self.signers, max_fee_rate=500.0, clock=lambda: world.now
        )

    def registered(self, name: str = "bob.id") -> None:
        self.orders.begin(
            RegisterName(name, DIGEST), signer="own", max_total=10**9, content=CONTENT
        )
        self.world.run()
        assert self.world.seen.name(name) is not None


@pytest.fixture
def office(made: Path, tmp_path: Path) -> Iterator[Office]:
    shutil.rmtree(tmp_path)
    with World(made, tmp_path) as world:
        yield Office(world)


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
    assert office.orders.begun.jobs(everything=True) == []
    assert office.world.node.mempool_size == 0


def test_what_costs_more_than_was_agreed_to_is_not_begun(office):
    total = office.orders.plan(REGISTER, signer="own").plan.total
    with pytest.raises(CannotOrder, match=rf"costs {total} satoshis now, and {total - 1} were"):
        office.orders.begin(REGISTER, signer="own", max_total=total - 1)
    assert office.orders.begun.jobs(everything=True) == []


def test_a_second_wish_for_the_same_name_waits_for_the_first(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    for ask in (office.orders.plan, lambda w, **o: office.orders.begin(w, max_total=10**9, **o)):
        with pytest.raises(CannotOrder, match=f"under way already \\({job.id}"):
            ask(REGISTER, signer="own")


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


def test_nobody_elses_name_is_touched(office):
    office.registered()
    wish = TransferName("bob.id", STRANGER)
    office.orders.begin(wish, signer="own", max_total=10**9)
    office.world.run()
    with pytest.raises(CannotOrder, match="is not of the wallet that signs here"):
        office.orders.plan(RevokeName("bob.id"), signer="own")
    assert office.orders.payers.owned("own") == []


def test_without_a_signer_nothing_is_planned(office):
    with pytest.raises(CannotOrder, match="nobody signs here"):
        office.orders.plan(REGISTER, signer="offline")


def test_miners_who_ask_too_much_are_not_paid(office):
    with pytest.raises(CannotOrder, match="at most 500 are paid here"):
        office.orders.plan(REGISTER, signer="own", fee_rate=501.0)


def test_a_payer_that_is_not_of_the_wallet_is_refused(office):
    with pytest.raises(CannotOrder, match="no key for that payer"):
        office.orders.plan(REGISTER, signer="own", payer=STRANGER)


def test_the_payer_that_was_named_pays(office):
    other = person_key(OTHER).script
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, payer=other)
    assert job.parties.sender == other


def test_an_owner_who_has_no_coins_to_send_with_is_helped_by_the_wallet(office):
    office.registered()
    wish = UpdateName("bob.id", hash160(b"other"))
    job = office.orders.begin(wish, signer="own", max_total=10**9, content=b"other")
    assert job.parties.funder is not None
    assert StepKind.FUND not in [step.kind for step in job.steps]
    office.world.run()
    record = office.world.seen.name("bob.id")
    assert record is not None
    assert record.value_hash == hash160(b"other")


def test_a_signer_without_fresh_addresses_owns_what_it_pays(office):
    def none_left(label: str) -> bytes:
        raise NoLegacyAddresses("all are in use")

    office.wallet.fresh_script = none_left
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9)
    assert job.parties.owner == job.parties.sender


def test_a_namespace_is_revealed_by_who_preordered_it(office):
    revealer = person_key("fresh 3").script
    office.orders.begin(PreorderNamespace("elsewhere", revealer), signer="own", max_total=10**10)
    office.world.run()
    terms = {"lifetime": 1000, "coeff": 250, "base": 4, "buckets": (0,) * 16}
    wish = RevealNamespace(
        "elsewhere", revealer, **terms, nonalpha_discount=10, no_vowel_discount=10
    )
    office.orders.begin(wish, signer="own", max_total=10**9)
    office.world.run()
    namespace = office.world.seen.namespace("elsewhere")
    assert namespace is not None
    assert namespace.recipient == revealer


# --- given up, and taken up again


def test_what_is_given_up_before_it_is_mined_costs_a_fee_at_most(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    office.orders.begun.abandon(job.id)
    office.world.run()
    assert office.orders.begun.job(job.id).state is State.ABANDONED
    assert office.world.burnt() == []
    with pytest.raises(CannotOrder, match="has ended"):
        office.orders.begun.abandon(job.id)


def test_what_was_given_up_is_taken_up_again(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    office.orders.begun.abandon(job.id)
    office.world.run()
    assert office.orders.begun.resume(job.id).state is State.RUNNING
    office.world.run()
    assert office.orders.begun.job(job.id).state is State.DONE


def test_consent_is_taken_only_where_it_was_asked_for(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    with pytest.raises(CannotOrder, match="does not wait for consent"):
        office.orders.begun.consent(job.id)


@pytest.mark.parametrize("deed", ["job", "resume", "consent", "abandon"])
def test_an_unknown_job_is_told(office, deed):
    with pytest.raises(NoSuchJob, match="nothing 'abcdef' was begun here"):
        getattr(office.orders.begun, deed)("abcdef")


# --- signed elsewhere


class Coins:
    """The coins of a sandbox's node."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet

    def coins(self, scripts: Sequence[bytes], known: Sequence[bytes] = ()) -> list[Coin]:
        return [coin for script in scripts for coin in self.wallet.coins(script)]


def offline(office: Office, scripts: Sequence[bytes], redeem: Sequence[bytes] = ()) -> None:
    world = office.world
    signer = Offline(scripts, world.client, world.network, Coins(office.wallet), redeem)
    office.signers["offline"] = signer


def signed_until_done(office: Office, job_id: str, *rings: KeyRing) -> None:
    for _ in range(20):
        office.world.turn()
        job = office.orders.begun.job(job_id)
        if job.state is State.WAITING_FOR_SIGNATURE:
            for ring in rings:
                (psbt,) = [
                    a.psbt for a in office.orders.begun.job(job_id).attempts() if a.raw is None
                ]
                office.orders.begun.hand_in(job_id, sign_psbt(psbt or "", ring))
        elif not job.state.is_open:
            return
        office.world.mine()
    raise AssertionError(office.orders.begun.job(job_id).note)


def test_each_step_goes_out_to_be_signed_and_on_with_what_comes_back(office):
    other = person_key(OTHER)
    offline(office, [other.script])
    job = office.orders.begin(
        REGISTER, signer="offline", max_total=10**9, content=CONTENT, payer=other.script
    )
    assert job.state is State.WAITING_FOR_SIGNATURE
    signed_until_done(office, job.id, KeyRing([other]))
    assert office.orders.begun.job(job.id).state is State.DONE
    record = office.world.seen.name("bob.id")
    assert record is not None
    assert record.value_hash == DIGEST


def test_of_a_multisig_owner_each_signature_is_kept_until_there_are_enough(office):
    keys = [person_key(f"partner {n}") for n in range(3)]
    redeem = multisig_script(2, [key.public_key for key in keys])
    owner = script_of_redeem_script(redeem)
    office.world.node.submit(office.wallet.pay([TxOut(BIG, owner)], 20.0).raw)
    office.world.mine()
    offline(office, [], [redeem])
    job = office.orders.begin(
        REGISTER, signer="offline", max_total=10**9, content=CONTENT, payer=owner
    )
    rings = [KeyRing([key], [redeem]) for key in keys[:2]]
    signed_until_done(office, job.id, *rings)
    record = office.world.seen.name("bob.id")
    assert record is not None
    assert record.sender == owner


def test_what_is_handed_in_must_be_what_was_handed_out(office):
    other, payer = person_key(OTHER), person_key(PAYER)
    offline(office, [other.script, payer.script])
    first = office.orders.begin(
        REGISTER, signer="offline", max_total=10**9, payer=other.script, content=CONTENT
    )
    second = office.orders.begin(
        RegisterName("eve.id"), signer="offline", max_total=10**9, payer=payer.script
    )
    (wrong,) = [a.psbt for a in second.attempts()]
    for text in ("", "rubbish", sign_psbt(wrong or "", KeyRing([payer]))):
        with pytest.raises(CannotOrder, match="nothing was paid"):
            office.orders.begun.hand_in(first.id, text)
    (bare,) = [a.psbt for a in first.attempts()]
    with pytest.raises(CannotOrder, match="nothing was paid"):
        office.orders.begun.hand_in(first.id, bare or "")
    assert office.orders.begun.job(first.id).state is State.WAITING_FOR_SIGNATURE


def test_what_waits_for_no_signature_takes_none(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    with pytest.raises(CannotOrder, match="waits for no signature"):
        office.orders.begun.hand_in(job.id, "cHNidA==")


# --- what others do, and what was left from before


def test_a_name_that_somebody_else_is_registering_now_is_told_before_it_is_paid(office):
    world = office.world
    office.orders.begin(RegisterName("eve.id"), signer="own", max_total=10**9)
    world.turn()
    world.mine()
    world.turn()  # the registration of eve.id waits in the mempool, and says its name
    journal = world.journal
    (job,) = journal.jobs()
    found = waiting_operations(world.client, world.network, world.node.height + 1, ours=())
    assert found.seen
    assert [one.name for one in found.operations] == ["eve.id"]
    ours = {a.txid for a in job.attempts() if a.txid}
    assert waiting_operations(world.client, world.network, 1, ours) == Rivals((), True)
    del journal._jobs[job.id]  # whoever sent it is somebody else now
    with pytest.raises(PlanRefused) as refused:
        office.orders.plan(RegisterName("eve.id"), signer="own")
    assert refused.value.reason is Reason.BEING_REGISTERED


def test_a_mempool_that_is_too_large_is_not_looked_through(office, monkeypatch):
    office.orders.begin(RegisterName("eve.id"), signer="own", max_total=10**9)
    monkeypatch.setattr("indexer.registrar.work.rivals.MAX_TRANSACTIONS", 0)
    planned = office.orders.plan(RegisterName("adam.id"), signer="own")
    assert not planned.rivals_seen


def test_a_preorder_that_was_paid_for_and_given_up_is_used_and_not_paid_again(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    office.world.mine()
    office.world.runner.books.signers = {}  # nobody can sign the registration
    office.world.turn()
    office.orders.begun.abandon(job.id)
    office.world.run()
    office.world.runner.books.signers = office.signers
    plan = office.orders.plan(REGISTER, signer="own", has_data=True).plan
    assert plan.price == 0
    assert plan.paid_already > 0
    assert plan.parties.owner == job.parties.owner
    office.orders.begin(REGISTER, signer="own", max_total=plan.total, content=CONTENT)
    office.world.run()
    record = office.world.seen.name("bob.id")
    assert record is not None
    assert record.sender == job.parties.owner
    assert len(office.world.burnt()) == 1


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
    office.orders.begun.resume(job.id)
    assert office.orders.begun.job(job.id).max_fee_rate == 500.0


def test_a_job_pays_the_price_that_was_agreed_to_and_no_other(office):
    planned = office.orders.plan(REGISTER, signer="own")
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    assert isinstance(job.wish, RegisterName)
    assert job.wish.max_price == planned.plan.price


def test_plans_alone_take_one_address_and_no_more(office):
    for name in office.wallet.named:  # nothing here may send: its wallet makes an address
        office.wallet.kept.update((c.txid, c.index) for c in office.wallet.coins(name.script))
    office.wallet.legacy_coins = list
    office.wallet.spare = lambda sender: 10**9
    senders = {office.orders.plan(REGISTER, signer="own").plan.parties.sender for _ in range(5)}
    assert len(senders) == 1
    first = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    assert {first.parties.sender} == senders
    later = office.orders.plan(RegisterName("eve.id"), signer="own").plan.parties.sender
    assert later not in senders


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
    assert not office.orders.begun.jobs(everything=True)


def test_who_must_send_is_known_from_the_chain(office):
    assert office.orders.payers.sender_on_chain(UpdateName("bob.id", DIGEST)) is None
    office.registered()
    record = office.world.seen.name("bob.id")
    assert office.orders.payers.sender_on_chain(UpdateName("bob.id", DIGEST)) == record.sender
    assert office.orders.payers.sender_on_chain(REGISTER) is None
