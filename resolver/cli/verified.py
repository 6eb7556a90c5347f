"""What a proof and data from an untrusted daemon show of a name to who trusts one consensus hash.

Pure: whoever calls has fetched the proof and the data, from anybody, and knows whence the hash.
What must stay true: nothing is said of a name that does not follow from the hash, and that it
holds still is said only where somebody trusted said what the newest operation is.
"""

from dataclasses import dataclass
from enum import Enum

from indexer.networks import Network
from indexer.protocol.proofs import BadProof, Proof, verify_proof
from indexer.protocol.records import ends
from zonefiles.text.zonefile import value_hash

NAME_OPERATIONS = (":", ";", "+", ">", "~")
NAMESPACE_READY = "!"


@dataclass(frozen=True, slots=True)
class Trusted:
    """A consensus hash (16 bytes) of the block at ``height``, and who vouches for it."""

    height: int
    consensus_hash: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Newest:
    """What the trusted side knows of the name at its last block: its last operation, if any."""

    height: int
    txid: str | None


class Standing(Enum):
    """What is known of whether a proven state holds still."""

    NEWEST = "newest"
    """Nothing came after it, and it has not ended."""
    PAST = "past"
    """It was so; whether anything came later is not shown."""
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class VerifiedName:
    """The state of a name after the operation that was proven; text as the operation has it."""

    name: str
    address: str
    sender: str
    value_hash: str | None
    """Of its data, in hex; None where the operation left it without."""
    revoked: bool
    operation: str
    """The operation's own letters, such as ``::``."""
    txid: str
    height: int
    height_proven: bool
    """Whether the height follows from the hash, or is the claim of who made the proof."""
    last_renewed: int
    ready_block: int
    """Of its namespace, and in blocks how long its names live; both proven."""
    lifetime: int

    def ends(self, network: Network, height: int) -> tuple[int | None, int | None]:
        """(first block at which it is expired, first at which anybody may take it) by the rules at
        ``height``, if nobody renews it; None: never."""
        return ends(self.ready_block, self.lifetime, self.last_renewed, network, height)


def verify_name(
    proof: Proof, of_namespace: Proof | None, name: str, trusted: Trusted, network: Network
) -> VerifiedName:
    """The state of ``name`` that ``proof`` shows under ``trusted``; ``of_namespace`` proves the
    operation that opened its namespace. Raises ``BadProof``."""
    proven = verify_proof(proof, trusted.height, trusted.consensus_hash, network)
    operation = proven.operation
    if operation.opcode not in NAME_OPERATIONS:
        raise BadProof(f"it proves an operation {operation.opcode!r}, which is about no name")
    fields = operation.fields
    if fields["name"] != name:
        raise BadProof(f"it is about {fields['name']!r}, not about {name!r}")
    ready_block, lifetime = _opening(of_namespace, name.partition(".")[2], trusted, network)
    return VerifiedName(
        name=name,
        address=fields["address"],
        sender=fields["sender"],
        value_hash=fields["value_hash"] or None,
        revoked=fields["revoked"] == "True",
        operation=fields["op"],
        txid=operation.txid,
        height=proven.height,
        height_proven=proven.height_proven,
        last_renewed=int(fields["last_renewed"]),
        ready_block=ready_block,
        lifetime=lifetime,
    )


def _opening(
    proof: Proof | None, namespace: str, trusted: Trusted, network: Network
) -> tuple[int, int]:
    """The block at which a namespace opened, for ever, and how many blocks its names live."""
    if proof is None:
        raise BadProof(f"nothing shows that the namespace {namespace} is open, and until when")
    operation = verify_proof(proof, trusted.height, trusted.consensus_hash, network).operation
    if operation.opcode != NAMESPACE_READY or operation.fields["namespace_id"] != namespace:
        raise BadProof(f"what it shows of a namespace is not that {namespace} is open")
    lifetime = operation.fields["lifetime"]
    if not (lifetime.isdecimal() and len(lifetime) <= 10):
        raise BadProof("the lifetime of names is no number of blocks")
    return int(operation.fields["ready_block"]), int(lifetime)


def standing_of(
    shown: VerifiedName, trusted: Trusted, newest: Newest | None, network: Network
) -> Standing:
    """Whether ``shown`` holds still, at the trusted block or at the last one of who is trusted."""
    if newest is not None and newest.txid != shown.txid:
        return Standing.SUPERSEDED
    at = trusted.height if newest is None else max(trusted.height, newest.height)
    gone_at = shown.ends(network, at)[1]
    if gone_at is not None and at >= gone_at:
        return Standing.EXPIRED
    if shown.revoked:
        return Standing.REVOKED
    # Also of the very block of the hash: a name may be renewed and transferred in one block.
    return Standing.PAST if newest is None else Standing.NEWEST


def verify_data(shown: VerifiedName, data: bytes) -> None:
    """Raises ``BadProof`` where ``data`` is not what the proven operation announced."""
    if shown.value_hash is None:
        raise BadProof(f"{shown.name} announced no data, so none can be its own")
    found = value_hash(data).hex()
    if found != shown.value_hash:
        raise BadProof(f"the data has the hash {found}, and {shown.name} announced another")
