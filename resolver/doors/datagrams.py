"""Many datagrams with one call of the kernel: recvmmsg(2) and sendmmsg(2), for which Python has no
names of its own.

What must stay true:
- these calls never wait and do not give up the interpreter: beside a thread that computes, each
  giving up would cost a door one turn of that thread, twice for every datagram;
- the kernel is handed only memory that the batch holds, each piece with its own length;
- a reply from a socket on a wildcard address leaves from the address that its question came to;
- where the calls are missing, or do not do in a trial what they should, there is no batch.
"""

import ctypes
import functools
import logging
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any

log = logging.getLogger("blockstore.resolver")

_ADDRESS = 28
"""Octets of the longest address of ours, sockaddr_in6."""
_FAMILIES = {socket.AF_INET: (16, slice(4, 8)), socket.AF_INET6: (28, slice(8, 24))}
"""Octets of an address of the family (ip(7), ipv6(7)), and where in it the host stands."""
_KNOWN_HOSTS = 4_096
_CONTROL = 64
"""Octets for the control messages of one datagram: a header of 16 and at most 20 of in6_pktinfo."""
_cmsg = struct.Struct("=QII")
_INTERFACE = slice(_cmsg.size, _cmsg.size + 4)
_INTERFACE6 = slice(_cmsg.size + 16, _cmsg.size + 20)
"""Where in_pktinfo and in6_pktinfo have the interface: a reply may leave through another one."""
Control = tuple[int, int, bytes]
"""A control message: level, type, octets."""
_sin = struct.Struct("!2xH")
_sin6 = struct.Struct("!2xHI16x")
_scope = struct.Struct("=24xI")


class _Piece(ctypes.Structure):
    """struct iovec (recvmsg(2))."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr (recvmsg(2))."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Datagram(ctypes.Structure):
    """struct mmsghdr (recvmmsg(2))."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


