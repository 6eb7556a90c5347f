"""The Bitcoin node in a box keeps regtest's rules, says no in Core's words, and survives a kill."""

import http.client
import json
import os
import stat
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.blocks import parse_block
from indexer.bitcoin.spending import multisig_script, read_pushes
from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    hash_hex,
    p2pkh_script,
    p2sh_script,
    parse_transaction,
    script_address,
    serialize_transaction,
)
from indexer.networks import REGTEST, SANDBOX
from indexer.node.node import BitcoinNode, NodeRefused, NodeRpcError, NodeUnavailable
from indexer.sandbox.blocks import BlockRejected, coinbase, mine, subsidy
from indexer.sandbox.chain import SandboxChain
from indexer.sandbox.node import Rejected, SandboxNode, StoreError
from indexer.wallet.keys import Key, KeyRing, script_of_redeem_script
from tests.indexer.node.fakes import Purse
from tests.rings import sampled, times

NOW = 1_700_000_000
STRANGER = p2pkh_script(b"\x09" * 20)


def clock() -> float:
    return NOW


@pytest.fixture
def node():
    with SandboxNode(clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
def purse(node):
    filled = Purse(node)
    filled.fill(3)
    return filled


@pytest.fixture
def client(node):
    return BitcoinNode(node.url)


def refusal(node: SandboxNode, raw: bytes) -> tuple[int, str]:
    with pytest.raises(Rejected) as refused:
        node.submit(raw)
    return refused.value.code, refused.value.message


def error_of(client: BitcoinNode, method: str, *params: object) -> tuple[int, str]:
    with pytest.raises(NodeRpcError) as failure:
        client.call(method, *params)
    return failure.value.code, failure.value.message


# Blocks


def test_the_chain_begins_with_the_genesis_block_of_regtest(node, client) -> None:
    assert hash_hex(node.tip) == REGTEST.genesis_hash == SANDBOX.genesis_hash
    assert client.call("getblockhash", 0) == REGTEST.genesis_hash
    shown = client.call("getblock", REGTEST.genesis_hash, 1)
    assert (shown["nonce"], shown["bits"], shown["time"]) == (2, "207fffff", 1296688602)
    code, text = error_of(client, "getrawtransaction", shown["tx"][0])
    assert code == -5
    assert "genesis block coinbase" in text


def test_every_block_shows_work_commits_to_its_height_and_halves_the_subsidy(node, client) -> None:
    hashes = node.generate(310, STRANGER)
    for height in (1, 16, 17, 127, 128, 149, 150, 255, 256, 299, 300, 310):
        header, transactions = parse_block(client.raw_blocks([hashes[height - 1]])[0])
        assert transactions[0].outputs == (TxOut(5_000_000_000 >> height // 150, STRANGER),)
        pushed = read_pushes(transactions[0].inputs[0].script_sig)[0]
        assert int.from_bytes(pushed, "little") == height
        assert header.bits == 0x207FFFFF


def test_block_times_follow_the_clock_or_the_spacing_and_never_go_back() -> None:
    chain = SandboxChain(clock, start_time=1_000)
    chain.generate(30, STRANGER, spacing=600)
    first = 1296688602 + 1  # a start before genesis gives way to its median time
    times = [chain.at_height(height).header.time for height in (1, 2, 30)]
    assert times == [first, first + 600, first + 29 * 600]
    chain = SandboxChain(clock, start_time=1_500_000_000)
    chain.generate(3, STRANGER, spacing=5)
    chain.generate(40, STRANGER)
    times = [chain.at_height(height).header.time for height in range(44)]
    assert times[1:5] == [1_500_000_000, 1_500_000_005, 1_500_000_010, NOW]
    assert times == sorted(times)
    for height in range(1, 44):
        assert times[height] > chain.median_time_at(height - 1)


def test_the_same_clock_gives_the_same_chain() -> None:
    def mined() -> list[bytes]:
        return SandboxChain(clock).generate(20, STRANGER)

    assert mined() == mined()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": subsidy(1) + 1}, "bad-cb-amount"),
        ({"height": 2}, "bad-cb-height"),
        ({"time": 1296688602}, "time-too-old"),
        ({"time": NOW + 7201}, "time-too-new"),
        ({"previous": bytes(32)}, "prev-blk-not-found"),
        ({"more": [coinbase(1, 2, 0, b"\x51")]}, "bad-cb-multiple"),
        (
            {
                "more": [
                    serialize_transaction(1, [TxIn(b"\x01" * 32, 0, b"", 0)], [TxOut(1, b"")], 0)
                ]
            },
            "bad-txns-inputs-missingorspent",
        ),
        ({"script": b"\x51" * 1_000_000}, "bad-blk-length"),
    ],
)
def test_a_block_against_the_rules_is_refused(change, reason) -> None:
    chain = SandboxChain(clock)
    want = {
        "value": 1,
        "height": 1,
        "time": NOW,
        "previous": chain.tip.hash,
        "more": [],
        "script": STRANGER,
    } | change
    first = coinbase(want["height"], 0, want["value"], want["script"])
    raw = mine(want["previous"], want["time"], [first, *want["more"]])
    with pytest.raises(BlockRejected, match=reason):
        chain.accept_block(raw, now=NOW)
    assert chain.height == 0
    assert chain.generate(1, STRANGER) == [chain.tip.hash]


# Transactions


def test_a_payment_waits_in_the_mempool_and_is_mined(node, client, purse) -> None:
    raw = purse.pay(TxOut(70_000, STRANGER), TxOut(0, b"\x6a\x03id!"))
    txid = client.send_transaction(raw)
    assert client.call("getrawmempool") == [hash_hex(txid)]
    assert client.call("getmempoolentry", hash_hex(txid))["fees"]["base"] == Decimal("0.0001")
    assert client.call("getrawtransaction", hash_hex(txid)) == raw.hex()
    address = script_address(STRANGER, REGTEST)
    assert client.call("listunspent", 1, 99, [address]) == []
    assert client.call("listunspent", 0, 99, [address])[0]["confirmations"] == 0
    assert client.call("gettxout", hash_hex(txid), 0, False) is None
    mined = node.generate(1, purse.script)[0]
    assert client.call("getrawmempool") == []
    (unspent,) = client.call("listunspent", 1, 99, [address])
    assert (unspent["txid"], unspent["vout"]) == (hash_hex(txid), 0)
    assert (unspent["amount"], unspent["confirmations"]) == (Decimal("0.0007"), 1)
    assert node.unspent(STRANGER) == [(txid, 0, 70_000, STRANGER, node.height, False)]
    shown = client.call("getrawtransaction", hash_hex(txid), 2)
    assert (shown["blockhash"], shown["confirmations"]) == (hash_hex(mined), 1)
    assert shown["vin"][0]["prevout"]["scriptPubKey"]["hex"] == purse.script.hex()
    assert shown["fee"] == Decimal("0.0001")
    assert shown["vout"][1]["scriptPubKey"]["type"] == "nulldata"
    assert (
        client.call("getrawtransaction", hash_hex(txid), True, hash_hex(mined))["hex"] == raw.hex()
    )
    assert client.call("gettxout", hash_hex(txid), 0)["value"] == Decimal("0.0007")
    reward = parse_block(client.raw_blocks([mined])[0])[1][0].outputs[0].value
    assert reward == subsidy(node.height) + 10_000


def test_what_is_sent_twice_spent_twice_or_unknown_is_told_apart(node, purse) -> None:
    raw = purse.pay(TxOut(70_000, STRANGER))
    rival = purse.pay(TxOut(80_000, STRANGER))
    txid = node.submit(raw)
    assert node.submit(raw) == txid
    assert refusal(node, rival) == (-26, "txn-mempool-conflict")
    node.generate(1, purse.script)
    assert refusal(node, raw) == (-27, "Transaction outputs already in utxo set")
    assert refusal(node, rival) == (-25, "bad-txns-inputs-missingorspent")
    assert refusal(node, b"\x00" * 50)[0] == -22
    assert refusal(node, raw[:-1])[0] == -22


def test_a_chain_of_unconfirmed_payments_is_mined_in_order_and_bounded() -> None:
    with SandboxNode(clock=clock) as node:
        purse = Purse(node)
        purse.fill()
        spends, value = purse.coin()
        for _ in range(25):
            raw = purse.pay(spends=spends, value=value)
            node.submit(raw)
            spends, value = purse.change_of(raw)
        code, text = refusal(node, purse.pay(spends=spends, value=value))
        assert code == -26
        assert "[limit: 25]" in text
        node.generate(1, STRANGER)
        assert node.mempool_size == 0
        node.submit(purse.pay(spends=spends, value=value))


def test_a_coinbase_is_spent_after_a_hundred_blocks_and_not_before(node) -> None:
    purse = Purse(node)
    node.generate(1, purse.script)
    node.generate(98, STRANGER)
    raw = purse.pay()
    assert refusal(node, raw) == (-26, "bad-txns-premature-spend-of-coinbase")
    client = BitcoinNode(node.url)
    address = purse.key.address(REGTEST)
    assert client.call("listunspent", 1, 9999, [address]) == []
    node.generate(1, STRANGER)
    node.submit(raw)
    other = SandboxNode(clock=clock)
    other.generate(1, purse.script)
    other.generate(100, STRANGER)  # one more than relay asks for, as wallets count
    with other:
        assert len(BitcoinNode(other.url).call("listunspent", 1, 9999, [address])) == 1


SCRIPT_FAILURE = "mandatory-script-verify-flag-failed"


def spoiled(raw: bytes, script_sig) -> bytes:
    """The transaction with another scriptSig in its first input."""
    read = parse_transaction(raw)
    first = read.inputs[0]._replace(script_sig=script_sig(first_pushes(read)))
    return serialize_transaction(
        read.version, [first, *read.inputs[1:]], read.outputs, read.locktime
    )


def first_pushes(transaction) -> list[bytes]:
    return read_pushes(transaction.inputs[0].script_sig)


def pushed(*items: bytes) -> bytes:
    return b"".join(bytes((len(item),)) + item for item in items)


def high_s(signature: bytes) -> bytes:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    r = signature[4 : 4 + signature[3]]
    s = order - int.from_bytes(signature[6 + signature[3] : -1], "big")
    number = s.to_bytes(s.bit_length() // 8 + 1, "big")
    body = b"\x02" + bytes((len(r),)) + r + b"\x02" + bytes((len(number),)) + number
    return b"\x30" + bytes((len(body),)) + body + signature[-1:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: pushed(p[0][:-2] + bytes((p[0][-2] ^ 1,)) + p[0][-1:], p[1]), "must be zero"),
        (lambda p: pushed(p[0][:-1] + b"\x02", p[1]), "must be zero"),
        (lambda p: pushed(p[0][:-1] + b"\x05", p[1]), "hash type"),
        (lambda p: pushed(p[0][:-1], p[1]), "Non-canonical DER|hash type"),
        (lambda p: pushed(high_s(p[0]), p[1]), "S value is unnecessarily high"),
        (lambda p: pushed(p[0], Key(b"\x05" * 32).public_key), "OP_EQUALVERIFY"),
        (lambda p: pushed(b"", p[1]), "false/empty top"),
        (lambda p: pushed(p[1]), "not valid with the current stack"),
        (lambda p: pushed(b"x", *p), "exactly one"),
        (lambda p: b"", "not valid with the current stack"),
    ],
)
def test_a_wrong_signature_is_refused_in_cores_words(node, purse, change, reason) -> None:
    code, text = refusal(node, spoiled(purse.pay(), change))
    assert code == -26
    assert text.startswith(SCRIPT_FAILURE)
    assert any(part in text for part in reason.split("|"))
    node.submit(purse.pay())


