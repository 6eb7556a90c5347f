"""The daemon's Unix socket: where it is put, what is refused, and who is believed."""

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from resolver.process import own_socket
from resolver.process.own_socket import NAME, NoGroup, NoPlace, Place, Unreachable
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not own_socket.IS_HERE, reason="no Unix sockets here")

OTHER = 4711


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "w"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A runtime folder as a login gives one."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    return {"XDG_RUNTIME_DIR": str(runtime)}


def listen(address: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(address)
        os.chmod(address, 0o600)
        listening.listen(5)
    except OSError:
        listening.close()
        raise
    return listening


@contextmanager
def daemon(folder: Path, environ: dict[str, str]) -> Iterator[Place]:
    """One that listens, at its place."""
    place, listening = own_socket.claim(folder, environ, listen)
    with ExitStack() as at_the_end:
        at_the_end.callback(place.close)
        at_the_end.callback(listening.close)
        yield place


def reaches(folder: Path, environ: dict[str, str]) -> bool:
    return own_socket.is_running(folder, environ)


def test_a_command_finds_the_daemon_of_its_folder(folder, environ):
    assert not reaches(folder, environ)
    with daemon(folder, environ) as place:
        assert place.path == folder / NAME
        assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
        assert reaches(folder, environ)
        assert reaches(folder, {})


@pytest.mark.parametrize("name", ["w" * 120, "w" * 250, "ö" * 100])
def test_a_path_of_more_than_107_octets_does(tmp_path, environ, name):
    folder = tmp_path / name
    folder.mkdir(mode=0o700)
    assert len(os.fsencode(folder / NAME)) > 107
    with daemon(folder, environ):
        assert reaches(folder, environ)


def test_where_a_path_cannot_be_made_short_it_is_in_the_runtime_folder(monkeypatch):
    monkeypatch.setattr(own_socket.os.path, "isdir", lambda _: False)  # no /proc
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as short:
        environ = {"XDG_RUNTIME_DIR": short}
        folder = Path(short, "w" * 120)
        folder.mkdir(mode=0o700)
        with daemon(folder, environ) as place:
            assert place.folder == Path(short, "blockstore")
            assert reaches(folder, environ)
        with pytest.raises(NoPlace, match="more than"):
            own_socket.claim(folder, {}, listen)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777, 0o720])
def test_a_folder_in_which_others_may_write_holds_no_socket(folder, environ, mode):
    folder.chmod(mode)
    with daemon(folder, environ) as place:
        assert place.folder == Path(environ["XDG_RUNTIME_DIR"], "blockstore")
        assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
        assert reaches(folder, environ)
        assert not (folder / NAME).exists()
    with pytest.raises(NoPlace, match="others may write"):
        own_socket.claim(folder, {}, listen)


def test_what_others_put_into_such_a_folder_is_not_believed(folder):
    with listen(str(folder / NAME)):
        assert reaches(folder, {})
        folder.chmod(0o777)
        with pytest.raises(Unreachable, match="others may write"):
            own_socket.connect(folder, {}, 1.0)


def test_two_folders_share_a_runtime_folder_and_are_told_apart(tmp_path, environ):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        folder.chmod(0o777)
    with daemon(one, environ):
        assert reaches(one, environ)
        assert not reaches(two, environ)


def test_a_file_system_without_sockets_is_gone_round(folder, environ):
    def refusing(address: str) -> socket.socket:
        if os.path.samefile(os.path.dirname(address), folder):
            raise OSError(errno.EPERM, "Operation not permitted")
        return listen(address)

    place, listening = own_socket.claim(folder, environ, refusing)
    with listening:
        assert place.folder == Path(environ["XDG_RUNTIME_DIR"], "blockstore")
        assert reaches(folder, environ)
    place.close()
    with pytest.raises(NoPlace, match="can hold no socket"):
        own_socket.claim(folder, {}, refusing)


