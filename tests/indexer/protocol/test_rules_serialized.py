"""The text of each accepted operation as it enters the ops hash, with the quirks it must keep.

The fields are written out here from the tables of protocol spec section 4.2, and the quirks from
sections 1.11 and 4.3; nothing of ``consensus`` is used to tell what to expect.
"""

from typing import Any

import pytest

from indexer.networks import Network
from indexer.protocol.names import hash128, hash_name, name_consensus_hash
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    CLASSIC,
    FIRST,
    PAYER,
    REVEALER,
    SECOND,
    SHORT_GRACE,
    THIRD,
    VAULT,
    Holder,
    Ledger,
    name_import,
    opened,
    ready,
    reveal,
    revoke,
)

VALUE = bytes(range(20))
FEE, CONSENSUS = 14, -1
"""Places in the fields of a name's operation, the opcode being place 0."""


def text(value: Any) -> str:
    return "" if value is None else value.hex() if isinstance(value, bytes) else str(value)


def txid(ledger: Ledger, place: int = 0) -> str:
    assert ledger.last is not None
    return ledger.last.verdicts[place][0][::-1].hex()


def name_fields(ledger: Ledger, name: str, owner: Holder, **changed: Any) -> list[str]:
    """N of the spec for a name that PAYER registered for ``owner`` in the last block."""
    h = ledger.height
    fields = {
        "name": name,
        "value_hash": None,
        "sender": owner.script,
        "sender_pubkey": PAYER.public_key,
        "address": owner.address(ledger.network),
        "block_number": h - 1,
        "preorder_block_number": h - 1,
        "first_registered": h,
        "last_renewed": h,
        "revoked": False,
        "op": ":",
        "txid": txid(ledger),
        "vtxindex": 1,
        "op_fee": 400_000,
        "importer": None,
        "importer_address": None,
    }
    assert set(changed) <= set(fields)
    return [text(value) for value in {**fields, **changed}.values()]


def test_a_text_is_opcode_then_fields_behind_their_lengths() -> None:
    ledger = Ledger()
    ledger.skip()
    wish = ledger.preorder("alice.id")
    ledger.accept((PAYER, wish))
    assert ledger.last is not None
    fields = [
        wish.preorder_hash.hex(),
        wish.consensus_hash.hex(),
        PAYER.script.hex(),
        (PAYER.public_key or b"").hex(),
        PAYER.address(ledger.network),
        "101",
        "?",
        txid(ledger),
        "1",
        "400000",
    ]
    expected = "?:" + ",".join(f"{len(field)}:{field}" for field in fields)
    assert ledger.last.serialized == (expected,)


def test_a_preorder_from_behind_p2sh_has_an_empty_key() -> None:
    ledger = Ledger()
    ledger.skip()
    ledger.accept((VAULT, ledger.preorder("alice.id", ALICE, VAULT)))
    assert ledger.last is not None
    assert f"{VAULT.script.hex()},0:,35:2" in ledger.last.serialized[0]


def test_the_whole_life_of_a_registered_name() -> None:
    ledger = opened(SECOND)
    registered = ledger.register("alice.id")
    address = ALICE.address(ledger.network)
    base = name_fields(ledger, "alice.id", ALICE)
    assert ledger.serialized() == [[":", *base, ALICE.script.hex(), address]]
    since = {
        "block_number": registered - 1,
        "preorder_block_number": registered - 1,
        "first_registered": registered,
        "last_renewed": registered,
    }

    bound = ledger.ch()
    ledger.accept((ALICE, ledger.update("alice.id", VALUE)))
    fields = name_fields(ledger, "alice.id", ALICE, **since, value_hash=VALUE, op="+")
    mixed = name_consensus_hash("alice.id", bound)
    assert ledger.serialized() == [["+", *fields, mixed.hex(), bound.hex()]]

    ledger.accept((ALICE, ledger.renew("alice.id", op_fee=400_001)))
    since["last_renewed"] = ledger.height
    changed = {**since, "value_hash": VALUE, "op_fee": 400_001}
    fields = name_fields(ledger, "alice.id", ALICE, **changed, op="::")
    assert ledger.serialized() == [[":", *fields, ALICE.script.hex(), address]]

    ledger.accept((ALICE, ledger.transfer("alice.id", BOB)))
    changed["sender_pubkey"] = None
    fields = name_fields(ledger, "alice.id", BOB, **changed, op=">>")
    named = hash128("alice.id").hex()
    assert ledger.serialized() == [[">", *fields, named, bound.hex(), "True"]]

    ledger.accept((BOB, ledger.transfer("alice.id", CAROL, keep=False)))
    changed["value_hash"] = None
    fields = name_fields(ledger, "alice.id", CAROL, **changed, op=">~")
    assert ledger.serialized() == [[">", *fields, named, bound.hex(), "False"]]

    ledger.accept((CAROL, revoke("alice.id")))
    fields = name_fields(ledger, "alice.id", CAROL, **changed, op="~", revoked=True)
    assert ledger.serialized() == [["~", *fields]]


