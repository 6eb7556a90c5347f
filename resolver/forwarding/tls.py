"""An upstream over TLS: one connection, kept while it is of use, many questions at once on it.

What must stay true:
- nothing is asked before the certificate is known to be for the name of the settings (RFC 8310 5:
  the strict profile); there is no way back to the clear;
- one connection is opened however many wait for it; replies are taken in any order (RFC 7766 7),
  each by the ID and the question it was asked under;
- the end of a connection ends no question that was asked on it before it was known to be over: it
  is asked once more on a new one (RFC 7766 6.2.4);
- queries are padded to multiples of 128 octets (RFC 8467 4.1), so that their length tells little;
- all that waits has an end: opening, replies, the connection itself when nothing is asked.
"""

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

from resolver.dns.reply import Reply
from resolver.forwarding.query import NO_EDNS, Question, Sent, compose, match
from resolver.forwarding.upstreams import Upstream

OPEN_WAIT = 2.0
"""Seconds for TCP and TLS to be established: three round trips, and not the whole patience."""
IDLE = 30.0
QUERY_BLOCK = 128
MAX_STRANGE = 8
"""Messages that answer nothing that was asked, after which the connection is given up."""

_UNKNOWN_ISSUER = (18, 19, 20, 21)  # X509_V_ERR_... of OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)


class CertificateRefused(Exception):
    """The upstream could not prove to be who it should be; the text says why and what to do."""


class NoReply(Exception):
    """The upstream gave no reply that can be used."""


class _Over(NoReply):
    """The connection ended before the reply came."""


def client_context(trusted: Path | None = None) -> ssl.SSLContext:
    """How upstreams are spoken to: TLS 1.2 or later, certificate and name checked against the
    issuers in the file ``trusted`` (PEM), or those the system trusts. Raises OSError."""
    context = ssl.create_default_context(cafile=trusted)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["dot"])
    return context