def test_two_of_three_keys_spend_a_p2sh_output_and_one_does_not(node, purse) -> None:
    keys = [Key(bytes((n,)) * 32) for n in (1, 2, 3)]
    redeem_script = multisig_script(2, [key.public_key for key in keys])
    script = script_of_redeem_script(redeem_script)
    raw = purse.pay(TxOut(70_000, script))
    node.submit(raw)
    node.generate(1, STRANGER)
    spends = TxIn(parse_transaction(raw).txid, 0, b"", 0xFFFFFFFF)
    pays = [TxOut(50_000, STRANGER)]
    good = KeyRing(keys[1:], [redeem_script]).sign(1, [spends], pays, 0, [script])
    for change, reason in (
        (
            lambda p: b"\x00" + pushed(p[2], p[1]) + b"\x4c" + pushed(p[3]),
            "must be zero for failed",
        ),
        (lambda p: b"\x51" + pushed(p[1], p[2]) + b"\x4c" + pushed(p[3]), "Dummy"),
        (lambda p: b"\x00" + pushed(p[1]) + b"\x4c" + pushed(p[3]), "current stack size"),
        (lambda p: b"\x00\x00" + pushed(p[1], p[2]) + b"\x4c" + pushed(p[3]), "exactly one"),
        (lambda p: b"\x00" + pushed(p[1], p[2], b"\x51"), "false/empty"),
    ):
        code, text = refusal(node, spoiled(good, change))
        assert (code, text.startswith(SCRIPT_FAILURE)) == (-26, True)
        assert reason in text
    node.submit(good)


