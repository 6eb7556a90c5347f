"""Keys in a file sign alone or with others, offline signers are handed all they need to see."""

import io
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from embit.psbt import PSBT

from indexer.bitcoin.spending import multisig_script
from indexer.bitcoin.transactions import TxOut, p2pkh_script, parse_transaction, script_address
from indexer.networks import REGTEST
from indexer.node.node import BitcoinNode
from indexer.protocol.operations import Announce
from indexer.registrar.planning.compose import compose
from indexer.sandbox.node import SandboxNode
from indexer.wallet.coins import Coin, Unsigned
from indexer.wallet.key_signers import KeyFile, Offline
from indexer.wallet.key_storage import load_keys, make_keys, write_key_text, write_keys
from indexer.wallet.keys import Key, KeyRing, script_of_redeem_script
from indexer.wallet.node_coins import NodeCoins, previous_transactions, satoshis
from indexer.wallet.node_wallet import NodeWallet
from indexer.wallet.psbt import combine, sign_psbt, signed_transaction
from indexer.wallet.signers import (
    InsufficientFunds,
    NeedsSignature,
    NoLegacyAddresses,
    NotSigned,
    Signer,
    SignerError,
    SignerUnavailable,
)
from tests.indexer.node.fakes import ErrorReply, FakeNode

NOW = 1_700_000_000
STRANGER = p2pkh_script(b"\x09" * 20)
KEYS = [Key(bytes((n,)) * 32) for n in range(1, 5)]
REDEEM = multisig_script(2, [key.public_key for key in KEYS[:3]])
SHARED = script_of_redeem_script(REDEEM)


@pytest.fixture
def node() -> Iterator[SandboxNode]:
    with SandboxNode(clock=lambda: NOW) as sandbox:
        for script in (KEYS[0].script, KEYS[1].script, SHARED):
            sandbox.generate(2, script)
        sandbox.generate(100, STRANGER)
        yield sandbox


@pytest.fixture
def client(node: SandboxNode) -> Iterator[BitcoinNode]:
    made = BitcoinNode(node.url)
    yield made
    made.close()


def key_file(client: BitcoinNode, keys: Sequence[Key], *redeem: bytes) -> KeyFile:
    return KeyFile(KeyRing(keys, redeem), client, REGTEST, NodeCoins(client))


def announcement(*coins: Coin) -> Unsigned:
    return compose(Announce(message_hash=bytes(20)), REGTEST, coins, coins[0].script, fee_rate=3)


# Keys


def test_an_operation_of_a_key_is_signed_and_mined(node, client) -> None:
    signer = key_file(client, KEYS[:2])
    coins = signer.coins(KEYS[0].script)
    assert [coin.value for coin in coins] == [50 * 10**8] * 2
    raw = signer.sign(announcement(coins[0]))
    node.submit(raw)
    assert signer.coins(KEYS[0].script) == coins[1:]  # the other is spent, if not in a block
    node.generate(1, STRANGER)
    assert len(signer.coins(KEYS[0].script)) == 2
    assert signer.coins(KEYS[2].script) == []
    assert signer.owns(KEYS[1].script)
    assert not signer.owns(STRANGER)


def test_a_payment_spends_what_it_must_and_comes_back(node, client) -> None:
    signer = key_file(client, KEYS[:2])
    pinned = signer.coins(KEYS[1].script)[:1]
    first = signer.pay([TxOut(10**8, STRANGER)], 1, spending=pinned)
    assert first.unsigned.coins[0] == pinned[0]
    assert first.unsigned.outputs[1].script == KEYS[1].script
    node.submit(first.raw)
    second = signer.pay([TxOut(70 * 10**8, STRANGER)], 4, spending=pinned)
    node.submit(second.raw)
    assert node.mempool_size == 1
    assert first.txid != second.txid == parse_transaction(second.raw).txid
    with pytest.raises(InsufficientFunds, match=r"more are needed.*nothing was paid"):
        signer.pay([TxOut(400 * 10**8, STRANGER)], 1)
    poor = key_file(client, KEYS[3:])
    with pytest.raises(InsufficientFunds, match=KEYS[3].address(REGTEST)):
        poor.pay([TxOut(10**8, STRANGER)], 1)


def test_two_of_three_sign_one_after_the_other(node, client) -> None:
    alone = key_file(client, KEYS[:1], REDEEM)
    (coin, *_) = alone.coins(SHARED)
    unsigned = announcement(coin)
    with pytest.raises(NeedsSignature) as needs:
        alone.sign(unsigned)
    other = sign_psbt(needs.value.psbt, KeyRing(KEYS[2:3]))  # who needs no script of his own
    node.submit(signed_transaction(other, unsigned))
    apart = sign_psbt(needs.value.psbt, KeyRing(KEYS[1:2], [REDEEM]))
    assert signed_transaction(combine([needs.value.psbt, apart]), unsigned)
    both = key_file(client, KEYS[:2], REDEEM)
    payment = both.pay([TxOut(10**8, STRANGER)], 2, spending=both.coins(SHARED)[:1])
    node.submit(payment.raw)


