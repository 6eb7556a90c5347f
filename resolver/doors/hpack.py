"""Header lists of HTTP/2 (RFC 7541): reading them whole, writing them in the plainest form.

What must stay true: reading ends in a list of fields or in ``BadHeaders``, whatever the bytes,
within bounds on the list and on the table that the peer may fill; what is written depends on no
table, so that nothing written for one reply shows in another.
"""

from collections import deque
from collections.abc import Iterable
from functools import lru_cache

Field = tuple[bytes, bytes]

TABLE_SIZE = 4_096
"""Octets of the dynamic table; the peer's default, and we never ask for more."""
MAX_LIST = 8_192
"""Octets of a header list, counted as RFC 7541 4.1 counts entries."""

# RFC 7541 appendix A: names and, behind a blank, values.
_STATIC_TEXT = """
 :authority | :method GET | :method POST | :path / | :path /index.html | :scheme http | :scheme
https | :status 200 | :status 204 | :status 206 | :status 304 | :status 400 | :status 404 |
:status 500 | accept-charset | accept-encoding gzip, deflate | accept-language | accept-ranges |
accept | access-control-allow-origin | age | allow | authorization | cache-control |
content-disposition | content-encoding | content-language | content-length | content-location |
content-range | content-type | cookie | date | etag | expect | expires | from | host | if-match
| if-modified-since | if-none-match | if-range | if-unmodified-since | last-modified | link |
location | max-forwards | proxy-authenticate | proxy-authorization | range | referer | refresh |
retry-after | server | set-cookie | strict-transport-security | transfer-encoding | user-agent |
vary | via | www-authenticate
"""
_STATIC: tuple[Field, ...] = tuple(
    (name.encode(), value.encode())
    for name, _, value in (
        line.strip().partition(" ") for line in " ".join(_STATIC_TEXT.split()).split("|")
    )
)

# RFC 7541 appendix B: the octets of each length of code, in order. The code is canonical, so that
# each code is the one before it plus one, shifted where the length grows.
_OCTETS_BY_LENGTH: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b"!\"()?",
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: bytes((128, 130, 131, 162, 184, 194, 224, 226)),
    21: bytes((153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230)),
    22: bytes((129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181,
               185, 186, 187, 189, 190, 196, 198, 228, 232, 233)),
    23: bytes((1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165,
               166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239)),
    24: bytes((9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237)),
    25: bytes((199, 207, 234, 235)),
    26: bytes((192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255)),
    27: bytes((203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251,
               252, 253, 254)),
    28: bytes((2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27,
               28, 29, 30, 31, 127, 220, 249)),
    30: bytes((10, 13, 22)),  # and the end of string, which is never sent
}  # fmt: skip


_DEAD = -1


def _steps() -> tuple[list[int], list[int], frozenset[int]]:
    """The code as a machine that takes four bits at a time: the next state and the octet that ends
    within them (-1: none), by state and bits; and the states in which a string may end. No code is
    shorter than five bits, so no more than one octet ends in four."""
    leaves: dict[tuple[int, int], int] = {(30, (1 << 30) - 1): _DEAD}  # the end of string
    code = last = 0
    for length, octets in _OCTETS_BY_LENGTH.items():
        code <<= length - last
        last = length
        for octet in octets:
            leaves[length, code] = octet
            code += 1
    states = {(0, 0): 0}
    for length, code in leaves:
        for cut in range(1, length):
            states.setdefault((cut, code >> length - cut), len(states))
    following: list[int] = []
    ended: list[int] = []
    for length, code in states:
        for nibble in range(16):
            at, found = (length, code), _DEAD
            for shift in (3, 2, 1, 0):
                at = at[0] + 1, at[1] << 1 | nibble >> shift & 1
                if at in leaves:
                    if leaves[at] == _DEAD:
                        break
                    found, at = leaves[at], (0, 0)
            following.append(states.get(at, _DEAD))
            ended.append(found)
    ends = {states[length, (1 << length) - 1] for length in range(8)}
    return following, ended, frozenset(ends)


_FOLLOWING, _ENDED, _ENDS = _steps()


class BadHeaders(ValueError):
    """A header block that cannot be read: an error of the connection (RFC 7541 2.3.3)."""


class HeaderReader:
    """Reads the header blocks of one connection, in order."""

    def __init__(self) -> None:
        self._table: deque[Field] = deque()
        self._size = 0
        self._most = TABLE_SIZE

    def read(self, block: bytes) -> list[Field]:
        """The fields of ``block``. Raises BadHeaders."""
        fields: list[Field] = []
        total = at = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                field = self._field(index)
            elif first & 0xE0 == 0x20:
                size, at = _integer(block, at, 5)
                if size > TABLE_SIZE or fields:
                    raise BadHeaders("a table size out of bounds or out of place")
                self._most = size
                self._evict()
                continue
            else:
                kept = bool(first & 0x40)
                index, at = _integer(block, at, 6 if kept else 4)
                if index:
                    name = self._field(index)[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = (name, value)
                if kept:
                    self._add(field)
            total += _octets(field)
            if total > MAX_LIST:
                raise BadHeaders("the header list is too long")
            fields.append(field)
        return fields

    def _field(self, index: int) -> Field:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        place = index - len(_STATIC) - 1
        if not 0 <= place < len(self._table):
            raise BadHeaders("an index beyond the tables")
        return self._table[place]

    def _add(self, field: Field) -> None:
        self._table.appendleft(field)
        self._size += _octets(field)
        self._evict()

    def _evict(self) -> None:
        while self._size > self._most:
            self._size -= _octets(self._table.pop())


def write_headers(fields: Iterable[Field]) -> bytes:
    """A header block of literals that no table remembers (RFC 7541 6.2.2)."""
    return _literals(tuple(fields))


@lru_cache(maxsize=256)
def _literals(fields: tuple[Field, ...]) -> bytes:
    block = bytearray()
    for name, value in fields:
        block += b"\0"
        for text in (name, value):
            block += _write_integer(len(text), 7)
            block += text
    return bytes(block)


def _octets(field: Field) -> int:
    return len(field[0]) + len(field[1]) + 32


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """RFC 7541 5.1; no number here needs more than three octets."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in (0, 7, 14):
        if at >= len(block):
            break
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if not octet & 0x80:
            return value, at
    raise BadHeaders("a number breaks off or is too great")


def _write_integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    octets = bytearray((most,))
    value -= most
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise BadHeaders("a string breaks off")
    coded = bool(block[at] & 0x80)
    length, at = _integer(block, at, 7)
    text = block[at : at + length]
    if len(text) != length:
        raise BadHeaders("a string breaks off")
    return (_decoded(text) if coded else text), at + length


def _decoded(coded: bytes) -> bytes:
    """RFC 7541 5.2: what is left over at the end is fewer than eight ones."""
    text = bytearray()
    state = 0
    for octet in coded:
        for nibble in (octet >> 4, octet & 0xF):
            at = state << 4 | nibble
            ended = _ENDED[at]
            if ended >= 0:
                text.append(ended)
            state = _FOLLOWING[at]
            if state < 0:
                raise BadHeaders("a code that stands for nothing")
    if state not in _ENDS:
        raise BadHeaders("a string does not end in ones")
    return bytes(text)
