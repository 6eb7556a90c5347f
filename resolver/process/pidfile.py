"""One daemon a working folder: a pid file whose lock, not whose text, says who runs.

The kernel drops the lock when the process ends in whatever way, so what is left behind by a
killed daemon is never an obstacle, and it tells who holds it without any lock of the one who asks
(fcntl(2), F_GETLK). Nobody but the daemon's user can open the file for writing, and so nobody else
can hold the lock. A pid is only ever signalled while its lock is held.

What must stay true: a process that holds the lock opens the file no second time, for the lock goes
with the first descriptor that is closed.
"""

import os
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from resolver.process.own_files import open_own

READER = -1
POLL = 0.02
LEAVING = 1.0
"""Seconds that a process which was killed may take to let go of its files: the kernel ends its
threads one by one."""

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> bool:
        """Whether the lock could be had; a byte far behind the text is locked."""
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        with suppress(OSError):
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            return True
        return False
else:
    import fcntl

    def _lock(fd: int) -> bool:
        """Whether the lock could be had."""
        with suppress(OSError):
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False


def _holder(fd: int) -> int | None:
    """The process that holds the file for itself; None where none does, READER where somebody only
    keeps others from doing so, as who may read the file can."""
    if sys.platform != "linux":  # there is no such question: who asks holds it for an instant
        text = os.pread(fd, 32, 0).strip()
        return None if _lock(fd) else int(text) if text.isdigit() else 0
    flock = struct.Struct("hhqqi")  # l_type, l_whence, l_start, l_len, l_pid
    asked = flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, *_, pid = flock.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return pid if kind == fcntl.F_WRLCK else {fcntl.F_RDLCK: READER}.get(kind)


class AlreadyRunning(Exception):
    """Another process, ``pid``, holds the lock."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(f"already running as pid {pid}")


class PidFile:
    """The lock on ``path`` for as long as this object is not released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock and write our pid. Raises AlreadyRunning, OSError."""
        deadline = time.monotonic() + LEAVING
        while self._fd is None:
            fd = open_own(self.path, os.O_RDWR | os.O_CREAT)
            try:
                if not _lock(fd):
                    pid = _holder(fd)
                    if pid == READER and _is_named(fd, self.path):
                        # Others could read the file in former days; no daemon can have its lock.
                        self.path.unlink(missing_ok=True)
                    elif pid is not None and pid != READER:
                        if time.monotonic() >= deadline:
                            raise AlreadyRunning(pid)
                        time.sleep(POLL)
                # A daemon that ends removes its file: the lock must be on the one with the name.
                elif _is_named(fd, self.path):
                    if hasattr(os, "fchmod"):
                        os.fchmod(fd, 0o600)
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                    self._fd = fd
            finally:
                if self._fd is None:
                    os.close(fd)

    def release(self) -> None:
        """Remove the file and drop the lock; may be called twice."""
        if self._fd is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None


def owner(path: Path) -> int | None:
    """The pid of the process that holds the lock on ``path``; None where no other one does.

    Raises OSError where the file cannot be looked at, or is none of ours.
    """
    try:
        fd = open_own(path, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        pid = _holder(fd)
        return None if pid == READER else pid
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
