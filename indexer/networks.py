"""The parameters of each chain that carries names; a rule that changed with time is a row here.

Nothing else in the project compares a height with a constant: whoever needs to know which
rules hold asks ``Network.epoch(height)`` (protocol spec section 8.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

BLOCKS_PER_DAY = 144
BLOCKS_PER_YEAR = 52595  # round(365.2424 * 24 * 60 / 10), protocol spec section 1.5
PREORDER_EXPIRE = BLOCKS_PER_DAY
CONSENSUS_WINDOW = 24  # blocks whose consensus hash an operation may name
MAX_NAMES_PER_SENDER = 25
INFINITE_LIFETIME = 0xFFFFFFFF
MAX_NETWORK_NAME = 255  # characters; what names the network of a proof or a file reads as many


@dataclass(frozen=True, slots=True)
class Epoch:
    """The rules between two heights. ``last_block`` is inclusive; None means for ever."""

    number: int
    last_block: int | None
    lifetime_multiplier: int
    grace_period: int
    multisig: bool
    name_price_factor: float = 1.0
    namespace_price_divisor: int = 1
    value_hash_at_registration: bool = False
    transfer_at_renewal: bool = False
    pay_to_creator: bool = False
    preorder_expiry_enforced: bool = False
    second_ledger: bool = False
    """True where payments in another ledger decide validity: nothing here is exact then."""


EPOCH_1 = Epoch(1, 436650, 1, 0, multisig=False)
EPOCH_2 = Epoch(2, 488500, 2, 0, multisig=True)
EPOCH_3 = Epoch(
    3,
    547921,
    2,
    5000,
    multisig=True,
    name_price_factor=0.1,
    namespace_price_divisor=10,
    value_hash_at_registration=True,
    transfer_at_renewal=True,
    pay_to_creator=True,
)
EPOCH_4 = replace(
    EPOCH_3, number=4, last_block=None, preorder_expiry_enforced=True, second_ledger=True
)


@dataclass(frozen=True, slots=True)
class Network:
    """One chain with names on it."""

    name: str
    node_chain: str
    """What ``getblockchaininfo`` calls this chain."""
    genesis_hash: str
    """Hash of the chain's block 0 in display hex; "" where each chain has its own."""
    magic: bytes
    first_block: int
    p2pkh_version: int
    p2sh_version: int
    epochs: tuple[Epoch, ...]
    confirmations: int
    """A block is indexed when the node counts this many confirmations for it (the tip has 1)."""
    genesis_consensus: Mapping[int, bytes] = field(default_factory=dict)
    """Consensus hashes before ``first_block`` that operations may refer to."""
    checkpoints: Mapping[int, bytes] = field(default_factory=dict)
    """Published consensus hashes; all within the heights this project reproduces."""
    import_keyring_size: int = 300
    namespace_reveal_expire: int = BLOCKS_PER_YEAR
    segwit_prefix: str = "bcrt"
    """What addresses of segregated witness begin with (BIP 173)."""
    target_spacing: float = 600.0
    """Seconds between blocks, to tell people dates."""
    easiest_bits: int = 0x207FFFFF
    """The least work that a header may show, as it stands in headers; regtest asks for next to
    none."""
    retargets: bool = False
    """Whether the work that is asked for changes every 2016 blocks; regtest's never does."""
    easy_when_late: bool = False
    """Whether a block 20 minutes after the last one needs the least work only."""
    bip94: bool = False
    """Whether a new target is reckoned from the period's first block, as on testnet4."""
    least_versions: tuple[tuple[int, int], ...] = ()
    """From which height on a header's version is at least what (BIP 34, 66 and 65)."""
    known_blocks: Mapping[int, str] = field(default_factory=dict)
    """Hashes in display hex of blocks that are known to be buried deep. A chain that ends below
    the last of them is not all there is, and one with another block there is not this one."""
    announcers: tuple[str, ...] = ("judecn.id", "muneeb.id", "shea256.id")
    """Names whose owners' announcements are taken (spec section 1.17)."""

    def __post_init__(self) -> None:
        fits = 0 < len(self.name) <= MAX_NETWORK_NAME
        if not fits or not (self.name.isascii() and self.name.isprintable()):
            raise ValueError(
                f"a network's name has 1 to {MAX_NETWORK_NAME} printable ASCII characters, not"
                f" {self.name[:40]!r}"
            )

    def epoch(self, height: int) -> Epoch:
        """The rules at ``height``."""
        for epoch in self.epochs:
            if epoch.last_block is None or height <= epoch.last_block:
                return epoch
        return self.epochs[-1]

    @property
    def frozen_at(self) -> int | None:
        """The last height whose consensus hash follows from Bitcoin alone; None: all do."""
        last = self.first_block - 1
        for epoch in self.epochs:
            if epoch.second_ledger:
                return last
            if epoch.last_block is not None:
                last = epoch.last_block
        return None

    def is_frozen(self, height: int) -> bool:
        """Whether the recorded consensus hash of ``height`` cannot be had from Bitcoin alone."""
        return self.frozen_at is not None and height > self.frozen_at

    @property
    def burn_script(self) -> bytes:
        """The scriptPubKey that fees of version-1 namespaces are paid to (spec section 2.1)."""
        return bytes.fromhex("76a914" + "00" * 20 + "88ac")


