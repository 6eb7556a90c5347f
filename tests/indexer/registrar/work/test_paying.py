"""Ordinary payments by whoever signs for the registrar."""

import pytest

from indexer.bitcoin.transactions import TxOut, script_address
from indexer.networks import SANDBOX
from indexer.registrar.planning.refusals import CannotOrder
from indexer.registrar.work.paying import Paying
from indexer.wallet.signers import NeedsSignature
from tests.indexer.registrar.fakes import OWNER, World


def test_a_wallet_without_keys_shows_the_payment_and_pays_nothing(world: World) -> None:
    paying = Paying(world.runner, lambda: world.signer, max_fee_rate=500.0)
    unsigned = world.signer.pay([TxOut(70_000, OWNER)], 2.0).unsigned
    world.signer.refuses = NeedsSignature("cHNidP8=", unsigned)
    to = script_address(OWNER, SANDBOX) or ""
    assert paying.plan(to, 70_000, 2.0).psbt == "cHNidP8="
    with pytest.raises(CannotOrder, match="no keys for its coins; nothing was paid"):
        paying.pay(to, 70_000, 2.0, 10**9)
    assert world.node.mempool_size == 0