class TlsUpstream:
    """What is asked of ``upstream``. All of it belongs to one event loop."""

    def __init__(
        self,
        upstream: Upstream,
        context: ssl.SSLContext,
        *,
        idle: float = IDLE,
        random_octets: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._upstream = upstream
        self._context = context
        self._idle = idle
        self._random_octets = random_octets
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None
        self.opened = 0
        """Connections so far."""

    async def ask(self, question: Question, *, ask_ad: bool, wait: float, left: float) -> Reply:
        """The reply, within ``wait`` seconds on an open connection, and ``left`` with all that
        goes before. Raises NoReply, CertificateRefused, TimeoutError or OSError."""
        async with asyncio.timeout(left):
            reply = await self._told(question, wait, ask_ad, True)
            if reply.rcode not in NO_EDNS:
                return reply
            return await self._told(question, wait, ask_ad, False)

    async def close(self) -> None:
        """End the connection; who still waits gets NoReply."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    async def _told(self, question: Question, wait: float, ask_ad: bool, edns: bool) -> Reply:
        was_open = self._open_connection()
        if was_open is not None:
            with contextlib.suppress(_Over):  # it had ended, and we did not know
                return await was_open.ask(question, wait, ask_ad, edns)
        fresh = await self._fresh_connection()
        return await fresh.ask(question, wait, ask_ad, edns)

    def _open_connection(self) -> "_Connection | None":
        connection = self._connection
        return None if connection is None or connection.over else connection

    async def _fresh_connection(self) -> "_Connection":
        """The open connection, or a new one; who waits for it shares it."""
        connection = self._open_connection()
        if connection is not None:
            return connection
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._connect())
            self._opening.add_done_callback(self._opened)
        # Whoever gives up waiting takes nothing from the others.
        return await asyncio.shield(self._opening)

    def _opened(self, opening: "asyncio.Task[_Connection]") -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._connection = opening.result()

    async def _connect(self) -> "_Connection":
        it = self._upstream
        try:
            async with asyncio.timeout(OPEN_WAIT):
                reader, writer = await asyncio.open_connection(
                    it.host, it.port, ssl=self._context, server_hostname=it.name or it.host
                )
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(_advice(it, error)) from error
        self.opened += 1
        return _Connection(reader, writer, self._idle, self._random_octets)


class _Connection:
    """One connection after its handshake."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        idle: float,
        random_octets: Callable[[int], bytes],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._idle = idle
        self._random_octets = random_octets
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[Sent, asyncio.Future[Reply]]] = {}
        self._heard = 0
        self._given_up = 0
        self._strange = 0
        self._idle_end: asyncio.TimerHandle | None = None
        self.over = False
        self._reading = asyncio.ensure_future(self._read())
        self._rest(True)  # whoever wanted it may have gone while it was opened

    async def ask(self, question: Question, wait: float, ask_ad: bool, edns: bool) -> Reply:
        sent = self._compose(question, ask_ad, edns)
        answered: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting[sent.id] = sent, answered
        self._rest(False)
        heard = self._heard
        try:
            self._writer.write(len(sent.packet).to_bytes(2, "big") + sent.packet)
            async with asyncio.timeout(wait):
                return await answered
        except TimeoutError:
            if self._heard == heard:
                self._end()  # nothing came since: it may be dead, and the next finds a new one
            raise
        finally:
            self._given_up += not answered.done() or answered.cancelled()
            self._waiting.pop(sent.id, None)
            self._rest(True)

    async def close(self) -> None:
        self._end()
        await asyncio.gather(self._reading, return_exceptions=True)

    def _compose(self, question: Question, ask_ad: bool, edns: bool) -> Sent:
        while True:
            ident = self._random_octets(2)
            if int.from_bytes(ident, "big") not in self._waiting:
                # Letters keep their case: nobody can guess into an encrypted connection.
                return compose(question, ident, ask_ad=ask_ad, block=QUERY_BLOCK, edns=edns)

    async def _read(self) -> None:
        """Hand replies to those who wait, until the connection ends. Never raises."""
        try:
            while self._strange < MAX_STRANGE:
                length = int.from_bytes(await self._reader.readexactly(2), "big")
                self._take(await self._reader.readexactly(length))
        except (OSError, EOFError):
            pass  # however it ended, whoever waits asks elsewhere
        finally:
            self._end()

    def _take(self, packet: bytes) -> None:
        sent, answered = self._waiting.get(int.from_bytes(packet[:2], "big"), (None, None))
        if sent is None or answered is None or answered.done():
            if self._given_up:
                self._given_up -= 1  # it is merely late
            else:
                self._strange += 1
            return
        found = match(packet, sent, stream=True)
        if isinstance(found, Reply):
            self._heard += 1
            answered.set_result(found)
        else:
            self._strange += 1
            answered.set_exception(NoReply(found.value))

    def _rest(self, resting: bool) -> None:
        """Begin to count the idle time, or end it."""
        if self._idle_end is not None:
            self._idle_end.cancel()
            self._idle_end = None
        if resting and not self._waiting and not self.over:
            self._idle_end = self._loop.call_later(self._idle, self._end)

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
        self._rest(False)
        for _, answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(_Over("the connection ended"))
        self._reading.cancel()
        self._writer.close()


def _advice(upstream: Upstream, error: ssl.SSLCertVerificationError) -> str:
    """One line for people: whose certificate, what is wrong with it, what to do."""
    named = upstream.name or upstream.host
    if error.verify_code in _OTHER_NAME:
        what = f"it is not for {named}: give the name it is for, tls://{upstream.place}#NAME"
    elif error.verify_code in _UNKNOWN_ISSUER:
        what = (
            "nobody who is trusted vouches for it: install ca-certificates, or name the file of"
            " its issuer in forward_ca"
        )
    elif error.verify_code == _EXPIRED:
        what = "it has expired: check this machine's clock, or use another resolver"
    elif error.verify_code == _NOT_YET_VALID:
        what = "it is not valid yet: check this machine's clock"
    else:
        what = f"{error.verify_message}: look at it with openssl s_client -connect {upstream.place}"
    return f"The certificate of the resolver {upstream.place} is refused, {what}"
