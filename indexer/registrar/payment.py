"""Ordinary payments: which coins pay for given outputs, and what comes back.

What must stay true: the outputs stand first and in their order, the change (if it is worth an
output) last; every coin that was asked to be spent is spent; the fee is never below the rate
asked for. Pure.
"""

from collections.abc import Sequence

from indexer.registrar.compose import DUST, Coin, Unsigned
from indexer.registrar.signers import InsufficientFunds
from indexer.transactions import TxOut, is_p2pkh, is_p2sh

_OVERHEAD_BYTES = 11
_P2PKH_INPUT, _MULTISIG_INPUT, _WITNESS_INPUT = 149, 300, 69


def input_bytes(script: bytes, script_sig_size: int | None = None) -> int:
    """Virtual bytes of a signed input that spends ``script``, rather too many than too few."""
    if script_sig_size is not None:
        return 41 + script_sig_size + (0 if script_sig_size < 253 else 2)
    if is_p2pkh(script):
        return _P2PKH_INPUT
    if is_p2sh(script):
        return _MULTISIG_INPUT
    return _WITNESS_INPUT


def compose_payment(
    outputs: Sequence[TxOut],
    coins: Sequence[Coin],
    change_script: bytes,
    *,
    fee_rate: float,
    spending: Sequence[Coin] = (),
    script_sig_size: int | None = None,
) -> Unsigned:
    """``outputs`` paid with every coin of ``spending`` and as many of ``coins`` as it takes.

    ``coins`` are taken in their order; ``fee_rate``: satoshis a virtual byte;
    ``script_sig_size``: bytes of the largest scriptSig, where it is known. Raises
    InsufficientFunds with what is missing.
    """
    needed = sum(output.value for output in outputs)
    change_bytes = 9 + len(change_script)
    size = _OVERHEAD_BYTES + sum(9 + len(output.script) for output in outputs)
    spent: list[Coin] = []
    pinned = {(coin.txid, coin.index) for coin in spending}
    waiting = [coin for coin in coins if (coin.txid, coin.index) not in pinned]
    queue = [*spending, *waiting]
    have = fee = 0
    for coin in queue:
        spent.append(coin)
        have += coin.value
        size += input_bytes(coin.script, script_sig_size)
        fee = int(size * fee_rate) + 1
        if len(spent) < len(pinned) or have < needed + fee:
            continue
        change = have - needed - int((size + change_bytes) * fee_rate) - 1
        if change >= DUST:
            outputs = (*outputs, TxOut(change, change_script))
        return Unsigned(tuple(spent), tuple(outputs), have - sum(o.value for o in outputs))
    missing = needed + max(fee, int((size + _P2PKH_INPUT) * fee_rate)) - have
    raise InsufficientFunds(
        f"the coins hold {have} satoshis; {missing} more are needed for outputs of {needed} "
        "satoshis and the miner's fee; nothing was paid. Send coins there and try again"
    )
