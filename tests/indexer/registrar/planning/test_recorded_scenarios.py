"""What the original's last client composed for given arguments, we compose as well."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.bitcoin.transactions import TxOut, address_script, hash_bytes, parse_transaction
from indexer.following.replay import MemoryStore
from indexer.networks import MAINNET
from indexer.protocol import schema
from indexer.protocol.flaws import Flaw, Refused
from indexer.protocol.operations import Operation, TokenTransfer
from indexer.protocol.records import NamespaceRecord
from indexer.protocol.view import BlockView
from indexer.registrar.planning import wishes
from indexer.registrar.planning.compose import compose
from indexer.registrar.planning.steps import Parties, StepKind, operation_for
from indexer.registrar.planning.wishes import Wish
from indexer.wallet.coins import DUST, Coin, Unsigned
from indexer.wallet.keys import Key, KeyRing
from tests.indexer.protocol.test_rules_recorded import wish_of

pytestmark = pytest.mark.data

HEIGHT = 500_000
"""A block of epoch 3."""
FROZEN_HEIGHT = 600_000


@pytest.fixture(scope="module")
def document(data_dir: Path) -> dict[str, Any]:
    text = data_dir.joinpath("protocol", "blockstackjs_scenarios.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    assert found["scenarios"]
    return found


def scripts(document: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(key["script_pubkey"]) for key in document["keys"]]


def coins(document: dict[str, Any], number: int) -> list[Coin]:
    script = scripts(document)[number]
    return [
        Coin(hash_bytes(coin["txid"]), coin["vout"], coin["value"], script)
        for coin in document["utxos_by_key_index"][str(number)]
    ]


def composed(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytes, Unsigned]]:
    """Each scenario with its sender and what we compose of its coins at its fee rate."""
    for scenario in document["scenarios"]:
        operation, sender = wish_of(scenario, document)
        pool = coins(document, scripts(document).index(sender))
        if "owner" in scenario["args"]:
            pool += coins(document, scenario["args"]["payer"])
        operation = replace(operation, sender=sender)
        rate = document["fee_rate_sat_per_byte"]
        yield scenario, sender, compose(operation, MAINNET, pool, sender, fee_rate=rate)


def test_outputs_stand_in_the_recorded_order_with_the_recorded_amounts(document) -> None:
    dust = document["dust_minimum"]
    assert dust == DUST
    for scenario, sender, unsigned in composed(document):
        roles = scenario["outputs"]
        args = scenario["args"]
        # Only the change at the end may be missing, where it is too small for an output.
        assert len(roles) - 1 <= len(unsigned.outputs) <= len(roles), scenario["name"]
        assert unsigned.change is None or len(unsigned.outputs) == len(roles)
        for index, (output, role) in enumerate(zip(unsigned.outputs, roles, strict=False)):
            if role.startswith("OP_RETURN"):
                assert output.value == 0
                assert output.script.endswith(bytes.fromhex(scenario["payload"]))
            elif role.startswith("burn"):
                _, address, amount, *_ = role.replace(",", "").split()
                assert output == TxOut(int(amount), address_script(address, MAINNET))
            elif role in ("owner change", "prior owner change"):
                (owned,) = coins(document, args["owner"])
                assert output == TxOut(owned.value, sender)
            elif "change" in role:
                payer = args.get("payer")
                assert output.script == (sender if payer is None else scripts(document)[payer])
                assert unsigned.change == index
            else:
                assert output.value == dust, role
        assert unsigned.coins[0].script == sender
        # The original wanted more change, so it may have taken a coin more.
        assert scenario["inputs_used"] - 1 <= len(unsigned.coins) <= scenario["inputs_used"]


def test_somebody_else_who_pays_for_a_token_transfer_gets_the_change_as_fourth_output(
    document,
) -> None:
    scenario = next(s for s in document["scenarios"] if s["name"] == "token transfer")
    operation, sender = wish_of(scenario, document)
    assert isinstance(operation, TokenTransfer)
    own = coins(document, 0)[0]
    pool = [replace(own, script=sender), *coins(document, 1)]
    operation = replace(operation, sender=sender)
    unsigned = compose(operation, MAINNET, pool, sender, fee_rate=500)
    recipient = operation.recipient
    assert unsigned.outputs[1:3] == (TxOut(DUST, recipient), TxOut(own.value, sender))
    assert unsigned.outputs[3].script == scripts(document)[1]
    assert unsigned.change == 3


# --- from wishes


def view(document: dict[str, Any], height: int = HEIGHT) -> BlockView:
    """A table of mainnet in which the scenarios' namespace pays a creator 6,500 satoshis a name."""
    store = MemoryStore()
    newest = bytes(32) + bytes.fromhex(document["consensus_hash"])
    store.rows[schema.hashes_key(height - 1)] = newest
    namespace = NamespaceRecord(
        namespace_id="test",
        preorder_hash=bytes(20),
        version=2,
        sender=b"",
        sender_pubkey=None,
        address="15GAGiT2j2F1EzZrvjk3B8vBCfwVEzQaZx",
        recipient=b"",
        recipient_address="",
        block_number=height - 90,
        reveal_block=height - 80,
        ready_block=height - 70,
        op="!",
        txid=bytes(32),
        vtxindex=1,
        lifetime=52595,
        coeff=65,
        base=10,
        buckets=(1,) * 16,
        nonalpha_discount=1,
        no_vowel_discount=1,
    )
    store.rows[schema.namespace_key("test")] = schema.NAMESPACE_ROW.write(namespace)
    return BlockView(store, MAINNET, height)


