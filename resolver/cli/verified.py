"""What a proof and data from an untrusted daemon show of a name to who trusts one consensus hash.

Pure: whoever calls has fetched the proof and the data, from anybody, and knows whence the hash.
What must stay true: nothing is said of a name that does not follow from the hash.
"""

from dataclasses import dataclass

from indexer.networks import Network
from indexer.protocol.proofs import BadProof, Proof, verify_proof
from zonefiles.text.zonefile import value_hash

NAME_OPERATIONS = (":", ";", "+", ">", "~")


@dataclass(frozen=True, slots=True)
class Trusted:
    """A consensus hash (16 bytes) of the block at ``height``, and who vouches for it."""

    height: int
    consensus_hash: bytes
    source: str


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


def verify_name(proof: Proof, name: str, trusted: Trusted, network: Network) -> VerifiedName:
    """The state of ``name`` that ``proof`` shows under ``trusted``. Raises ``BadProof``."""
    proven = verify_proof(proof, trusted.height, trusted.consensus_hash, network)
    operation = proven.operation
    if operation.opcode not in NAME_OPERATIONS:
        raise BadProof(f"it proves an operation {operation.opcode!r}, which is about no name")
    fields = operation.fields
    if fields["name"] != name:
        raise BadProof(f"it is about {fields['name']!r}, not about {name!r}")
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
    )


def verify_data(shown: VerifiedName, data: bytes) -> None:
    """Raises ``BadProof`` where ``data`` is not what the proven operation announced."""
    if shown.value_hash is None:
        raise BadProof(f"{shown.name} announced no data, so none can be its own")
    found = value_hash(data).hex()
    if found != shown.value_hash:
        raise BadProof(f"the data has the hash {found}, and {shown.name} announced another")
