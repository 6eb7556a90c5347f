"""The sandbox node's wallet answers as Bitcoin Core's does, and loses no key over a restart."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from embit.psbt import PSBT
from embit.transaction import Transaction as EmbitTransaction
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.bitcoin.spending import verify_input
from indexer.bitcoin.transactions import (
    TxOut,
    address_script,
    p2pkh_script,
    parse_transaction,
    script_address,
    serialize_transaction,
)
from indexer.networks import REGTEST
from indexer.node.node import BitcoinNode, NodeRpcError
from indexer.sandbox.node import SandboxNode
from tests.indexer.node.fakes import Purse
from tests.rings import sampled

NOW = 1_700_000_000
STRANGER = p2pkh_script(b"\x09" * 20)
ELSEWHERE = script_address(STRANGER, REGTEST)
UNKNOWN = "11" * 32


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def node(clock):
    with SandboxNode(clock=clock, fee_rate=2_000) as sandbox:
        sandbox.generate(3, sandbox.wallet_script("mined"))
        sandbox.generate(100, STRANGER)
        yield sandbox


@pytest.fixture
def client(node):
    return BitcoinNode(node.url)


def error_of(client: BitcoinNode, method: str, *params: object) -> tuple[int, str]:
    with pytest.raises(NodeRpcError) as failure:
        client.call(method, *params)
    return failure.value.code, failure.value.message


def spent_scripts(client: BitcoinNode, raw: str) -> list[bytes]:
    scripts = []
    for spending in parse_transaction(bytes.fromhex(raw)).inputs:
        before = client.raw_transaction(spending.previous_txid)
        scripts.append(parse_transaction(before).outputs[spending.previous_index].script)
    return scripts


# Addresses and coins


def test_new_addresses_are_legacy_labelled_and_ours(client) -> None:
    first = client.call("getnewaddress", "alice", "legacy")
    second = client.call("getnewaddress")
    assert first != second
    shown = client.call("getaddressinfo", first)
    assert (shown["ismine"], shown["solvable"], shown["labels"]) == (True, True, ["alice"])
    assert shown["scriptPubKey"] == address_script(first, REGTEST).hex()
    assert shown["desc"].startswith(f"pkh({shown['pubkey']})#")
    assert client.call("getaddressinfo", second)["labels"] == [""]
    change = client.call("getaddressinfo", client.call("getrawchangeaddress", "legacy"))
    assert (change["ischange"], change["labels"]) == (True, [])
    other = client.call("getaddressinfo", ELSEWHERE)
    assert (other["ismine"], other["solvable"]) == (False, False)
    assert error_of(client, "getnewaddress", "x", "nonsense") == (
        -5,
        "Unknown address type 'nonsense'",
    )
    assert error_of(client, "getnewaddress", "x", "bech32") == (
        -12,
        "Error: No bech32 addresses available.",
    )
    assert error_of(client, "getnewaddress", "*") == (-11, "Invalid label name")
    assert error_of(client, "getaddressinfo", "nonsense")[0] == -5


def test_coins_are_shown_with_what_can_be_done_with_them(node, client) -> None:
    (found, *_) = coins = client.call("listunspent")
    assert len(coins) == 3
    assert found["label"] == "mined"
    assert (found["spendable"], found["solvable"], found["safe"]) == (True, True, True)
    assert found["amount"] == 50
    assert client.call("listunspent", 1, 9999999, [], True, {"minimumAmount": 51}) == []
    assert len(client.call("listunspent", 1, 9999999, [found["address"]])) == 3
    (watched,) = client.call("listunspent", 1, 1, [ELSEWHERE], True, IMMATURE)
    assert (watched["spendable"], watched["solvable"]) == (False, False)
    assert error_of(client, "listunspent", 1, 9, [ELSEWHERE, ELSEWHERE])[0] == -8
    node.generate(1, node.wallet_script("later"))
    assert len(client.call("listunspent")) == 3
    assert len(client.call("listunspent", 1, 9999999, [], True, IMMATURE)) == 4
    balances = client.call("getbalances")["mine"]
    assert (balances["trusted"], balances["immature"]) == (150, 50)
    assert client.call("getbalance") == 150


IMMATURE = {"include_immature_coinbase": True}


def test_change_of_our_own_is_safe_and_what_others_send_is_not(node, client) -> None:
    purse = Purse(node)
    purse.fill(1)
    address = client.call("getnewaddress", "shop", "legacy")
    node.submit(purse.pay(TxOut(10**8, address_script(address, REGTEST))))
    (waiting,) = client.call("listunspent", 0, 0)
    assert (waiting["safe"], waiting["confirmations"]) == (False, 0)
    assert client.call("listunspent", 0, 0, [], False) == []
    assert client.call("getbalances")["mine"]["untrusted_pending"] == 1
    txid = client.call("sendtoaddress", ELSEWHERE, "1.5")
    (change, _) = sorted(client.call("listunspent", 0, 0), key=lambda c: -c["amount"])
    assert (change["txid"], change["safe"]) == (txid, True)
    assert "label" not in change
    assert 0 < client.call("getmempoolentry", txid)["fees"]["base"] < Decimal("0.00001")
    node.generate(1, STRANGER)
    assert client.call("getbalances")["mine"]["untrusted_pending"] == 0


def test_locked_coins_are_not_chosen_until_they_are_let_go(client) -> None:
    coins = [{"txid": c["txid"], "vout": c["vout"]} for c in client.call("listunspent")]
    assert client.call("lockunspent", False, coins[:2])
    assert client.call("listlockunspent") == coins[:2]
    assert len(client.call("listunspent")) == 1
    assert error_of(client, "sendtoaddress", ELSEWHERE, 60) == (-6, "Insufficient funds")
    assert error_of(client, "lockunspent", False, coins[:1]) == (
        -8,
        "Invalid parameter, output already locked",
    )
    assert client.call("lockunspent", False, coins[:1], True)
    assert client.call("lockunspent", True, coins[:1])
    assert error_of(client, "lockunspent", True, coins[:1]) == (
        -8,
        "Invalid parameter, expected locked output",
    )
    assert client.call("lockunspent", True)
    assert client.call("listlockunspent") == []
    for wrong, words in (
        ({"txid": UNKNOWN, "vout": 0}, "unknown transaction"),
        ({**coins[0], "vout": 7}, "expected unspent output"),
        ({**coins[0], "vout": -1}, "vout cannot be negative"),
        ({"txid": UNKNOWN}, "missing vout key"),
    ):
        assert words in error_of(client, "lockunspent", False, [wrong])[1]
    client.call("sendtoaddress", ELSEWHERE, 140)
    assert "expected unspent" in error_of(client, "lockunspent", False, coins[:1])[1]


# Paying


def test_a_raw_transaction_is_signed_and_sent(node, client) -> None:
    coins = client.call("listunspent")[:2]
    bare = client.call("createrawtransaction", list(map(coin_of, coins)), [{ELSEWHERE: "99.9999"}])
    unsigned = parse_transaction(bytes.fromhex(bare))
    assert unsigned.outputs == (TxOut(99_9999 * 10**4, STRANGER),)
    assert [spent.sequence for spent in unsigned.inputs] == [0xFFFFFFFD] * 2
    signed = client.call("signrawtransactionwithwallet", bare)
    assert signed["complete"]
    transaction = parse_transaction(bytes.fromhex(signed["hex"]))
    for place, script in enumerate(spent_scripts(client, signed["hex"])):
        verify_input(transaction, place, script)
    txid = client.call("sendrawtransaction", signed["hex"])
    assert client.call("getrawmempool") == [txid]
    node.generate(1, STRANGER)
    assert client.call("gettxout", txid, 0)["confirmations"] == 1
    for inputs, outputs, code in (([], {ELSEWHERE: 1}, -8), ([coin_of(coins[0])], [7], -3)):
        assert error_of(client, "createrawtransaction", inputs, outputs)[0] == code


def test_change_goes_to_an_address_that_is_shown_as_such(client) -> None:
    txid = client.call("sendtoaddress", ELSEWHERE, 1)
    paid, change = client.call("getrawtransaction", txid, 1)["vout"]
    assert paid["scriptPubKey"]["address"] == ELSEWHERE
    assert client.call("getaddressinfo", change["scriptPubKey"]["address"])["ischange"]
    whole = client.call("sendtoaddress", ELSEWHERE, "49.999995")
    assert len(client.call("getrawtransaction", whole, 1)["vout"]) == 1


@pytest.mark.parametrize(
    ("rate", "code", "words"),
    [
        (0.5, -6, "lower than the minimum"),
        ("x", -3, "Invalid amount"),
        (1.2345, -3, "out of range"),
    ],
)
def test_rates_that_cannot_be_met_are_refused_in_cores_words(client, rate, code, words):
    more = ["", "", False, True, None, None, None, rate]
    found = error_of(client, "sendtoaddress", ELSEWHERE, 1, *more)
    assert found[0] == code
    assert words in found[1]


def test_money_that_is_not_there_is_not_spent(node, client) -> None:
    assert error_of(client, "sendtoaddress", ELSEWHERE, 151) == (-6, "Insufficient funds")
    poor = SandboxNode()
    poor.generate(1, STRANGER)
    with poor:
        found = error_of(BitcoinNode(poor.url), "sendtoaddress", ELSEWHERE, 1)
    assert found[0] == -6
    assert "Fallbackfee is disabled" in found[1]


def coin_of(shown: dict) -> dict:
    return {"txid": shown["txid"], "vout": shown["vout"]}


def test_what_the_wallet_cannot_sign_is_told_input_by_input(node, client) -> None:
    purse = Purse(node)
    purse.fill(1)
    foreign = client.call("listunspent", 1, 999, [script_address(purse.script, REGTEST)])[0]
    mine = client.call("listunspent")[0]
    inputs = [coin_of(mine), coin_of(foreign), {"txid": UNKNOWN, "vout": 3}]
    raw = client.call("createrawtransaction", inputs, {ELSEWHERE: 1})
    result = client.call("signrawtransactionwithwallet", raw)
    assert result["complete"] is False
    assert [flaw["error"] for flaw in result["errors"]] == [
        "Unable to sign input, invalid stack size (possibly missing key)",
        "Input not found or already spent",
    ]
    half = parse_transaction(bytes.fromhex(result["hex"]))
    assert [bool(spent.script_sig) for spent in half.inputs] == [True, False, False]
    other = purse.ring.sign(2, half.inputs[1:2], half.outputs, 0, [purse.script])
    lent = parse_transaction(other).inputs[0].script_sig
    both = serialize_transaction(2, [half.inputs[1]._replace(script_sig=lent)], half.outputs, 0)
    again = client.call("signrawtransactionwithwallet", both.hex())
    assert again == {"hex": both.hex(), "complete": True}  # what others signed stays
    assert error_of(client, "signrawtransactionwithwallet", "00")[0] == -22


def psbt_of(client: BitcoinNode) -> str:
    """A payment of two of the wallet's coins that nobody has signed."""
    coins = list(map(coin_of, client.call("listunspent")[:2]))
    bare = client.call("createrawtransaction", coins, {ELSEWHERE: "99.9999"})
    form = PSBT(EmbitTransaction.parse(bytes.fromhex(bare)))
    for scope, coin in zip(form.inputs, coins, strict=True):
        before = client.call("getrawtransaction", coin["txid"])
        scope.non_witness_utxo = EmbitTransaction.parse(bytes.fromhex(before))
    return str(form.to_base64())


