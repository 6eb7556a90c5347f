"""Real operations and composing vectors: whatever of a recorded hash can be computed again, is.

Protocol spec sections 1.10, 2.2, 4.2 and 4.7. The folder of recorded data says what there is; only
its layout is assumed here.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from embit.hashes import hash160

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.transactions import (
    address_script,
    p2pkh_script,
    parse_transaction,
    script_address,
)
from indexer.networks import EPOCH_2, EPOCH_4, INFINITE_LIFETIME, MAINNET
from indexer.protocol.apply import SpentCandidate
from indexer.protocol.flaws import Flaw
from indexer.protocol.names import hash128, hash_name, name_consensus_hash
from indexer.protocol.operations import (
    OPCODES,
    Announce,
    Import,
    Malformed,
    NamespacePreorder,
    NamespaceReady,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Revoke,
    TokenTransfer,
    Transfer,
    Update,
)
from indexer.protocol.payloads import read_operation, write_operation
from indexer.protocol.prices import name_price
from indexer.protocol.records import NameRecord
from indexer.protocol.serialized import write_serialized
from indexer.registrar.planning.compose import write_outputs
from tests.indexer.protocol.ledger import (
    ALICE,
    Holder,
    Ledger,
    reveal,
    serialized_fields,
    transaction,
)

pytestmark = pytest.mark.data


def load(data_dir: Path, *parts: str) -> Any:
    return json.loads(data_dir.joinpath(*parts).read_text("utf-8"))


# --- composing

STACKS = {1: 640_000_000_000, 3: 64_000_000_000, 7: 6_400_000_000, 19: 640_000_000}


def wish_of(scenario: dict[str, Any], document: dict[str, Any]) -> tuple[Operation, bytes]:
    """The operation that a scenario composes, and the script of who sends it."""
    args, name = scenario["args"], scenario["name"]
    keys = [bytes.fromhex(key["script_pubkey"]) for key in document["keys"]]
    consensus_hash = bytes.fromhex(document["consensus_hash"])
    by = next(
        args[who] for who in ("owner", "payer", "signer", "importer", "sender") if who in args
    )
    sender = keys[by]

    def script(field: str) -> bytes:
        return address_script(args[field], MAINNET)

    if name == "namespace preorder":
        space = args["namespace"]
        digest = hash_name(space, sender, args["reveal_address"])
        price = next(price for longest, price in STACKS.items() if len(space) <= longest)
        wish: Operation = NamespacePreorder(
            preorder_hash=digest,
            consensus_hash=consensus_hash,
            op_fee=5500,
            fee_script=MAINNET.burn_script,
            token_amount=price,
        )
    elif name == "namespace reveal":
        wish = NamespaceReveal(
            namespace_id=args["namespace"],
            recipient=script("reveal_address"),
            lifetime=args["lifetime"],
            coeff=args["coeff"],
            base=args["base"],
            buckets=tuple(args["buckets"]),
            nonalpha_discount=args["nonalpha"],
            no_vowel_discount=args["novowel"],
            version=args["version"],
        )
    elif name == "namespace ready":
        wish = NamespaceReady(namespace_id=args["namespace"])
    elif name == "name import":
        value = bytes.fromhex(args["zonefile_hash"])
        wish = Import(name=args["name"], recipient=script("recipient"), value_hash=value)
    elif name == "announce":
        wish = Announce(message_hash=bytes.fromhex(args["message_hash"]))
    elif name == "token transfer":
        wish = TokenTransfer(
            consensus_hash=consensus_hash,
            token_type=args["token"].encode(),
            amount=args["amount"],
            recipient=script("recipient"),
            memo=args["scratch"].encode(),
        )
    elif name.startswith("name preorder"):
        stacks = args.get("price_micro_stacks")
        burn = next(role for role in scenario["outputs"] if role.startswith("burn")).split()[1]
        wish = Preorder(
            preorder_hash=hash_name(args["name"], sender, args["register_address"]),
            consensus_hash=consensus_hash,
            op_fee=args.get("price_sat", 5500),
            fee_script=address_script(burn.rstrip(","), MAINNET),
            token_amount=stacks,
            token_type=b"" if stacks is None else b"STACKS",
        )
    elif name.startswith("name registration"):
        if "zonefile" in args:
            assert hash160(args["zonefile"].encode()).hex() == args["value_hash"]
        value_hash = bytes.fromhex(args["value_hash"]) if "value_hash" in args else None
        recipient = script("register_address")
        wish = Register(name=args["name"], recipient=recipient, value_hash=value_hash)
    elif name == "name update":
        wish = Update(
            name_consensus_hash=name_consensus_hash(args["name"], consensus_hash),
            value_hash=bytes.fromhex(args["value_hash"]),
        )
    elif name.startswith("name transfer"):
        wish = Transfer(
            name_hash128=hash128(args["name"]),
            consensus_hash=consensus_hash,
            keep_data="drop" not in name,
            recipient=script("new_owner"),
        )
    else:
        assert name == "name revoke", f"a scenario of a new kind: {name}"
        wish = Revoke(name=args["name"])
    return wish, sender


def test_composing_gives_the_recorded_payloads_and_roles(data_dir: Path) -> None:
    document = load(data_dir, "protocol", "blockstackjs_scenarios.json")
    assert document["scenarios"]
    for scenario in document["scenarios"]:
        wish, sender = wish_of(scenario, document)
        payload = scenario["payload"]
        whole = (
            payload if payload.startswith("6964") else "6964" + OPCODES[type(wish)].hex() + payload
        )
        assert write_operation(wish, b"id").hex() == whole, scenario["name"]
        outputs, _ = write_outputs(wish, MAINNET, sender)
        roles = scenario["outputs"]
        assert len(outputs) <= len(roles)
        for output, role in zip(outputs, roles, strict=False):
            if role.startswith("OP_RETURN"):
                assert (output.value, output.script[-len(whole) // 2 :].hex()) == (0, whole)
            elif "change" in role:
                assert output.script == sender
            elif role.startswith("burn"):
                _, address, value, *_ = role.replace(",", "").split()
                assert output.script == address_script(address, MAINNET)
                assert output.value == int(value)
            elif role.startswith("P2PKH"):
                value = bytes.fromhex(scenario["args"]["zonefile_hash"])
                assert output.script == p2pkh_script(value)
            else:
                assert output.script == wish.recipient, role  # type: ignore[union-attr]
        tx = transaction(outputs)
        found = read_operation(tx, 0, [sender], MAINNET, EPOCH_4)
        assert found == replace(wish, sender=sender, txid=tx.txid), scenario["name"]


def test_whole_recorded_transactions_are_read(data_dir: Path) -> None:
    document = load(data_dir, "protocol", "blockstackjs_scenarios.json")
    for entry in document["full_transactions"]:
        tx = parse_transaction(bytes.fromhex(entry["raw"]))
        assert tx.txid[::-1].hex() == entry["txid"]
        keys = [bytes.fromhex(spent["pubkey"]) for spent in entry["inputs"]]
        spent = [p2pkh_script(hash160(key)) for key in keys]
        found = read_operation(tx, 1, spent, MAINNET, EPOCH_2)
        assert isinstance(found, Preorder)
        assert (found.sender, found.sender_pubkey) == (spent[0], keys[0])
        assert found.preorder_hash.hex() == entry["preorder_hash"]
        assert found.consensus_hash.hex() == entry["consensus_hash"]
        assert found.op_fee == entry["outputs"][2]["value"]
        assert write_operation(found, b"id").hex() == entry["payload"]


def test_the_recorded_hashes_of_texts_are_recomputed(data_dir: Path) -> None:
    document = load(data_dir, "protocol", "blockstackjs_scenarios.json")
    for text, digest in document["hash160_vectors"].items():
        assert hash160(text.encode()).hex() == digest
    for text, digest in document["hash128_vectors"].items():
        assert hash128(text).hex() == digest


# --- records of mainnet


def records(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every state and preorder in the file."""
    for operations in document["block_ops"].values():
        yield from operations
    for history in document["name_history"].values():
        for states in history.values():
            yield from states


