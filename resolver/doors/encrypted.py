"""The encrypted doors of one service: DNS over TLS and over HTTPS on every listen address.

What must stay true: there are none without a certificate; a port of the system's choice is the
same on no two addresses for certain, so each door says its own; what was opened is closed again,
also when a later door cannot be.
"""

import asyncio
import contextlib
from typing import Any

from resolver.doors.certificate import Certificate
from resolver.doors.doh import HttpsDoor, open_https
from resolver.doors.tcp import TcpDoor
from resolver.doors.tls import open_tls
from resolver.resolve import Resolver
from resolver.settings.settings import Settings


class EncryptedDoors:
    """Opened by ``open``, closed by ``stop``, which may be called twice."""

    def __init__(self, settings: Settings, resolver: Resolver) -> None:
        self._settings = settings
        self._resolver = resolver
        self._watching: asyncio.Task[None] | None = None
        self.tls: list[TcpDoor] = []
        self.https: list[HttpsDoor] = []

    def open(self, reactor: Any) -> None:
        """Open what the settings ask for. Raises CertificateError or PortUnavailable."""
        settings = self._settings
        if settings.tls_certificate is None or settings.tls_key is None:
            return
        certificate = Certificate(settings.tls_certificate, settings.tls_key)
        self._watching = asyncio.ensure_future(certificate.watch())
        limits = {
            "max_connections": settings.tcp_connections,
            "max_per_address": settings.tcp_connections_per_address,
        }
        for host in settings.listen:
            if settings.dot_port != "off":
                self.tls.append(
                    open_tls(
                        reactor,
                        host,
                        settings.dot_port,
                        self._resolver,
                        certificate,
                        idle=settings.tcp_idle_timeout,
                        max_per_loopback=max(1, settings.tcp_connections * 3 // 4),
                        **limits,
                    )
                )
            if settings.doh_port != "off":
                begin = self._resolver.begin
                self.https.append(
                    open_https(reactor, host, settings.doh_port, begin, certificate, **limits)
                )

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
