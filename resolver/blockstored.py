"""``blockstored``: start, stop, status, sandbox, config, version; one function a command.

What must stay true: a person sees one line that says what to do, never a traceback; ``start``
returns when the doors are open or with the reason why they are not; a second signal ends at once.
Twisted is imported only where a service runs, after the reactor was chosen
(``resolver/daemon/run.py``).
"""

import http.client
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from indexer import child
from resolver.daemon import chain_commands, table_commands
from resolver.process import own_socket, pidfile
from resolver.process.own_socket import Busy, Unreachable
from resolver.process.places import ENV_PREFIX, SettingsError, config_path, env_name
from resolver.settings import text as settings_text
from resolver.settings.file import read_toml
from resolver.settings.settings import (
    Settings,
    default_text,
    flag_name,
    is_secret,
    is_switch,
    load,
    rows,
    takes_many,
)
from resolver.settings.types import as_text
from resolver.terminal import say
from resolver.words import CONTEXT, PID_NAME, VERSION, Command, status_lines

OK, FAILED, UNUSABLE, NOT_RUNNING = 0, 1, 2, 3
EXIT_CODES = (
    (OK, "done"),
    (FAILED, "it runs, but did not do what was asked in time; or something broke (see the log)"),
    (UNUSABLE, "bad command line or setting, or it cannot start; the reason is on stderr"),
    (NOT_RUNNING, "blockstored is not running"),
)
NODE_SETTINGS = ("node_url", "node_user", "node_password", "node_cookie_file")
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
MAX_REPLY = 2**20

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES)


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
                option = click.option(_switch(name), name, default=None, help=text)
            else:
                many = takes_many(name)
                option = click.option(
                    flag_name(name), name, multiple=many, metavar="VALUE", help=text
                )
            command = option(command)
        return command

    return decorate


def _switch(name: str) -> str:
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
        return load(read_toml(path, must_exist), os.environ, flags, cwd)
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
        return load(wanted, environ, flags, cwd).working_dir
    except SettingsError as error:
        fail(UNUSABLE, error.problems[0])


def fail(exit_code: int, sentence: str) -> NoReturn:
    """One line on stderr, and the end."""
    say(f"blockstored: {sentence}", err=True)
    sys.exit(exit_code)


@click.group(context_settings=CONTEXT, epilog=_EPILOG)
@click.version_option(VERSION, "--version", prog_name="blockstored")
def cli() -> None:
    """Follow the chain, keep the data, answer DNS.

    Settings come from flags, the environment, the settings file and defaults, in this order;
    `blockstored config` shows the effective ones.
    """


@cli.command(context_settings=CONTEXT, epilog=_EPILOG)
@click.option("--foreground", is_flag=True, help="Stay in the foreground and log to stderr too.")
@click.option("--quiet", is_flag=True, help="In the foreground, write warnings and errors only.")
@click.option("--ready-fd", type=int, hidden=True)
@setting_flags()
def start(foreground: bool, quiet: bool, ready_fd: int | None, **flags: Any) -> None:
    """Start the daemon; return when it answers.

    Without --foreground it goes on in the background, and this command ends with the reason if
    it could not start, such as a Bitcoin node that cannot be reached; --wait-for-node waits for
    it instead. A node that goes away later is waited for in any case; `blockstored status` tells.
    With --foreground a terminal is shown a bar while the index catches up, unless NO_COLOR is set
    or --quiet given.
    """
    settings = read_settings(flags)
    if foreground:
        from resolver.daemon.run import run_service

        pid_path = settings.working_dir / PID_NAME
        sys.exit(run_service(settings, pid_path, ready_fd=ready_fd, quiet=quiet))
    running = _owner(settings.working_dir / PID_NAME)
    if running is not None:
        folder = settings.working_dir
        fail(
            UNUSABLE,
            f"already running as pid {running}; stop it with"
            f" `blockstored stop --working-dir {folder}`",
        )
    _start_in_background(given(flags))


