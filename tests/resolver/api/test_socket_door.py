"""The API on the daemon's socket, and what its TCP port gives in comparison."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resolver.process import own_socket
from resolver.process.own_socket import NAME, Connection
from tests.conftest import ROOT
from tests.resolver.api.fakes import TOKEN
from tests.resolver.daemon.daemon_process import environment, serving_world

pytestmark = pytest.mark.skipif(not own_socket.IS_HERE, reason="no Unix sockets here")

JOBS = "/v1/registrar/jobs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("w")
    made.chmod(0o700)
    return made


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    (folder / NAME).write_bytes(b"")
    (folder / NAME).unlink()
    left_over = socket.socket(socket.AF_UNIX)
    left_over.bind(str(folder / NAME))
    left_over.close()
    with serving_world(folder) as bound:
        yield bound
    assert not (folder / NAME).exists()


def ask(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """(status, code) of the answer."""
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read()).get("code", "")
    finally:
        connection.close()


def over_socket(folder: Path, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    return ask(Connection(folder, {}, 10.0), path, headers)


def over_tcp(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    return ask(http.client.HTTPConnection("127.0.0.1", port, timeout=10), path, headers)


ALLOWED = (409, "not_possible")
"""The answer of this world, which has no registrar, to who may ask it."""
REFUSED = (401, "needs_token")


def test_over_the_socket_nothing_need_be_shown(port, folder):
    assert over_socket(folder, "/v1/ping") == (200, "")
    assert over_socket(folder, JOBS) == ALLOWED


def test_the_socket_is_private(port, folder):
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600


def test_over_tcp_it_takes_the_token_and_no_page_of_a_browser_has_use_for_it(port):
    assert over_tcp(port, JOBS) == REFUSED
    assert over_tcp(port, JOBS, {"Authorization": "Bearer wrong"}) == REFUSED
    assert over_tcp(port, JOBS, {"Authorization": TOKEN}) == ALLOWED
    assert over_tcp(port, JOBS, {"Authorization": TOKEN, "Origin": "null"}) == REFUSED
    forwarded = {"Authorization": TOKEN, "X-Forwarded-For": "127.0.0.1"}
    assert over_tcp(port, JOBS, forwarded) == REFUSED  # by a proxy that nobody named


def test_a_page_in_a_browser_pays_nothing_over_the_socket_either(port, folder):
    assert over_socket(folder, JOBS, {"Origin": "http://localhost"}) == REFUSED
    assert over_socket(folder, "/v1/ping", {"Host": "evil.example"}) == (403, "forbidden")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="takes two users")
def test_another_user_is_not_answered_though_the_rights_were_spoilt(port, folder):
    (folder / NAME).chmod(0o777)
    folder.chmod(0o755)
    try:
        code = (
            "import os, socket, sys; os.setuid(65534);"
            "one = socket.socket(socket.AF_UNIX); one.settimeout(10); one.connect(sys.argv[1]);"
            "one.sendall(b'GET /v1/ping HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n');"
            "print(one.recv(100))"
        )
        above = [one for one in folder.parents if one != Path("/tmp") and one != Path("/")]
        modes = {one: one.stat().st_mode & 0o7777 for one in above}
        for one in above:
            one.chmod(0o755)
        ended = subprocess.run(
            [sys.executable, "-c", code, str(folder / NAME)],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=ROOT,
            env=environment(),
        )
        for one, mode in modes.items():
            one.chmod(mode)
    finally:
        (folder / NAME).chmod(0o600)
        folder.chmod(0o700)
    assert "200 OK" not in ended.stdout
    assert (
        ended.stdout == "b''\n" or "ConnectionReset" in ended.stderr or "BrokenPipe" in ended.stderr
    )
