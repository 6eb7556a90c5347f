"""What the command lines share: names of files, the layout of help, and what is handed around.

Imports nothing of ours while it runs, so that a command which only asks starts at once.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from resolver.settings.settings import Settings

PID_NAME = "blockstored.pid"
STATUS_NAME = "blockstored.json"
"""Both lie in the working directory while a daemon runs."""
TOKEN_NAME = "api-token"  # noqa: S105 - a file's name
"""In the working directory, with `api_pay_over_tcp`: who can read it may have names registered."""
CONSENSUS_HEX = 32
"""Hex digits of a consensus hash."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Of every command: how help is asked for, and how wide it may be."""

Command = TypeVar("Command", bound=Callable[..., Any])
SettingFlags = Callable[..., Callable[[Command], Command]]
ReadSettings = Callable[[Mapping[str, Any]], "Settings"]
Fail = Callable[[int, str], NoReturn]


def unwritable(error: OSError, settings: "Settings") -> str:
    """Why the working folder or the log cannot be written, and which setting chooses another."""
    place = Path(error.filename or settings.working_dir)
    of_log = settings.log_file.is_relative_to(place)
    flag = "--log-file" if of_log and not settings.working_dir.is_relative_to(place) else ""
    another = f"choose another with {flag or '--working-dir'}"
    if isinstance(error, FileExistsError):
        return f"{place} is not a folder; {another}"
    if isinstance(error, NotADirectoryError):
        return f"{place} cannot be made, for what it would be in is a file; {another}"
    if isinstance(error, IsADirectoryError):
        return f"{place} is a folder and no file; {another}"
    return f"cannot write in {place} ({error.strerror}); mend its permissions or {another}"
