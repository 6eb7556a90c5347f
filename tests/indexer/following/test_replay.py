"""Replaying recorded chains, saying what differs, and computing the hashes of an index anew."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.transactions import hash_hex, parse_transaction, serialize_transaction
from indexer.following.differences import first_difference
from indexer.following.replay import BadChainFile, MemoryStore, read_chain, replay
from indexer.protocol import schema
from indexer.protocol.serialized import read_serialized
from indexer.table.snapshot import Snapshot
from indexer.table.verify import VerificationFailed, compute_chain
from tests.indexer.protocol.ledger import ALICE, BOB, THIRD, Ledger, opened


def chain_file(path: Path) -> dict[str, Any]:
    """A small recorded chain written by ourselves, in ``path``; its JSON."""
    ledger = Recorder()
    ledger.open_namespace("id")
    ledger.register("alice.id")
    ledger.accept((ALICE, ledger.update("alice.id", b"\5" * 20)))
    ledger.block((BOB, ledger.update("alice.id", b"\6" * 20)))
    document = {"scenario": "made", "params": deepcopy(PARAMS), "blocks": ledger.recorded}
    path.write_text(json.dumps(document))
    return document


_EPOCH = {
    "last_block": None,
    "lifetime_multiplier": 1,
    "grace_period": 0,
    "multisig": True,
    "name_price_factor": 1.0,
    "namespace_price_divisor": 1,
}
PARAMS = {
    "network": "regtest",
    "magic": "id",
    "first_block": 100,
    "p2pkh_version": 0x6F,
    "p2sh_version": 0xC4,
    "import_keyring_size": 3,
    "namespace_reveal_expire": 144,
    "epochs": [_EPOCH],
}


class Recorder(Ledger):
    """A ledger that writes down what the original software would have."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[dict[str, Any]] = []

    def block(self, *sent: Any) -> Any:
        made = [one if not isinstance(one, tuple) else self.send(*one) for one in sent]
        made = [_serializable(one) for one in made]
        flaws = super().block(*made)
        assert self.last is not None
        self.recorded.append(
            {
                "height": self.height,
                "txs": [
                    {
                        "vtxindex": n,
                        "raw": _raw(one.candidate.transaction).hex(),
                        "spent_scripts": [script.hex() for script in one.spent_scripts],
                        "accepted": flaw is None,
                    }
                    for (n, one), flaw in zip(enumerate(made, start=1), flaws, strict=True)
                ],
                "serialized_ops": list(self.last.serialized),
                "ops_hash": self.last.ops_hash.hex(),
                "consensus_hash": self.last.consensus_hash.hex(),
            }
        )
        return flaws


def _raw(transaction: Any) -> bytes:
    return serialize_transaction(1, transaction.inputs, transaction.outputs, 0)


def _serializable(spent: Any) -> Any:
    parsed = parse_transaction(_raw(spent.candidate.transaction))
    return replace(spent, candidate=Candidate(0, parsed))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "made.json"
    return path, chain_file(path)


def differences(path: Path) -> list[str]:
    for block, outcome in replay(read_chain(path), MemoryStore()):
        lines = first_difference(block, outcome)
        if lines is not None:
            return lines
    return []


def changed(made: tuple[Path, dict[str, Any]], change: Callable[[dict[str, Any]], Any]) -> Path:
    path, document = made
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_what_we_record_replays_without_a_difference(made: tuple[Path, dict[str, Any]]) -> None:
    assert differences(made[0]) == []


def last_with_ops(document: dict[str, Any]) -> dict[str, Any]:
    return next(b for b in reversed(document["blocks"]) if b["serialized_ops"])


def test_a_field_that_differs_is_shown_with_its_name_expected_beside_computed(
    made: tuple[Path, dict[str, Any]],
) -> None:
    def change(document: dict[str, Any]) -> None:
        block = last_with_ops(document)
        (text,) = block["serialized_ops"]
        block["serialized_ops"] = [text.replace("05" * 20, "07" * 20)]

    lines = differences(changed(made, change))
    assert "differs" in lines[0]
    marked = [line.split() for line in lines if line.startswith(" !=")]
    assert marked == [["!=", "value_hash", "07" * 20, "05" * 20]]
    assert any(line.split() == ["name", "alice.id", "alice.id"] for line in lines)


