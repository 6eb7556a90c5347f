"""What a node can do is found by asking; the fastest way is taken, and the slowest still works."""

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from indexer.bitcoin.blocks import parse_block
from indexer.bitcoin.transactions import TxOut, compact_size, hash_hex, p2pkh_script
from indexer.networks import SANDBOX
from indexer.node.capabilities import RPC_METHODS, Prevouts
from indexer.node.costs import Costs
from indexer.node.node import BitcoinNode, NodeError, NodePruned, NodeRefused, NodeUnavailable
from indexer.node.prevouts import PreviousOutputs
from indexer.node.spent_outputs import (
    CorruptSpentOutputs,
    Spending,
    spent_scripts_at,
)
from indexer.sandbox.node import SandboxNode, Switches
from tests.conftest import ROOT
from tests.indexer.node.fakes import Purse
from tests.rings import sampled

NOW = 1_700_000_000


class Street:
    """A sandbox node with a block in which two transactions spend, and our client of it."""

    def __init__(self, *, tx_index: bool = True, **switches) -> None:
        self.sandbox = SandboxNode(
            clock=lambda: NOW, tx_index=tx_index, switches=Switches(**switches)
        )
        self.sandbox.start()
        self.purse = Purse(self.sandbox)
        self.purse.fill()
        first = self.purse.pay(TxOut(10_000, p2pkh_script(b"\x01" * 20)))
        spends, value = self.purse.change_of(first)
        second = self.purse.pay(
            TxOut(20_000, p2pkh_script(b"\x02" * 20)), spends=spends, value=value
        )
        for raw in (first, second):
            self.sandbox.submit(raw)
        self.mined = self.sandbox.generate(1, self.purse.script)[0]
        self.node = BitcoinNode(self.sandbox.url)
        _, transactions = parse_block(self.node.raw_blocks([self.mined])[0])
        self.places = {
            transactions[vtxindex].inputs[0][:2]: Spending(
                transactions[vtxindex].txid, (vtxindex, 0)
            )
            for vtxindex in range(1, 3)
        }
        self.expected = dict.fromkeys(self.places, self.purse.script)

    def __enter__(self) -> "Street":
        return self

    def __exit__(self, *_: object) -> None:
        self.node.close()
        self.sandbox.stop()


# Previous outputs


@pytest.mark.parametrize(
    ("tx_index", "switches", "first"),
    [
        (True, {"rest": True}, Prevouts.REST),
        (False, {"rest": True}, Prevouts.REST),
        (True, {"rest": True, "version": 290000}, Prevouts.TRANSACTIONS),
        (True, {}, Prevouts.TRANSACTIONS),
        (False, {}, Prevouts.SPENDING),
        (True, {"strict": True}, Prevouts.TRANSACTIONS),
        (False, {"strict": True}, Prevouts.SPENDING),
    ],
)
def test_previous_outputs_come_by_the_fastest_way_and_the_log_names_it(
    tx_index, switches, first, caplog
) -> None:
    caplog.set_level("INFO", "blockstore.indexer")
    with Street(tx_index=tx_index, **switches) as street:
        assert street.node.spent_scripts(street.mined, street.places) == street.expected
        found = street.node.capabilities()
        assert found.prevouts[0] is first
        assert found.txindex is tx_index
        assert f"previous outputs are read from {first.value}" in caplog.text
        assert first.value in found.spent_outputs
        assert (found.faster is not None) == (first is Prevouts.SPENDING)
        asked = street.sandbox.asked
        assert ("getrawtransaction" in asked) == (first is not Prevouts.REST)


@pytest.mark.parametrize(("seconds", "whole"), [(0.1, False), (0.3, True)])
def test_of_a_node_as_it_comes_a_block_or_its_few_transactions_are_asked_whichever_is_quicker(
    seconds, whole
) -> None:
    with Street(tx_index=False) as street:
        street.sandbox._envelope.asked.clear()
        previous = PreviousOutputs(street.node, street.node.capabilities)
        previous.costs.transaction, previous.costs.block = seconds, 0.5
        assert previous.scripts(street.mined, street.places) == street.expected
        assert ("getblock" in street.sandbox.asked) == whole
        assert ("getrawtransaction" in street.sandbox.asked) != whole


def test_what_each_way_took_is_learned() -> None:
    with Street(tx_index=False) as street:
        now = iter(range(100))
        previous = PreviousOutputs(street.node, street.node.capabilities, lambda: next(now) * 10.0)
        assert previous.scripts(street.mined, street.places) == street.expected
        assert previous.costs.transaction == pytest.approx(0.75 * 0.008 + 0.25 * 10 / 2)
        assert previous.scripts(street.mined, street.places) == street.expected
        assert previous.costs.block == pytest.approx(0.75 * 0.4 * 0.99 + 0.25 * 10)


