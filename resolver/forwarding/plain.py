"""A question asked in the clear: over UDP, over TCP where that does not do, and in other words.

What must stay true:
- each question leaves from a port and with an ID and a case of its own, all thrown anew (RFC 5452),
  to an address the kernel holds the socket to; when strangers' guesses come in, TCP is asked;
- a server that answers in another case and has no TCP is asked once more in small letters: old
  servers are no reason for a failure.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable

from resolver.dns.upstream_reply import Reply
from resolver.forwarding.query import (
    Question,
    Sent,
    Verdict,
    compose,
    match,
    random_octets_needed,
)
from resolver.forwarding.tls import NoReply
from resolver.forwarding.upstreams import Upstream

MAX_STRANGE = 8
"""Packets that are no reply, after which somebody is guessing and TCP is asked instead."""
MAX_DATAGRAM = 4_096
PORT_TRIES = 8
LEAST_STREAM_WAIT = 1.0


class Plain:
    """Asks with what is thrown by ``random_octets``; counts in ``outcomes``."""

    def __init__(self, random_octets: Callable[[int], bytes], outcomes: Counter[str]) -> None:
        self._random_octets = random_octets
        self.outcomes = outcomes

    async def ask(
        self, server: Upstream, question: Question, *, ask_ad: bool, edns: bool, wait: float
    ) -> Reply:
        """The reply, within ``wait`` seconds for each try over UDP, and a second at least over TCP.
        Raises NoReply, TimeoutError, EOFError or OSError."""

        def written(throw: bool = True) -> Sent:
            octets = self._random_octets(random_octets_needed(question))
            return compose(question, octets, ask_ad=ask_ad, edns=edns, throw=throw)

        sent = written()
        async with asyncio.timeout(wait):
            found = await self._over_udp(server, sent)
        if isinstance(found, Reply) and not found.truncated:
            return found
        self.outcomes["over TCP"] += 1
        try:
            async with asyncio.timeout(max(wait, LEAST_STREAM_WAIT)):
                return await self._over_tcp(server, sent)
        except (OSError, TimeoutError, EOFError):
            if found is not Verdict.OTHER_CASE:
                raise
        async with asyncio.timeout(wait):
            found = await self._over_udp(server, written(throw=False))
        if isinstance(found, Verdict) or found.truncated:
            raise NoReply
        return found

    async def _over_udp(self, upstream: Upstream, sent: Sent) -> Reply | Verdict:
        """The reply, or why TCP should be asked: the right one in another case, or guesses."""
        loop = asyncio.get_running_loop()
        bound = self._random_socket(upstream)
        try:
            bound.send(sent.packet)
            self.outcomes["asked"] += 1
            for _ in range(MAX_STRANGE):
                found = match(await loop.sock_recv(bound, MAX_DATAGRAM), sent)
                if isinstance(found, Reply):
                    return found
                if found is Verdict.BROKEN:
                    raise NoReply
                self.outcomes["strange"] += 1
                if found is Verdict.OTHER_CASE:
                    return found
            return Verdict.UNRELATED
        finally:
            bound.close()

    async def _over_tcp(self, upstream: Upstream, sent: Sent) -> Reply:
        reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
        try:
            writer.write(len(sent.packet).to_bytes(2, "big") + sent.packet)
            self.outcomes["asked"] += 1
            length = int.from_bytes(await reader.readexactly(2), "big")
            found = match(await reader.readexactly(length), sent, stream=True)
            if isinstance(found, Verdict):
                raise NoReply
            return found
        finally:
            writer.transport.abort()

    def _random_socket(self, upstream: Upstream) -> socket.socket:
        """A socket on a port that was thrown, which takes datagrams of the upstream alone."""
        v6 = ":" in upstream.host
        bound = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            for _ in range(PORT_TRIES):
                port = 1_024 + int.from_bytes(self._random_octets(4), "big") % (65_536 - 1_024)
                try:
                    bound.bind(("::" if v6 else "0.0.0.0", port))
                    break
                except OSError:
                    continue  # somebody has it; where all are taken the kernel chooses
            bound.connect((upstream.host, upstream.port))
        except OSError:
            bound.close()
            raise
        return bound
