"""Names that are renewed unasked: looked at every few minutes, ordered as anybody orders.

What must stay true: only what the settings name is renewed, at most at the price that they allow;
a name that costs more is told of once.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from indexer.node.node import NodeError
from indexer.protocol.records import Phase
from indexer.registrar.planning.quote import name_payment
from indexer.registrar.planning.refusals import CannotOrder, PlanRefused
from indexer.registrar.planning.steps import next_view
from indexer.registrar.planning.wishes import RenewName
from indexer.registrar.work.journal import JournalError
from indexer.registrar.work.orders import Orders
from indexer.registrar.work.renewals import Lapsing, names_due
from indexer.wallet.signers import SignerError
from resolver.api.payer import OWN

log = logging.getLogger("blockstore.registrar")

RENEW_SECONDS = 600.0
"""Between two looks at what lapses."""


@dataclass(frozen=True)
class AutoRenew:
    """The names renewed unasked (``all``: every one of the signer), how many seconds before they
    lapse, and the most satoshis that one may cost."""

    names: tuple[str, ...] = ()
    before: float = 0.0
    max_price: int = 0


class Renewing:
    """Orders what is due. Blocks on the node and the signer, so it is for a thread."""

    def __init__(self, wanted: AutoRenew, orders: Orders, clock: Callable[[], float]) -> None:
        self._wanted = wanted
        self._orders = orders
        self._clock = clock
        self._looked = 0.0
        self._too_dear: frozenset[str] = frozenset()

    def look(self) -> None:
        """Begin what is due, where it is time to look again. Never raises."""
        if not self._wanted.names or self._clock() - self._looked < RENEW_SECONDS:
            return
        self._looked = self._clock()
        try:
            self._renew()
        except (SignerError, NodeError, JournalError, CannotOrder) as failure:
            log.warning("What lapses could not be looked at: %s", failure)
        except Exception:
            log.exception("What lapses could not be looked at.")

    def _renew(self) -> None:
        wanted, runner = self._wanted, self._orders.runner
        spacing = runner.network.target_spacing
        owned = [
            one for one in map(self._lapsing, self._orders.payers.owned(OWN)) if one is not None
        ]
        due = names_due(
            owned,
            runner.snapshot().height,
            wanted=wanted.names,
            within=round(wanted.before / spacing),
            ceiling=wanted.max_price,
            busy={job.subject for job in runner.books.pending()},
        )
        for name in due.now:
            wish = RenewName(name, max_price=wanted.max_price)
            try:
                planned = self._orders.plan(wish, signer=OWN)
                job = self._orders.begin(wish, signer=OWN, max_total=planned.plan.total)
            except (PlanRefused, CannotOrder, SignerError) as refused:
                log.warning("%s should be renewed now, but: %s", name, refused)
                continue
            log.info("%s is renewed before it lapses (%s).", name, job.id)
        for dear in due.too_dear:
            if dear.name not in self._too_dear:
                log.warning(
                    "%s lapses at block %d and is not renewed: it costs %d satoshis, and"
                    " auto_renew_max_price is %d.",
                    dear.name,
                    dear.gone_at,
                    dear.price,
                    wanted.max_price,
                )
        self._too_dear = frozenset(one.name for one in due.too_dear)

    def _lapsing(self, name: str) -> Lapsing | None:
        runner = self._orders.runner
        seen = runner.snapshot()
        standing = seen.name_status(name)
        if standing is None:
            return None
        record, status = standing
        if status.phase not in (Phase.LIVE, Phase.GRACE):
            return None
        if status.expires_at is None or status.gone_at is None:
            return None
        view = next_view(seen, runner.network, seen.height, seen.height)
        price = name_payment(name, view).satoshis
        return Lapsing(name, record.last_renewed, status.expires_at, status.gone_at, price)
