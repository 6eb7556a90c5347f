"""The first day of a sandbox: a namespace opens, a dozen names are registered, some come to grief.

Everything is done as anybody would do it, by signed transactions in mined blocks; nothing writes
to the index but the chain. The keys are derived from public words, for the coins are worthless.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files

from indexer.bitcoin.transactions import TxIn, TxOut
from indexer.networks import SANDBOX
from indexer.protocol.names import hash128, hash_name, name_consensus_hash
from indexer.protocol.operations import (
    Import,
    NamespacePreorder,
    NamespaceReady,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    Revoke,
    Transfer,
    Update,
)
from indexer.protocol.prices import name_price_satoshis, namespace_price
from indexer.registrar.planning.compose import compose
from indexer.sandbox.node import SandboxNode
from indexer.table.table import Snapshot
from indexer.wallet.coins import DUST, FINAL_SEQUENCE, Coin
from indexer.wallet.keys import Key, KeyRing
from zonefiles.text.zonefile import value_hash

log = logging.getLogger("blockstore.sandbox")

NAMESPACE = "id"
LIFETIME = 10_080  # blocks: 14 hours, at a block every five seconds
SPACING = int(SANDBOX.target_spacing)
RENEW_BEFORE = LIFETIME // 4
FEE_RATE = 20.0  # satoshis a byte
SMALL_COIN = 10_000_000  # satoshis
LARGE_COIN = 500_000_000
WALLET_BLOCKS = 20  # whose rewards are in the node's wallet, for whoever tries the registrar

IMPORTED = "founder.id"
EXPIRED = "expired.id"
REVOKED = "revoked.id"
TRANSFERRED = "gift.id"
NOWHERE = "nowhere.id"
EMPTY = "empty.id"
UPDATED = "profile.id"
ORDINARY = (
    "swiftonsecurity.id",
    "webhost.id",
    "library.id",
    "alias.id",
    "almanac.id",
    "department.id",
)
KEPT = (IMPORTED, TRANSFERRED, NOWHERE, EMPTY, UPDATED, *ORDINARY)
"""The names that the sandbox renews before they lapse."""


def demo_data(name: str) -> bytes:
    """The data that the project ships for one of the sandbox's names."""
    return files("resolver.sandbox").joinpath("demo", name).read_bytes()


def published() -> dict[bytes, bytes]:
    """The data that the sandbox publishes, by its value hash."""
    names = (IMPORTED, EXPIRED, REVOKED, TRANSFERRED, UPDATED, *ORDINARY)
    return {value_hash(data): data for data in map(demo_data, names)}


def sandbox_key(word: str) -> Key:
    """A key that everybody can derive; only for coins that are worth nothing."""
    return Key(sha256(b"blockstore sandbox: " + word.encode()).digest())


MINER, CREATOR, REVEALER, PAYER, FRIEND = map(
    sandbox_key, ("miner", "creator", "revealer", "payer", "friend")
)


class Purse:
    """Coins of a sandbox, and what is bought with them: signed transactions sent to its node."""

    def __init__(self, node: SandboxNode) -> None:
        self.node = node
        self._waiting: dict[bytes, deque[Coin]] = {}
        self._spent: set[tuple[bytes, int]] = set()

    def fund(self, wishes: Mapping[Key, tuple[int, int]]) -> None:
        """Pay out matured coinbase coins: to each key so many coins of so many satoshis.

        Mines a block, so that the coins can be found.
        """
        outputs = [
            TxOut(satoshis, key.script)
            for key, (count, satoshis) in wishes.items()
            for _ in range(count)
        ]
        fee = (len(outputs) * 34 + 1000) * int(FEE_RATE)
        needed = sum(output.value for output in outputs) + fee
        coins: list[Coin] = []
        while sum(coin.value for coin in coins) < needed + DUST:
            coins.append(self._take_coin(MINER))
        change = sum(coin.value for coin in coins) - needed
        outputs.append(TxOut(change, MINER.script))
        inputs = [TxIn(coin.txid, coin.index, b"", FINAL_SEQUENCE) for coin in coins]
        spent = [coin.script for coin in coins]
        self.node.submit(KeyRing([MINER]).sign(1, inputs, outputs, 0, spent))
        self.node.generate(1, MINER.script, SPACING)

    def send(self, sender: Key, operation: Operation) -> bytes:
        """Send ``operation`` as ``sender``, paid with the oldest coin of that key; its txid."""
        coins = [self._take_coin(sender)]
        unsigned = compose(operation, SANDBOX, coins, sender.script, fee_rate=FEE_RATE)
        spent = [coin.script for coin in unsigned.coins]
        raw = KeyRing([sender]).sign(1, unsigned.inputs, unsigned.outputs, 0, spent)
        return self.node.submit(raw)

    def _take_coin(self, key: Key) -> Coin:
        waiting = self._waiting.setdefault(key.script, deque())
        if not waiting:
            for unspent in self.node.unspent(key.script):
                coin = Coin(unspent.txid, unspent.output_index, unspent.value, unspent.script)
                if (coin.txid, coin.index) not in self._spent:
                    waiting.append(coin)
        if not waiting:
            raise RuntimeError("a key of the sandbox has run out of coins; start it with --fresh")
        coin = waiting.popleft()
        self._spent.add((coin.txid, coin.index))
        return coin


