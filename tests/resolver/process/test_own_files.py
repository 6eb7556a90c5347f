"""A daemon's own files: no link is followed, and only the daemon of a pid file is ended by it."""

import logging
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from resolver.daemon.logs import open_log
from resolver.process import pidfile
from resolver.process.folder import make_folder
from resolver.process.own_files import open_own, write_own
from resolver.process.pidfile import AlreadyRunning, PidFile
from resolver.settings.settings import load
from resolver.words import unwritable
from tests.resolver.daemon.daemon_process import environment, holding

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")

NEW = os.O_RDWR | os.O_CREAT


def test_a_pid_file_is_private(tmp_path):
    path = tmp_path / "pid"
    path.touch(0o644)
    path.chmod(0o644)
    held = PidFile(path)
    held.acquire()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    held.release()
    held.acquire()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    held.release()


@pytest.mark.parametrize("name", ["pid", "log"])
def test_neither_pid_file_nor_log_is_opened_through_a_link(tmp_path, name):
    target = tmp_path / "precious"
    target.write_text("1234567\n")
    link = tmp_path / name
    link.symlink_to(target)
    settings = load({}, {}, {"working_dir": tmp_path, "log_file": link})
    opens = {"pid": PidFile(link).acquire, "log": lambda: open_log(settings)}
    with pytest.raises(OSError, match="it is a link"):
        opens[name]()
    assert target.read_text() == "1234567\n"


@pytest.mark.parametrize("kind", ["link to nothing", "hard link", "pipe", "folder"])
def test_what_is_no_file_of_our_own_is_not_written(tmp_path, kind):
    path, other = tmp_path / "file", tmp_path / "other"
    if kind == "link to nothing":
        path.symlink_to(other)
    elif kind == "hard link":
        other.write_text("kept")
        os.link(other, path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(OSError):
        open_own(path, NEW)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    assert not (kind == "link to nothing" and other.exists())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_log_that_is_no_file_ends_the_start_and_is_not_waited_for(tmp_path, kind):
    log = tmp_path / "log"
    log.mkdir() if kind == "folder" else os.mkfifo(log)
    settings = load({}, {}, {"working_dir": tmp_path, "log_file": log})
    with pytest.raises(OSError) as refused:
        open_log(settings)
    said = unwritable(refused.value, tmp_path, log)
    assert "no ordinary file" in said or "is a folder and no file" in said


@pytest.mark.parametrize(
    ("mode", "owner", "says"),
    [(0o700, 0, ""), (0o770, 0, "Others may write"), (0o700, 4711, "Another user may change")],
)
def test_a_working_folder_that_others_can_change_is_warned_of(
    tmp_path, mode, owner, says, caplog, monkeypatch
):
    tmp_path.chmod(mode)
    if owner:
        mine = tmp_path.stat().st_uid
        if mine == 0:
            os.chown(tmp_path, owner, owner)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    make_folder(tmp_path)
    assert says in caplog.text
    assert bool(caplog.text) is bool(says)


def test_a_file_of_another_user_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    monkeypatch.setattr("resolver.process.own_files.os.geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(OSError, match="another user"):
        open_own(path, NEW)


def test_a_file_is_written_whole_and_private_though_a_link_lies_in_the_way(tmp_path):
    target = tmp_path / "precious"
    target.write_text("kept")
    (tmp_path / "state.json.tmp").symlink_to(target)
    write_own(tmp_path / "state.json", "{}")
    assert (tmp_path / "state.json").read_text() == "{}"
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600
    assert target.read_text() == "kept"


@pytest.fixture
def bystander():
    """A process of ours that has nothing to do with any pid file."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        env=environment(),
    )
    yield process
    process.kill()
    process.communicate()


def test_a_stale_pid_under_somebody_elses_lock_is_nobodys(tmp_path, bystander):
    path = tmp_path / "pid"
    path.write_text(f"{bystander.pid}\n")
    path.chmod(0o644)
    code = (  # as any reader could while the file was readable
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.lockf(file, fcntl.LOCK_SH);"
        "print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        assert reading.stdout.readline() == b"held\n"
        assert pidfile.owner(path) is None
        assert pidfile.signal_owner(path, signal.SIGKILL) is None
        held = PidFile(path)
        held.acquire()
        assert path.read_text() == f"{os.getpid()}\n"
        held.release()
    assert bystander.poll() is None


def test_the_daemon_of_a_pid_file_is_signalled(tmp_path):
    path = tmp_path / "pid"
    with holding(path) as pid:
        with pytest.raises(AlreadyRunning):
            PidFile(path).acquire()
        assert pidfile.signal_owner(path) == pid
        assert pidfile.wait_released(path, 30.0)
        assert pidfile.signal_owner(path) is None


def test_who_was_killed_may_take_a_moment_to_let_go(tmp_path):
    path = tmp_path / "pid"
    with holding(path) as pid:
        threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
        mine = PidFile(path)
        mine.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    mine.release()


@pytest.fixture(autouse=True)
def logging_as_before():
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before