class DatagramBatch:
    """At most ``most`` datagrams at a time, to and from one bound, non-blocking socket.

    Of a datagram that came ``query_bytes`` are read; a reply has at most ``reply_bytes``.
    ``destinations``: the socket was asked to say which address each datagram came to.
    """

    def __init__(
        self,
        bound: socket.socket,
        most: int,
        query_bytes: int,
        reply_bytes: int,
        *,
        destinations: bool = False,
    ) -> None:
        self._socket = bound
        self._most = most
        self._reply_bytes = reply_bytes
        self._name_length, self._host = _FAMILIES[bound.family]
        self._receive, self._send = _calls()
        self._names = bytearray(most * _ADDRESS)
        self._destinations = destinations
        self._controls = bytearray(most * _CONTROL)
        self._control_room = memoryview(array("Q", [_CONTROL if destinations else 0] * most))
        self._queries = bytearray(most * query_bytes)
        self._replies = bytearray(most * reply_bytes)
        self._starts = range(0, most * query_bytes, query_bytes)
        self._in, self._in_pieces = self._datagrams(self._queries, query_bytes)
        self._out, self._out_pieces = self._datagrams(self._replies, reply_bytes)
        self._in_address = ctypes.addressof(self._in)
        self._out_address = ctypes.addressof(self._out)
        words = memoryview(self._in).cast("B").cast("I")
        self._step = ctypes.sizeof(_Datagram) // words.itemsize
        self._lengths = words[_Datagram.length.offset // words.itemsize :]
        self._reply_lengths = memoryview(self._out_pieces).cast("B").cast("Q")[1::2]
        self._queries_seen = memoryview(self._queries)
        at = (_Datagram.header.offset + _Header.control_length.offset) // 8
        step = ctypes.sizeof(_Datagram) // 8
        self._came_with = memoryview(self._in).cast("B").cast("Q")[at::step]
        self._sent_with = memoryview(self._out).cast("B").cast("Q")[at::step]

    def receive(self) -> list[bytes]:
        """The datagrams that have come."""
        if self._destinations:
            self._came_with[:] = self._control_room
        count = self._receive(
            self._socket.fileno(), self._in_address, self._most, socket.MSG_DONTWAIT, None
        )
        if count <= 0:
            return []  # nothing there, or an ICMP error for an earlier reply
        lengths = self._lengths[: count * self._step : self._step].tolist()
        queries = self._queries_seen
        return [
            bytes(queries[at : at + length])
            for at, length in zip(self._starts, lengths, strict=False)
        ]

    def host(self, number: int) -> str:
        """The address that the datagram with this number came from, as text."""
        at = number * _ADDRESS
        return _host_text(bytes(self._names[at + self._host.start : at + self._host.stop]))

    def peer(self, number: int) -> tuple[Any, ...]:
        """All of where it came from, as ``recvfrom`` has it."""
        at = number * _ADDRESS
        name = bytes(self._names[at : at + self._name_length])
        host = _host_text(name[self._host])
        if self._name_length == 16:
            return host, *_sin.unpack_from(name)
        return host, *_sin6.unpack_from(name), *_scope.unpack_from(name)

    def controls(self, number: int) -> list[Control]:
        """The control messages it came with, as ``recvmsg`` has them."""
        octets = memoryview(self._controls)[number * _CONTROL :][: self._came_with[number]]
        found: list[Control] = []
        while len(octets) >= _cmsg.size:
            length, level, kind = _cmsg.unpack_from(octets)
            found.append((level, kind, bytes(octets[_cmsg.size : length])))
            octets = octets[max(_cmsg.size, -(-length // 8) * 8) :]
        return found

    def send(self, first: int, replies: Sequence[bytes]) -> int:
        """Send ``replies`` to whom the datagrams from number ``first`` on came from; how many of
        them the kernel took. Raises ValueError for one that is too long."""
        octets, size = self._replies, self._reply_bytes
        lengths = self._reply_lengths
        number = first
        for reply in replies:
            length = len(reply)
            if length > size:
                raise ValueError(f"a reply of {length} bytes is longer than {size}")
            at = number * size
            octets[at : at + length] = reply
            lengths[number] = length
            if self._destinations:
                self._answer_from_there(number)
            number += 1
        sent = 0
        while first < number:
            at = self._out_address + first * ctypes.sizeof(_Datagram)
            taken = self._send(self._socket.fileno(), at, number - first, socket.MSG_DONTWAIT)
            sent += max(taken, 0)
            first += max(taken, 1)  # one that the kernel would not take is lost, as UDP may
        return sent

    def _answer_from_there(self, number: int) -> None:
        self._sent_with[number] = self._came_with[number]
        at = number * _CONTROL
        if self._name_length == 16:
            self._controls[at + _INTERFACE.start : at + _INTERFACE.stop] = bytes(4)
        elif not is_link_local(self._controls[at + _cmsg.size : at + _INTERFACE6.start]):
            self._controls[at + _INTERFACE6.start : at + _INTERFACE6.stop] = bytes(4)

    def _datagrams(
        self, octets: bytearray, size: int
    ) -> "tuple[ctypes.Array[_Datagram], ctypes.Array[_Piece]]":
        """Datagrams over ``octets``, ``size`` for each, and over the addresses."""
        datagrams, pieces = (_Datagram * self._most)(), (_Piece * self._most)()
        base = ctypes.addressof(ctypes.c_char.from_buffer(octets))
        names = ctypes.addressof(ctypes.c_char.from_buffer(self._names))
        controls = ctypes.addressof(ctypes.c_char.from_buffer(self._controls))
        for number, (datagram, piece) in enumerate(zip(datagrams, pieces, strict=True)):
            piece.base, piece.length = base + number * size, size
            header = datagram.header
            header.name, header.name_length = names + number * _ADDRESS, self._name_length
            header.pieces, header.piece_count = ctypes.addressof(piece), 1
            header.control = controls + number * _CONTROL
        return datagrams, pieces


def batch_over(
    bound: socket.socket,
    most: int,
    query_bytes: int,
    reply_bytes: int,
    *,
    destinations: bool = False,
) -> DatagramBatch | None:
    """A batch, where the system has what it takes."""
    if not isinstance(bound, socket.socket) or bound.family not in _FAMILIES or not _works():
        return None
    return DatagramBatch(bound, most, query_bytes, reply_bytes, destinations=destinations)


def is_link_local(local: bytes | bytearray) -> bool:
    """Whether an IPv6 address, 16 octets, means something on one interface only (fe80::/10)."""
    return local[0] == 0xFE and local[1] & 0xC0 == 0x80


@functools.cache
def _calls() -> tuple[Any, Any]:
    """The two functions of the C library. Raises AttributeError or OSError without them."""
    library = ctypes.PyDLL(None, use_errno=True)
    receive, send = library.recvmmsg, library.sendmmsg
    receive.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    return receive, send


@functools.cache
def _works() -> bool:
    """Whether three datagrams there and back come out as they went in."""
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return False  # elsewhere the structures are laid out in another way
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
        ):
            here.bind(("127.0.0.1", 0))
            there.bind(("127.0.0.1", 0))
            there.settimeout(1)
            for text in (b"one", b"", b"three"):
                there.sendto(text, here.getsockname())
            batch = DatagramBatch(here, 4, 16, 8)
            came = batch.receive()
            right = came == [b"one", b"", b"three"] and batch.peer(2) == there.getsockname()
            right = right and batch.send(1, [b"1", b"22"]) == 2
            right = right and [there.recv(16), there.recv(16)] == [b"1", b"22"]
    except (OSError, AttributeError):
        right = False
    if not right:
        log.info("The kernel takes no batches of datagrams here: they are taken one by one.")
    return right


@functools.lru_cache(maxsize=_KNOWN_HOSTS)
def _host_text(octets: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(octets) == 4 else socket.AF_INET6, octets)