class Founder:
    """Sends the operations of the story, mines them, and later keeps its names alive."""

    def __init__(self, node: SandboxNode, indexed: Callable[[int], Snapshot]) -> None:
        """``indexed(height)`` waits until a block is indexed and gives what readers see then."""
        self._node = node
        self._indexed = indexed
        self._purse = Purse(node)
        self._spacing: int | None = None

    def found(self) -> None:
        """Tell the whole story on an empty chain, as if it had begun that long ago."""
        self._spacing = SPACING
        self._tell()
        self._spacing = None  # from here on blocks have the time at which they are mined

    def _tell(self) -> None:
        self._node.generate(WALLET_BLOCKS, self._node.wallet_script("mined"), SPACING)
        self._node.generate(130 - WALLET_BLOCKS, MINER.script, SPACING)
        owners = [self._owner(name) for name in (EXPIRED, REVOKED, *KEPT)]
        self._purse.fund(
            {CREATOR: (2, LARGE_COIN), PAYER: (40, SMALL_COIN), REVEALER: (4, SMALL_COIN)}
        )
        self._purse.fund(dict.fromkeys((FRIEND, *owners), (4, SMALL_COIN)))
        self._open_namespace()
        self._register([EXPIRED])
        self._node.generate(LIFETIME - 10, MINER.script, SPACING)
        self._renew([IMPORTED])
        self._node.generate(SANDBOX.epochs[0].grace_period + 10, MINER.script, SPACING)
        log.info("%s has expired at block %d", EXPIRED, self._node.height)
        self._register([*ORDINARY, TRANSFERRED, NOWHERE, EMPTY, UPDATED, REVOKED])
        seen = self._indexed(self._node.height)
        self._purse.send(self._owner(UPDATED), _update(UPDATED, demo_data(UPDATED), seen))
        self._purse.send(self._owner(TRANSFERRED), _transfer(TRANSFERRED, FRIEND, seen))
        self._purse.send(self._owner(REVOKED), Revoke(name=REVOKED))
        self.mine()

    def tend(self) -> None:
        """Renew the names of the story that would lapse soon; to be called now and then."""
        seen = self._indexed(self._node.height)
        due = [name for name in KEPT if _lapses_soon(name, seen)]
        if due:
            log.info("renewing %s", ", ".join(due))
            self._renew(due)

    def mine(self) -> Snapshot:
        """Mine one block of what was sent, and wait until it is indexed."""
        self._node.generate(1, MINER.script, self._spacing)
        return self._indexed(self._node.height)

    def _owner(self, name: str) -> Key:
        """Who owns a name of the story once it has been told."""
        return sandbox_key(name)

    def _open_namespace(self) -> None:
        seen = self._indexed(self._node.height)
        wish = NamespacePreorder(
            preorder_hash=hash_name(NAMESPACE, CREATOR.script, REVEALER.address(SANDBOX)),
            consensus_hash=_latest(seen),
            op_fee=namespace_price(NAMESPACE, SANDBOX.epoch(seen.height)),
            fee_script=SANDBOX.burn_script,
        )
        reveal = NamespaceReveal(
            namespace_id=NAMESPACE,
            recipient=REVEALER.script,
            lifetime=LIFETIME,
            coeff=250,
            base=4,
            buckets=(6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
            nonalpha_discount=10,
            no_vowel_discount=10,
        )
        imported = Import(
            name=IMPORTED,
            recipient=self._owner(IMPORTED).script,
            value_hash=value_hash(demo_data(IMPORTED)),
        )
        for sender, operation in (
            (CREATOR, wish),
            (CREATOR, reveal),
            (REVEALER, imported),
            (REVEALER, NamespaceReady(namespace_id=NAMESPACE)),
        ):
            self._purse.send(sender, operation)
            self.mine()

    def _register(self, names: Sequence[str]) -> None:
        """Preorder, wait for the block, register with the hash of the data."""
        seen = self._indexed(self._node.height)
        for name in names:
            owner = self._owner(name).address(SANDBOX)
            preorder = Preorder(
                preorder_hash=hash_name(name, PAYER.script, owner),
                consensus_hash=_latest(seen),
                op_fee=_price(name, seen),
                fee_script=SANDBOX.burn_script,
            )
            self._purse.send(PAYER, preorder)
        self.mine()
        for name in names:
            digest = None if name in (EMPTY, UPDATED) else value_hash(demo_data(name))
            recipient = self._owner(name).script
            self._purse.send(PAYER, Register(name=name, recipient=recipient, value_hash=digest))
        self.mine()

    def _renew(self, names: Sequence[str]) -> None:
        seen = self._indexed(self._node.height)
        for name in names:
            record = seen.name(name)
            assert record is not None, f"{name} is registered on the first day"
            owner = FRIEND if record.sender == FRIEND.script else self._owner(name)
            renew = Renew(
                name=name,
                recipient=record.sender,
                op_fee=_price(name, seen),
                fee_script=SANDBOX.burn_script,
            )
            self._purse.send(owner, renew)
        self.mine()


def _latest(seen: Snapshot) -> bytes:
    found = seen.consensus_hash(seen.height)
    assert found is not None, "the sandbox is indexed from its first block on"
    return found


def _price(name: str, seen: Snapshot) -> int:
    namespace = seen.namespace(NAMESPACE)
    assert namespace is not None, "the namespace opens before its names are registered"
    label = name.partition(".")[0]
    price = name_price_satoshis(label, namespace, SANDBOX.epoch(seen.height))
    return max(DUST, price)


def _update(name: str, data: bytes, seen: Snapshot) -> Update:
    bound = name_consensus_hash(name, _latest(seen))
    return Update(name_consensus_hash=bound, value_hash=value_hash(data))


def _transfer(name: str, to: Key, seen: Snapshot) -> Transfer:
    return Transfer(
        name_hash128=hash128(name),
        consensus_hash=_latest(seen),
        keep_data=True,
        recipient=to.script,
    )


def _lapses_soon(name: str, seen: Snapshot) -> bool:
    found = seen.name_status(name)
    if found is None:
        return False
    record, status = found
    left = LIFETIME if status.expires_at is None else status.expires_at - seen.height
    return left < RENEW_BEFORE and not record.revoked
