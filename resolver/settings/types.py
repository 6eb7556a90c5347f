"""How the text of a setting becomes a value, and how a value becomes text again.

Every reader takes what a settings file, the environment or a flag can hold, and raises
ValueError with what is needed in words; what is read already passes unchanged.
"""

import ipaddress
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from resolver.dns.zones import Zones
from resolver.forwarding.upstreams import Upstream, read_upstream

HIDDEN = "******"

_DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmg", start=1):
    _SIZE_UNITS |= {f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")


def _number_with_unit(value: object, units: Mapping[str, float], what: str) -> object:
    if isinstance(value, bool) or not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", value)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"{what} is needed")
    return float(match[1]) * units[match[2].lower()]


def read_duration(value: object) -> object:
    """Text such as "90", "1.5 s", "20m", "2h", "1d" to seconds; other values pass unchanged."""
    return _number_with_unit(value, _DURATION_UNITS, "a duration such as 30, 1.5s, 20m, 2h or 1d")


def read_size(value: object) -> object:
    """Text such as "4096", "64MiB", "1GB" to bytes; other values pass unchanged."""
    number = _number_with_unit(value, _SIZE_UNITS, "a size such as 65536, 64MiB or 1GB")
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError("a size such as 65536, 64MiB or 1GB is needed")
    return int(number) if isinstance(number, float) else number


def read_host_port(value: object) -> object:
    """Text "host:port" to (host, port). IPv6 addresses stand in square brackets."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", value.strip())
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError("HOST:PORT with a port from 1 to 65535 is needed")
    return (match[1] or match[2], int(match[3]))


def split_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(piece.strip() for part in value for piece in part.split(",") if piece.strip())
    return value


def split_table(value: object) -> object:
    parts = split_list(value)
    if not isinstance(parts, tuple):
        return value
    table: dict[str, str] = {}
    for part in parts:
        suffix, equals, namespace = part.partition("=")
        if not equals:
            raise ValueError("SUFFIX=NAMESPACE pairs are needed, such as bs=id")
        if suffix.strip() in table:
            raise ValueError(f"the suffix {suffix.strip()} is given twice")
        table[suffix.strip()] = namespace.strip()
    return table


def check_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("IPv4 or IPv6 addresses are needed, such as 127.0.0.1 or ::1") from None


def check_prefixes(values: tuple[str, ...]) -> tuple[str, ...]:
    """Address prefixes in their usual form. Raises ValueError."""
    try:
        return tuple(str(ipaddress.ip_network(value)) for value in values)
    except ValueError:
        raise ValueError(
            "address prefixes are needed, such as 127.0.0.0/8 or 2001:db8::/32"
        ) from None


def check_ipv4(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError("an IPv4 address is needed, such as 127.0.0.1") from None


def check_host(value: str) -> str:
    """A host name as a zone or a certificate has it. Raises ValueError."""
    label = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    if len(value) > 253 or not re.fullmatch(rf"{label}(\.{label})*\.?", value):
        raise ValueError("a host name is needed, such as ns1.example.net")
    return value


def check_zones(zones: dict[str, str]) -> dict[str, str]:
    """Zones that can be served, suffixes in lower case. Raises ValueError."""
    Zones.from_settings(zones)
    return {suffix.strip().removesuffix(".").lower(): ns for suffix, ns in zones.items()}


def check_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/\S*)?", value):
        raise ValueError("a URL such as http://127.0.0.1:8332 is needed")
    return value


def check_cookie_secret(value: str | None) -> str | None:
    """One or two secrets of 32 hex digits. Raises ValueError."""
    if value is not None and not re.fullmatch(r"[0-9a-fA-F]{32}(\s*,\s*[0-9a-fA-F]{32})?", value):
        raise ValueError("32 hex digits are needed, and perhaps 32 more after a comma")
    return value


def whole_seconds(value: object) -> object:
    number = read_duration(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


Item = TypeVar("Item")
Many = Annotated[tuple[Item, ...], BeforeValidator(split_list)]
Prefixes = Annotated[tuple[str, ...], BeforeValidator(split_list), AfterValidator(check_prefixes)]
Duration = Annotated[float, BeforeValidator(read_duration)]
Seconds = Annotated[int, BeforeValidator(whole_seconds)]
Size = Annotated[int, BeforeValidator(read_size)]
Port = Annotated[int, Field(ge=0, le=65535)]
Address = Annotated[str, AfterValidator(check_address)]
Host = Annotated[str, AfterValidator(check_host)]
Ipv4 = Annotated[str, AfterValidator(check_ipv4)]
HostPort = Annotated[tuple[str, int], BeforeValidator(read_host_port)]
Resolver = Annotated[Upstream, BeforeValidator(read_upstream)]


def without_credentials(text: str) -> str:
    """``text`` with user and password cut out of every URL in it."""
    return _CREDENTIALS.sub(f"{HIDDEN}@", text)


def as_text(value: object) -> str:
    """A value as a person would write it on the command line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ",".join(f"{suffix}={namespace}" for suffix, namespace in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(host_port(v) if isinstance(v, tuple) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def host_port(pair: tuple[Any, ...]) -> str:
    if isinstance(pair, Upstream):
        return str(pair)
    host, port = pair
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