def test_kinds_of_scripts_that_are_not_checked_are_not_spent(node, purse) -> None:
    scripts = [b"\x00\x20" + b"\x01" * 32, p2sh_script(b"\x01" * 20)]
    raw = purse.pay(*(TxOut(70_000, script) for script in scripts))
    txid = node.submit(raw)
    for index, reason in ((0, "only p2pkh and p2sh multisig"), (1, SCRIPT_FAILURE)):
        spends = TxIn(txid, index, b"\x01\x51", 0xFFFFFFFF)
        spending = serialize_transaction(1, [spends], [TxOut(50_000, STRANGER)], 0)
        code, text = refusal(node, spending)
        assert code == -26
        assert reason in text


@pytest.mark.parametrize(
    ("outputs", "fee", "reason"),
    [
        ([TxOut(545, STRANGER)], 10_000, "dust"),
        ([TxOut(0, b"\x6a\x4c\x51" + b"x" * 81)], 10_000, "datacarrier"),
        ([TxOut(0, b"\x6a\x01a"), TxOut(0, b"\x6a\x01b")], 10_000, "multi-op-return"),
        ([TxOut(1000, b"\x75\x51")], 10_000, "scriptpubkey"),
        ([TxOut(1000, STRANGER)], 100, "min relay fee not met"),
        ([TxOut(1000, b"\x51" * 100_000)], 10_000, "tx-size"),
    ],
)
def test_what_other_nodes_would_not_pass_on_is_refused(node, purse, outputs, fee, reason) -> None:
    code, text = refusal(node, purse.pay(*outputs, fee=fee))
    assert code == -26
    assert reason in text
    node.submit(purse.pay(TxOut(546, STRANGER), TxOut(0, b"\x6a\x4c\x50" + b"x" * 80)))


