"""A real Bitcoin node for the live tests: bcoin on regtest, in a process and a folder of its own.

What must stay true: it talks to nobody but us (loopback, no peers, no DNS), listens on ports of
the system's choice, and is ended by its process id when its test ends, whatever happened.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.bitcoin.transactions import script_address
from indexer.networks import REGTEST
from tests.conftest import ROOT

PROGRAM = ROOT / "tests" / "bcoin_npm" / "node_modules" / "bcoin" / "bin" / "node"
START_SECONDS = 30.0
STOP_SECONDS = 20.0
API_KEY = "only-for-tests"

BCOIN_REGTEST = replace(REGTEST, p2pkh_version=0x3C)
"""Regtest as bcoin writes its addresses: the scripts are those of everybody else."""


def why_not() -> str | None:
    """Why bcoin cannot be run here, with what to do about it; None where it can."""
    if shutil.which("node") is None:
        return "node is not installed; the live tests of a real Bitcoin node need Node.js"
    if not PROGRAM.exists():
        return "bcoin is not installed; run `npm ci` in tests/bcoin_npm as .ci/run does"
    return None


needs_bcoin = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Bcoin:
    """One regtest node in ``folder``; its chain outlives ``stop`` and ``start``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rpc_port = free_port()
        self._p2p_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is asked, credentials included."""
        return f"http://x:{API_KEY}@127.0.0.1:{self.rpc_port}"

    def start(self) -> "Bcoin":
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    "node",
                    str(PROGRAM),
                    *(f"--prefix={self.folder}", "--no-wallet", "--listen=false", "--no-dns"),
                    *("--only=127.0.0.1:1", "--index-tx=true", f"--api-key={API_KEY}"),
                    *(f"--http-port={self.rpc_port}", f"--port={self._p2p_port}"),
                    *("--log-level=debug", "--workers=false", "--mempool-replace-by-fee=true"),
                ],
                env={**os.environ, "BCOIN_NETWORK": "regtest"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.call("getblockcount")
                return self
            except OSError:
                gone = self._process.poll() is not None
                if gone or time.monotonic() > deadline:
                    self.kill()
                    said = (self.folder / "output.txt").read_text("utf-8", "replace")[-2000:]
                    raise AssertionError(f"bcoin did not start: {said}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Let it end in order, so that its chain is on disk."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> "Bcoin":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def call(self, method: str, *params: object) -> Any:
        """The result of one call, over a connection and through code that is not ours to test."""
        body = json.dumps({"method": method, "params": params, "id": 1}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.rpc_port}/", body)
        request.add_header("Authorization", "Basic " + b64encode(f"x:{API_KEY}".encode()).decode())
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        assert answer["error"] is None, f"{method}: {answer['error']}"
        return answer["result"]

    # --- verbs

    def generate(self, count: int, script: bytes) -> list[str]:
        """Mine blocks that pay to a p2pkh script; their hashes in display form."""
        address = script_address(script, BCOIN_REGTEST)
        assert address is not None
        mined: list[str] = self.call("generatetoaddress", count, address)
        return mined

    def submit(self, raw: bytes) -> str:
        """Send a transaction and see that it waits for a block.

        bcoin answers before it has looked at the transaction, and never says why it refuses one.
        """
        txid: str = self.call("sendrawtransaction", raw.hex())
        deadline = time.monotonic() + START_SECONDS
        while txid not in self.call("getrawmempool"):
            assert time.monotonic() < deadline, f"bcoin did not take {txid}"
            time.sleep(0.005)
        return txid

    @property
    def height(self) -> int:
        """Height of the tip."""
        height: int = self.call("getblockcount")
        return height