def test_a_node_too_old_to_show_what_one_transaction_spends_shows_whole_blocks() -> None:
    with Street(tx_index=False, version=240000) as street:
        street.sandbox._envelope.asked.clear()
        assert street.node.spent_scripts(street.mined, street.places) == street.expected
        assert "getblock" in street.sandbox.asked


@pytest.mark.parametrize("tx_index", [True, False])
def test_who_may_not_ask_for_transactions_asks_for_blocks(tx_index) -> None:
    allowed = frozenset(RPC_METHODS) - {"getrawtransaction", "getindexinfo"}
    with Street(tx_index=tx_index, allowed=allowed) as street:
        assert street.node.spent_scripts(street.mined, street.places) == street.expected


def test_another_transaction_than_the_one_asked_for_is_not_believed() -> None:
    with Street(tx_index=False) as street:
        first = next(iter(street.places.values()))
        honest = street.node.batch

        def batch(calls):
            return honest([(method, (hash_hex(first.txid), *rest)) for method, (_, *rest) in calls])

        street.node.batch = batch  # type: ignore[method-assign]
        with pytest.raises(NodeError, match="no answer to it"):
            street.node.spent_scripts(street.mined, street.places)


@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(1e-4, 1.0), st.floats(1e-3, 60.0))),
    st.integers(1, 300),
)
def test_no_way_is_left_for_ever(past, count) -> None:
    costs = Costs()
    for many, of_one, of_all in past:
        costs.learn_transactions(many, of_one * many)
        costs.learn_block(of_all)
    chosen = {costs.prefer_transactions(count) for _ in range(2_000)}
    assert chosen == {True, False}


@given(st.floats(1e-4, 0.1), st.floats(0.001, 30.0), st.integers(1, 300))
def test_what_costs_the_same_again_and_again_is_chosen_rightly(of_one, of_all, count) -> None:
    costs = Costs()
    for _ in range(60):
        costs.learn_transactions(3, of_one * 3)
        costs.learn_block(of_all)
    assume(not 0.99 < of_one * count / of_all < 1.01)
    assert costs.prefer_transactions(count) == (of_one * count < of_all)


def test_a_way_that_ends_nowhere_is_left_for_the_next_one() -> None:
    with Street(rest=True) as street:
        street.node.capabilities()
        street.sandbox.switches.rest = False  # as after a restart without it
        assert street.node.spent_scripts(street.mined, street.places) == street.expected


def test_a_node_too_old_to_show_prevouts_without_an_index_is_told_so() -> None:
    with (
        Street(tx_index=False, version=220000) as street,
        pytest.raises(NodeError, match="txindex=1"),
    ):
        street.node.spent_scripts(street.mined, street.places)


# Rights


def test_the_methods_of_the_whitelist_are_those_that_are_asked_for() -> None:
    named = set()
    for file in (p for room in ("node", "following") for p in ROOT.glob(f"indexer/{room}/*.py")):
        source = file.read_text("utf-8")
        named |= set(re.findall(r'\bcall\("([a-z]+)"', source))
        named |= set(re.findall(r'\("([a-z]+)", \(', source))
    assert named == set(RPC_METHODS)


def test_the_readme_names_the_whitelist_in_one_line() -> None:
    """bitcoind grants a user what stands in all of his lines, so there must be no second one."""
    text = (ROOT / "resolver" / "daemon" / "README.md").read_text("utf-8")
    assert re.findall(r"^rpcwhitelist=blockstore:(\S+)$", text, re.M) == [",".join(RPC_METHODS)]
    # Else a list for one user takes all rights from those who have none.
    assert re.search(r"^rpcauth=blockstore:\S+\nrpcwhitelistdefault=0\nrpcwhitelist=", text, re.M)


def test_the_readme_names_what_registering_needs_beside_it() -> None:
    named = set()
    rooms = (ROOT / "indexer" / "registrar", ROOT / "indexer" / "wallet")
    for file in (file for room in rooms for file in room.rglob("*.py")):
        source = file.read_text("utf-8")
        named |= set(re.findall(r'\b(?:ask\w*|call)\(\s*"([a-z]+)"', source))
        named |= set(re.findall(r'\("((?:get|estimate)[a-z]+)", \(', source))
    told = {method for methods in _whitelists() for method in methods}
    assert "`scantxoutset`" in (ROOT / "resolver" / "daemon" / "README.md").read_text(
        "utf-8"
    )  # with a key file only
    assert named - {"scantxoutset"} - set(RPC_METHODS) == told - set(RPC_METHODS)