def test_money_is_not_made_and_a_slip_of_the_fee_is_caught(node, client, purse) -> None:
    spends, value = purse.coin()
    too_much = purse.ring.sign(1, [spends], [TxOut(value + 1, STRANGER)], 0, [purse.script])
    assert refusal(node, too_much)[1].startswith("bad-txns-in-belowout, value in (50.00000000)")
    twice = purse.ring.sign(1, [spends, spends], [TxOut(1000, STRANGER)], 0, [purse.script] * 2)
    assert refusal(node, twice) == (-26, "bad-txns-inputs-duplicate")
    dear = purse.pay(fee=100_000_000).hex()
    assert error_of(client, "sendrawtransaction", dear) == (
        -25,
        "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
    )
    assert client.call("sendrawtransaction", dear, 0)


def test_locks_in_time_hold(node, purse) -> None:
    def sent(version: int, sequence: int, locktime: int) -> str:
        spends, value = purse.coin(2)  # the first whose parent's median is not genesis
        spends = spends._replace(sequence=sequence)
        pays = [TxOut(value - 10_000, STRANGER)]
        return refusal(node, purse.ring.sign(version, [spends], pays, locktime, [purse.script]))[1]

    assert sent(1, 0, node.height + 1) == "non-final"
    assert sent(1, 0, NOW + 10_000) == "non-final"
    assert sent(2, 500, 0) == "non-BIP68-final"
    assert sent(2, 1 << 22 | 50_000, 0) == "non-BIP68-final"
    spends, value = purse.coin()
    pays = [TxOut(value - 10_000, STRANGER)]
    spends = spends._replace(sequence=100)
    node.submit(purse.ring.sign(2, [spends], pays, node.height, [purse.script]))


