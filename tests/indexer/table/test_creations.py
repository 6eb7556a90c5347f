"""Which names were created for whom: numbers of creations, which decentralised identifiers hold."""

from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.table.snapshot import Snapshot
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    REVEALER,
    SHORT_GRACE,
    THIRD,
    Holder,
    Ledger,
    name_import,
    opened,
)


def seen(ledger: Ledger) -> Snapshot:
    return Snapshot(ledger.store, ledger.network)


def numbered(ledger: Ledger, holder: Holder) -> list[str]:
    """The names created for ``holder``, in the order of their numbers."""
    snapshot, found = seen(ledger), []
    while (creation := snapshot.creation(holder.script, len(found))) is not None:
        found.append(creation.name)
    return found


def test_creations_are_numbered_by_the_first_owner_whoever_owns_the_names_later() -> None:
    ledger = opened(THIRD)
    ledger.register("one.id", ALICE)
    ledger.register("two.id", BOB)
    ledger.accept((ALICE, ledger.transfer("one.id", BOB)))
    ledger.register("three.id", ALICE)
    assert (numbered(ledger, ALICE), numbered(ledger, BOB)) == (["one.id", "three.id"], ["two.id"])
    creation = seen(ledger).creation_of("one.id")
    assert creation is not None
    assert (creation.script, creation.number) == (ALICE.script, 0)


def test_who_registers_a_lapsed_name_creates_it_anew() -> None:
    ledger = opened(SHORT_GRACE)
    ledger.register("one.id", ALICE)
    ledger.skip(2 * 100 + 10 + 2)
    ledger.register("one.id", BOB)
    assert (numbered(ledger, ALICE), numbered(ledger, BOB)) == (["one.id"], ["one.id"])
    creation = seen(ledger).creation_of("one.id")
    assert creation is not None
    assert creation.script == BOB.script


def test_a_second_import_of_a_live_name_creates_nothing() -> None:
    ledger = Ledger(THIRD)
    ledger.reveal_namespace("id")
    ledger.accept((REVEALER, name_import("one.id", ALICE)))
    ledger.accept((REVEALER, name_import("one.id", BOB)))
    assert (numbered(ledger, ALICE), numbered(ledger, BOB)) == (["one.id"], [])
    creation = seen(ledger).creation_of("one.id")
    assert creation is not None
    assert creation.script == ALICE.script


def test_a_name_that_was_never_registered_was_never_created() -> None:
    assert seen(opened(THIRD)).creation_of("nobody.id") is None
    assert seen(opened(THIRD)).creation(ALICE.script, 2**32) is None


@settings(max_examples=10)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_the_number_of_any_creation_is_found_among_many(blocks: list[int]) -> None:
    ledger = opened(THIRD)
    names = [
        name
        for block, count in enumerate(blocks)
        for name in ledger.register_many(count, Holder("many"), f"n{block}x")
    ]
    snapshot = seen(ledger)
    for number, name in enumerate(names):
        creation = snapshot.creation_of(name)
        assert creation is not None
        assert (creation.number, creation.name) == (number, name)


def test_a_value_that_a_name_holds_or_held_is_known_to_be_its_own() -> None:
    ledger = opened(THIRD)
    ledger.register("one.id", ALICE)
    for value in (b"\1" * 20, b"\2" * 20):
        ledger.accept((ALICE, ledger.update("one.id", value)))
    snapshot = seen(ledger)
    held = [snapshot.holds_or_held("one.id", bytes([n]) * 20) for n in (1, 2, 3)]
    assert held == [True, True, False]
    assert not snapshot.holds_or_held("on.id", b"\1" * 20)


def test_all_names_are_listed_one_namespace_after_the_other() -> None:
    ledger = opened(THIRD)
    ledger.open_namespace("io")
    for name in ("b.io", "a.io", "b.id"):
        ledger.register(name)
    snapshot = seen(ledger)
    assert snapshot.names().entries == ("b.id", "a.io", "b.io")
    first = snapshot.names(limit=2)
    assert first.entries + snapshot.names(first.next).entries == ("b.id", "a.io", "b.io")
    assert [record.name for record, _ in snapshot.standings()] == ["b.id", "a.io", "b.io"]
