"""The Unix socket over which a user's commands talk to that user's daemon: where it is, and whose.

What must stay true: it lies in a folder in which nobody but the daemon's user and root can put
anything, so that who answers there is the daemon, and nothing needs to be shown to it; a folder is
looked at and used through one descriptor, so that it is the same one; a link in the socket's place
is never followed. Quick to import.
"""

import errno
import hashlib
import http.client
import os
import socket
import stat
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from resolver.process.places import usual_dirs

NAME = "blockstored.sock"
MAX_ADDRESS = 103
"""Octets of a socket's path everywhere; Linux takes 107 (unix(7)), and there it is always short."""
IS_HERE = hasattr(socket, "AF_UNIX")

_NOBODY_LISTENS = (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTDIR)

T = TypeVar("T")


class Unreachable(Exception):
    """There is no daemon of ours at its socket; ``str()`` says why, "" where none just runs."""


class NoPlace(Exception):
    """A folder that cannot hold the socket; ``str()`` says why and what to do."""


class NoGroup(Exception):
    """A group that the socket cannot be given to; ``str()`` says why and what to do."""


class Busy(Exception):
    """It runs, and takes no further connection at present."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that was looked at, held open, and the socket's name in it."""

    folder: Path
    name: str
    descriptor: int
    owner: int

    @property
    def path(self) -> Path:
        """The socket as a person finds it."""
        return self.folder / self.name

    @property
    def address(self) -> str:
        """What to bind or connect to. Raises NoPlace where it is too long."""
        held = f"/proc/self/fd/{self.descriptor}"
        if os.path.isdir(held):
            return f"{held}/{self.name}"
        if len(os.fsencode(self.path)) > MAX_ADDRESS:
            raise NoPlace(f"the path {self.path} has more than {MAX_ADDRESS} bytes")
        return str(self.path)

    def is_there(self) -> bool:
        """Whether the socket is in the folder. Raises NoPlace where something else is."""
        try:
            found = os.stat(self.name, dir_fd=self.descriptor, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NOBODY_LISTENS:
                return False
            raise NoPlace(f"{self.path}: {error.strerror}") from None
        if not stat.S_ISSOCK(found.st_mode):
            kind = "a link" if stat.S_ISLNK(found.st_mode) else "no socket"
            raise NoPlace(f"{self.path} is {kind}; remove it")
        return True

    def open_to(self, group: int) -> None:
        """Let the members of a group connect: they may pass the folder, and write to the socket.
        Raises NoGroup."""
        try:
            os.chown(self.folder, -1, group)
            mode = stat.S_IMODE(os.stat(self.folder).st_mode)
            os.chmod(self.folder, mode | stat.S_IXGRP)  # noqa: S103 - passed, and not read
            os.chown(self.name, -1, group, dir_fd=self.descriptor, follow_symlinks=False)
            os.chmod(self.name, 0o660, dir_fd=self.descriptor)
        except OSError as error:
            raise NoGroup(
                f"{self.path} cannot be given to the group of socket_group ({error.strerror}); the"
                " user of blockstored must be a member of it"
            ) from None

    def remove(self) -> None:
        """Take the socket away, where it is."""
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.descriptor)

    def close(self) -> None:
        """Let the folder go."""
        os.close(self.descriptor)


def claim(
    working_dir: Path, environ: Mapping[str, str], bind: Callable[[str], T]
) -> tuple[Place, T]:
    """The place of the socket of the daemon of ``working_dir``, and what ``bind`` made of its
    address, whose OSError means that no socket can be there. The caller holds the folder's lock,
    so a socket that lies there is left over. Raises NoPlace."""
    if not IS_HERE:
        raise NoPlace("this system has no Unix sockets")
    reasons: list[str] = []
    for folder, name in _candidates(working_dir, environ, make=True):
        try:
            place = _open(folder, name, {os.geteuid()})
            with _closed_on_error(place):
                if place.is_there():
                    place.remove()
                try:
                    return place, bind(place.address)
                except OSError as error:
                    raise NoPlace(
                        f"{folder} can hold no socket ({error.strerror or error})"
                    ) from None
        except NoPlace as reason:
            reasons.append(str(reason))
    raise NoPlace(_joined(reasons))


def connect(working_dir: Path, environ: Mapping[str, str], timeout: float) -> socket.socket:
    """A connection to the daemon of ``working_dir``, within ``timeout`` seconds.

    Raises Unreachable where nobody listens there who may be believed, Busy, TimeoutError.
    """
    if not IS_HERE:
        raise Unreachable("this system has no Unix sockets")
    owners = None if os.geteuid() == 0 else {os.geteuid(), 0}
    reasons: list[str] = []
    for folder, name in _candidates(working_dir, environ):
        try:
            with closing(_open(folder, name, owners, os.getgroups())) as place:
                if place.is_there():
                    return _connected(place, timeout)
        except NoPlace as reason:
            reasons.append(str(reason))
    raise Unreachable(_joined(reasons))