def test_a_namespace_from_preorder_to_ready() -> None:
    ledger = Ledger()
    ledger.skip()
    wish = ledger.namespace_preorder()
    ledger.accept((PAYER, wish))
    payer = [PAYER.script.hex(), (PAYER.public_key or b"").hex(), PAYER.address(ledger.network)]
    head = [wish.preorder_hash.hex(), wish.consensus_hash.hex()]
    tail = ["*", "4000000000", txid(ledger), "1", "101", *payer]
    assert ledger.serialized() == [["*", *head, *tail]]

    ledger.accept((PAYER, reveal(lifetime=52595)))
    terms = ["52595", "250", "4", str(list(CLASSIC["buckets"])), "10", "10"]
    assert terms[3] == "[6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"
    recipient = [REVEALER.script.hex(), REVEALER.address(ledger.network)]
    begins = ["id", wish.preorder_hash.hex(), "1"]
    fields = [*begins, *payer, *recipient, "101", "102", "&", txid(ledger), "1", *terms]
    assert ledger.serialized() == [["&", *fields]]

    ledger.accept((REVEALER, ready()))
    opener = [REVEALER.script.hex(), *payer[1:]]
    fields = [*begins, *opener, *recipient, "101", "102", "!", txid(ledger), "1", *terms, "103"]
    assert ledger.serialized() == [["!", *fields]]


def imported(chain: Network = FIRST, label: str = "alice", **terms: Any) -> Ledger:
    """A name imported for ALICE, in a namespace that is then opened."""
    ledger = Ledger(chain)
    ledger.reveal_namespace("id", **terms)
    ledger.accept((REVEALER, name_import(f"{label}.id", ALICE, VALUE)))
    return ledger


def test_an_import() -> None:
    ledger = imported()
    h = ledger.height
    address = ALICE.address(ledger.network)
    fields = name_fields(
        ledger,
        "alice.id",
        ALICE,
        value_hash=VALUE,
        sender_pubkey=REVEALER.public_key,
        block_number=h,
        preorder_block_number=h,
        op=";",
        op_fee="400000.0",
        importer=REVEALER.script,
        importer_address=REVEALER.address(ledger.network),
    )
    assert ledger.serialized() == [[";", *fields, ALICE.script.hex(), address]]
    record = ledger.name("alice.id")
    assert record.preorder_hash == hash_name("alice.id", REVEALER.script, address)
    assert record.consensus_hash is None


# --- the fee of an imported name is a float until it is registered anew


@pytest.mark.parametrize(
    ("terms", "shown"),
    [
        ({}, "400000.0"),
        ({"coeff": 0}, "100.0"),
        ({"coeff": 251, "nonalpha_discount": 3, "no_vowel_discount": 7}, "401600.0"),
        ({"coeff": 255, "base": 16, "buckets": (8,) * 16}, "1.09521666048e+14"),
        ({"coeff": 10, "base": 10, "buckets": (9,) * 16}, "1e+12"),
        ({"coeff": 1, "base": 10, "buckets": (9,) * 16}, "100000000000.0"),
        ({"coeff": 255, "base": 255, "buckets": (15,) * 16}, "3.19626579315e+40"),
    ],
)
def test_the_fee_of_an_import_is_written_as_python_2_did(terms: dict[str, Any], shown: str) -> None:
    ledger = imported(**terms)
    assert ledger.serialized()[0][FEE] == shown
    ledger.accept((REVEALER, ready()))
    ledger.accept((ALICE, ledger.update("alice.id")))
    assert ledger.serialized()[0][FEE] == shown