def test_what_a_mainnet_record_says_twice_agrees(data_dir: Path) -> None:
    seen = 0
    for record in records(load(data_dir, "protocol", "mainnet.json")):
        script = bytes.fromhex(record["sender"])
        assert script_address(script, MAINNET) == record["address"]
        if record["op"] == "?" and record["sender_pubkey"]:
            assert p2pkh_script(hash160(bytes.fromhex(record["sender_pubkey"]))) == script
        if "name_hash128" in record:
            assert hash128(record["name"]).hex() == record["name_hash128"]
        if record.get("name_consensus_hash"):
            bound = name_consensus_hash(record["name"], bytes.fromhex(record["consensus_hash"]))
            assert bound.hex() == record["name_consensus_hash"]
        seen += 1
    assert seen


def test_the_preorder_hash_of_a_mainnet_name_is_recomputed(data_dir: Path) -> None:
    histories = load(data_dir, "protocol", "mainnet.json")["name_history"]
    recomputed = 0
    for name, history in histories.items():
        states = [state for height in sorted(history, key=int) for state in history[height]]
        for preorder in (state for state in states if state["op"] == "?"):
            for made in (state for state in states if state["op"] == ":"):
                if made["preorder_block_number"] == preorder["block_number"]:
                    script = bytes.fromhex(preorder["sender"])
                    digest = hash_name(name, script, made["address"]).hex()
                    assert digest == preorder["preorder_hash"] == made["preorder_hash"]
                    assert made["op_fee"] == preorder["op_fee"]
                    recomputed += 1
    assert recomputed or not histories


