"""The sockets that doors listen on, made by ourselves, and what to say when one cannot be had.

What must stay true: UDP and TCP of one address are separate sockets with the same port; an IPv6
socket carries IPv6 only, so that both families can be bound side by side; every failure is one
line that names the address, the port, and what to do.
"""

import contextlib
import errno
import ipaddress
import logging
import resource
import socket
import sys

log = logging.getLogger("blockstore.resolver")

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes of datagrams the kernel keeps while we are busy; the system's own limit may cut it."""
BACKLOG = 512
OWN_FILES = 1_024
"""Files that are open beside the connections of the DNS doors: databases, the API, the node."""

# Linux numbers that Python 3.11 does not name (linux/in.h, linux/in6.h).
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT = 10, 23, 5


class PortUnavailable(Exception):
    """An address and port that cannot be listened on; the text says what to do."""


def udp_socket(host: str, port: int) -> socket.socket:
    """A bound, non-blocking datagram socket. ``host`` is an IP address, ``port`` 0 takes any.

    Raises PortUnavailable.
    """
    return _bound(host, port, "UDP", "--dns-port")


def tcp_socket(host: str, port: int, flag: str = "--dns-port") -> socket.socket:
    """A listening, non-blocking stream socket; ``flag`` is what chooses another port.

    Raises PortUnavailable.
    """
    return _bound(host, port, "TCP", flag)


def make_room(connections: int) -> None:
    """Let so many connections be open beside the process's own files: most systems allow 1,024
    files at first. Where they may not be, the log says what to do."""
    needed = OWN_FILES + connections
    allowed = allow_open_files(needed)
    if allowed < needed:
        log.warning(
            "This process may have %d files open, and tcp_connections may come to need %d: raise"
            " its limit (LimitNOFILE in systemd, ulimit -Hn), or lower tcp_connections.",
            allowed,
            needed,
        )


def allow_open_files(needed: int) -> int:
    """Let this process have ``needed`` files and sockets open, or as many as it may; how many that
    is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


def _bound(host: str, port: int, protocol: str, flag: str) -> socket.socket:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise PortUnavailable(
            f"{host!r} is no IP address to listen on for DNS: give one such as 127.0.0.1 or ::1"
        ) from None
    kind = socket.SOCK_DGRAM if protocol == "UDP" else socket.SOCK_STREAM
    with contextlib.ExitStack() as closing:
        try:
            bound = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, kind)
            closing.callback(bound.close)
            bound.setblocking(False)
            if bound.family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if protocol == "UDP":
                _prepare_datagrams(bound)
            else:
                # Those of a stopped server linger in TIME_WAIT; a restart must not wait for them.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
            if protocol == "TCP":
                bound.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            raise PortUnavailable(_advice(host, port, protocol, error, flag)) from error
        closing.pop_all()
        return bound


def _prepare_datagrams(bound: socket.socket) -> None:
    with contextlib.suppress(OSError):
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    if sys.platform != "linux":
        return
    # Forged path MTU messages must not make the kernel fragment our replies.
    with contextlib.suppress(OSError):
        if bound.family == socket.AF_INET:
            bound.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)
        else:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT)


def _advice(host: str, port: int, protocol: str, error: OSError | OverflowError, flag: str) -> str:
    where = f"{host} port {port} ({protocol})"
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return (
            f"{where} is in use by another program: stop it, or choose another port for DNS"
            f" ({flag})"
        )
    if code == errno.EACCES:
        return (
            f"{where} may not be opened by this user: choose a port above 1023 ({flag}), or"
            " give the daemon the capability CAP_NET_BIND_SERVICE"
        )
    if code == errno.EADDRNOTAVAIL:
        return f"{where} cannot be opened: no interface of this machine has the address {host}"
    return f"{where} cannot be opened: {getattr(error, 'strerror', None) or error}"