def test_an_operation_that_was_recorded_and_is_refused_here_says_why(
    made: tuple[Path, dict[str, Any]],
) -> None:
    def change(document: dict[str, Any]) -> None:
        text = last_with_ops(document)["serialized_ops"][0]
        refused = document["blocks"][-1]
        (tx,) = refused["txs"]
        txid = hash_hex(parse_transaction(bytes.fromhex(tx["raw"])).txid)
        refused["serialized_ops"] = [text.replace(read_serialized(text).txid, txid)]

    lines = differences(changed(made, change))
    assert "is missing here (refused: no name of the sender" in lines[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["blocks"][-1]["txs"][0].update(accepted=True), "verdict"),
        (lambda d: d["blocks"][3].update(ops_hash="00" * 32), "ops_hash"),
        (lambda d: d["blocks"][3].update(consensus_hash="00" * 16), "consensus_hash"),
        (lambda d: last_with_ops(d).update(serialized_ops=[]), "was not recorded"),
        (lambda d: d["blocks"][0].update(serialized_ops=["what?"]), "cannot be read"),
    ],
)
def test_every_kind_of_difference_is_found(
    made: tuple[Path, dict[str, Any]], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    lines = differences(changed(made, change))
    assert said in lines[0]
    assert any(line.startswith(" !=") for line in lines)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("params"),
        lambda d: d.update(params=[]),
        lambda d: d.update(blocks={}),
        lambda d: d["params"].update(magic=7),
        lambda d: d["params"].update(magic="abc"),
        lambda d: d["params"].update(epochs=[]),
        lambda d: d["params"].update(epochs=[7]),
        lambda d: d["params"].update(first_block=-1),
        lambda d: d["params"].update(first_block=True),
        lambda d: d["params"].update(p2pkh_version=256),
        lambda d: d["params"].update(import_keyring_size=10**9),
        lambda d: d["params"]["epochs"][0].update(name_price_factor=float("nan")),
        lambda d: d["params"]["epochs"][0].update(namespace_price_divisor=0),
        lambda d: d["blocks"].pop(2),
        lambda d: d["blocks"][2].update(ops_hash="00"),
        lambda d: d["blocks"][2].update(ops_hash="zz" * 32),
        lambda d: d["blocks"][2].update(consensus_hash=None),
        lambda d: d["blocks"][-1]["txs"][0].update(raw="00"),
        lambda d: d["blocks"][-1]["txs"][0].update(txid="00" * 32),
        lambda d: d["blocks"][-1]["txs"][0].update(vtxindex=2**40),
        lambda d: d["blocks"][-1]["txs"][0].update(spent_scripts=7),
        lambda d: d["blocks"][-1].update(txs=[None]),
    ],
)
def test_a_file_that_is_no_chain_is_refused_in_one_line(
    made: tuple[Path, dict[str, Any]], change: Callable[[dict[str, Any]], Any]
) -> None:
    with pytest.raises(BadChainFile) as refused:
        read_chain(changed(made, change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[" * 100_000, b"7", b'{"params": {}}'])
def test_bytes_that_are_no_chain_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(text)
    with pytest.raises(BadChainFile):
        read_chain(tmp_path / "bad.json")
    with pytest.raises(BadChainFile, match="cannot read"):
        read_chain(tmp_path / "nothing")
    with pytest.raises(BadChainFile, match="cannot read"):
        read_chain(tmp_path)


KEYS = st.sampled_from([b"a", b"b", b"ba", b"bb\xff", b"bc", b"c", b"\xff"])


@given(
    st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=2))),
    st.sampled_from([b"b", b"ba", b"c"]),
)
def test_rows_in_memory_are_scanned_as_those_of_a_database(
    writes: list[dict[bytes, bytes | None]], prefix: bytes
) -> None:
    store = MemoryStore()
    plain: dict[bytes, bytes] = {}
    for rows in writes:
        store.write(rows)
        for key, row in rows.items():
            plain.pop(key, None)
            plain.update({} if row is None else {key: row})
    assert store.rows == plain
    found = sorted((k, v) for k, v in plain.items() if k.startswith(prefix))
    assert list(store.scan(prefix)) == found
    end = prefix[:-1] + bytes((prefix[-1] + 1,))
    assert list(store.between(prefix, end)) == found
    assert list(store.between(prefix, end, reverse=True)) == found[::-1]


# --- verify


def stored() -> Ledger:
    ledger = opened(THIRD)
    ledger.register("alice.id")
    ledger.accept((ALICE, ledger.update("alice.id", b"\5" * 20)))
    ledger.skip(2)
    return ledger


def test_the_stored_operations_give_the_chain_of_hashes_again() -> None:
    ledger = stored()
    blocks: list[int] = []
    snapshot = Snapshot(ledger.store, ledger.network)
    assert compute_chain(snapshot, ledger.height, on_block=blocks.append) == ledger.ch()
    assert blocks == list(range(ledger.network.first_block, ledger.height + 1))
    assert compute_chain(snapshot, ledger.height - 3) == ledger.ch(ledger.height - 3)


@pytest.mark.parametrize("letter", [b"O", b"H"])
def test_one_stored_bit_that_changed_is_found_at_its_block(letter: bytes) -> None:
    ledger = stored()
    key = letter + schema.height_bytes(ledger.height - 2)
    row = ledger.store.rows[key]
    for at, bit in ((0, 1), (len(row) // 2, 2), (len(row) - 1, 1), (len(row) - 1, 128)):
        ledger.store.rows[key] = row[:at] + bytes((row[at] ^ bit,)) + row[at + 1 :]
        with pytest.raises(VerificationFailed, match=f"block {ledger.height - 2}: "):
            compute_chain(Snapshot(ledger.store, ledger.network), ledger.height)


def test_a_published_hash_that_differs_is_told_apart_from_a_stored_one() -> None:
    ledger = stored()
    height = ledger.height - 1
    for published, right in ((ledger.ch(height), True), (bytes(16), False)):
        network = replace(ledger.network, checkpoints={height: published})
        snapshot = Snapshot(ledger.store, network)
        if right:
            assert compute_chain(snapshot, ledger.height) == ledger.ch()
        else:
            with pytest.raises(VerificationFailed, match="published one is 0000"):
                compute_chain(snapshot, ledger.height)
