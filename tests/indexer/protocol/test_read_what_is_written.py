"""What a writer of the indexer writes, its reader reads as the same; what it could not, is refused.

Operations on the wire: ``test_payloads``. Whole snapshot files: ``table/test_snapshot_file``.
"""

import io
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.headers import parse_header
from indexer.bitcoin.transactions import (
    Transaction,
    TxIn,
    TxOut,
    compact_size,
    double_sha256,
    hash_bytes,
    hash_hex,
    p2pkh_script,
    p2sh_script,
    parse_transaction,
    serialize_transaction,
)
from indexer.bitcoin.walk import size_at
from indexer.networks import MAX_NETWORK_NAME, SANDBOX
from indexer.protocol import consensus, schema
from indexer.protocol.carried import Carried, read_carried, write_carried
from indexer.protocol.proofs import build_proof, read_proof, verify_proof, write_proof
from indexer.protocol.records import NameRecord, NamespaceRecord, PreorderRecord
from indexer.protocol.rows import (
    RowOf,
    read_bytes,
    read_number,
    read_pairs,
    write_bytes,
    write_number,
    write_pairs,
)
from indexer.protocol.serialized import read_serialized, write_serialized
from indexer.table.reached import Reached, read_reached, write_reached
from indexer.table.snapshot_file import read_head, write_snapshot
from tests.rings import sampled

numbers = st.integers(0, 2**455 - 1) | st.integers(0, 300)
u32 = st.integers(0, 2**32 - 1)
hashes = st.binary(min_size=32, max_size=32)
scripts = st.binary(min_size=20, max_size=20).flatmap(
    lambda digest: st.sampled_from([p2pkh_script(digest), p2sh_script(digest)])
)
network_names = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=MAX_NETWORK_NAME
)
st.register_type_strategy(int, numbers)  # no field of a row is below zero


@given(numbers)
def test_a_number(number: int) -> None:
    assert read_number(write_number(number), 0) == (number, len(write_number(number)))


@pytest.mark.parametrize("number", [-1, -128, -(2**40), 2**455])
def test_a_number_that_could_not_be_read_is_not_written(number: int) -> None:
    with pytest.raises(ValueError, match="is no number of a row"):
        write_number(number)


@given(st.none() | st.binary(max_size=300))
def test_bytes_and_none(value: bytes | None) -> None:
    assert read_bytes(write_bytes(value), 0) == (value, len(write_bytes(value)))


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.none() | st.binary(max_size=200))))
def test_keys_and_what_they_held(pairs: list[tuple[bytes, bytes | None]]) -> None:
    assert list(read_pairs(write_pairs(pairs))) == pairs


def records(kind: type) -> st.SearchStrategy[Any]:
    fields: dict[str, Any] = {"op_fee": st.floats(allow_nan=False)} if kind is NameRecord else {}
    if kind is NamespaceRecord:
        fields["buckets"] = st.lists(st.integers(0, 255), max_size=16).map(tuple)
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", [NameRecord, NamespaceRecord, PreorderRecord, schema.Verdict])
@settings(max_examples=sampled(60), deadline=None)
@given(data=st.data())
def test_a_record_of_each_kind(kind: type, data: st.DataObject) -> None:
    record, row_of = data.draw(records(kind)), RowOf(kind)
    assert row_of.read(row_of.write(record)) == record


@given(st.integers(0, 300) | st.integers(0, 70_000))
def test_a_size_on_the_wire_of_what_is_there(size: int) -> None:
    written = compact_size(size)
    assert size_at(written + bytes(size), 0) == (size, len(written))


transactions = st.builds(
    lambda version, inputs, outputs, locktime: parse_transaction(
        serialize_transaction(version, inputs, outputs, locktime)
    ),
    u32,
    st.lists(st.builds(TxIn, hashes, u32, st.binary(max_size=300), u32), min_size=1, max_size=4),
    st.lists(st.builds(TxOut, st.integers(0, 2**64 - 1), st.binary(max_size=300)), max_size=4),
    u32,
)


@given(transactions)
def test_a_transaction(tx: Transaction) -> None:
    raw = serialize_transaction(tx.version, tx.inputs, tx.outputs, tx.locktime)
    assert parse_transaction(raw) == tx
    assert tx.txid == double_sha256(raw)


@given(st.binary(min_size=80, max_size=80), hashes)
def test_a_header_and_a_hash_as_people_write_it(raw: bytes, digest: bytes) -> None:
    assert parse_header(raw).raw == raw
    assert hash_bytes(hash_hex(digest)) == digest


@settings(max_examples=sampled(50), deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), transactions, st.lists(scripts, max_size=4).map(tuple)), max_size=4
    ),
    st.sets(st.integers(0, 10**6), min_size=4, max_size=4),
)
def test_the_transactions_of_a_block(
    made: list[tuple[bool, Transaction, tuple[bytes, ...]]], places: set[int]
) -> None:
    operations = tuple(Carried(at, *one) for at, one in zip(sorted(places), made, strict=False))
    assert read_carried(write_carried(operations)) == operations


