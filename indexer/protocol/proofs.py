"""Proofs that an operation was accepted, under one trusted consensus hash (spec section 5).

A proof is the text of the operation and the Merkle branches that lead from it to the trusted hash:
from the text to the ops hash of its block, from there to the consensus hash of the block, and on
by the skip list, block by block, each hop the longest that does not pass the goal. Whoever checks
it needs the proof, one pair (height, consensus hash) that he trusts, and the constants of the
network; a node that lies can refuse a proof, and cannot make one.

Rule 1: everything but the heights is hashed upwards, so no byte can change and the end be the same.
Rule 2: ``read_proof`` and ``verify_proof`` raise ``BadProof`` and nothing else, whatever they get.
Rule 3: a proof has one form only. Heights are the one path from the trusted block down, a branch
has the shape that its height gives it.

What a proof does not show: that nothing happened to the name later; and, for an operation whose
text does not say its height (update, transfer, revocation, import), which of the blocks that one
consensus hash commits to it was in, since its leaves are sorted by value. ``Proven.height_proven``
tells; the txid, which is proven, gives the block to whoever asks Bitcoin.

The JSON form (version 1) is an object with exactly these members:

* ``version``: 1; ``network``: the name of the network;
* ``height``: of the block with the operation;
* ``operation``: its text, as it enters the ops hash;
* ``operation_branch``: the siblings from the text's hash up to the ops hash, lowest first;
* ``path``: from the block of the operation up to the trusted one, objects with ``height`` and
  ``branch``: the siblings up to the Merkle root under that block's consensus hash, lowest first;
  first of its ops hash, then each time of the consensus hash of the step before.

A sibling is text: ``<`` or ``>`` (it stands left or right) and its hash in display hex, 16 or 32
bytes, or ``=`` where the node is the last of an odd row and stands beside itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from embit.hashes import hash160

from indexer.bitcoin.transactions import double_sha256
from indexer.networks import MAX_NETWORK_NAME, Network
from indexer.protocol.consensus import CONSENSUS_HASH_BYTES, skip_heights
from indexer.protocol.serialized import MAX_TEXT, BadSerialization, Serialized, read_serialized

VERSION = 1
MAX_PROOF_BYTES = 65_536
MAX_OPERATION_BRANCH = 24
MAX_BRANCH = 6  # levels above at most 33 leaves, for heights below 2**32
MAX_PATH = 40
_MAX_HEIGHT = 2**32 - 1


class BadProof(Exception):
    """It proves nothing; ``str()`` of it says why."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """The node beside ours on the way up; ``digest`` (display order) None: ours itself."""

    on_left: bool
    digest: bytes | None


Branch = tuple[Sibling, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """The way up inside one block, to the root under its consensus hash."""

    height: int
    branch: Branch


@dataclass(frozen=True, slots=True)
class Proof:
    """See above; ``path`` begins at the operation's block and ends at the trusted one."""

    network: str
    height: int
    operation: str
    operation_branch: Branch
    path: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof shows."""

    operation: Serialized
    height: int
    height_proven: bool
    """Whether the operation's own text says the height; else it is the claim of who proved."""


class Chain(Protocol):
    """What is needed of a snapshot to build a proof."""

    @property
    def network(self) -> Network: ...
    @property
    def height(self) -> int: ...
    def operations(self, height: int, /) -> tuple[str, ...]: ...
    def ops_hash(self, height: int, /) -> bytes | None: ...
    def consensus_hash(self, height: int, /) -> bytes | None: ...


def skip_path(trusted: int, height: int, first_block: int) -> list[int]:
    """The heights from ``trusted`` down to ``height``, each hop as long as it can be."""
    path = [trusted]
    while path[-1] > height:
        path.append(min(h for h in skip_heights(path[-1], first_block) if h >= height))
    return path


# --- building


def build_proof(chain: Chain, operation: str, height: int, trusted: int) -> Proof:
    """Prove that ``operation`` is one of block ``height`` under the consensus hash of ``trusted``.

    Raises ``BadProof`` where it is not, or the heights are not in the chain in this order.
    """
    first = chain.network.first_block
    if not first <= height <= trusted <= chain.height:
        raise BadProof(
            f"a proof leads from an indexed block ({first} to {chain.height}) up to one that is not"
            f" before it, not from {height} to {trusted}"
        )
    if chain.network.is_frozen(trusted):
        raise BadProof(f"no recorded consensus hash of block {trusted} is known here")
    operations = chain.operations(height)
    if operation not in operations:
        raise BadProof(f"block {height} has no such operation")
    leaves = [_leaf(text) for text in operations]
    steps = []
    below: int | None = None
    for at in reversed(skip_path(trusted, height, first)):
        entries = _entries(chain, at)
        node = entries[at if below is None else below]
        steps.append(Step(at, _branch(list(entries.values()), node)))
        below = at
    branch = _branch(leaves, _leaf(operation))
    return Proof(chain.network.name, height, operation, branch, tuple(steps))