def test_a_psbt_is_signed_and_finalised(client) -> None:
    made = psbt_of(client)
    assert client.call("walletprocesspsbt", made, False)["complete"] is False
    apart = client.call("walletprocesspsbt", made, True, "ALL", True, False)
    assert apart["complete"] is False
    assert all(len(scope.partial_sigs) == 1 for scope in PSBT.from_string(apart["psbt"]).inputs)
    whole = client.call("walletprocesspsbt", made)
    assert whole["complete"]
    assert client.call("walletprocesspsbt", apart["psbt"])["hex"] == whole["hex"]
    assert client.call("walletprocesspsbt", whole["psbt"])["hex"] == whole["hex"]
    client.call("sendrawtransaction", whole["hex"])
    for bad in ("x", "", "cHNidP8="):
        assert error_of(client, "walletprocesspsbt", bad)[0] == -22


def test_the_same_psbt_is_finalised_by_rust_bitcoin_to_the_same_bytes(client) -> None:
    bdk = pytest.importorskip("bdkpython")
    made = psbt_of(client)
    apart = client.call("walletprocesspsbt", made, True, "ALL", True, False)["psbt"]
    result = bdk.Psbt(apart).finalize()
    assert result.could_finalize
    raw = bytes(result.psbt.extract_tx_unchecked_fee_rate().serialize())
    assert client.call("walletprocesspsbt", made)["hex"] == raw.hex()


