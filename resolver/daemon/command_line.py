"""What the commands of ``blockstored`` share: settings as flags, the reading of them, and failing.

What must stay true: secrets have no flag; a mistake is one line that says what to do, and an exit
code; a daemon is found also when its settings were spoilt since it started.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from resolver.process.places import (
    ENV_PREFIX,
    SettingsError,
    Whereabouts,
    config_path,
    env_name,
)
from resolver.settings.file import read_toml
from resolver.settings.settings import load
from resolver.settings.table import Settings
from resolver.settings.text import default_text, flag_name, is_secret, is_switch, rows, takes_many
from resolver.terminal import say

OK, FAILED, UNUSABLE, NOT_RUNNING = 0, 1, 2, 3
EXIT_CODES = (
    (OK, "done"),
    (FAILED, "it runs, but did not do what was asked in time; or something broke (see the log)"),
    (UNUSABLE, "bad command line or setting, or it cannot start; the reason is on stderr"),
    (NOT_RUNNING, "blockstored is not running"),
)
EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES)

Command = TypeVar("Command", bound=Callable[..., Any])


def setting_flags(*names: str) -> Callable[[Command], Command]:
    """Settings as flags, with meaning, environment name and default: ``names``, or all of them.

    Secrets have no flag, since command lines are for everybody to see.
    """

    def decorate(command: Command) -> Command:
        for name, row in reversed(list(rows())):
            if is_secret(name) or (names and name not in names):
                continue
            text = f"{row.description}  [{env_name(name)}; default: {default_text(name)}]"
            if is_switch(name):
                option = click.option(switch(name), name, default=None, help=text)
            else:
                many = takes_many(name)
                option = click.option(
                    flag_name(name), name, multiple=many, metavar="VALUE", help=text
                )
            command = option(command)
        return command

    return decorate


def switch(name: str) -> str:
    """The two flags of a setting that is on or off."""
    return f"{flag_name(name)}/--no-{flag_name(name).removeprefix('--')}"


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None and value != ()}


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """The effective settings. Ends the program with exit code 2 where there are none."""
    flags = given(flags)
    cwd = Path.cwd()
    path, must_exist = config_path(os.environ, flags, cwd)
    try:
        return _meant(load(read_toml(path, must_exist), os.environ, flags, cwd))
    except SettingsError as error:
        for problem in error.problems:
            say(f"blockstored: {problem}", err=True)
        sys.exit(UNUSABLE)


def working_dir(flags: Mapping[str, Any]) -> Path:
    """Where a daemon works, whatever else its settings say.

    A daemon that runs must be found and stopped also when its settings were spoilt since.
    """
    places = ("network", "working_dir")
    flags = given(flags)
    cwd = Path.cwd()
    environ = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(ENV_PREFIX) or name in map(env_name, (*places, "config"))
    }
    path, must_exist = config_path(environ, flags, cwd)
    try:
        toml = read_toml(path, must_exist)
    except SettingsError as error:
        say(f"blockstored: {error.problems[0]}; it is left aside", err=True)
        toml = {}
    try:
        wanted = {key: toml[key] for key in places if key in toml}
        return _meant(load(wanted, environ, flags, cwd)).working_dir
    except SettingsError as error:
        fail(UNUSABLE, error.problems[0])


def _meant(settings: Settings) -> Settings:
    """The same, whose daemon is from now on the one that messages of this program are about."""
    click.get_current_context().find_root().obj = settings.whereabouts
    return settings


def completed(text: str) -> str:
    """A message whose commands are those for the daemon that is meant."""
    context = click.get_current_context(silent=True)
    where = context.find_object(Whereabouts) if context is not None else None
    return text if where is None else where.completed(text, os.environ)


def tell(*lines: str) -> None:
    """Lines on stdout, whose commands are those for the daemon that is meant."""
    say(*map(completed, lines))


def fail(exit_code: int, sentence: str) -> NoReturn:
    """One line on stderr, and the end."""
    say(f"blockstored: {completed(sentence)}", err=True)
    sys.exit(exit_code)