def _entries(chain: Chain, height: int) -> dict[int, bytes]:
    """What the consensus hash of a block commits to, by height; its own is the ops hash."""
    entries = {height: chain.ops_hash(height)}
    for earlier in skip_heights(height, chain.network.first_block):
        entries[earlier] = chain.consensus_hash(earlier)
    known = {h: digest for h, digest in entries.items() if digest is not None}
    if len(known) != len(entries):
        raise BadProof(f"the recorded consensus hashes under block {height} are not known")
    return known


def _branch(leaves: Sequence[bytes], leaf: bytes) -> Branch:
    """The siblings of ``leaf`` on the way up the tree over ``leaves`` (display order)."""
    row = sorted(leaves)
    index = row.index(leaf)
    branch = []
    while len(row) > 1:
        if len(row) % 2:
            row.append(row[-1])
            if index == len(row) - 2:
                branch.append(Sibling(False, None))
            else:
                branch.append(_beside(row, index))
        else:
            branch.append(_beside(row, index))
        row = [_parent(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        index //= 2
    return tuple(branch)


def _beside(row: Sequence[bytes], index: int) -> Sibling:
    return Sibling(index % 2 == 1, row[index ^ 1])


def _leaf(text: str) -> bytes:
    return double_sha256(text.encode("ascii"))


def _parent(left: bytes, right: bytes) -> bytes:
    # Display order is the reverse of what is hashed (spec section 4.4).
    return double_sha256(left[::-1] + right[::-1])[::-1]


# --- checking


def verify_proof(proof: Proof, height: int, consensus_hash: bytes, network: Network) -> Proven:
    """What ``proof`` shows to one who trusts that block ``height`` has ``consensus_hash``.

    Raises ``BadProof`` and nothing else.
    """
    if proof.network != network.name:
        raise BadProof(f"it is of the network {proof.network[:40]!r}, not of {network.name!r}")
    if network.is_frozen(height):
        raise BadProof(
            f"the consensus hashes of {network.name} after block {network.frozen_at} do not follow"
            " from Bitcoin alone, and prove nothing here"
        )
    try:
        operation = read_serialized(proof.operation)
    except BadSerialization as error:
        raise BadProof(f"its operation cannot be read: {error}") from error
    _check_path(proof, height, network.first_block)
    if len(proof.operation_branch) > MAX_OPERATION_BRANCH:
        raise BadProof(f"its block would have more than 2^{MAX_OPERATION_BRANCH} operations")
    node = _climb(_leaf(operation.text), proof.operation_branch, (32,))
    for step in proof.path:
        leaves = 1 + len(skip_heights(step.height, network.first_block))
        _check_shape(step, leaves)
        root = _climb(node, step.branch, (CONSENSUS_HASH_BYTES, 32))
        digest: bytes = hash160(root)
        node = digest[:CONSENSUS_HASH_BYTES]
    if node != consensus_hash:
        raise BadProof(f"it leads to {node.hex()} at block {height}, not to the trusted hash")
    if operation.block not in (None, proof.height) or proof.height < operation.not_before:
        raise BadProof(f"by its own text, its operation was not in block {proof.height}")
    return Proven(operation, proof.height, operation.block is not None)


def _check_path(proof: Proof, trusted: int, first_block: int) -> None:
    if not first_block <= proof.height <= trusted <= _MAX_HEIGHT:
        raise BadProof(
            f"it is about block {proof.height}, which is not between the first block {first_block}"
            f" and the trusted one {trusted}"
        )
    heights = [step.height for step in reversed(proof.path)]
    if heights != skip_path(trusted, proof.height, first_block):
        raise BadProof(f"its path is not the one from block {trusted} to block {proof.height}")


def _check_shape(step: Step, leaves: int) -> None:
    """A tree over ``leaves`` nodes gives the branch of each leaf its length and its odd rows."""
    index = sum(sibling.on_left << level for level, sibling in enumerate(step.branch))
    count = leaves
    for sibling in step.branch:
        alone = count % 2 == 1 and index == count - 1
        if count == 1 or index >= count or alone != (sibling.digest is None):
            break
        count, index = (count + 1) // 2, index // 2
    else:
        if count == 1:
            return
    raise BadProof(f"its branch at block {step.height} does not fit a tree of {leaves} leaves")


def _climb(node: bytes, branch: Branch, leaf_sizes: tuple[int, ...]) -> bytes:
    """The root above ``node``. Leaves have one of ``leaf_sizes``; all above them are 32 bytes."""
    for level, sibling in enumerate(branch):
        beside = node if sibling.digest is None else sibling.digest
        if sibling.digest is not None and len(beside) not in ((32,) if level else leaf_sizes):
            raise BadProof(f"a sibling has {len(beside)} bytes")
        left, right = (beside, node) if sibling.on_left else (node, beside)
        if sibling.digest == node or (level == 0 and left > right):
            raise BadProof("siblings do not stand in the order of their values")
        node = _parent(left, right)
    return node


# --- JSON


def write_proof(proof: Proof) -> dict[str, Any]:
    """The JSON form of ``proof``."""
    return {
        "version": VERSION,
        "network": proof.network,
        "height": proof.height,
        "operation": proof.operation,
        "operation_branch": [_write_sibling(sibling) for sibling in proof.operation_branch],
        "path": [
            {"height": step.height, "branch": [_write_sibling(sibling) for sibling in step.branch]}
            for step in proof.path
        ],
    }


def _write_sibling(sibling: Sibling) -> str:
    if sibling.digest is None:
        return "="
    return ("<" if sibling.on_left else ">") + sibling.digest.hex()


def read_proof(text: bytes | str) -> Proof:
    """The proof in JSON ``text``. Raises ``BadProof`` and nothing else."""
    if len(text) > MAX_PROOF_BYTES:
        raise BadProof(f"a proof has at most {MAX_PROOF_BYTES} bytes")
    try:
        document = json.loads(text, object_pairs_hook=_members, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadProof("it is not JSON, or says something twice") from error
    if not isinstance(document, dict):
        raise BadProof("it is not a JSON object")
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise BadProof(f"its version is not {VERSION}, the one that this program knows")
    expected = {"version", "network", "height", "operation", "operation_branch", "path"}
    _exactly(document, expected, "the proof")
    path = _list(document["path"], MAX_PATH, "path")
    return Proof(
        network=_text(document["network"], MAX_NETWORK_NAME, "network"),
        height=_height(document["height"]),
        operation=_text(document["operation"], MAX_TEXT, "operation"),
        operation_branch=_read_branch(document["operation_branch"], MAX_OPERATION_BRANCH),
        path=tuple(_read_step(step) for step in path),
    )


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _exactly(members: Mapping[str, Any], expected: set[str], where: str) -> None:
    if members.keys() != expected:
        odd = sorted(members.keys() ^ expected)[0]
        raise BadProof(f"the member {odd[:40]!r} of {where} is missing, or should not be there")


def _list(value: object, longest: int, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise BadProof(f"{where} is not a list of at most {longest} entries")
    return value


def _text(value: object, longest: int, where: str) -> str:
    if not isinstance(value, str) or len(value) > longest or not value.isascii():
        raise BadProof(f"{where} is not ASCII text of at most {longest} characters")
    return value


def _height(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_HEIGHT:
        raise BadProof("a height is not a whole number of four bytes")
    return value


def _read_step(value: object) -> Step:
    if not isinstance(value, dict):
        raise BadProof("a step of the path is not an object")
    _exactly(value, {"height", "branch"}, "a step")
    return Step(_height(value["height"]), _read_branch(value["branch"], MAX_BRANCH))


def _read_branch(value: object, longest: int) -> Branch:
    return tuple(_read_sibling(sibling) for sibling in _list(value, longest, "a branch"))


def _read_sibling(value: object) -> Sibling:
    text = _text(value, 65, "a sibling")
    if text == "=":
        return Sibling(False, None)
    side, digits = text[:1], text[1:]
    hexadecimal = all(digit in "0123456789abcdef" for digit in digits)
    if side not in ("<", ">") or len(digits) not in (32, 64) or not hexadecimal:
        raise BadProof("a sibling is '=', or '<' or '>' and 16 or 32 bytes in lower-case hex")
    return Sibling(side == "<", bytes.fromhex(digits))
