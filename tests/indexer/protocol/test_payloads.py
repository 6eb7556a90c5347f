"""Payloads and envelopes: what is read from any transaction, and that composing it is the inverse.

Nothing here knows a name table. Protocol spec sections 1.1, 1.2 and 1.7 to 1.18.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.transactions import Transaction, TxIn, TxOut, p2pkh_script, p2sh_script
from indexer.networks import EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4, MAINNET, Epoch
from indexer.protocol.operations import (
    OPCODES,
    Announce,
    Import,
    Malformed,
    NamespacePreorder,
    NamespaceReady,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    Revoke,
    TokenTransfer,
    Transfer,
    Update,
)
from indexer.protocol.payloads import read_operation, write_operation
from indexer.registrar.planning.compose import write_outputs
from tests.indexer.protocol.ledger import ALICE, BOB, op_return, transaction
from tests.rings import sampled

EPOCHS = (EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4)
OWNER, CHANGE, FEE = (TxOut(5500, p2pkh_script(bytes((n,)) * 20)) for n in (1, 2, 3))
P2PK = b"\x21" + b"\x02" * 33 + b"\xac"
BARE_MULTISIG = b"\x51\x21" + b"\x02" * 33 + b"\x51\xae"
WITNESS = b"\x00\x14" + bytes(20)
LONG_WITNESS = b"\x00\x20" + bytes(32)
TAPROOT = b"\x51\x20" + bytes(32)
ODD_SCRIPTS = [P2PK, BARE_MULTISIG, WITNESS, LONG_WITNESS, TAPROOT, b"", b"\x51", OWNER.script[:-1]]


def read(outputs: list[TxOut], epoch: Epoch) -> Operation | Malformed | None:
    return read_operation(transaction(outputs), 7, [ALICE.script], MAINNET, epoch)


# --- anything at all

scripts = st.one_of(
    st.binary(max_size=90),
    st.binary(min_size=20, max_size=20).map(p2pkh_script),
    st.binary(min_size=20, max_size=20).map(p2sh_script),
    st.tuples(st.sampled_from(sorted(OPCODES.values())), st.binary(max_size=77)).map(
        lambda parts: op_return(b"id" + parts[0] + parts[1]).script
    ),
    st.binary(max_size=80).map(lambda tail: b"\x6a" + tail),
    st.sampled_from(ODD_SCRIPTS),
)
outputs_strategy = st.lists(st.builds(TxOut, st.integers(0, 2**64 - 1), scripts), max_size=5)
inputs_strategy = st.lists(
    st.builds(
        TxIn,
        st.sampled_from([bytes(32), b"\1" * 32]),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=80),
        st.integers(0, 2**32 - 1),
    ),
    max_size=3,
)


@settings(max_examples=sampled(250), deadline=None)
@given(inputs_strategy, outputs_strategy, st.lists(scripts, max_size=3), st.sampled_from(EPOCHS))
def test_reading_never_raises(
    inputs: list[TxIn], outputs: list[TxOut], spent: list[bytes], epoch: Epoch
) -> None:
    tx = Transaction(bytes(32), 1, tuple(inputs), tuple(outputs), 0)
    found = read_operation(tx, 0, spent, MAINNET, epoch)
    assert found is None or isinstance(found, (Malformed, *OPCODES))


@settings(max_examples=sampled(250), deadline=None)
@given(st.sampled_from(sorted(OPCODES.values())), st.binary(max_size=77), st.sampled_from(EPOCHS))
def test_whatever_is_read_is_written_as_the_same_payload(
    opcode: bytes, body: bytes, epoch: Epoch
) -> None:
    payload = b"id" + opcode + body
    for outputs in ([OWNER, FEE], [OWNER, CHANGE, FEE]):
        found = read([op_return(payload), *outputs], epoch)
        if found is not None and not isinstance(found, Malformed | Preorder | TokenTransfer):
            assert write_operation(found, b"id") == payload


# --- composing and reading back

NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-_"
hash16, hash20 = (st.binary(min_size=size, max_size=size) for size in (16, 20))
namespace_ids = st.text(NAME_LETTERS, min_size=1, max_size=19)
names = st.tuples(st.text(NAME_LETTERS, min_size=1, max_size=17), namespace_ids).map(".".join)
owners = hash20.map(p2pkh_script) | hash20.map(p2sh_script)
fees = st.integers(0, 2**63 - 1)
tokens = st.integers(0, 2**64 - 1)
nibble = st.integers(1, 15)


def operations(epoch: Epoch) -> st.SearchStrategy[Operation]:
    """Every operation that can be sent in ``epoch``, with every value that its fields can have."""
    late = epoch.value_hash_at_registration
    amount = tokens if epoch.second_ledger else st.nothing()
    value_hashes = st.none() | hash20 if late else st.none()
    paid = {"op_fee": fees, "fee_script": owners}
    committed = {"preorder_hash": hash20, "consensus_hash": hash16, **paid}
    named = {"name": names, "recipient": owners}
    bare_values = st.none() if epoch.second_ledger else value_hashes
    kinds: list[st.SearchStrategy[Operation]] = [
        st.builds(Preorder, **committed),
        st.builds(Register, **named, value_hash=value_hashes),
        st.builds(Renew, **named, **paid, value_hash=bare_values),
        st.builds(Update, name_consensus_hash=hash16, value_hash=hash20),
        st.builds(
            Transfer,
            name_hash128=hash16,
            consensus_hash=hash16,
            keep_data=st.booleans(),
            recipient=owners,
        ),
        st.builds(Revoke, name=names),
        st.builds(Import, **named, value_hash=hash20),
        st.builds(
            NamespacePreorder,
            **committed,
            token_amount=tokens if epoch.second_ledger else st.none(),
        ),
        st.builds(
            NamespaceReveal,
            namespace_id=namespace_ids,
            recipient=owners,
            lifetime=st.integers(0, 2**32 - 1),
            coeff=st.integers(0, 255),
            base=st.integers(0, 255),
            buckets=st.lists(st.integers(0, 15), min_size=16, max_size=16).map(tuple),
            nonalpha_discount=nibble,
            no_vowel_discount=nibble,
            version=st.integers(1, 3),
        ),
        st.builds(NamespaceReady, namespace_id=namespace_ids),
        st.builds(Announce, message_hash=hash20),
    ]
    if epoch.second_ledger:
        token_types = st.text("ABCXYZ", min_size=1, max_size=19).map(str.encode)
        kinds += [
            st.builds(Preorder, **committed, token_amount=amount, token_type=token_types),
            st.builds(Register, **named, value_hash=hash20, token_amount=amount),
            st.builds(Renew, **named, **paid, value_hash=hash20, token_amount=amount),
            st.builds(
                TokenTransfer,
                consensus_hash=hash16,
                token_type=token_types,
                amount=amount,
                recipient=owners,
                memo=st.binary(max_size=34),
            ),
        ]
    return st.one_of(kinds)


@pytest.mark.parametrize("epoch", EPOCHS, ids=lambda epoch: f"epoch {epoch.number}")
@settings(max_examples=sampled(80), deadline=None)
@given(st.data())
def test_composing_and_reading_back_is_the_identity(epoch: Epoch, data: st.DataObject) -> None:
    wish = data.draw(operations(epoch))
    outputs, change = write_outputs(wish, MAINNET, BOB.script)
    tx = transaction(outputs, (ALICE.script_sig,))
    sent: dict[str, Any] = {"sender": ALICE.script, "sender_pubkey": ALICE.public_key}
    expected = replace(wish, **sent, txid=tx.txid, vtxindex=3)
    assert read_operation(tx, 3, [ALICE.script], MAINNET, epoch) == expected
    assert outputs[change].script == BOB.script
    assert outputs[0].value == 0


@pytest.mark.parametrize(
    "wish",
    [
        Update(name_consensus_hash=bytes(15), value_hash=bytes(20)),
        Update(name_consensus_hash=bytes(16), value_hash=bytes(21)),
        Announce(message_hash=b""),
        Register(name="a" * 38 + ".id", recipient=OWNER.script, value_hash=bytes(20)),
        Revoke(name="\u00e9.id"),
    ],
)
def test_what_does_not_fit_the_wire_is_not_written(wish: Operation) -> None:
    with pytest.raises(ValueError):
        write_operation(wish, b"id")
