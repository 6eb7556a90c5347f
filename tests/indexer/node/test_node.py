"""The client of a node: what it asks, and that every way to fail has its name and its advice."""

import threading
from decimal import Decimal
from pathlib import Path

import pytest

from indexer.bitcoin.transactions import (
    TxOut,
    double_sha256,
    hash_hex,
    p2pkh_script,
    parse_transaction,
)
from indexer.node.node import (
    BitcoinNode,
    ChainInfo,
    NodeError,
    NodeRefused,
    NodeRpcError,
    NodeUnavailable,
)
from indexer.node.spent_outputs import Spending
from indexer.sandbox.node import SandboxNode
from tests.indexer.node.fakes import ErrorReply, FakeNode, Purse

SECRET = "p@ss:w/rd#é%"


@pytest.fixture
def fake():
    with FakeNode() as node:
        yield node


@pytest.fixture
def sandbox():
    with SandboxNode(clock=lambda: 1_700_000_000) as node:
        yield node


def client(fake: FakeNode, **settings) -> BitcoinNode:
    return BitcoinNode(fake.url, user="user", password="pass", **settings)


# Against the sandbox node


def test_the_chain_is_read_header_by_header_and_block_by_block(sandbox) -> None:
    node = BitcoinNode(sandbox.url)
    hashes = sandbox.generate(450, p2pkh_script(bytes(20)))
    tip_time = int.from_bytes(node.raw_blocks([hashes[-1]])[0][68:72], "little")
    assert node.chain_info() == ChainInfo("regtest", 450, 450, hashes[-1], False, tip_time)
    assert node.block_hash(450) == hashes[-1]
    assert node.block_hashes(range(1, 451)) == hashes
    raws = node.raw_blocks(hashes)
    assert [double_sha256(raw[:80]) for raw in raws] == hashes
    assert node.headers(hashes) == [raw[:80] for raw in raws]
    assert node.raw_blocks([hashes[7]])[0] == raws[7]
    for beyond in (lambda: node.block_hash(451), lambda: node.block_hashes([1, 451])):
        with pytest.raises(NodeRpcError) as failure:
            beyond()
        assert failure.value.code == -8
    with pytest.raises(NodeRpcError) as failure:
        node.raw_blocks([bytes(32)])[0]
    assert failure.value.code == -5


@pytest.mark.parametrize("tx_index", [True, False])
def test_spent_scripts_come_with_and_without_an_index_of_transactions(tx_index) -> None:
    with SandboxNode(clock=lambda: 1_700_000_000, tx_index=tx_index) as sandbox:
        node, purse = BitcoinNode(sandbox.url), Purse(sandbox)
        purse.fill()
        first = purse.pay(TxOut(10_000, p2pkh_script(b"\x01" * 20)))
        spends, value = purse.change_of(first)
        second = purse.pay(TxOut(20_000, p2pkh_script(b"\x02" * 20)), spends=spends, value=value)
        for raw in (first, second):
            assert node.send_transaction(raw) == parse_transaction(raw).txid
        mined = sandbox.generate(1, purse.script)[0]
        paid = [parse_transaction(raw) for raw in (first, second)]
        outpoints = {
            one.inputs[0][:2]: Spending(one.txid, (place, 0)) for place, one in enumerate(paid, 1)
        }
        expected = dict.fromkeys(outpoints, purse.script)
        assert node.spent_scripts(mined, outpoints) == expected
        one = dict(list(outpoints.items())[:1])
        assert node.spent_scripts(mined, one) == dict.fromkeys(one, purse.script)
        assert node.spent_scripts(mined, {}) == {}


def test_sending_twice_is_sending_once_also_when_it_is_mined(sandbox) -> None:
    node, purse = BitcoinNode(sandbox.url), Purse(sandbox)
    purse.fill()
    raw = purse.pay(TxOut(10_000, p2pkh_script(b"\x01" * 20)))
    txid = parse_transaction(raw).txid
    assert node.send_transaction(raw) == node.send_transaction(raw) == txid
    assert node.raw_transaction(txid) == raw
    sandbox.generate(1, purse.script)
    assert node.send_transaction(raw) == txid
    with pytest.raises(NodeRpcError, match="bad-txns-inputs-missingorspent") as failure:
        node.send_transaction(purse.pay(spends=parse_transaction(raw).inputs[0], value=30_000))
    assert failure.value.code == -25


