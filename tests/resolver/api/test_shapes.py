"""Operations and records as JSON, beside those that the original software gave."""

import json
from pathlib import Path
from typing import Any

import pytest

from indexer.networks import MAINNET
from indexer.protocol.serialized import read_serialized
from indexer.table.snapshot import Snapshot
from resolver.api.schemas import OPCODES, RECORD
from resolver.api.shapes import about, content, operation_json
from tests.indexer.protocol.ledger import ALICE, BOB, THIRD, opened, revoke
from tests.resolver.api.fakes import Names

ALWAYS = {"op", "opcode", "txid", "vtxindex", "address", "sender", "sender_pubkey", "block_number"}
"""What the original told of every operation."""
LATER = {
    *("burn_address", "name_hash128", "namespace_block_number", "last_creation_op"),
    *("transfer_send_block_id", "keep_data", "token_fee", "buckets", "namespace_id"),
}
"""What later releases told beside, of some operations."""


def recorded(data_dir: Path) -> list[dict[str, Any]]:
    """Operations and states as a node of the original told them."""
    told = json.loads((data_dir / "protocol" / "mainnet.json").read_text("utf-8"))
    blocks = [*told["block_ops"].values()]
    for history in told["name_history"].values():
        blocks += history.values()
    return [one for block in blocks for one in block]


@pytest.mark.data
def test_opcodes_have_the_names_that_the_original_gave_them(data_dir: Path) -> None:
    found = recorded(data_dir)
    assert found
    for one in found:
        assert OPCODES[one["op"]] == one["opcode"]
        assert one.keys() >= ALWAYS


@pytest.mark.data
def test_a_state_has_every_member_that_the_original_gave_it(data_dir: Path) -> None:
    states = [one for one in recorded(data_dir) if "first_registered" in one]
    assert states
    for one in states:
        assert one.keys() - LATER <= RECORD.keys()


def test_fields_of_an_operation_are_what_they_stand_for() -> None:
    ledger = opened(THIRD)
    ledger.register("alice.id")
    ledger.accept((ALICE, ledger.update("alice.id", b"\1" * 20)))
    ledger.accept((ALICE, ledger.transfer("alice.id", BOB, keep=False)))
    ledger.accept((BOB, revoke("alice.id")))
    seen = Snapshot(ledger.store, ledger.network)
    told = {}
    for height in range(ledger.network.first_block, ledger.height + 1):
        texts = map(read_serialized, seen.operations(height))
        for (txid, verdict), text in zip(seen.verdicts_of_block(height), texts, strict=True):
            one = operation_json(txid, verdict, text)
            told[one["op"]] = one
            assert one.keys() >= ALWAYS
            assert one["vtxindex"] == verdict.vtxindex
            assert one["serialized"] == text.text
    assert list(told) == ["*", "&", "!", "?", ":", "+", ">~", "~"]
    assert told["&"]["buckets"] == [6, 5, 4, 3, 2, 1] + [0] * 10
    assert told[">~"]["keep_data"] is False
    assert (told["+"]["revoked"], told["~"]["revoked"]) == (False, True)
    assert told[":"]["importer"] is None
    assert isinstance(told["?"]["op_fee"], int)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", {"data": ""}),
        ("é".encode(), {"data": "é"}),
        (b"\xff", {"data_base64": "/w=="}),
        (b"\x00", {"data": "\x00"}),
    ],
)
def test_data_is_text_or_else_base64(data: bytes, told: dict[str, str]) -> None:
    assert content(data, "data") == told


def test_a_block_that_no_calendar_has_has_no_day() -> None:
    seen = Names()
    seen.network = MAINNET
    assert about(seen, None) is None
    assert about(seen, 2**40) is None
    assert about(seen, seen.height) == "2026-01-01"
    assert about(seen, seen.height + 144) == "2026-01-02"
