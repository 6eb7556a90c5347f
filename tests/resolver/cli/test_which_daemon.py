"""Which daemon a command asks, what it shows to whom, and what it says where there is none."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from resolver.blockstore_cli import cli
from resolver.cli import which_daemon
from resolver.process import own_socket, pidfile
from resolver.process.own_socket import Unreachable
from tests.resolver.cli.servers import serving
from tests.resolver.daemon.daemon_process import holding

pytestmark = pytest.mark.skipif(not own_socket.IS_HERE, reason="no Unix sockets here")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("BLOCKSTORE_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@contextmanager
def answering(folder: Path, body: Any | None, status: int = 200) -> Iterator[list[str]]:
    """The paths that were asked of a daemon in ``folder`` that answers all alike; None: it hangs
    up instead."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            assert "Authorization" not in self.headers
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            if body is None:
                self.close_connection = True
                return
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def address_string(self) -> str:
            return ""

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place, server = own_socket.claim(folder, {}, lambda address: UnixStreamServer(address, Answer))
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()
            place.remove()
            place.close()


def run(*words: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, words, env=env)


JOBS = {"jobs": []}


@pytest.mark.parametrize(
    ("words", "env", "folder"),
    [
        ((), {}, ".blockstore"),
        (("--working-dir", "{home}/x"), {}, "x"),
        ((), {"BLOCKSTORE_WORKING_DIR": "~/x"}, "x"),
        (("--network", "sandbox"), {}, ".blockstore/sandbox"),
        ((), {"BLOCKSTORE_NETWORK": "testnet"}, ".blockstore/testnet"),
        (("--config", "{home}/file"), {}, "from-file"),
        ((), {"BLOCKSTORE_CONFIG": "{home}/file"}, "from-file"),
        (("--working-dir", "{home}/x"), {"BLOCKSTORE_API_PORT": "1"}, "x"),
        ((), {"BLOCKSTORE_WORKING_DIR": "{home}/x", "BLOCKSTORE_API_PORT": "1"}, "x"),
    ],
)
def test_a_daemon_is_found_as_blockstored_finds_it(home, words, env, folder):
    (home / "file").write_text('working_dir = "~/from-file"\n')
    told = [word.format(home=home) for word in words]
    with answering(home / folder, JOBS) as asked:
        ended = run(*told, "pending", env={k: v.format(home=home) for k, v in env.items()})
    assert ended.exit_code == 0, ended.stderr
    assert len(asked) == 1


def test_the_usual_settings_file_may_name_another_folder(home):
    (home / ".blockstore").mkdir()
    (home / ".blockstore" / "blockstore.toml").write_text(f'working_dir = "{home}/far"\n')
    with answering(home / "far", JOBS) as asked:
        assert run("pending").exit_code == 0
    assert len(asked) == 1


def test_nothing_is_paid_at_a_port(home):
    with serving(200, json.dumps(JOBS).encode()) as (port, said):
        ended = run("--port", str(port), "pending")
        assert ended.exit_code == 2
        assert "--working-dir" in ended.stderr
        ended = run("pending", env={"BLOCKSTORE_API_PORT": str(port)})
        assert ended.exit_code == 2
        assert said == []
        assert run("--port", str(port), "ping").exit_code == 0
        assert [one.authorization for one in said] == [None]


def test_a_folder_and_a_port_are_not_both_given(home):
    ended = run("--port", "5", "--working-dir", str(home), "ping")
    assert ended.exit_code == 2


def test_a_new_user_of_the_sandbox_need_not_name_it(home):
    with answering(home / ".blockstore" / "sandbox", JOBS) as asked:
        assert run("pending").exit_code == 0
        assert run("names", "--mine").exit_code in (0, 1)
    assert len(asked) == 2


def test_another_daemon_is_named_and_not_asked_where_ones_own_does_not_run(home):
    sandbox = home / ".blockstore" / "sandbox"
    (home / ".blockstore" / "names").mkdir(parents=True)
    with answering(sandbox, JOBS) as asked:
        for words in (("pending",), ("ping",), ("--network", "testnet", "ping")):
            ended = run(*words)
            assert ended.exit_code == 3
            assert f"there runs {sandbox}" in ended.stderr
            assert f"--working-dir {sandbox}" in ended.stderr
        ended = run("--port", "1", "ping")
        assert (ended.exit_code, f"there runs {sandbox}" in ended.stderr) == (3, True)
    assert asked == []


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        (("--network", "sandbox"), "`blockstored sandbox`"),
        (("--network", "testnet"), "`blockstored start --network testnet`"),
        (("--network", "mainnet"), "`blockstored start`"),
        (("--working-dir", "{home}/box"), "`blockstored sandbox --working-dir {home}/box`"),
        (("--working-dir", "{home}/w"), "`blockstored start --working-dir {home}/w`"),
        (
            ("--network", "testnet", "--working-dir", "{home}/w"),
            "`blockstored start --network testnet --working-dir {home}/w`",
        ),
    ],
)
def test_a_daemon_that_does_not_run_is_told_how_it_is_started(home, words, starts):
    (home / "box").mkdir()
    (home / "box" / "sandbox").touch()
    ended = run(*(word.format(home=home) for word in words), "ping")
    assert ended.exit_code == 3
    assert starts.format(home=home) in ended.stderr


def test_where_this_user_has_no_daemon_the_usual_port_is_read_and_not_paid_at(home, monkeypatch):
    with serving(200, json.dumps({"status": "alive"}).encode()) as (port, said):
        monkeypatch.setattr(which_daemon, "PORT", port)
        assert run("ping").exit_code == 0
        assert run("pending").exit_code == 3
    assert [one.path for one in said] == ["/v1/ping"]


def test_a_daemon_that_only_starts_is_said_to_run(home):
    folder = home / ".blockstore"
    folder.mkdir()
    with holding(folder / "blockstored.pid") as pid:
        ended = run("ping")
    assert ended.exit_code == 3
    assert f"as pid {pid}" in ended.stderr


def test_a_settings_file_that_cannot_be_read_is_named(home):
    ended = run("--config", str(home / "none.toml"), "ping")
    assert ended.exit_code == 2
    assert "none.toml" in ended.stderr


def test_an_order_that_was_not_answered_may_have_begun_and_that_is_said(home):
    with answering(home / ".blockstore", None) as asked:
        ended = run("revoke", "alice", "--yes")
    assert asked == ["/v1/registrar/plan"]
    assert ended.exit_code == 15
    assert "whether it was begun" in ended.stderr


def test_a_daemon_with_as_many_connections_as_it_may_is_called_busy(home):
    with answering(home / ".blockstore", None):
        ended = run("ping")
    assert ended.exit_code == 1
    assert "busy" in ended.stderr


@pytest.mark.parametrize(("why", "waits"), [("its socket is a link; remove it", False), ("", True)])
def test_a_daemon_that_runs_and_is_not_reached_is_not_only_waited_for(
    why: str, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise Unreachable(why)

    monkeypatch.setattr(pidfile, "owner", lambda _: 7)
    monkeypatch.setattr(own_socket, "connect", unreachable)
    ended = run("--working-dir", str(tmp_path), "ping")
    shown = ended.stderr
    assert f"`blockstored stop --working-dir {tmp_path}` and start it again" in shown
    assert ("wait for it" in shown) is waits
