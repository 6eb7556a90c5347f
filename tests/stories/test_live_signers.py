"""What our signers sign, a real Bitcoin node that is not ours takes: bcoin, on regtest."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from indexer.bitcoin.blocks import parse_block
from indexer.bitcoin.spending import multisig_script
from indexer.bitcoin.transactions import TxOut, hash_bytes, p2pkh_script
from indexer.networks import REGTEST
from indexer.node.node import BitcoinNode
from indexer.protocol.operations import Announce
from indexer.registrar.planning.compose import compose
from indexer.wallet.coins import Coin, Unsigned
from indexer.wallet.key_signers import KeyFile, Offline
from indexer.wallet.keys import Key, KeyRing, script_of_redeem_script
from indexer.wallet.node_coins import NodeCoins, largest_first
from indexer.wallet.node_wallet import NodeWallet
from indexer.wallet.psbt import combine, sign_psbt, signed_transaction
from indexer.wallet.signers import NeedsSignature, NoWallet, SignerError
from tests.indexer.node.bcoin import Bcoin, needs_bcoin

pytestmark = [pytest.mark.live, needs_bcoin, pytest.mark.timeout(90)]

STRANGER = p2pkh_script(b"\x09" * 20)


def key(word: str, compressed: bool = True) -> Key:
    """A key for worthless coins."""
    return Key(sha256(b"live signers: " + word.encode()).digest(), compressed=compressed)


ALICE, BOB, CAROL, OLD = key("alice"), key("bob"), key("carol"), key("old", compressed=False)
REDEEM = multisig_script(2, [each.public_key for each in (ALICE, BOB, CAROL)])
SHARED = script_of_redeem_script(REDEEM)


class WalkedCoins:
    """The coins of scripts, found by reading every block: bcoin cannot be asked for them."""

    def __init__(self, node: BitcoinNode) -> None:
        self._node = node

    def coins(self, scripts: Sequence[bytes], soon: Sequence[bytes] = ()) -> list[Coin]:
        height = self._node.chain_info().blocks
        found: dict[tuple[bytes, int], Coin] = {}
        hashes = self._node.block_hashes(range(1, height + 1))
        for place, raw in enumerate(self._node.raw_blocks(hashes), 1):
            for number, transaction in enumerate(parse_block(raw)[1]):
                for spent in transaction.inputs:
                    found.pop((spent.previous_txid, spent.previous_index), None)
                for index, (value, script) in enumerate(transaction.outputs):
                    if script in scripts and (number or height - place >= 100):
                        coin = Coin(transaction.txid, index, value, script)
                        found[transaction.txid, index] = coin
        return largest_first(found.values())


@pytest.fixture
def bcoin(tmp_path: Path) -> Iterator[Bcoin]:
    with Bcoin(tmp_path / "node") as node:
        for owner in (ALICE, OLD):
            node.generate(2, owner.script)
        node.generate(102, STRANGER)
        yield node


@pytest.fixture
def client(bcoin: Bcoin) -> Iterator[BitcoinNode]:
    made = BitcoinNode(bcoin.url)
    yield made
    made.close()


def announcement(coin: Coin) -> Unsigned:
    return compose(Announce(message_hash=bytes(20)), REGTEST, [coin], coin.script, fee_rate=20)


def test_keys_in_a_file_announce_and_pay(bcoin: Bcoin, client: BitcoinNode) -> None:
    for owner in (ALICE, OLD):
        signer = KeyFile(KeyRing([owner]), client, REGTEST, WalkedCoins(client))
        (coin, *_) = signer.coins(owner.script)
        bcoin.submit(signer.sign(announcement(coin)))
    bcoin.generate(1, STRANGER)
    ring = KeyRing([ALICE, OLD], [REDEEM])
    signer = KeyFile(ring, client, REGTEST, WalkedCoins(client))
    pinned = signer.coins(OLD.script)[:1]
    first = signer.pay([TxOut(10**8, SHARED)], 10, spending=pinned)
    second = signer.pay([TxOut(10**8, SHARED)], 40, spending=first.unsigned.coins)
    assert {*first.unsigned.coins} <= {*second.unsigned.coins}
    assert hash_bytes(bcoin.submit(second.raw)) == second.txid
    bcoin.call("sendrawtransaction", first.raw.hex())  # bcoin replaces nothing by anything
    bcoin.generate(1, STRANGER)
    (coin,) = signer.coins(SHARED)
    assert coin.txid == second.txid


def test_several_owners_and_offline_devices_sign_what_the_node_takes(
    bcoin: Bcoin, client: BitcoinNode
) -> None:
    alice = KeyFile(KeyRing([ALICE], [REDEEM]), client, REGTEST, WalkedCoins(client))
    bcoin.submit(alice.pay([TxOut(10**8, SHARED), TxOut(10**8, SHARED)], 20).raw)
    bcoin.generate(1, STRANGER)
    one, two = alice.coins(SHARED)
    unsigned = announcement(one)
    with pytest.raises(NeedsSignature) as needs:
        alice.sign(unsigned)
    bcoin.submit(signed_transaction(sign_psbt(needs.value.psbt, KeyRing([CAROL])), unsigned))
    offline = Offline([ALICE.script], client, REGTEST, WalkedCoins(client), [REDEEM])
    assert two in offline.coins(SHARED)
    unsigned = announcement(two)
    with pytest.raises(NeedsSignature) as needs:
        offline.sign(unsigned)
    apart = [sign_psbt(needs.value.psbt, KeyRing([each])) for each in (CAROL, BOB)]
    bcoin.submit(signed_transaction(combine(apart), unsigned))


def test_a_node_without_a_wallet_or_a_scan_says_what_to_use(client: BitcoinNode) -> None:
    with pytest.raises(NoWallet, match=r"use another node or a key file\. Nothing was paid"):
        NodeWallet(client, REGTEST).fresh_script("x")
    with pytest.raises(SignerError, match=r"scantxoutset.*nothing was paid"):
        NodeCoins(client).coins([ALICE.script])
