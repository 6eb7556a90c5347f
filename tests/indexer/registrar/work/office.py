"""A world with a desk in it, where orders are given to a wallet that tells what it has."""

from collections.abc import Sequence

from embit.hashes import hash160

from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.orders import Orders
from indexer.wallet.coins import Coin
from tests.indexer.registrar.fakes import RingSigner, World, person_key

CONTENT = b"$ORIGIN bob.id\n@ A 192.0.2.1\n"
DIGEST = hash160(CONTENT)
REGISTER = RegisterName("bob.id", DIGEST)
PAYER, OTHER = "payer", "other"
STRANGER = person_key("a stranger").script


class Wallet(RingSigner):
    """A wallet that tells what it has."""

    def held(self) -> Sequence[bytes]:
        return [script for script in self.ring.scripts if self.coins(script)]

    def legacy_coins(self) -> Sequence[Coin]:
        return [coin for script in self.ring.scripts for coin in self.coins(script)]

    def spare(self, sender: bytes) -> int:
        return sum(coin.value for coin in self.legacy_coins() if coin.script != sender)


class Office:
    """A world with a desk in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wallet = Wallet(world.node, [PAYER, OTHER])
        self.signers = {"own": self.wallet}
        world.runner.books.signers = self.signers
        self.orders = Orders(world.runner, self.signers, max_fee_rate=500.0)

    def registered(self, name: str = "bob.id") -> None:
        self.orders.begin(
            RegisterName(name, DIGEST), signer="own", max_total=10**9, content=CONTENT
        )
        self.world.run()
        assert self.world.seen.name(name) is not None
