"""A fake Bitcoin node whose every misbehaviour is a switch, and a purse for the sandbox node."""

import base64
import json
import socket
import struct
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from indexer.bitcoin.transactions import TxIn, TxOut, parse_transaction
from indexer.sandbox.node import SandboxNode
from indexer.wallet.keys import Key, KeyRing

Reply = tuple[int, bytes]


class FakeNode:
    """Answers from ``answers`` (method -> value or function); ``plan`` bends the next replies.

    Each entry of ``plan`` is used for one request: "drop" ends the connection without a byte,
    "cut" in the middle of a reply, "drop after" right after a whole reply, "silent" never
    answers, "drip" answers a byte at a time without end; bytes are sent as the body of HTTP
    200, (status, body) as they are. ``seen`` holds the parsed body of every request that had
    the right credentials.
    """

    def __init__(self, *, user: str = "user", password: str = "pass") -> None:
        self.credentials = f"{user}:{password}"
        self.answers: dict[str, Any] = {}
        self.plan: list[Any] = []
        self.seen: list[Any] = []
        self.turned_away = 0
        self.connections = 0
        self.strict = False
        self.backwards = False
        fake = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20
            disable_nagle_algorithm = True  # else each reply would wait for the other side's ACK

            def setup(self) -> None:
                fake.connections += 1
                super().setup()

            def do_POST(self) -> None:
                fake._answer(self)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Door)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "FakeNode":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, door: BaseHTTPRequestHandler) -> None:
        body = door.rfile.read(int(door.headers["Content-Length"]))
        wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        if door.headers.get("Authorization") != wanted:
            self.turned_away += 1
            self._send(door, 401, b"")
            door.close_connection = True
            return
        self.seen.append(json.loads(body))
        bent = self.plan.pop(0) if self.plan else None
        if bent in ("drop", "silent"):
            if bent == "silent":
                door.rfile.read(1)  # until the other side gives up
            linger = struct.pack("ii", 1, 0)
            door.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            door.close_connection = True
        elif bent == "cut":
            door.send_response(200)
            door.send_header("Content-Length", "1000")
            door.end_headers()
            door.wfile.write(b'{"result": ')
            door.close_connection = True
        elif bent == "drip":
            door.send_response(200)
            door.send_header("Content-Length", "100000")
            door.end_headers()
            pause = Event()
            try:
                while not pause.wait(0.01):
                    door.wfile.write(b" ")
            except OSError:
                door.close_connection = True
        elif isinstance(bent, bytes):
            self._send(door, 200, bent)
        elif isinstance(bent, tuple):
            self._send(door, *bent)
        else:
            self._send(door, *self._reply(self.seen[-1]))
            door.close_connection = bent == "drop after"

    def _reply(self, request: Any) -> Reply:
        if isinstance(request, list):
            replies = [self._one(call)[1] for call in request]
            return 200, json.dumps(replies[::-1] if self.backwards else replies).encode()
        status, reply = self._one(request)
        return status, json.dumps(reply).encode()

    def _one(self, request: Any) -> tuple[int, Any]:
        answer = self.answers.get(request["method"], ErrorReply(-32601, "Method not found"))
        if isinstance(answer, Callable):
            answer = answer(*request["params"])
        reply: dict[str, Any] = {"id": request["id"]}
        if isinstance(answer, ErrorReply):
            reply["error"] = {"code": answer.code, "message": answer.message}
        else:
            reply["result"] = answer
        if self.strict:
            reply["jsonrpc"] = "2.0"
        else:
            reply = {"result": None, "error": None} | reply
        return (500 if isinstance(answer, ErrorReply) and not self.strict else 200), reply

    def _send(self, door: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        door.send_response(status)
        door.send_header("Content-Type", "application/json")
        door.send_header("Content-Length", str(len(body)))
        door.end_headers()
        door.wfile.write(body)


class ErrorReply:
    """An answer that is an error of the node."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message


class Purse:
    """A key with coins on a sandbox node."""

    def __init__(self, node: SandboxNode, secret: bytes = b"\x07" * 32) -> None:
        self.node = node
        self.key = Key(secret)
        self.ring = KeyRing([self.key])

    @property
    def script(self) -> bytes:
        return self.key.script

    def fill(self, coins: int = 1) -> list[bytes]:
        """Mine until this many coinbases can be spent."""
        return self.node.generate(coins + 100, self.script)

    def coin(self, place: int = 0) -> tuple[TxIn, int]:
        unspent = self.node.unspent(self.script)[place]
        return TxIn(unspent[0], unspent[1], b"", 0xFFFFFFFF), unspent[2]

    def pay(
        self, *outputs: TxOut, spends: TxIn | None = None, value: int = 0, fee: int = 10_000
    ) -> bytes:
        """A signed transaction from a coin to the outputs; the rest comes back."""
        if spends is None:
            spends, value = self.coin()
        change = value - fee - sum(output.value for output in outputs)
        pays = [*outputs, TxOut(change, self.script)]
        return self.ring.sign(1, [spends], pays, 0, [self.script])

    def change_of(self, raw: bytes) -> tuple[TxIn, int]:
        """The change of a payment as a coin for the next."""
        transaction = parse_transaction(raw)
        last = len(transaction.outputs) - 1
        return TxIn(transaction.txid, last, b"", 0xFFFFFFFF), transaction.outputs[last].value
