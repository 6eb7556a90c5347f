"""The ports that a sandbox needs, and which of them other programs have taken."""

import errno
from collections.abc import Callable, Iterator
from socket import socket

from resolver.doors.listening import PortUnavailable, tcp_socket, udp_socket
from resolver.settings.settings import Settings

LOOPBACK = "127.0.0.1"


def taken_ports(settings: Settings, node_port: int) -> list[str]:
    """Each that is taken, with what it is for and the flag that changes it."""
    return sorted(
        {
            f"{port} of {what}"
            for open_one, host, port, what in _wanted(settings, node_port)
            if isinstance(port, int) and _is_taken(open_one, host, port)
        }
    )


def _wanted(
    settings: Settings, node_port: int
) -> Iterator[tuple[Callable[[str, int], socket], str, int | str, str]]:
    yield udp_socket, settings.dht_host, settings.dht_port, "the DHT (--dht-port)"
    yield tcp_socket, settings.api_host, settings.api_port, "the HTTP API (--api-port)"
    yield tcp_socket, LOOPBACK, node_port, "its Bitcoin node (--node-port)"
    for host in settings.listen:
        for open_one in (udp_socket, tcp_socket):
            yield open_one, host, settings.dns_port, "DNS (--dns-port)"
        if settings.tls_certificate is not None:
            yield tcp_socket, host, settings.dot_port, "DNS over TLS (--dot-port)"
            yield tcp_socket, host, settings.doh_port, "DNS over HTTPS (--doh-port)"


def _is_taken(open_one: Callable[[str, int], socket], host: str, port: int) -> bool:
    try:
        open_one(host, port).close()
    except PortUnavailable as error:  # other reasons are for the door itself to tell
        return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
    return False