# Branches


def test_a_reorganisation_returns_transactions_and_follows_the_most_work(
    node, client, purse
) -> None:
    fork = node.tip
    first = purse.pay(TxOut(70_000, STRANGER))
    node.submit(first)
    (lost,) = node.generate(1, purse.script)
    spends, value = purse.change_of(first)
    second = purse.pay(spends=spends, value=value)
    node.submit(second)
    node.invalidate(lost)
    assert node.tip == fork
    assert client.call("getrawmempool") == [
        hash_hex(parse_transaction(raw).txid) for raw in (first, second)
    ]
    assert node.unspent(STRANGER) == []
    other = node.generate(2, STRANGER)
    assert lost not in other
    assert client.call("getblockheader", hash_hex(lost))["confirmations"] == -1
    assert node.mempool_size == 0
    node.reconsider(lost)
    assert node.tip == other[-1]
    node.invalidate(other[0])
    assert node.tip == lost
    node.reconsider(other[1])
    assert node.tip == other[1]
    for act in (node.invalidate, node.reconsider):
        with pytest.raises(KeyError):
            act(bytes(32))


def test_a_double_spend_on_the_other_branch_drops_what_built_on_it(node, client, purse) -> None:
    first = purse.pay(TxOut(70_000, STRANGER))
    rival = purse.pay(TxOut(80_000, STRANGER))
    node.submit(first)
    (lost,) = node.generate(1, purse.script)
    spends, value = purse.change_of(first)
    node.submit(purse.pay(spends=spends, value=value))
    node.invalidate(lost)
    raws = [coinbase(node.height + 1, 99, 0, STRANGER), rival]
    assert client.call("submitblock", mine(node.tip, NOW + 50, raws).hex()) is None
    assert node.mempool_size == 0
    assert [coin.value for coin in node.unspent(STRANGER) if coin.value] == [80_000]


@settings(max_examples=sampled(25), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("mpir"), st.integers(0, 5)), max_size=25))
def test_any_history_of_branches_leaves_the_coins_of_a_straight_replay(steps) -> None:
    chain = SandboxChain(clock)
    key = Key(b"\x07" * 32)
    ring = KeyRing([key])
    chain.generate(103, key.script)
    fork = chain.height
    seen = [chain.tip.hash]
    for verb, number in steps:
        if verb == "m":
            seen += chain.generate(1 + number % 2, key.script)
        elif verb == "p":
            coin = chain.unspent(key.script)[number % 3]
            spends = TxIn(coin.txid, coin.output_index, b"", 0xFFFFFFFF)
            pays = [TxOut(max(coin.value - 10_000, 600), key.script)]
            try:
                chain.submit(ring.sign(1, [spends], pays, 0, [key.script]))
            except Rejected as refused:
                assert refused.code in (-25, -26)  # noqa: PT017
        elif verb == "i" and chain.height > fork:
            chain.invalidate(chain.at_height(max(fork + 1, chain.height - number)).hash)
        elif verb == "r":
            chain.reconsider(seen[number % len(seen)])
    straight = SandboxChain(clock)
    for height in range(1, chain.height + 1):
        straight.accept_block(chain.at_height(height).raw)
    assert straight.tip.hash == chain.tip.hash
    assert straight.unspent(key.script) == chain.unspent(key.script)
    assert len(straight.coins) == len(chain.coins)
    for entry in chain.mempool:
        straight.submit(entry.raw)


# The door


def test_errors_have_cores_codes(client) -> None:
    unknown = "00" * 32
    assert error_of(client, "getblockhash", 1) == (-8, "Block height out of range")
    assert error_of(client, "getblockhash", -1) == (-8, "Block height out of range")
    assert error_of(client, "getblock", unknown) == (-5, "Block not found")
    assert error_of(client, "getblockheader", unknown) == (-5, "Block not found")
    assert error_of(client, "getrawtransaction", unknown) == (
        -5,
        "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
    )
    assert error_of(client, "getrawtransaction", unknown, 0, unknown) == (
        -5,
        "Block hash not found",
    )
    assert error_of(client, "getblock", "00")[0] == -8
    assert error_of(client, "getblock", "zz" * 32)[0] == -8
    assert error_of(client, "getblock")[0] == -1
    assert error_of(client, "getblockhash", "1")[0] == -3
    assert error_of(client, "getblockhash", 2**40)[0] == -1
    assert error_of(client, "sendrawtransaction", "zz")[0] == -22
    assert error_of(client, "generatetoaddress", 1, "nonsense")[0] == -5
    assert error_of(client, "estimatesmartfee", 0)[0] == -8
    for hidden in ("nonsense", "_block", "__init__", "reply_to", ""):
        assert error_of(client, hidden) == (-32601, "Method not found")


