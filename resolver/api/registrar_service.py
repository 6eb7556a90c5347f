"""The registrar inside the daemon: orders from the API, jobs carried on in a thread of its own.

What must stay true: a slow node or wallet holds up nothing but the registrar; the thread ends with
the service, and whatever it left half done is in the journal; no reply and no log holds a key.
"""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from indexer.bitcoin.transactions import address_script
from indexer.networks import Network
from indexer.node.node import BitcoinNode, NodeError
from indexer.registrar.planning.payments import PlannedPayment, payment_json, payment_lines
from indexer.registrar.planning.plan_text import plan_json, plan_lines
from indexer.registrar.planning.refusals import CannotOrder, NoSuchJob, PlanRefused, Reason
from indexer.registrar.planning.wishes import BadWish, Wish, read_wish
from indexer.registrar.work.jobs import Job
from indexer.registrar.work.journal import Journal, JournalError
from indexer.registrar.work.orders import Orders, Planned
from indexer.registrar.work.paying import Paying
from indexer.registrar.work.runner import Runner
from indexer.table.snapshot import Snapshot
from indexer.wallet.signers import SignerError
from resolver.api.job_shapes import job_json
from resolver.api.orders import Order, Payment
from resolver.api.payer import OWN, Signers, Signing, offline_name
from resolver.api.renewing import AutoRenew, Renewing
from resolver.refusals import Refusal, Refused
from zonefiles.text.review import UnfitData, review
from zonefiles.text.zonefile import MAX_BYTES, value_hash

log = logging.getLogger("blockstore.registrar")

Json = dict[str, Any]
T = TypeVar("T")

TURN_SECONDS = 10.0
"""Between two passes over the open jobs where no block comes."""
STOP_SECONDS = 5.0
OFF_CHAIN_SECONDS = 60.0
"""The most that publishing or resolving may take."""