def test_a_discounted_price_shows_twelve_digits() -> None:
    ledger = imported(label="x1", coeff=1, base=1, nonalpha_discount=3, no_vowel_discount=3)
    assert ledger.serialized()[0][FEE] == "100.0"
    ledger = imported(label="x1", coeff=250, base=4, nonalpha_discount=3, no_vowel_discount=3)
    assert ledger.serialized()[0][FEE] == "8533333.33333"


def test_in_epoch_3_the_fee_of_an_import_is_a_tenth() -> None:
    assert imported(THIRD).serialized()[0][FEE] == "40000.0"


def test_the_fee_of_an_imported_name_stays_a_float_through_its_life() -> None:
    ledger = imported(SHORT_GRACE)
    ledger.accept((REVEALER, ready()))
    ledger.accept((ALICE, ledger.update("alice.id")))
    assert ledger.serialized()[0][FEE] == "40000.0"
    ledger.accept((ALICE, ledger.renew("alice.id", op_fee=40_001)))
    assert ledger.serialized()[0][FEE] == "40001.0"
    ledger.accept((ALICE, ledger.transfer("alice.id", BOB)))
    assert ledger.serialized()[0][FEE] == "40001.0"
    ledger.accept((BOB, revoke("alice.id")))
    assert ledger.serialized()[0][FEE] == "40001.0"
    ledger.leap(ledger.height + 300)
    ledger.register("alice.id", CAROL)
    assert ledger.serialized()[0][FEE] == "40000"
    assert ledger.serialized()[0][-4:-2] == ["", ""]  # no importer any more
    ledger.accept((CAROL, ledger.update("alice.id")))
    assert ledger.serialized()[0][FEE] == "40000"


# --- the consensus hash of a transfer


def transferred(ledger: Ledger, by: Holder, to: Holder) -> tuple[str, str]:
    """Transfer; the consensus hash on the wire and the one serialised."""
    wire = ledger.ch().hex()
    ledger.accept((by, ledger.transfer("alice.id", to)))
    shown = ledger.serialized()[0][-2]
    assert (ledger.name("alice.id").consensus_hash or b"").hex() == shown
    return wire, shown


@pytest.mark.parametrize("story", ["registered", "imported"])
def test_without_an_update_a_transfer_shows_its_own_consensus_hash(story: str) -> None:
    if story == "registered":
        ledger = opened()
        ledger.register("alice.id")
    else:
        ledger = imported()
        ledger.accept((REVEALER, ready()))
    for by, to in ((ALICE, BOB), (BOB, CAROL)):
        wire, shown = transferred(ledger, by, to)
        assert shown == wire


def test_after_an_update_every_transfer_shows_the_updates_consensus_hash() -> None:
    ledger = opened()
    ledger.register("alice.id")
    first = ledger.ch().hex()
    ledger.accept((ALICE, ledger.update("alice.id")))
    ledger.skip(2)
    assert transferred(ledger, ALICE, BOB)[1] == first
    ledger.accept((BOB, ledger.renew("alice.id", BOB)))
    assert transferred(ledger, BOB, CAROL)[1] == first
    second = ledger.ch(ledger.height - 3)
    ledger.accept((CAROL, ledger.update("alice.id", VALUE, at=ledger.height - 3)))
    assert transferred(ledger, CAROL, ALICE)[1] == second.hex()


def test_an_update_earlier_in_the_block_decides_what_the_transfer_shows() -> None:
    ledger = opened()
    ledger.register("alice.id")
    bound = ledger.ch(ledger.height - 2)
    update = ledger.update("alice.id", at=ledger.height - 2)
    ledger.accept((ALICE, update), (ALICE, ledger.transfer("alice.id", BOB)))
    assert ledger.serialized()[1][-2] == bound.hex()


def test_a_new_registration_forgets_the_updates_of_the_old_owner() -> None:
    ledger = opened()
    registered = ledger.register("alice.id")
    ledger.accept((ALICE, ledger.update("alice.id")))
    ledger.leap(registered + 102)
    ledger.register("alice.id", BOB)
    wire, shown = transferred(ledger, BOB, CAROL)
    assert shown == wire
