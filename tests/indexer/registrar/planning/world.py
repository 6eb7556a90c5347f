"""A ledger in which wishes are carried out: what the registrar composes, the indexer judges."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from embit.bip32 import HDKey
from embit.ec import PublicKey

from indexer.bitcoin.blocks import Candidate
from indexer.networks import EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4
from indexer.protocol.apply import SpentCandidate
from indexer.protocol.flaws import Flaw
from indexer.protocol.view import BlockView
from indexer.registrar.planning import wishes
from indexer.registrar.planning.compose import compose
from indexer.registrar.planning.dates import Tip
from indexer.registrar.planning.plan import Plan, make_plan
from indexer.registrar.planning.refusals import PlanRefused
from indexer.registrar.planning.steps import Parties, StepKind, next_view, operation_for, steps_of
from indexer.registrar.planning.wishes import Wish
from indexer.wallet.coins import Coin, Unsigned
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    PAYER,
    REVEALER,
    VAULT,
    Holder,
    Ledger,
    network,
    transaction,
)

NOW = 1_790_000_000
"""Unix time in seconds at the tip of every ledger here."""
RICH = 10_000_000_000
"""Satoshis of the coin that pays where money does not matter."""

_CHILD = HDKey(PublicKey.parse(REVEALER.public_key), bytes(32)).child(1).key.sec()
CHILD = Holder.of_key(_CHILD)
"""One of the revealer's import keys."""
EVERYBODY = (PAYER, ALICE, BOB, CAROL, VAULT, REVEALER, CHILD)
HOLDERS = {holder.script: holder for holder in EVERYBODY}

CHAINS = {
    "first epoch": network(EPOCH_1),
    "second epoch": network(EPOCH_2),
    "grace": network(replace(EPOCH_3, lifetime_multiplier=1, grace_period=6)),
    "frozen": network(replace(EPOCH_4, lifetime_multiplier=1, grace_period=6)),
    "lapsing reveals": network(replace(EPOCH_3, grace_period=6), namespace_reveal_expire=12),
    "freezing": network(replace(EPOCH_3, last_block=112, grace_period=6), EPOCH_4),
}
"""Networks on which things expire while one looks on."""


def coin(holder: Holder | bytes, value: int = RICH, salt: int = 1) -> Coin:
    """A coin of somebody."""
    script = holder if isinstance(holder, bytes) else holder.script
    return Coin(salt.to_bytes(32, "big"), 0, value, script)


class World:
    """A ledger, and the way of a wish into its blocks."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @property
    def view(self) -> BlockView:
        """The table as the next block will find it."""
        ledger = self.ledger
        return next_view(ledger.store, ledger.network, ledger.height, ledger.height)

    @property
    def tip(self) -> Tip:
        """The last block of the ledger."""
        return Tip(self.ledger.height, NOW)

    def plan(self, wish: Wish, parties: Parties, *coins: Coin, **how: Any) -> Plan:
        """The plan of ``wish``, paid with one large coin of the sender unless told."""
        terms: dict[str, Any] = {"fee_rate": 10, "tip": self.tip, **how}
        paid_with = coins or (coin(parties.sender),)
        return make_plan(wish, parties, self.view, coins=paid_with, **terms)

    def compose(
        self, kind: StepKind, wish: Wish, parties: Parties, coins: Sequence[Coin] = ()
    ) -> Unsigned:
        """The transaction of one step as of now."""
        view = self.view
        operation = operation_for(kind, wish, parties, view)
        paid_with = coins or [coin(parties.sender)]
        return compose(operation, view.network, paid_with, parties.sender, fee_rate=10)

    def sent(self, unsigned: Unsigned) -> SpentCandidate:
        """``unsigned`` as it stands in a block, signed by the holders of its coins."""
        self.ledger._coins += 1
        spent = tuple(coin.script for coin in unsigned.coins)
        signatures = [HOLDERS[script].script_sig for script in spent]
        made = transaction(unsigned.outputs, signatures, coin=self.ledger._coins)
        return SpentCandidate(Candidate(0, made), spent)

    def mine(self, *transactions: Unsigned) -> list[Flaw | None]:
        """A block with these; what the indexer says of each."""
        return self.ledger.block(*map(self.sent, transactions))

    def carry_out(self, wish: Wish, parties: Parties) -> list[Flaw | None]:
        """Every step of ``wish`` in a block of its own; what the indexer says of each."""
        flaws = []
        for kind in steps_of(wish):
            if kind.carries_operation:
                flaws += self.mine(self.compose(kind, wish, parties))
        return flaws


FOO = wishes.RegisterName("foo.id", bytes(20))
ID = wishes.PreorderNamespace("id", REVEALER.script)
PAYS = Parties(PAYER.script, ALICE.script)
BY_ALICE = Parties(ALICE.script)
TO_BOB = wishes.TransferName("foo.id", BOB.script)
UPDATE = wishes.UpdateName("foo.id", b"\7" * 20)
RENEW = wishes.RenewName("foo.id")
REVOKE = wishes.RevokeName("foo.id")


def refused(world: World, wish: Wish, parties: Parties, *coins: Coin, **how: Any) -> PlanRefused:
    """The refusal of a plan, which must be whole."""
    with pytest.raises(PlanRefused) as refusal:
        world.plan(wish, parties, *coins, **how)
    told = refusal.value
    assert told.hint
    assert not str(told).endswith(".")
    return told
