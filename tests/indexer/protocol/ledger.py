"""A chain of operations in memory: blocks are lists of who sends what, and each gives its flaws.

Nothing here judges: every block goes through ``apply_block`` as a block of a node does. Time that
nothing happens in may be leapt over; the consensus hashes of leapt blocks are made up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from embit.ec import PrivateKey
from embit.hashes import hash160

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.transactions import (
    Transaction,
    TxIn,
    TxOut,
    double_sha256,
    p2pkh_script,
    p2sh_script,
    script_address,
)
from indexer.following.replay import MemoryStore
from indexer.networks import EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4, Epoch, Network
from indexer.protocol import schema
from indexer.protocol.apply import Outcome, SpentCandidate, apply_block
from indexer.protocol.flaws import Flaw
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
from indexer.protocol.records import NameRecord, NamespaceRecord
from indexer.protocol.view import BlockView
from indexer.registrar.planning.compose import write_outputs

FIRST_BLOCK = 100
CLASSIC: dict[str, Any] = {
    "coeff": 250,
    "base": 4,
    "buckets": (6, 5, 4, 3, 2, 1) + (0,) * 10,
    "nonalpha_discount": 10,
    "no_vowel_discount": 10,
}


class Holder:
    """Somebody who can sign: with a key of the curve, or behind a p2sh script."""

    def __init__(self, name: str, *, p2sh: bool = False, compressed: bool = True) -> None:
        key = PrivateKey(sha256(name.encode()).digest(), compressed).get_public_key()
        self._take(key.sec(), p2sh)

    @classmethod
    def of_key(cls, public_key: bytes) -> "Holder":
        """The holder of this very public key."""
        holder = cls.__new__(cls)
        holder._take(public_key, False)
        return holder

    def _take(self, public_key: bytes, p2sh: bool) -> None:
        digest = hash160(public_key)
        self.public_key: bytes | None = None if p2sh else public_key
        self.script = p2sh_script(digest) if p2sh else p2pkh_script(digest)

    def address(self, network: Network) -> str:
        """The base58check address on ``network``."""
        address = script_address(self.script, network)
        assert address is not None
        return address

    @property
    def script_sig(self) -> bytes:
        """What spends an output of this holder: a signature of zeros is as good as any here."""
        if self.public_key is None:
            return bytes((22,)) + b"\x00\x14" + bytes(20)  # p2wpkh inside p2sh
        key = self.public_key
        return bytes((71,)) + bytes(71) + bytes((len(key),)) + key


PAYER, REVEALER, ALICE, BOB, CAROL = (
    Holder(n) for n in ("payer", "revealer", "alice", "bob", "carol")
)
VAULT = Holder("vault", p2sh=True)

Sending = tuple[Holder, Operation] | SpentCandidate


def network(*epochs: Epoch, **changes: Any) -> Network:
    """A network with these epochs; the last one lasts for ever."""
    epochs = (*epochs[:-1], replace(epochs[-1], last_block=None))
    fields: dict[str, Any] = {
        "name": "ledger",
        "node_chain": "regtest",
        "genesis_hash": "",
        "magic": b"id",
        "first_block": FIRST_BLOCK,
        "p2pkh_version": 0x6F,
        "p2sh_version": 0xC4,
        "epochs": epochs,
        "confirmations": 1,
        "import_keyring_size": 3,
        "announcers": ("crier.id",),
    }
    return Network(**{**fields, **changes})


FIRST, SECOND, THIRD, FOURTH = (network(e) for e in (EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4))
SHORT_GRACE = network(replace(EPOCH_3, grace_period=10))


def transaction(
    outputs: Sequence[TxOut], script_sigs: Sequence[bytes] = (b"",), *, coin: int = 0
) -> Transaction:
    """A transaction with these outputs; ``coin`` tells equal ones apart."""
    previous = sha256(b"coin" + coin.to_bytes(8, "big")).digest()
    inputs = tuple(TxIn(previous, n, sig, 0xFFFFFFFF) for n, sig in enumerate(script_sigs))
    txid = double_sha256(repr((inputs, tuple(outputs))).encode())
    return Transaction(txid, 1, inputs, tuple(outputs), 0)


def op_return(payload: bytes) -> TxOut:
    """An OP_RETURN output that pushes ``payload``."""
    push = bytes((len(payload),)) if len(payload) < 76 else bytes((76, len(payload)))
    return TxOut(0, b"\x6a" + push + payload)


class Ledger:
    """A chain with verbs: ``block`` applies one, ``skip`` and ``leap`` let time pass."""

    def __init__(self, chain: Network = FIRST) -> None:
        self.network = chain
        self.store = MemoryStore()
        self.height = chain.first_block - 1
        self.last: Outcome | None = None
        self._coins = 0

    # --- time

    def block(self, *sent: Sending) -> list[Flaw | None]:
        """Apply one block; the flaw of each operation in it, None for each that took effect."""
        self.height += 1
        spent = []
        for vtxindex, sending in enumerate(sent, start=1):
            made = sending if isinstance(sending, SpentCandidate) else self.send(*sending)
            candidate = Candidate(vtxindex, made.candidate.transaction)
            spent.append(SpentCandidate(candidate, made.spent_scripts))
        outcome = apply_block(self.store, self.network, self.height, bytes(80), spent)
        self.store.write(outcome.rows)
        self.last = outcome
        return [None if v.flaw is None else Flaw[v.flaw] for _, v in outcome.verdicts]

    def judge(self, *sent: Sending) -> Flaw | None:
        """The flaw of the only operation of the next block."""
        (flaw,) = self.block(*sent)
        return flaw

    def accept(self, *sent: Sending) -> None:
        """Apply one block in which every operation must take effect."""
        assert self.block(*sent) == [None] * len(sent)

    def skip(self, blocks: int = 1) -> None:
        """Apply empty blocks."""
        for _ in range(blocks):
            self.block()

    def leap(self, height: int) -> None:
        """Make ``height`` the next block to come; what lies between leaves only made-up hashes."""
        assert height > self.height
        for h in range(self.height + 1, height):
            made_up = sha256(b"leapt" + h.to_bytes(4, "big")).digest()
            self.store.rows[schema.hashes_key(h)] = made_up + made_up[:16]
        self.height = height - 1

    def ch(self, height: int | None = None) -> bytes:
        """The consensus hash of a block, of the last one unless told."""
        view = BlockView(self.store, self.network, self.height + 1)
        found = view.consensus_hash(self.height if height is None else height)
        assert found is not None
        return found

    # --- what stands in the table

    @property
    def view(self) -> BlockView:
        """The table as the next block will find it."""
        return BlockView(self.store, self.network, self.height + 1)

    def name(self, name: str) -> NameRecord:
        """The record of a name, which must be there."""
        record = self.view.name(name)
        assert record is not None
        return record

    def namespace(self, namespace_id: str = "id") -> NamespaceRecord:
        """The record of a namespace, which must be there."""
        record = self.view.namespace(namespace_id)
        assert record is not None
        return record

    def serialized(self) -> list[list[str]]:
        """The fields of each operation of the last block as they enter its ops hash."""
        assert self.last is not None
        return [serialized_fields(text) for text in self.last.serialized]

    # --- sending

    def send(
        self,
        holder: Holder,
        operation: Operation,
        outputs: Sequence[TxOut] | None = None,
    ) -> SpentCandidate:
        """A transaction in which ``holder`` sends ``operation``, to be put into blocks."""
        self._coins += 1
        if outputs is None:
            outputs, _ = write_outputs(operation, self.network, holder.script)
        tx = transaction(outputs, (holder.script_sig,), coin=self._coins)
        return SpentCandidate(Candidate(0, tx), (holder.script,))

    def namespace_preorder(
        self, namespace_id: str = "id", payer: Holder = PAYER, revealer: Holder = REVEALER
    ) -> NamespacePreorder:
        """A preorder that pays the price of the namespace."""
        return NamespacePreorder(
            preorder_hash=hash_name(namespace_id, payer.script, revealer.address(self.network)),
            consensus_hash=self.ch(),
            op_fee=namespace_price(namespace_id, self.network.epoch(self.height + 1)),
            fee_script=self.network.burn_script,
        )

    def preorder(
        self, name: str, owner: Holder = ALICE, payer: Holder = PAYER, **changes: Any
    ) -> Preorder:
        """A preorder that pays the price that the name has in the next block."""
        label, _, namespace_id = name.partition(".")
        terms = self.view.namespace(namespace_id) or reveal(namespace_id)
        fields: dict[str, Any] = {
            "preorder_hash": hash_name(name, payer.script, owner.address(self.network)),
            "consensus_hash": self.ch(),
            "op_fee": name_price_satoshis(label, terms, self.network.epoch(self.height + 1)),
            "fee_script": self.network.burn_script,
        }
        return Preorder(**{**fields, **changes})

    def renew(self, name: str, owner: Holder = ALICE, **changes: Any) -> Renew:
        """A renewal that pays the price that the name has in the next block."""
        terms = self.namespace(name.partition(".")[2])
        epoch = self.network.epoch(self.height + 1)
        fields: dict[str, Any] = {
            "name": name,
            "recipient": owner.script,
            "op_fee": name_price_satoshis(name.partition(".")[0], terms, epoch),
            "fee_script": self.network.burn_script,
        }
        return Renew(**{**fields, **changes})

    def update(self, name: str, value_hash: bytes = bytes(20), at: int | None = None) -> Update:
        """An update bound to the consensus hash of block ``at``, the last one unless told."""
        return Update(
            name_consensus_hash=name_consensus_hash(name, self.ch(at)), value_hash=value_hash
        )

    def transfer(self, name: str, to: Holder, *, keep: bool = True) -> Transfer:
        """A transfer with the last block's consensus hash."""
        return Transfer(
            name_hash128=hash128(name),
            consensus_hash=self.ch(),
            keep_data=keep,
            recipient=to.script,
        )

    # --- whole stories

    def reveal_namespace(self, namespace_id: str = "id", **terms: Any) -> None:
        """From nothing to revealed, in three blocks."""
        self.skip()
        self.accept((PAYER, self.namespace_preorder(namespace_id)))
        self.accept((PAYER, reveal(namespace_id, **terms)))

    def open_namespace(self, namespace_id: str = "id", **terms: Any) -> None:
        """From nothing to ready, in four blocks."""
        self.reveal_namespace(namespace_id, **terms)
        self.accept((REVEALER, NamespaceReady(namespace_id=namespace_id)))

    def register(self, name: str, owner: Holder = ALICE) -> int:
        """Preorder and register in two blocks; the height of the second."""
        self.accept((PAYER, self.preorder(name, owner)))
        self.accept((PAYER, register(name, owner)))
        return self.height

    def register_many(self, count: int, owner: Holder = ALICE, stem: str = "many") -> list[str]:
        """Preorder and register ``count`` names in two blocks."""
        names = [f"{stem}{n}.id" for n in range(count)]
        self.accept(*((PAYER, self.preorder(name, owner)) for name in names))
        self.accept(*((PAYER, register(name, owner)) for name in names))
        return names