@settings(max_examples=sampled(12), deadline=None)
@given(st.lists(st.tuples(st.integers(10_000, 60 * 10**8), st.booleans()), max_size=8))
def test_no_payments_make_or_lose_money(payments: list[tuple[int, bool]]) -> None:
    node = SandboxNode(clock=Clock(), fee_rate=3_000)
    node.generate(3, node.wallet_script("mined"))
    node.generate(100, STRANGER)

    def call(method: str, *params: object) -> dict:
        body = json.dumps({"method": method, "params": params}).encode()
        return json.loads(node.reply_to(body)[1], parse_float=Decimal)

    def balance() -> int:
        mine = call("getbalances")["result"]["mine"]
        return int(10**8 * sum(mine.values()))

    for satoshis, mined in payments:
        before = balance()
        reply = call("sendtoaddress", ELSEWHERE, f"{satoshis / 10**8:.8f}")
        if reply["error"] is None:
            fee = call("getmempoolentry", reply["result"])["result"]["fees"]["base"]
            assert balance() == before - satoshis - int(fee * 10**8)
        else:
            assert reply["error"]["code"] == -6
            assert balance() == before < satoshis + 10_000
        if mined:
            after = balance()
            node.generate(1, STRANGER)
            assert (balance(), node.mempool_size) == (after, 0)


