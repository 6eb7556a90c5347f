"""The node's wallet signs what it is given, and what else it might do is noticed."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from embit import ec
from embit.psbt import PSBT
from embit.script import Script, Witness, p2tr, p2wpkh, p2wsh
from embit.transaction import Transaction as EmbitTransaction

from indexer.bitcoin.spending import multisig_script, push
from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    hash_hex,
    is_p2pkh,
    p2pkh_script,
    parse_transaction,
    payment_address,
    serialize_transaction,
)
from indexer.bitcoin.witness import virtual_size
from indexer.networks import MAINNET, REGTEST
from indexer.node.node import BitcoinNode
from indexer.protocol.operations import Announce
from indexer.registrar.planning.compose import compose
from indexer.sandbox.node import SandboxNode
from indexer.wallet.coins import Coin, Unsigned, spending_size, transaction_size
from indexer.wallet.keys import Key, KeyRing, script_of_redeem_script
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


# A modern wallet: its coins are of any kind


MODERN = ec.PrivateKey(b"\x03" * 32)
_PUBLIC = MODERN.get_public_key()
_WITNESS = multisig_script(1, [_PUBLIC.sec()] * 3)
_NESTED = bytes(p2wpkh(_PUBLIC).data)
KINDS: dict[str, tuple[bytes, dict[str, str]]] = {
    "p2pkh": (Key(b"\x03" * 32).script, {}),
    "p2wpkh": (_NESTED, {}),
    "p2tr": (bytes(p2tr(_PUBLIC).data), {"desc": "tr(03aa)#x"}),
    "p2sh-p2wpkh": (script_of_redeem_script(_NESTED), {"redeemScript": _NESTED.hex()}),
    "p2wsh": (bytes(p2wsh(Script(_WITNESS)).data), {"witnessScript": _WITNESS.hex()}),
}
"""Scripts of one key, and what ``listunspent`` shows with them."""


class ModernWallet(FakeNode):
    """Answers for a wallet with coins of these kinds, as Bitcoin Core would."""

    def __init__(self, *kinds: str, value: int = 10**8) -> None:
        super().__init__()
        scripts = [KINDS[kind][0] for kind in kinds]
        spent = [TxIn(b"\x08" * 32, 1, b"", 0)]
        paid = [TxOut(value, script) for script in scripts]
        before = serialize_transaction(2, spent, paid, 0)
        txid = parse_transaction(before).txid
        self.coins = [Coin(txid, n, value, script) for n, script in enumerate(scripts)]
        self.hides = False
        """Whether it does not tell the scripts behind its coins."""
        self.signs = True
        self.spoil = False
        self.answers |= {
            "listunspent": lambda *_: [
                {
                    "txid": hash_hex(txid),
                    "vout": n,
                    "scriptPubKey": scripts[n].hex(),
                    "amount": value / 1e8,
                    "spendable": self.signs,
                    "solvable": True,
                    **({} if self.hides else KINDS[kind][1]),
                }
                for n, kind in enumerate(kinds)
            ],
            "getrawchangeaddress": payment_address(_NESTED, REGTEST),
            "signrawtransactionwithwallet": self._sign,
            "walletprocesspsbt": lambda psbt, *_: {"psbt": psbt, "complete": False},
            "getwalletinfo": lambda: {"private_keys_enabled": self.signs},
            "getrawtransaction": before.hex(),
        }

    def _sign(self, raw: str) -> Any:
        if not self.signs:
            return {"hex": raw, "complete": False, "errors": []}
        form = EmbitTransaction.read_from(BytesIO(bytes.fromhex(raw)))
        places = [spent.vout for spent in form.vin]
        scripts = [Script(self.coins[place].script) for place in places]
        values = [self.coins[place].value for place in places]
        for index, script in enumerate(scripts):
            kind = next(kind for kind, (one, _) in KINDS.items() if one == script.data)
            spending = form.vin[index]
            if kind == "p2tr":
                digest = form.sighash_taproot(index, scripts, values)
                signature = MODERN.taproot_tweak(b"").schnorr_sign(digest).serialize()
                spending.witness = Witness([signature])
                continue
            code = Key(b"\x03" * 32).script if kind != "p2wsh" else _WITNESS
            if kind == "p2pkh":
                digest = form.sighash_legacy(index, Script(code))
            else:
                digest = form.sighash_segwit(index, Script(code), values[index])
            signature = MODERN.sign(digest).serialize() + b"\x01"
            if self.spoil:
                signature = signature[:20] + bytes((signature[20] ^ 1,)) + signature[21:]
            if kind == "p2pkh":
                spending.script_sig = Script(push(signature) + push(_PUBLIC.sec()))
            elif kind == "p2wsh":
                spending.witness = Witness([b"", signature, _WITNESS])
            else:
                spending.witness = Witness([signature, _PUBLIC.sec()])
            if kind == "p2sh-p2wpkh":
                spending.script_sig = Script(push(_NESTED))
        return {"hex": form.serialize().hex(), "complete": True}


def asking(fake: FakeNode, **how: Any) -> NodeWallet:
    return NodeWallet(BitcoinNode(fake.url, user="user", password="pass"), REGTEST, **how)


MIXES = (*((kind,) for kind in KINDS), ("p2tr",) * 12, tuple(KINDS), tuple(KINDS) * 5)


@pytest.mark.parametrize("kinds", MIXES, ids=lambda kinds: f"{len(kinds)} {kinds[0]}")
def test_a_payment_of_coins_of_any_kind_pays_the_rate_that_was_asked_and_little_more(kinds) -> None:
    with ModernWallet(*kinds) as fake:
        wallet = asking(fake)
        everything = len(kinds) * 10**8 - 1_000_000
        payment = wallet.pay([TxOut(everything, STRANGER)], 10)
    assert set(payment.unsigned.coins) == set(fake.coins)
    assert payment.unsigned.outputs[0] == TxOut(everything, STRANGER)
    assert payment.unsigned.outputs[1].script == _NESTED
    size = virtual_size(payment.raw)
    # Signatures are a byte or two shorter than they may be; of a legacy one that counts whole.
    assert 10 * size <= payment.unsigned.fee <= 10 * (size + 1 + 3 * len(kinds))
    reckoned = transaction_size(
        payment.unsigned.coins, payment.unsigned.outputs, wallet.spending_size
    )
    assert size <= reckoned <= size + 1 + 3 * len(kinds)


def test_the_size_of_an_input_by_its_script_is_the_known_one() -> None:
    known = {"p2pkh": 148, "p2wpkh": 68, "p2tr": 57.5, "p2sh-p2wpkh": 91, "p2wsh": 104.5}
    for kind, virtual_bytes in known.items():
        script, shown = KINDS[kind]
        two_of_three = multisig_script(2, [_PUBLIC.sec()] * 3)
        behind = (bytes.fromhex(shown.get("redeemScript", "")), two_of_three)
        size = 41 + spending_size(script, *behind)
        assert virtual_bytes - 0.25 <= size <= virtual_bytes + 1.25, kind
    for required, total in ((1, 1), (2, 2), (3, 5), (15, 15)):
        redeem = multisig_script(required, [_PUBLIC.sec()] * total)
        shown_too = sum(map(len, (push(b"x" * 72),) * required)) + len(push(redeem)) + 1
        assert spending_size(script_of_redeem_script(redeem), redeem) >= shown_too


def test_an_input_that_is_larger_than_was_reckoned_is_paid_for(monkeypatch) -> None:
    large = multisig_script(1, [_PUBLIC.sec()] * 15)
    monkeypatch.setitem(KINDS, "p2wsh", (bytes(p2wsh(Script(large)).data), {}))
    monkeypatch.setattr(f"{__name__}._WITNESS", large)
    with ModernWallet("p2wsh") as fake:
        payment = asking(fake).pay([TxOut(10**6, STRANGER)], 10)
    size = virtual_size(payment.raw)
    assert 10 * size <= payment.unsigned.fee <= 11 * size


@pytest.mark.parametrize("kind", KINDS)
def test_a_wallet_without_private_keys_hands_the_payment_on(kind) -> None:
    with ModernWallet(kind) as fake:
        fake.signs = False
        with pytest.raises(NeedsSignature) as needs:
            asking(fake).pay([TxOut(10**6, STRANGER)], 3)
        form = PSBT.from_string(needs.value.psbt)
        assert bytes(form.tx.vout[0].script_pubkey.data) == STRANGER
        if kind != "p2wpkh":
            return
        assert form.sign_with(MODERN) == 1
        raw = signed_transaction(form.to_base64(), needs.value.unsigned)
        assert parse_transaction(raw).outputs[0] == TxOut(10**6, STRANGER)
        assert raw[4:6] == b"\x00\x01"


def test_only_legacy_coins_send_operations() -> None:
    with ModernWallet(*KINDS) as fake:
        wallet = asking(fake)
        assert [coin.index for coin in wallet.legacy_coins()] == [0]
        assert wallet.held() == (KINDS["p2pkh"][0],)


def test_a_wallet_that_signs_wrongly_or_shows_other_amounts_is_caught() -> None:
    with ModernWallet("p2wpkh") as fake:
        fake.spoil = True
        with pytest.raises(NotSigned, match=r"does not hold.*nothing was paid"):
            asking(fake).pay([TxOut(10**6, STRANGER)], 3)
        fake.spoil = False
        shown = fake.answers["listunspent"]
        fake.answers["listunspent"] = lambda *_: [{**shown()[0], "amount": 0.5}]
        with pytest.raises(NotSigned, match="does not hold what it shows"):
            asking(fake).pay([TxOut(10**6, STRANGER)], 3)
        fake.answers["listunspent"] = shown
        fake.answers["getrawtransaction"] = "00"
        with pytest.raises(NotSigned, match="cannot see what the wallet spends"):
            asking(fake).pay([TxOut(10**6, STRANGER)], 3)
        fake.answers["getrawchangeaddress"] = payment_address(_NESTED, MAINNET)
        with pytest.raises(WrongNetwork, match="for change"):
            asking(fake).pay([TxOut(10**6, STRANGER)], 3)


def test_a_locked_wallet_that_ran_out_of_addresses_says_so() -> None:
    with FakeNode() as fake:
        reason = "Error: Keypool ran out, please call keypoolrefill first"
        fake.answers["getnewaddress"] = ErrorReply(-12, reason)
        wallet = NodeWallet(BitcoinNode(fake.url, user="user", password="pass"), REGTEST)
        with pytest.raises(WalletLocked, match="keypoolrefill"):
            wallet.fresh_script("x")


def test_the_coins_of_other_kinds_are_not_shown_to_operations() -> None:
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
    with FakeNode() as fake:
        fake.answers["listunspent"] = [
            shown,
            {**shown, "vout": 2, "desc": "sh(wpkh(03aa))#x"},
            {**shown, "vout": 3, "redeemScript": "0014" + "00" * 20},
            {**shown, "vout": 4, "spendable": False},
            {**shown, "vout": 5, "scriptPubKey": "00"},
            {**shown, "vout": 6, "solvable": False},
        ]
        assert [coin.index for coin in asking(fake).coins(script)] == [1]


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
        methods = "signrawtransactionwithwallet walletprocesspsbt getnewaddress"
        for method in f"{methods} getrawchangeaddress getaddressinfo listunspent".split():
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


def test_of_many_coins_only_those_that_are_locked_are_asked_to_be_unlocked(node, wallet) -> None:
    coin = funded(node, wallet)
    wallet.keep([coin])
    asked = []
    ask = wallet.door.ask
    wallet.door.ask = lambda method, *params: (asked.append(method), ask(method, *params))[1]
    wallet.let_go([Coin(bytes((n,)) * 32, 0, 1, STRANGER) for n in range(200)] + [coin])
    assert asked == ["listlockunspent", "lockunspent"]
    assert wallet.coins(coin.script) == [coin]
