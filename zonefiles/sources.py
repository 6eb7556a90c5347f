"""Where data is had from: this node's archive, then the network within a deadline.

What must stay true: whatever a source gives is checked against the hash here as well; one digest
is looked for once, however many ask for it at the same time; what others were asked for in vain
is not looked for again at once, and only that: who got no turn was told nothing about the data;
every queue, memory and number of look-ups is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from zonefiles.archive.archive import Archive, ArchiveError
from zonefiles.dht.node import DhtNode, Fetched
from zonefiles.text.zonefile import MAX_BYTES, value_hash

NEGATIVE_SECONDS = 10.0
"""How long a failed look-up is remembered; a client asks again sooner, a new block later."""

MAX_LOOKUPS = 64
MAX_WAITING_LOOKUPS = 1_024
_MAX_REMEMBERED = 16_384
_WAIT_SHARE = 0.5
"""Of a look-up's time, what may go by in wait for its turn; the rest is for asking."""
_GRACE = 0.25  # seconds that a look-up gets to come back after its deadline
_DISK_PATIENCE = 0.2  # seconds of them for the disk to take what was found

_log = logging.getLogger("blockstore.zonefiles")


class MissingReason(Enum):
    """Why there is no data."""

    UNAVAILABLE = "no source has it, or none answered in time"
    MISMATCH = "sources gave data, and none of it has the hash on the chain"
    BUSY = "too many look-ups are under way, so nobody was asked"


@dataclass(frozen=True, slots=True)
class Found:
    """Data with the right hash; ``source`` is "archive" or the "ip:port" that gave it."""

    data: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Missing:
    """No data: ``asked`` sources were asked, ``wrong`` of them gave data with another hash."""

    reason: MissingReason
    asked: int
    wrong: int

    @property
    def busy(self) -> bool:
        """Whether this says nothing of the data, only of us."""
        return self.reason is MissingReason.BUSY


_NOBODY_ASKED = Missing(MissingReason.UNAVAILABLE, 0, 0)
_TOO_BUSY = Missing(MissingReason.BUSY, 0, 0)


@dataclass
class SourceStats:
    """Counts since the start. ``refused`` is data whose hash was not the one asked for."""

    from_archive: int = 0
    fetched: int = 0
    missing: int = 0
    refused: int = 0
    merged: int = 0
    remembered: int = 0
    too_busy: int = 0
    unkept: int = 0


