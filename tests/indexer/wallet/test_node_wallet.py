"""The node's wallet signs what it is given, and what else it might do is noticed."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from embit import ec
from embit.psbt import PSBT
from embit.script import Script, Witness
from embit.transaction import Transaction as EmbitTransaction

from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    hash_hex,
    is_p2pkh,
    p2pkh_script,
    parse_transaction,
    serialize_transaction,
)
from indexer.networks import MAINNET, REGTEST
from indexer.node.node import BitcoinNode
from indexer.protocol.operations import Announce
from indexer.registrar.planning.compose import compose
from indexer.sandbox.node import SandboxNode
from indexer.wallet.coins import Coin, Unsigned
from indexer.wallet.keys import Key, KeyRing, multisig_script, script_of_redeem_script
from indexer.wallet.node_wallet import NodeWallet
from indexer.wallet.psbt import sign_psbt, signed_transaction
from indexer.wallet.signers import (
    InsufficientFunds,
    NeedsSignature,
    NoLegacyAddresses,
    NotSigned,
    NoWallet,
    Signer,
    SignerError,
    SignerUnavailable,
    WalletLocked,
    WrongNetwork,
)
from tests.indexer.node.fakes import ErrorReply, FakeNode, Purse

NOW = 1_700_000_000
STRANGER = p2pkh_script(b"\x09" * 20)


@pytest.fixture
def node() -> Iterator[SandboxNode]:
    with SandboxNode(clock=lambda: NOW) as sandbox:
        sandbox.generate(4, sandbox.wallet_script("mined"))
        sandbox.generate(100, STRANGER)
        yield sandbox


@pytest.fixture
def wallet(node: SandboxNode) -> NodeWallet:
    return NodeWallet(BitcoinNode(node.url), REGTEST)


def funded(node: SandboxNode, wallet: Signer, value: int = 1_000_000) -> Coin:
    """A confirmed coin of a fresh legacy script."""
    script = wallet.fresh_script("payer")
    node.submit(wallet.pay([TxOut(value, script)], 2.0).raw)
    node.generate(1, STRANGER)
    (coin,) = wallet.coins(script)
    return coin


def announcement(*coins: Coin) -> Unsigned:
    return compose(Announce(message_hash=bytes(20)), REGTEST, coins, coins[0].script, fee_rate=3)


# With a wallet as it should be


def test_a_fresh_script_is_legacy_ours_and_labelled(node, wallet) -> None:
    first, second = wallet.fresh_script("alice.id"), wallet.fresh_script("alice.id")
    assert first != second
    assert is_p2pkh(first)
    assert wallet.owns(first)
    assert not wallet.owns(STRANGER)
    assert not wallet.owns(b"\x00\x14" + bytes(20))
    shown = BitcoinNode(node.url).call("getaddressinfo", Key(bytes(31) + b"\x01").address(REGTEST))
    assert shown["ismine"] is False


def test_the_coins_of_a_script_are_its_own_mature_and_largest_first(node, wallet) -> None:
    script = wallet.fresh_script("payer")
    assert wallet.coins(script) == []
    other = wallet.fresh_script("other")
    outputs = [TxOut(70_000, script), TxOut(90_000, other)]
    node.submit(wallet.pay(outputs, 1).raw)
    node.submit(wallet.pay([TxOut(80_000, script)], 1).raw)
    assert wallet.coins(script) == []  # not before they are in a block
    node.generate(1, script)  # and its own reward is not mature
    assert [coin.value for coin in wallet.coins(script)] == [80_000, 70_000]
    assert wallet.coins(STRANGER) == []


def test_an_operation_is_signed_and_taken_by_the_node(node, wallet) -> None:
    unsigned = announcement(funded(node, wallet))
    raw = wallet.sign(unsigned)
    assert parse_transaction(raw).outputs == unsigned.outputs
    assert wallet.sign(unsigned) == raw
    node.submit(raw)
    node.generate(1, STRANGER)
    assert node.mempool_size == 0
    assert wallet.coins(unsigned.coins[0].script)[0].txid == parse_transaction(raw).txid


def test_a_payment_is_made_and_not_sent(node, wallet) -> None:
    target = wallet.fresh_script("fund")
    payment = wallet.pay([TxOut(60 * 10**8, target), TxOut(70_000, STRANGER)], 7.5)
    assert node.mempool_size == 0
    transaction = parse_transaction(payment.raw)
    assert payment.txid == transaction.txid
    assert transaction.outputs[:2] == (TxOut(60 * 10**8, target), TxOut(70_000, STRANGER))
    assert len(payment.unsigned.coins) == 2
    assert payment.unsigned.outputs == transaction.outputs
    assert payment.unsigned.change == 2
    assert wallet.owns(transaction.outputs[2].script)
    size = len(payment.raw)
    assert 7.5 * size <= payment.unsigned.fee <= 7.5 * size + 100
    node.submit(payment.raw)


def test_many_coins_for_one_address_are_one_payment(node, wallet) -> None:
    target = wallet.fresh_script("fund")
    payment = wallet.pay([TxOut(60_000, target)] * 40, 7.5)
    assert payment.unsigned.outputs[:40] == (TxOut(60_000, target),) * 40
    assert payment.unsigned.change == 40
    size = len(payment.raw)
    assert 7.5 * size <= payment.unsigned.fee <= 7.5 * size + 100
    again = wallet.pay([TxOut(60_000, target)] * 40, 15, spending=payment.unsigned.coins)
    node.submit(payment.raw)
    node.submit(again.raw)
    node.generate(1, STRANGER)
    assert {coin.txid for coin in wallet.coins(target)} == {again.txid}
    assert len(wallet.coins(target)) == 40


def test_another_payment_of_the_same_coin_replaces_the_first(node, wallet) -> None:
    target = wallet.fresh_script("fund")
    first = wallet.pay([TxOut(10**8, target)], 1)
    node.submit(first.raw)
    pinned = first.unsigned.coins[:1]
    second = wallet.pay([TxOut(10**8, target)], 5, spending=pinned)
    assert pinned[0] in second.unsigned.coins
    assert second.unsigned.fee > first.unsigned.fee
    node.submit(second.raw)
    assert node.mempool_size == 1
    node.generate(1, STRANGER)
    assert [coin.txid for coin in wallet.coins(target)] == [second.txid]


def test_kept_coins_are_left_alone_until_they_are_let_go(node, wallet) -> None:
    coin = funded(node, wallet)
    wallet.keep([coin])
    wallet.keep([coin])
    assert wallet.coins(coin.script) == []
    raw = wallet.sign(announcement(coin))  # but signed for whoever names them
    wallet.let_go([coin])
    wallet.let_go([coin])
    assert wallet.coins(coin.script) == [coin]
    node.submit(raw)
    wallet.let_go([coin])  # spent by now
    wallet.keep([Coin(b"\x05" * 32, 0, 1, STRANGER)])  # nobody knows it


def test_a_named_wallet_is_asked_by_its_name(node, wallet) -> None:
    BitcoinNode(node.url).call("createwallet", "names of mine/2")
    named = NodeWallet(BitcoinNode(node.url), REGTEST, "names of mine/2")
    script = named.fresh_script("x")
    assert named.owns(script)
    with pytest.raises(NoWallet, match=r"several wallets.*node_wallet"):
        wallet.owns(script)
    assert not NodeWallet(BitcoinNode(node.url), REGTEST, "").owns(script)
    assert "names of mine" in repr(named)
    named.close()
    for bad in ("\n", "x" * 300):
        with pytest.raises(ValueError, match="no name of a wallet"):
            NodeWallet(BitcoinNode(node.url), REGTEST, bad)


# What can be wrong with it


def test_a_locked_wallet_says_how_it_is_unlocked(node, wallet) -> None:
    unsigned = announcement(funded(node, wallet))
    node.switches.wallet_passphrase = "secret words"
    for ask in (lambda: wallet.sign(unsigned), lambda: wallet.pay([TxOut(10**6, STRANGER)], 1)):
        with pytest.raises(WalletLocked, match=r"walletpassphrase.*Nothing was paid") as refusal:
            ask()
        assert "secret words" not in str(refusal.value)
    BitcoinNode(node.url).call("walletpassphrase", "secret words", 60)
    assert wallet.sign(unsigned)


def test_a_wallet_without_legacy_addresses_says_what_it_lacks(node, wallet) -> None:
    node.switches.legacy_addresses = False
    with pytest.raises(NoLegacyAddresses, match=r"No legacy addresses available.*import a pkh\(\)"):
        wallet.fresh_script("x")


def test_no_wallet_at_all_says_how_one_is_loaded(node, wallet) -> None:
    node.switches.wallet_loaded = False
    with pytest.raises(NoWallet, match="loadwallet"):
        wallet.fresh_script("x")
    with pytest.raises(NoWallet, match="no wallet 'gone' loaded"):
        NodeWallet(BitcoinNode(node.url), REGTEST, "gone").fresh_script("x")


def test_too_little_money_is_told_before_anything_is_signed(node, wallet) -> None:
    with pytest.raises(InsufficientFunds, match=r"too few confirmed coins.*nothing was paid"):
        wallet.pay([TxOut(201 * 10**8, STRANGER)], 1)


def test_a_coin_of_somebody_else_is_not_signed(node, wallet) -> None:
    purse = Purse(node)
    purse.fill(1)
    spent, value = purse.coin()
    coin = Coin(spent.previous_txid, spent.previous_index, value, purse.script)
    with pytest.raises(NotSigned, match=r"possibly missing key.*Nothing was paid"):
        wallet.sign(announcement(coin))
    with pytest.raises(NotSigned):
        wallet.sign(announcement(replace(coin, txid=b"\x01" * 32)))


def test_a_wallet_of_another_network_is_noticed(node) -> None:
    with pytest.raises(WrongNetwork, match="no legacy address of mainnet"):
        NodeWallet(BitcoinNode(node.url), MAINNET).fresh_script("x")


def test_a_node_that_is_gone_or_has_no_wallet_rpcs_is_told_apart() -> None:
    with FakeNode() as fake:
        client = BitcoinNode(fake.url, user="user", password="pass")
        wallet = NodeWallet(client, REGTEST)
        with pytest.raises(NoWallet, match="disablewallet"):
            wallet.fresh_script("x")
        fake.answers["getnewaddress"] = ErrorReply(-28, "Loading wallet…")
        with pytest.raises(SignerUnavailable, match="still starting"):
            wallet.fresh_script("x")
    gone = NodeWallet(BitcoinNode(fake.url, user="user", password="pass"), REGTEST)
    with pytest.raises(SignerUnavailable, match=r"cannot reach.*nothing was paid") as refusal:
        gone.fresh_script("x")
    assert "pass" not in str(refusal.value)


# Several who must sign


def test_a_multisig_owner_signs_with_the_wallet_and_with_another_key(node, wallet) -> None:
    with FakeNode() as fake:
        ours, theirs = Key(b"\x01" * 32), Key(b"\x02" * 32)
        redeem = multisig_script(2, [ours.public_key, theirs.public_key])
        script = script_of_redeem_script(redeem)
        before = serialize_transaction(
            1, [TxIn(b"\x07" * 32, 0, b"", 0)], [TxOut(90_000, script)], 0
        )
        coin = Coin(parse_transaction(before).txid, 0, 90_000, script)
        half = KeyRing([ours], [redeem])
        fake.answers |= {
            "signrawtransactionwithwallet": lambda raw: {"hex": raw, "complete": False},
            "walletprocesspsbt": lambda psbt, *_: {
                "psbt": sign_psbt(psbt, half),
                "complete": False,
            },
            "getrawtransaction": before.hex(),
        }
        signer = NodeWallet(BitcoinNode(fake.url, user="user", password="pass"), REGTEST)
        unsigned = announcement(coin)
        with pytest.raises(NeedsSignature) as needs:
            signer.sign(unsigned)
    assert needs.value.unsigned == unsigned
    whole = sign_psbt(needs.value.psbt, KeyRing([theirs], [redeem]))
    assert parse_transaction(signed_transaction(whole, unsigned)).outputs == unsigned.outputs


# A modern wallet: its coins are segwit


class ModernWallet(FakeNode):
    """Answers for a wallet with one coin of a p2wpkh script, as Bitcoin Core would."""

    def __init__(self) -> None:
        super().__init__()
        self.key = ec.PrivateKey(b"\x03" * 32)
        public_key = self.key.get_public_key()
        self.script = bytes(Script(b"\x00\x14" + _hash160(public_key.sec())).data)
        spent = [TxIn(b"\x08" * 32, 1, b"", 0)]
        self.before = serialize_transaction(2, spent, [TxOut(10**8, self.script)], 0)
        self.coin = TxIn(parse_transaction(self.before).txid, 0, b"", 0xFFFFFFFD)
        self.fee = 800
        self.outputs: list[TxOut] = []
        self.change = self.script
        self.sequence = 0xFFFFFFFD
        self.spoil = False
        self.answers |= {
            "listunspent": [
                {
                    "txid": hash_hex(self.coin[0]),
                    "vout": 0,
                    "scriptPubKey": self.script.hex(),
                    "amount": 1.0,
                    "spendable": True,
                    "solvable": True,
                }
            ],
            "walletcreatefundedpsbt": self._make,
            "walletprocesspsbt": self._sign,
            "finalizepsbt": self._finish,
            "getrawtransaction": self.before.hex(),
        }

    def _make(self, inputs: Any, outputs: Any, locktime: int, options: Any) -> Any:
        self.asked = (inputs, outputs, options)
        back = 10**8 - sum(output.value for output in self.outputs) - self.fee
        paid = [*self.outputs, TxOut(back, self.change)]
        raw = serialize_transaction(2, [self.coin._replace(sequence=self.sequence)], paid, 0)
        form = PSBT(EmbitTransaction.read_from(BytesIO(raw)))
        form.inputs[0].non_witness_utxo = EmbitTransaction.read_from(BytesIO(self.before))
        form.inputs[0].witness_utxo = form.inputs[0].non_witness_utxo.vout[0]
        return {"psbt": form.to_base64(), "fee": self.fee / 1e8, "changepos": 1}

    def _sign(self, psbt: str, *_: object) -> Any:
        form = PSBT.from_string(psbt)
        form.sign_with(self.key)
        return {"psbt": form.to_base64(), "complete": True}

    def _finish(self, psbt: str) -> Any:
        form = PSBT.from_string(psbt)
        transaction = form.tx
        ((key, signature),) = form.inputs[0].partial_sigs.items()
        if self.spoil:
            signature = signature[:20] + bytes((signature[20] ^ 1,)) + signature[21:]
        transaction.vin[0].witness = Witness([signature, key.sec()])
        return {"hex": transaction.serialize().hex(), "complete": True}


def _hash160(public_key: bytes) -> bytes:
    return Key(b"\x03" * 32).script[3:23] if public_key else b""


@pytest.fixture
def modern() -> Iterator[tuple[ModernWallet, NodeWallet]]:
    with ModernWallet() as fake:
        yield fake, NodeWallet(BitcoinNode(fake.url, user="user", password="pass"), REGTEST)


def test_segwit_coins_are_moved_to_a_legacy_script(modern) -> None:
    fake, wallet = modern
    fake.outputs = [TxOut(10**6, STRANGER)]
    payment = wallet.pay(fake.outputs, 3.3333, spending=[Coin(fake.coin[0], 0, 10**8, fake.script)])
    inputs, outputs, options = fake.asked
    assert inputs == [{"txid": hash_hex(fake.coin[0]), "vout": 0}]
    assert list(outputs[0].values()) == ["0.01000000"]
    assert (options["fee_rate"], options["changePosition"]) == (3.334, 1)
    assert options["add_inputs"] is False
    assert payment.raw[4:6] == b"\x00\x01"
    assert payment.txid == parse_transaction(payment.raw).txid
    assert payment.unsigned.coins == (Coin(fake.coin[0], 0, 10**8, fake.script),)
    assert payment.unsigned.fee == 800


def test_a_wallet_without_private_keys_hands_the_payment_on(modern) -> None:
    fake, wallet = modern
    fake.answers["walletprocesspsbt"] = lambda psbt, *_: {"psbt": psbt, "complete": False}
    fake.answers["finalizepsbt"] = lambda psbt: {"psbt": psbt, "complete": False}
    fake.outputs = [TxOut(10**6, STRANGER)]
    with pytest.raises(NeedsSignature) as needs:
        wallet.pay(fake.outputs, 3)
    form = PSBT.from_string(needs.value.psbt)
    assert form.sign_with(fake.key) == 1
    raw = signed_transaction(form.to_base64(), needs.value.unsigned)
    assert parse_transaction(raw).outputs[0] == TxOut(10**6, STRANGER)
    assert raw[4:6] == b"\x00\x01"
    fake.outputs = [TxOut(10**6, p2pkh_script(b"\x0c" * 20))]
    with pytest.raises(NotSigned, match="pays something else"):
        wallet.pay([TxOut(10**6, STRANGER)], 3)


def test_a_locked_wallet_that_ran_out_of_addresses_says_so() -> None:
    with FakeNode() as fake:
        reason = "Error: Keypool ran out, please call keypoolrefill first"
        fake.answers["getnewaddress"] = ErrorReply(-12, reason)
        wallet = NodeWallet(BitcoinNode(fake.url, user="user", password="pass"), REGTEST)
        with pytest.raises(WalletLocked, match="keypoolrefill"):
            wallet.fresh_script("x")


def test_the_coins_of_other_kinds_are_not_shown_to_operations(modern) -> None:
    fake, wallet = modern
    script = script_of_redeem_script(multisig_script(1, [Key(b"\x03" * 32).public_key]))
    shown = {
        "txid": "11" * 32,
        "vout": 1,
        "scriptPubKey": script.hex(),
        "amount": 0.5,
        "spendable": True,
        "solvable": True,
        "desc": "sh(multi(1,03aa))#x",
    }
    fake.answers["listunspent"] = [
        shown,
        {**shown, "vout": 2, "desc": "sh(wpkh(03aa))#x"},
        {**shown, "vout": 3, "redeemScript": "0014" + "00" * 20},
        {**shown, "vout": 4, "spendable": False},
        {**shown, "vout": 5, "scriptPubKey": "00"},
        {**shown, "vout": 6, "solvable": False},
    ]
    assert [coin.index for coin in wallet.coins(script)] == [1]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"outputs": [TxOut(10**6, p2pkh_script(b"\x0c" * 20))]}, "pays something else"),
        ({"outputs": [TxOut(10**6 + 1, STRANGER)]}, "pays something else"),
        ({"outputs": [TxOut(10**6, STRANGER), TxOut(7, STRANGER)]}, "pays something else"),
        ({"fee": 10**6}, "its fee is 1000000"),
        ({"sequence": 0xFFFFFFFF}, "could not be raised"),
        ({"spoil": True}, "does not hold"),
    ],
)
def test_a_wallet_that_pays_otherwise_is_caught(modern, spoil, words) -> None:
    fake, wallet = modern
    fake.outputs = [TxOut(10**6, STRANGER)]
    for name, value in spoil.items():
        setattr(fake, name, value)
    with pytest.raises(NotSigned, match=f"{words}.*Nothing was paid"):
        wallet.pay([TxOut(10**6, STRANGER)], 3)


def test_a_wallet_that_spends_other_coins_than_those_named_is_caught(modern) -> None:
    fake, wallet = modern
    fake.outputs = [TxOut(10**6, STRANGER)]
    with pytest.raises(NotSigned, match="spends other coins"):
        wallet.pay(fake.outputs, 3, spending=[Coin(b"\x01" * 32, 0, 10**8, STRANGER)])
    fake.answers["getrawtransaction"] = "00"
    with pytest.raises(NotSigned, match="cannot see what the wallet spends"):
        wallet.pay(fake.outputs, 3)


# A wallet that lies


def lied(node: SandboxNode, change: Any) -> None:
    """Sign something with a wallet that bends what it was given."""
    honest = NodeWallet(BitcoinNode(node.url), REGTEST)
    unsigned = announcement(funded(node, honest))
    bent = change(unsigned)
    raw = honest.sign(bent) if isinstance(bent, Unsigned) else bent
    with FakeNode() as fake:
        hexed = raw.hex() if isinstance(raw, bytes) else raw
        fake.answers["signrawtransactionwithwallet"] = {"hex": hexed, "complete": True}
        wallet = NodeWallet(BitcoinNode(fake.url, user="user", password="pass"), REGTEST)
        with pytest.raises(NotSigned, match=r"not what it was to sign.*nothing was paid"):
            wallet.sign(unsigned)


def test_a_wallet_that_signs_something_else_is_caught(node) -> None:
    lied(node, lambda u: replace(u, outputs=(*u.outputs[:-1], TxOut(9_000, STRANGER))))
    lied(node, lambda u: replace(u, outputs=u.outputs[:1]))
    lied(node, lambda u: serialize_transaction(1, u.inputs, u.outputs, 0))
    lied(node, lambda u: "zz")
    lied(node, lambda u: "")
    lied(node, lambda u: base64.b64encode(b"psbt\xff\x00").decode())


@pytest.mark.parametrize("nonsense", [None, 7, "x", [], {}, {"psbt": 7}, {"complete": 1}])
def test_no_answer_of_a_node_makes_it_fail_otherwise(nonsense) -> None:
    coin = Coin(b"\x01" * 32, 0, 10**6, STRANGER)
    with FakeNode() as fake:
        methods = "signrawtransactionwithwallet walletprocesspsbt finalizepsbt getnewaddress"
        for method in f"{methods} walletcreatefundedpsbt getaddressinfo listunspent".split():
            fake.answers[method] = nonsense
        wallet = NodeWallet(BitcoinNode(fake.url, user="user", password="pass"), REGTEST)
        asks = [
            lambda: wallet.sign(announcement(coin)),
            lambda: wallet.pay([TxOut(10**6, STRANGER)], 1),
            lambda: wallet.fresh_script("x"),
            lambda: wallet.owns(STRANGER),
        ]
        for ask in asks:
            with pytest.raises(SignerError):
                ask()
        if nonsense != []:
            with pytest.raises(SignerError):
                wallet.coins(STRANGER)


# Which coins are joined


def test_a_payment_never_spends_coins_of_scripts_that_own_names(node, wallet) -> None:
    mine = {funded(node, wallet).script for _ in range(6)}
    named = NodeWallet(BitcoinNode(node.url), REGTEST, in_use=mine.__contains__)
    payment = named.pay([TxOut(150 * 10**8, STRANGER)], 2)
    assert not mine & {coin.script for coin in payment.unsigned.coins}
    everything = sum(coin.value for coin in wallet.legacy_coins())
    assert named.spare(STRANGER) == everything - 6 * 1_000_000
    with pytest.raises(InsufficientFunds, match="6000000 satoshis on addresses that own names"):
        named.pay([TxOut(everything - 6_000_000, STRANGER)], 2)
    only = NodeWallet(BitcoinNode(node.url), REGTEST, in_use=lambda script: True)
    with pytest.raises(InsufficientFunds):
        only.pay([TxOut(100_000, STRANGER)], 2)


def test_a_payment_leaves_alone_what_it_is_told_to(node, wallet) -> None:
    coin = funded(node, wallet)
    payment = wallet.pay([TxOut(150 * 10**8, STRANGER)], 2, leaves=lambda c: c == coin)
    assert coin not in payment.unsigned.coins


def test_an_input_that_is_larger_than_reckoned_is_paid_for_with_another_coin(modern) -> None:
    fake, wallet = modern
    second = {**fake.answers["listunspent"][0], "txid": "11" * 32, "amount": 0.5}
    fake.answers["listunspent"].append(second)
    made = []

    def make(inputs: Any, *rest: Any) -> Any:
        made.append(inputs)
        if len(inputs) == 1:
            words = "The preselected coins total amount does not cover the transaction target."
            return ErrorReply(-4, words)
        return fake._make(inputs, *rest)

    fake.answers["walletcreatefundedpsbt"] = make
    fake.outputs = [TxOut(10**6, STRANGER)]
    with pytest.raises(NotSigned, match="spends other coins"):  # this one spends the first alone
        wallet.pay(fake.outputs, 3)
    assert [len(inputs) for inputs in made] == [1, 2]


def test_of_many_coins_only_those_that_are_locked_are_asked_to_be_unlocked(node, wallet) -> None:
    coin = funded(node, wallet)
    wallet.keep([coin])
    asked = []
    ask = wallet._ask
    wallet._ask = lambda method, *params: (asked.append(method), ask(method, *params))[1]
    wallet.let_go([Coin(bytes((n,)) * 32, 0, 1, STRANGER) for n in range(200)] + [coin])
    assert asked == ["listlockunspent", "lockunspent"]
    assert wallet.coins(coin.script) == [coin]
