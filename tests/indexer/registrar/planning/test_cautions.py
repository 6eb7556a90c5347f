"""What nothing forbids and a person should know is said before it is paid for."""

from dataclasses import replace

from indexer.networks import INFINITE_LIFETIME
from indexer.protocol.flaws import Flaw
from indexer.registrar.planning import wishes
from indexer.registrar.planning.plan_text import plan_lines
from indexer.registrar.planning.refusals import Reason
from indexer.registrar.planning.steps import Parties
from indexer.registrar.planning.wishes import Wish
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    FOURTH,
    PAYER,
    REVEALER,
    THIRD,
    Ledger,
    name_import,
    opened,
    ready,
)
from tests.indexer.registrar.planning.world import (
    BY_ALICE,
    CHAINS,
    FOO,
    ID,
    PAYS,
    RENEW,
    REVOKE,
    TO_BOB,
    UPDATE,
    World,
    refused,
)


def warned(world: World, wish: Wish, parties: Parties, words: str) -> bool:
    return any(words in warning for warning in world.plan(wish, parties).warnings)


def test_an_owner_of_25_names_is_warned_of_before_it_is_one() -> None:
    ledger = opened(THIRD)
    ledger.register("foo.id", BOB)
    ledger.register_many(23, ALICE)
    world = World(ledger)
    to_alice = wishes.TransferName("foo.id", ALICE.script)
    new = wishes.RegisterName("new.id")
    says = "would own 25 names, and could then renew none"
    assert not warned(world, to_alice, Parties(BOB.script), says)
    assert not warned(world, new, PAYS, says)
    ledger.register("one.id", ALICE)
    assert warned(world, to_alice, Parties(BOB.script), says)
    assert warned(world, new, PAYS, says)
    assert world.carry_out(to_alice, Parties(BOB.script)) == [None]
    assert world.carry_out(RENEW, BY_ALICE) == [Flaw.QUOTA]


def test_imports_may_exceed_what_an_owner_can_update_and_say_so() -> None:
    ledger = Ledger(THIRD)
    ledger.reveal_namespace()
    ledger.accept(*((REVEALER, name_import(f"n{n}.id")) for n in range(25)))
    wish = wishes.ImportName("foo.id", ALICE.script, bytes(20))
    world = World(ledger)
    assert warned(world, wish, Parties(REVEALER.script), "26 names, and could then neither renew")
    again = replace(wish, name="n3.id")
    assert warned(world, again, Parties(REVEALER.script), "would own 25 names")
    assert warned(world, wish, Parties(REVEALER.script), "if its namespace is not opened before")
    ledger.accept((REVEALER, name_import("foo.id")), (REVEALER, ready()))
    told = refused(world, UPDATE, BY_ALICE)
    assert "owns more than 25 names" in str(told)


def test_each_wish_comes_with_what_cannot_be_taken_back() -> None:
    ledger = opened(THIRD, lifetime=100)
    ledger.register("foo.id")
    world = World(ledger)
    assert warned(world, TO_BOB, BY_ALICE, "only the new owner can give foo.id back")
    dropping = replace(TO_BOB, keep_data=False)
    assert warned(world, dropping, BY_ALICE, "holds no data until its new owner")
    nobody = replace(TO_BOB, recipient=THIRD.burn_script)
    assert warned(world, nobody, BY_ALICE, "would be lost")
    assert warned(world, REVOKE, BY_ALICE, "nothing takes a revocation back")
    assert warned(world, RENEW, BY_ALICE, "the 199 blocks that are left are not added")
    assert warned(world, replace(FOO, name="bar.id"), PAYS, "before you do, it is lost")
    assert warned(world, wishes.RegisterName("was2bme.id"), PAYS, "546 satoshis are paid")
    assert warned(world, wishes.PreorderNamespace("xy", BOB.script), PAYS, "the price is lost")
    ledger.accept((ALICE, ledger.update("foo.id", b"\7" * 20)))
    assert warned(world, UPDATE, BY_ALICE, "holds this very data already")
    assert not warned(world, UPDATE, BY_ALICE, "renew it first")
    ledger.skip(175)
    assert warned(world, UPDATE, BY_ALICE, "renew it first")
    endless = opened(THIRD, lifetime=INFINITE_LIFETIME)
    endless.register("foo.id")
    assert warned(World(endless), RENEW, BY_ALICE, "a renewal buys nothing")
    assert "can never be registered again" in "\n".join(
        plan_lines(World(endless).plan(REVOKE, BY_ALICE), THIRD)
    )


def test_after_the_freeze_every_plan_says_what_cannot_be_known() -> None:
    ledger = Ledger(CHAINS["freezing"])
    ledger.open_namespace("id", lifetime=5_000)
    says = "from block 113 on, payments in another ledger decide too"
    world = World(ledger)
    assert not warned(world, FOO, PAYS, says)
    ledger.skip(10)
    assert warned(world, FOO, PAYS, says)
    assert world.carry_out(FOO, PAYS) == [None, None]
    with_data = wishes.RenewName("foo.id", b"\7" * 20)
    assert world.carry_out(with_data, BY_ALICE) == [None]
    assert ledger.name("foo.id").value_hash == b"\7" * 20
    frozen = World(Ledger(FOURTH))
    told = refused(frozen, ID, Parties(PAYER.script))
    assert told.reason is Reason.OTHER_LEDGER