class DataSource:
    """Data by its digest. All methods but ``holds`` belong to the thread of the event loop."""

    def __init__(
        self,
        archive: Archive,
        dht: DhtNode | None,
        *,
        negative_seconds: float = NEGATIVE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = SourceStats()
        self._archive = archive
        self._dht = dht
        self._negative_seconds = negative_seconds
        self._clock = clock
        self._under_way: dict[bytes, asyncio.Task[Found | Missing]] = {}
        self._turn = asyncio.Semaphore(MAX_LOOKUPS)
        self._in_line: set[bytes] = set()
        self._failed: OrderedDict[bytes, tuple[float, Missing]] = OrderedDict()
        self._said_unkept = False

    @property
    def looking_for(self) -> int:
        """Digests being looked for in the network just now."""
        return len(self._under_way)

    def peek(self, digest: bytes) -> bytes | None:
        """The data if the archive has it; asks nobody and waits for nothing but the disk."""
        try:
            return self._archive.get(digest)
        except ArchiveError as error:
            _log.error("%s", error)
            return None

    def holds(self, digest: bytes) -> bool:
        """Whether the archive has something under ``digest``; any thread may ask."""
        try:
            return digest in self._archive
        except ArchiveError as error:
            _log.error("%s", error)
            return False

    async def get(self, digest: bytes, timeout: float, *, fresh: bool = False) -> Found | Missing:
        """The data from the archive, else from the network within ``timeout`` seconds.

        What the network gives is kept in the archive. ``fresh`` asks the network even if it
        was asked in vain just before.
        """
        data = self.peek(digest)
        if data is not None:
            _log.debug("%s: from the archive", digest.hex())
            self.stats.from_archive += 1
            return Found(data, "archive")
        if self._dht is None:
            return self._miss(_NOBODY_ASKED)
        look_up = self._under_way.get(digest)
        if look_up is None:
            remembered = None if fresh else self._remembered(digest)
            if remembered is not None:
                self.stats.remembered += 1
                return self._miss(remembered)
            if len(self._under_way) >= MAX_WAITING_LOOKUPS:
                return self._miss(_TOO_BUSY)
            look_up = asyncio.create_task(self._look_up(self._dht, digest, timeout))
            self._under_way[digest] = look_up
        else:
            self.stats.merged += 1
        done, _ = await asyncio.wait([look_up], timeout=timeout + _GRACE)
        if not done or look_up.cancelled():
            return self._miss(_TOO_BUSY if digest in self._in_line else _NOBODY_ASKED)
        outcome = look_up.result()
        return outcome if isinstance(outcome, Found) else self._miss(outcome)

    async def close(self) -> None:
        """End the look-ups under way; whoever waits for one gets Missing."""
        under_way = list(self._under_way.values())
        for look_up in under_way:
            look_up.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _look_up(self, dht: DhtNode, digest: bytes, timeout: float) -> Found | Missing:
        """Ask the network once; never raises but when cancelled."""
        ends = self._clock() + timeout
        try:
            if not await self._has_turn(digest, timeout * _WAIT_SHARE):
                return _TOO_BUSY
            try:
                answer = await dht.fetch(digest, max(0.0, ends - self._clock()))
            finally:
                self._turn.release()
            outcome = self._learn(digest, answer)
            if isinstance(outcome, Found):
                await self._keep(digest, outcome.data)
            return outcome
        except Exception as error:  # noqa: BLE001 - those who wait need an answer, not our bug
            _log.error(
                "the look-up of %s failed (%s: %s)", digest.hex(), type(error).__name__, error
            )
            return _NOBODY_ASKED
        finally:
            self._under_way.pop(digest, None)

    async def _has_turn(self, digest: bytes, patience: float) -> bool:
        """Take one of the turns there are; False if none was free within ``patience`` seconds."""
        self._in_line.add(digest)
        try:
            async with asyncio.timeout(patience):
                await self._turn.acquire()
        except TimeoutError:
            return False
        finally:
            self._in_line.discard(digest)
        return True

    def _learn(self, digest: bytes, answer: Fetched) -> Found | Missing:
        wrong = answer.wrong
        data = answer.data
        if data is not None and (len(data) > MAX_BYTES or value_hash(data) != digest):
            wrong += 1
            data = None
            _log.error("data from %s passed the network with a wrong hash", answer.source)
        self.stats.refused += wrong
        if data is None:
            reason = MissingReason.MISMATCH if wrong else MissingReason.UNAVAILABLE
            missing = Missing(reason, answer.asked, wrong)
            _log.debug("%s: %d nodes asked, and %s", digest.hex(), answer.asked, reason.value)
            if answer.asked:
                self._remember(digest, missing)
            return missing
        _log.debug("%s: from %s", digest.hex(), answer.source)
        self.stats.fetched += 1
        self._failed.pop(digest, None)
        return Found(data, answer.source or "network")

    async def _keep(self, digest: bytes, data: bytes) -> None:
        """Have it on disk, or on its way there when the disk takes long: it is good to serve."""
        try:
            kept = self._archive.keep(digest, data)
        except ArchiveError as error:
            self._note_unkept(error)
            return
        kept.add_done_callback(self._kept)
        await asyncio.wait([kept], timeout=_DISK_PATIENCE)

    def _kept(self, kept: asyncio.Future[bool]) -> None:
        error = None if kept.cancelled() else kept.exception()
        if error is not None:
            self._note_unkept(error)

    def _note_unkept(self, error: BaseException) -> None:
        self.stats.unkept += 1
        if not self._said_unkept:
            _log.warning("data is served, and not kept: %s (said once)", error)
            self._said_unkept = True

    def _remember(self, digest: bytes, missing: Missing) -> None:
        self._failed.pop(digest, None)
        self._failed[digest] = (self._clock() + self._negative_seconds, missing)
        if len(self._failed) > _MAX_REMEMBERED:
            self._failed.popitem(last=False)

    def _remembered(self, digest: bytes) -> Missing | None:
        until, missing = self._failed.get(digest, (0.0, None))
        if missing is None or self._clock() >= until:
            self._failed.pop(digest, None)
            return None
        return missing

    def _miss(self, missing: Missing) -> Missing:
        self.stats.missing += 1
        self.stats.too_busy += missing.busy
        return missing
