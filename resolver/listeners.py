"""Which users of this machine listen at a port, as its kernel tells.

What must stay true: a secret is handed to a port of this machine only where nobody but the daemon's
user, root or oneself listens; where the kernel does not tell (no Linux), the answer is nobody.
"""

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path

TABLES = Path("/proc/net")
_LISTENING = "0A"
_MAX_BYTES = 2**24

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def users_listening(host: str, port: int, tables: Path = TABLES) -> set[int]:
    """The user ids of the TCP sockets that a connection to ``host`` (an IP address) and ``port``
    may end at. Empty where none is seen, or nothing can be (proc_net(5))."""
    wanted = _plain(ipaddress.ip_address(host))
    return {
        user
        for name in ("tcp", "tcp6")
        for address, at, user in _listening(tables / name)
        if at == port and (address == wanted or address.is_unspecified)
    }


def _listening(table: Path) -> Iterator[tuple[Address, int, int]]:
    """(address, port, user id) of each listening socket."""
    try:
        with table.open(encoding="ascii") as file:
            lines = file.read(_MAX_BYTES).splitlines()[1:]
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        fields = line.split()
        if len(fields) < 8 or fields[3] != _LISTENING:
            continue
        try:
            address, _, port = fields[1].partition(":")
            yield _address(address), int(port, 16), int(fields[7])
        except ValueError:
            continue


def _address(text: str) -> Address:
    """An address as the kernel writes it: words of 32 bits, each in the machine's byte order."""
    content = bytes.fromhex(text)
    if sys.byteorder == "little":
        words = (content[at : at + 4] for at in range(0, len(content), 4))
        content = b"".join(word[::-1] for word in words)
    return _plain(ipaddress.ip_address(content))


def _plain(address: Address) -> Address:
    """An IPv4 address also where it is written as one of IPv6 (RFC 4291 section 2.5.5.2)."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