def test_a_coin_of_another_key_is_refused(client) -> None:
    coin = key_file(client, KEYS[:1]).coins(KEYS[0].script)[0]
    with pytest.raises(NotSigned, match=r"none of the keys.*Nothing was paid"):
        key_file(client, KEYS[1:2]).sign(announcement(coin))
    mine = key_file(client, KEYS[1:2]).coins(KEYS[1].script)[0]
    with pytest.raises(NotSigned, match="not in the key file"):
        key_file(client, KEYS[1:2]).sign(Unsigned((mine, coin), (TxOut(10**8, STRANGER),), 1))


def test_fresh_scripts_are_given_once_and_never_those_in_use(client) -> None:
    used = {KEYS[1].script}
    for signer in (
        KeyFile(KeyRing(KEYS[:3], [REDEEM]), client, REGTEST, NodeCoins(client), used.__contains__),
        Offline(
            [k.script for k in KEYS[:3]],
            client,
            REGTEST,
            NodeCoins(client),
            [REDEEM],
            used.__contains__,
        ),
    ):
        given = [signer.fresh_script("a"), signer.fresh_script("b")]
        assert given == [KEYS[0].script, KEYS[2].script]
        with pytest.raises(NoLegacyAddresses, match=r"none for c; .*--owner"):
            signer.fresh_script("c")


def test_kept_coins_are_not_shown(client) -> None:
    signer: Signer = key_file(client, KEYS[:1])
    coins = signer.coins(KEYS[0].script)
    signer.keep(coins[:1])
    signer.keep(coins[:1])
    assert signer.coins(KEYS[0].script) == coins[1:]
    assert signer.sign(announcement(coins[0]))
    signer.let_go(coins[:1])
    signer.let_go(coins[:1])
    assert signer.coins(KEYS[0].script) == coins


# Nobody


def test_an_offline_signer_is_handed_what_a_device_must_see(node, client) -> None:
    offline = Offline([KEYS[0].script], client, REGTEST, NodeCoins(client), [REDEEM])
    (coin, *_) = offline.coins(KEYS[0].script)
    for unsigned in (announcement(coin), announcement(offline.coins(SHARED)[0])):
        with pytest.raises(NeedsSignature) as needs:
            offline.sign(unsigned)
        assert needs.value.unsigned == unsigned
        form = PSBT.from_string(needs.value.psbt)
        assert form.verify()
        assert form.fee() == unsigned.fee
        signed = sign_psbt(needs.value.psbt, KeyRing(KEYS))
        node.submit(signed_transaction(signed, unsigned))
    node.generate(1, STRANGER)
    with pytest.raises(NeedsSignature) as needs:
        offline.pay([TxOut(10**8, STRANGER)], 2)
    payment = needs.value.unsigned
    assert payment.outputs[0] == TxOut(10**8, STRANGER)
    node.submit(signed_transaction(sign_psbt(needs.value.psbt, KeyRing(KEYS)), payment))
    with pytest.raises(NotSigned, match="nothing was paid"):
        offline.sign(announcement(Coin(b"\x01" * 32, 0, 10**8, KEYS[0].script)))


# What the node shows of coins


def test_immature_rewards_and_spent_coins_are_left_out(node, client) -> None:
    source = NodeCoins(client)
    script = KEYS[3].script
    node.generate(1, script)
    assert source.coins([script]) == []
    node.generate(99, STRANGER)
    assert source.coins([script]) == []
    node.generate(1, STRANGER)
    (coin,) = source.coins([script, script])
    assert (coin.value, coin.script) == (50 * 10**8, script)
    signer = key_file(client, KEYS[3:])
    node.submit(signer.sign(announcement(coin)))
    assert source.coins([script]) == []
    source.close()


def test_all_unspent_outputs_are_scanned_once_a_block(node) -> None:
    scans = []
    with FakeNode() as fake:
        honest = BitcoinNode(node.url)

        def scan(action: str, described: list[str]) -> object:
            scans.append(len(described))
            return json.loads(
                json.dumps(honest.call("scantxoutset", action, described), default=str)
            )

        def passing(method: str) -> object:
            return lambda *p: json.loads(json.dumps(honest.call(method, *p), default=str))

        fake.answers |= {"scantxoutset": scan}
        fake.answers |= {name: passing(name) for name in ("getblockchaininfo", "gettxout")}
        source = NodeCoins(BitcoinNode(fake.url, user="user", password="pass"))
        first, second = KEYS[0].script, KEYS[1].script
        assert len(source.coins([first])) == 2
        assert len(source.coins([first])) == 2
        assert len(source.coins([first, second])) == 4
        assert scans == [1, 1]
        node.generate(1, STRANGER)
        assert len(source.coins([second])) == 2
        assert len(source.coins([first])) == 2
        assert scans == [1, 1, 2]
        node.generate(1, STRANGER)
        signer = KeyFile(KeyRing(KEYS), honest, REGTEST, source)
        assert [len(signer.coins(key.script)) for key in KEYS] == [2, 2, 0, 0]
        assert scans == [1, 1, 2, 4]
        for answer, words in (
            (ErrorReply(-8, 'Scan already in progress, use action "abort" or "status"'), "already"),
            (ErrorReply(-32601, "Method not found"), "cannot look through"),
            (ErrorReply(-1, "x"), "error -1"),
            ({"success": False}, "broke off"),
            (None, "broke off"),
            ({"success": True, "height": 1}, "no form"),
            ({"success": True, "height": 1, "unspents": [{}]}, "no form"),
            ({"success": True, "height": 1, "unspents": [{}] * 10_001}, "10001 coins"),
        ):
            node.generate(1, STRANGER)
            fake.answers["scantxoutset"] = answer
            with pytest.raises(SignerError, match=rf"{words}.*nothing was paid"):
                source.coins([first])
        fake.answers["scantxoutset"] = scan
        assert len(source.coins([first])) == 2
    with pytest.raises(SignerUnavailable, match=r"cannot reach the node.*nothing was paid"):
        NodeCoins(BitcoinNode(fake.url, user="user", password="pass")).coins([first])


