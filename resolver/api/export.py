"""A snapshot of the index over HTTP: made in a thread as fast as it is read, one at a time.

What must stay true: the reactor never waits for the disk or the compressor; no more than two
pieces are held; whoever stops reading is cut off; the index is not closed under an export.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from indexer.table.snapshot_file import Table, write_snapshot
from resolver.doors.web import BoundedRequest
from resolver.refusals import Refusal, Refused

log = logging.getLogger("blockstore.api")

SNAPSHOT_PATH = "/v1/snapshot"
STALLED_AFTER = 60.0
"""Seconds in which somebody who takes a snapshot must have read a piece."""


class Exports:
    """Gives the snapshot of ``table()`` to one client of this machine at a time."""

    def __init__(self, table: Callable[[], Table]) -> None:
        self._table = table
        self._under_way: asyncio.Task[None] | None = None

    def begin(self, request: BoundedRequest) -> Refused | None:
        """Answer ``request`` from now on; the reason if not."""
        if not request.is_local:
            sentence = "a snapshot is given to programs on this machine only"
            return Refused(Refusal.FORBIDDEN, sentence, "run `blockstored snapshot export` here")
        if request.getHeader("origin") is not None:
            sentence = "a snapshot is not for web pages"
            return Refused(Refusal.FORBIDDEN, sentence, "run `blockstored snapshot export`")
        if self._under_way is not None:
            sentence = "somebody takes a snapshot already"
            return Refused(Refusal.BUSY, sentence, "try again when that is done")
        table = self._table()
        if table.height < table.network.first_block:
            return Refused(Refusal.INDEX_BEHIND, "the index holds no block yet")
        self._under_way = asyncio.ensure_future(self._give(request, write_snapshot(table)))
        return None

    async def close(self) -> None:
        """Break off what is under way, and wait until nothing reads the index any more."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait({self._under_way})

    async def _give(self, request: BoundedRequest, pieces: Iterator[bytes]) -> None:
        reader = _Reader()
        request.notifyFinish().addErrback(lambda _reason: reader.leave())
        request.registerProducer(reader, True)
        request.setHeader("Content-Type", "application/x-xz")
        request.setHeader("Cache-Control", "no-store")
        making: asyncio.Future[bytes] | None = None
        whole = False
        try:
            while not reader.left:
                making = asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))
                piece = await asyncio.shield(making)
                if not piece:
                    whole = True
                    break
                async with asyncio.timeout(STALLED_AFTER):
                    await reader.ready.wait()
                if not reader.left:
                    request.write(piece)
        except TimeoutError:
            log.warning("A snapshot was broken off: its reader has not read for a minute.")
        except Exception:
            log.exception("A snapshot could not be made.")
        finally:
            if making is not None and not making.done():
                # The thread reads the index until its piece is made.
                with contextlib.suppress(Exception):
                    await asyncio.wait({making})
            self._under_way = None
            if not reader.left:
                request.unregisterProducer()
                if whole:
                    request.finish()
                else:
                    # Without the last chunk the client knows that this was not all of it.
                    request.channel.transport.abortConnection()


class _Reader:
    """What Twisted tells of the one who reads: a push producer, and whether they are gone."""

    def __init__(self) -> None:
        self.left = False
        self.ready = asyncio.Event()
        self.ready.set()

    def pauseProducing(self) -> None:
        self.ready.clear()

    def resumeProducing(self) -> None:
        self.ready.set()

    def stopProducing(self) -> None:
        self.leave()

    def leave(self, *_: Any) -> None:
        self.left = True
        self.ready.set()
