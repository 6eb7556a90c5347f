"""The working folder of a daemon that runs: made and checked, and where its doors are told."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from resolver.process.own_files import write_own
from resolver.words import STATUS_NAME

log = logging.getLogger("blockstore.service")


class FolderError(Exception):
    """The folder cannot be used; ``str()`` says why and what to do."""


def make_folder(folder: Path) -> None:
    """Have ``folder``, for us alone where it is new. Raises FolderError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(
            f"the working folder {folder} cannot be made ({error.strerror});"
            " choose another with --working-dir"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FolderError(
            f"the working folder {folder} cannot be written to;"
            " mend its permissions or choose another with --working-dir"
        )
    state = folder.stat()
    says = "%s the working folder %s, and so decide what is answered and paid for; %s it."
    if os.name == "posix" and state.st_mode & 0o022:
        log.warning(says, "Others may write in", folder, "chmod go-w")
    if os.name == "posix" and state.st_uid not in (os.geteuid(), 0):
        log.warning(says, "Another user may change", folder, "choose another, or chown")


class StatusFile:
    """What a daemon tells of itself in its folder while it runs, as JSON."""

    def __init__(self, folder: Path, told: Mapping[str, object]) -> None:
        self._path = folder / STATUS_NAME
        write_own(self._path, json.dumps(told, indent=4) + "\n")

    def remove(self) -> None:
        """It runs no more."""
        self._path.unlink(missing_ok=True)
