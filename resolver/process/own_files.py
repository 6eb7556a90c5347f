"""Opens the files that a daemon writes: its own, never what somebody else has put in their place.

What must stay true: no link is followed, also not in the last moment; a file that belongs to
another user, or that has a second name, is refused before anything is written or cut. Quick to
import.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_CAREFULLY = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"))
"""No link is followed, and nobody waits for a reader of a pipe."""
_NOT_ORDINARY = "it is no ordinary file"


def open_own(path: str | Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor, as ``os.open`` gives it. Raises OSError, whose strerror says why."""
    try:
        descriptor = os.open(path, flags | _CAREFULLY, mode)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.EPERM, _NOT_ORDINARY, str(path)) from None
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link; name the file itself", str(path)) from None
        raise
    try:
        state = os.fstat(descriptor)
        why = ""
        if not stat.S_ISREG(state.st_mode):
            why = _NOT_ORDINARY
        elif not _is_own(state.st_uid, makes=bool(flags & os.O_CREAT)):
            why = "it belongs to another user"
        elif state.st_nlink > 1:
            why = "it has a second name (a hard link)"
        if why:
            raise OSError(errno.EPERM, why, str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_own(user: int, *, makes: bool) -> bool:
    """Whether a file of ``user`` is ours; root may look at anybody's."""
    if not hasattr(os, "geteuid"):
        return True
    return user == os.geteuid() or (os.geteuid() == 0 and not makes)


def write_own(path: Path, text: str) -> None:
    """Put a file of mode 600 at ``path``, whole or not at all. Raises OSError."""
    fresh = path.with_name(f"{path.name}.tmp")
    with suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = open_own(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
