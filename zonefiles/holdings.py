"""All that this node has to do with data: its archive, its DHT node, where data is had from, and
what is due to be fetched or published."""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zonefiles.archive.archive import Archive
from zonefiles.dht.node import DhtNode
from zonefiles.replication.replicator import Replicator
from zonefiles.sources import DataSource

log = logging.getLogger("blockstore.zonefiles")


class Holdings:
    """The four parts of one node; ``open_holdings`` makes it."""

    def __init__(
        self, archive: Archive, dht: DhtNode, is_announced: Callable[[bytes], bool]
    ) -> None:
        self.archive = archive
        self.dht = dht
        self.source = DataSource(archive, dht)
        self.replicator = Replicator(self.source, dht, is_announced=is_announced)
        self._stopping = False
        self._backlog: asyncio.Task[None] | None = None

    def begin_with(self, announced: Iterator[bytes]) -> None:
        """Take care of all that live names hold, read little by little until ``stop``."""
        work = self.replicator.take_backlog(announced, lambda: self._stopping)
        self._backlog = asyncio.ensure_future(work)

    async def stop(self) -> None:
        """End what is under way, and close the archive."""
        self._stopping = True
        if self._backlog is not None:
            await asyncio.wait({self._backlog})
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.archive.close)
            stack.push_async_callback(self.dht.stop)
            stack.push_async_callback(self.source.close)
            await self.replicator.stop()


async def open_holdings(
    folder: Path,
    *,
    max_bytes: int,
    host: str,
    port: int,
    bootstrap: Sequence[tuple[str, int]],
    is_announced: Callable[[bytes], bool],
    on_data: Callable[[Sequence[bytes]], None],
) -> Holdings:
    """Open the archive in ``folder`` and join the DHT, at ``host`` and UDP ``port`` (0: any).

    ``is_announced`` says whether a live name holds a hash; ``on_data`` hears on the event loop
    which hashes have come, whoever brought them. Raises ArchiveError and DhtError.
    """
    loop = asyncio.get_running_loop()

    def on_kept(digests: Sequence[bytes]) -> None:
        """In the archive's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are stopping
            loop.call_soon_threadsafe(on_data, digests)

    archive = Archive(folder / "archive", max_bytes=max_bytes, on_kept=on_kept)
    try:
        dht = DhtNode(
            host,
            port,
            archive=archive,
            is_announced=is_announced,
            bootstrap=bootstrap,
            state_file=folder / "dht.json",
        )
        await dht.start()
    except BaseException:
        archive.close()
        raise
    holdings = Holdings(archive, dht, is_announced)
    await holdings.replicator.start()
    if not ipaddress.ip_address(host).is_loopback:
        log.warning("The DHT node is open to everybody who can reach %s.", host)
    return holdings
