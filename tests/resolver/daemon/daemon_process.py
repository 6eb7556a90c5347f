"""Programs of ours as child processes of a test; each ends with the test that began it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.query

from resolver.process import pidfile
from tests.conftest import ROOT

DEADLINE = 30.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: ours without any setting of Blockstore, and ``extra``."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("BLOCKSTORE_")}
    return kept | {"PYTHONPATH": str(ROOT)} | dict(extra or {})


def run_module(
    module: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = DEADLINE,
) -> subprocess.CompletedProcess[bytes]:
    """``python -m module arguments`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment(env),
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def serving_world(*folder: Path) -> Iterator[int]:
    """The port of an API over a ``tests.resolver.api.fakes.World`` in a process of its own,
    which also answers on the socket of ``folder``."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.resolver.api.fakes", *map(str, folder)],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        yield int(child.stdout.readline())
    finally:
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(DEADLINE)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


class Blockstored:
    """A daemon in a working folder of its own, on ports of the system's choice."""

    def __init__(self, folder: Path, node_url: str, *flags: str, network: str = "regtest") -> None:
        self.folder = folder
        self.env = environment({"HOME": str(folder / "home")})
        self.where = ["--working-dir", str(folder / "w"), "--network", network]
        self.flags = ["--dns-port=0", "--api-port=0", "--dht-port=0", "--poll-interval=20ms"]
        self.flags += ["--node-url", node_url, "--wait-for-node", *flags]
        self.log = folder / "w" / "blockstored.log"
        self.pid_file = folder / "w" / "blockstored.pid"

    def command(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """``blockstored`` with these arguments, to its end."""
        return run_module("resolver.blockstored", *arguments, env=self.env)

    def start(self, *flags: str) -> subprocess.CompletedProcess[bytes]:
        return self.command("start", *self.where, *self.flags, *flags)

    def stop(self, *flags: str) -> subprocess.CompletedProcess[bytes]:
        return self.command("stop", *self.where, *flags)

    def status(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        printed: dict[str, Any] = json.loads(self.command("status", "--json", *self.where).stdout)
        return printed

    def ports(self) -> dict[str, Any]:
        """Where the doors are."""
        ports: dict[str, Any] = json.loads((self.folder / "w" / "blockstored.json").read_text())
        return ports

    def ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        """What the API answers, errors included."""
        port = self.ports()["api"]["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        try:
            connection.request(method, path, body)
            told: dict[str, Any] = json.loads(connection.getresponse().read())
            return told
        finally:
            connection.close()

    def info(self) -> dict[str, Any]:
        """``/v1/info``, asked directly."""
        return self.ask("GET", "/v1/info")

    def wait_for_block(self, height: int) -> dict[str, Any]:
        """``/v1/info`` as soon as block ``height`` is indexed."""
        return self.wait(lambda i: not i["indexing"] and i["last_block_processed"] >= height)

    def dig(self, qname: str, rdtype: str = "TXT", *, tcp: bool = False) -> dns.message.Message:
        """The reply to one question, decoded strictly by another library than ours."""
        query = dns.message.make_query(qname, rdtype, use_edns=0)
        ask = dns.query.tcp if tcp else dns.query.udp
        door = self.ports()["dns"][0]
        return ask(query, door["host"], port=door["port"], timeout=DEADLINE)

    def wait(self, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """``/v1/info`` as soon as ``what`` is true of it."""
        deadline = time.monotonic() + DEADLINE
        while True:
            info = self.info()
            if what(info):
                return info
            assert time.monotonic() < deadline, f"it did not happen: {info}"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it the hard way, if it runs, and wait until it is gone."""
        pid = pidfile.owner(self.pid_file)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            assert pidfile.wait_released(self.pid_file, DEADLINE)


@contextmanager
def holding(pid_file: Path) -> Iterator[int]:
    """The pid of another process, while it holds a pid file as a daemon does."""
    code = (
        "import sys; from pathlib import Path; from resolver.process.pidfile import PidFile;"
        "PidFile(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(pid_file)],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        yield child.pid
    finally:
        child.kill()
        child.communicate()
