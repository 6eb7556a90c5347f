"""The door of the sandbox node: HTTP on loopback, one thread a connection, within bounds.

What must stay true: nothing passes a POST without the node's credentials; every count and size is
bounded here, and nothing else is decided here.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Condition, Lock
from typing import Any, Protocol
from urllib.parse import unquote

from indexer.sandbox.rest import Reply
from indexer.sandbox.switches import Switches

log = logging.getLogger("blockstore.indexer")

WALLET_PREFIX = "/wallet/"
MAX_BODY = 32_000_000
MAX_CONNECTIONS = 128
WORK_QUEUE = 16
IDLE_SECONDS = 60


class Behind(Protocol):
    """Who answers: see ``SandboxNode``."""

    switches: Switches

    def lets_in(self, authorization: str | None) -> bool: ...
    def reply_to(self, body: bytes, wallet: str | None = None) -> tuple[int, bytes]: ...
    def reply_to_path(self, path: str) -> Reply: ...
    def replied(self) -> None: ...


class Server(ThreadingHTTPServer):
    """One thread a connection, at most MAX_CONNECTIONS of them."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], node: Behind) -> None:
        super().__init__(address, _Door)
        self.node = node
        self.work = BoundedSemaphore(WORK_QUEUE)
        self._at_work = 0
        self._turn = Condition()
        self._open: set[socket.socket] = set()
        self._open_lock = Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            full = len(self._open) >= MAX_CONNECTIONS
            if not full:
                self._open.add(request)
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    @contextmanager
    def a_thread(self) -> Iterator[None]:
        """One of the threads that requests are worked on in, when one is free."""
        switches = self.node.switches
        with self._turn:
            self._turn.wait_for(
                lambda: switches.rpc_threads is None or self._at_work < switches.rpc_threads
            )
            self._at_work += 1
        try:
            yield
        finally:
            with self._turn:
                self._at_work -= 1
                self._turn.notify_all()

    def hang_up(self) -> None:
        """End every connection: their threads end with them."""
        with self._open_lock:
            waiting = list(self._open)
        for connection in waiting:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it hung up first

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("a connection to the sandbox node broke off", exc_info=True)


class _Door(BaseHTTPRequestHandler):
    """One HTTP connection: credentials and bounds are checked here, nothing else is."""

    protocol_version = "HTTP/1.1"
    server_version = "blockstore-sandbox"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        """One JSON-RPC request or batch."""
        node = self.server.node
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self._refuse(413 if length > MAX_BODY else 411, "")
            return
        body = self.rfile.read(length)
        path = self.path.partition("?")[0]
        if len(body) < length:
            self.close_connection = True
        elif path not in ("", "/") and not path.startswith(WALLET_PREFIX):
            self._refuse(404, "")
        elif not node.lets_in(self.headers.get("Authorization")):
            self._refuse(401, "")
        elif node.switches.busy or not self.server.work.acquire(blocking=False):
            self._refuse(503, "Work queue depth exceeded")
        else:
            try:
                named = path.startswith(WALLET_PREFIX)
                wallet = unquote(path.removeprefix(WALLET_PREFIX)) if named else None
                with self.server.a_thread():
                    status, reply = node.reply_to(body, wallet)
            finally:
                self.server.work.release()
            self._send(status, reply, "application/json")
            node.replied()

    def do_GET(self) -> None:
        """The REST interface, where it is switched on."""
        with self.server.a_thread():
            status, kind, reply = self.server.node.reply_to_path(self.path)
        if self.server.node.switches.busy:
            status, kind, reply = 503, "text/plain", b"Work queue depth exceeded"
        self.close_connection = self.close_connection or status in (405, 503)
        self._send(status, reply, kind)

    def do_PUT(self) -> None:
        """Nothing is to be had this way."""
        self._refuse(405, "JSONRPC server handles only POST requests")

    do_DELETE = do_HEAD = do_PUT

    def _refuse(self, status: int, reason: str) -> None:
        self.close_connection = True
        self._send(status, reason.encode(), "text/plain")

    def _send(self, status: int, reply: bytes, content_type: str) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="jsonrpc"')
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not logged: there are thousands, and nothing is learned from them."""