def test_the_cookie_file_lets_in_again_after_the_node_came_back(tmp_path: Path) -> None:
    sandbox = SandboxNode(tmp_path)
    sandbox.start()
    port, cookie = sandbox.port, sandbox.cookie_file
    node = BitcoinNode(f"http://127.0.0.1:{port}", cookie_file=cookie)
    assert node.call("getblockcount") == 0
    sandbox.stop()
    with pytest.raises(NodeUnavailable, match="cookie file"):
        node.call("getblockcount")
    with SandboxNode(tmp_path, port=port) as again:
        again.generate(3, b"\x51")
        assert node.call("getblockcount") == 3


def test_each_thread_has_a_connection_of_its_own(sandbox) -> None:
    node = BitcoinNode(sandbox.url)
    hashes = sandbox.generate(50, b"\x51")
    failures: list[object] = []

    def ask() -> None:
        for height in range(1, 51):
            if node.block_hash(height) != hashes[height - 1]:
                failures.append(height)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    node.close()
    assert node.block_hash(1) == hashes[0]


# Against a node that misbehaves


def test_a_refused_connection_says_what_to_do() -> None:
    with FakeNode() as fake:
        node = client(fake)
    with pytest.raises(NodeUnavailable) as failure:
        node.call("getblockcount")
    assert str(failure.value) == (
        f"cannot reach the node at 127.0.0.1:{fake.port} (connection refused); "
        "is bitcoind running with server=1?"
    )


@pytest.mark.parametrize("bent", ["drop", "cut"])
def test_a_connection_that_breaks_off_is_named_and_the_next_call_works(fake, bent) -> None:
    fake.answers["getblockcount"] = 7
    fake.plan = [bent]
    node = client(fake)
    with pytest.raises(NodeUnavailable, match="cannot reach the node"):
        node.call("getblockcount")
    assert node.call("getblockcount") == 7


def test_a_kept_connection_that_died_costs_one_repetition_of_a_question(fake) -> None:
    fake.answers["getblockcount"] = 7
    fake.answers["sendrawtransaction"] = "ab" * 32
    node = client(fake)
    for method in ("getblockcount", "sendrawtransaction"):
        fake.plan = ["drop after", None]
        assert node.call("getblockcount") == 7
        assert node.call(method) in (7, "ab" * 32)
    fake.plan = [None, "drop", None]
    assert node.call("getblockcount") == 7
    assert node.batch([("getblockcount", ())]) == [7]
    assert len(fake.seen) == 7


def test_an_order_is_never_sent_twice(fake) -> None:
    fake.answers.update(getblockcount=7, generatetoaddress=[])
    fake.plan = [None, "drop"]
    node = client(fake)
    assert node.call("getblockcount") == 7
    with pytest.raises(NodeUnavailable):
        node.call("generatetoaddress", 1, "address")
    assert [request["method"] for request in fake.seen] == ["getblockcount", "generatetoaddress"]


def test_silence_ends_at_the_timeout(fake) -> None:
    fake.plan = ["silent"]
    fake.answers["getblockcount"] = 7
    node = client(fake, timeout=0.2)
    with pytest.raises(NodeUnavailable, match=r"did not answer within 0\.2 s"):
        node.call("getblockcount")
    assert node.call("getblockcount") == 7


def test_a_reply_that_drips_ends_too(fake) -> None:
    fake.plan = ["drip"]
    with pytest.raises(NodeUnavailable, match="did not answer within"):
        client(fake, timeout=0.05).call("getblockcount")


