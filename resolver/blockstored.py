"""``blockstored``: which command is where; here the sandbox, ``config`` and ``version``.

What must stay true: a person sees one line that says what to do, never a traceback.
"""

import json
import os
import sys
from typing import Any

import click

from resolver.daemon.chain_commands import replay, verify
from resolver.daemon.command_line import (
    EPILOG,
    FAILED,
    OK,
    UNUSABLE,
    fail,
    given,
    read_settings,
    setting_flags,
)
from resolver.daemon.start_stop import start, status, stop
from resolver.daemon.table_commands import reindex, snapshot
from resolver.process.places import env_name
from resolver.settings import text as settings_text
from resolver.settings.types import as_text
from resolver.terminal import completion, help_of, say
from resolver.words import CONTEXT, VERSION

NODE_SETTINGS = ("node_url", "node_user", "node_password", "node_cookie_file", "blocks_dir")
"""Which node is asked: a sandbox brings its own."""


@click.group("blockstored", context_settings=CONTEXT, epilog=EPILOG)
@click.version_option(VERSION, "--version", prog_name="blockstored")
def cli() -> None:
    """Follow the chain, keep the data, answer DNS.

    Settings come from flags, the environment, the settings file and defaults, in this order;
    `blockstored config` shows the effective ones.
    """


@cli.command(context_settings=CONTEXT, epilog=EPILOG)
@click.option("--fresh", is_flag=True, help="Throw the old sandbox away and begin again.")
@click.option(
    "--node-port",
    type=click.IntRange(0, 65535),
    default=6266,
    show_default=True,
    help="Port of the sandbox's own Bitcoin node; 0 takes a free one.",
)
@setting_flags()
def sandbox(fresh: bool, node_port: int, **flags: Any) -> None:
    """Run a whole Blockstore in a box: a chain of its own with names in it, for trying out.

    Stays in the foreground until Ctrl-C; its state survives a restart unless --fresh is given.
    """
    named = given(flags)
    if named.get("network", "sandbox") != "sandbox":
        fail(UNUSABLE, "the sandbox has a network of its own; leave --network away")
    for name in sorted(os.environ.keys() & {env_name(n) for n in NODE_SETTINGS}):
        del os.environ[name]
        say(f"blockstored: {name} is left aside: a sandbox brings its own Bitcoin node", err=True)
    settings = read_settings({**named, "network": "sandbox"})
    foreign = [name for name in NODE_SETTINGS if settings.source_of(name) != "default"]
    if foreign:
        fail(
            UNUSABLE,
            f"a sandbox brings its own Bitcoin node: leave {' and '.join(foreign)} away"
            f" ({settings.source_of(foreign[0])}), or follow another node with"
            " `blockstored start --network regtest`",
        )
    from resolver.sandbox.sandbox import run

    sys.exit(run(settings, fresh, node_port) or OK)


@cli.command(context_settings=CONTEXT, epilog=EPILOG)
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


for _command in (start, stop, status, replay, verify, snapshot, reindex, completion, help_of):
    cli.add_command(_command)


def main() -> None:
    """The program."""
    try:
        cli(prog_name="blockstored")
    except Exception as error:  # noqa: BLE001 - the last resort: a person reads one line
        fail(FAILED, f"{type(error).__name__}: {as_text(str(error))[:300]}; please report this")


if __name__ == "__main__":
    main()
