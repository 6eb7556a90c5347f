"""The walk over a block: the same txids as reading every transaction, whatever their shapes."""

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.blocks import parse_block, scan_block
from indexer.bitcoin.headers import CorruptBlock
from indexer.bitcoin.shapes import LONGEST_USUAL, MOST_INPUTS, MOST_OUTPUTS, RUNS, shapes
from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    compact_size,
    double_sha256,
    p2pkh_script,
    parse_transaction,
    serialize_transaction,
)
from indexer.bitcoin.walk import WINDOW, walk
from tests.benchmarks.strangers import stranger
from tests.indexer.bitcoin.test_transactions import coinbase, mined
from tests.rings import sampled

MAGIC = b"id"

usual_script_sigs = st.sampled_from([0, 23, 35, 106, 107, 139, 217, 253, 254])
script_sigs = usual_script_sigs | st.integers(0, 300)
usual_scripts = st.sampled_from(
    [
        b"\x76" + bytes(24),
        b"\xa9" + bytes(22),
        b"\x00" + bytes(21),
        b"\x51" + bytes(33),
        b"\x6a\x04omni",
    ]
)
scripts = usual_scripts | st.binary(max_size=30) | st.binary(min_size=240, max_size=260)
items = st.sampled_from([0, 33, 64, 71, 72, 105]) | st.integers(0, 300)
stacks = st.lists(items, max_size=5)
many = st.integers(1, 3) | st.integers(1, 3 * RUNS[0])


@st.composite
def transactions(draw) -> bytes:
    """One in any shape: as most are, or with anything unusual about it."""
    spends, pays = draw(many), draw(many)
    sizes = draw(st.lists(script_sigs, min_size=1, max_size=3))
    kinds = draw(st.lists(scripts, min_size=1, max_size=3))
    plain = serialize_transaction(
        draw(st.sampled_from([1, 2, 0x100, 2**32 - 1])),
        [
            TxIn(double_sha256(bytes((n,))), n, bytes(sizes[n % len(sizes)]), n)
            for n in range(spends)
        ],
        [TxOut(n, kinds[n % len(kinds)]) for n in range(pays)],
        draw(st.sampled_from([0, 2**32 - 1])),
    )
    shown = draw(st.none() | st.lists(stacks, min_size=1, max_size=3))
    if shown is None or not any(shown):
        return plain
    # At least one of them shows something, or the form would be wrong.
    stack_of = [shown[n % len(shown)] for n in range(spends)]
    stack_of[0] = stack_of[0] or [1]
    witness = b"".join(
        compact_size(len(stack)) + b"".join(compact_size(size) + bytes(size) for size in stack)
        for stack in stack_of
    )
    return plain[:4] + b"\x00\x01" + plain[4:-4] + witness + plain[-4:]


@settings(max_examples=sampled(150), deadline=None)
@given(st.lists(transactions(), max_size=6, unique_by=lambda raw: parse_transaction(raw).txid))
def test_the_walk_finds_the_txids_that_reading_finds(chosen) -> None:
    raw = mined([coinbase(b"tag", b"\x51"), *chosen])
    assert walk(raw, MAGIC)[0] == [transaction.txid for transaction in parse_block(raw)[1]]


