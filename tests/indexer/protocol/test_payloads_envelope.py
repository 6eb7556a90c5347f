"""The transaction around a payload: its inputs, its outputs, lengths and names, flaw by flaw.

Protocol spec sections 1.1, 1.2 and 1.7 to 1.18.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from embit.ec import PrivateKey

from indexer.bitcoin.transactions import TxIn, TxOut, p2pkh_script, p2sh_script
from indexer.networks import EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4, MAINNET, Epoch
from indexer.protocol.flaws import Flaw
from indexer.protocol.operations import (
    Import,
    Malformed,
    Operation,
    Preorder,
    Register,
    Renew,
    Update,
)
from indexer.protocol.payloads import read_operation
from tests.indexer.protocol.ledger import ALICE, BOB, VAULT, Holder, op_return, transaction

OWNER, CHANGE, FEE = (TxOut(5500, p2pkh_script(bytes((n,)) * 20)) for n in (1, 2, 3))
VAULTED = TxOut(5500, p2sh_script(bytes(20)))
ODD = {
    "p2pk": b"\x21" + b"\x02" * 33 + b"\xac",
    "bare multisig": b"\x51\x21" + b"\x02" * 33 + b"\x51\xae",
    "p2wpkh": b"\x00\x14" + bytes(20),
    "p2wsh": b"\x00\x20" + bytes(32),
    "p2tr": b"\x51\x20" + bytes(32),
    "empty": b"",
    "p2pkh cut short": OWNER.script[:-1],
    "p2pkh and more": OWNER.script + b"\x61",
    "p2pkh with a pushdata": b"\x76\xa9\x4c\x14" + bytes(20) + b"\x88\xac",
}
PREORDER = op_return(b"id?" + bytes(36))
NAMESPACE_PREORDER = op_return(b"id*" + bytes(36))
UPDATE = op_return(b"id+" + bytes(36))
TRANSFER = op_return(b"id>>" + bytes(32))
REGISTER = op_return(b"id:alice.id")
IMPORT = op_return(b"id;alice.id")
REVEAL = op_return(b"id&" + bytes(14) + b"\x11\0\1" + b"id")


def read(
    outputs: Sequence[TxOut], epoch: Epoch = EPOCH_3, spent: bytes = ALICE.script
) -> Operation | Malformed | None:
    return read_operation(transaction(outputs), 7, [spent], MAINNET, epoch)


def flaw(outputs: Sequence[TxOut], epoch: Epoch = EPOCH_3, spent: bytes = ALICE.script) -> Any:
    """The flaw; None where an operation is read."""
    found = read(outputs, epoch, spent)
    assert found is not None
    return found.flaw if isinstance(found, Malformed) else None


# --- outputs that carry meaning

TYPED = Flaw.OUTPUT_TYPE
ROLES: list[
    tuple[TxOut, list[TxOut], dict[int, Flaw | None]]
] = [  # payload, the other outputs, which of them may not be odd, with which flaw
    (PREORDER, [CHANGE, FEE], {0: TYPED, 1: TYPED}),
    (NAMESPACE_PREORDER, [CHANGE, FEE, CHANGE], {0: TYPED, 1: TYPED, 2: None}),
    (REGISTER, [OWNER, CHANGE], {0: TYPED, 1: None}),
    (REGISTER, [OWNER, CHANGE, FEE, FEE], {0: TYPED, 1: None, 2: Flaw.FEE_OUTPUT_TYPE, 3: None}),
    (UPDATE, [CHANGE, CHANGE], {0: None, 1: None}),
    (TRANSFER, [OWNER, CHANGE, CHANGE], {0: TYPED, 1: None, 2: None}),
    (op_return(b"id~alice.id"), [CHANGE], {0: None}),
    (IMPORT, [OWNER, OWNER, CHANGE], {0: TYPED, 1: TYPED, 2: None}),
    (REVEAL, [OWNER, CHANGE], {0: TYPED, 1: TYPED}),
    (op_return(b"id!.id"), [CHANGE], {0: None}),
    (op_return(b"id#" + bytes(20)), [CHANGE], {0: None}),
]


@pytest.mark.parametrize("odd", ODD)
def test_outputs_of_odd_types_are_refused_where_they_carry_meaning(odd: str) -> None:
    for payload, others, places in ROLES:
        assert flaw([payload, *others]) is None
        assert flaw([payload, *([VAULTED] * len(others))]) is None
        for place, expected in places.items():
            changed = [*others[:place], TxOut(5500, ODD[odd]), *others[place + 1 :]]
            assert flaw([payload, *changed]) is expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (b"\x6a\x01a", None),
        (b"\x6a\x51", None),
        (b"\x6a\x00", None),
        (b"\x6a", TYPED),
        (b"\x6a\x01a\x01b", TYPED),
        (b"\x6a\x51\x51", TYPED),
        (b"\x6a\x4c", TYPED),
        (b"\x6a\x05ab", TYPED),
    ],
)
def test_an_op_return_among_the_roles_has_one_token_more(
    script: bytes, expected: Flaw | None
) -> None:
    assert flaw([TxOut(0, script), PREORDER, FEE]) is expected


@pytest.mark.parametrize(
    ("payload", "least", "most"),
    [
        (PREORDER, 3, 3),
        (NAMESPACE_PREORDER, 3, None),
        (REGISTER, 2, None),
        (UPDATE, 1, None),
        (TRANSFER, 2, None),
        (IMPORT, 3, None),
        (REVEAL, 3, 3),
        (op_return(b"id!.id"), 1, None),
        (op_return(b"id~alice.id"), 1, None),
    ],
)
def test_each_operation_needs_its_outputs(payload: TxOut, least: int, most: int | None) -> None:
    for count in range(1, 7):
        expected = None
        if most is not None and count != most:
            expected = Flaw.OUTPUT_COUNT
        elif count < least:
            expected = Flaw.OUTPUT_MISSING
        assert flaw([payload] + [OWNER] * (count - 1)) is expected


@pytest.mark.parametrize("epoch", [EPOCH_1, EPOCH_3])
def test_four_outputs_make_a_registration_a_renewal(epoch: Epoch) -> None:
    assert isinstance(read([REGISTER, OWNER, CHANGE], epoch), Register)
    renewal = read([REGISTER, OWNER, CHANGE, FEE], epoch)
    assert isinstance(renewal, Renew)
    assert (renewal.recipient, renewal.fee_script) == (OWNER.script, FEE.script)


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1])
def test_the_fee_is_the_value_of_its_output_whatever_it_is(value: int) -> None:
    wish = read([PREORDER, CHANGE, TxOut(value, FEE.script)])
    assert isinstance(wish, Preorder)
    assert wish.op_fee == value


@pytest.mark.parametrize("script", [OWNER.script, VAULTED.script])
def test_the_value_hash_of_an_import_is_disguised_as_an_address(script: bytes) -> None:
    wish = read([IMPORT, CHANGE, TxOut(5500, script), CHANGE])
    assert isinstance(wish, Import)
    assert wish.value_hash == (b"\1" * 20 if script == OWNER.script else bytes(20))


# --- which OP_RETURN decides

FOREIGN = op_return(b"xx hello")


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (FOREIGN, Flaw.PAYLOAD_CANCELLED),
        (TxOut(0, b"\x6a"), Flaw.PAYLOAD_CANCELLED),
        (TxOut(0, b"\x6a\x51"), Flaw.PAYLOAD_CANCELLED),
        (TxOut(0, b"\x6a\x00"), Flaw.PAYLOAD_CANCELLED),
        (TxOut(0, b"\x6a\x05ab"), Flaw.PAYLOAD_CANCELLED),
        (TxOut(0, b"\x6a\x01a\x01b"), Flaw.PAYLOAD_CANCELLED),
        (op_return(b"id"), Flaw.PAYLOAD_CANCELLED),
        (op_return(b"id~bob.id"), None),
        (CHANGE, None),
    ],
)
def test_the_last_op_return_decides(later: TxOut, expected: Flaw | None) -> None:
    assert flaw([UPDATE, CHANGE, later]) is expected
    assert isinstance(read([later, CHANGE, UPDATE]), Update)
    assert isinstance(read([UPDATE, later, UPDATE]), Update)


@pytest.mark.parametrize("push", [b"\x24", b"\x4c\x24", b"\x4d\x24\0", b"\x4e\x24\0\0\0"])
def test_every_form_of_a_push_is_understood(push: bytes) -> None:
    script = b"\x6a" + push + b"id>>" + bytes(32)
    assert flaw([TxOut(0, script), OWNER]) is None
    assert read([TxOut(0, script + b"\0"), OWNER]) is None
    assert read([TxOut(0, script[:-1]), OWNER]) is None


@pytest.mark.parametrize(
    "payload", [b"", b"i", b"id", b"ID~alice.id", b"eg~alice.id", b"id" + b"\0", b"idx", b"id%a.id"]
)
def test_what_is_not_ours_is_no_operation_and_no_flaw(payload: bytes) -> None:
    assert read([op_return(payload), CHANGE]) is None


@pytest.mark.parametrize("epoch", [EPOCH_1, EPOCH_2, EPOCH_3])
def test_a_token_transfer_is_no_operation_before_epoch_4(epoch: Epoch) -> None:
    payload = op_return(b"id$" + bytes(43))
    assert read([payload, OWNER], epoch) is None
    assert flaw([payload, OWNER], EPOCH_4) is None


# --- lengths

ALL = (EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4)
EARLY = ALL[:3]
LENGTHS: list[tuple[bytes, list[TxOut], dict[Epoch, set[int]]]] = [
    (b"?", [CHANGE, FEE], {**{epoch: {36} for epoch in EARLY}, EPOCH_4: {36, 63}}),
    (b"+", [CHANGE], {epoch: {36} for epoch in ALL}),
    (b"*", [CHANGE, FEE], {**{epoch: {36} for epoch in EARLY}, EPOCH_4: {44}}),
    (b"#", [CHANGE], {epoch: {20} for epoch in ALL}),
    (b"$", [OWNER, CHANGE], {EPOCH_4: set(range(43, 78))}),
]


@pytest.mark.parametrize(("opcode", "outputs", "allowed"), LENGTHS, ids=lambda v: str(v)[:6])
def test_each_payload_has_its_lengths(
    opcode: bytes, outputs: list[TxOut], allowed: dict[Epoch, set[int]]
) -> None:
    for epoch, lengths in allowed.items():
        for length in range(78):
            expected = None if length in lengths else Flaw.PAYLOAD_LENGTH
            assert flaw([op_return(b"id" + opcode + bytes(length)), *outputs], epoch) is expected


def test_a_transfer_is_33_bytes_and_says_keep_or_drop() -> None:
    for length in range(78):
        expected = None if length == 33 else Flaw.PAYLOAD_LENGTH
        assert flaw([op_return(b"id>" + b"~" * length), OWNER]) is expected
    for flag in range(256):
        payload = op_return(b"id>" + bytes((flag,)) + bytes(32))
        expected = None if flag in b">~" else Flaw.BAD_TRANSFER_FLAG
        assert flaw([payload, OWNER]) is expected


def test_a_reveal_holds_an_id_of_1_to_19_characters() -> None:
    for size in range(30):
        payload = op_return(b"id&" + bytes(14) + b"\x11\0\1" + b"x" * size)
        expected = None if 1 <= size <= 19 else Flaw.PAYLOAD_LENGTH
        assert flaw([payload, OWNER, CHANGE]) is expected


BAD, LENGTH, EARLY_HASH = Flaw.BAD_NAME, Flaw.PAYLOAD_LENGTH, Flaw.VALUE_HASH_TOO_EARLY
REGISTRATIONS = [  # payload length, flaws in epochs 1 to 4 as registration, as renewal
    (7, [None] * 4, [None] * 4),
    (37, [None] * 4, [None] * 4),
    (38, [BAD] * 4, [BAD] * 4),
    (56, [BAD] * 4, [BAD] * 4),
    (57, [EARLY_HASH, EARLY_HASH, None, None], [EARLY_HASH, EARLY_HASH, None, LENGTH]),
    (58, [BAD, BAD, LENGTH, LENGTH], [BAD, BAD, LENGTH, LENGTH]),
    (65, [BAD, BAD, LENGTH, None], [BAD, BAD, LENGTH, None]),
    (66, [BAD, BAD, LENGTH, LENGTH], [BAD, BAD, LENGTH, LENGTH]),
]


@pytest.mark.parametrize(("length", "registering", "renewing"), REGISTRATIONS)
def test_the_forms_of_a_registration(
    length: int, registering: list[Flaw | None], renewing: list[Flaw | None]
) -> None:
    name = b"a" * (min(length, 37) - 3) + b".id"
    if length > 37:
        name = b"alice.id".ljust(37, b"\0") if length >= 57 else b"a" * (length - 3) + b".id"
    payload = op_return(b"id:" + name.ljust(length, b"\1"))
    for epoch, expected in zip(ALL, registering, strict=True):
        assert flaw([payload, OWNER, CHANGE], epoch) is expected
    for epoch, expected in zip(ALL, renewing, strict=True):
        assert flaw([payload, OWNER, CHANGE, FEE], epoch) is expected


# --- names on the wire

BAD_NAMES = [
    b"",
    b"alice",
    b".id",
    b"alice.",
    b"a.b.id",
    b"Alice.id",
    b"al+ice.id",
    b"alice.id\n",
    b"alice.id\r\n",
    b"alice.id\0",
    b"\0alice.id",
    b"ali\0ce.id",
    b"ali ce.id",
    b"alic\xe9.id",
    b"\xc3\xa9.id",
    b"\xff\xfe.id",
    b"a" * 35 + b".id",
    b"a." + b"n" * 20,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_by_every_operation_that_spells_it(name: bytes) -> None:
    outputs = [OWNER, CHANGE, CHANGE]
    for opcode in (b":", b";", b"~"):
        for count in (2, 3) if opcode == b":" else (3,):
            payload = op_return(b"id" + opcode + name)
            assert flaw([payload, *outputs[:count]]) is Flaw.BAD_NAME
    if not name.endswith(b"\0") and len(name) <= 37:
        padded = op_return(b"id:" + name.ljust(37, b"\0") + bytes(20))
        assert flaw([padded, *outputs]) is Flaw.BAD_NAME


@pytest.mark.parametrize("name", [b"", b"i.d", b"ID", b"id\n", b"id\0", b"i+d", b"\xe9", b"x" * 20])
def test_a_bad_namespace_is_refused_by_reveal_and_ready(name: bytes) -> None:
    assert flaw([op_return(b"id!." + name), CHANGE]) is Flaw.BAD_NAMESPACE
    assert flaw([op_return(b"id!" + name), CHANGE]) is Flaw.BAD_NAMESPACE
    reveal = op_return(b"id&" + bytes(14) + b"\x11\0\1" + name)
    expected = Flaw.BAD_NAMESPACE if 1 <= len(name) <= 19 else Flaw.PAYLOAD_LENGTH
    assert flaw([reveal, OWNER, CHANGE]) is expected


# --- who sent it


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_input_spoils_the_transaction(odd: str) -> None:
    for spent in ([ODD[odd]], [ALICE.script, ODD[odd]], [ODD[odd], ALICE.script]):
        tx = transaction([UPDATE], [b""] * len(spent))
        found = read_operation(tx, 1, spent, MAINNET, EPOCH_3)
        assert isinstance(found, Malformed)
        assert found.flaw is Flaw.SPENDS_OTHER_SCRIPTS


@pytest.mark.parametrize("place", [0, 1])
def test_a_coinbase_input_spoils_the_transaction(place: int) -> None:
    inputs = [TxIn(b"\1" * 32, 0, b"", 0), TxIn(b"\2" * 32, 0, b"", 0)]
    inputs[place] = TxIn(bytes(32), 0xFFFFFFFF, b"", 0)
    tx = transaction([UPDATE])
    tx = type(tx)(tx.txid, 1, tuple(inputs), tx.outputs, 0)
    found = read_operation(tx, 1, [ALICE.script] * 2, MAINNET, EPOCH_3)
    assert isinstance(found, Malformed)
    assert found.flaw is Flaw.COINBASE


def _sender(spent: Sequence[bytes], sigs: Sequence[bytes]) -> tuple[bytes, bytes | None]:
    found = read_operation(transaction([UPDATE], sigs), 1, spent, MAINNET, EPOCH_3)
    assert isinstance(found, Update)
    return found.sender, found.sender_pubkey


LONG = Holder("long", compressed=False)


@pytest.mark.parametrize("holder", [ALICE, LONG], ids=["33 bytes", "65 bytes"])
def test_the_principal_is_input_0_and_its_key_is_as_pushed(holder: Holder) -> None:
    assert _sender([holder.script], [holder.script_sig]) == (holder.script, holder.public_key)
    both = [holder.script, BOB.script], [holder.script_sig, BOB.script_sig]
    assert _sender(*both) == (holder.script, holder.public_key)


def test_the_key_may_stand_in_a_later_input_of_the_same_address() -> None:
    spent, sigs = [ALICE.script] * 2, [b"", ALICE.script_sig]
    assert _sender(spent, sigs) == (ALICE.script, ALICE.public_key)


def test_a_sender_behind_p2sh_has_no_key_segwit_or_not() -> None:
    multisig = b"\x00" + bytes((71,)) + bytes(71) + bytes((2,)) + b"\x51\xae"
    for sig in (VAULT.script_sig, multisig, ALICE.script_sig):
        assert _sender([VAULT.script], [sig]) == (VAULT.script, None)


@pytest.mark.parametrize(
    "sig",
    [
        b"",
        bytes((33,)) + (ALICE.public_key or b""),
        b"\x01a\x01b" + bytes((33,)) + (ALICE.public_key or b""),
        BOB.script_sig,
        bytes((71,)) + bytes(71) + bytes((34,)) + (ALICE.public_key or b"") + b"\0",
        ALICE.script_sig[:-1],
        b"\x4c",
        b"\x4e\xff\xff\xff\xff",
        b"\x51\x52",
    ],
)
def test_a_script_sig_that_does_not_show_the_key_gives_none(sig: bytes) -> None:
    assert _sender([ALICE.script], [sig]) == (ALICE.script, None)


def test_a_key_of_the_other_form_is_not_the_senders() -> None:
    secret = PrivateKey(b"\7" * 32)
    short = secret.get_public_key().sec()
    holder = Holder.of_key(short)
    long_form = PrivateKey(b"\7" * 32, False).get_public_key().sec()
    sig = b"\x01s" + bytes((len(long_form),)) + long_form
    assert _sender([holder.script], [sig]) == (holder.script, None)
    assert _sender([holder.script], [b"\x01s" + b"\x4c\x21" + short])[1] == short
