"""Whole daemons as child processes, on ports of the system's choice, asked over real sockets."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import dns.message
import dns.query

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 30.0
PATIENCE = 60.0


class Daemon:
    """One ``blockstored start --foreground`` in ``folder``; stopped by its process id."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None
        self.places: dict[str, Any] = {}

    def start(self) -> "Daemon":
        """Start it and wait until its doors are open."""
        ports = ("--dns-port", "0", "--api-port", "0", "--dht-port", "0")
        self._places_file.unlink(missing_ok=True)
        program = "from resolver.daemon import main; main()"
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "stderr.txt").open("wb") as errors:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", program, "start", "--foreground"),
                    *("--working-dir", str(self.folder), *ports, *self.flags),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=ROOT,
                env={k: v for k, v in os.environ.items() if not k.startswith("BLOCKSTORE_")},
            )
        wait_for(lambda: self._opened(), START_TIMEOUT, f"{self.folder.name} to open its doors")
        return self

    @property
    def _places_file(self) -> Path:
        return self.folder / "blockstored.json"

    def _opened(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "stderr.txt").read_text())
        if not self._places_file.exists():
            return False
        self.places = json.loads(self._places_file.read_text())
        return True

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by its process id; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> "Daemon":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return (self.folder / "blockstored.log").read_text()

    # --- its doors

    @property
    def dht(self) -> str:
        """HOST:PORT of its DHT node."""
        return f"{self.places['dht']['host']}:{self.places['dht']['port']}"

    def get(self, path: str) -> Any:
        """What the API answers on ``path``, errors included."""
        return self._ask(urllib.request.Request(self._url(path)))

    def post(self, path: str, body: bytes) -> Any:
        """What the API answers to ``body``."""
        kind = {"Content-Type": "application/octet-stream"}
        return self._ask(urllib.request.Request(self._url(path), data=body, headers=kind))

    def _url(self, path: str) -> str:
        api = self.places["api"]
        return f"http://{api['host']}:{api['port']}{path}"

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def dig(
        self, qname: str, rdtype: str = "TXT", *, tcp: bool = False, edns: bool = True
    ) -> dns.message.Message:
        """The reply to one question, decoded strictly by an independent library."""
        query = dns.message.make_query(qname, rdtype, use_edns=0 if edns else False)
        ask = dns.query.tcp if tcp else dns.query.udp
        place = self.places["dns"][0]
        return ask(query, place["host"], port=place["port"], timeout=PATIENCE)

    def wait_for_block(self, height: int) -> dict[str, Any]:
        """Wait until ``height`` is indexed; what ``/v1/info`` says then."""
        found: dict[str, Any] = {}

        def indexed() -> bool:
            nonlocal found
            found = self.get("/v1/info")
            return int(found.get("last_block_processed", -1)) >= height and not found["indexing"]

        wait_for(indexed, PATIENCE, f"block {height} in {self.folder.name}")
        return found


def wait_for(condition: Any, seconds: float, what: str) -> None:
    """Ask ``condition`` until it holds; a claim fails when it does not in ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)
