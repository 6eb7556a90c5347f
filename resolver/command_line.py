"""What the command lines share: names of files, the layout of help, and what is handed around.

Imports nothing of ours while it runs, so that a command which only asks starts at once.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from resolver.settings import Settings

PID_NAME = "blockstored.pid"
STATUS_NAME = "blockstored.json"
"""Both lie in the working directory while a daemon runs."""
TOKEN_NAME = "api-token"
"""In the working directory: who can read it may have names registered and handed over."""
CONSENSUS_HEX = 32
"""Hex digits of a consensus hash."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Of every command: how help is asked for, and how wide it may be."""

Command = TypeVar("Command", bound=Callable[..., Any])
SettingFlags = Callable[..., Callable[[Command], Command]]
ReadSettings = Callable[[Mapping[str, Any]], "Settings"]
Fail = Callable[[int, str], NoReturn]
