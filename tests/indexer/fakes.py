"""A fake world with verbs: a node whose chain a test writes, and people who send operations."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

from embit.hashes import hash160

from indexer.bitcoin.headers import merkle_root, target_of_bits
from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    double_sha256,
    hash_bytes,
    hash_hex,
    p2pkh_script,
    parse_transaction,
    script_address,
    serialize_transaction,
)
from indexer.networks import Network
from indexer.node.node import ChainInfo, NodeUnavailable
from indexer.protocol.names import hash_name, name_consensus_hash
from indexer.protocol.operations import (
    Import,
    NamespacePreorder,
    NamespaceReady,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Update,
)
from indexer.protocol.prices import name_price_satoshis, namespace_price
from indexer.registrar.planning.compose import write_outputs

_BITS = 0x207FFFFF  # regtest's: every second hash meets it


class Person:
    """Somebody with a key that no curve has seen: fakes need no signatures."""

    def __init__(self, name: str) -> None:
        self.public_key = b"\x02" + sha256(name.encode()).digest()
        self.script = p2pkh_script(hash160(self.public_key))

    def address(self, network: Network) -> str:
        """The base58check address on ``network``."""
        address = script_address(self.script, network)
        assert address is not None
        return address


class FakeNode:
    """A node in memory that gives whatever chain the test mined, and counts what it was asked."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.chain = network.node_chain
        self.blocks: list[tuple[bytes, bytes]] = []  # (hash, raw) by height
        self.spent: dict[tuple[bytes, int], bytes] = {}
        self.down = False
        self.bits = _BITS
        self.initial_download: bool | None = False
        self.tip_time: int | None = None
        self._made = 0
        genesis = hash_bytes(network.genesis_hash) if network.genesis_hash else bytes(32)
        self.blocks.append((genesis, b""))

    # --- verbs of the test

    def send(self, person: Person, operation: Operation) -> bytes:
        """A raw transaction in which ``person`` sends ``operation``; not yet in a block."""
        self._made += 1
        coin = sha256(self._made.to_bytes(8, "big")).digest(), self._made % 3
        self.spent[coin] = person.script
        push = bytes((71,)) + bytes(71) + bytes((33,)) + person.public_key
        outputs, _ = write_outputs(operation, self.network, person.script)
        return serialize_transaction(1, [TxIn(*coin, push, 0xFFFFFFFF)], outputs, 0)

    def mine(self, transactions: Iterable[bytes] = (), *, salt: int = 0) -> bytes:
        """Put a block with ``transactions`` on the chain; its hash. ``salt`` tells rivals apart."""
        height = len(self.blocks)
        script_sig = height.to_bytes(4, "little") + salt.to_bytes(4, "little")
        coinbase = serialize_transaction(
            1,
            [TxIn(bytes(32), 0xFFFFFFFF, script_sig, 0xFFFFFFFF)],
            [TxOut(5_000_000_000, b"\x51")],
            0,
        )
        raws = [coinbase, *transactions]
        root = merkle_root([parse_transaction(raw).txid for raw in raws])
        block_hash, header = _mine_header(
            self.blocks[-1][0], root, 1_700_000_000 + height, self.bits
        )
        self.blocks.append((block_hash, header + bytes((len(raws),)) + b"".join(raws)))
        assert len(raws) < 0xFD
        return block_hash

    def invalidate(self, height: int) -> None:
        """Forget the blocks from ``height`` on."""
        del self.blocks[height:]

    # --- what a follower asks

    def chain_info(self) -> ChainInfo:
        if self.down:
            raise NodeUnavailable("the fake node is down; start it again")
        tip = len(self.blocks) - 1
        best = self.blocks[-1][0]
        return ChainInfo(self.chain, tip, tip, best, self.initial_download, self.tip_time)

    def block_hash(self, height: int) -> bytes:
        return self.blocks[height][0]

    def block_hashes(self, heights: Sequence[int]) -> list[bytes]:
        return [self.blocks[height][0] for height in heights]

    def headers(self, hashes: Sequence[bytes]) -> list[bytes]:
        by_hash = dict(self.blocks)
        return [by_hash[block_hash][:80] for block_hash in hashes]

    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]:
        by_hash = dict(self.blocks)
        return [by_hash[block_hash] for block_hash in hashes]

    def spent_scripts(
        self, block_hash: bytes, outpoints: Sequence[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], bytes]:
        return {outpoint: self.spent[outpoint] for outpoint in outpoints}


def _mine_header(previous: bytes, root: bytes, time: int, bits: int) -> tuple[bytes, bytes]:
    head = (4).to_bytes(4, "little") + previous + root
    head += time.to_bytes(4, "little") + bits.to_bytes(4, "little")
    for nonce in range(100_000):
        header = head + nonce.to_bytes(4, "little")
        digest = double_sha256(header)
        if int.from_bytes(digest, "little") <= target_of_bits(bits):
            return digest, header
    raise AssertionError(f"no proof of work found for {hash_hex(root)}")


# --- wishes in one line each

BUCKETS = (6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def namespace_preorder(
    network: Network, namespace_id: str, payer: Person, revealer: Person, consensus_hash: bytes
) -> NamespacePreorder:
    """A preorder that pays the price of the namespace."""
    return NamespacePreorder(
        preorder_hash=hash_name(namespace_id, payer.script, revealer.address(network)),
        consensus_hash=consensus_hash,
        op_fee=namespace_price(namespace_id, network.epoch(network.first_block)),
        fee_script=network.burn_script,
    )


def namespace_reveal(
    namespace_id: str, revealer: Person, lifetime: int = 52595, version: int = 1
) -> NamespaceReveal:
    """A reveal with the classic price parameters."""
    return NamespaceReveal(
        namespace_id=namespace_id,
        recipient=revealer.script,
        lifetime=lifetime,
        coeff=250,
        base=4,
        buckets=BUCKETS,
        nonalpha_discount=10,
        no_vowel_discount=10,
        version=version,
    )


def namespace_ready(namespace_id: str) -> NamespaceReady:
    """The opening of a namespace."""
    return NamespaceReady(namespace_id=namespace_id)


def name_import(name: str, owner: Person, value_hash: bytes) -> Import:
    """An import of ``name`` for ``owner``."""
    return Import(name=name, recipient=owner.script, value_hash=value_hash)


def preorder(
    network: Network, name: str, payer: Person, owner: Person, consensus_hash: bytes
) -> Preorder:
    """A preorder that pays the classic price of the name."""
    label = name.partition(".")[0]
    terms = namespace_reveal("x", payer)
    return Preorder(
        preorder_hash=hash_name(name, payer.script, owner.address(network)),
        consensus_hash=consensus_hash,
        op_fee=max(5500, name_price_satoshis(label, terms, network.epoch(network.first_block))),
        fee_script=network.burn_script,
    )


def register(name: str, owner: Person, value_hash: bytes | None = None) -> Register:
    """A registration for ``owner``."""
    return Register(name=name, recipient=owner.script, value_hash=value_hash)


def update(name: str, consensus_hash: bytes, value_hash: bytes) -> Update:
    """An update of ``name``."""
    bound = name_consensus_hash(name, consensus_hash)
    return Update(name_consensus_hash=bound, value_hash=value_hash)