def opened(chain: Network = FIRST, **terms: Any) -> Ledger:
    """A ledger whose namespace ``id`` is open."""
    ledger = Ledger(chain)
    ledger.open_namespace("id", **terms)
    return ledger


def reveal(namespace_id: str = "id", **changes: Any) -> NamespaceReveal:
    """A reveal with the classic price parameters and a lifetime of 100 blocks."""
    fields = {"lifetime": 100, "recipient": REVEALER.script, **CLASSIC, **changes}
    return NamespaceReveal(namespace_id=namespace_id, **fields)


def register(name: str, owner: Holder = ALICE, value_hash: bytes | None = None) -> Register:
    """A registration for ``owner``."""
    return Register(name=name, recipient=owner.script, value_hash=value_hash)


def name_import(name: str, owner: Holder = ALICE, value_hash: bytes = b"\1" * 20) -> Import:
    """An import for ``owner``."""
    return Import(name=name, recipient=owner.script, value_hash=value_hash)


def revoke(name: str) -> Revoke:
    """A revocation."""
    return Revoke(name=name)


def ready(namespace_id: str = "id") -> NamespaceReady:
    """The opening of a namespace."""
    return NamespaceReady(namespace_id=namespace_id)


def flaws_of(sent: Iterable[Flaw | None]) -> list[Flaw]:
    """Those that were refused."""
    return [flaw for flaw in sent if flaw is not None]


def serialized_fields(text: str) -> list[str]:
    """The opcode and the fields of one serialised operation."""
    fields = [text[:1]]
    at = 2
    while at < len(text):
        size, _, rest = text[at:].partition(":")
        fields.append(rest[: int(size)])
        at += len(size) + 1 + int(size) + 1
    return fields
