"""Several operations in one block: collisions, order, the same transaction twice, and quotas.

Operations take effect in the order of the block; a name created in it is invisible to the rest of
it. Protocol spec sections 1.6, 1.8, 1.15 and 3.
"""

from collections.abc import Callable

import pytest

from indexer.networks import MAX_NAMES_PER_SENDER, Network
from indexer.protocol.flaws import Flaw
from indexer.protocol.operations import Operation
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    FIRST,
    PAYER,
    REVEALER,
    THIRD,
    Holder,
    Ledger,
    Sending,
    name_import,
    opened,
    ready,
    register,
    reveal,
    revoke,
)

TWICE = Flaw.COLLISION


def _preordered(*owners: Holder, name: str = "alice.id") -> Ledger:
    """A preorder of one name by each of ``owners`` for himself, in one block."""
    ledger = opened()
    ledger.accept(*((owner, ledger.preorder(name, owner, owner)) for owner in owners))
    return ledger


# --- collisions


def test_of_two_valid_registrations_nobody_gets_the_name_and_the_preorders_stay() -> None:
    ledger = _preordered(ALICE, BOB)
    both = (ALICE, register("alice.id", ALICE)), (BOB, register("alice.id", BOB))
    assert ledger.block(*both) == [TWICE, TWICE]
    assert ledger.view.name("alice.id") is None
    assert ledger.block(*both) == [TWICE, TWICE]
    assert ledger.block(both[1]) == [None]
    assert ledger.block(both[0]) == [Flaw.NAME_TAKEN]


def test_three_valid_registrations_all_collide() -> None:
    ledger = _preordered(ALICE, BOB, CAROL)
    three = [(who, register("alice.id", who)) for who in (ALICE, BOB, CAROL)]
    assert ledger.block(*three) == [TWICE] * 3


def test_an_invalid_registration_collides_with_nobody() -> None:
    ledger = _preordered(ALICE)
    stranger = (BOB, register("alice.id", BOB))
    assert ledger.block(stranger, (ALICE, register("alice.id", ALICE))) == [Flaw.NO_PREORDER, None]


def test_a_registration_that_paid_too_little_collides_with_nobody() -> None:
    ledger = opened()
    ledger.accept(
        (ALICE, ledger.preorder("alice.id", ALICE, ALICE)),
        (BOB, ledger.preorder("alice.id", BOB, BOB, op_fee=1)),
    )
    sent = (BOB, register("alice.id", BOB)), (ALICE, register("alice.id", ALICE))
    assert ledger.block(*sent) == [Flaw.FEE_TOO_LOW, None]


def test_registrations_of_different_names_do_not_collide() -> None:
    ledger = opened()
    ledger.accept((PAYER, ledger.preorder("a.id")), (PAYER, ledger.preorder("b.id")))
    assert ledger.block((PAYER, register("a.id")), (PAYER, register("b.id"))) == [None, None]


def test_a_preorder_earlier_in_the_block_is_good_and_later_is_not() -> None:
    ledger = opened()
    wish = ledger.preorder("alice.id")
    order = ledger.block((PAYER, register("alice.id")), (PAYER, wish))
    assert order == [Flaw.NO_PREORDER, None]
    wish = ledger.preorder("bob.id", BOB)
    assert ledger.block((PAYER, wish), (PAYER, register("bob.id", BOB))) == [None, None]


def test_with_both_preorders_in_the_block_the_first_registration_wins() -> None:
    ledger = opened()
    sent: list[Sending] = []
    for who in (ALICE, BOB):
        wish = ledger.preorder("alice.id", who, who)
        sent += [(who, wish), (who, register("alice.id", who))]
    assert ledger.block(*sent) == [None, None, None, TWICE]
    assert ledger.name("alice.id").sender == ALICE.script


def test_a_registration_preordered_in_the_block_wins_over_a_later_older_preorder() -> None:
    ledger = _preordered(ALICE)
    wish = ledger.preorder("alice.id", BOB, BOB)
    sent = (BOB, wish), (BOB, register("alice.id", BOB)), (ALICE, register("alice.id", ALICE))
    assert ledger.block(*sent) == [None, None, TWICE]
    assert ledger.block((ALICE, register("alice.id", ALICE))) == [Flaw.NAME_TAKEN]