def _whitelists() -> list[list[str]]:
    """The methods of each line of the README that gives rights, or goes on doing so."""
    text = (ROOT / "resolver" / "daemon" / "README.md").read_text("utf-8")
    lines = re.findall(r"^(?:rpcwhitelist=blockstore:|,)([a-z,]+)$", text, re.MULTILINE)
    return [line.split(",") for line in lines]


@pytest.mark.parametrize("tx_index", [True, False])
def test_no_more_rights_are_needed_than_the_whitelist_gives(tx_index) -> None:
    with Street(tx_index=tx_index, allowed=frozenset(RPC_METHODS)) as street:
        node = street.node
        assert node.chain_info().blocks == street.sandbox.height
        best = node.block_hash(street.sandbox.height)
        assert node.headers([best]) == [node.raw_blocks([best])[0][:80]]
        assert node.spent_scripts(street.mined, street.places) == street.expected
        paid = street.purse.pay(TxOut(30_000, p2pkh_script(b"\x03" * 20)))
        assert node.send_transaction(paid)
        assert node.wait_for_block(0.01, best) == best
        assert node.capabilities().long_polling
        with pytest.raises(NodeRefused, match="rpcwhitelist"):
            node.call("getbestblockhash")


def test_what_may_not_be_asked_counts_as_not_offered() -> None:
    least = {"getblock", "getblockchaininfo", "getblockhash", "getrawtransaction"}
    with Street(allowed=frozenset(least)) as street:
        assert street.node.spent_scripts(street.mined, street.places) == street.expected
        found = street.node.capabilities()
        assert (found.txindex, found.version, found.long_polling) == (None, None, False)
        assert street.node.headers([street.mined]) is None


# Blocks


def test_large_blocks_are_read_over_rest_where_it_is_offered() -> None:
    with Street(rest=True) as street:
        hashes = street.node.block_hashes(range(1, street.sandbox.height + 1))
        over_rpc = street.node.raw_blocks(hashes)
        street.sandbox._envelope.asked.clear()
        street.node.blocks.mean_bytes = 1e6
        assert street.node.raw_blocks(hashes) == over_rpc
        assert "getblock" not in street.sandbox.asked
        street.sandbox.switches.rest = False
        street.node.blocks.mean_bytes = 1e6
        assert street.node.raw_blocks(hashes) == over_rpc


@pytest.mark.parametrize("rest", [True, False])
def test_a_pruned_block_is_an_error_that_says_what_to_do(rest) -> None:
    with Street(rest=rest, prune_height=50) as street:
        assert street.node.capabilities().prune_height == 50
        old = street.node.block_hash(49)
        with pytest.raises(NodePruned, match=r"keeps those from 50 on.*prune=0"):
            street.node.raw_blocks([old])[0]
        street.node.blocks.mean_bytes = 1e6
        with pytest.raises(NodePruned, match="prune=0"):
            street.node.raw_blocks([old])[0]
        assert street.node.raw_blocks([street.node.block_hash(50)])[0]


# Moods


def test_a_node_that_warms_up_or_is_busy_is_unavailable_and_then_is_not() -> None:
    with Street(rest=True) as street:
        switches = street.sandbox.switches
        switches.warming_up = "Loading block index…"
        with pytest.raises(NodeUnavailable, match="Loading block index"):
            street.node.chain_info()
        with pytest.raises(NodeUnavailable, match=r"Loading|busy"):
            street.node.batch([("getblockhash", (1,))])
        switches.warming_up = None
        switches.busy = True
        for ask in (street.node.chain_info, lambda: street.node.rest(f"block/{'0' * 64}.bin")):
            with pytest.raises(NodeUnavailable, match="work queue is full"):
                ask()
        switches.busy = False
        assert street.node.chain_info().blocks == street.sandbox.height


def test_strict_replies_read_like_others() -> None:
    with Street(strict=True) as street:
        assert street.node.chain_info().best_block_hash == street.mined
        good, bad = street.node.batch([("getblockhash", (0,)), ("getblockhash", (10**6,))])
        assert good == SANDBOX.genesis_hash
        assert bad.code == -8


def test_a_node_that_was_away_is_asked_anew_what_it_can_do() -> None:
    with Street() as street:
        assert not street.node.capabilities().rest
        street.sandbox.switches.warming_up = "Verifying blocks…"
        with pytest.raises(NodeUnavailable):
            street.node.chain_info()
        street.sandbox.switches.warming_up = None
        street.sandbox.switches.rest = True
        assert street.node.capabilities().rest


