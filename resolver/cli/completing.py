"""What a shell completes arguments of ``blockstore-cli`` with: one's own names, and what was begun.

What must stay true: whoever presses the key waits for a second at most and never reads an error.
"""

import contextlib
import io
from typing import Any

import click

from resolver.cli.asking import Daemon
from resolver.cli.which_daemon import door_of

PATIENCE = 1.0  # seconds


def own_names(context: click.Context, _param: click.Parameter, typed: str) -> list[str]:
    """Those names of the daemon's signer that begin with what was ``typed``."""
    found = _told(context, "/v1/registrar/names").get("names", [])
    return [one["name"] for one in found if one["name"].startswith(typed)]


def begun(context: click.Context, _param: click.Parameter, typed: str) -> list[str]:
    """The ids of what is under way, and the names that it is of."""
    jobs = _told(context, "/v1/registrar/jobs").get("jobs", [])
    words = (word for job in jobs for word in (job["id"], job["subject"]))
    return [word for word in words if word.startswith(typed)]


def _told(context: click.Context, path: str) -> dict[str, Any]:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            found: dict[str, Any] = Daemon(door_of(context.find_root()), PATIENCE).get(
                path, secret=True
            )
    except (SystemExit, click.UsageError):
        return {}
    return found


with_name = click.argument("name", shell_complete=own_names)
"""The argument NAME of a command."""
