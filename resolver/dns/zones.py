"""Which DNS suffix stands for which namespace, and where in it a question points.

What must stay true:
- the longest matching suffix decides, and upper and lower case never do;
- any sequence of labels has a place: a label that no name on the chain can bear is a name that is
  not registered, never an error;
- everything a zone says of itself (SOA, NS) is decided here, so that two suffixes of one namespace
  differ in nothing but their name.
"""

import re
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zonefiles.text.recordsets import labels_wire

Labels = tuple[bytes, ...]
"""The labels of a DNS name, leftmost first, without the empty one of the root."""

MAX_ZONES = 64
MAX_SUFFIX_OCTETS = 200  # leaves room for a label of 37 and something to the left of it
MAX_CHAIN_NAME = 37  # protocol spec section 1.1

SOA_REFRESH = 600
SOA_RETRY = 300
SOA_EXPIRE = 7 * 86_400
SOA_MINIMUM = 300
"""How long "there is no such thing" may be remembered, in seconds (RFC 2308)."""
APEX_TTL = 3_600

_CHAIN_LABEL = re.compile(rb"[a-z0-9_-]+")
_NAMESPACE = re.compile(r"[a-z0-9_-]{1,19}")
_HOST_LABEL = re.compile(rb"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class BadZone(ValueError):
    """A zone setting that cannot be served; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One served suffix."""

    suffix: Labels
    """Lower-case labels of the zone's apex."""
    namespace: str
    nameservers: tuple[Labels, ...]
    hostmaster: Labels
    chain_first: bool = False
    """Ordinary DNS is asked for what is not registered, where there is somebody to ask."""

    def soa_rdata(self, height: int) -> bytes:
        """The SOA (RFC 1035 3.3.13), uncompressed; its serial is ``height``, which grows with
        the chain, so two servers are compared by one query."""
        return (
            name_wire(self.nameservers[0])
            + name_wire(self.hostmaster)
            + struct.pack(
                "!IIIII",
                max(height, 0) & 0xFFFFFFFF,
                SOA_REFRESH,
                SOA_RETRY,
                SOA_EXPIRE,
                SOA_MINIMUM,
            )
        )


@dataclass(frozen=True, slots=True)
class AtName:
    """A place at or below a possible name of the chain."""

    zone: Zone
    chain_name: str
    left: Labels
    """Lower-case labels to the left of the name; () at the name itself."""
    anchor: Labels
    """Lower-case labels of the name as DNS knows it, e.g. (b"alice", b"bs")."""


@dataclass(frozen=True, slots=True)
class ZoneApex:
    """The suffix itself."""

    zone: Zone


@dataclass(frozen=True, slots=True)
class NeverAName:
    """A place below a label that no name on the chain can bear."""

    zone: Zone


@dataclass(frozen=True, slots=True)
class NotOurs:
    """No served suffix."""


Place = AtName | ZoneApex | NeverAName | NotOurs
_NOT_OURS = NotOurs()


class Zones:
    """The served zones; immutable."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._by_suffix = {zone.suffix: zone for zone in zones}
        self._lengths = sorted({len(suffix) for suffix in self._by_suffix}, reverse=True)

    @classmethod
    def from_settings(
        cls,
        suffixes: Mapping[str, str],
        *,
        nameservers: Sequence[str] = ("localhost",),
        hostmaster: str = "nobody.invalid",
        chain_first: Collection[str] = (),
    ) -> "Zones":
        """Zones from ``{"bs": "id", ...}`` (DNS suffix to namespace).

        ``nameservers`` are the host names of the NS records at each apex; the first is also the
        SOA's primary. The default is ``localhost``, for that is where an unconfigured server
        listens; a name below the zone itself would be somebody's name on the chain.
        ``hostmaster`` is the SOA's mailbox as a host name (RFC 6303 3 for the default).
        ``chain_first`` are the suffixes that fall back to ordinary DNS.

        Raises BadZone.
        """
        if not suffixes:
            raise BadZone('no zone is served: give at least one, such as bs = "id"')
        if len(suffixes) > MAX_ZONES:
            raise BadZone(f"{len(suffixes)} zones are set, and {MAX_ZONES} is the most")
        if not nameservers:
            raise BadZone("a zone needs the name of at least one name server")
        servers = tuple(_host(name, "name server") for name in nameservers)
        mailbox = _host(hostmaster, "hostmaster")
        falling_back = {_host(text, "chain-first zone"): text for text in chain_first}
        zones: dict[Labels, Zone] = {}
        for text, namespace in suffixes.items():
            suffix = _host(text, "zone")
            if len(name_wire(suffix)) > MAX_SUFFIX_OCTETS:
                raise BadZone(f"zone {text!r} is longer than {MAX_SUFFIX_OCTETS} octets")
            if suffix in zones:
                raise BadZone(f"zone {text!r} is set twice")
            if not _NAMESPACE.fullmatch(namespace):
                raise BadZone(
                    f"zone {text!r} stands for {namespace!r}, which is no namespace: 1 to 19 of"
                    " a-z, 0-9, - and _"
                )
            falls_back = falling_back.pop(suffix, None) is not None
            zones[suffix] = Zone(suffix, namespace, servers, mailbox, falls_back)
        for text in falling_back.values():
            raise BadZone(f"{text!r} cannot be chain-first: it is no served zone")
        return cls(tuple(zones.values()))

    def __iter__(self) -> Iterator[Zone]:
        return iter(self._by_suffix.values())

    def split_qname(self, labels: Labels) -> Place:
        """Where ``labels`` (any case) point."""
        lowered = tuple(label.lower() for label in labels)
        for length in self._lengths:
            if length > len(lowered):
                continue
            cut = len(lowered) - length
            zone = self._by_suffix.get(lowered[cut:])
            if zone is None:
                continue
            if cut == 0:
                return ZoneApex(zone)
            label = lowered[cut - 1]
            if (
                not _CHAIN_LABEL.fullmatch(label)
                or len(label) + 1 + len(zone.namespace) > MAX_CHAIN_NAME
            ):
                return NeverAName(zone)
            return AtName(
                zone=zone,
                chain_name=f"{label.decode('ascii')}.{zone.namespace}",
                left=lowered[: cut - 1],
                anchor=lowered[cut - 1 :],
            )
        return _NOT_OURS


def name_wire(labels: Labels) -> bytes:
    """A name uncompressed (RFC 1035 3.1); labels are taken as lawful."""
    return labels_wire(labels) + b"\0"


def name_text(labels: Labels) -> str:
    """A name for people and logs: printable ASCII, other bytes as \\DDD, no final dot."""
    if not labels:
        return "."
    return ".".join(
        "".join(
            chr(octet) if 0x21 <= octet <= 0x7E and octet not in b'."\\' else f"\\{octet:03d}"
            for octet in label
        )
        for label in labels
    )


def _host(text: str, what: str) -> Labels:
    """The labels of a host name written by a person."""
    stripped = text.strip().removesuffix(".")
    try:
        octets = stripped.lower().encode("ascii")
    except UnicodeEncodeError:
        raise BadZone(f"{what} {text!r} is not ASCII: write it in its xn-- form") from None
    if not octets:
        raise BadZone(f"{what} {text!r} is empty, and the root cannot stand for anything here")
    labels = tuple(octets.split(b"."))
    for label in labels:
        if not _HOST_LABEL.fullmatch(label):
            raise BadZone(
                f"{what} {text!r} has the label {label.decode('ascii')!r}: 1 to 63 of a-z, 0-9,"
                " - and _, with no - at either end"
            )
    if len(name_wire(labels)) > 255:
        raise BadZone(f"{what} {text!r} is longer than 255 octets")
    return labels