def wished(scenario: dict[str, Any], operation: Operation) -> tuple[StepKind, Wish] | None:
    """The wish whose step is the scenario's operation; None: there is none in bitcoin."""
    args, name = scenario["args"], scenario["name"]
    recipient = getattr(operation, "recipient", b"")
    data = getattr(operation, "value_hash", None)
    match name:
        case "namespace reveal":
            terms = {k: args[k] for k in ("lifetime", "coeff", "base", "version")}
            terms |= {"nonalpha_discount": args["nonalpha"], "no_vowel_discount": args["novowel"]}
            buckets = tuple(args["buckets"])
            space = args["namespace"]
            wish = wishes.RevealNamespace(space, recipient, buckets=buckets, **terms)
            return StepKind.NAMESPACE_REVEAL, wish
        case "namespace ready":
            return StepKind.NAMESPACE_READY, wishes.ReadyNamespace(args["namespace"])
        case "name import":
            return StepKind.IMPORT, wishes.ImportName(args["name"], recipient, data)
        case "announce":
            return StepKind.ANNOUNCE, wishes.Announce(bytes.fromhex(args["message_hash"]))
        case "name preorder (BTC price)":
            return StepKind.PREORDER, wishes.RegisterName(args["name"])
        case "name registration with value":
            return StepKind.REGISTER, wishes.RegisterName(args["name"], data)
        case "name update":
            return StepKind.UPDATE, wishes.UpdateName(args["name"], data)
        case "name transfer (keep data)":
            return StepKind.TRANSFER, wishes.TransferName(args["name"], recipient)
        case "name revoke":
            return StepKind.REVOKE, wishes.RevokeName(args["name"])
    return None


def test_wishes_give_the_recorded_operations(document) -> None:
    table = view(document)
    given = 0
    for scenario in document["scenarios"]:
        operation, sender = wish_of(scenario, document)
        found = wished(scenario, operation)
        if found is None:
            assert "STACKS" in str(scenario) or isinstance(operation, TokenTransfer)
            continue
        owner = scenario["args"].get("register_address")
        parties = Parties(sender, None if owner is None else address_script(owner, MAINNET))
        assert operation_for(*found, parties, table) == replace(operation, sender=sender)
        given += 1
    assert given == 9


def test_what_the_original_paid_in_another_ledger_is_refused(document) -> None:
    wish = wishes.PreorderNamespace("hello", scripts(document)[3])
    with pytest.raises(Refused) as refused:
        operation_for(
            StepKind.NAMESPACE_PREORDER,
            wish,
            Parties(scripts(document)[2]),
            view(document, FROZEN_HEIGHT),
        )
    assert refused.value.flaw is Flaw.OTHER_LEDGER


# --- whole transactions


def keys(document: dict[str, Any]) -> list[Key]:
    found = []
    for key in document["keys"]:
        secret = bytes.fromhex(key["private_key_hex_with_compression_suffix"])
        assert secret[32:] == b"\x01"
        found.append(Key(secret[:32]))
    return found


def test_the_recorded_transactions_are_composed_and_signed_again(document) -> None:
    scenario = next(s for s in document["scenarios"] if s["name"] == "name preorder (BTC price)")
    operation, sender = wish_of(scenario, document)
    ring = KeyRing(keys(document))
    exact = 0
    for entry in document["full_transactions"]:
        raw = bytes.fromhex(entry["raw"])
        recorded = parse_transaction(raw)
        pool = coins(document, 1)
        spent = [
            next(c for c in pool if (c.txid, c.index) == (i.previous_txid, i.previous_index))
            for i in recorded.inputs
        ]
        paid = replace(
            operation,
            sender=sender,
            op_fee=recorded.outputs[2].value,
            fee_script=recorded.outputs[2].script,
        )
        unsigned = compose(paid, MAINNET, spent, sender, fee_rate=1)
        assert [o.script for o in unsigned.outputs] == [o.script for o in recorded.outputs]
        assert unsigned.outputs[0] == recorded.outputs[0]
        assert unsigned.outputs[2] == recorded.outputs[2]
        scripts_spent = [coin.script for coin in spent]
        bare = [i._replace(script_sig=b"") for i in recorded.inputs]
        signed = ring.sign(1, bare, recorded.outputs, 0, scripts_spent)
        assert parse_transaction(signed).outputs == recorded.outputs
        # Both sign deterministically (RFC 6979); ours goes on until r is low, a byte shorter.
        if all(spent.script_sig[4] == 0x20 for spent in recorded.inputs):
            assert signed == raw
            exact += 1
    assert exact
