"""The datagrams of the Kademlia network, written and read; what is not exactly right is None.

Wire format (rpcudp and the kademlia package 2.2): one byte 0 for a request or 1 for a reply, a
message id of 20 bytes, then MessagePack: ``[function, [arguments]]`` or the result. What must
stay true: reading never raises, looks at no more than 128 values, and gives only contacts that
can be sent to without resolving a name or reaching back into the house of the reader.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import umsgpack

ID_BYTES: Final = 20
K: Final = 20
"""Contacts in one answer, and nodes that hold one record."""

DHT_MAX_VALUE: Final = 8_000
"""Bytes of the largest value: with its key it must fit a request of 8,192 bytes."""

MAX_BODY: Final = 8_192
HEADER: Final = 1 + ID_BYTES
_MAX_VALUES = 128  # a node list of 20 contacts has 81
_MAX_DEPTH = 4


class Contact(NamedTuple):
    """Where a node can be reached: ``id`` 20 bytes, ``ip`` a dotted quad, ``port`` 1..65535."""

    id: bytes
    ip: str
    port: int

    @property
    def address(self) -> tuple[str, int]:
        return (self.ip, self.port)

    @property
    def is_loopback(self) -> bool:
        return self.ip.startswith("127.")


class Request(NamedTuple):
    """A request as it was meant: ``key`` and ``value`` are empty where the function has none."""

    function: str
    sender_id: bytes
    key: bytes = b""
    value: bytes = b""


class Datagram(NamedTuple):
    """One packet taken apart; ``body`` is still MessagePack."""

    is_request: bool
    message_id: bytes
    body: bytes


_ARGUMENTS = {"ping": 1, "find_node": 2, "find_value": 2, "store": 3, "stun": 0}


def read_datagram(packet: bytes) -> Datagram | None:
    """Take a packet apart; None where it is too short, too long or neither kind."""
    if not HEADER < len(packet) <= HEADER + MAX_BODY or packet[0] > 1:
        return None
    return Datagram(packet[0] == 0, packet[1:HEADER], packet[HEADER:])


def read_request(body: bytes) -> Request | None:
    """The request in ``body``, its arity, types and sizes checked; None if anything is off."""
    message = unpack(body)
    if not isinstance(message, list) or len(message) != 2:
        return None
    function, arguments = message
    if not isinstance(function, str) or not isinstance(arguments, list):
        return None
    if len(arguments) != _ARGUMENTS.get(function, -1):
        return None
    if not all(isinstance(a, bytes) for a in arguments):
        return None
    if any(len(a) != ID_BYTES for a in arguments[:2]):
        return None
    if function == "store" and len(arguments[2]) > DHT_MAX_VALUE:
        return None
    return Request(function, *arguments) if arguments else Request(function, b"")


def read_id(body: bytes) -> bytes | None:
    """The node id that a ping is answered with."""
    message = unpack(body)
    return message if isinstance(message, bytes) and len(message) == ID_BYTES else None


def read_stored(body: bytes) -> bool:
    """Whether a store was acknowledged: only a plain True is."""
    return unpack(body) is True


def read_found(body: bytes, sender_ip: str) -> bytes | list[Contact] | None:
    """The value or the contacts that a find request is answered with; None for anything else.

    Contacts that are no contacts are left out (see ``clean_contacts``).
    """
    message = unpack(body)
    if isinstance(message, dict):
        value = message.get("value")
        return value if len(message) == 1 and isinstance(value, bytes) else None
    if isinstance(message, list):
        return clean_contacts(message, sender_ip)
    return None


def clean_contacts(rows: Sequence[object], sender_ip: str) -> list[Contact]:
    """Of the rows ``[id, ip, port]`` the first K that are contacts, each address once.

    An address of a private network or of this machine is believed only from a sender that is
    itself in there: nobody outside may aim our packets at what only we can reach.
    """
    contacts: dict[tuple[str, int], Contact] = {}
    for row in rows[:K]:
        if not isinstance(row, list) or len(row) != 3:
            continue
        node_id, ip, port = row
        if not isinstance(node_id, bytes) or len(node_id) != ID_BYTES:
            continue
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65_536:
            continue
        if isinstance(ip, str) and is_reachable(ip, sender_ip):
            contacts.setdefault((ip, port), Contact(node_id, ip, port))
    return list(contacts.values())


def is_reachable(ip: str, sender_ip: str) -> bool:
    """Whether ``ip`` is a host's IPv4 address that ``sender_ip`` can sensibly speak of."""
    try:
        address = ipaddress.IPv4Address(ip)
        sender = ipaddress.IPv4Address(sender_ip)
    except ValueError:
        return False
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    if address.is_loopback:
        return sender.is_loopback
    if address.is_private or address.is_link_local:
        return sender.is_private or sender.is_link_local
    return True


def write_request(message_id: bytes, function: str, *arguments: bytes) -> bytes:
    """The packet that asks for ``function``."""
    return b"\x00" + message_id + bytes(umsgpack.packb([function, list(arguments)]))


def write_reply(message_id: bytes, result: object) -> bytes:
    """The packet that answers the request ``message_id``."""
    return b"\x01" + message_id + bytes(umsgpack.packb(result))


def contact_rows(contacts: Sequence[Contact]) -> list[list[object]]:
    """The contacts in the form in which they travel."""
    return [[c.id, c.ip, c.port] for c in contacts]


class _Broken(Exception):
    """The bytes are no MessagePack of ours."""


def unpack(body: bytes) -> object:
    """The one MessagePack value in ``body``, or None (also for nil): within bounds of depth 4.

    Extension types are not of this protocol; bytes left over make the whole body worthless.
    """
    reader = _Unpacker(body)
    try:
        value = reader.value(_MAX_DEPTH)
    except (_Broken, struct.error, UnicodeDecodeError):
        return None
    return value if reader.at == len(body) else None


_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_TEXTS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_LISTS = {0xDC: ">H", 0xDD: ">I"}
_MAPS = {0xDE: ">H", 0xDF: ">I"}


class _Unpacker:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0
        self._left = _MAX_VALUES

    def value(self, depth: int) -> object:
        self._left -= 1
        if self._left < 0 or depth < 0:
            raise _Broken
        head = self._take(1)[0]
        if head < 0x80:
            return head
        if head >= 0xE0:
            return head - 0x100
        if head in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[head]
        if head in _NUMBERS:
            return self._number(_NUMBERS[head])
        if head in _BYTES:
            return self._take(self._length(_BYTES[head]))
        if 0xA0 <= head < 0xC0 or head in _TEXTS:
            size = head & 0x1F if head < 0xC0 else self._length(_TEXTS[head])
            return self._take(size).decode("utf-8")
        if 0x90 <= head < 0xA0 or head in _LISTS:
            count = head & 0x0F if head < 0xA0 else self._length(_LISTS[head])
            return [self.value(depth - 1) for _ in range(min(count, _MAX_VALUES + 1))]
        if head < 0x90 or head in _MAPS:
            count = head & 0x0F if head < 0x90 else self._length(_MAPS[head])
            return self._map(min(count, _MAX_VALUES + 1), depth)
        raise _Broken

    def _map(self, count: int, depth: int) -> dict[object, object]:
        found: dict[object, object] = {}
        for _ in range(count):
            key = self.value(depth - 1)
            if isinstance(key, list | dict):
                raise _Broken
            found[key] = self.value(depth - 1)
        return found

    def _take(self, size: int) -> bytes:
        piece = self.body[self.at : self.at + size]
        if len(piece) != size:
            raise _Broken
        self.at += size
        return piece

    def _number(self, form: str) -> object:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _length(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])
