"""Who sends a wish and who pays for it."""

import pytest
from embit.hashes import hash160

from indexer.registrar.planning.refusals import CannotOrder
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.planning.wishes import (
    PreorderNamespace,
    RegisterName,
    RevealNamespace,
    RevokeName,
    TransferName,
    UpdateName,
)
from indexer.wallet.signers import NoLegacyAddresses
from tests.indexer.registrar.fakes import person_key
from tests.indexer.registrar.work.office import CONTENT, DIGEST, OTHER, REGISTER, STRANGER


def test_nobody_elses_name_is_touched(office):
    office.registered()
    wish = TransferName("bob.id", STRANGER)
    office.orders.begin(wish, signer="own", max_total=10**9)
    office.world.run()
    with pytest.raises(CannotOrder, match="is not of the wallet that signs here"):
        office.orders.plan(RevokeName("bob.id"), signer="own")
    assert office.orders.payers.owned("own") == []


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


def test_a_preorder_that_was_paid_for_and_given_up_is_used_and_not_paid_again(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    office.world.mine()
    office.world.runner.books.signers = {}  # nobody can sign the registration
    office.world.turn()
    office.orders.abandon(job.id)
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


def test_who_must_send_is_known_from_the_chain(office):
    assert office.orders.payers.sender_on_chain(UpdateName("bob.id", DIGEST)) is None
    office.registered()
    record = office.world.seen.name("bob.id")
    assert office.orders.payers.sender_on_chain(UpdateName("bob.id", DIGEST)) == record.sender
    assert office.orders.payers.sender_on_chain(REGISTER) is None