def _start_in_background(flags: Mapping[str, Any]) -> None:
    """Run ourselves again in a session of its own, and wait for what it reports."""
    if sys.platform == "win32":
        fail(UNUSABLE, "there is no background on Windows; use `blockstored start --foreground`")
    arguments: list[str] = []
    for name, value in flags.items():
        if isinstance(value, bool):
            arguments.append(_switch(name).split("/")[0 if value else 1])
            continue
        for one in value if isinstance(value, tuple) else (value,):
            arguments += [flag_name(name), str(one)]
    reading, writing = os.pipe()
    foreground = ["start", "--foreground", "--ready-fd", str(writing)]
    try:
        started = subprocess.Popen(  # noqa: S603 - our own program with the flags we were given
            child.command("resolver.blockstored", "main", *foreground, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
        )
    finally:
        os.close(writing)
    report = _read_report(reading, START_TIMEOUT)
    if report is None:
        fail(
            FAILED, f"pid {started.pid} still has not started; see `blockstored status` and the log"
        )
    word, _, text = report.partition(" ")
    if word == "ready":
        say(f"blockstored runs as pid {started.pid}. {text}")
        return
    started.wait()
    fail(UNUSABLE, text or f"it ended with exit code {started.returncode}; see the log")


def _read_report(reading: int, timeout: float) -> str | None:
    """What the child wrote before it closed the pipe, "" if nothing; None if time ran out."""
    deadline = time.monotonic() + timeout
    report = b""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while left := max(0.0, deadline - time.monotonic()):
            if not select.select([pipe], [], [], left)[0]:
                break
            piece = pipe.read(4096)
            if not piece or len(report) > 2**16:
                return report.decode("utf-8", "replace").strip()
            report += piece
    return None


@cli.command(context_settings=CONTEXT, epilog=_EPILOG)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600),
    default=STOP_TIMEOUT,
    show_default=True,
    help="Seconds to wait for its end.",
)
@setting_flags("network", "working_dir", "config")
def stop(timeout: float, **flags: Any) -> None:
    """Stop the daemon: doors first, then between two blocks, databases last."""
    path = working_dir(flags) / PID_NAME
    try:
        pid = pidfile.signal_owner(path)
    except PermissionError:
        fail(FAILED, f"the daemon in {path.parent} is another user's; stop it as that one")
    except OSError as error:
        fail(FAILED, f"{path} cannot be read ({error.strerror}); ask as the user it runs as")
    if pid is None:
        _not_running(path.parent)
    if not pidfile.wait_released(path, timeout):
        fail(
            FAILED,
            f"pid {pid} has not ended within {timeout:g} seconds; wait, or kill -9 it:"
            " no indexed block and no record is lost",
        )
    say(f"blockstored (pid {pid}) has stopped.")


def _not_running(folder: Path) -> NoReturn:
    others = own_socket.running_elsewhere(folder, os.environ)
    runs = f"; of yours there runs {', '.join(map(str, others))} (--working-dir)" if others else ""
    fail(NOT_RUNNING, f"not running in {folder}{runs}")


def _owner(path: Path) -> int | None:
    try:
        return pidfile.owner(path)
    except OSError as error:
        fail(FAILED, f"{path} cannot be read ({error.strerror}); ask as the user it runs as")


@cli.command(context_settings=CONTEXT, epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@setting_flags("network", "working_dir", "config")
def status(as_json: bool, **flags: Any) -> None:
    """Say whether the daemon runs and how far it is."""
    folder = working_dir(flags)
    pid = _owner(folder / PID_NAME)
    if pid is None:
        if as_json:
            say(json.dumps({"running": False}, indent=4))
        _not_running(folder)
    info = _ask_info(folder)
    if as_json:
        say(json.dumps({"running": True, "pid": pid, "info": info}, indent=4, sort_keys=True))
    if info is None:
        fail(FAILED, f"runs as pid {pid}, but its API does not answer (yet); see the log")
    if not as_json:
        for line in status_lines(pid, info):
            say(line)


def _ask_info(folder: Path) -> dict[str, Any] | None:
    """What the running daemon says of itself; None where it does not."""
    connection = own_socket.Connection(folder, os.environ, 5.0)
    try:
        connection.request("GET", "/v1/info")
        info = json.loads(connection.getresponse().read(MAX_REPLY))
    except (Unreachable, Busy, OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return info if isinstance(info, dict) and "index" in info else None


@cli.command(context_settings=CONTEXT, epilog=_EPILOG)
@click.option("--fresh", is_flag=True, help="Throw the old sandbox away and begin again.")
@setting_flags()
def sandbox(fresh: bool, **flags: Any) -> None:
    """Run a whole Blockstore in a box: a chain of its own with names in it, for trying out.

    Stays in the foreground until Ctrl-C; its state survives a restart unless --fresh is given.
    """
    named = given(flags)
    if named.get("network", "sandbox") != "sandbox":
        fail(UNUSABLE, "the sandbox has a network of its own; leave --network away")
    for name in os.environ.keys() & {env_name(n) for n in NODE_SETTINGS}:
        del os.environ[name]  # a sandbox brings its own node
    settings = read_settings({**named, "network": "sandbox"})
    from resolver.sandbox.box import run

    sys.exit(run(settings, fresh) or OK)


@cli.command(context_settings=CONTEXT, epilog=_EPILOG)
@click.option(
    "--format",
    "form",
    type=click.Choice(["toml", "json"]),
    default="toml",
    show_default=True,
    help="A settings file, or JSON with the source of each value.",
)
@setting_flags()
def config(form: str, **flags: Any) -> None:
    """Print the effective settings and where each came from; secrets are not shown."""
    settings = read_settings(flags)
    if form == "toml":
        say(settings_text.to_toml(settings), nl=False)
    else:
        say(json.dumps(settings_text.effective(settings), indent=4))


@cli.command(context_settings=CONTEXT)
def version() -> None:
    """Print the version."""
    say(f"blockstored {VERSION}")


for _room in (chain_commands, table_commands):
    for _command in _room.commands(setting_flags, read_settings, fail):
        cli.add_command(_command)


def main() -> None:
    """The program."""
    try:
        cli(prog_name="blockstored")
    except Exception as error:  # noqa: BLE001 - the last resort: a person reads one line
        fail(FAILED, f"{type(error).__name__}: {as_text(str(error))[:300]}; please report this")


if __name__ == "__main__":
    main()