def test_a_new_cookie_is_read_after_a_401(fake, tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("user:pass")
    fake.answers["getblockcount"] = 7
    node = BitcoinNode(fake.url, cookie_file=cookie)
    assert node.call("getblockcount") == 7
    fake.credentials = f"__cookie__:{SECRET}"
    with pytest.raises(NodeRefused, match="HTTP 401"):
        node.call("getblockcount")
    cookie.write_text(f"__cookie__:{SECRET}\n", "utf-8")
    assert node.call("getblockcount") == 7
    cookie.write_text("user:pass")
    fake.credentials = "user:pass"
    assert node.call("getblockcount") == 7  # the kept connection shows the old one first
    cookie.unlink()
    node.close()
    with pytest.raises(NodeUnavailable, match="cookie file"):
        node.call("getblockcount")


def test_a_password_that_was_refused_is_not_shown_again_at_once(fake, monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr("indexer.node.credentials.time.monotonic", lambda: now)
    fake.answers["getblockcount"] = 7
    fake.credentials = "other:other"
    node = client(fake)
    assert node.credentials.is_lasting
    shown = []
    for seconds in (0, 1, 58, 2, 1, 118, 2):
        now += seconds
        with pytest.raises(NodeRefused, match="HTTP 401"):
            node.call("getblockcount")
        shown.append(fake.turned_away)
    assert shown == [1, 1, 1, 2, 2, 2, 3]  # after a minute, and then after two
    fake.credentials = "user:pass"
    now += 1000
    assert node.call("getblockcount") == node.call("getblockcount") == 7


def test_odd_passwords_pass_and_appear_nowhere(fake) -> None:
    fake.credentials = f"us er:{SECRET}"
    fake.answers["getblockcount"] = 7
    encoded = f"http://us%20er:p%40ss%3Aw%2Frd%23%C3%A9%25@127.0.0.1:{fake.port}"
    node = BitcoinNode(encoded)
    assert node.call("getblockcount") == 7
    assert "rd" not in repr(node)
    fake.credentials = "other:other"
    with pytest.raises(NodeRefused) as failure:
        BitcoinNode(encoded).call("getblockcount")
    assert "p%40ss" not in str(failure.value)
    assert SECRET not in str(failure.value)
    for bad in (f"ftp://user:{SECRET}@host", "127.0.0.1:8332", "http://u:hush@host:port", ""):
        with pytest.raises(ValueError, match="must look like") as flaw:
            BitcoinNode(bad)
        assert "hush" not in str(flaw.value)


@pytest.mark.parametrize(
    ("bent", "kind", "reason"),
    [
        ((503, b"Work queue depth exceeded"), NodeUnavailable, "work queue is full"),
        ((403, b""), NodeRefused, "rpcallowip"),
        (
            (500, b'{"result":null,"error":{"code":-28,"message":"Loading"},"id":1}'),
            NodeUnavailable,
            "still starting",
        ),
        (
            (500, b'{"result":null,"error":{"code":-8,"message":"Block height"},"id":1}'),
            NodeRpcError,
            "error -8: Block height",
        ),
        (b"<html>It works!</html>", NodeError, "no JSON"),
        (b"[]", NodeError, "one reply"),
        (b"7", NodeError, "one reply"),
        (b'{"error": 7}', NodeError, "no known form"),
        (b'{"error": {"code": "x"}}', NodeError, "no answer"),
        (b"{}", NodeError, "missing|no answer"),
        (b'{"result": "' + b"0" * 5000 + b'"}', NodeError, "more than 4000 bytes"),
        (b"[" * 3000, NodeError, "no JSON"),
    ],
)
def test_every_bad_reply_has_its_name_and_the_next_call_works(fake, bent, kind, reason) -> None:
    fake.answers["getblockcount"] = 7
    fake.plan = [bent]
    node = client(fake, max_reply_bytes=4000)
    with pytest.raises(kind, match=reason):
        node.call("getblockcount")
    assert node.call("getblockcount") == 7


def test_strict_replies_without_an_error_key_are_read(fake) -> None:
    fake.strict = True
    fake.answers["getblockhash"] = lambda height: f"{height:064x}"
    fake.answers["getblock"] = ErrorReply(-5, "Block not found")
    node = client(fake)
    assert node.call("getblockhash", 3) == f"{3:064x}"
    found = node.batch([("getblockhash", (1,)), ("getblock", ("00",)), ("getblockhash", (2,))])
    assert found[0::2] == [f"{1:064x}", f"{2:064x}"]
    assert isinstance(found[1], NodeRpcError)
    assert found[1].code == -5


def test_a_batch_is_cut_into_bounded_parts_and_put_in_order(fake) -> None:
    fake.backwards = True
    fake.answers["getblockhash"] = lambda height: f"{height:064x}"
    node = client(fake)
    hashes = node.block_hashes(range(1001))
    assert [hash_hex(h) for h in hashes] == [f"{n:064x}" for n in range(1001)]
    assert [len(request) for request in fake.seen] == [200] * 5 + [1]
    assert {call["version"] for request in fake.seen for call in request} == {"1.1"}
    assert node.batch([]) == []


@pytest.mark.parametrize(
    ("bent", "reason"),
    [
        (b"[]", "without an answer"),
        (b"{}", "without an answer"),
        (b'[{"id": 0, "result": 1}, {"id": 7, "result": 1}, 5, {"id": []}]', "without an answer"),
        (b'[{"id": 0}, {"id": 1}]', "no answer to it"),
        (b'[{"id":0,"error":{"code":-28,"message":"x"}},{"id":1,"result":1}]', "still starting"),
        (b'{"error":{"code":-32700,"message":"Parse error"}}', "Parse error"),
    ],
)
def test_a_batch_with_a_bad_reply_is_refused(fake, bent, reason) -> None:
    fake.plan = [bent]
    with pytest.raises(NodeError, match=reason):
        client(fake).batch([("getblockcount", ()), ("getblockcount", ())])


def test_amounts_are_never_floats(fake) -> None:
    fake.plan = [b'{"result": 0.1, "error": null, "id": 1}']
    assert client(fake).call("getbalance") == Decimal("0.1")


def test_a_node_that_gives_another_block_is_not_believed(fake, sandbox) -> None:
    one, other = sandbox.generate(2, b"\x51")
    raw = BitcoinNode(sandbox.url).raw_blocks([one])[0]
    fake.answers["getblock"] = raw.hex()
    fake.answers["getblockheader"] = raw[:80].hex()
    node = client(fake)
    assert node.raw_blocks([one])[0] == raw
    for ask in (node.raw_blocks, node.headers):
        with pytest.raises(NodeError, match="gave another"):
            ask([other])
    fake.answers["getblock"] = fake.answers["getblockheader"] = "zz"
    with pytest.raises(NodeError, match="no answer to it"):
        node.raw_blocks([one])[0]
    fake.answers["getrawtransaction"] = raw[81:].hex()
    with pytest.raises(NodeError, match="no answer to it"):
        node.raw_transaction(one)


def test_nodes_with_another_dialect_are_understood(fake, sandbox) -> None:
    # no raw headers, truth values for verbosity, no initialblockdownload
    (one,) = sandbox.generate(1, b"\x51")
    raw = BitcoinNode(sandbox.url).raw_blocks([one])[0]
    fake.answers["getblockheader"] = {"hash": "..."}
    fake.answers["getblock"] = lambda block, verbose: (
        raw.hex() if verbose is False else ErrorReply(-3, "not a boolean")
    )
    fake.answers["getblockchaininfo"] = {
        "chain": "regtest",
        "blocks": 1,
        "headers": 1,
        "bestblockhash": hash_hex(one),
    }
    node = client(fake)
    assert node.headers([one]) is None
    assert node.raw_blocks([one])[0] == raw
    assert node.chain_info() == ChainInfo("regtest", 1, 1, one, None)
    endless = {"chain": "x", "blocks": float("inf"), "bestblockhash": hash_hex(one)}
    odd = {"chain": "x", "blocks": 1, "bestblockhash": 5}
    for nonsense in (None, [], {"chain": "x"}, odd, endless):
        fake.answers["getblockchaininfo"] = nonsense
        with pytest.raises(NodeError, match="no answer to it"):
            node.chain_info()


def test_a_node_that_cannot_show_what_is_spent_is_told_so(fake) -> None:
    fake.answers["getrawtransaction"] = ErrorReply(-5, "No such mempool transaction")
    for shown in (ErrorReply(-1, "no verbosity 3"), {"tx": []}, "00", {"tx": [{"vin": [7]}]}):
        fake.answers["getblock"] = shown
        with pytest.raises(NodeError, match="txindex=1"):
            client(fake).spent_scripts(
                bytes(32), {(b"\x01" * 32, 0): Spending(b"\x02" * 32, (1, 0))}
            )
