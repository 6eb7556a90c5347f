"""Ordinary payments by whoever signs for the registrar: to somebody, or to an address of her own.

What must stay true: nothing is sent but what was agreed to, or less; coins that open jobs count on
stay where they are.
"""

from collections.abc import Callable

from indexer.bitcoin.transactions import hash_hex, payment_address
from indexer.registrar.planning.payments import PlannedPayment, plan_payment
from indexer.registrar.planning.refusals import CannotOrder
from indexer.registrar.work.making import counted_on
from indexer.registrar.work.payers import Purse
from indexer.registrar.work.runner import Runner
from indexer.wallet.coins import Coin


class Paying:
    """Pays out of one ``purse``, which is asked for at each call and may raise CannotOrder. Blocks
    on nodes and signers."""

    def __init__(self, runner: Runner, purse: Callable[[], Purse], *, max_fee_rate: float) -> None:
        """``max_fee_rate``: the most satoshis a byte that a miner is ever paid."""
        self._runner = runner
        self._purse = purse
        self._max_fee_rate = max_fee_rate

    def fresh_address(self) -> str:
        """An address of whoever signs, to be paid into. Raises CannotOrder, SignerError."""
        address = payment_address(self._purse().fresh_script("blockstore"), self._runner.network)
        assert address is not None, "what a signer makes has an address"
        return address

    def plan(self, address: str, satoshis: int, fee_rate: float | None) -> PlannedPayment:
        """The payment, made and not sent; ``fee_rate`` in satoshis a byte, None for the node's
        estimate. Raises BadWish, CannotOrder, SignerError, NodeError."""
        purse = self._purse()
        rate = self._runner.ask_node().fee.rate if fee_rate is None else fee_rate
        if rate > self._max_fee_rate:
            raise CannotOrder(
                f"{rate:g} satoshis a byte would be paid, and at most {self._max_fee_rate:g} are"
                " paid here; nothing was paid",
                "wait until fees are lower, ask for less, or raise max_fee_rate",
            )
        open_jobs = self._runner.books.pending()
        taken = counted_on(open_jobs)
        senders = {job.parties.sender for job in open_jobs}

        def leaves(coin: Coin) -> bool:
            return coin.script in senders or (coin.txid, coin.index) in taken

        network = self._runner.network
        return plan_payment(purse, network, address, satoshis, fee_rate=rate, leaves=leaves)

    def pay(
        self, address: str, satoshis: int, fee_rate: float | None, max_total: int
    ) -> tuple[PlannedPayment, str]:
        """Send it, for at most the total that was agreed to; it, and its txid in hex. Raises what
        ``plan`` raises."""
        with self._runner.lock:
            planned = self.plan(address, satoshis, fee_rate)
            if planned.total > max_total:
                raise CannotOrder(
                    f"it costs {planned.total} satoshis now, and {max_total} were agreed to;"
                    " nothing was paid",
                    "look at the plan again",
                )
            if planned.raw is None:
                raise CannotOrder(
                    "the wallet that signs here has no keys for its coins; nothing was paid",
                    "pay with the wallet that has them",
                )
            return planned, hash_hex(self._runner.node.send_transaction(planned.raw))
