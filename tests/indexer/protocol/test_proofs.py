"""Proofs: what a node builds, a stranger checks; and nothing that was changed passes."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.transactions import double_sha256
from indexer.following.replay import MemoryStore, read_chain, replay
from indexer.networks import SANDBOX, Network
from indexer.protocol import consensus
from indexer.protocol.proofs import (
    MAX_PROOF_BYTES,
    BadProof,
    Proven,
    Sibling,
    build_proof,
    read_proof,
    skip_path,
    verify_proof,
    write_proof,
)
from indexer.protocol.serialized import BadSerialization, read_serialized
from indexer.table.snapshot import Snapshot
from tests.conftest import DATA
from tests.rings import sampled

CHAINS = sorted((DATA / "protocol" / "chains").glob("*.json"))
FIRST = 100


def update_text(number: int) -> str:
    """An update as it enters the ops hash; its text does not say its block."""
    values = ["alice.id", "ab" * 20, "76a9", "", "1x", "7", "7", "8", "9", "False", "+"]
    values += [f"{number:064x}", "1", "5500", "", "", "cd" * 16, "ef" * 16]
    return "+:" + ",".join(f"{len(value)}:{value}" for value in values)


def preorder_text(number: int, height: int) -> str:
    """A preorder, whose text says its block."""
    values = [f"{number:040x}", "ab" * 16, "76a9", "", "1x", str(height), "?", f"{number:064x}"]
    values += ["1", "5500"]
    return "?:" + ",".join(f"{len(value)}:{value}" for value in values)


@dataclass
class MadeChain:
    """Blocks of made-up operations, hashed as real ones are."""

    network: Network = field(default_factory=lambda: replace(SANDBOX, first_block=FIRST))
    blocks: list[tuple[str, ...]] = field(default_factory=list)
    hashes: list[tuple[bytes, bytes]] = field(default_factory=list)

    def add(self, *texts: str) -> None:
        height = FIRST + len(self.blocks)
        ops_hash = consensus.ops_hash(texts)
        own = consensus.consensus_hash(height, FIRST, ops_hash, self.consensus_hash)
        self.blocks.append(texts)
        self.hashes.append((ops_hash, own))

    @property
    def height(self) -> int:
        return FIRST + len(self.blocks) - 1

    def operations(self, height: int) -> tuple[str, ...]:
        return self.blocks[height - FIRST]

    def ops_hash(self, height: int) -> bytes:
        return self.hashes[height - FIRST][0]

    def consensus_hash(self, height: int) -> bytes:
        return self.hashes[height - FIRST][1]


@cache
def made(blocks: int = 200) -> MadeChain:
    """Each block has 0 to 6 operations."""
    chain = MadeChain()
    for n in range(blocks):
        height = FIRST + n
        texts = [update_text(n * 10 + k) for k in range(n % 4)]
        chain.add(*texts, *(preorder_text(n * 10 + k, height) for k in range(n % 3)))
    return chain


def through_json(proof: Any) -> Any:
    return read_proof(json.dumps(write_proof(proof)))


def checked(chain: MadeChain, text: str, height: int, trusted: int) -> Proven:
    proof = through_json(build_proof(chain, text, height, trusted))
    return verify_proof(proof, trusted, chain.consensus_hash(trusted), chain.network)


@pytest.mark.data
@pytest.mark.parametrize("path", CHAINS or [Path("none")], ids=lambda path: path.stem)
def test_every_operation_of_a_recorded_chain_is_proven_by_its_last_recorded_hash(
    path: Path,
) -> None:
    chain = read_chain(path)
    store = MemoryStore()
    blocks = [block for block, _ in replay(chain, store)]
    snapshot = Snapshot(store, chain.network)
    last = blocks[-1]
    proven = 0
    for block in blocks:
        for text in block.serialized:
            proof = through_json(build_proof(snapshot, text, block.height, last.height))
            found = verify_proof(proof, last.height, last.consensus_hash, chain.network)
            assert (found.operation.text, found.height) == (text, block.height)
            proven += 1
    assert proven


@settings(max_examples=sampled(80), deadline=None)
@given(st.data())
def test_whatever_a_block_holds_is_proven_from_any_later_block(pick: st.DataObject) -> None:
    chain = made()
    height = pick.draw(st.sampled_from([h for h in range(FIRST, FIRST + 200) if (h - FIRST) % 12]))
    text = pick.draw(st.sampled_from(chain.operations(height)))
    trusted = pick.draw(st.integers(height, chain.height))
    proven = checked(chain, text, height, trusted)
    assert (proven.operation.text, proven.height) == (text, height)
    assert proven.height_proven is text.startswith("?")


PLACES = st.tuples(st.integers(0, 10_000), st.integers(0, 94))


@settings(max_examples=sampled(400), deadline=None)
@given(height=st.sampled_from([FIRST + 2, FIRST + 77, FIRST + 150, FIRST + 199]), place=PLACES)
def test_no_single_changed_byte_of_a_proof_verifies(height: int, place: tuple[int, int]) -> None:
    chain = made()
    trusted = chain.height
    text = json.dumps(write_proof(build_proof(chain, chain.operations(height)[0], height, trusted)))
    at = place[0] % len(text)
    sign = chr(33 + place[1] % 94)
    if sign == text[at] or text[at] == " ":
        return
    with pytest.raises(BadProof):
        verify_proof(
            read_proof(text[:at] + sign + text[at + 1 :]),
            trusted,
            chain.consensus_hash(trusted),
            chain.network,
        )


def test_every_byte_of_one_proof_is_changed_in_turn_and_none_verifies() -> None:
    chain = made()
    height, trusted = FIRST + 77, chain.height
    text = json.dumps(
        write_proof(build_proof(chain, chain.operations(height)[0], height, trusted)),
        separators=(",", ":"),
    )
    trust = chain.consensus_hash(trusted)
    for at in range(len(text)):
        for sign in {chr(ord(text[at]) ^ 1), "0", "9", "=", "a", " "} - {text[at]}:
            changed = text[:at] + sign + text[at + 1 :]
            with pytest.raises(BadProof):
                verify_proof(read_proof(changed), trusted, trust, chain.network)


def test_a_proof_of_another_operation_height_hash_or_network_fails() -> None:
    chain = made()
    height, trusted = FIRST + 77, chain.height
    proof = build_proof(chain, chain.operations(height)[0], height, trusted)
    trust = chain.consensus_hash(trusted)
    assert verify_proof(proof, trusted, trust, chain.network)
    with pytest.raises(BadProof):
        verify_proof(proof, trusted - 1, trust, chain.network)
    with pytest.raises(BadProof):
        verify_proof(proof, trusted, chain.consensus_hash(trusted - 1), chain.network)
    with pytest.raises(BadProof, match="network"):
        verify_proof(replace(proof, network="mainnet"), trusted, trust, chain.network)
    with pytest.raises(BadProof):
        verify_proof(replace(proof, operation=update_text(1)), trusted, trust, chain.network)
    with pytest.raises(BadProof, match="no such operation"):
        build_proof(chain, update_text(1), height, trusted)
    for low, high in ((FIRST - 1, trusted), (trusted, height), (height, trusted + 1)):
        with pytest.raises(BadProof):
            build_proof(chain, proof.operation, low, high)


def test_a_text_that_says_its_block_is_not_proven_at_another() -> None:
    """The leaves under a consensus hash are sorted, so a liar can rename the heights of a path."""
    chain = MadeChain()
    for n in range(8):
        chain.add(update_text(n), preorder_text(n, FIRST + n))
    trusted, height, claimed = FIRST + 6, FIRST + 3, FIRST + 5
    assert skip_path(trusted, height, FIRST) == [trusted, height]
    assert skip_path(trusted, claimed, FIRST) == [trusted, claimed]
    trust = chain.consensus_hash(trusted)
    for text in chain.operations(height):
        honest = build_proof(chain, text, height, trusted)
        lie = replace(
            honest,
            height=claimed,
            path=(replace(honest.path[0], height=claimed), *honest.path[1:]),
        )
        if text.startswith("?"):
            with pytest.raises(BadProof):
                verify_proof(lie, trusted, trust, chain.network)
            continue
        try:
            proven = verify_proof(lie, trusted, trust, chain.network)
        except BadProof:
            continue  # another number of leaves
        assert not proven.height_proven


@pytest.mark.parametrize("distance", [1, 2, 4, 100, 1000, 5000])
def test_a_proof_grows_with_the_logarithm_of_the_distance(distance: int) -> None:
    chain = made(200) if distance < 200 else made(5200)
    trusted = chain.height
    height = trusted - distance
    while not chain.operations(height):
        height -= 1
    proof = build_proof(chain, chain.operations(height)[0], height, trusted)
    assert len(proof.path) - 1 <= (trusted - height).bit_length()
    assert len(json.dumps(write_proof(proof))) < 2500 + 450 * (trusted - height).bit_length()


def _changed(change: Callable[[dict[str, Any]], Any]) -> str:
    chain = made()
    height = FIRST + 77
    proof = build_proof(chain, chain.operations(height)[0], height, chain.height)
    document = write_proof(proof)
    result = change(document)
    return json.dumps(document if result is None else result)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: [],
        lambda d: 7,
        lambda d: d.update(version=2),
        lambda d: d.update(version=True),
        lambda d: d.update(version=1.0),
        lambda d: d.update(version=[[]]),
        lambda d: d.pop("path") and None,
        lambda d: d.update(more=1),
        lambda d: d.update(height=-1),
        lambda d: d.update(height=2**32),
        lambda d: d.update(height=1e3),
        lambda d: d.update(height="177"),
        lambda d: d.update(network=None),
        lambda d: d.update(network="n" * 65),
        lambda d: d.update(operation="é"),
        lambda d: d.update(operation="+" * 5000),
        lambda d: d.update(operation_branch={}),
        lambda d: d.update(operation_branch=["="] * 25),
        lambda d: d.update(operation_branch=["<" + "A" * 64]),
        lambda d: d.update(operation_branch=["<" + "a" * 63]),
        lambda d: d.update(operation_branch=[None]),
        lambda d: d.update(path=[]),
        lambda d: d.update(path=[7]),
        lambda d: d.update(path=d["path"] * 30),
        lambda d: d["path"][0].update(branch=["="] * 7),
        lambda d: d["path"][0].pop("branch") and None,
        lambda d: d["path"][0]["branch"].append("="),
        lambda d: d["path"][0]["branch"].pop() and None,
        lambda d: d["path"].reverse(),
    ],
)
def test_a_malformed_proof_is_refused_by_name(change: Callable[[dict[str, Any]], Any]) -> None:
    chain = made()
    with pytest.raises(BadProof) as refused:
        verify_proof(
            read_proof(_changed(change)),
            chain.height,
            chain.consensus_hash(chain.height),
            chain.network,
        )
    assert str(refused.value)


def test_what_is_said_twice_or_too_long_or_too_deep_is_refused() -> None:
    text = _changed(lambda d: None)
    twice = text.replace('{"version": 1,', '{"version": 1, "version": 1,', 1)
    for bad in (
        twice,
        "[" * 60_000,
        " " * (MAX_PROOF_BYTES + 1),
        "",
        b"\xff\xfe",
        '{"version": NaN}',
    ):
        with pytest.raises(BadProof):
            read_proof(bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.binary(max_size=200) | JSON.map(json.dumps) | st.text(max_size=100))
def test_reading_a_proof_raises_nothing_but_bad_proof(text: bytes | str) -> None:
    with pytest.raises(BadProof):
        read_proof(text)


@given(
    st.sampled_from(["version", "network", "height", "operation", "operation_branch", "path"]), JSON
)
def test_any_value_in_any_member_is_refused_or_read_and_never_more(member: str, value: Any) -> None:
    chain = made()
    text = _changed(lambda d: d.update({member: value}))
    if text == _changed(lambda d: None):
        return
    trust = chain.consensus_hash(chain.height)
    with pytest.raises(BadProof):
        verify_proof(read_proof(text), chain.height, trust, chain.network)


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: "~:" + text))
def test_text_that_is_no_operation_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadSerialization):
        read_serialized(text)


def test_the_fields_of_an_operation_are_read_by_name() -> None:
    update = read_serialized(update_text(3))
    assert update.fields["name"] == "alice.id"
    assert update.fields["consensus_hash"] == "ef" * 16
    assert (update.txid, update.block, update.not_before) == (f"{3:064x}", None, 9)
    assert read_serialized(preorder_text(3, 400)).block == 400
    for bad in (
        update_text(3) + ",1:x",
        update_text(3)[:-1],
        update_text(3).replace("8:al", "08:al"),
    ):
        with pytest.raises(BadSerialization):
            read_serialized(bad)


def test_no_proof_is_built_or_believed_under_a_hash_after_the_freeze() -> None:
    epoch = SANDBOX.epochs[0]
    network = replace(
        SANDBOX,
        first_block=FIRST,
        epochs=(replace(epoch, last_block=FIRST + 4), replace(epoch, number=4, second_ledger=True)),
    )
    chain = MadeChain(network)
    for n in range(8):
        chain.add(update_text(n))
    before = build_proof(chain, update_text(2), FIRST + 2, FIRST + 4)
    trust = chain.consensus_hash(FIRST + 4)
    assert verify_proof(before, FIRST + 4, trust, network).height == FIRST + 2
    with pytest.raises(BadProof, match="no recorded"):
        build_proof(chain, update_text(2), FIRST + 2, FIRST + 5)
    after = build_proof(replace_network(chain), update_text(6), FIRST + 6, FIRST + 7)
    with pytest.raises(BadProof, match="prove nothing"):
        verify_proof(after, FIRST + 7, chain.consensus_hash(FIRST + 7), network)


def replace_network(chain: MadeChain) -> MadeChain:
    """The same blocks where nothing ever froze."""
    return replace(chain, network=replace(SANDBOX, first_block=FIRST))


def test_a_height_that_would_commit_to_another_number_of_hashes_is_refused() -> None:
    chain = MadeChain()
    for n in range(10):
        chain.add(update_text(n))
    trusted, height, claimed = FIRST + 9, FIRST + 2, FIRST + 6
    honest = build_proof(chain, update_text(2), height, trusted)
    assert [step.height for step in honest.path] == [height, trusted]
    lie = replace(
        honest, height=claimed, path=(replace(honest.path[0], height=claimed), honest.path[1])
    )
    with pytest.raises(BadProof, match="does not fit a tree of 3 leaves"):
        verify_proof(lie, trusted, chain.consensus_hash(trusted), chain.network)


def test_a_node_beside_itself_has_one_form_only() -> None:
    chain = MadeChain()
    chain.add(*(update_text(n) for n in range(3)))
    trust = chain.consensus_hash(FIRST)
    alone = next(
        proof
        for text in chain.operations(FIRST)
        if (proof := build_proof(chain, text, FIRST, FIRST)).operation_branch[0].digest is None
    )
    assert verify_proof(alone, FIRST, trust, chain.network)
    leaf = double_sha256(alone.operation.encode())
    for on_left in (True, False):
        twin = (Sibling(on_left, leaf), *alone.operation_branch[1:])
        with pytest.raises(BadProof, match="order"):
            verify_proof(replace(alone, operation_branch=twin), FIRST, trust, chain.network)