@settings(max_examples=sampled(100), deadline=None)
@given(st.lists(transactions(), min_size=1, max_size=3), st.data())
def test_a_mangled_block_is_walked_as_it_is_read_or_refused(chosen, data) -> None:
    raw = bytearray(mined([coinbase(b"tag", b"\x51"), *chosen]))
    whole = walk(bytes(raw), MAGIC)[0]
    for _ in range(data.draw(st.integers(1, 2))):
        raw[data.draw(st.integers(80, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        txids, _ = walk(bytes(raw), MAGIC)
    except (CorruptBlock, IndexError, ValueError):
        with pytest.raises(CorruptBlock):
            parse_block(bytes(raw))
        return
    if txids != whole:  # what they hash to is another root
        with pytest.raises(CorruptBlock):
            scan_block(bytes(raw), MAGIC)
        return
    with contextlib.suppress(CorruptBlock):  # stricter with witnesses, which no root covers
        assert [transaction.txid for transaction in parse_block(bytes(raw))[1]] == txids


PUSHES = (b"\x6a\x17id", b"\x6a\x4c\x16id", b"\x6a\x4d\x15\x00id", b"\x6a\x4e\x13\x00\x00\x00id")


@pytest.mark.parametrize("push", PUSHES, ids=bytes.hex)
@pytest.mark.parametrize("outputs", [1, 2, MOST_OUTPUTS, MOST_OUTPUTS + 1, 2 * RUNS[0]])
def test_no_shape_hides_a_candidate(push, outputs) -> None:
    # 25 bytes each, which is as long as p2pkh.
    script = push.ljust(25, b"!")
    pays = [TxOut(1, p2pkh_script(bytes(20))) for _ in range(outputs)]
    blocks = []
    for place in {0, outputs // 2, outputs - 1}:
        changed = [*pays[:place], TxOut(0, script), *pays[place + 1 :]]
        spends = [TxIn(double_sha256(push), 0, bytes(107), 0)]
        blocks.append(mined([coinbase(b"tag"), serialize_transaction(1, spends, changed, 0)]))
    for raw in blocks:
        assert [c.vtxindex for c in scan_block(raw, MAGIC).candidates] == [1]
        assert scan_block(raw, b"eg").candidates == ()


def test_the_usual_shapes_are_walked_over_without_a_look_at_each() -> None:
    rng = random.Random(1)
    spends = [TxIn(rng.randbytes(32), 0, rng.randbytes(107), 0)] * MOST_INPUTS
    pays = [TxOut(1, p2pkh_script(rng.randbytes(20)))] * MOST_OUTPUTS
    raw = serialize_transaction(1, spends, pays, 0)
    found = shapes(MAGIC).transactions(raw * 3, 0, 3 * len(raw))
    assert [b"".join(pieces) for pieces in found] == [raw] * 3
    assert found[-1][-1] == b""
    more = serialize_transaction(1, spends * 2, pays, 0)
    assert shapes(MAGIC).transactions(more, 0, len(more))[-1][-1] == more


def test_no_transaction_of_a_usual_shape_is_longer_than_is_said() -> None:
    def with_sizes(script_sig: int, script: int, item: int) -> tuple[bytes, bytes]:
        spends = [TxIn(bytes(32), 0, bytes(script_sig), 0)] * MOST_INPUTS
        plain = serialize_transaction(1, spends, [TxOut(1, bytes(script))] * MOST_OUTPUTS, 0)
        witness = (b"\x04" + (bytes((item,)) + bytes(item)) * 4) * MOST_INPUTS
        return plain, plain[:4] + b"\x00\x01" + plain[4:-4] + witness + plain[-4:]

    longest, raw = with_sizes(255, 95, 105)
    found = shapes(MAGIC).transactions(raw, 0, len(raw))
    assert b"".join(found[0]) == longest
    assert len(raw) < LONGEST_USUAL < WINDOW
    for sizes in ((256, 95, 105), (255, 96, 105), (255, 95, 106)):
        longer = with_sizes(*sizes)[1]
        assert shapes(MAGIC).transactions(longer, 0, len(longer))[0][-1] == longer


def test_a_block_of_many_windows_is_walked_whole() -> None:
    rng = random.Random(2)
    made = [stranger(rng) for _ in range(400)]
    raw = mined([coinbase(b"tag", b"\x51"), *(whole for whole, _ in made)], bytes(32))
    assert len(raw) > 5 * WINDOW
    assert walk(raw, MAGIC)[0][1:] == [txid for _, txid in made]


def test_transactions_beyond_their_number_are_refused() -> None:
    raw = mined([coinbase(b"tag", b"\x51")])
    for more in (coinbase(b"tag", b"\x51"), coinbase(b"tag", b"\x51") * 3):
        with pytest.raises(CorruptBlock, match="follow"):
            scan_block(raw + more, MAGIC)
        with pytest.raises(CorruptBlock, match="follow"):
            scan_block(raw[:80] + b"\x02" + raw[81:] + more + more, MAGIC)


@pytest.mark.parametrize("count", [b"\xfe" + b"\xff" * 4, b"\xff" * 9])
def test_an_absurd_number_of_inputs_ends_with_the_block(count) -> None:
    whole = coinbase(b"tag", b"\x51")
    second = whole[:4] + count + whole[5:] * 50
    with pytest.raises(CorruptBlock, match=r"cut short|shortest form"):
        scan_block(mined([whole], bytes(32))[:80] + b"\x02" + whole + second, MAGIC)


def test_a_witness_without_anything_in_it_is_walked_but_never_an_operation() -> None:
    plain = serialize_transaction(1, [TxIn(bytes(32), 0, b"", 0)], [TxOut(0, b"\x6a\x03id!")], 0)
    empty = plain[:4] + b"\x00\x01" + plain[4:-4] + b"\x00" + plain[-4:]
    raw = mined([coinbase(b"tag"), empty], bytes(32))
    assert walk(raw, MAGIC)[0][1] == parse_transaction(plain).txid
    with pytest.raises(CorruptBlock, match="and none"):
        scan_block(raw, MAGIC)


def test_a_magic_is_taken_as_it_is_also_where_it_means_something_to_expressions() -> None:
    for magic in (b".*", b"\\x", b"[a", b"id"):
        script = b"\x6a\x14" + (magic + b"!").ljust(20, b".")
        spends = [TxIn(double_sha256(magic), 0, bytes(107), 0)]
        raw = mined([coinbase(b"tag"), serialize_transaction(1, spends, [TxOut(0, script)] * 2, 0)])
        assert [c.vtxindex for c in scan_block(raw, magic).candidates] == [1]
