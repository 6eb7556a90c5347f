"""The numbers of DNS that this server speaks of by name.

Only numbers with a meaning here are listed: every other record type is carried by its number
alone (RFC 3597), so a type missing from this file is served like any other.
"""

from enum import IntEnum

IN = 1
CH = 3

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
"""The flags of a header (RFC 1035 4.1.1, RFC 4035 3.2)."""

QUERY = 0
"""The one opcode that is answered; every other gets NOTIMP."""


class Rcode(IntEnum):
    """Response codes (RFC 1035 4.1.1, RFC 6672, RFC 2136 2.2, RFC 6891 9, RFC 7873 8)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    NOTAUTH = 9
    BADVERS = 16
    BADCOOKIE = 23


class Rtype(IntEnum):
    """Record and question types that get a treatment of their own."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    TXT = 16
    KEY = 25
    AAAA = 28
    DNAME = 39
    OPT = 41
    DS = 43
    RRSIG = 46
    NSEC = 47
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    MAILB = 253
    MAILA = 254
    ANY = 255


class Option(IntEnum):
    """EDNS options that are read or written (RFC 5001, RFC 7828, RFC 7830, RFC 7873, RFC 8914)."""

    NSID = 3
    COOKIE = 10
    TCP_KEEPALIVE = 11
    PADDING = 12
    EXTENDED_ERROR = 15


class ErrorCode(IntEnum):
    """Extended error codes (RFC 8914 4)."""

    OTHER = 0
    STALE_ANSWER = 3
    NOT_READY = 14
    PROHIBITED = 18
    STALE_NXDOMAIN = 19
    NOT_AUTHORITATIVE = 20
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23


META_TYPES = frozenset(range(128, 256)) | {Rtype.OPT}
"""Types that are never data (RFC 6895 3.1): no zone file can hold a record of them."""

BESIDE_CNAME = frozenset({Rtype.KEY, Rtype.RRSIG, Rtype.NSEC})
"""Types that may stand beside a CNAME (RFC 3007 2.2, RFC 4034 2.5), which leads none of them on."""
