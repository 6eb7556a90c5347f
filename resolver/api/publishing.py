"""Data in the hands of this node: kept on disk, given to others, and whether others have it.

What must stay true: errors of the disk and of the network become refusals for people; a name is
said to resolve only when somebody else could get its data, if anybody else is there.
"""

import logging
from collections.abc import Callable

from indexer.table.snapshot import Snapshot
from resolver.refusals import Refusal, Refused
from zonefiles.archive.archive import Archive, ArchiveError, ArchiveFull, TooLarge
from zonefiles.dht.node import DhtError, DhtNode

log = logging.getLogger("blockstore.service")

STRANGER_SECONDS = 10.0


class Publishing:
    """The archive and the network as those see them who hand in data."""

    def __init__(self, archive: Archive, dht: DhtNode, snapshot: Callable[[], Snapshot]) -> None:
        self._archive = archive
        self._dht = dht
        self._snapshot = snapshot

    async def keep(self, digest: bytes, data: bytes) -> None:
        """Have ``data`` on disk under its hash. Raises Refused."""
        try:
            await self._archive.keep(digest, data)
        except ArchiveFull as error:
            raise Refused(Refusal.ARCHIVE_FULL, str(error)) from error
        except TooLarge as error:
            raise Refused(Refusal.TOO_LARGE, str(error)) from error
        except ArchiveError as error:
            log.error("The archive refused data: %s.", error)
            raise Refused(Refusal.BROKEN, str(error)) from error

    async def publish(self, digest: bytes, data: bytes) -> int:
        """To how many nodes of the network ``data`` went."""
        try:
            return await self._dht.publish(digest, data)
        except DhtError as error:
            log.info("%s is kept here and not in the DHT: %s.", digest.hex(), error)
            return 0

    async def keep_and_publish(self, digest: bytes, data: bytes) -> int:
        """Both. Where nobody else is there to take it, this node itself counts."""
        await self.keep(digest, data)
        given = await self.publish(digest, data)
        return given if self._dht.peers else 1

    async def resolves(self, name: str, digest: bytes | None) -> bool:
        """Whether a stranger who looks ``name`` up finds the data with that hash.

        None: whatever the index says, data or none.
        """
        record = self._snapshot().name(name)
        if record is None:
            return False
        wanted = record.value_hash if digest is None else digest
        if record.value_hash != wanted:
            return False
        if wanted is None or record.revoked:
            return True
        if not self._dht.peers:
            return wanted in self._archive
        try:
            found = await self._dht.fetch(wanted, STRANGER_SECONDS)
        except DhtError as error:
            log.info("%s could not be looked up: %s.", wanted.hex(), error)
            return False
        return found.data is not None
