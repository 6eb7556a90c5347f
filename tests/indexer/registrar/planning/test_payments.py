"""An ordinary payment is shown as it is sent, and never spends what a name's owner holds."""

import json
from collections.abc import Iterator

import pytest
from embit.script import address_to_scriptpubkey
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitcoin.transactions import (
    TxOut,
    p2pkh_script,
    p2sh_script,
    parse_transaction,
    payment_address,
    payment_script,
)
from indexer.networks import MAINNET, REGTEST, TESTNET
from indexer.node.node import BitcoinNode
from indexer.registrar.planning.payments import payment_json, payment_lines, plan_payment
from indexer.registrar.planning.wishes import BadWish
from indexer.sandbox.node import SandboxNode
from indexer.wallet.key_signers import Offline
from indexer.wallet.node_coins import NodeCoins
from indexer.wallet.node_wallet import NodeWallet
from indexer.wallet.signers import InsufficientFunds

STRANGER = p2pkh_script(b"\x09" * 20)
TO = payment_address(STRANGER, REGTEST) or ""
KINDS = {
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2": MAINNET,
    "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy": MAINNET,
    # BIP 173 and BIP 350
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4": MAINNET,
    "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7": TESTNET,
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0": MAINNET,
}
BAD = (
    "",
    "1",
    "bc1",
    "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",  # of another network
    "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081",  # checksum
    "bcrt1pw5dgrnzv",  # too short (version 1, 2 bytes)
    "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",  # version 2
    "BCRT1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",  # letters of both cases
    "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfo",  # checksum
    "ö" * 40,
)


@pytest.fixture
def node() -> Iterator[SandboxNode]:
    with SandboxNode(clock=lambda: 1_700_000_000) as sandbox:
        sandbox.generate(3, sandbox.wallet_script("mined"))
        sandbox.generate(100, STRANGER)
        yield sandbox


@pytest.mark.parametrize(("address", "network"), KINDS.items())
def test_an_address_of_any_kind_can_be_paid(address: str, network) -> None:
    script = payment_script(address, network)
    lower = address if address[0] in "13" else address.lower()
    assert script == bytes(address_to_scriptpubkey(lower).data)
    assert payment_address(script, network) == lower
    for other in (MAINNET, TESTNET, REGTEST):
        if other is not network:
            with pytest.raises(ValueError, match="another network"):
                payment_script(address, other)


@pytest.mark.parametrize("address", BAD)
def test_what_is_no_address_here_is_told_so(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        payment_script(address, REGTEST)


@given(st.text(max_size=100))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for given_text in (text, f"bcrt1{text}"):
        try:
            script = payment_script(given_text, REGTEST)
        except ValueError:
            continue
        assert payment_address(script, REGTEST)


@given(st.binary(max_size=40))
def test_any_script_has_one_address_or_none(tail: bytes) -> None:
    for script in (tail, b"\x00\x14" + tail[:20], b"\x51\x20" + tail[:32], b"\x00\x20" + tail[:32]):
        address = payment_address(script, REGTEST)
        assert address is None or payment_script(address, REGTEST) == script


def test_a_payment_is_shown_as_it_is_sent(node) -> None:
    wallet = NodeWallet(BitcoinNode(node.url), REGTEST)
    for script in (STRANGER, p2sh_script(b"\x05" * 20), b"\x51\x20" + b"\x79" * 32):
        to = payment_address(script, REGTEST) or ""
        planned = plan_payment(wallet, REGTEST, to, 70_000, fee_rate=3)
        assert planned.raw is not None
        sent = parse_transaction(planned.raw)
        assert sent.outputs[0] == TxOut(70_000, script)
        document = payment_json(planned, REGTEST)
        assert document["total"] == 70_000 + planned.unsigned.fee
        held = sum(coin["satoshis"] for coin in document["coins"])  # type: ignore[attr-defined]
        assert held == planned.total + planned.change
        assert planned.raw.hex() not in json.dumps(document)
        text = "\n".join(payment_lines(planned))
        assert text.startswith(f"To pay 70,000 satoshis to {to}:")
        assert f"{planned.unsigned.fee} satoshis for the miners (at 3 satoshis a byte)" in text
        assert "addresses that own names" in text
        node.submit(planned.raw)
        node.generate(1, STRANGER)


def test_coins_of_owners_and_of_jobs_are_not_spent_on_a_payment(node) -> None:
    client = BitcoinNode(node.url)
    names = set(NodeWallet(client, REGTEST).held())
    with pytest.raises(InsufficientFunds, match="own names stay there"):
        plan_payment(
            NodeWallet(client, REGTEST, in_use=names.__contains__), REGTEST, TO, 1_000, fee_rate=1
        )
    free = NodeWallet(client, REGTEST)
    kept = free.legacy_coins()[:2]
    planned = plan_payment(free, REGTEST, TO, 10**9, fee_rate=1, leaves=kept.__contains__)
    assert not set(planned.unsigned.coins) & set(kept)
    with pytest.raises(InsufficientFunds):
        plan_payment(free, REGTEST, TO, 10**9, fee_rate=1, leaves=lambda coin: True)


def test_who_signs_elsewhere_is_handed_the_payment(node) -> None:
    client = BitcoinNode(node.url)
    mine = node.wallet_script("mined")
    signer = Offline([mine], client, REGTEST, NodeCoins(client))
    node.generate(1, mine)
    node.generate(100, STRANGER)
    planned = plan_payment(signer, REGTEST, TO, 50_000, fee_rate=2)
    assert planned.raw is None
    assert planned.psbt
    assert planned.unsigned.outputs[0] == TxOut(50_000, STRANGER)


@pytest.mark.parametrize("satoshis", [-1, 0, 545, 21 * 10**14 + 1, True, 1e6, "1000"])
def test_what_is_no_amount_is_refused_before_anybody_is_asked(satoshis, node) -> None:
    wallet = NodeWallet(BitcoinNode("http://127.0.0.1:1"), REGTEST)
    with pytest.raises(BadWish, match="satoshis"):
        plan_payment(wallet, REGTEST, TO, satoshis, fee_rate=1)
    with pytest.raises(BadWish, match="address"):
        plan_payment(wallet, REGTEST, "nonsense", 1_000, fee_rate=1)
