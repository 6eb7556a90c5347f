"""One daemon a working folder: a pid file whose lock, not whose text, says who runs.

The kernel drops the lock when the process ends in whatever way, so what is left behind by a
killed daemon is never an obstacle. Nobody but the daemon's user can open the file, and so nobody
else can hold the lock. A pid is only ever signalled while its lock is held, by a process that has
this file open. Asking who runs keeps nobody from starting, and one who asks is not taken for a
daemon by another who asks.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from resolver.process.own_files import open_own

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, shared: bool = False) -> bool:
        """Whether the lock could be had; a byte far behind the text is locked. There is no
        shared one, so two who ask at once may take each other for a daemon, for an instant."""
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _lock(fd: int, *, shared: bool = False) -> bool:
        """Whether the lock could be had, alone or together with others who share it."""
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


POLL = 0.02
PROBE_POLL = 0.001
PATIENCE = 0.25
"""Seconds for which a lock may be held by those who only ask whether a daemon holds it; each has
it for less than a millisecond."""


class AlreadyRunning(Exception):
    """Another process holds the lock; ``pid`` is None where it has not written its own yet."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        super().__init__("already running" + (f" as pid {pid}" if pid else ""))


class PidFile:
    """The lock on ``path`` for as long as this object is not released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock and write our pid. Raises AlreadyRunning, OSError."""
        deadline = time.monotonic() + PATIENCE
        while True:
            fd = open_own(self.path, os.O_RDWR | os.O_CREAT)
            try:
                if not _lock(fd):
                    if time.monotonic() >= deadline:
                        pid = _read_pid(fd)
                        if pid is None or _has_open(pid, fd) is not False:
                            raise AlreadyRunning(pid)
                        # Left behind by a killed daemon in the days when others could read it, and
                        # held by one who only does.
                        self.path.unlink(missing_ok=True)
                    time.sleep(PROBE_POLL)
                    continue
                # A daemon that ends removes its file: the lock must be on the one with the name.
                if _is_named(fd, self.path):
                    if hasattr(os, "fchmod"):
                        os.fchmod(fd, 0o600)
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                    self._fd, fd = fd, -1
                    return
            finally:
                if fd >= 0:
                    os.close(fd)

    def release(self) -> None:
        """Remove the file and drop the lock; may be called twice."""
        if self._fd is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None


def owner(path: Path) -> int | None:
    """The pid of the process that holds the lock on ``path``; None where no daemon does.

    Raises OSError where the file cannot be looked at, or is none of ours.
    """
    try:
        fd = open_own(path, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if _lock(fd, shared=True):
            return None
        # The lock is taken an instant before the pid is written.
        deadline = time.monotonic() + 1.0
        while (pid := _read_pid(fd)) is None and time.monotonic() < deadline:
            time.sleep(POLL)
        if pid is not None and _has_open(pid, fd) is False:
            return None  # somebody else holds the lock, and the pid is of old
        return pid
    finally:
        os.close(fd)


def signal_owner(path: Path, number: int = signal.SIGTERM) -> int | None:
    """Send the daemon that holds the lock on ``path`` a signal; its pid, None where there is none.

    Raises OSError as ``owner``, and PermissionError where it is another user's.
    """
    pid = owner(path)
    if pid is None:
        return None
    with suppress(ProcessLookupError):  # it ended by itself meanwhile
        try:
            process = os.pidfd_open(pid)
        except (AttributeError, OSError):  # an older kernel, or none of Linux
            os.kill(pid, number)
            return pid
        try:
            if owner(path) == pid:  # so that it is the process which is held here
                signal.pidfd_send_signal(process, number)
        finally:
            os.close(process)
    return pid


def wait_released(path: Path, timeout: float) -> bool:
    """Whether the lock on ``path`` is free within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while owner(path) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True


def _is_named(fd: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), named)


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _has_open(pid: int, fd: int) -> bool | None:
    """Whether the process ``pid`` has the file of ``fd`` open; None where nothing tells."""
    folder = f"/proc/{pid}/fd"
    if not os.path.isdir("/proc/self/fd"):
        return None
    wanted = os.fstat(fd)
    try:
        opened = os.listdir(folder)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    for one in opened:
        with suppress(OSError):
            if os.path.samestat(os.stat(f"{folder}/{one}"), wanted):
                return True
    return False
