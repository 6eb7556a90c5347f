"""Namespaces from preorder to ready or to lapse, and who may import into them.

The children of an import key are computed here with arithmetic of our own, from BIP 32 and SEC 1.
Protocol spec sections 1.13 to 1.17.
"""

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.networks import EPOCH_3, EPOCH_4, INFINITE_LIFETIME
from indexer.protocol.flaws import Flaw
from indexer.protocol.namespace_rules import import_keys
from indexer.protocol.operations import Announce
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    FIRST,
    FOURTH,
    PAYER,
    REVEALER,
    SECOND,
    THIRD,
    VAULT,
    Holder,
    Ledger,
    Sending,
    name_import,
    network,
    opened,
    ready,
    register,
    reveal,
    revoke,
)

LAPSING = network(FIRST.epochs[0], namespace_reveal_expire=20)

# --- secp256k1 and BIP 32, written out

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
Point = tuple[int, int] | None


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(scalar: int, point: Point) -> Point:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def compressed(point: Point) -> bytes:
    assert point is not None
    return bytes((2 + point[1] % 2,)) + point[0].to_bytes(32, "big")


def uncompressed(point: Point) -> bytes:
    assert point is not None
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def child(point: Point, index: int) -> bytes:
    """CKDpub of BIP 32 with a chain code of zeros, as a compressed key."""
    message = compressed(point) + index.to_bytes(4, "big")
    tweak = hmac.new(bytes(32), message, hashlib.sha512).digest()[:32]
    return compressed(add(times(int.from_bytes(tweak, "big"), G), point))


REVEALER_POINT = times(int.from_bytes(hashlib.sha256(b"revealer").digest(), "big"), G)


def test_the_arithmetic_here_is_that_of_the_curve() -> None:
    assert times(N, G) is None
    assert compressed(REVEALER_POINT) == REVEALER.public_key


@settings(max_examples=10, deadline=None)
@given(st.integers(1, N - 1), st.booleans())
def test_the_import_keys_are_the_key_itself_and_its_public_children(
    secret: int, short: bool
) -> None:
    point = times(secret, G)
    own = compressed(point) if short else uncompressed(point)
    expected = [own, *(child(point, index) for index in range(4))]
    scripts = {Holder.of_key(key).script[3:23] for key in expected}
    assert import_keys(own, 4) == scripts


def test_an_import_keychain_of_mainnet_has_300_children() -> None:
    keys = import_keys(REVEALER.public_key or b"", 300)
    assert len(keys) == 301
    assert Holder.of_key(child(REVEALER_POINT, 299)).script[3:23] in keys
    assert Holder.of_key(child(REVEALER_POINT, 300)).script[3:23] not in keys


@pytest.mark.parametrize("key", [b"\x02" + b"\xff" * 32, b"\x04" + b"\1" * 64, b"\x02", b""])
def test_a_key_off_the_curve_has_no_children_and_harms_nobody(key: bytes) -> None:
    assert len(import_keys(key, 300)) == 1


def revealed(chain=FIRST, **terms) -> Ledger:
    ledger = Ledger(chain)
    ledger.reveal_namespace("id", **terms)
    return ledger


def test_children_import_once_the_reveal_address_has_begun() -> None:
    ledger = revealed()
    children = [Holder.of_key(child(REVEALER_POINT, index)) for index in range(4)]
    stranger = Flaw.NOT_AN_IMPORTER
    assert ledger.judge((children[0], name_import("a.id"))) is stranger
    # the first import counts for the rest of its own block already
    assert ledger.block((REVEALER, name_import("b.id")), (children[0], name_import("a.id"))) == [
        None,
        None,
    ]
    sent = [(who, name_import(f"c{n}.id")) for n, who in enumerate(children)]
    assert ledger.block(*sent, (BOB, name_import("d.id"))) == [None, None, None, stranger, stranger]
    record = ledger.name("c2.id")
    assert record.importer == children[2].script
    assert record.importer_address == children[2].address(ledger.network)
    assert record.sender_pubkey == children[2].public_key
    assert record.sender == ALICE.script


def test_the_children_of_an_uncompressed_key_are_those_of_its_compressed_form() -> None:
    revealer = Holder.of_key(uncompressed(REVEALER_POINT))
    ledger = Ledger()
    ledger.skip()
    ledger.accept((PAYER, ledger.namespace_preorder("id", PAYER, revealer)))
    ledger.accept((PAYER, reveal(recipient=revealer.script)))
    assert ledger.judge((REVEALER, name_import("a.id"))) is Flaw.NOT_AN_IMPORTER
    offspring = Holder.of_key(child(REVEALER_POINT, 1))
    assert ledger.block(
        (revealer, name_import("a.id")),
        (offspring, name_import("b.id")),
        (revealer, name_import("c.id")),
        (REVEALER, name_import("d.id")),
    ) == [None, None, None, Flaw.NOT_AN_IMPORTER]