# What can be wrong with a wallet


def test_a_locked_wallet_signs_nothing_until_the_passphrase_is_given(node, client, clock) -> None:
    assert error_of(client, "walletpassphrase", "open sesame", 60)[0] == -15
    node.switches.wallet_passphrase = "open sesame"
    assert "sesame" not in repr(node.switches)
    coin = coin_of(client.call("listunspent")[0])
    funded = client.call("createrawtransaction", [coin], {ELSEWHERE: 1})
    made = psbt_of(client)
    locked = (-13, "Error: Please enter the wallet passphrase with walletpassphrase first.")
    assert error_of(client, "signrawtransactionwithwallet", funded) == locked
    assert error_of(client, "walletprocesspsbt", made) == locked
    assert error_of(client, "sendtoaddress", ELSEWHERE, 1) == locked
    assert client.call("getwalletinfo")["unlocked_until"] == 0
    assert error_of(client, "walletpassphrase", "wrong", 60)[0] == -14
    assert error_of(client, "walletpassphrase", "", 60)[0] == -8
    assert error_of(client, "walletpassphrase", "open sesame", -1)[0] == -8
    client.call("walletpassphrase", "open sesame", 60)
    assert client.call("getwalletinfo")["unlocked_until"] == NOW + 60
    assert client.call("signrawtransactionwithwallet", funded)["complete"]
    clock.now += 60
    assert error_of(client, "signrawtransactionwithwallet", funded) == locked