def test_two_valid_reveals_of_one_namespace_both_lose_and_may_try_again() -> None:
    ledger = Ledger()
    ledger.skip()
    wishes = [(who, ledger.namespace_preorder("id", who)) for who in (PAYER, BOB)]
    ledger.accept(*wishes)
    both = (PAYER, reveal()), (BOB, reveal())
    assert ledger.block(*both) == [TWICE, TWICE]
    assert ledger.block(both[1]) == [None]
    assert ledger.block(both[0]) == [Flaw.NAMESPACE_EXISTS]


def test_of_two_reveals_preordered_in_the_block_the_first_wins() -> None:
    ledger = Ledger()
    ledger.skip()
    sent: list[Sending] = []
    for who in (PAYER, BOB):
        sent += [(who, ledger.namespace_preorder("id", who)), (who, reveal())]
    assert ledger.block(*sent) == [None, None, None, TWICE]


def test_imports_never_collide_and_the_last_one_counts() -> None:
    ledger = Ledger()
    ledger.reveal_namespace()
    sent = [(REVEALER, name_import("alice.id", who, who.script[3:23])) for who in (ALICE, BOB)]
    assert ledger.block(*sent) == [None, None]
    record = ledger.name("alice.id")
    assert (record.sender, record.value_hash) == (BOB.script, BOB.script[3:23])
    assert record.first_registered == ledger.height


def test_of_equal_preorders_in_a_block_the_first_wins() -> None:
    ledger = opened()
    wish, space = ledger.preorder("alice.id"), ledger.namespace_preorder("di")
    sent = (PAYER, wish), (BOB, wish), (PAYER, space), (BOB, space)
    exists = Flaw.PREORDER_EXISTS
    assert ledger.block(*sent) == [None, exists, None, exists]
    assert ledger.block((PAYER, register("alice.id"))) == [None]


def test_a_preorder_used_in_the_block_cannot_be_sent_again_in_it() -> None:
    ledger = opened()
    wish = ledger.preorder("alice.id")
    sent = (PAYER, wish), (PAYER, register("alice.id")), (PAYER, wish)
    assert ledger.block(*sent) == [None, None, Flaw.PREORDER_EXISTS]


def test_a_live_name_lets_its_preorder_be_sent_again_and_again() -> None:
    ledger = opened()
    ledger.register("alice.id")
    for _ in range(3):
        assert ledger.judge((PAYER, ledger.preorder("alice.id"))) is None


# --- order within a block


def test_a_name_created_in_a_block_is_invisible_to_the_rest_of_it() -> None:
    ledger = opened()
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    unseen = Flaw.NAME_NOT_REGISTERED
    assert ledger.block(
        (PAYER, register("alice.id")),
        (ALICE, ledger.renew("alice.id")),
        (ALICE, ledger.update("alice.id")),
        (ALICE, ledger.transfer("alice.id", BOB)),
        (ALICE, revoke("alice.id")),
    ) == [None, unseen, Flaw.NO_NAME_MATCHES, unseen, unseen]


def test_renewal_update_and_transfer_of_one_name_in_one_block_all_count() -> None:
    ledger = opened()
    ledger.register("alice.id")
    wishes = ledger.renew("alice.id"), ledger.update("alice.id", b"\7" * 20)
    ledger.accept(*((ALICE, w) for w in wishes), (ALICE, ledger.transfer("alice.id", BOB)))
    record = ledger.name("alice.id")
    assert (record.last_renewed, record.value_hash) == (ledger.height, b"\7" * 20)
    assert (record.sender, record.op) == (BOB.script, ">>")


def test_the_second_of_two_updates_in_one_block_wins() -> None:
    ledger = opened()
    ledger.register("alice.id")
    values = bytes([1] * 20), bytes([2] * 20)
    ledger.accept(*((ALICE, ledger.update("alice.id", value)) for value in values))
    assert ledger.name("alice.id").value_hash == values[1]


def test_a_new_owner_updates_in_the_block_of_the_transfer_and_the_old_one_cannot() -> None:
    ledger = opened()
    ledger.register("alice.id")
    update = ledger.update("alice.id")
    sent = (ALICE, ledger.transfer("alice.id", BOB)), (ALICE, update), (BOB, update)
    assert ledger.block(*sent) == [None, Flaw.NO_NAME_MATCHES, None]


