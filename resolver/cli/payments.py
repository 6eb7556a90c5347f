"""``blockstore-cli address`` and ``pay``: the wallet of whoever signs, for ordinary payments.

What must stay true: as of every command that pays (``agreeing``).
"""

from decimal import Decimal, InvalidOperation
from typing import Any

import click

from resolver.cli.agreeing import agree
from resolver.cli.asking import Daemon, command

SATOSHIS_A_BITCOIN = 100_000_000


class Amount(click.ParamType[int]):
    """An amount of money: satoshis, or bitcoins as in ``0.5btc``."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Satoshis; ends with a usage error where ``value`` is no whole number of them."""
        text = str(value).lower()
        number = text.removesuffix("btc")
        try:
            satoshis = Decimal(number) * (SATOSHIS_A_BITCOIN if number != text else 1)
        except InvalidOperation:
            satoshis = Decimal(0)
        is_whole = satoshis.is_finite() and satoshis == satoshis.to_integral_value()
        if not is_whole or not 0 < satoshis <= 21_000_000 * SATOSHIS_A_BITCOIN:
            self.fail(f"{text[:80]!r} is no amount; write 50000, or 0.0005btc", param, ctx)
        return int(satoshis)


@command()
def address(daemon: Daemon) -> None:
    """Print a fresh address of the wallet, or key file, that signs for blockstored."""
    found = daemon.order("/v1/registrar/address", {})
    daemon.show(found, lambda said: [said["address"]])


@command()
@click.argument("address")
@click.argument("amount", type=Amount())
@click.option("--yes", is_flag=True, help="Agree to the plan beforehand.")
@click.option("--dry-run", is_flag=True, help="Show the plan, and do nothing.")
@click.option(
    "--fee-rate",
    type=click.FloatRange(0.1, 10_000),
    metavar="SAT/VB",
    help="Of the miner's fee; by default what the node estimates.",
)
def pay(
    daemon: Daemon, address: str, amount: int, yes: bool, dry_run: bool, fee_rate: float | None
) -> None:
    """Pay AMOUNT satoshis (or 0.5btc) to ADDRESS, which may be of any kind.

    What owns names, and what waiting jobs count on, is not spent on it.
    """
    body: dict[str, Any] = {"address": address, "satoshis": amount}
    if fee_rate is not None:
        body["fee_rate"] = fee_rate
    plan = daemon.order("/v1/registrar/payments", body)
    if dry_run:
        daemon.show(plan, lambda said: said["text"])
        return
    agree(plan, yes)
    paid = daemon.order("/v1/registrar/payments", {**body, "max_total": plan["plan"]["total"]})
    daemon.show(paid, lambda said: [f"paid by {said['txid']}"])


COMMANDS = (address, pay)