def test_a_wallet_may_be_unable_to_make_legacy_addresses(node, client) -> None:
    node.switches.legacy_addresses = False
    assert error_of(client, "getnewaddress", "x", "legacy") == (
        -12,
        "Error: No legacy addresses available.",
    )


def test_the_wallet_that_is_named_is_asked_and_none_is_an_error(node, client) -> None:
    assert client.call("listwallets") == [""]
    client.call("createwallet", "second one")
    assert client.call("listwallets") == ["", "second one"]
    assert error_of(client, "getnewaddress")[0] == -19
    other = BitcoinNode(f"{node.url}/wallet/second%20one")
    mine = BitcoinNode(f"{node.url}/wallet/")
    assert other.call("getwalletinfo")["walletname"] == "second one"
    assert (len(other.call("listunspent")), len(mine.call("listunspent"))) == (0, 3)
    address = other.call("getnewaddress")
    assert not mine.call("getaddressinfo", address)["ismine"]
    assert error_of(BitcoinNode(f"{node.url}/wallet/third"), "getwalletinfo") == (
        -18,
        "Requested wallet does not exist or is not loaded",
    )
    client.call("unloadwallet", "second one")
    assert error_of(client, "loadwallet", "")[0] == -35
    assert error_of(client, "loadwallet", "third")[0] == -18
    assert error_of(client, "createwallet", "second one")[0] == -36
    assert client.call("loadwallet", "second one") == {"name": "second one"}
    assert other.call("getaddressinfo", address)["ismine"]
    node.switches.wallet_loaded = False
    assert client.call("listwallets") == []
    code, words = error_of(client, "getnewaddress")
    assert code == -18
    assert words.startswith("No wallet is loaded.")
    assert len(client.call("listunspent", 1, 9999, [ELSEWHERE], True, IMMATURE)) == 100
    client.call("loadwallet", "")
    assert len(client.call("listunspent")) == 3


def test_keys_labels_and_lasting_locks_outlive_a_kill(tmp_path: Path) -> None:
    node = SandboxNode(tmp_path, fee_rate=1_000)
    node.start()
    client = BitcoinNode(node.url)
    first = client.call("getnewaddress", "kept", "legacy")
    node.generate(2, address_script(first, REGTEST))
    node.generate(100, STRANGER)
    client.call("createwallet", "other")
    other = BitcoinNode(f"{node.url}/wallet/other").call("getnewaddress")
    mine = BitcoinNode(f"{node.url}/wallet/")
    coins = [coin_of(coin) for coin in mine.call("listunspent")]
    mine.call("lockunspent", False, coins[:1], True)
    mine.call("lockunspent", False, coins[1:])
    content = (tmp_path / "chain.dat").read_bytes()
    node.stop()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "chain.dat").write_bytes(content)  # as it was before the goodbye
    with SandboxNode(tmp_path / "again") as again:
        client = BitcoinNode(again.url)
        assert client.call("listwallets") == [""]
        assert client.call("listlockunspent") == coins[:1]
        assert client.call("getaddressinfo", first)["labels"] == ["kept"]
        assert client.call("getnewaddress") != first
        client.call("loadwallet", "other")
        assert BitcoinNode(f"{again.url}/wallet/other").call("getaddressinfo", other)["ismine"]


# Coins of anybody


