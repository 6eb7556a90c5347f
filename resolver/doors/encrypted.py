"""The encrypted doors of one service: DNS over TLS and over HTTPS on every listen address.

What must stay true: there are none without a certificate; a port of the system's choice is the
same on no two addresses for certain, so each door says its own; what was opened is closed again,
also when a later door cannot be.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from resolver.doors.certificate import Certificate
from resolver.doors.doh import HttpsDoor, open_https
from resolver.doors.tcp import TcpDoor
from resolver.doors.tls import open_tls
from resolver.resolve import Resolver


class EncryptedDoors:
    """Opened by ``open``, closed by ``stop``, which may be called twice."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._watching: asyncio.Task[None] | None = None
        self.tls: list[TcpDoor] = []
        self.https: list[HttpsDoor] = []

    def open(
        self,
        reactor: Any,
        hosts: Sequence[str],
        chain_file: Path | None,
        key_file: Path | None,
        *,
        dot_port: int | Literal["off"],
        doh_port: int | Literal["off"],
        idle: float,
        max_connections: int,
        max_per_address: int,
    ) -> None:
        """Open both kinds at each of ``hosts``, where there is a certificate (PEM files).

        ``idle`` is in seconds; the limits are of one door. Raises CertificateError or
        PortUnavailable.
        """
        if chain_file is None or key_file is None:
            return
        certificate = Certificate(chain_file, key_file)
        self._watching = asyncio.ensure_future(certificate.watch())
        limits = {"max_connections": max_connections, "max_per_address": max_per_address}
        for host in hosts:
            if dot_port != "off":
                self.tls.append(
                    open_tls(
                        reactor,
                        host,
                        dot_port,
                        self._resolver,
                        certificate,
                        idle=idle,
                        max_per_loopback=max(1, max_connections * 3 // 4),
                        **limits,
                    )
                )
            if doh_port != "off":
                begin = self._resolver.begin
                self.https.append(open_https(reactor, host, doh_port, begin, certificate, **limits))

    async def stop(self) -> None:
        """Close the doors and forget the certificate."""
        while self.https:
            await self.https.pop().stop()
        while self.tls:
            await self.tls.pop().stop()
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
