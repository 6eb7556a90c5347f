"""The API on the daemon's own Unix socket: for its user's commands, and for whatever pays.

What must stay true: nobody but the daemon's user, root, and the group that it was opened to is
answered there, by the rights of the folder, of the socket, and by what the kernel says of who
connects.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from resolver.api.door import ApiFactory, HostNames
from resolver.api.export import Exports
from resolver.api.pages import Pages
from resolver.doors.web import BoundedChannel
from resolver.process import own_socket
from resolver.process.own_socket import NoPlace

log = logging.getLogger("blockstore.api")

BACKLOG = 128


class _OwnChannel(BoundedChannel):
    """A connection of somebody who may ask; any other is ended at once."""

    def connectionMade(self) -> None:
        if not own_socket.may_ask(self.transport.socket, self.factory.group):
            self.transport.abortConnection()
            return
        super().connectionMade()


class _OwnFactory(ApiFactory):
    protocol = _OwnChannel
    is_own = True
    group: int | None = None


class SocketDoor:
    """The API on the socket of ``working_dir``."""

    def __init__(
        self,
        pages: Pages,
        working_dir: Path,
        environ: Mapping[str, str],
        exports: Exports | None,
        group: int | None = None,
    ) -> None:
        """Members of ``group`` may ask and pay as the daemon's user may."""
        self._group = group
        self._pages = pages
        self._working_dir = working_dir
        self._environ = environ
        self._exports = exports
        self._listening: Any = None
        self._place: own_socket.Place | None = None
        self._factory: _OwnFactory | None = None

    @property
    def path(self) -> Path | None:
        """Where it listens; None: nowhere."""
        return None if self._place is None else self._place.path

    def start(self) -> None:
        """Listen. Raises NoPlace where no folder will do, and NoGroup."""
        from twisted.internet import reactor

        hosts = HostNames("127.0.0.1")
        factory = _OwnFactory(self._pages, hosts, reactor, exports=self._exports)
        factory.group = self._group
        self._place, self._listening = own_socket.claim(
            self._working_dir, self._environ, lambda address: _listen(reactor, address, factory)
        )
        if self._group is not None:
            self._place.open_to(self._group)
        self._factory = factory

    async def stop(self) -> None:
        """Close the door and what is still connected."""
        if self._listening is None or self._place is None:
            return
        closing = self._listening.stopListening()
        if closing is not None:
            await closing.asFuture(asyncio.get_running_loop())
        self._listening = None
        if self._factory is not None:
            self._factory.places.clear()
        with suppress(OSError, NoPlace):
            if self._place.is_there():
                self._place.remove()
        self._place.close()
        self._place = None


def _listen(reactor: Any, address: str, factory: ApiFactory) -> Any:
    """A listening port on the Unix socket ``address``. Raises OSError."""
    from twisted.internet import error, tcp, unix

    class Port(unix.Port):
        """Leaves the file to ``SocketDoor``, which knows the folder."""

        def connectionLost(self, reason: Any) -> None:
            tcp.Port.connectionLost(self, reason)

    # Bound, then given its rights, and only then listening: nobody gets in between.
    port = Port(address, factory, BACKLOG, 0o600, reactor)
    try:
        port.startListening()
    except error.CannotListenError as failed:
        raise failed.socketError from None
    return port
