"""Every flaw, from the shortest story that yields it, beside the twin that is accepted.

A story answers two flaws: what became of the operation it is about, and of its twin, which differs
in nothing but the flaw. A member of ``Flaw`` without a story fails the first test.
"""

from dataclasses import replace

import pytest

from indexer.networks import EPOCH_1, EPOCH_3, EPOCH_4
from indexer.protocol.flaws import Flaw
from indexer.protocol.names import hash_name
from indexer.protocol.operations import Announce, TokenTransfer
from tests.indexer.protocol.flaw_stories import STORIES, Told, begun, registered, story
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    FOURTH,
    PAYER,
    REVEALER,
    SECOND,
    SHORT_GRACE,
    THIRD,
    VAULT,
    Ledger,
    name_import,
    network,
    opened,
    ready,
    register,
    reveal,
    revoke,
    transaction,
)


def test_every_flaw_has_a_story() -> None:
    assert set(STORIES) == set(Flaw)


def test_every_flaw_is_one_sentence_of_its_own() -> None:
    assert all(len(flaw.value) > 15 and not flaw.value.endswith(".") for flaw in Flaw)
    assert len({flaw.value for flaw in Flaw}) == len(Flaw)


@pytest.mark.parametrize("flaw", Flaw, ids=lambda flaw: flaw.name)
def test_the_story_of_a_flaw_yields_it_and_its_twin_is_accepted(flaw: Flaw) -> None:
    assert STORIES[flaw]() == (flaw, None)


# --- preorders


@story(Flaw.CONSENSUS_HASH)
def a_preorder_with_a_consensus_hash_25_blocks_old() -> Told:
    ledger = Ledger()
    ledger.skip(25)
    old = ledger.preorder("alice.id", consensus_hash=ledger.ch(ledger.height - 24))
    young = ledger.preorder("alice.id", consensus_hash=ledger.ch(ledger.height - 22))
    return ledger.judge((PAYER, old)), ledger.judge((PAYER, young))


@story(Flaw.PREORDER_EXISTS)
def the_same_preorder_again() -> Told:
    ledger = begun()
    ledger.accept((PAYER, ledger.preorder("alice.id", ALICE)))
    return (
        ledger.judge((PAYER, ledger.preorder("alice.id", ALICE))),
        ledger.judge((PAYER, ledger.preorder("alice.id", BOB))),
    )


@story(Flaw.NO_PREORDER)
def a_registration_for_an_owner_who_was_not_preordered() -> Told:
    ledger = opened()
    ledger.accept((PAYER, ledger.preorder("alice.id", ALICE)))
    return (
        ledger.judge((PAYER, register("alice.id", BOB))),
        ledger.judge((PAYER, register("alice.id", ALICE))),
    )


def _registers_after(blocks: int) -> Flaw | None:
    ledger = opened(FOURTH_WITH_NAMESPACE)
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    ledger.skip(blocks)
    return ledger.judge((PAYER, register("alice.id")))


FOURTH_WITH_NAMESPACE = network(replace(EPOCH_3, last_block=105), EPOCH_4)


@story(Flaw.PREORDER_EXPIRED)
def a_registration_145_blocks_after_its_preorder_in_epoch_4() -> Told:
    return _registers_after(144), _registers_after(143)


@story(Flaw.PREORDER_BEFORE_READY)
def a_preorder_while_the_namespace_is_only_revealed() -> Told:
    ledger = Ledger()
    ledger.reveal_namespace()
    early = ledger.preorder("alice.id")
    ledger.accept((PAYER, early))
    late = ledger.preorder("bob.id")
    ledger.accept((REVEALER, ready()), (PAYER, late))
    return ledger.judge((PAYER, register("alice.id"))), ledger.judge((PAYER, register("bob.id")))


@story(Flaw.PREORDER_SENDER)
def somebody_sends_the_hash_that_another_would_send() -> Told:
    ledger = opened()
    his = hash_name("alice.id", PAYER.script, ALICE.address(ledger.network))
    ledger.accept((BOB, ledger.preorder("alice.id", ALICE, preorder_hash=his)))
    ledger.accept((PAYER, ledger.preorder("alice.id", CAROL)))
    return (
        ledger.judge((PAYER, register("alice.id", ALICE))),
        ledger.judge((PAYER, register("alice.id", CAROL))),
    )


