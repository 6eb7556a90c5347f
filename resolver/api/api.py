"""The HTTP API with its doors: a TCP port, and the socket of the daemon's own user."""

import contextlib
import ipaddress
import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from resolver.api.door import ApiDoor, nobody
from resolver.api.export import Exports
from resolver.api.pages import Behind, Pages
from resolver.api.socket_door import SocketDoor
from resolver.api.token import Token
from resolver.dns.asker import Network
from resolver.doors.doh_pages import Begin
from resolver.doors.listening import PortUnavailable
from resolver.process.own_socket import NoPlace, group_id

log = logging.getLogger("blockstore.api")


class Api:
    """Opened by ``open``, closed by ``stop``."""

    def __init__(
        self,
        behind: Behind,
        begin: Begin,
        host: str,
        port: int,
        *,
        names: Sequence[str],
        working_dir: Path,
        token_file: Path | None,
        proxies: Collection[Network] = (),
        proxy_headers: bool = False,
        connections: int,
        connections_per_address: int,
        request_time: float,
        socket_group: str | None = None,
    ) -> None:
        """``begin`` answers DNS over HTTP; whoever shows the token of ``token_file`` may pay over
        TCP (None: nobody); ``proxies`` are believed whom they ask for, and have to send PROXY
        headers with ``proxy_headers``. Addresses of this machine together have three quarters of
        the ``connections``; a whole request has ``request_time`` seconds. Members of
        ``socket_group`` may ask on the socket. Raises TokenError and NoGroup."""
        pages = Pages(behind)
        self._exports = Exports(behind.snapshot)
        lets_in = nobody if token_file is None else Token.on_file(token_file).lets_in
        self._tcp = ApiDoor(
            pages,
            host,
            port,
            names,
            begin=begin,
            exports=self._exports,
            lets_in=lets_in,
            proxies=proxies,
            proxy_headers=proxy_headers,
            max_connections=connections,
            max_per_address=connections_per_address,
            max_per_loopback=connections * 3 // 4,
            idle=request_time,
        )
        group = None if socket_group is None else group_id(socket_group)
        self._own = SocketDoor(pages, working_dir, os.environ, self._exports, group)
        self._wanted_port = port
        self.host = host

    @property
    def port(self) -> int:
        """The bound port."""
        return self._tcp.port

    @property
    def socket(self) -> Path | None:
        """The socket of the daemon's user; None: there is none."""
        return self._own.path

    def open(self) -> None:
        """Open both doors. Raises PortUnavailable."""
        try:
            self._tcp.start()
        except Exception as error:
            cause = getattr(error, "socketError", error)
            if not isinstance(cause, OSError):
                raise
            raise PortUnavailable(
                f"the HTTP API cannot listen on {self.host} port {self._wanted_port}"
                f" ({cause.strerror or cause}); stop what uses it, or choose another port with"
                " --api-port"
            ) from error
        log.info("The HTTP API listens on %s port %d.", self.host, self.port)
        if not ipaddress.ip_address(self.host).is_loopback:
            log.warning("The HTTP API is open to everybody who can reach %s.", self.host)
        try:
            self._own.start()
        except NoPlace as reason:
            log.warning("This user's commands cannot ask or pay here: no socket, for %s.", reason)
        else:
            log.info("Commands of this user are answered on %s.", self._own.path)

    async def stop(self) -> None:
        """Close the doors, and wait until nothing reads the index any more."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._exports.close)
            stack.push_async_callback(self._tcp.stop)
            await self._own.stop()