class Connection(http.client.HTTPConnection):
    """HTTP with the daemon of ``working_dir``; ``connect`` raises as the function above."""

    def __init__(self, working_dir: Path, environ: Mapping[str, str], timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._working_dir = working_dir
        self._environ = environ
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = connect(self._working_dir, self._environ, self._seconds)


def is_running(working_dir: Path, environ: Mapping[str, str]) -> bool:
    """Whether a daemon of ours answers at the socket of ``working_dir``."""
    try:
        connect(working_dir, environ, 1.0).close()
    except Busy:
        return True
    except (Unreachable, OSError):
        return False
    return True


def running_elsewhere(working_dir: Path | None, environ: Mapping[str, str]) -> list[Path]:
    """The usual working folders, but this one, in which daemons of this user run."""
    return [one for one in usual_dirs(environ) if one != working_dir and is_running(one, environ)]


def group_id(name: str) -> int:
    """The number of a group. Raises NoGroup."""
    try:
        import grp

        return grp.getgrnam(name).gr_gid
    except (ImportError, KeyError):
        raise NoGroup(f"there is no group {name!r} here; make it, or mend socket_group") from None


def may_ask(connected: socket.socket, group: int | None) -> bool:
    """Whether the other side is our own user, root, or a member of ``group``, where the system
    tells who it is."""
    user = peer_user(connected)
    return user is None or user in {os.geteuid(), 0} or (group is not None and _is_in(user, group))


def _is_in(user: int, group: int) -> bool:
    try:
        import pwd

        entry = pwd.getpwuid(user)
    except (ImportError, KeyError):
        return False
    return group in os.getgrouplist(entry.pw_name, entry.pw_gid)


def peer_user(connected: socket.socket) -> int | None:
    """The user id of the other side; None where this system does not tell (unix(7))."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    form = struct.Struct("3i")  # pid, uid, gid
    content = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
    return int(form.unpack(content)[1])


def _candidates(
    working_dir: Path, environ: Mapping[str, str], *, make: bool = False
) -> Iterator[tuple[Path, str]]:
    """(folder, name) of where the socket may be: the working folder, and where that will not do
    the user's runtime folder (XDG Base Directory specification)."""
    yield working_dir, NAME
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if not runtime.startswith("/"):
        return
    folder = Path(runtime, "blockstore")
    if make:
        with suppress(OSError):
            folder.mkdir(mode=0o700)
    digest = hashlib.sha256(os.fsencode(os.path.realpath(working_dir))).hexdigest()
    yield folder, f"{digest[:16]}.sock"


def _open(folder: Path, name: str, owners: set[int] | None, groups: Collection[int] = ()) -> Place:
    """``folder``, which belongs to one of ``owners`` (None: to whomever), or is open to one of
    ``groups``, and in which nobody else may write. Raises NoPlace."""
    flags = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)
    try:
        descriptor = os.open(folder, flags)
    except OSError as error:
        if error.errno in _NOBODY_LISTENS:
            raise NoPlace from None
        raise NoPlace(f"{folder}: {error.strerror}") from None
    state = os.fstat(descriptor)
    place = Place(folder, name, descriptor, state.st_uid)
    with _closed_on_error(place):
        shared = state.st_mode & 0o010 and state.st_gid in groups
        if owners is not None and state.st_uid not in owners and not shared:
            user = _user_name(state.st_uid)
            raise NoPlace(f"{folder} belongs to the user {user}; run this as that user")
        if state.st_mode & 0o022:
            raise NoPlace(f"others may write in {folder}; chmod go-w it")
    return place


@contextmanager
def _closed_on_error(place: Place) -> Iterator[None]:
    try:
        yield
    except BaseException:
        place.close()
        raise


def _joined(reasons: list[str]) -> str:
    return "; ".join(filter(None, reasons))


def _connected(place: Place, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(place.address)
        user = peer_user(connection)
        if user is not None and user not in {place.owner, os.geteuid(), 0}:
            raise NoPlace(f"the user {_user_name(user)} listens at {place.path}")
    except BaseException as error:
        connection.close()
        if isinstance(error, BlockingIOError):  # as Linux says that the backlog is full
            raise Busy from None
        if not isinstance(error, OSError) or isinstance(error, TimeoutError):
            raise
        if error.errno in _NOBODY_LISTENS:
            raise NoPlace from None
        raise NoPlace(f"{place.path}: {error.strerror}") from None
    return connection


def _user_name(user: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return str(user)