# --- money


@story(Flaw.FEE_TOO_LOW)
def one_satoshi_less_than_the_price() -> Told:
    ledger = opened()
    short, paid = ledger.preorder("alice.id"), ledger.preorder("lucia.id")
    assert short.op_fee == 400_000
    ledger.accept((PAYER, replace(short, op_fee=short.op_fee - 1)), (PAYER, paid))
    return ledger.judge((PAYER, register("alice.id"))), ledger.judge((PAYER, register("lucia.id")))


@story(Flaw.FEE_WENT_ELSEWHERE)
def the_fee_pays_somebody() -> Told:
    ledger = opened()
    ledger.accept(
        (PAYER, ledger.preorder("alice.id", fee_script=BOB.script)),
        (PAYER, ledger.preorder("lucia.id")),
    )
    return ledger.judge((PAYER, register("alice.id"))), ledger.judge((PAYER, register("lucia.id")))


# --- namespaces


@story(Flaw.NAMESPACE_EXISTS)
def a_second_reveal_of_a_namespace() -> Told:
    ledger = begun()
    ledger.accept(
        (PAYER, ledger.namespace_preorder("id")),
        (BOB, ledger.namespace_preorder("id", BOB)),
    )
    twin = ledger.judge((PAYER, reveal("id")))
    return ledger.judge((BOB, reveal("id"))), twin


@story(Flaw.NAMESPACE_NOT_REVEALED)
def a_ready_in_the_block_of_the_reveal() -> Told:
    ledger = begun()
    ledger.accept((PAYER, ledger.namespace_preorder()))
    revealed, refused = ledger.block((PAYER, reveal()), (REVEALER, ready()))
    assert revealed is None
    return refused, ledger.judge((REVEALER, ready()))


@story(Flaw.NAMESPACE_NOT_READY)
def a_registration_while_the_namespace_is_only_revealed() -> Told:
    ledger = Ledger()
    ledger.reveal_namespace()
    refused = ledger.judge((PAYER, register("alice.id")))
    ledger.accept((REVEALER, ready()))
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    return refused, ledger.judge((PAYER, register("alice.id")))


@story(Flaw.NOT_THE_REVEALER)
def the_payer_of_the_reveal_opens_the_namespace() -> Told:
    ledger = Ledger()
    ledger.reveal_namespace()
    return ledger.judge((PAYER, ready())), ledger.judge((REVEALER, ready()))


@story(Flaw.IMPORTER_UNKNOWN)
def an_import_whose_input_does_not_show_its_key() -> Told:
    ledger = Ledger()
    ledger.reveal_namespace()
    sent = ledger.send(REVEALER, name_import("alice.id"))
    bare = transaction(sent.candidate.transaction.outputs)
    silent = replace(sent, candidate=replace(sent.candidate, transaction=bare))
    return ledger.judge(silent), ledger.judge(sent)


@story(Flaw.NOT_AN_IMPORTER)
def somebody_imports() -> Told:
    ledger = Ledger()
    ledger.reveal_namespace()
    wish = name_import("alice.id")
    return ledger.judge((PAYER, wish)), ledger.judge((REVEALER, wish))


# --- names


@story(Flaw.COLLISION)
def two_registrations_of_one_name_in_one_block() -> Told:
    ledger = opened()
    ledger.accept(
        (PAYER, ledger.preorder("alice.id", ALICE)),
        (BOB, ledger.preorder("alice.id", BOB, BOB)),
    )
    first, second = ledger.block(
        (PAYER, register("alice.id", ALICE)), (BOB, register("alice.id", BOB))
    )
    assert first is second
    return first, ledger.judge((BOB, register("alice.id", BOB)))


