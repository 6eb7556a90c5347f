"""Who listens at a port of this machine, and what the command line shows to whom."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from resolver import cli_daemon
from resolver.cli import cli
from resolver.listeners import users_listening
from tests.servers import Said, serving

TOKEN = "a-token-of-a-good-length"
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
MINE = os.geteuid() if hasattr(os, "geteuid") else 0


def table(folder: Path, name: str, *rows: tuple[str, str, int]) -> None:
    """A table of the kernel with (local address and port, state, user) in its rows."""
    rest = "00000000:00000000 00:00000000 00000000"
    lines = [
        f"   {at}: {local} 00000000:0000 {state} {rest}  {user}  0\n"
        for at, (local, state, user) in enumerate(rows)
    ]
    (folder / name).write_text(HEADER + "".join(lines))


pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the tables here are so written")


@pytest.mark.parametrize(
    ("local", "sees"),
    [
        ("0100007F:1878", True),  # 127.0.0.1:6264
        ("00000000:1878", True),  # 0.0.0.0:6264
        ("0100007F:1879", False),  # another port
        ("0200007F:1878", False),  # 127.0.0.2
    ],
)
def test_a_listener_is_seen_by_its_address_and_port(tmp_path, local, sees):
    table(tmp_path, "tcp", (local, "0A", 1001))
    assert users_listening("127.0.0.1", 6264, tmp_path) == ({1001} if sees else set())


def test_listeners_of_ipv6_are_seen_where_they_take_the_same_connections(tmp_path):
    any_address, one = "0" * 32, "00000000000000000000000001000000"
    mapped = "0000000000000000FFFF00000100007F"
    table(tmp_path, "tcp6", (f"{any_address}:1878", "0A", 5), (f"{one}:1878", "0A", 6))
    assert users_listening("127.0.0.1", 6264, tmp_path) == {5}
    assert users_listening("::1", 6264, tmp_path) == {5, 6}
    table(tmp_path, "tcp6", (f"{mapped}:1878", "0A", 7))
    assert users_listening("127.0.0.1", 6264, tmp_path) == {7}


def test_who_only_holds_a_connection_there_does_not_listen(tmp_path):
    table(tmp_path, "tcp", ("0100007F:1878", "01", 1001))
    assert users_listening("127.0.0.1", 6264, tmp_path) == set()


@pytest.mark.parametrize("content", ["", "nonsense\nmore of it\n", HEADER + " 0: zz:zz x 0A\n"])
def test_tables_that_cannot_be_read_tell_nothing(tmp_path, content):
    (tmp_path / "tcp").write_text(content)
    (tmp_path / "tcp6").write_bytes(b"\xff\xfe")
    assert users_listening("127.0.0.1", 6264, tmp_path) == set()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_socket_of_our_own_is_ours():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert users_listening("127.0.0.1", server.getsockname()[1]) == {MINE}


# --- the command line


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


@contextmanager
def pending(token: Path) -> Iterator[tuple[Result, list[Said]]]:
    """What `pending` ends with, and what it said to whom it found at the port."""
    with serving(200, json.dumps({"jobs": []}).encode()) as (port, said):
        words = ("--port", str(port), "--token-file", str(token), "pending")
        yield CliRunner().invoke(cli, words), said


def test_the_token_is_shown_to_a_daemon_of_ones_own(token):
    with pending(token) as (result, said):
        assert result.exit_code == 0
        assert [one.authorization for one in said] == [f"Bearer {TOKEN}"]


def test_the_token_is_not_shown_to_another_user_in_the_daemons_place(token, monkeypatch):
    monkeypatch.setattr(cli_daemon, "users_listening", lambda host, port: {MINE, 4711})
    with pending(token) as (result, said):
        assert result.exit_code == 3
        assert "the user 4711 of this machine" in result.stderr
        assert said == []


def test_the_owner_of_the_token_may_hear_it_whoever_asks(token, monkeypatch):
    monkeypatch.setattr(cli_daemon, "users_listening", lambda host, port: {4711})
    monkeypatch.setattr(cli_daemon, "read_token", lambda path: (TOKEN, 4711))
    with pending(token) as (result, said):
        assert result.exit_code == 0
        assert len(said) == 1


def test_an_order_that_was_not_answered_may_have_begun_and_that_is_said(token):
    with serving(200, None) as (port, said):
        words = ("--port", str(port), "--token-file", str(token), "revoke", "alice", "--yes")
        result = CliRunner().invoke(cli, words)
    assert [one.path for one in said] == ["/v1/registrar/plan"]
    assert result.exit_code == 15
    assert "whether it was begun" in result.stderr
