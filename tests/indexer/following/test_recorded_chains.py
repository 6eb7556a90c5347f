"""Recorded chains of the original software: every serialised operation, hash and verdict."""

import json
from pathlib import Path

import pytest

from indexer.bitcoin.transactions import Transaction, TxIn, TxOut
from indexer.following.replay import MemoryStore, read_chain, replay
from indexer.networks import MAINNET, REGTEST
from indexer.protocol.names import base40_bytes, hash128, hash_name, name_consensus_hash
from indexer.protocol.operations import Malformed
from indexer.protocol.payloads import read_operation
from tests.conftest import DATA

CHAINS = sorted((DATA / "protocol" / "chains").glob("*.json"))
P2PKH = bytes.fromhex("76a914") + bytes(20) + bytes.fromhex("88ac")


@pytest.mark.data
@pytest.mark.parametrize("path", CHAINS or [Path("none")], ids=lambda path: path.stem)
def test_a_recorded_chain_replays_hash_by_hash(path: Path) -> None:
    chain = read_chain(path)
    applied = 0
    for block, outcome in replay(chain, MemoryStore()):
        where = f"{path.stem} at {block.height}"
        assert sorted(outcome.serialized) == sorted(block.serialized), where
        assert outcome.ops_hash == block.ops_hash, where
        assert outcome.consensus_hash == block.consensus_hash, where
        verdicts = {txid: verdict.flaw is None for txid, verdict in outcome.verdicts}
        recorded = {
            s.candidate.transaction.txid: accepted
            for s, accepted in zip(block.spent, block.accepted, strict=True)
        }
        assert {t: verdicts.get(t, False) for t in recorded} == recorded, where
        applied += 1
    assert applied == len(chain.blocks) > 0


def _operation_of(vector: dict[str, object]) -> object:
    payload = bytes.fromhex(str(vector["op_return_data"]))
    push = bytes((len(payload),)) if len(payload) < 76 else bytes((76, len(payload)))
    outputs = (TxOut(0, b"\x6a" + push + payload), TxOut(1000, P2PKH), TxOut(1000, P2PKH))
    inputs = (TxIn(b"\1" * 32, 0, b"", 0xFFFFFFFF),)
    transaction = Transaction(bytes(32), 1, inputs, outputs, 0)
    return read_operation(transaction, 1, [P2PKH], MAINNET, MAINNET.epoch(int(vector["height"])))


@pytest.mark.data
def test_every_recorded_payload_parses_or_not_as_recorded(data_dir: Path) -> None:
    vectors = json.loads((data_dir / "protocol" / "parse_vectors.json").read_text())
    assert vectors
    for vector in vectors:
        operation = _operation_of(vector)
        parses = operation is not None and not isinstance(operation, Malformed)
        assert parses is vector["parses"], vector


@pytest.mark.data
def test_the_recorded_hashes_of_names_are_recomputed(data_dir: Path) -> None:
    vectors = json.loads((data_dir / "protocol" / "hash_vectors.json").read_text())
    for text, number in vectors["b40_to_bin"]:
        assert base40_bytes(text).hex() == number
    for v in vectors["hash_name"]:
        script = bytes.fromhex(v["script_pubkey"])
        assert hash_name(v["name"], script, v["address"]).hex() == v["hash"]
    for text, digest in vectors["hash128"]:
        assert hash128(text).hex() == digest
    consensus_hash = bytes.fromhex("8d8762c37d82360b84cf4d87f32f7754")
    assert (
        name_consensus_hash("jude.id", consensus_hash).hex() == "d1062edb9ec9c85ad1aca6d37f2f5793"
    )


def test_the_epochs_of_mainnet_begin_where_the_protocol_says() -> None:
    numbers = [
        (h, MAINNET.epoch(h).number)
        for h in (373601, 436650, 436651, 488500, 488501, 547921, 547922, 900000)
    ]
    assert [n for _, n in numbers] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert MAINNET.frozen_at == 547921
    assert REGTEST.frozen_at is None
