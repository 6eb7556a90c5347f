"""A resolver that other names are asked of: its address and port, and by whom it proves itself.

What must stay true: whatever unbound, systemd-resolved or a URL would write for one is read, and
comes out in one form that is read again as the same; where a name for the certificate is given
the questions leave encrypted, so that no slip of the pen sends them in the clear.
"""

import ipaddress
import re
from typing import NamedTuple

PLAIN_PORT = 53
TLS_PORT = 853  # RFC 7858 3.1
TLS_SCHEME = "tls://"

_FORM = re.compile(
    r"(?P<tls>tls://)?"
    r"(?:\[(?P<boxed>[^\]\s]+)\]|(?P<six>[0-9a-f]*:[0-9a-f:.]*:[0-9a-f:.]*)|(?P<host>[^\[\]:@#/\s]+))"
    r"(?:[:@](?P<port>[0-9]{1,5}))?/?"
    r"(?:#(?P<name>[^#\s]*))?",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_WANTED = (
    "ADDRESS, ADDRESS:PORT or tls://ADDRESS#NAME is needed, such as tls://9.9.9.9#dns.quad9.net"
)


class Upstream(NamedTuple):
    """One resolver."""

    host: str
    """IP address in its usual form."""
    port: int
    tls: bool = False
    """Asked over TLS alone (RFC 7858)."""
    name: str = ""
    """Whom its certificate must be for, in lower case; empty: its address."""

    @property
    def place(self) -> str:
        """Address and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        behind = f"#{self.name}" if self.name else ""
        return f"{TLS_SCHEME if self.tls else ''}{self.place}{behind}"


def read_upstream(value: object) -> object:
    """Text to an Upstream; what is no text passes unchanged. Raises ValueError.

    ``192.0.2.53``, ``192.0.2.53:5353``, ``192.0.2.53@5353``, ``[2001:db8::53]:53`` are asked over
    UDP and TCP, port 53 where none is given; ``tls://192.0.2.53``, ``192.0.2.53#dns.example``,
    ``192.0.2.53@853#dns.example`` over TLS, port 853.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(_WANTED)
    host = form["boxed"] or form["six"] or form["host"]
    tls = bool(form["tls"]) or form["name"] is not None
    port = int(form["port"] or (TLS_PORT if tls else PLAIN_PORT))
    name = (form["name"] or "").lower().removesuffix(".")
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        example = f"; {_WANTED}" if tls else ""
        raise ValueError(f"{host} is no IP address, and who is to look it up?{example}") from None
    if not 0 < port < 65_536:
        raise ValueError("a port from 1 to 65535 is needed")
    if form["name"] is not None and not _NAME.fullmatch(name):
        raise ValueError("the name of its certificate is needed behind #, such as #dns.quad9.net")
    return Upstream(host, port, tls, name)
