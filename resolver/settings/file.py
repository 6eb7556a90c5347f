"""Reads a settings file. Quick to import, for both programs do."""

import tomllib
from pathlib import Path
from typing import Any

from resolver.process.places import SettingsError

MAX_BYTES = 2**20


def read_toml(path: Path | None, must_exist: bool) -> dict[str, Any]:
    """What the settings file holds; nothing where there is none and none ``must_exist``.

    Raises SettingsError.
    """
    if path is None:
        return {}
    try:
        if path.is_fifo():  # nobody may ever write into it
            raise SettingsError([f"the settings file {path} is a pipe; put a file in its place"])
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise SettingsError([f"the settings file {path} is larger than {MAX_BYTES} bytes"])
        return tomllib.loads(text.decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise SettingsError([f"there is no settings file {path}; check --config"]) from None
        return {}
    except OSError as error:
        raise SettingsError(
            [f"the settings file {path} cannot be read: {error.strerror}"]
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError([f"the settings file {path} is not TOML: {reason}"]) from None