def test_nothing_follows_a_revocation_in_its_block() -> None:
    ledger = opened()
    ledger.register("alice.id")
    sent = revoke("alice.id"), ledger.renew("alice.id"), ledger.transfer("alice.id", BOB)
    revoked = Flaw.NAME_REVOKED
    assert ledger.block(*((ALICE, op) for op in sent)) == [None, revoked, revoked]
    assert ledger.judge((ALICE, ledger.update("alice.id"))) is Flaw.NO_NAME_MATCHES


# --- the same transaction twice

Wish = tuple[Holder, Operation]


def _before_reveal() -> tuple[Ledger, Wish]:
    ledger = Ledger()
    ledger.skip()
    ledger.accept((PAYER, ledger.namespace_preorder()))
    return ledger, (PAYER, reveal())


def _while_revealed(wish: Wish) -> tuple[Ledger, Wish]:
    ledger = Ledger()
    ledger.reveal_namespace()
    return ledger, wish


def _preordered_by_payer() -> tuple[Ledger, Wish]:
    ledger = opened()
    ledger.accept((PAYER, ledger.preorder("alice.id")))
    return ledger, (PAYER, register("alice.id"))


def _registered(wish: Callable[[Ledger], Operation]) -> tuple[Ledger, Wish]:
    ledger = opened()
    ledger.register("alice.id")
    return ledger, (ALICE, wish(ledger))


def _begun(wish: Callable[[Ledger], Operation]) -> tuple[Ledger, Wish]:
    ledger = opened()
    return ledger, (PAYER, wish(ledger))


REPEATED: dict[str, tuple[Callable[[], tuple[Ledger, Wish]], list, list]] = {
    # what: (before it, its flaws twice in one block, its flaws in two blocks)
    "preorder": (
        lambda: _begun(lambda w: w.preorder("a.id")),
        [None, Flaw.PREORDER_EXISTS],
        [None, Flaw.PREORDER_EXISTS],
    ),
    "register": (_preordered_by_payer, [TWICE, TWICE], [None, Flaw.NAME_TAKEN]),
    "renew": (lambda: _registered(lambda w: w.renew("alice.id")), [None] * 2, [None] * 2),
    "update": (lambda: _registered(lambda w: w.update("alice.id")), [None] * 2, [None] * 2),
    "transfer": (
        lambda: _registered(lambda w: w.transfer("alice.id", BOB)),
        [None, Flaw.NOT_THE_OWNER],
        [None, Flaw.NOT_THE_OWNER],
    ),
    "revoke": (
        lambda: _registered(lambda w: revoke("alice.id")),
        [None, Flaw.NAME_REVOKED],
        [None, Flaw.NAME_REVOKED],
    ),
    "import": (
        lambda: _while_revealed((REVEALER, name_import("alice.id"))),
        [None] * 2,
        [None] * 2,
    ),
    "namespace preorder": (
        lambda: _begun(lambda w: w.namespace_preorder("di")),
        [None, Flaw.PREORDER_EXISTS],
        [None, Flaw.PREORDER_EXISTS],
    ),
    "reveal": (_before_reveal, [TWICE, TWICE], [None, Flaw.NAMESPACE_EXISTS]),
    "ready": (
        lambda: _while_revealed((REVEALER, ready())),
        [None, Flaw.NAMESPACE_NOT_REVEALED],
        [None, Flaw.NAMESPACE_NOT_REVEALED],
    ),
}


@pytest.mark.parametrize("what", REPEATED)
def test_the_same_transaction_twice(what: str) -> None:
    story, in_one_block, in_two_blocks = REPEATED[what]
    ledger, wish = story()
    sent = ledger.send(*wish)
    assert ledger.block(sent, sent) == in_one_block
    ledger, wish = story()
    sent = ledger.send(*wish)
    assert ledger.block(sent) + ledger.block(sent) == in_two_blocks


# --- quotas


def _owner_of(count: int, chain: Network = FIRST, owner: Holder = ALICE) -> Ledger:
    ledger = opened(chain)
    ledger.register_many(count, owner)
    return ledger


