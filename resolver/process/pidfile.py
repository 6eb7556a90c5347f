"""One daemon a working folder: a pid file whose lock, not whose text, says who runs.

The kernel drops the lock when the process ends in whatever way, so what is left behind by a
killed daemon is never an obstacle. A pid is only ever signalled while its lock is held. Asking who
runs keeps nobody from starting, and one who asks is not taken for a daemon by another who asks.
"""

import os
import sys
import time
from pathlib import Path

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
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if not _lock(fd):
                    if time.monotonic() >= deadline:
                        raise AlreadyRunning(_read_pid(self.path))
                    time.sleep(PROBE_POLL)
                    continue
                # A daemon that ends removes its file: the lock must be on the one with the name.
                if _is_named(fd, self.path):
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
    """The pid of the process that holds the lock on ``path``; None where nobody does."""
    try:
        fd = os.open(path, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if _lock(fd, shared=True):
            return None
    finally:
        os.close(fd)
    # The lock is taken an instant before the pid is written.
    deadline = time.monotonic() + 1.0
    while (pid := _read_pid(path)) is None and time.monotonic() < deadline:
        time.sleep(POLL)
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


def _read_pid(path: Path) -> int | None:
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None
