"""Ordinary payments: which coins pay for given outputs, and what comes back.

What must stay true: the outputs stand first and in their order, the change (if it is worth an
output) last; every coin that was asked to be spent is spent. Pure.
"""

from collections.abc import Sequence

from indexer.bitcoin.transactions import TxOut
from indexer.wallet.coins import (
    Coin,
    Form,
    SpendingSize,
    Terms,
    Unsigned,
    spending_size,
)
from indexer.wallet.signers import InsufficientFunds


def compose_payment(
    outputs: Sequence[TxOut],
    coins: Sequence[Coin],
    change_script: bytes,
    *,
    fee_rate: float,
    spending: Sequence[Coin] = (),
    size_of: SpendingSize = spending_size,
) -> Unsigned:
    """``outputs`` paid with every coin of ``spending`` and as few of ``coins`` as will do.

    ``fee_rate``: satoshis a virtual byte. Raises InsufficientFunds with what is missing.
    """
    form = Form((*outputs, TxOut(0, change_script)), len(outputs))
    missing: Unsigned | int = form.needed
    if spending or coins:
        missing = Terms(fee_rate, size_of).choose(spending, coins, form)
    if isinstance(missing, Unsigned):
        return missing
    have = sum({(c.txid, c.index): c.value for c in (*spending, *coins)}.values())
    raise InsufficientFunds(
        f"the coins hold {have} satoshis; {missing} more are needed for outputs of {form.needed} "
        "satoshis and the miner's fee; nothing was paid. Send coins there and try again",
        missing,
    )