def test_a_wallet_that_watches_is_asked_before_everything_is_scanned(node, client) -> None:
    wallet = NodeWallet(client, REGTEST)
    watched = wallet.fresh_script("watched")
    node.generate(1, watched)
    node.generate(100, STRANGER)
    source = NodeCoins(client, wallet)
    assert [coin.script for coin in source.coins([watched])] == [watched]
    assert "scantxoutset" not in node.asked
    assert len(source.coins([watched, KEYS[0].script])) == 3
    assert "scantxoutset" in node.asked
    node.switches.wallet_loaded = False
    assert len(source.coins([watched, KEYS[0].script])) == 3
    assert NodeWallet(client, REGTEST).watched(watched) is None


def test_a_node_without_an_index_of_transactions_shows_those_of_coins() -> None:
    with SandboxNode(clock=lambda: NOW, tx_index=False) as node:
        node.generate(1, KEYS[0].script)
        node.generate(100, STRANGER)
        client = BitcoinNode(node.url)
        signer = key_file(client, KEYS[:1])
        (coin,) = signer.coins(KEYS[0].script)
        found = previous_transactions(client, [coin])
        assert parse_transaction(found[coin.txid]).outputs[0].script == KEYS[0].script
        node.submit(signer.sign(announcement(coin)))
        with pytest.raises(NotSigned, match=r"txindex=1.*nothing was paid"):
            signer.sign(announcement(Coin(b"\x07" * 32, 0, 10**8, coin.script)))


@pytest.mark.parametrize("text", ["x", "NaN", "-1", "0.000000001", "21000001", None, "Infinity"])
def test_what_is_no_amount_is_refused(text: object) -> None:
    assert satoshis("0.00000001") == 1
    with pytest.raises(ValueError, match="no amount"):
        satoshis(text)


# Secrets


def test_no_secret_is_in_any_text(tmp_path: Path, node, client) -> None:
    heard = io.StringIO()
    listener = logging.StreamHandler(heard)
    root = logging.getLogger()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    said: list[str] = []
    try:
        path = tmp_path / "keys"
        text = write_key_text(KEYS[:2], REGTEST)
        write_keys(path, text, REGTEST, "open sesame", n=16)
        ring = load_keys(path, REGTEST, "open sesame")
        signer = KeyFile(ring, client, REGTEST, NodeCoins(client))
        coin = signer.coins(KEYS[0].script)[0]
        payment = signer.pay([TxOut(10**8, STRANGER)], 2)
        said += [repr(signer), repr(ring), repr(payment), repr(KEYS[0]), str(vars(signer))]
        for fail in (
            lambda: load_keys(path, REGTEST, "wrong"),
            lambda: make_keys(path, REGTEST, 1, "open sesame", n=16),
            lambda: write_keys(tmp_path / "x", text[:-60], REGTEST),
            lambda: signer.sign(announcement(Coin(b"\x5a" * 32, 0, 10**8, coin.script))),
            lambda: key_file(client, KEYS[3:]).sign(announcement(coin)),
            lambda: signer.pay([TxOut(10**12, STRANGER)], 2),
        ):
            with pytest.raises(SignerError) as failure:
                fail()
            said += [str(failure.value), repr(failure.value), repr(failure.value.__context__)]
        with pytest.raises(NeedsSignature) as needs:
            key_file(client, KEYS[:1], REDEEM).sign(
                announcement(key_file(client, KEYS[:1], REDEEM).coins(SHARED)[0])
            )
        said += [needs.value.psbt, repr(needs.value)]
    finally:
        root.removeHandler(listener)
        root.setLevel(level)
    said.append(heard.getvalue())
    everything = "\n".join(said)
    assert script_address(STRANGER, REGTEST) not in text
    for key, number in zip(KEYS, range(1, 5), strict=True):
        secret = bytes((number,)) * 32
        for form in (key.wif(REGTEST), secret.hex(), repr(secret), str(list(secret))):
            assert form not in everything
    assert "sesame" not in everything
