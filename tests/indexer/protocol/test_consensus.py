"""Ops hashes and consensus hashes against an implementation that works on hex strings.

The one here sorts text, joins text and reverses text, as protocol spec section 4.4 tells it; it
shares nothing with the code but SHA-256 and hash160.
"""

import hashlib

import pytest
from embit.hashes import hash160
from hypothesis import given
from hypothesis import strategies as st

from indexer.protocol.consensus import consensus_hash, ops_hash, skip_heights
from tests.indexer.protocol.ledger import ALICE, FIRST_BLOCK, PAYER, Ledger, opened, register

EMPTY_OPS = "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456"
FIRST_EMPTY = "2a9148d8b13939723d2aca16c75c6d68"


def naive_root(leaves: list[str]) -> str:
    """The Merkle root over hex strings in display order."""

    def turned(text: str) -> str:
        return "".join(text[at : at + 2] for at in range(len(text) - 2, -2, -2))

    row = [turned(leaf) for leaf in sorted(leaves)]
    while len(row) > 1:
        if len(row) % 2:
            row = [*row, row[-1]]
        pairs = [bytes.fromhex(row[at] + row[at + 1]) for at in range(0, len(row), 2)]
        row = [hashlib.sha256(hashlib.sha256(pair).digest()).hexdigest() for pair in pairs]
    return turned(row[0])


def naive_ops_hash(texts: list[str]) -> str:
    leaves = [
        hashlib.sha256(hashlib.sha256(text.encode("ascii")).digest()).hexdigest()
        for text in texts or [""]
    ]
    return naive_root(leaves)


def naive_consensus_hash(height: int, first: int, ops: str, known: dict[int, str]) -> str:
    leaves = [ops]
    power = 1
    while height - (2**power - 1) >= first:
        leaves.append(known[height - (2**power - 1)])
        power += 1
    return hash160(bytes.fromhex(naive_root(leaves)))[:16].hex()


def test_the_constants_of_empty_blocks() -> None:
    assert ops_hash([]).hex() == naive_ops_hash([]) == EMPTY_OPS
    assert consensus_hash(256, 256, ops_hash([]), lambda h: b"").hex() == FIRST_EMPTY
    assert hash160(bytes.fromhex(EMPTY_OPS))[:16].hex() == FIRST_EMPTY


@given(st.lists(st.text(st.characters(max_codepoint=126), max_size=40), max_size=20))
def test_the_ops_hash_is_the_naive_one_in_any_order(texts: list[str]) -> None:
    assert ops_hash(texts).hex() == naive_ops_hash(texts)
    assert ops_hash(texts[::-1]) == ops_hash(texts)


def test_one_operation_is_its_own_root() -> None:
    leaf = hashlib.sha256(hashlib.sha256(b"~:1:x").digest()).digest()
    assert ops_hash(["~:1:x"]) == leaf


def test_a_changed_byte_of_any_operation_changes_the_hash() -> None:
    texts = ["?:1:a", "::1:b", "+:1:c"]
    hashes = {ops_hash([*texts[:n], texts[n] + "x", *texts[n + 1 :]]) for n in range(3)}
    assert len(hashes | {ops_hash(texts)}) == 4


@given(st.binary(min_size=32, max_size=32), st.data(), st.integers(0, 300))
def test_the_consensus_hash_is_the_naive_one(ops: bytes, draw: st.DataObject, after: int) -> None:
    first = 1000
    height = first + after
    shared = draw.draw(st.integers(0, 16))  # a common prefix puts the lengths to the test
    known = {
        h: ops[:shared] + draw.draw(st.binary(min_size=16 - shared, max_size=16 - shared))
        for h in skip_heights(height, first)
    }
    found = consensus_hash(height, first, ops, known.__getitem__)
    texts = {h: value.hex() for h, value in known.items()}
    assert found.hex() == naive_consensus_hash(height, first, ops.hex(), texts)


@pytest.mark.parametrize(
    ("after", "back"),
    [
        (0, []),
        (1, [1]),
        (2, [1]),
        (3, [1, 3]),
        (6, [1, 3]),
        (7, [1, 3, 7]),
        (14, [1, 3, 7]),
        (15, [1, 3, 7, 15]),
        (1023, [1, 3, 7, 15, 31, 63, 127, 255, 511, 1023]),
    ],
)
def test_a_hash_reaches_back_by_powers_of_two_less_one(after: int, back: list[int]) -> None:
    assert skip_heights(5000 + after, 5000) == [5000 + after - step for step in back]


def test_a_chain_of_blocks_has_the_naive_hashes() -> None:
    ledger = opened()
    known: dict[int, str] = {}
    for height in range(FIRST_BLOCK, ledger.height + 1):
        known[height] = ledger.ch(height).hex()
    assert known[FIRST_BLOCK] == FIRST_EMPTY
    for turn in range(40):
        wish = ledger.preorder(f"n{turn}.id")
        ledger.block((PAYER, wish), (PAYER, register(f"n{turn}.id")), (ALICE, wish))
        assert ledger.last is not None
        ops = naive_ops_hash(list(ledger.last.serialized))
        assert ledger.last.ops_hash.hex() == ops
        expected = naive_consensus_hash(ledger.height, FIRST_BLOCK, ops, known)
        assert ledger.last.consensus_hash.hex() == expected
        known[ledger.height] = expected


def test_the_constants_before_the_first_block_do_not_enter_its_hash() -> None:
    ledger = Ledger()
    ledger.skip()
    assert ledger.ch().hex() == FIRST_EMPTY
    asked: list[int] = []

    def earlier(height: int) -> bytes:
        asked.append(height)
        return bytes(16)

    consensus_hash(373601, 373601, ops_hash([]), earlier)
    assert asked == []
