"""The DNS doors of one service: UDP and TCP on every address, and with a certificate TLS and HTTPS.

What must stay true: UDP and TCP of an address share a port; without a certificate there is no
encrypted door; a port of the system's choice is the same on no two addresses for certain, so each
door says its own; what was opened is closed again, also when a later door cannot be.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from resolver.dns.asker import Network
from resolver.dns.rates import Rates, ReplyRates
from resolver.doors.certificate import Certificate
from resolver.doors.connections import StreamDoor
from resolver.doors.doh import open_https
from resolver.doors.listening import PortUnavailable, make_room
from resolver.doors.tcp import open_tcp, open_tls
from resolver.doors.udp import UdpDoor, open_udp
from resolver.resolve import Resolver

log = logging.getLogger("blockstore.resolver")

PORT_TRIES = 20


@dataclass(frozen=True)
class Encryption:
    """PEM files of a certificate chain and its key, and the ports (0: any) that need them."""

    chain_file: Path
    key_file: Path
    dot_port: int | Literal["off"]
    doh_port: int | Literal["off"]


class Doors:
    """Opened by ``open``, closed by ``stop``."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        idle: float,
        connections: int,
        per_address: int,
        proxies: Mapping[str, Collection[Network]] = MappingProxyType({}),
    ) -> None:
        """``idle`` is in seconds; so many ``connections`` may each TCP door have. ``proxies`` have
        to send PROXY headers at the doors ``dns``, ``dot`` and ``doh``."""
        self._proxies = proxies
        self._resolver = resolver
        self._connections = connections
        self._limits: dict[str, Any] = {
            "idle": idle,
            "max_connections": connections,
            "max_per_address": per_address,
            "max_per_loopback": max(1, connections * 3 // 4),
        }
        self._watching: asyncio.Task[None] | None = None
        self.udp: list[UdpDoor] = []
        self.tcp: list[StreamDoor] = []
        self.tls: list[StreamDoor] = []
        self.https: list[StreamDoor] = []

    def open(
        self, hosts: Sequence[str], port: int, rates: Rates, encryption: Encryption | None = None
    ) -> None:
        """Open a door of each kind on each of ``hosts``. Raises CertificateError and
        PortUnavailable."""
        from twisted.internet import reactor

        encrypted = () if encryption is None else (encryption.dot_port, encryption.doh_port)
        kinds = 1 + sum(port != "off" for port in encrypted)
        make_room(kinds * len(hosts) * self._connections)
        for host in hosts:
            self._open_plain(reactor, host, port, rates)
            if not ipaddress.ip_address(host).is_loopback:
                log.warning("DNS is open to everybody who can reach %s.", host)
        if encryption is not None:
            self._open_encrypted(reactor, hosts, encryption)

    def _open_plain(self, reactor: Any, host: str, port: int, rates: Rates) -> None:
        """UDP and TCP on one port; a port of the system's choice must be free for both."""
        resolver, proxies = self._resolver, self._proxies.get("dns", ())
        for left in reversed(range(PORT_TRIES if port == 0 else 1)):
            tcp = open_tcp(reactor, host, port, resolver, proxies=proxies, **self._limits)
            self.tcp.append(tcp)  # also a spare one, to be closed with the others
            try:
                more = {"rates": ReplyRates(rates), "proxies": proxies}
                self.udp.append(open_udp(reactor, host, tcp.port, resolver, **more))
                return
            except PortUnavailable:
                if not left:
                    raise

    def _open_encrypted(self, reactor: Any, hosts: Sequence[str], wanted: Encryption) -> None:
        certificate = Certificate(wanted.chain_file, wanted.key_file)
        self._watching = asyncio.ensure_future(certificate.watch())
        resolver, limits = self._resolver, self._limits
        for host in hosts:
            if wanted.dot_port != "off":
                place = reactor, host, wanted.dot_port
                more = limits | {"proxies": self._proxies.get("dot", ())}
                self.tls.append(open_tls(*place, resolver, certificate, **more))
            if wanted.doh_port != "off":
                place = reactor, host, wanted.doh_port
                more = limits | {"proxies": self._proxies.get("doh", ())}
                self.https.append(open_https(*place, resolver.begin, certificate, **more))

    async def stop(self) -> None:
        """Close the doors and forget the certificate."""
        for stream in (*self.https, *self.tls, *self.tcp):
            await stream.stop()
        for door in self.udp:
            door.stop()
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    def addresses(self) -> dict[str, list[dict[str, Any]]]:
        """Where the doors are, as bound: ``dns`` (UDP and TCP), ``dot`` and ``doh``."""
        return {
            "dns": [{"host": door.host, "port": door.port} for door in self.udp],
            "dot": [{"host": door.host, "port": door.port} for door in self.tls],
            "doh": [{"host": door.host, "port": door.port} for door in self.https],
        }

    def figures(self) -> dict[str, Any]:
        """What the plain doors have counted since the start."""
        return {
            "udp": dict(sum((door.outcomes for door in self.udp), Counter[str]())),
            "tcp_connections": sum(len(door.places) for door in self.tcp),
        }
