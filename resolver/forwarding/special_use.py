"""Names that no other server is ever asked for: they are answered here, or are not there.

What must stay true: a name in this list never leaves this machine, whoever asks and whatever
upstream says; the served suffixes are no part of it, for they are looked up before it. All of
IANA's special-use names are in it but those that a resolver is to treat as any other: example,
example.com, .net and .org (RFC 6761 6.5), and ipv4only.arpa with its addresses, by which a network
tells of its NAT64 (RFC 8880 7.1).
"""

from collections.abc import Iterator, Mapping

from resolver.dns.answer import Answer, ExtendedError
from resolver.dns.codes import ErrorCode, Rcode, Rtype
from resolver.dns.lookup import RecordSet, lower
from resolver.dns.zones import Labels, name_text, name_wire

TTL = 10_800  # RFC 6303 3
NOBODY = (b"nobody", b"invalid")
LOCALHOST = (b"localhost",)

_HOME = (b"home", b"arpa")
_LOOPBACK = {int(Rtype.A): b"\x7f\0\0\1", int(Rtype.AAAA): bytes(15) + b"\1"}
_PTR = 12


def _labels(text: str) -> Labels:
    return tuple(text.encode().split(b"."))


def _private_zones() -> Iterator[str]:
    """The reverse zones of addresses that mean something else in every network (RFC 6303 4)."""
    v4, v6 = "in-addr.arpa", "ip6.arpa"
    yield from (f"{net}.{v4}" for net in ("10", "168.192", "0", "127", "254.169"))
    yield from (f"{net}.172.{v4}" for net in range(16, 32))
    yield from (f"{net}.100.{v4}" for net in range(64, 128))  # RFC 7793
    for net in ("2.0.192", "100.51.198", "113.0.203", "255.255.255.255"):
        yield f"{net}.{v4}"
    yield "0." * 32 + v6
    yield "1." + "0." * 31 + v6
    yield f"d.f.{v6}"  # fc00::/7 as it is in use: fd00::/8
    yield from (f"{net}.e.f.{v6}" for net in "89ab")
    yield f"8.b.d.0.1.0.0.2.{v6}"


def _special_names() -> Iterator[tuple[str, str]]:
    yield "local", "multicast DNS answers it (RFC 6762)"
    yield "onion", "only Tor answers it (RFC 7686)"
    yield "alt", "no DNS name (RFC 9476)"
    yield "bit", "no name of the ordinary DNS"
    yield "invalid", "never a name (RFC 6761)"
    yield "test", "a name for tests (RFC 6761)"
    yield "internal", "reserved by ICANN for what every network has of its own"
    yield "home.arpa", "every home has its own (RFC 8375)"
    yield "service.arpa", "its services are those of the link (RFC 9665)"
    yield "6tisch.arpa", "it names no host (RFC 9031)"
    yield "eap.arpa", "it names no host (RFC 9965)"
    yield "eap-noob.arpa", "it names no host (RFC 9140)"
    yield "resolver.arpa", "it speaks of the resolver that is asked (RFC 9462)"


ZONES: Mapping[Labels, str] = {
    **{_labels(zone): "a private address (RFC 6303)" for zone in _private_zones()},
    **{_labels(zone): why for zone, why in _special_names()},
}
"""Apex of each zone that is kept here, and why."""

_LENGTHS = sorted({len(zone) for zone in ZONES}, reverse=True)

_POINTERS = {
    _labels("1.0.0.127.in-addr.arpa"): LOCALHOST,
    _labels("1." + "0." * 31 + "ip6.arpa"): LOCALHOST,
}


def kept_zone(labels: Labels) -> Labels | None:
    """The zone of the list that ``labels`` (any case) belong to, localhost included."""
    lowered = lower(labels)
    if lowered[-1:] == LOCALHOST:
        return LOCALHOST
    for length in _LENGTHS:
        if length <= len(lowered) and lowered[-length:] in ZONES:
            return lowered[-length:]
    return None


def kept_answer(labels: Labels, qtype: int) -> Answer | None:
    """What is said to a question that is not to be forwarded; None: it may be.

    ``localhost`` and all below it are this machine (RFC 6761 6.3); the addresses of this machine
    are called localhost; every other name does not exist (RFC 6303 3).
    """
    zone = kept_zone(labels)
    if zone is None:
        return None
    if zone == LOCALHOST:
        here = _LOOPBACK.get(qtype)
        return _negative(Rcode.NOERROR, zone) if here is None else _found(labels, qtype, here)
    lowered = lower(labels)
    if (lowered, qtype) == (_HOME, Rtype.DS):
        return None  # RFC 8375 4: by it whoever validates learns that what is below is unsigned
    pointer = _POINTERS.get(lowered)
    if pointer is not None and qtype in (_PTR, Rtype.ANY):
        return _found(labels, _PTR, name_wire(pointer))
    if lowered == zone or pointer is not None:
        if qtype in (Rtype.SOA, Rtype.ANY) and lowered == zone:
            return Answer(Rcode.NOERROR, True, (_soa(zone),))
        if qtype == Rtype.NS and lowered == zone:
            return _found(labels, int(Rtype.NS), name_wire(LOCALHOST))
        return _negative(Rcode.NOERROR, zone)
    if any(lowered == name[-len(lowered) :] for name in _POINTERS if len(lowered) < len(name)):
        return _negative(Rcode.NOERROR, zone)  # an empty non-terminal above a pointer
    remark = ExtendedError(ErrorCode.OTHER, f"{name_text(zone)} is not forwarded: {ZONES[zone]}")
    return _negative(Rcode.NXDOMAIN, zone, (remark,))


def _found(owner: Labels, rtype: int, rdata: bytes) -> Answer:
    return Answer(Rcode.NOERROR, True, (RecordSet(owner, rtype, TTL, (rdata,)),))


def _negative(rcode: Rcode, zone: Labels, errors: tuple[ExtendedError, ...] = ()) -> Answer:
    return Answer(rcode, True, authority=(_soa(zone),), errors=errors)


def _soa(zone: Labels) -> RecordSet:
    """The SOA of an empty zone (RFC 6303 3)."""
    numbers = b"".join(n.to_bytes(4, "big") for n in (1, 3_600, 1_200, 604_800, TTL))
    rdata = name_wire(LOCALHOST) + name_wire(NOBODY) + numbers
    return RecordSet(zone, int(Rtype.SOA), TTL, (rdata,))