def test_a_socket_that_was_left_over_is_replaced(folder, environ):
    listen(str(folder / NAME)).close()
    assert (folder / NAME).exists()
    assert not reaches(folder, environ)
    with daemon(folder, environ) as place:
        assert place.path == folder / NAME
        assert reaches(folder, environ)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_socket_is_neither_followed_nor_removed(tmp_path, folder, kind):
    target = tmp_path / "elsewhere"
    with listen(str(target)):
        if kind == "link":
            (folder / NAME).symlink_to(target)
        else:
            (folder / NAME).write_text("mine")
        with pytest.raises(Unreachable, match="remove it"):
            own_socket.connect(folder, {}, 1.0)
        with pytest.raises(NoPlace, match="remove it"):
            own_socket.claim(folder, {}, listen)
        assert target.is_socket()
        assert os.path.lexists(folder / NAME)


def test_a_folder_of_another_user_is_neither_used_nor_believed(folder, monkeypatch):
    with listen(str(folder / NAME)):
        if os.geteuid() == 0:
            os.chown(folder, OTHER, OTHER)
        monkeypatch.setattr(own_socket.os, "geteuid", lambda: OTHER + 1)
        with pytest.raises(Unreachable, match=r"belongs to the user .* run this as that user"):
            own_socket.connect(folder, {}, 1.0)
        with pytest.raises(NoPlace, match="belongs to the user"):
            own_socket.claim(folder, {}, listen)


def test_another_user_who_listens_there_is_not_believed(folder, monkeypatch):
    with listen(str(folder / NAME)):
        monkeypatch.setattr(own_socket, "peer_user", lambda _: OTHER)
        with pytest.raises(Unreachable, match=f"the user {OTHER} listens"):
            own_socket.connect(folder, {}, 1.0)


def test_the_kernel_tells_who_is_at_the_other_side(folder):
    with listen(str(folder / NAME)) as listening:
        connection = own_socket.connect(folder, {}, 1.0)
        accepted, _ = listening.accept()
        with connection, accepted:
            known = hasattr(socket, "SO_PEERCRED")
            assert own_socket.peer_user(accepted) == (os.geteuid() if known else None)
            assert own_socket.peer_user(connection) == (os.geteuid() if known else None)


def test_no_descriptor_stays_open(folder, environ):
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("nothing counts them here")
    before = count()
    for _ in range(3):
        reaches(folder, environ)
        with daemon(folder, environ):
            reaches(folder, environ)
        folder.chmod(0o777)
        reaches(folder, environ)
        folder.chmod(0o700)
    assert count() == before


NOBODY = 65534


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="takes two users")
def test_members_of_a_group_that_it_was_opened_to_reach_it_and_nobody_else():
    group = own_socket.group_id("nogroup")
    code = (
        "import os, sys; from pathlib import Path; from resolver.process import own_socket\n"
        "os.setgroups([int(sys.argv[2])]); os.setgid(100); os.setuid(65534)\n"
        "own_socket.connect(Path(sys.argv[1]), {}, 5.0)"
    )

    def reached(groups: int) -> str:
        words = [sys.executable, "-c", code, str(folder), str(groups)]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=ROOT)
        return "" if ended.returncode == 0 else ended.stderr.splitlines()[-1]

    with tempfile.TemporaryDirectory(dir="/tmp") as above:
        os.chmod(above, 0o755)
        folder = Path(above, "w")
        folder.mkdir(mode=0o700)
        with daemon(folder, {}) as place:
            assert "Permission denied" in reached(group)
            place.open_to(group)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o710
            assert stat.S_IMODE(place.path.stat().st_mode) == 0o660
            assert reached(group) == ""
            assert "Permission denied" in reached(100)


def test_who_connects_may_ask_as_the_daemons_user_as_root_or_as_a_member(folder, monkeypatch):
    with listen(str(folder / NAME)):
        connection = own_socket.connect(folder, {}, 1.0)
        with connection:
            assert own_socket.may_ask(connection, None)
            monkeypatch.setattr(own_socket, "peer_user", lambda _: NOBODY)
            assert not own_socket.may_ask(connection, None)
            assert own_socket.may_ask(connection, own_socket.group_id("nogroup"))
            assert not own_socket.may_ask(connection, OTHER)


def test_a_group_that_is_none_is_told_so():
    with pytest.raises(NoGroup, match="mend socket_group"):
        own_socket.group_id("no such group")