class RegistrarService:
    """Takes orders from the API (``registrar.Registrar``), and has them carried on.

    ``publish`` hands data to other nodes and says to how many; ``verify`` resolves a name as a
    stranger does; both run on the event loop of ``start``.
    """

    def __init__(
        self,
        folder: Path,
        network: Network,
        node: BitcoinNode,
        snapshot: Callable[[], Snapshot],
        *,
        signing: Signing,
        renewing: AutoRenew,
        confirmations: int,
        max_fee_rate: float,
        publish: Callable[[bytes, bytes], Awaitable[int]],
        verify: Callable[[str, bytes | None], Awaitable[bool]],
        zones: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``folder`` is the journal's. Raises JournalError and SignerError, each a line for people.

        ``max_fee_rate`` is in satoshis a byte; ``zones`` are the DNS suffixes that are served, each
        with its namespace.
        """
        self._signer = signing.signer
        self._network = network
        self._snapshot = snapshot
        self._publish = publish
        self._verify = verify
        self._zones = zones
        self._node = node
        signers = Signers(signing, self._node, network, self._owns_names)
        self.journal = Journal(folder, network)
        for sentence in self.journal.set_aside:
            log.error("%s", sentence)
        self.runner = Runner(
            self.journal,
            self._node,
            snapshot,
            network,
            signers,
            publish=self._publish_and_wait,
            verify=self._verify_and_wait,
            zones=zones,
            confirmations=confirmations,
            clock=clock,
        )
        self._orders = Orders(self.runner, signers, max_fee_rate=max_fee_rate)
        self._renewing = Renewing(renewing, self._orders, clock)
        self._paying = Paying(
            self.runner, lambda: self._orders.payers.purse(OWN), max_fee_rate=max_fee_rate
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registrar", daemon=True)
        self._threads = concurrent.futures.ThreadPoolExecutor(4, thread_name_prefix="orders")
        self._looked_at: int | None = None

    def start(self) -> None:
        """Carry on what is open, from now on. To be called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread; what is open goes on with the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)
        if self._thread.is_alive():
            log.warning("The node does not answer; what the registrar did last is in its journal.")
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.journal.close()
        self._node.close()

    def blocks_came(self) -> None:
        """There is something new to look at. From any thread."""
        self._wake.set()

    def figures(self) -> Json:
        """What ``/v1/info`` tells of it."""
        return {
            "signer": self._signer,
            "pending": len(self.runner.books.pending()),
            "looked_at_block": self._looked_at,
            "error": self.runner.trouble,
        }

    # --- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            height = self._snapshot().height
            self.runner.turn()
            self._looked_at = height
            self._renewing.look()
            self._wake.wait(TURN_SECONDS)
            self._wake.clear()

    def _publish_and_wait(self, digest: bytes, data: bytes) -> int:
        return self._on_loop(self._publish(digest, data))

    def _verify_and_wait(self, name: str, digest: bytes | None) -> bool:
        return self._on_loop(self._verify(name, digest))

    def _on_loop(self, work: Awaitable[T]) -> T:
        assert self._loop is not None, "started before anything is published"

        async def waited() -> T:
            return await asyncio.wait_for(work, OFF_CHAIN_SECONDS)

        future = asyncio.run_coroutine_threadsafe(waited(), self._loop)
        while True:
            try:
                return future.result(timeout=0.5)
            except concurrent.futures.TimeoutError:
                if future.done():
                    raise
                if self._stopping.is_set():
                    future.cancel()
                    raise

    def _owns_names(self, script: bytes) -> bool:
        return bool(self._snapshot().owned_by(script, limit=1, live_only=False).entries)

    # --- orders (``registrar.Registrar``)

    async def plan(self, order: Order) -> Json:
        """What would be done, as JSON and as text."""

        def make() -> Planned:
            wish, signer, payer = self._read(order)
            notes = self._review(order, wish)
            return self._orders.plan(
                wish,
                signer=signer,
                has_data=order.data is not None,
                payer=payer,
                fee_rate=order.fee_rate,
                notes=notes,
            )

        planned = await self._told(make)
        lines = plan_lines(planned.plan, self._network)
        ceiling = self._orders.fee_ceiling(planned.fee.rate)
        lines.append(
            f"Miner's fee: {planned.fee.rate:g} satoshis a byte, {planned.fee.says};"
            f" while it waits it may rise to {ceiling:g}."
        )
        if not planned.rivals_seen:
            lines.append(
                "Note: too much waits to be mined to see whether somebody else is after the same."
            )
        return {"plan": plan_json(planned.plan, self._network), "text": lines}

    async def begin(self, order: Order, max_total: int) -> Json:
        """Begin it; the job."""

        def make() -> Job:
            wish, signer, payer = self._read(order)
            self._review(order, wish)
            return self._orders.begin(
                wish,
                signer=signer,
                max_total=max_total,
                content=order.data,
                payer=payer,
                fee_rate=order.fee_rate,
            )

        return job_json(await self._told(make), self._network)

    async def jobs(self, everything: bool, first: int, count: int) -> Sequence[Json]:
        """What was begun; a PSBT that waits is on the page of its job."""
        found = self._orders.jobs(everything=everything)[first : first + count]
        pages = (job_json(job, self._network) for job in found)
        return [{key: page[key] for key in page if key != "psbt"} for page in pages]

    async def job(self, job_id: str) -> Json:
        """One job; asks nobody, and so waits for nobody."""
        try:
            return job_json(self._orders.job(job_id), self._network)
        except NoSuchJob as refused:
            raise Refused(Refusal.NO_SUCH_JOB, str(refused), refused.hint) from None

    async def resume(self, job_id: str) -> Json:
        """Carry it on now."""
        return await self._gone_on(lambda: self._orders.resume(job_id))

    async def consent(self, job_id: str) -> Json:
        """Agree to pay anew."""
        return await self._gone_on(lambda: self._orders.consent(job_id))

    async def abandon(self, job_id: str) -> Json:
        """Give it up."""
        return await self._gone_on(lambda: self._orders.abandon(job_id))

    async def hand_in(self, job_id: str, psbt: str) -> Json:
        """Take a signed PSBT."""
        return await self._gone_on(lambda: self._orders.hand_in(job_id, psbt))

    async def _gone_on(self, deed: Callable[[], Job]) -> Json:
        return job_json(await self._told(deed, "nothing more was paid"), self._network)

    async def owned(self) -> Sequence[str]:
        """The names of the signer of the settings."""
        return await self._told(lambda: self._orders.payers.owned(OWN))

    async def address(self) -> str:
        """A fresh address of the signer of the settings."""
        return await self._told(self._paying.fresh_address)

    async def pay(self, payment: Payment) -> Json:
        """What is paid, as JSON and as text; where its total was agreed to it is sent, and has a
        txid."""
        what = payment.address, payment.satoshis, payment.fee_rate

        def make() -> tuple[PlannedPayment, str | None]:
            try:
                if payment.max_total is None:
                    return self._paying.plan(*what), None
                return self._paying.pay(*what, payment.max_total)
            except BadWish as bad:
                raise Refused(Refusal.BAD_REQUEST, f"{bad}; nothing was paid") from None

        planned, txid = await self._told(make)
        plan = {"plan": payment_json(planned, self._network), "text": payment_lines(planned)}
        return plan if txid is None else {**plan, "txid": txid}

    def _read(self, order: Order) -> tuple[Wish, str, bytes | None]:
        """The wish, the name of who signs, and the payer's script. Raises Refused."""
        document: dict[str, object] = dict(order.wish)
        if order.data is not None:
            if not 0 < len(order.data) <= MAX_BYTES:
                raise Refused(
                    Refusal.TOO_LARGE, f"a name holds 1 to {MAX_BYTES} bytes of data, not this many"
                )
            document["value_hash"] = value_hash(order.data).hex()
        try:
            wish = read_wish(document, self._network)
            payer = None if order.payer is None else address_script(order.payer, self._network)
            scripts = [address_script(one, self._network) for one in order.scripts]
        except ValueError as bad:  # ``BadWish`` is one
            hint = "check what was typed"
            if "address" in str(bad):
                hint = f"{hint}; names belong to legacy addresses (p2pkh, p2sh) of the network"
            raise Refused(Refusal.BAD_REQUEST, f"{bad}; nothing was paid", hint) from None
        if not order.offline:
            return wish, OWN, payer
        if payer is not None:
            scripts.insert(0, payer)
        if not scripts and not order.redeem_scripts:
            scripts = [script for script in [self._orders.payers.sender_on_chain(wish)] if script]
        if not scripts and not order.redeem_scripts:
            raise Refused(
                Refusal.BAD_REQUEST,
                "whoever signs elsewhere must say for which addresses; nothing was paid",
                "name the payer: --payer ADDRESS",
            )
        return wish, offline_name(scripts, order.redeem_scripts, self._network), payer

    def _review(self, order: Order, wish: Wish) -> tuple[str, ...]:
        """What its owner should hear of the data. Raises Refused."""
        if order.data is None:
            return ()
        try:
            return review(order.data, wish.subject, self._zones, raw=order.raw)
        except UnfitData as unfit:
            sentence = f"{unfit}; nothing was paid"
            raise Refused(Refusal.BAD_DATA, sentence, unfit.hint) from None

    async def _told(self, ask: Callable[[], T], paid: str = "nothing was paid") -> T:
        """What ``ask`` says, in a thread; its refusals as those of the API. ``paid``: what is said
        of money where the node or the journal fails."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, ask)
        except PlanRefused as refused:
            raise Refused(
                _REFUSALS.get(refused.reason, Refusal.NOT_POSSIBLE),
                f"{refused}; nothing was paid",
                refused.hint,
            ) from None
        except NoSuchJob as refused:
            raise Refused(Refusal.NO_SUCH_JOB, str(refused), refused.hint) from None
        except CannotOrder as refused:
            raise Refused(Refusal.NOT_POSSIBLE, str(refused), refused.hint) from None
        except SignerError as refused:
            raise Refused(Refusal.NODE_AWAY, str(refused), refused.hint) from None
        except (NodeError, JournalError) as failure:
            raise Refused(Refusal.NODE_AWAY, f"{failure}; {paid}") from None


_REFUSALS: Mapping[Reason, Refusal] = {
    Reason.NAME_NOT_REGISTERED: Refusal.NOT_REGISTERED,
    Reason.NAME_EXPIRED: Refusal.EXPIRED,
    Reason.INDEX_BEHIND: Refusal.INDEX_BEHIND,
}
"""The rest is ``NOT_POSSIBLE``."""
