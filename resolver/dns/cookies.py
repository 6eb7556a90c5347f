"""DNS cookies as every server of an anycast set makes them alike (RFC 7873, RFC 9018).

A server cookie is version 1, three reserved octets, a timestamp, and SipHash-2-4 of the client
cookie, those and the client's address under a secret. What must stay true:
- a cookie is made and checked without remembering the client;
- cookies made under the last secret are still good when a new one has taken its place;
- no secret is ever shown.
"""

import ipaddress
import struct
from collections.abc import Callable
from functools import lru_cache

from siphash24 import siphash24

CLIENT_SIZE = 8
SERVER_SIZE = 16
SECRET_SIZE = 16

MAX_AGE = 3_600
"""Seconds; RFC 9018 4.3."""
MAX_AHEAD = 300
RENEW_AFTER = 1_800
SECRET_LIFETIME = 24 * 3_600
"""Seconds until a new secret is taken: well above MAX_AGE, well below RFC 7873 7.1's 36 days."""

_VERSION = b"\x01\0\0\0"
_stamp = struct.Struct("!I")


class ServerCookies:
    """Makes and checks server cookies. Times are seconds of the unix clock.

    ``secrets``: fixed ones (16 bytes each; the first makes cookies, all check them), as an anycast
    set shares them. Without them ``draw(16)`` gives one, and a new one every SECRET_LIFETIME.
    """

    def __init__(self, draw: Callable[[int], bytes], secrets: tuple[bytes, ...] = ()) -> None:
        if any(len(secret) != SECRET_SIZE for secret in secrets):
            raise ValueError(f"a cookie secret has {SECRET_SIZE} bytes")
        self._draw = draw
        self._fixed = bool(secrets)
        self._secrets = secrets or (draw(SECRET_SIZE),)
        self._since: float | None = None

    def reply(self, option: bytes, address: str, now: float) -> tuple[bytes, bool]:
        """The COOKIE option for the reply to ``option`` (of lawful length), and whether the
        server cookie in it proves that ``address`` received one from us."""
        self._rotate(now)
        client, server = option[:CLIENT_SIZE], option[CLIENT_SIZE:]
        octets = address_octets(address)
        if len(server) == SERVER_SIZE and server[:1] == b"\x01":
            (made,) = _stamp.unpack_from(server, 4)
            # Serial number arithmetic (RFC 9018 4.3), so that 2106 is a year like any other.
            age = ((int(now) - made + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
            if -MAX_AHEAD <= age <= MAX_AGE:
                for secret in self._secrets:
                    if _hash(client + server[:8] + octets, secret) == server[8:]:
                        if age <= RENEW_AFTER and secret is self._secrets[0]:
                            return option, True
                        return client + self._made(client, octets, now), True
        return client + self._made(client, octets, now), False

    def _made(self, client: bytes, octets: bytes, now: float) -> bytes:
        head = _VERSION + _stamp.pack(int(now) & 0xFFFF_FFFF)
        return head + _hash(client + head + octets, self._secrets[0])

    def _rotate(self, now: float) -> None:
        if self._fixed:
            return
        if self._since is None or now < self._since:
            self._since = now
        elif now - self._since >= SECRET_LIFETIME:
            self._secrets = (self._draw(SECRET_SIZE), self._secrets[0])
            self._since = now


@lru_cache(maxsize=4_096)
def address_octets(address: str) -> bytes:
    """The 4 or 16 octets of an IP address written out; none where the door knows no address."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).packed
    except ValueError:
        return b""


def _hash(octets: bytes, secret: bytes) -> bytes:
    digest: bytes = siphash24(octets, key=secret).digest()
    return digest