def test_a_mainnet_transfer_carries_the_consensus_hash_of_the_update_before_it(
    data_dir: Path,
) -> None:
    for history in load(data_dir, "protocol", "mainnet.json")["name_history"].values():
        updated: str | None = None
        for state in (state for height in sorted(history, key=int) for state in history[height]):
            if state["op"] in (":", ";"):
                updated = None
            elif state["op"] == "+":
                updated = state["consensus_hash"]
            elif state["op"] in (">>", ">~") and updated is not None:
                assert state["consensus_hash"] == updated


def test_mainnet_names_paid_the_price_of_the_classic_namespace(data_dir: Path) -> None:
    for record in records(load(data_dir, "protocol", "mainnet.json")):
        if record.get("namespace_id") != "id" or record["importer"] is not None:
            continue
        if record["last_renewed"] == record["first_registered"]:
            epoch = MAINNET.epoch(record["preorder_block_number"])
            label = record["name"].partition(".")[0]
            assert record["op_fee"] >= name_price(label, reveal(), epoch), record["name"]


NAME_FIELDS = (
    *("name", "value_hash", "sender", "sender_pubkey", "address", "block_number"),
    *("preorder_block_number", "first_registered", "last_renewed", "revoked", "op", "txid"),
    *("vtxindex", "op_fee", "importer", "importer_address"),
)
HEXES = ("value_hash", "sender", "sender_pubkey", "importer")
BESIDE = ("consensus_hash", "preorder_hash")


def _record(state: dict[str, Any]) -> NameRecord:
    def raw(field: str) -> bytes | None:
        return None if state.get(field) is None else bytes.fromhex(state[field])

    plain = [field for field in NAME_FIELDS if field not in (*HEXES, "txid")]
    fields: dict[str, Any] = {field: state[field] for field in plain}
    fields |= {field: raw(field) for field in (*HEXES, *BESIDE)}
    txid = bytes.fromhex(state["txid"])[::-1]
    return NameRecord(**fields, txid=txid, imported=False, update_consensus_hash=None)


def test_a_complete_mainnet_state_serialises_to_its_own_fields(data_dir: Path) -> None:
    shown = 0
    for state in records(load(data_dir, "protocol", "mainnet.json")):
        if state.get("importer") or state["op"] not in (":", ">>", ">~", "~"):
            continue
        record = _record(state)
        texts = ["" if state[field] is None else str(state[field]) for field in NAME_FIELDS]
        if state["op"] == ":":
            line = write_serialized(":", record)
            expected = [":", *texts, state["sender"], state["address"]]
        elif state["op"] == "~":
            line, expected = write_serialized("~", record), ["~", *texts]
        else:
            named = bytes.fromhex(state["name_hash128"])
            keeps = state["op"] == ">>"
            line = write_serialized(">", record, name_hash128=named, keep_data=keeps)
            tail = [state["name_hash128"], state["consensus_hash"] or "", str(keeps)]
            expected = [">", *texts, *tail]
        assert serialized_fields(line) == expected
        shown += 1
    assert shown


