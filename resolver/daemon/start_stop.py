"""``blockstored start``, ``stop`` and ``status``: the daemon as a process, from outside.

What must stay true: ``start`` returns when the doors are open or with the reason why they are not;
only what really is this daemon is stopped. Twisted is imported only where a service runs, after
the reactor was chosen (``resolver/daemon/run.py``).
"""

import http.client
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from indexer import child
from resolver.daemon.command_line import (
    EPILOG,
    FAILED,
    NOT_RUNNING,
    UNUSABLE,
    fail,
    given,
    read_settings,
    setting_flags,
    switch,
    tell,
    working_dir,
)
from resolver.process import own_socket, pidfile
from resolver.process.own_socket import Busy, Unreachable
from resolver.settings.text import flag_name
from resolver.terminal import say
from resolver.words import CONTEXT, PID_NAME, status_lines

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
MAX_REPLY = 2**20


@click.command(context_settings=CONTEXT, epilog=EPILOG)
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

        sys.exit(run_service(settings, ready_fd=ready_fd, quiet=quiet))
    path = settings.working_dir / PID_NAME
    running = _owner(path)
    if running is not None and not pidfile.wait_released(path, pidfile.LEAVING):
        fail(UNUSABLE, f"already running as pid {running}; stop it with `blockstored stop`")
    _start_in_background(given(flags), settings.log_file)


def _start_in_background(flags: Mapping[str, Any], log_file: Path) -> None:
    """Run ourselves again in a session of its own, and wait for what it reports."""
    if sys.platform == "win32":
        fail(UNUSABLE, "there is no background on Windows; use `blockstored start --foreground`")
    arguments: list[str] = []
    for name, value in flags.items():
        if isinstance(value, bool):
            arguments.append(switch(name).split("/")[0 if value else 1])
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
            FAILED,
            f"pid {started.pid} has not started yet; `blockstored status` and {log_file} tell more",
        )
    word, _, text = report.partition(" ")
    if word == "ready":
        say(f"blockstored runs as pid {started.pid}. {text}")
        return
    started.wait()
    fail(
        UNUSABLE,
        text or f"it ended with exit code {started.returncode}; its log {log_file} says why",
    )


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


@click.command(context_settings=CONTEXT, epilog=EPILOG)
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


@click.command(context_settings=CONTEXT, epilog=EPILOG)
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
    if info is not None and "index" not in info:
        fail(FAILED, f"runs as pid {pid}, but {info['error']}; {info['hint']}")
    if info is None:
        fail(FAILED, f"runs as pid {pid}, but its API does not answer (yet); its log says why")
    if not as_json:
        tell(*status_lines(pid, info))


def _ask_info(folder: Path) -> dict[str, Any] | None:
    """What the running daemon says of itself, or why it does not; None where it says nothing."""
    connection = own_socket.Connection(folder, os.environ, 5.0)
    try:
        connection.request("GET", "/v1/info")
        info = json.loads(connection.getresponse().read(MAX_REPLY))
    except (Unreachable, Busy, OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    known = isinstance(info, dict) and ("index" in info or {"error", "hint"} <= info.keys())
    return info if known else None