def test_the_small_questions_are_answered(node, client) -> None:
    node.generate(2, STRANGER)
    assert client.call("getbestblockhash") == hash_hex(node.tip)
    assert client.call("getnetworkinfo")["relayfee"] == Decimal("0.00001")
    assert client.call("estimatesmartfee", 6) == {
        "errors": ["Insufficient data or no feerate found"],
        "blocks": 6,
    }
    assert "getblock" in client.call("help")
    assert client.call("getindexinfo")["txindex"]["best_block_height"] == 2
    address = script_address(STRANGER, REGTEST)
    (mined,) = client.call("generatetoaddress", 1, address)
    assert client.call("generateblock", address, [])["hash"] != mined
    assert client.call("generatetoaddress", 1, "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202")
    header = client.call("getblockheader", mined)
    assert (header["height"], header["nTx"], header["confirmations"]) == (3, 1, 3)
    assert header["previousblockhash"] == client.call("getblockhash", 2)
    assert header["nextblockhash"] == client.call("getblockhash", 4)


def test_nobody_is_let_in_without_the_credentials(node) -> None:
    for user, password in (("", ""), ("__cookie__", "wrong"), ("é", "ü")):
        other = BitcoinNode(f"http://127.0.0.1:{node.port}", user=user, password=password)
        with pytest.raises(NodeRefused):
            other.call("getblockcount")
    with SandboxNode(user="me", password="p@ss:/") as named:
        assert named.cookie_file is None
        assert BitcoinNode(named.url).call("getblockcount") == 0


def test_the_door_takes_posts_of_bounded_size_and_nothing_else(node) -> None:
    def status(method: str, path: str, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
        connection.request(method, path, headers=headers)
        answered = connection.getresponse().status
        connection.close()
        return answered

    assert status("GET", "/", {}) == 405
    assert status("POST", "/", {"Content-Length": "99999999999"}) == 413
    assert status("POST", "/", {"Content-Length": "-1"}) == 411
    assert status("POST", "/elsewhere", {"Content-Length": "0"}) == 404
    assert status("POST", "/", {"Content-Length": "0"}) == 401


def test_three_envelopes_are_spoken_and_nonsense_is_answered(node) -> None:
    def reply(body: object) -> tuple[int, object]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, text = node.reply_to(raw)
        return status, json.loads(text) if text else None

    ask = {"method": "getblockcount", "id": "x"}
    assert reply(ask) == (200, {"result": 0, "error": None, "id": "x"})
    assert reply({**ask, "jsonrpc": "2.0"}) == (200, {"jsonrpc": "2.0", "result": 0, "id": "x"})
    assert reply({"jsonrpc": "2.0", "method": "getblockcount"}) == (204, None)
    assert reply({**ask, "method": "nope"})[0] == 404
    strict = reply({**ask, "method": "nope", "jsonrpc": "2.0"})
    assert strict[0] == 200
    assert "result" not in strict[1]
    assert reply({**ask, "params": {"height": 0}, "method": "getblockhash"})[0] == 200
    status, batch = reply([ask, {**ask, "method": "getblockhash", "params": [9]}, 7])
    assert status == 200
    assert [part["error"] and part["error"]["code"] for part in batch] == [None, -8, -32600]
    for bad, status in (
        (b"{", 500),
        (b"\xff", 500),
        (b"7", 400),
        (b"[" * 99999, 500),
        (b'{"method": 7}', 400),
        (b'{"method": "getblockcount", "params": 7}', 400),
    ):
        assert reply(bad)[0] == status
    assert reply([ask] * 5001)[0] == 400


@settings(max_examples=sampled(100), deadline=None)
@given(
    st.sampled_from(
        [
            "getblock",
            "getblockhash",
            "getblockheader",
            "getrawtransaction",
            "sendrawtransaction",
            "gettxout",
            "listunspent",
            "estimatesmartfee",
            "generatetoaddress",
            "submitblock",
            "invalidateblock",
            "generateblock",
            "getrawmempool",
        ]
    ),
    st.lists(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=70)
        | st.sampled_from(["00" * 32, REGTEST.genesis_hash, [], {}, [1], ["x"]]),
        max_size=4,
    ),
)
def test_no_parameters_make_it_fail_inside(method, params) -> None:
    node = SandboxNode(clock=clock)
    status, text = node.reply_to(json.dumps({"method": method, "params": params}).encode())
    assert status in (200, 404, 500, 400)
    error = json.loads(text)["error"]
    assert error is None or "internal" not in error["message"]