@pytest.mark.parametrize(("count", "flaw"), [(24, None), (25, Flaw.QUOTA)])
def test_an_owner_of_25_names_can_update_but_not_renew_preorder_or_receive(
    count: int, flaw: Flaw | None
) -> None:
    assert MAX_NAMES_PER_SENDER == 25
    ledger = _owner_of(count)
    ledger.register("bob.id", BOB)
    assert ledger.judge((ALICE, ledger.update("many0.id"))) is None
    assert ledger.judge((ALICE, ledger.renew("many0.id"))) is flaw
    assert ledger.judge((ALICE, ledger.preorder("next.id", BOB, ALICE))) is flaw
    assert ledger.judge((BOB, ledger.transfer("bob.id", ALICE))) is flaw


def test_a_renewal_for_a_new_owner_of_25_names_is_refused() -> None:
    for count, flaw in ((24, None), (25, Flaw.QUOTA)):
        ledger = _owner_of(count, THIRD, BOB)
        ledger.register("alice.id", ALICE)
        assert ledger.judge((ALICE, ledger.renew("alice.id", BOB))) is flaw


def test_registrations_earlier_in_the_block_count() -> None:
    ledger = _owner_of(23)
    names = [f"last{n}.id" for n in range(3)]
    ledger.accept(*((PAYER, ledger.preorder(name)) for name in names))
    assert ledger.block(
        *((PAYER, register(name)) for name in names),
        (ALICE, ledger.renew("many0.id")),
        (ALICE, ledger.preorder("more.id", BOB, ALICE)),
    ) == [None, None, Flaw.QUOTA, Flaw.QUOTA, Flaw.QUOTA]


def test_a_newcomer_gets_25_names_in_one_block() -> None:
    ledger = opened()
    names = [f"n{n}.id" for n in range(26)]
    ledger.accept(*((PAYER, ledger.preorder(name)) for name in names))
    flaws = ledger.block(*((PAYER, register(name)) for name in names))
    assert flaws == [None] * 25 + [Flaw.QUOTA]


def test_a_registration_beyond_the_quota_collides_with_nobody() -> None:
    ledger = _owner_of(24)
    ledger.accept(
        (PAYER, ledger.preorder("x1.id", ALICE)),
        (PAYER, ledger.preorder("x2.id", ALICE)),
        (PAYER, ledger.preorder("x2.id", BOB)),
    )
    wishes = register("x1.id", ALICE), register("x2.id", ALICE), register("x2.id", BOB)
    assert ledger.block(*((PAYER, wish) for wish in wishes)) == [None, Flaw.QUOTA, None]


@pytest.mark.parametrize("ended", ["revoked", "transferred"])
def test_a_name_given_up_no_longer_counts_even_beside_a_registration(ended: str) -> None:
    ledger = _owner_of(25)
    end = revoke("many0.id") if ended == "revoked" else ledger.transfer("many0.id", BOB)
    ledger.accept(
        (ALICE, end), (PAYER, ledger.preorder("x1.id")), (PAYER, ledger.preorder("x2.id"))
    )
    assert ledger.block((PAYER, register("x1.id")), (PAYER, register("x2.id"))) == [
        None,
        Flaw.QUOTA,
    ]


def test_a_lapsed_name_no_longer_counts_even_beside_a_registration() -> None:
    ledger = opened()
    gone = ledger.register("gone.id")
    ledger.leap(gone + 60)
    ledger.register_many(23)
    ledger.leap(gone + 101)
    ledger.accept((PAYER, ledger.preorder("x1.id")), (PAYER, ledger.preorder("x2.id")))
    wishes = [(PAYER, register(name)) for name in ("x1.id", "x2.id")]
    assert ledger.block(*wishes) == [None, None]


def test_transfers_earlier_in_the_block_count() -> None:
    ledger = _owner_of(24)
    ledger.accept(*((PAYER, ledger.preorder(name, BOB)) for name in ("b1.id", "b2.id")))
    ledger.accept(*((PAYER, register(name, BOB)) for name in ("b1.id", "b2.id")))
    sent = [(BOB, ledger.transfer(name, ALICE)) for name in ("b1.id", "b2.id")]
    assert ledger.block(*sent) == [None, Flaw.QUOTA]


def test_imports_know_no_quota_but_an_owner_of_26_cannot_update() -> None:
    for count, flaw in ((25, None), (26, Flaw.QUOTA)):
        ledger = Ledger()
        ledger.reveal_namespace()
        ledger.accept(*((REVEALER, name_import(f"in{n}.id")) for n in range(count)))
        ledger.accept((REVEALER, ready()))
        assert ledger.judge((ALICE, ledger.update("in0.id"))) is flaw