def test_nobody_imports_where_the_reveal_address_is_p2sh() -> None:
    ledger = Ledger()
    ledger.skip()
    ledger.accept((PAYER, ledger.namespace_preorder("id", PAYER, VAULT)))
    ledger.accept((PAYER, reveal(recipient=VAULT.script)))
    assert ledger.judge((VAULT, name_import("a.id"))) is Flaw.IMPORTER_UNKNOWN
    assert ledger.judge((REVEALER, name_import("a.id"))) is Flaw.NOT_AN_IMPORTER
    assert ledger.judge((VAULT, ready())) is None


def test_an_import_in_the_block_of_the_reveal_or_after_ready_is_refused() -> None:
    ledger = Ledger()
    ledger.skip()
    ledger.accept((PAYER, ledger.namespace_preorder()))
    hidden = Flaw.NAMESPACE_NOT_REVEALED
    assert ledger.block((PAYER, reveal()), (REVEALER, name_import("a.id"))) == [None, hidden]
    assert ledger.block((REVEALER, ready()), (REVEALER, name_import("a.id"))) == [None, hidden]
    assert ledger.judge((REVEALER, name_import("a.id"))) is hidden


def test_an_imported_name_does_nothing_until_its_namespace_is_ready() -> None:
    ledger = revealed()
    ledger.accept((REVEALER, name_import("alice.id")))
    closed = Flaw.NAMESPACE_NOT_READY
    wishes: list[Sending] = [
        (ALICE, ledger.update("alice.id")),
        (ALICE, ledger.transfer("alice.id", BOB)),
        (ALICE, ledger.renew("alice.id")),
        (ALICE, revoke("alice.id")),
        (PAYER, register("alice.id")),
    ]
    assert ledger.block(*wishes) == [closed] * 5
    ledger.accept((REVEALER, ready()))
    assert ledger.judge((ALICE, ledger.update("alice.id"))) is None


def test_a_second_import_of_a_name_keeps_when_and_as_what_it_first_came() -> None:
    ledger = revealed()
    ledger.accept((REVEALER, name_import("alice.id", ALICE)))
    first = ledger.name("alice.id")
    ledger.skip(3)
    ledger.accept((REVEALER, name_import("alice.id", BOB, b"\5" * 20)))
    again = ledger.name("alice.id")
    kept = "block_number", "preorder_block_number", "first_registered", "last_renewed"
    for field in (*kept, "preorder_hash"):
        assert getattr(again, field) == getattr(first, field)
    assert first.first_registered == ledger.height - 4
    assert (again.sender, again.value_hash) == (BOB.script, b"\5" * 20)


# --- a reveal that is never made ready


@pytest.mark.parametrize(("blocks", "flaw"), [(20, None), (21, Flaw.NAMESPACE_NOT_REVEALED)])
def test_a_reveal_lapses_to_the_block(blocks: int, flaw: Flaw | None) -> None:
    for wish in (name_import("a.id"), ready()):
        ledger = revealed(LAPSING)
        ledger.leap(ledger.height + blocks)
        assert ledger.judge((REVEALER, wish)) is flaw


@pytest.mark.parametrize(("blocks", "flaw"), [(20, Flaw.NAMESPACE_EXISTS), (21, None)])
def test_a_lapsed_namespace_can_be_revealed_anew(blocks: int, flaw: Flaw | None) -> None:
    ledger = revealed(LAPSING)
    first = ledger.namespace()
    ledger.accept((BOB, ledger.namespace_preorder("id", BOB, CAROL)))
    ledger.leap(first.reveal_block + blocks)
    assert ledger.judge((BOB, reveal(recipient=CAROL.script))) is flaw
    if flaw is None:
        second = ledger.namespace()
        assert second.block_number == first.block_number
        assert second.reveal_block == ledger.height
        assert second.sender == BOB.script


def test_the_import_keys_of_a_lapsed_reveal_are_void() -> None:
    ledger = revealed(LAPSING)
    offspring = Holder.of_key(child(REVEALER_POINT, 0))
    ledger.accept((REVEALER, name_import("a.id")), (offspring, name_import("b.id")))
    ledger.skip(20)
    ledger.accept((PAYER, ledger.namespace_preorder("id", PAYER, CAROL)))
    ledger.accept((PAYER, reveal(recipient=CAROL.script)))
    void = Flaw.NOT_AN_IMPORTER
    sent = [(who, name_import("c.id")) for who in (REVEALER, offspring, CAROL, REVEALER)]
    assert ledger.block(*sent) == [void, void, None, void]