def test_stop_over_rpc_ends_the_node() -> None:
    node = SandboxNode()
    node.start()
    client = BitcoinNode(node.url)
    assert "stopping" in client.call("stop")
    assert node.stopping.wait(5)
    node.stop()
    with pytest.raises(NodeUnavailable):
        client.call("getblockcount")


# On disk


def test_everything_answered_for_survives_without_a_goodbye(tmp_path: Path) -> None:
    with SandboxNode(tmp_path / "live", clock=clock) as node:
        purse = Purse(node)
        purse.fill(2)
        (lost,) = node.generate(1, STRANGER)
        node.invalidate(lost)
        kept = node.generate(2, STRANGER)
        waiting = purse.pay(TxOut(70_000, STRANGER))
        txid = node.submit(waiting)
        # What a killed process leaves is what the file holds at this moment.
        copied = (tmp_path / "live" / "chain.dat").read_bytes()
    for torn in (b"", b"B", b"B\xff\x00\x00\x00half a block"):
        place = tmp_path / f"torn{len(torn)}"
        place.mkdir()
        (place / "chain.dat").write_bytes(copied + torn)
        with SandboxNode(place, clock=clock) as again:
            assert again.tip == kept[-1]
            assert BitcoinNode(again.url).call("getrawmempool") == [hash_hex(txid)]
            assert again.generate(1, STRANGER)
        with SandboxNode(place, clock=clock) as again:
            assert again.height == node.height + 1
            assert again.mempool_size == 0


def test_a_damaged_block_is_dropped_with_what_builds_upon_it(tmp_path: Path) -> None:
    with SandboxNode(tmp_path, clock=clock) as node:
        hashes = node.generate(10, STRANGER)
        raw = BitcoinNode(node.url).raw_blocks([hashes[5]])[0]
    content = bytearray((tmp_path / "chain.dat").read_bytes())
    content[content.index(raw) + 100] ^= 1
    (tmp_path / "chain.dat").write_bytes(content)
    with SandboxNode(tmp_path, clock=clock) as again:
        assert again.tip == hashes[4]
        assert again.generate(1, b"\x51")
    with SandboxNode(tmp_path, clock=clock) as again:
        assert again.height == 6


def test_a_directory_has_one_node_at_a_time_and_a_private_cookie(tmp_path: Path) -> None:
    with SandboxNode(tmp_path) as node:
        assert stat.S_IMODE(os.stat(node.cookie_file).st_mode) == 0o600
        with pytest.raises(StoreError, match="in use by another process"):
            SandboxNode(tmp_path).start()
    assert not (tmp_path / ".cookie").exists()
    (tmp_path / "chain.dat").write_bytes(b"something else altogether")
    with pytest.raises(StoreError, match="no chain of a sandbox node"):
        SandboxNode(tmp_path).start()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the directory"):
        SandboxNode(tmp_path / "file" / "below").start()


def test_many_blocks_are_mined_and_read_back_quickly(tmp_path: Path) -> None:
    with SandboxNode(tmp_path, clock=clock) as node:
        began = time.perf_counter()
        hashes = node.generate(times(4_000, 17_000, 17_000), STRANGER, spacing=1)
        mined = time.perf_counter() - began
    began = time.perf_counter()
    with SandboxNode(tmp_path, clock=clock) as again:
        read = time.perf_counter() - began
        assert again.tip == hashes[-1]
    # Ten times what a slow machine needs: only a change of the order of growth fails here.
    assert mined < 20
    assert read < 20
