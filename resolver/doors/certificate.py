"""The certificate of the encrypted doors: read from two files, and again whenever they change.

What must stay true: a pair of files that cannot serve (unreadable, mismatched, expired) is told in
one line that names the file; at the start it ends the start, later the old pair stays in use; a
connection keeps the pair it began with; no part of the key is in any message.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

log = logging.getLogger("blockstore.resolver")

MAX_FILE = 1_000_000
WATCH_EVERY = 5.0
WARN_BEFORE = 7 * 86_400.0
"""Seconds before its end from which on a certificate is spoken of in the log."""

# Forward secrecy and authenticated encryption only (RFC 9325 4.2); TLS 1.3 has nothing else.
_TLS12_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"


class CertificateError(Exception):
    """A certificate or key that cannot serve; one line that names the file and says why."""


class _Pair:
    """One certificate chain with its key, and what OpenSSL made of it for each ALPN list. Raises
    SSL.Error."""

    def __init__(self, chain: Sequence[x509.Certificate], key: Any) -> None:
        self._chain = chain
        self._key = key
        self.ends = chain[0].not_valid_after_utc
        self.context = cache(self._make_context)
        self.context(())

    def _make_context(self, protocols: tuple[bytes, ...]) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_cipher_list(_TLS12_CIPHERS)
        context.use_certificate(self._chain[0])
        for issuer in self._chain[1:]:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(self._key)
        context.check_privatekey()

        def choose(_connection: Any, offered: list[bytes]) -> Any:
            """Ours where it is offered, else none: to refuse would help nobody (RFC 7858 says
            nothing of ALPN, and who cannot speak to us will find out)."""
            return next((p for p in protocols if p in offered), SSL.NO_OVERLAPPING_PROTOCOLS)

        context.set_alpn_select_callback(choose)
        return context


class Certificate:
    """A certificate chain (PEM, the server's own first) and its key (PEM, without a password).

    Raises CertificateError. ``clock`` gives unix seconds.
    """

    def __init__(
        self, certificate: Path, key: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._paths = (certificate, key)
        self._clock = clock
        self._seen = self._look()
        self._pair = self._load()
        self._warned = False
        self.reloads = 0
        self._speak_of_its_end()

    def refresh(self) -> None:
        """Take the files anew if they changed; what cannot serve is logged and not taken."""
        look = self._look()
        if look != self._seen:
            self._seen = look
            try:
                self._pair = self._load()
            except CertificateError as error:
                log.error("The old certificate stays in use: %s.", error)
            else:
                self.reloads += 1
                self._warned = False
                log.info("The certificate %s was read anew.", self._paths[0])
        self._speak_of_its_end()

    async def watch(self) -> None:
        """Refresh now and then, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            self.refresh()

    def context(self, protocols: tuple[bytes, ...]) -> SSL.Context:
        """How a new connection is encrypted; ``protocols`` are what it may carry (ALPN)."""
        return self._pair.context(protocols)

    def _look(self) -> tuple[object, ...]:
        """Something that differs once a file has changed."""
        seen: list[object] = []
        for path in self._paths:
            try:
                stat = path.stat()
                seen.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
            except OSError as error:
                seen.append(error.errno)
        return tuple(seen)

    def _load(self) -> _Pair:
        certificate, key = self._paths
        try:
            chain = x509.load_pem_x509_certificates(_read(certificate, "certificate"))
        except ValueError:
            raise CertificateError(f"{certificate} holds no certificate in PEM form") from None
        private = _private_key(key)
        own = chain[0]
        try:
            matches = own.public_key() == private.public_key()
        except (ValueError, UnsupportedAlgorithm):
            matches = False
        if not matches:
            raise CertificateError(f"{key} is not the key of the certificate {certificate}")
        now = datetime.fromtimestamp(self._clock(), UTC)
        if own.not_valid_after_utc <= now:
            raise CertificateError(f"{certificate} expired on {own.not_valid_after_utc:%Y-%m-%d}")
        if own.not_valid_before_utc > now:
            begins = f"{own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            raise CertificateError(f"{certificate} is not valid before {begins}")
        try:
            return _Pair(chain, private)
        except SSL.Error:
            raise CertificateError(f"OpenSSL takes no certificate such as {certificate}") from None

    def _speak_of_its_end(self) -> None:
        left = self._pair.ends.timestamp() - self._clock()
        if self._warned or left > WARN_BEFORE:
            return
        self._warned = True
        when = "expired" if left <= 0 else "expires"
        log.warning(
            "The certificate %s %s on %s; put a new one in its place.",
            self._paths[0],
            when,
            f"{self._pair.ends:%Y-%m-%d}",
        )


@implementer(IOpenSSLServerConnectionCreator)
class Encryption:
    """What Twisted asks for each new connection: the certificate of the moment."""

    def __init__(self, certificate: Certificate, *protocols: bytes) -> None:
        self._certificate = certificate
        self._protocols = protocols

    def serverConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._certificate.context(self._protocols), None)


class TlsFactory(TLSMemoryBIOFactory):
    """TLS around the connections of another factory, which may refuse one."""

    def buildProtocol(self, addr: Any) -> Any:
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE + 1)
    except OSError as error:
        raise CertificateError(
            f"the {what} {path} cannot be read ({error.strerror or error})"
        ) from None
    if len(octets) > MAX_FILE:
        raise CertificateError(f"the {what} {path} is longer than {MAX_FILE} bytes")
    return octets


def _private_key(path: Path) -> Any:
    octets = _read(path, "key")
    try:
        return load_pem_private_key(octets, password=None)
    except TypeError:
        raise CertificateError(
            f"the key {path} is locked by a password: give one without, readable by us alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{path} holds no private key in PEM form") from None