def test_the_same_revealer_must_begin_again_before_its_children() -> None:
    ledger = revealed(LAPSING)
    offspring = Holder.of_key(child(REVEALER_POINT, 0))
    ledger.accept((REVEALER, name_import("a.id")))
    ledger.skip(20)
    ledger.accept((PAYER, ledger.namespace_preorder()))
    ledger.accept((PAYER, reveal()))
    sent = [(who, name_import("b.id")) for who in (offspring, REVEALER, offspring)]
    assert ledger.block(*sent) == [Flaw.NOT_AN_IMPORTER, None, None]


def test_a_namespace_once_ready_never_lapses() -> None:
    ledger = opened(LAPSING, lifetime=INFINITE_LIFETIME)
    ledger.skip(30)
    ledger.accept((BOB, ledger.namespace_preorder("id", BOB)))
    assert ledger.judge((BOB, reveal())) is Flaw.NAMESPACE_EXISTS
    ledger.register("alice.id")


# --- preorder, reveal, ready


def test_a_namespace_preorder_may_be_sent_again_only_while_its_namespace_exists() -> None:
    ledger = Ledger(LAPSING)
    ledger.skip()
    ledger.accept((PAYER, ledger.namespace_preorder()))
    assert ledger.judge((PAYER, ledger.namespace_preorder())) is Flaw.PREORDER_EXISTS
    ledger.accept((PAYER, reveal()))
    for _ in range(2):
        assert ledger.judge((PAYER, ledger.namespace_preorder())) is None
    ledger.skip(20)
    assert ledger.judge((PAYER, ledger.namespace_preorder())) is Flaw.PREORDER_EXISTS


def test_a_namespace_preorder_never_grows_too_old() -> None:
    ledger = Ledger()
    ledger.skip()
    ledger.accept((PAYER, ledger.namespace_preorder()))
    ledger.leap(ledger.height + 10_000)
    assert ledger.judge((PAYER, reveal())) is None


def test_a_namespace_preorder_pays_the_burn_address() -> None:
    ledger = Ledger()
    ledger.skip()
    astray = replace(ledger.namespace_preorder(), fee_script=BOB.script)
    assert ledger.judge((PAYER, astray)) is Flaw.FEE_WENT_ELSEWHERE


def test_a_reveal_is_by_the_sender_and_for_the_address_of_its_preorder() -> None:
    ledger = Ledger()
    ledger.skip()
    ledger.accept((PAYER, ledger.namespace_preorder()))
    assert ledger.judge((BOB, reveal())) is Flaw.NO_PREORDER
    assert ledger.judge((PAYER, reveal(recipient=BOB.script))) is Flaw.NO_PREORDER
    assert ledger.judge((PAYER, reveal("di"))) is Flaw.NO_PREORDER
    assert ledger.judge((PAYER, reveal())) is None


@pytest.mark.parametrize(
    ("chain", "version", "flaw"),
    [
        (FIRST, 1, None),
        (FIRST, 2, Flaw.BAD_VERSION),
        (SECOND, 3, Flaw.BAD_VERSION),
        (THIRD, 2, None),
        (THIRD, 3, Flaw.BAD_VERSION),
        (THIRD, 0, Flaw.BAD_VERSION),
        (THIRD, 4, Flaw.BAD_VERSION),
        (network(replace(EPOCH_3, last_block=101), EPOCH_4), 3, Flaw.OTHER_LEDGER),
    ],
)
def test_the_versions_of_a_namespace_come_with_the_epochs(chain, version, flaw) -> None:
    ledger = Ledger(chain)
    ledger.skip()
    ledger.accept((PAYER, ledger.namespace_preorder()))
    assert ledger.judge((PAYER, reveal(version=version))) is flaw


def test_in_epoch_4_a_namespace_preorder_must_name_tokens_and_is_left_to_their_ledger() -> None:
    ledger = Ledger(FOURTH)
    ledger.skip()
    wish = ledger.namespace_preorder()
    assert ledger.judge((PAYER, wish)) is Flaw.PAYLOAD_LENGTH
    assert ledger.judge((PAYER, replace(wish, token_amount=1))) is Flaw.OTHER_LEDGER


def test_ready_keeps_the_key_and_address_of_the_reveal() -> None:
    ledger = revealed()
    before = ledger.namespace()
    ledger.accept((REVEALER, ready()))
    after = ledger.namespace()
    assert after.sender == REVEALER.script
    assert (after.sender_pubkey, after.address) == (before.sender_pubkey, before.address)
    assert after.ready_block == ledger.height
    assert after.is_ready
    assert not before.is_ready


def test_an_announcement_leaves_no_trace_in_the_consensus() -> None:
    quiet, loud = opened(), opened()
    for ledger in (quiet, loud):
        ledger.register("crier.id")
    quiet.skip()
    loud.accept((ALICE, Announce(message_hash=bytes(20))))
    assert quiet.ch() == loud.ch()