# The bytes of spent outputs


def test_spent_outputs_read_as_bitcoin_core_writes_them() -> None:
    # Shown by a node in the discussion of the interface: a block of two transactions.
    script = "76a914090454b16d8fd499365c53a2226373c6d8734b5188ac"
    shown = bytes.fromhex("02000100f2052a0100000019" + script)
    assert spent_scripts_at(shown, [(1, 0)]) == {(1, 0): bytes.fromhex(script)}
    assert spent_scripts_at(b"\x01\x00", []) == {}  # the genesis block


@pytest.mark.parametrize(
    "raw",
    [
        *("", "00", "0101" + "00" * 9, "0200", "020001", "02000100f2052a0100000019", "010000"),
        *("ff" + "ff" * 8, "fdffff", "0200ffffffffffffffff7f"),
    ],
)
def test_other_bytes_are_refused(raw) -> None:
    with pytest.raises(CorruptSpentOutputs):
        spent_scripts_at(bytes.fromhex(raw), [])


@given(st.binary(max_size=300))
def test_any_bytes_are_spent_outputs_or_refused(raw) -> None:
    with contextlib.suppress(CorruptSpentOutputs):
        assert spent_scripts_at(raw, []) == {}


def spent_bytes(lists: list[list[TxOut]]) -> bytes:
    """As the node writes them."""
    parts = [compact_size(len(lists))]
    for spent in lists:
        parts.append(compact_size(len(spent)))
        for value, script in spent:
            parts += (value.to_bytes(8, "little"), compact_size(len(script)), script)
    return b"".join(parts)


spent_scripts = st.sampled_from([25, 23, 22, 34]).map(bytes) | st.binary(max_size=300)
spent = st.builds(TxOut, st.integers(0, 2**63), spent_scripts)
alike = st.integers(1, 80).flatmap(lambda n: st.lists(spent, max_size=8).map(lambda of: [of] * n))


@settings(max_examples=sampled(50))
@given(st.lists(alike, max_size=4), st.data())
def test_the_scripts_at_some_places_are_those_that_reading_all_gives(runs, data) -> None:
    lists: list[list[TxOut]] = [[], *(spent for run in runs for spent in run)]
    raw = spent_bytes(lists)
    everywhere = {(t, n): out.script for t, of in enumerate(lists) for n, out in enumerate(of)}
    assert spent_scripts_at(raw, everywhere.keys()) == everywhere
    some = data.draw(st.lists(st.sampled_from(sorted(everywhere)))) if everywhere else []
    assert spent_scripts_at(raw, some) == {place: everywhere[place] for place in some}
    for nowhere in ((len(lists), 0), (0, 0), (len(lists) - 1, len(lists[-1]))):
        with pytest.raises(CorruptSpentOutputs):
            spent_scripts_at(raw, [nowhere])
    cut = data.draw(st.integers(0, len(raw) - 1))
    for damaged in (raw[:cut], raw + b"\0"):
        with pytest.raises(CorruptSpentOutputs):
            spent_scripts_at(damaged, some)


def test_rest_gives_the_same_in_bytes_in_hex_and_in_json(tmp_path: Path) -> None:
    import json

    with Street(rest=True) as street:
        at = f"spenttxouts/{hash_hex(street.mined)}"
        in_bytes = street.node.rest(f"{at}.bin")
        in_hex, in_json = street.node.rest(f"{at}.hex"), street.node.rest(f"{at}.json")
        assert in_bytes is not None
        assert in_hex is not None
        assert in_json is not None
        assert bytes.fromhex(in_hex.decode()) == in_bytes
        scripts = {
            (at, number): bytes.fromhex(out["scriptPubKey"]["hex"])
            for at, outs in enumerate(json.loads(in_json))
            for number, out in enumerate(outs)
        }
        assert scripts
        assert spent_scripts_at(in_bytes, scripts) == scripts
        assert street.node.rest(f"spenttxouts/{'0' * 64}.bin") is None
        assert street.node.rest("spenttxouts/x.bin") is None


def test_a_node_in_its_initial_download_says_so_and_which_headers_it_has() -> None:
    with Street(initial_download=True, headers_ahead=9) as street:
        info = street.node.chain_info()
        assert info.initial_block_download
        assert (info.blocks, info.headers) == (street.sandbox.height, street.sandbox.height + 9)
        assert info.tip_time is not None
        assert not info.lacks_blocks(NOW + 10**9), "on regtest nobody waits for its end"
        public = replace(info, chain="main")
        assert public.lacks_blocks(info.tip_time + 25 * 3600)
        assert not public.lacks_blocks(info.tip_time + 23 * 3600)