def test_the_unspent_outputs_of_any_script_are_found(node, client) -> None:
    script = node.wallet_script("scanned")
    node.generate(2, script)
    address = script_address(script, REGTEST)
    for described in (f"addr({address})", f"raw({script.hex()})", {"desc": f"addr({address})"}):
        found = client.call("scantxoutset", "start", [described, f"addr({ELSEWHERE})"])
        mine = [coin for coin in found["unspents"] if coin["scriptPubKey"] == script.hex()]
        assert [coin["height"] for coin in mine] == [104, 105]
        assert [coin["confirmations"] for coin in mine] == [2, 1]
        assert mine[0]["desc"].partition("#")[0] in (f"addr({address})", f"raw({script.hex()})")
        assert len(found["unspents"]) == 102
        assert (found["success"], found["height"], found["total_amount"]) == (True, 105, 5100)
        assert client.call("scantxoutset", "start", [mine[0]["desc"]])["total_amount"] == 100
    assert client.call("scantxoutset", "status") is None
    assert error_of(client, "scantxoutset", "nonsense", [])[0] == -8
    assert error_of(client, "scantxoutset", "start")[0] == -1
    for wrong in ("addr(x)", "raw(zz)", "pkh(00)", f"addr({address})#aaaaaaaa", 7):
        assert error_of(client, "scantxoutset", "start", [wrong])[0] in (-5, -3)


METHODS = """
    createrawtransaction signrawtransactionwithwallet sendtoaddress walletprocesspsbt getnewaddress
    getaddressinfo lockunspent createwallet loadwallet unloadwallet walletpassphrase scantxoutset
    listunspent getbalance
"""
VALUES = [UNKNOWN, ELSEWHERE, "start", "status", "02000000" + "00" * 6, [], [1], ["x"], {}]
VALUES += [{ELSEWHERE: 1}, {"data": "00"}, [{"txid": UNKNOWN, "vout": 0}]]


@settings(max_examples=sampled(150), deadline=None)
@given(
    st.sampled_from(METHODS.split()),
    st.lists(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=70)
        | st.sampled_from(VALUES),
        max_size=5,
    ),
)
def test_no_parameters_make_it_fail_inside(method: str, params: list[object]) -> None:
    node = SandboxNode(clock=Clock())
    status, text = node.reply_to(json.dumps({"method": method, "params": params}).encode())
    assert status in (200, 404, 500, 400)
    error = json.loads(text)["error"]
    assert error is None or "internal" not in error["message"]


def test_a_bech32_coin_is_spent_with_a_witness_that_its_block_commits_to() -> None:
    with SandboxNode(clock=lambda: 1_700_000_000) as node:
        node.switches.segwit_wallet = True
        client = BitcoinNode(node.url)
        address = client.call("getnewaddress")
        assert address.startswith("bcrt1q")
        client.call("generatetoaddress", 101, address)
        txid = client.call(
            "sendtoaddress",
            client.call("getnewaddress"),
            "1",
            "",
            "",
            False,
            True,
            None,
            None,
            None,
            3,
        )
        shown = client.call("getrawtransaction", txid, 1)
        assert shown["hash"] != shown["txid"]
        assert shown["vsize"] < shown["size"]
        assert shown["vin"][0]["txinwitness"]
        raw = bytes.fromhex(client.call("getrawtransaction", txid))
        broken = raw[:-40] + bytes((raw[-40] ^ 1,)) + raw[-39:]
        node.evict(bytes.fromhex(txid)[::-1])
        with pytest.raises(NodeRpcError, match=r"[Ss]ignature"):
            client.call("sendrawtransaction", broken.hex())
        assert client.call("sendrawtransaction", raw.hex()) == txid
        (block,) = client.call("generatetoaddress", 1, address)
        held = client.call("getblock", block, 2)
        assert held["strippedsize"] < held["size"]
        assert held["tx"][0]["vout"][1]["scriptPubKey"]["hex"].startswith("6a24aa21a9ed")
        assert held["tx"][1]["hex"] == raw.hex()
        node.invalidate(node.tip)
        assert bytes.fromhex(client.call("getrawtransaction", txid)) == raw
        node.generate(1, b"\x51")
        assert node.mempool_size == 0