@story(Flaw.NAME_TAKEN)
def a_registration_of_a_name_that_belongs_to_somebody() -> Told:
    ledger = registered()
    ledger.accept(
        (BOB, ledger.preorder("alice.id", BOB, BOB)), (BOB, ledger.preorder("b.id", BOB, BOB))
    )
    return ledger.judge((BOB, register("alice.id", BOB))), ledger.judge(
        (BOB, register("b.id", BOB))
    )


@story(Flaw.NAME_REVOKED)
def a_second_revocation() -> Told:
    ledger = registered()
    twin = ledger.judge((ALICE, revoke("alice.id")))
    return ledger.judge((ALICE, revoke("alice.id"))), twin


@story(Flaw.NAME_NOT_REGISTERED)
def a_revocation_in_the_block_of_the_registration() -> Told:
    ledger = opened()
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    made, refused = ledger.block((PAYER, register("alice.id")), (ALICE, revoke("alice.id")))
    assert made is None
    return refused, ledger.judge((ALICE, revoke("alice.id")))


@story(Flaw.NAME_IN_GRACE)
def a_revocation_in_the_grace_period() -> Told:
    def revoked_at(blocks: int) -> Flaw | None:
        ledger = registered(SHORT_GRACE)
        ledger.leap(ledger.height + blocks)
        return ledger.judge((ALICE, revoke("alice.id")))

    return revoked_at(200), revoked_at(199)


@story(Flaw.NOT_THE_OWNER)
def a_transfer_by_somebody() -> Told:
    ledger = registered()
    wish = ledger.transfer("alice.id", CAROL)
    return ledger.judge((BOB, wish)), ledger.judge((ALICE, wish))


@story(Flaw.QUOTA)
def a_26th_name() -> Told:
    ledger = opened()
    ledger.register_many(24)
    ledger.accept((PAYER, ledger.preorder("y25.id")), (PAYER, ledger.preorder("y26.id")))
    twin = ledger.judge((PAYER, register("y25.id")))
    return ledger.judge((PAYER, register("y26.id"))), twin


@story(Flaw.P2SH_OWNER)
def a_registration_for_a_p2sh_owner_in_epoch_1() -> Told:
    def registered_for_vault(chain) -> Flaw | None:
        ledger = opened(chain)
        ledger.accept((PAYER, ledger.preorder("safe.id", VAULT)))
        return ledger.judge((PAYER, register("safe.id", VAULT)))

    return registered_for_vault(network(EPOCH_1)), registered_for_vault(SECOND)


@story(Flaw.OWNER_MAY_NOT_CHANGE)
def a_renewal_for_another_owner_before_epoch_3() -> Told:
    def renewed_for_bob(chain) -> Flaw | None:
        ledger = registered(chain)
        return ledger.judge((ALICE, ledger.renew("alice.id", BOB)))

    return renewed_for_bob(SECOND), renewed_for_bob(THIRD)


@story(Flaw.NO_NAME_MATCHES)
def an_update_by_somebody() -> Told:
    ledger = registered()
    wish = ledger.update("alice.id")
    return ledger.judge((BOB, wish)), ledger.judge((ALICE, wish))


@story(Flaw.SENT_TO_ITSELF)
def a_transfer_to_its_owner() -> Told:
    ledger = registered()
    refused = ledger.judge((ALICE, ledger.transfer("alice.id", ALICE)))
    return refused, ledger.judge((ALICE, ledger.transfer("alice.id", BOB)))


@story(Flaw.NOT_AN_ANNOUNCER)
def an_announcement_by_somebody() -> Told:
    ledger = registered(name="crier.id")
    wish = Announce(message_hash=bytes(20))
    return ledger.judge((BOB, wish)), ledger.judge((ALICE, wish))


# --- what only another ledger can judge


@pytest.mark.parametrize("tokens", [0, 1, 2**64 - 1])
def test_a_token_transfer_is_recognised_and_left_to_the_other_ledger(tokens: int) -> None:
    wish = TokenTransfer(
        consensus_hash=bytes(16), token_type=b"STACKS", amount=tokens, recipient=BOB.script
    )
    ledger = begun(FOURTH)
    assert ledger.judge((ALICE, wish)) is Flaw.OTHER_LEDGER
    assert begun(THIRD).block((ALICE, wish)) == []
