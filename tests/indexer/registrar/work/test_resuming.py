"""What was begun is gone on with, consented to, signed elsewhere and given up."""

from collections.abc import Sequence

import pytest

from indexer.bitcoin.spending import multisig_script
from indexer.bitcoin.transactions import TxOut
from indexer.registrar.planning.refusals import CannotOrder, NoSuchJob
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.jobs import State
from indexer.wallet.coins import Coin
from indexer.wallet.key_signers import Offline
from indexer.wallet.keys import KeyRing, script_of_redeem_script
from indexer.wallet.psbt import sign_psbt
from tests.indexer.registrar.fakes import BIG, person_key
from tests.indexer.registrar.work.office import (
    CONTENT,
    DIGEST,
    OTHER,
    PAYER,
    REGISTER,
    Office,
    Wallet,
)


def test_what_is_given_up_before_it_is_mined_costs_a_fee_at_most(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    office.orders.abandon(job.id)
    office.world.run()
    assert office.orders.job(job.id).state is State.ABANDONED
    assert office.world.burnt() == []
    with pytest.raises(CannotOrder, match="has ended"):
        office.orders.abandon(job.id)


def test_what_was_given_up_is_taken_up_again(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    office.orders.abandon(job.id)
    office.world.run()
    assert office.orders.resume(job.id).state is State.RUNNING
    office.world.run()
    assert office.orders.job(job.id).state is State.DONE


def test_consent_is_taken_only_where_it_was_asked_for(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    with pytest.raises(CannotOrder, match="does not wait for consent"):
        office.orders.consent(job.id)


@pytest.mark.parametrize("deed", ["job", "resume", "consent", "abandon"])
def test_an_unknown_job_is_told(office, deed):
    with pytest.raises(NoSuchJob, match="nothing 'abcdef' was begun here"):
        getattr(office.orders, deed)("abcdef")


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
        job = office.orders.job(job_id)
        if job.state is State.WAITING_FOR_SIGNATURE:
            for ring in rings:
                (psbt,) = [a.psbt for a in office.orders.job(job_id).attempts() if a.raw is None]
                office.orders.hand_in(job_id, sign_psbt(psbt or "", ring))
        elif not job.state.is_open:
            return
        office.world.mine()
    raise AssertionError(office.orders.job(job_id).note)


def test_each_step_goes_out_to_be_signed_and_on_with_what_comes_back(office):
    other = person_key(OTHER)
    offline(office, [other.script])
    job = office.orders.begin(
        REGISTER, signer="offline", max_total=10**9, content=CONTENT, payer=other.script
    )
    assert job.state is State.WAITING_FOR_SIGNATURE
    signed_until_done(office, job.id, KeyRing([other]))
    assert office.orders.job(job.id).state is State.DONE
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
            office.orders.hand_in(first.id, text)
    (bare,) = [a.psbt for a in first.attempts()]
    with pytest.raises(CannotOrder, match="nothing was paid"):
        office.orders.hand_in(first.id, bare or "")
    assert office.orders.job(first.id).state is State.WAITING_FOR_SIGNATURE


def test_what_waits_for_no_signature_takes_none(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    with pytest.raises(CannotOrder, match="waits for no signature"):
        office.orders.hand_in(job.id, "cHNidA==")


def test_a_second_wish_for_the_same_name_waits_for_the_first(office):
    job = office.orders.begin(REGISTER, signer="own", max_total=10**9, content=CONTENT)
    for ask in (office.orders.plan, lambda w, **o: office.orders.begin(w, max_total=10**9, **o)):
        with pytest.raises(CannotOrder, match=f"under way already \\({job.id}"):
            ask(REGISTER, signer="own")
