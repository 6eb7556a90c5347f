"""A server on a free port of loopback that answers every request alike, and remembers them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer


@dataclass(frozen=True)
class Said:
    """A request, as far as the tests ask."""

    method: str
    path: str
    authorization: str | None


@contextmanager
def serving(status: int, body: bytes | None) -> Iterator[tuple[int, list[Said]]]:
    """(port, requests) while it serves; with no ``body`` it hangs up instead of answering."""
    said: list[Said] = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said.append(Said(self.command, self.path, self.headers["Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            if body is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1], said
        finally:
            server.shutdown()
            thread.join()