MAINNET = Network(
    name="mainnet",
    node_chain="main",
    genesis_hash="000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    magic=b"id",
    first_block=373601,
    p2pkh_version=0x00,
    p2sh_version=0x05,
    epochs=(EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4),
    confirmations=6,
    genesis_consensus={
        height: bytes.fromhex("17ac43c1d8549c3181b200f1bf97eb7d")
        for height in range(373597, 373601)
    },
    segwit_prefix="bc",
    checkpoints={420518: bytes.fromhex("106d4648661d49e16d103b071e26617e")},
    easiest_bits=0x1D00FFFF,
    retargets=True,
    least_versions=((227_931, 2), (363_725, 3), (388_381, 4)),
    known_blocks={
        383616: "00000000000000000aab6a2b34e979b09ca185584bd1aecf204f24d150ff55e9",
        540107: "00000000000000000021868c2cefc52a480d173c849412fe81c4e5ab806f94ab",
        866342: "000000000000000000014ce9ba7c6760053c3c82ce6ab43d60afb101d3c8f1f1",
    },
)

_NEW_NETWORK_EPOCH = replace(EPOCH_3, last_block=None)

TESTNET = Network(
    name="testnet",
    node_chain="test",
    genesis_hash="000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
    magic=b"id",
    first_block=529008,
    p2pkh_version=0x6F,
    p2sh_version=0xC4,
    epochs=(_NEW_NETWORK_EPOCH,),
    confirmations=6,
    segwit_prefix="tb",
    easiest_bits=0x1D00FFFF,
    retargets=True,
    easy_when_late=True,
    least_versions=((21_111, 2), (330_776, 3), (581_885, 4)),
    known_blocks={928828: "00000000000cee3a01a2821fe68eaa06000e8c744320efca8fcff9c4b9cf76c2"},
)

TESTNET4 = replace(
    TESTNET,
    name="testnet4",
    node_chain="testnet4",
    genesis_hash="00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
    first_block=100_000,
    bip94=True,
    least_versions=((1, 4),),
    known_blocks={},
)

SIGNET = replace(
    TESTNET,
    name="signet",
    node_chain="signet",
    genesis_hash="00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
    first_block=250_000,
    easiest_bits=0x1E0377AE,
    easy_when_late=False,
    least_versions=((1, 4),),
    known_blocks={},
)

REGTEST = Network(
    name="regtest",
    node_chain="regtest",
    genesis_hash="0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
    magic=b"id",
    first_block=256,
    p2pkh_version=0x6F,
    p2sh_version=0xC4,
    epochs=(_NEW_NETWORK_EPOCH,),
    confirmations=1,
)

SANDBOX = replace(
    REGTEST,
    name="sandbox",
    first_block=1,
    # A name that is not renewed lapses while somebody looks on.
    epochs=(replace(_NEW_NETWORK_EPOCH, lifetime_multiplier=1, grace_period=BLOCKS_PER_DAY),),
    target_spacing=5.0,
)

NETWORKS: dict[str, Network] = {
    n.name: n for n in (MAINNET, TESTNET, TESTNET4, SIGNET, REGTEST, SANDBOX)
}
