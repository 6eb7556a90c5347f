"""The data of names as it was read, kept so that it is read once; bounded in number and bytes.

What must stay true: an entry depends on nothing but its key (the data by its hash, and the chain
name it is read for), so it never goes stale; the least recently asked goes first.
"""

from collections import OrderedDict
from collections.abc import Callable

from resolver.dns.answer import NameData
from zonefiles.text.zonefile import ZonefileError, parse_zonefile

MAX_ENTRIES = 1_024
"""Reading a small zone file costs little more than a look in here, and what is kept is looked at by
the collector each time; the large ones, for which it is worth while, are few."""
MAX_BYTES = 4 * 1024 * 1024
"""Of data as stored; what was read takes several times as much."""


class Contents:
    """A store of read data."""

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        read: Callable[[bytes, str], NameData] | None = None,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._read = read if read is not None else read_data
        self._entries: OrderedDict[tuple[bytes, str], NameData] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes_held(self) -> int:
        """Stored bytes behind the entries."""
        return self._bytes

    def get(self, digest: bytes, chain_name: str) -> NameData | None:
        """What was read of the data with this hash for this name, if it is still here."""
        held = self._entries.get((digest, chain_name))
        if held is not None:
            self._entries.move_to_end((digest, chain_name))
        return held

    def add(self, digest: bytes, chain_name: str, data: bytes) -> NameData:
        """Read ``data``, whose hash is ``digest``, for ``chain_name``, and keep what it says.

        The caller answers for the hash. Never raises for what the data holds.
        """
        held = self._read(data, chain_name)
        replaced = self._entries.pop((digest, chain_name), None)
        if replaced is not None:
            self._bytes -= len(replaced.data)
        self._entries[digest, chain_name] = held
        self._bytes += len(data)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= len(dropped.data)
        return held


def read_data(data: bytes, chain_name: str) -> NameData:
    """The data as a zone file of ``chain_name``, or with the line and reason why it is none."""
    try:
        return NameData(data, parse_zonefile(data, chain_name))
    except ZonefileError as error:
        return NameData(data, None, str(error))
