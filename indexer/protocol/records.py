"""The rows of the name table, and what they mean at a height.

Expiry writes nothing: whether a name is live is a question asked of its record, its namespace and
a height (protocol spec section 1.6). All heights are block heights; amounts are satoshis.
"""

from dataclasses import dataclass
from enum import Enum

from indexer.networks import INFINITE_LIFETIME, Network


@dataclass(frozen=True, slots=True)
class NamespaceRecord:
    """A namespace after its last operation, ``&`` (revealed) or ``!`` (ready)."""

    namespace_id: str
    preorder_hash: bytes
    version: int
    sender: bytes
    sender_pubkey: bytes | None
    address: str
    recipient: bytes
    recipient_address: str
    block_number: int
    reveal_block: int
    ready_block: int
    op: str
    txid: bytes
    vtxindex: int
    lifetime: int
    coeff: int
    base: int
    buckets: tuple[int, ...]
    nonalpha_discount: int
    no_vowel_discount: int

    @property
    def is_ready(self) -> bool:
        """Whether the namespace is open to everybody; once so, for ever."""
        return self.op == "!"

    def revealed_at(self, height: int, network: Network) -> bool:
        """Whether it is revealed, not ready and not lapsed at ``height``."""
        lapses = self.reveal_block + network.namespace_reveal_expire
        return self.op == "&" and self.reveal_block <= height < lapses


@dataclass(frozen=True, slots=True)
class NameRecord:
    """A name after its last operation."""

    name: str
    value_hash: bytes | None
    sender: bytes
    """The owner's scriptPubKey."""
    sender_pubkey: bytes | None
    address: str
    block_number: int
    preorder_block_number: int
    first_registered: int
    last_renewed: int
    revoked: bool
    op: str
    txid: bytes
    vtxindex: int
    op_fee: float
    """Satoshis; whole for a registration, the computed price for an import."""
    importer: bytes | None
    importer_address: str | None
    consensus_hash: bytes | None
    preorder_hash: bytes
    imported: bool
    """Whether the last operation that created it was an import: its fee is then a float in the
    consensus hash (spec section 4.3)."""
    update_consensus_hash: bytes | None
    """The consensus hash of its last update since it was created; a transfer's serialised one
    (spec section 1.11)."""

    def live_at(self, height: int, namespace: NamespaceRecord | None, network: Network) -> bool:
        """Whether it is live at ``height`` (U in the spec); a revoked name is, until it lapses."""
        if namespace is None or self.first_registered > height:
            return False
        if namespace.is_ready:
            epoch = network.epoch(height)
            span = namespace.lifetime * epoch.lifetime_multiplier + epoch.grace_period
            return namespace.ready_block + span > height or self.last_renewed + span >= height
        return namespace.revealed_at(height, network)

    def in_grace_at(self, height: int, namespace: NamespaceRecord, network: Network) -> bool:
        """Whether it is past its lifetime and can still be renewed at ``height``."""
        if not namespace.is_ready or not self.live_at(height, namespace, network):
            return False
        end = self._end(height, namespace, network)
        return end <= height < end + network.epoch(height).grace_period

    def _end(self, height: int, namespace: NamespaceRecord, network: Network) -> int:
        lifetime = namespace.lifetime * network.epoch(height).lifetime_multiplier
        return max(namespace.ready_block, self.last_renewed) + lifetime


@dataclass(frozen=True, slots=True)
class PreorderRecord:
    """An outstanding preorder, of a name or of a namespace."""

    preorder_hash: bytes
    consensus_hash: bytes
    sender: bytes
    sender_pubkey: bytes | None
    address: str
    block_number: int
    op: str
    txid: bytes
    vtxindex: int
    op_fee: int
    fee_script: bytes


class Phase(Enum):
    """What a name is at a height."""

    LIVE = "live"
    GRACE = "in its grace period"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class NameStatus:
    """A phase and the heights at which it ends; None where it never does."""

    phase: Phase
    expires_at: int | None
    """First block of the grace period, or of being gone where there is none."""
    gone_at: int | None
    """First block at which the name is not live and may be taken by anybody."""


def status_at(
    record: NameRecord, namespace: NamespaceRecord | None, network: Network, height: int
) -> NameStatus:
    """The phase of ``record`` once block ``height`` has been processed (spec section 1.6)."""
    expires_at, gone_at = _ends(record, namespace, network, height)
    if namespace is None or not record.live_at(height, namespace, network):
        phase = Phase.EXPIRED
    elif record.revoked:
        phase = Phase.REVOKED
    elif record.in_grace_at(height, namespace, network):
        phase = Phase.GRACE
    else:
        phase = Phase.LIVE
    return NameStatus(phase, expires_at, gone_at)


def _ends(
    record: NameRecord, namespace: NamespaceRecord | None, network: Network, height: int
) -> tuple[int | None, int | None]:
    if namespace is None:
        return record.first_registered, record.first_registered
    if not namespace.is_ready:
        lapses = namespace.reveal_block + network.namespace_reveal_expire
        return lapses, lapses
    return ends(namespace.ready_block, namespace.lifetime, record.last_renewed, network, height)


def ends(
    ready_block: int, lifetime: int, last_renewed: int, network: Network, height: int
) -> tuple[int | None, int | None]:
    """(``expires_at``, ``gone_at``) by the rules at ``height`` of a name that was registered or
    renewed last at ``last_renewed``, in a namespace that opened at ``ready_block``."""
    if lifetime == INFINITE_LIFETIME:
        return None, None
    epoch = network.epoch(height)
    span = lifetime * epoch.lifetime_multiplier
    gone_at = max(ready_block, last_renewed + 1) + span + epoch.grace_period
    return (max(ready_block, last_renewed) + span if epoch.grace_period else gone_at), gone_at
