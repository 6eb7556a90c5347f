"""An ordinary payment before it is sent, and in words: to whom, how much, of which coins, what fee.

What must stay true: nothing is sent from here; what is shown is the payment that was signed, coin
by coin; the coins of addresses that own names are never among them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.bitcoin.transactions import TxOut, hash_hex, payment_address, payment_script
from indexer.networks import Network
from indexer.registrar.planning.plan_text import amount
from indexer.registrar.planning.wishes import MAX_MONEY, BadWish
from indexer.wallet.coins import RELAY_DUST, Coin, Unsigned
from indexer.wallet.signers import NeedsSignature, Signer, spends_any

LEFT_ALONE = (
    "Coins on addresses that own names, and those that waiting jobs count on, are not spent on it."
)


@dataclass(frozen=True, slots=True)
class PlannedPayment:
    """A payment that is made and not sent. Amounts are satoshis."""

    address: str
    satoshis: int
    """What whoever has the address gets."""
    fee_rate: float
    """Satoshis a virtual byte that were asked for."""
    unsigned: Unsigned
    raw: bytes | None = None
    """The signed transaction, to be sent; None where somebody else has yet to sign ``psbt``."""
    psbt: str | None = None

    @property
    def total(self) -> int:
        """What it costs whoever pays."""
        return self.satoshis + self.unsigned.fee

    @property
    def change(self) -> int:
        """What comes back."""
        place = self.unsigned.change
        return 0 if place is None else self.unsigned.outputs[place].value


def plan_payment(
    signer: Signer,
    network: Network,
    address: str,
    satoshis: int,
    *,
    fee_rate: float,
    leaves: Callable[[Coin], bool] = spends_any,
) -> PlannedPayment:
    """``satoshis`` to an address of any kind (base58, bech32, bech32m), by coins of the signer.

    ``fee_rate``: satoshis a virtual byte. ``leaves``: coins that are not to be spent, beside those
    that the signer leaves alone by itself. Raises BadWish and SignerError.
    """
    if isinstance(satoshis, bool) or not isinstance(satoshis, int):
        raise BadWish("an amount is a whole number of satoshis")
    if not RELAY_DUST <= satoshis <= MAX_MONEY:
        raise BadWish(
            f"{satoshis} satoshis cannot be paid; a payment is of {RELAY_DUST} to {MAX_MONEY}"
        )
    try:
        outputs = [TxOut(satoshis, payment_script(address, network))]
    except ValueError as bad:
        raise BadWish(str(bad)) from None
    try:
        paid = signer.pay(outputs, fee_rate, leaves=leaves)
    except NeedsSignature as needed:
        return PlannedPayment(address, satoshis, fee_rate, needed.unsigned, psbt=needed.psbt)
    return PlannedPayment(address, satoshis, fee_rate, paid.unsigned, raw=paid.raw)


def payment_lines(planned: PlannedPayment) -> list[str]:
    """The payment as lines of text."""
    coins = planned.unsigned.coins
    spent = "1 coin is spent" if len(coins) == 1 else f"{len(coins)} coins are spent"
    return [
        f"To pay {amount(planned.satoshis)} to {planned.address}:",
        "",
        f"It costs {amount(planned.total)}: {amount(planned.satoshis)} paid, "
        f"{amount(planned.unsigned.fee)} for the miners "
        f"(at {planned.fee_rate:g} satoshis a byte).",
        f"{spent}, of {amount(sum(coin.value for coin in coins))}; "
        f"{amount(planned.change)} of that stays yours.",
        f"Note: {LEFT_ALONE}",
    ]


def payment_json(planned: PlannedPayment, network: Network) -> dict[str, object]:
    """The payment as JSON, without what is signed: amounts in satoshis, coins by their places."""
    return {
        "address": planned.address,
        "satoshis": planned.satoshis,
        "fee_rate": planned.fee_rate,
        "fee": planned.unsigned.fee,
        "total": planned.total,
        "change": planned.change,
        "coins": [
            {
                "txid": hash_hex(coin.txid),
                "vout": coin.index,
                "satoshis": coin.value,
                "address": payment_address(coin.script, network),
            }
            for coin in planned.unsigned.coins
        ],
        "warnings": [LEFT_ALONE],
    }
