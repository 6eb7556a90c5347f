"""Operations to outputs, and the coins that pay for them.

What must stay true: what is composed here, ``read_operation`` reads back; the coin of input 0 is
the sender's. Pure. Output positions carry meaning, so each operation has its own list (protocol
spec 1.7-1.18).
"""

from collections.abc import Sequence

from indexer.bitcoin.transactions import TxOut, is_p2pkh, is_p2sh, p2pkh_script
from indexer.networks import Network
from indexer.protocol.operations import (
    Import,
    NamespacePreorder,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    TokenTransfer,
    Transfer,
)
from indexer.protocol.payloads import write_operation
from indexer.wallet.coins import (
    DUST,
    RELAY_DUST,
    CannotPay,
    Coin,
    Form,
    SpendingSize,
    Terms,
    Unsigned,
    spending_size,
)


def write_outputs(
    operation: Operation, network: Network, change_script: bytes
) -> tuple[list[TxOut], int]:
    """The outputs of ``operation`` and the index of the change, whose value is still 0.

    Raises ``ValueError`` where a field does not fit the wire.
    """
    form = _form(operation, network, change_script)
    return list(form.outputs), form.change


def _form(
    operation: Operation, network: Network, change_script: bytes, returned: TxOut | None = None
) -> Form:
    """``returned``: the sender's coin on its way back, where somebody else pays and gets the
    change; its places are those of the original's later clients."""
    payload = write_operation(operation, network.magic)
    if len(payload) > 80:
        raise ValueError(f"the payload has {len(payload)} bytes; nodes relay at most 80")
    push = bytes((len(payload),)) if len(payload) < 76 else bytes((76, len(payload)))
    first = TxOut(0, b"\x6a" + push + payload)
    change = TxOut(0, change_script)
    tail = (change,) if returned is None else (returned, change)
    outputs: tuple[TxOut, ...]
    match operation:
        case Preorder() | NamespacePreorder():
            outputs = (first, change, TxOut(operation.op_fee, operation.fee_script))
            return Form(outputs, 1)
        case Register() | NamespaceReveal():
            return Form((first, TxOut(DUST, operation.recipient), change), 2)
        case Transfer() | TokenTransfer():
            outputs = (first, TxOut(DUST, operation.recipient), *tail)
        case Renew():
            owner = TxOut(DUST, operation.recipient)
            fee = TxOut(operation.op_fee, operation.fee_script)
            if returned is None:
                return Form((first, owner, change, fee), 2)
            outputs = (first, owner, returned, fee, change)
        case Import():
            disguised = TxOut(DUST, p2pkh_script(operation.value_hash))
            outputs = (first, TxOut(DUST, operation.recipient), disguised, *tail)
        case _:
            outputs = (first, *tail)
    return Form(outputs, len(outputs) - 1)


def compose(
    operation: Operation,
    network: Network,
    coins: Sequence[Coin],
    change_script: bytes,
    *,
    fee_rate: float,
    first: Coin | None = None,
    replaces: Unsigned | None = None,
    owed: int = 0,
    size_of: SpendingSize = spending_size,
) -> Unsigned:
    """A transaction for ``operation``, paid with as few of ``coins`` as will do.

     The sender is ``operation.sender``, or else whoever owns ``first``, or the first of ``coins``.
     Coins of other scripts are used only where the sender's are too few; then their script gets
     the change and, where the operation has room for it, the sender's coin comes back whole.
     ``first``: the coin that input 0 must spend. ``replaces``: a transaction that this one takes
     the place of: all of its coins are spent again, and the fee rises as BIP 125 asks; the coins
     must be confirmed then. ``owed``: satoshis that nodes count for it, with what builds upon it.
    ``fee_rate``: satoshis a virtual byte.

     Raises ``CannotPay``, and ``ValueError`` for what the protocol does not let
     sign or does not fit the wire.
    """
    fixed = _fixed(first, replaces)
    everything = [*fixed, *coins]
    if not all(is_p2pkh(coin.script) or is_p2sh(coin.script) for coin in everything):
        raise ValueError("only p2pkh and p2sh coins can send an operation")
    if not everything:
        raise CannotPay("there is no coin to pay with", DUST)
    sender = operation.sender or everything[0].script
    ours = [coin for coin in coins if coin.script == sender]
    others = [coin for coin in coins if coin.script != sender]
    if fixed and fixed[0].script != sender:
        raise ValueError("the first coin is not the sender's")
    terms = Terms(fee_rate, size_of, replaces, owed)
    form = _form(operation, network, change_script)
    if not fixed and not ours:
        lacking = terms.choose((), [Coin(bytes(32), 0, 0, sender)], form)
        assert isinstance(lacking, int), "nothing pays for nothing"
        raise CannotPay("there is no coin of the sender, who must spend one", lacking)
    helped = any(coin.script != sender for coin in fixed)
    found: Unsigned | int = 0
    if not helped:
        found = terms.choose(fixed, ours, form)
        if isinstance(found, Unsigned):
            return found
    if helped or others:
        funder = next(c.script for c in (*fixed, *others) if c.script != sender)
        lead = fixed or [_smallest(ours)]
        returned = TxOut(lead[0].value, sender)
        funded = _form(operation, network, funder, returned)
        if returned.value >= RELAY_DUST and len(funded.outputs) > len(form.outputs):
            found = terms.choose(lead, others, funded)
            if isinstance(found, Unsigned):
                return found
        lead = fixed or [max(ours, key=lambda coin: coin.value)]
        found = terms.choose(lead, [*ours, *others], form)
        if isinstance(found, Unsigned):
            return found
    assert isinstance(found, int), "what was found has been returned"
    have = sum({(c.txid, c.index): c.value for c in everything}.values())
    raise CannotPay(
        f"the coins given hold {have} satoshis; {found} more are needed for outputs of "
        f"{form.needed} satoshis and the miner's fee",
        found,
    )


def _fixed(first: Coin | None, replaces: Unsigned | None) -> list[Coin]:
    if replaces is None:
        return [] if first is None else [first]
    if first not in (None, replaces.coins[0]):
        raise ValueError("a replacement keeps the first coin of what it replaces")
    return list(replaces.coins)


def _smallest(coins: Sequence[Coin]) -> Coin:
    """The coin that names the sender and comes back: the smallest that can be an output again."""
    fit = [coin for coin in coins if coin.value >= RELAY_DUST] or list(coins)
    return min(fit, key=lambda coin: (coin.value, coin.txid, coin.index))


def take_back(
    previous: Unsigned,
    change_script: bytes,
    coins: Sequence[Coin] = (),
    *,
    fee_rate: float,
    size_of: SpendingSize = spending_size,
    owed: int = 0,
) -> Unsigned:
    """A payment of all that ``previous`` spends to ``change_script``, in the place of it: once this
    is mined, ``previous`` never can be. ``owed``: as in ``compose``. Raises ``CannotPay``."""
    form = Form((TxOut(0, change_script),), 0)
    found = Terms(fee_rate, size_of, previous, owed).choose(previous.coins, coins, form)
    if isinstance(found, int):
        raise CannotPay(
            f"to replace the transaction by one with a higher fee, {found} satoshis more "
            "are needed",
            found,
        )
    return found
