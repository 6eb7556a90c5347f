"""An ordinary DNS server on loopback, of dnspython's make, that does what a test tells it to.

It answers for the records it is given, over UDP, TCP and TLS, remembers what it was asked, and can
be slow, silent, truncate, lie, hang up, or be drowned by a forger.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

SOA = "ns.test. mail.test. 1 3600 600 86400 120"
Twist = Callable[[dns.message.Message], dns.message.Message | bytes | None]


class Authority(asyncio.DatagramProtocol):
    """Records by (name, type); a name with any record exists. ``port`` is of UDP and TCP."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], dns.rrset.RRset] = {}
        self.asked: list[dns.message.Message] = []
        self.ports: list[int] = []
        self.over_tcp = 0
        self.twist: Twist | None = None
        """Makes another reply of the one that would be given; None is silence. UDP only."""
        self.gate: asyncio.Event | None = None
        """Holds replies back until it is set."""
        self.forge: Callable[[bytes], list[bytes]] | None = None
        """Packets that are sent before the reply to a query."""
        self.port = 0
        self.listening: asyncio.Server
        self.stream_twist: Twist | None = None
        """As ``twist``, for TCP and TLS."""
        self.late: set[str] = set()
        """Names for which replies on streams wait for the gate, while others overtake them."""
        self.tls_port = 0
        self.streams: list[asyncio.StreamWriter] = []
        """Every connection there was."""

    def add(self, owner: str, ttl: int, rtype: str, *rdatas: str) -> None:
        self.records[owner.lower(), rtype] = dns.rrset.from_text(
            owner + ".", ttl, "IN", rtype, *rdatas
        )

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """As an authority answers, aliases followed; the question comes back in its case."""
        reply = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        name = question.name
        rtype = dns.rdatatype.to_text(question.rdtype)
        for _ in range(8):
            owner = name.to_text(omit_final_dot=True).lower()
            found = self.records.get((owner, rtype)) or self.records.get((owner, "CNAME"))
            if found is None:
                exists = any(known == owner for known, _ in self.records)
                reply.set_rcode(dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
                reply.authority.append(
                    dns.rrset.from_text(dns.name.Name(name[-2:]), 300, "IN", "SOA", SOA)
                )
                return reply
            rrset = dns.rrset.from_rdata_list(name, found.ttl, list(found))
            reply.answer.append(rrset)
            if found.rdtype != dns.rdatatype.CNAME or rtype == "CNAME":
                return reply
            name = found[0].target
        return reply

    # asyncio.DatagramProtocol

    def connection_made(self, transport) -> None:  # type: ignore[no-untyped-def]
        self.transport = transport

    def datagram_received(self, octets: bytes, peer: tuple[str, int]) -> None:
        self.ports.append(peer[1])
        asyncio.ensure_future(self._reply(octets, peer))  # noqa: RUF006 - ends with the loop

    async def _reply(self, octets: bytes, peer: tuple[str, int]) -> None:
        query = dns.message.from_wire(octets)
        self.asked.append(query)
        for forged in self.forge(octets) if self.forge else []:
            self.transport.sendto(forged, peer)
        if self.gate is not None:
            await self.gate.wait()
        reply: dns.message.Message | bytes | None = self.answer(query)
        if self.twist is not None:
            assert isinstance(reply, dns.message.Message)
            reply = self.twist(reply)
        if isinstance(reply, dns.message.Message):
            try:
                reply = reply.to_wire(max_size=1232)
            except dns.exception.TooBig:
                reply.answer.clear()
                reply.flags |= dns.flags.TC
                reply = reply.to_wire()
        if reply is not None and not self.transport.is_closing():
            self.transport.sendto(reply, peer)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams.append(writer)
        replies = []
        with contextlib.suppress(EOFError, OSError):
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                query = dns.message.from_wire(await reader.readexactly(length))
                self.asked.append(query)
                self.over_tcp += 1
                replies.append(asyncio.ensure_future(self._reply_on_stream(query, writer)))
        for reply in replies:
            reply.cancel()
        writer.close()

    async def _reply_on_stream(
        self, query: dns.message.Message, writer: asyncio.StreamWriter
    ) -> None:
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        if self.gate is not None and name in self.late:
            await self.gate.wait()
        reply: dns.message.Message | bytes | None = self.answer(query)
        if self.stream_twist is not None:
            assert isinstance(reply, dns.message.Message)
            reply = self.stream_twist(reply)
        if isinstance(reply, dns.message.Message):
            reply = reply.to_wire(max_size=65_535)
        if reply is not None and not writer.is_closing():
            writer.write(struct.pack("!H", len(reply)) + reply)

    def stop_listening(self) -> None:
        """Be without TCP from now on."""
        self.listening.close()

    def hang_up(self) -> None:
        """End every connection there is."""
        for writer in self.streams:
            writer.close()


@contextlib.asynccontextmanager
async def serving_tls(authority: Authority, certificate: Path, key: Path) -> AsyncIterator[None]:
    """``authority`` over TLS as well, on ``tls_port`` of 127.0.0.1, for the length of a block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["dot"])
    server = await asyncio.start_server(
        authority.connected, "127.0.0.1", authority.tls_port, ssl=context
    )
    authority.tls_port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        authority.hang_up()


@contextlib.asynccontextmanager
async def serving(authority: Authority | None = None) -> AsyncIterator[Authority]:
    """``authority`` (or a new one) on a free port of 127.0.0.1, for the length of a block."""
    authority = authority or Authority()
    loop = asyncio.get_running_loop()
    for _ in range(20):
        server = await asyncio.start_server(authority.connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: authority, ("127.0.0.1", port)
            )
            break
        except OSError:  # somebody has this number for UDP
            server.close()
    authority.port = port
    authority.listening = server
    try:
        yield authority
    finally:
        transport.close()
        server.close()


@contextlib.contextmanager
def serving_in_thread(
    authority: Authority, certificate: tuple[Path, Path] | None = None
) -> Iterator[Authority]:
    """The same, beside a test that waits for other programs; with a certificate over TLS too."""
    loop = asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()

    async def live() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(serving(authority))
            if certificate is not None:
                await stack.enter_async_context(serving_tls(authority, *certificate))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield authority
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


def silent_port() -> tuple[socket.socket, int]:
    """A bound UDP socket that nobody reads, and its port."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    return bound, bound.getsockname()[1]