texts = st.from_regex(r"[a-z0-9_.+-]{1,37}", fullmatch=True)
plausible: dict[str, Any] = {
    **dict.fromkeys(("name", "namespace_id", "address", "recipient_address"), texts),
    **dict.fromkeys(("block_number", "preorder_block_number", "first_registered"), u32),
    **dict.fromkeys(("last_renewed", "reveal_block", "vtxindex", "lifetime", "coeff"), u32),
    **dict.fromkeys(("sender", "recipient"), scripts),
    "importer": st.none() | scripts,
    "importer_address": st.none() | texts,
    "txid": hashes,
    "buckets": st.lists(st.integers(0, 15), min_size=16, max_size=16).map(tuple),
}


def plausible_records(kind: Any, op: str, **fields: Any) -> st.SearchStrategy[Any]:
    names = kind.__dataclass_fields__
    given_ = {name: strategy for name, strategy in plausible.items() if name in names}
    return st.builds(kind, **{**given_, "op": st.just(op), **fields})


fee = st.integers(0, 21 * 10**14)
named = plausible_records(NameRecord, ":", op_fee=fee.map(float))
digests = st.binary(min_size=16, max_size=16)
ready = plausible_records(NamespaceRecord, "!", ready_block=st.integers(1, 2**32 - 1))
revealed = plausible_records(NamespaceRecord, "&", ready_block=st.just(0))
serialized = st.one_of(
    st.builds(write_serialized, st.sampled_from([":", ";", "~"]), named),
    st.builds(write_serialized, st.just("+"), named, name_consensus_hash=digests),
    st.builds(write_serialized, st.just(">"), named, name_hash128=digests, keep_data=st.booleans()),
    st.builds(write_serialized, st.just("?"), plausible_records(PreorderRecord, "?", op_fee=fee)),
    st.builds(write_serialized, st.just("*"), plausible_records(PreorderRecord, "*", op_fee=fee)),
    st.builds(write_serialized, st.just("!"), ready),
    st.builds(write_serialized, st.just("&"), revealed),
)


@settings(max_examples=sampled(120), deadline=None)
@given(serialized)
def test_the_text_of_an_operation(text: str) -> None:
    read = read_serialized(text)
    fields = [f"{len(value)}:{value}" for value in read.fields.values()]
    assert f"{read.opcode}:" + ",".join(fields) == text


class OneBlock:
    """A chain of some blocks, each with these texts."""

    def __init__(self, name: str, texts: tuple[str, ...]) -> None:
        self.network = replace(SANDBOX, name=name)
        self.first = self.network.first_block
        self.height = self.first + 9
        self.block_hash = bytes(32)
        self.texts = texts
        self.hashes: list[bytes] = []
        for height in range(self.first, self.height + 1):
            self.hashes.append(
                consensus.consensus_hash(
                    height, self.first, self.ops_hash(height), lambda h: self.hashes[h - self.first]
                )
            )

    def operations(self, height: int) -> tuple[str, ...]:
        return self.texts

    def ops_hash(self, height: int) -> bytes:
        return consensus.ops_hash(self.texts)

    def consensus_hash(self, height: int) -> bytes:
        return self.hashes[height - self.first]

    computed_consensus_hash = consensus_hash

    def header(self, height: int) -> bytes:
        return bytes(80)

    def carried(self, height: int) -> bytes:
        return b""


@settings(max_examples=sampled(80), deadline=None)
@given(network_names, st.integers(0, 9))
def test_a_proof_and_the_head_of_a_snapshot_of_any_network(name: str, back: int) -> None:
    text = write_serialized(
        "?",
        PreorderRecord(
            bytes(20),
            bytes(16),
            p2pkh_script(bytes(20)),
            None,
            "1" * 34,
            SANDBOX.first_block + 9 - back,
            "?",
            bytes(32),
            1,
            5,
            b"",
        ),
    )
    assert read_serialized(text).text == text
    chain = OneBlock(name, (text,))
    height = chain.height - back
    proof = build_proof(chain, text, height, chain.height)
    assert read_proof(json.dumps(write_proof(proof))) == proof
    trusted = chain.consensus_hash(chain.height)
    assert verify_proof(proof, chain.height, trusted, chain.network).height == height
    head = read_head(io.BytesIO(b"".join(write_snapshot(chain))))
    assert (head.network, head.height) == (name, chain.height)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NETWORK_NAME + 1), "b\u00fccher", "a\nb"])
def test_a_network_whose_name_could_not_be_read_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="a network's name has 1 to 255 printable ASCII"):
        replace(SANDBOX, name=name)


@settings(max_examples=sampled(40), deadline=None)
@given(st.builds(Reached, network_names, u32, u32))
def test_how_far_an_index_has_come(reached: Reached) -> None:
    with TemporaryDirectory() as folder:
        write_reached(Path(folder), reached)
        assert read_reached(Path(folder)) == reached
