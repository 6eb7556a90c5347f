"""One HTTP connection to a Bitcoin node.

What must stay true: a reply is read only up to its bound, and its HTTP status is judged before
its text; no credential is in any text that leaves here.
"""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from bitcoinrpc.authproxy import AuthServiceProxy

from indexer.node.failures import NodeError, NodeUnavailable, NotLetIn
from indexer.node.replies import read_json

SLOWEST_REPLY = 10
"""How many times the timeout a reply may take that keeps coming."""


Call = tuple[str, tuple[Any, ...]]
"""A method and its parameters."""


class Wire:
    """One HTTP connection: adds the credentials, bounds and judges what comes back.

    Stands in for the connection that python-bitcoinrpc would make: that one knows neither
    cookie files nor percent-encoded passwords, and reads replies of any size.
    """

    def __init__(
        self,
        secure: bool,
        host: str,
        port: int,
        path: str,
        timeout: float,
        authorization: str,
        max_reply_bytes: int,
        place: str,
    ) -> None:
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=timeout)
        self._path = path
        self._authorization = authorization
        self._max_reply_bytes = max_reply_bytes
        self._place = place
        self.timeout = timeout
        self.used = False
        self.closed = False
        self.rested = time.monotonic()

    @property
    def sock(self) -> Any:
        """The socket, on which python-bitcoinrpc sets its timeout."""
        return self._connection.sock

    def request(self, method: str, _path: str, body: str, headers: dict[str, str]) -> None:
        """Send a request with our path and credentials."""
        headers = {**headers, "Authorization": self._authorization}
        headers.pop("Host", None)  # http.client writes it, with the port
        self._connection.request(method, self._path, body, headers)

    def ask_batch(
        self,
        calls: Sequence[Call],
        at_most: int | None = None,
        read: Callable[[bytes], Any] = read_json,
    ) -> Any:
        """The reply, of ``at_most`` so many bytes and as read by ``read``, to a batch numbered
        from 0."""
        numbered = [
            {"version": "1.1", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        headers = {"Content-Type": "application/json"}
        self.request("POST", self._path, json.dumps(numbered), headers)
        return self.read_reply(at_most, read)

    def get(self, path: str) -> bytes | None:
        """The body at ``path`` of the same host, asked without credentials; None: not there."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        raw = self._read_bounded(response)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        if response.status == 503:
            raise self._too_busy()
        return raw if response.status == 200 else None

    def _too_busy(self) -> NodeUnavailable:
        return NodeUnavailable(
            f"the node at {self._place} is too busy (its work queue is full); "
            "raise rpcworkqueue there if this goes on"
        )

    def read_reply(
        self, at_most: int | None = None, read: Callable[[bytes], Any] = read_json
    ) -> Any:
        """The JSON of the reply."""
        response = self._connection.getresponse()
        if response.status in (401, 403):
            raise NotLetIn(response.status, self._place)
        raw = self._read_bounded(response, at_most)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        if response.status == 503:
            raise self._too_busy()
        try:
            return read(raw)
        except (ValueError, RecursionError):
            raise NodeError(
                f"the node at {self._place} answered with HTTP {response.status} and no JSON; "
                "check that the address is that of a Bitcoin node"
            ) from None

    def _read_bounded(
        self, response: http.client.HTTPResponse, at_most: int | None = None
    ) -> bytes:
        """The body; bounded in size, and in time also when it comes byte by byte."""
        most = self._max_reply_bytes if at_most is None else min(at_most, self._max_reply_bytes)
        if response.length is not None and response.length > most:
            raise self._too_much(most)
        deadline = time.monotonic() + SLOWEST_REPLY * self.timeout
        parts: list[bytes] = []
        size = 0
        while part := response.read1(1 << 20):
            parts.append(part)
            size += len(part)
            if size > most:
                raise self._too_much(most)
            if time.monotonic() > deadline:
                raise TimeoutError
        if not response.length:
            response.close()  # read1 does not notice the end; the connection itself stays
        return b"".join(parts)

    def _too_much(self, most: int) -> NodeError:
        return NodeError(
            f"the node at {self._place} sent more than {most} bytes at once; that is no reply to "
            "what was asked"
        )

    def rest(self) -> None:
        """Note that the connection works and is idle from now on."""
        self.used = True
        self.rested = time.monotonic()

    def close(self) -> None:
        """End the connection, also under a thread that waits for a reply on it."""
        self.closed = True
        connected = self._connection.sock
        if connected is not None:
            with contextlib.suppress(OSError):  # the other side was quicker
                connected.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Proxy(AuthServiceProxy):
    """python-bitcoinrpc's call over our connection, without the log line that costs half of it."""

    def __init__(self, wire: Wire, method: str) -> None:
        super().__init__("http://-:-@-", method, wire.timeout, wire)
        self._wire = wire

    def _get_response(self) -> dict[str, Any]:
        reply = self._wire.read_reply()
        if not isinstance(reply, dict):
            raise NodeError("the node answered one call with something else than one reply")
        error = reply.get("error")
        if error is not None and not isinstance(error, dict):
            raise NodeError(f"the node answered with an error of no known form: {error!r:.200}")
        return reply