def test_the_published_consensus_hashes_are_the_checkpoints_of_mainnet(data_dir: Path) -> None:
    for row in load(data_dir, "protocol", "mainnet.json")["consensus_hashes"]:
        height, digest = row["height"], bytes.fromhex(row["consensus_hash"])
        if height < MAINNET.first_block:
            assert MAINNET.genesis_consensus[height] == digest
        elif height <= (MAINNET.frozen_at or 0):
            assert MAINNET.checkpoints[height] == digest
        else:
            assert height not in MAINNET.checkpoints


# --- real operations in real blocks


def _candidate(entry: dict[str, Any], raw: bytes | None = None) -> SpentCandidate:
    tx = parse_transaction(bytes.fromhex(entry["rawtx"]) if raw is None else raw)
    scripts = tuple(bytes.fromhex(spent["script"]) for spent in entry["inputs"])
    return SpentCandidate(Candidate(entry["vtxindex"], tx), scripts)


def test_a_real_operation_is_read_as_recorded_and_refused_by_an_empty_table(data_dir: Path) -> None:
    entries = load(data_dir, "blocks", "operations.json")
    assert entries
    for entry in entries:
        made = _candidate(entry)
        tx = made.candidate.transaction
        assert tx.txid[::-1].hex() == entry["txid"]
        epoch = MAINNET.epoch(entry["height"])
        found = read_operation(tx, entry["vtxindex"], made.spent_scripts, MAINNET, epoch)
        assert found is not None
        assert not isinstance(found, Malformed)
        assert OPCODES[type(found)].decode() == entry["op"]
        assert write_operation(found, b"id").hex() == entry["payload"]
        sender = entry["inputs"][0]
        assert found.sender.hex() == sender["script"]
        assert (found.sender_pubkey or b"").hex() == (sender.get("pubkey") or "")
        ledger = Ledger(MAINNET)
        ledger.leap(entry["height"])
        verdict = ledger.judge(made)
        if isinstance(found, Update):
            assert found.name_consensus_hash.hex() == entry["name_consensus_hash128"]
            assert found.value_hash.hex() == entry["value_hash"]
            assert verdict is Flaw.NO_NAME_MATCHES
        else:
            assert verdict is not None


def test_a_real_update_is_accepted_where_its_sender_owns_the_name_it_means(data_dir: Path) -> None:
    """Which name a real update means is lost; its own bytes are kept but for the sixteen of it."""
    updates = [e for e in load(data_dir, "blocks", "operations.json") if e["op"] == "+"]
    for entry in updates:
        key = entry["inputs"][0].get("pubkey")
        if key is None:
            continue
        owner = Holder.of_key(bytes.fromhex(key))
        ledger = Ledger(MAINNET)
        ledger.open_namespace("id", lifetime=INFINITE_LIFETIME)
        ledger.leap(entry["height"] - 2)
        ledger.register("meant.id", owner)
        assert ledger.height == entry["height"] - 1
        bound = name_consensus_hash("meant.id", ledger.ch(entry["height"] - 24))
        raw = bytes.fromhex(entry["rawtx"])
        mine = raw.replace(bytes.fromhex(entry["name_consensus_hash128"]), bound)
        true, meant = _candidate(entry), _candidate(entry, mine)
        # where the consensus hashes cannot be had any more, the only name of a sender is meant
        trusted = MAINNET.is_frozen(ledger.height)
        expected = None if trusted else Flaw.NO_NAME_MATCHES
        assert ledger.block(true, meant) == [expected, None]
        assert (ledger.name("meant.id").value_hash or b"").hex() == entry["value_hash"]
        assert ledger.name("meant.id").sender == owner.script != ALICE.script
