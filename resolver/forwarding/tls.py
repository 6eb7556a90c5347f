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
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

from resolver.dns.upstream_reply import Reply
from resolver.forwarding.query import Question, Sent, compose, match
from resolver.forwarding.upstreams import Upstream

OPEN_WAIT = 2.0
"""Seconds for TCP and TLS to be established: three round trips, and not the whole patience."""
IDLE = 30.0
QUERY_BLOCK = 128
MAX_STRANGE = 8
"""Messages without a reply between them, after which the connection is given up."""

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
        self._connecting: asyncio.Task[_Connection] | None = None
        """What gives the connection there is, or the one that is being opened."""
        self.opened = 0
        """Connections so far."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, or one is being opened."""
        task = self._connecting
        if task is None or not task.done():
            return task is not None
        return not task.cancelled() and task.exception() is None and not task.result().over

    async def ask(self, question: Question, *, ask_ad: bool, edns: bool, wait: float) -> Reply:
        """The reply, within ``wait`` seconds on an open connection. Raises NoReply,
        CertificateRefused, TimeoutError or OSError."""
        while True:
            if not self.is_open:
                self._connecting = asyncio.ensure_future(self._connect())
            assert self._connecting is not None
            was_open = self._connecting.done()
            # Whoever gives up waiting takes nothing from the others.
            connection = await asyncio.shield(self._connecting)
            try:
                return await connection.ask(question, wait, ask_ad, edns)
            except _Over:
                if not was_open:
                    raise  # else it had ended, and we did not know

    async def close(self) -> None:
        """End the connection; who still waits gets NoReply."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
            if self.is_open:
                await self._connecting.result().close()

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
        self._waiting: dict[int, tuple[Sent, asyncio.Future[Reply]]] = {}
        self._heard = self._strange = 0
        self.over = False
        self._reading = asyncio.ensure_future(self._read())

    async def ask(self, question: Question, wait: float, ask_ad: bool, edns: bool) -> Reply:
        if self.over:
            raise _Over
        sent = self._compose(question, ask_ad, edns)
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[sent.id] = sent, answered
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
            self._waiting.pop(sent.id, None)

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
        """Hand replies to those who wait, until the connection ends or rests. Never raises."""
        try:
            while self._strange < MAX_STRANGE:
                try:
                    async with asyncio.timeout(self._idle):
                        length = int.from_bytes(await self._reader.readexactly(2), "big")
                except TimeoutError:
                    if self._waiting:
                        continue  # each of them waits only so long
                    break
                self._take(await self._reader.readexactly(length))
        except (OSError, EOFError):
            pass  # however it ended, whoever waits asks elsewhere
        finally:
            self._end()

    def _take(self, packet: bytes) -> None:
        self._strange += 1
        sent, answered = self._waiting.get(int.from_bytes(packet[:2], "big"), (None, None))
        if sent is None or answered is None or answered.done():
            return
        found = match(packet, sent, stream=True)
        if isinstance(found, Reply):
            self._heard += 1
            self._strange = 0
            answered.set_result(found)
        else:
            answered.set_exception(NoReply(found.value))

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
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
