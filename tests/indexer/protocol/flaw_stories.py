"""Flaws of transactions and payloads, each from the shortest story that yields it.

A story answers two flaws: what became of the operation it is about, and of its twin, which differs
in nothing but the flaw. ``test_rules_flaws`` tells the rest of them and holds that none is missing.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from indexer.bitcoin.transactions import TxIn, TxOut
from indexer.protocol.flaws import Flaw
from indexer.registrar.planning.compose import write_outputs
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    FIRST,
    FOURTH,
    PAYER,
    REVEALER,
    SECOND,
    VAULT,
    Holder,
    Ledger,
    opened,
    ready,
    register,
    reveal,
    revoke,
    transaction,
)

Told = tuple[Flaw | None, Flaw | None]
STORIES: dict[Flaw, Callable[[], Told]] = {}
BECH32 = b"\x00\x14" + bytes(20)
P2PK = b"\x21\x02" + b"\x11" * 32 + b"\xac"


def story(flaw: Flaw) -> Callable[[Callable[[], Told]], Callable[[], Told]]:
    def tell(function: Callable[[], Told]) -> Callable[[], Told]:
        assert flaw not in STORIES, f"{flaw.name} is told twice"
        STORIES[flaw] = function
        return function

    return tell


def begun(chain=FIRST) -> Ledger:
    ledger = Ledger(chain)
    ledger.skip()
    return ledger


def registered(chain=FIRST, name: str = "alice.id", owner: Holder = ALICE) -> Ledger:
    ledger = opened(chain)
    ledger.register(name, owner)
    return ledger


def two_outcomes(change: Callable[[list[TxOut]], list[TxOut]]) -> Told:
    """A preorder with changed outputs, and as it should be."""
    ledger = begun()
    wish = ledger.preorder("alice.id")
    outputs, _ = write_outputs(wish, ledger.network, PAYER.script)
    refused = ledger.judge(ledger.send(PAYER, wish, change(outputs)))
    return refused, ledger.judge((PAYER, wish))


# --- the transaction


@story(Flaw.PAYLOAD_CANCELLED)
def a_later_op_return_without_data_cancels() -> Told:
    ledger = begun()
    wish = ledger.namespace_preorder()
    outputs, _ = write_outputs(wish, ledger.network, PAYER.script)
    refused = ledger.judge(ledger.send(PAYER, wish, [*outputs, TxOut(0, b"\x6a\x51")]))
    return refused, ledger.judge(ledger.send(PAYER, wish, [*outputs, TxOut(0, b"\x51")]))


@story(Flaw.SPENDS_OTHER_SCRIPTS)
def one_input_spends_p2pk() -> Told:
    ledger = begun()
    sent = ledger.send(PAYER, ledger.preorder("alice.id"))
    outputs = sent.candidate.transaction.outputs
    two = replace(sent.candidate, transaction=transaction(outputs, (PAYER.script_sig, b"")))
    refused = ledger.judge(replace(sent, candidate=two, spent_scripts=(PAYER.script, P2PK)))
    spent = (PAYER.script, VAULT.script)
    return refused, ledger.judge(replace(sent, candidate=two, spent_scripts=spent))


@story(Flaw.SCRIPTS_UNKNOWN)
def fewer_scripts_than_inputs() -> Told:
    ledger = begun()
    sent = ledger.send(PAYER, ledger.preorder("alice.id"))
    return ledger.judge(replace(sent, spent_scripts=())), ledger.judge(sent)


@story(Flaw.COINBASE)
def a_coinbase_carries_a_preorder() -> Told:
    ledger = begun()
    sent = ledger.send(PAYER, ledger.preorder("alice.id"))
    mined = replace(
        sent.candidate.transaction, inputs=(TxIn(bytes(32), 0xFFFFFFFF, b"", 0xFFFFFFFF),)
    )
    coinbase = replace(sent, candidate=replace(sent.candidate, transaction=mined))
    return ledger.judge(coinbase), ledger.judge(sent)


@story(Flaw.OUTPUT_MISSING)
def a_namespace_preorder_without_its_fee_output() -> Told:
    ledger = begun()
    wish = ledger.namespace_preorder()
    outputs, _ = write_outputs(wish, ledger.network, PAYER.script)
    return ledger.judge(ledger.send(PAYER, wish, outputs[:2])), ledger.judge((PAYER, wish))


@story(Flaw.OUTPUT_COUNT)
def a_preorder_with_a_fourth_output() -> Told:
    return two_outcomes(lambda outputs: [*outputs, outputs[1]])


@story(Flaw.OUTPUT_TYPE)
def a_preorder_whose_change_is_bech32() -> Told:
    return two_outcomes(lambda outputs: [outputs[0], TxOut(9000, BECH32), outputs[2]])


@story(Flaw.RECIPIENT_TYPE)
def a_registration_whose_owner_is_the_op_return_itself() -> Told:
    ledger = opened()
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    wish = register("alice.id")
    outputs, _ = write_outputs(wish, ledger.network, PAYER.script)
    refused = ledger.judge(ledger.send(PAYER, wish, [outputs[1], outputs[0]]))
    return refused, ledger.judge((PAYER, wish))


@story(Flaw.FEE_OUTPUT_TYPE)
def a_renewal_whose_fee_goes_to_bech32() -> Told:
    ledger = registered()
    wish = ledger.renew("alice.id")
    outputs, _ = write_outputs(wish, ledger.network, ALICE.script)
    refused = ledger.judge(ledger.send(ALICE, wish, [*outputs[:3], TxOut(10**9, BECH32)]))
    return refused, ledger.judge((ALICE, wish))


# --- the payload


@story(Flaw.PAYLOAD_LENGTH)
def a_preorder_with_a_byte_too_many() -> Told:
    def longer(outputs: list[TxOut]) -> list[TxOut]:
        script = outputs[0].script
        return [TxOut(0, b"\x6a" + bytes((script[1] + 1,)) + script[2:] + b"\0"), *outputs[1:]]

    return two_outcomes(longer)


@story(Flaw.BAD_NAME)
def a_revocation_of_an_upper_case_name() -> Told:
    ledger = registered()
    return ledger.judge((ALICE, revoke("Alice.id"))), ledger.judge((ALICE, revoke("alice.id")))


@story(Flaw.BAD_NAMESPACE)
def a_ready_of_a_namespace_with_a_dot() -> Told:
    ledger = Ledger()
    ledger.reveal_namespace()
    return ledger.judge((REVEALER, ready("i.d"))), ledger.judge((REVEALER, ready()))


@story(Flaw.BAD_TRANSFER_FLAG)
def a_transfer_that_says_neither_keep_nor_drop() -> Told:
    ledger = registered()
    wish = ledger.transfer("alice.id", BOB)
    outputs, _ = write_outputs(wish, ledger.network, ALICE.script)
    script = outputs[0].script
    odd = TxOut(0, script[:5] + b"x" + script[6:])
    refused = ledger.judge(ledger.send(ALICE, wish, [odd, *outputs[1:]]))
    return refused, ledger.judge((ALICE, wish))


def _reveals(chain, refused_terms: dict[str, Any], twin_terms: dict[str, Any]) -> Told:
    ledger = begun(chain)
    ledger.accept((PAYER, ledger.namespace_preorder()))
    refused = ledger.judge((PAYER, reveal(**refused_terms)))
    return refused, ledger.judge((PAYER, reveal(**twin_terms)))


@story(Flaw.BAD_DISCOUNT)
def a_reveal_with_a_discount_of_zero() -> Told:
    return _reveals(FIRST, {"nonalpha_discount": 0}, {"nonalpha_discount": 1})


@story(Flaw.BAD_VERSION)
def a_reveal_of_version_2_before_epoch_3() -> Told:
    return _reveals(SECOND, {"version": 2}, {"version": 1})


@story(Flaw.OTHER_LEDGER)
def a_preorder_paid_in_tokens() -> Told:
    ledger = begun(FOURTH)
    wish = ledger.preorder("alice.id")
    paid = replace(wish, token_amount=1, token_type=b"STACKS")
    return ledger.judge((PAYER, paid)), ledger.judge((PAYER, wish))


@story(Flaw.VALUE_HASH_TOO_EARLY)
def a_registration_with_a_value_hash_in_epoch_2() -> Told:
    ledger = opened(SECOND)
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    refused = ledger.judge((PAYER, register("alice.id", value_hash=bytes(20))))
    return refused, ledger.judge((PAYER, register("alice.id")))
