"""``blockstore-cli``: asks a running blockstored over its HTTP API and prints JSON, or text.

What must stay true: no traceback reaches a person; a command that only asks imports nothing but
the standard library and click, so that it starts at once.
"""

import copy
from pathlib import Path

import click

from resolver import cli_doctor, cli_keys, cli_names, cli_proof, cli_wishes, refusals
from resolver.cli_daemon import Daemon, PrintingGroup, fail
from resolver.command_line import CONTEXT

_EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:>2}  {meaning}" for code, meaning in refusals.exit_code_rows()
)


@click.group(cls=PrintingGroup, context_settings=CONTEXT, epilog=_EPILOG)
@click.option(
    "--host",
    "--blockstored-server",
    "host",
    default="127.0.0.1",
    show_default=True,
    envvar="BLOCKSTORE_API_HOST",
    show_envvar=True,
    help="Where blockstored runs.",
)
@click.option(
    "--port",
    "--blockstored-port",
    "port",
    type=click.IntRange(1, 65535),
    default=6264,
    show_default=True,
    envvar="BLOCKSTORE_API_PORT",
    show_envvar=True,
    help="The port of its HTTP API.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=15.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="BLOCKSTORE_API_TOKEN_FILE",
    show_envvar=True,
    help="The file with the token for commands that pay; by default the daemon's usual one.",
)
@click.option(
    "--human/--json", default=None, help="Text for people, or JSON; by itself text on a terminal."
)
@click.pass_context
def cli(
    context: click.Context,
    host: str,
    port: int,
    timeout: float,
    token_file: Path | None,
    human: bool | None,
) -> None:
    """Look up names in Blockstore, own them, and hand in their data.

    Talks to a blockstored that is running, on this machine unless told otherwise.
    """
    context.obj = Daemon(host, port, timeout, token_file, human)


_ROOMS = (cli_names, cli_proof, cli_wishes, cli_keys, cli_doctor)
for _command, _name in (entry for room in _ROOMS for entry in room.COMMANDS):
    cli.add_command(_command, _name)
for _command, _name in cli_names.FORMER_NAMES:
    _former = copy.copy(_command)
    _former.hidden = True
    cli.add_command(_former, _name)


def main() -> None:
    """The program."""
    try:
        cli(prog_name="blockstore-cli")
    except Exception as error:  # noqa: BLE001 - a bug of ours; still one line for the person
        fail(refusals.FAILED, f"{type(error).__name__}: {error}", "please report this")


if __name__ == "__main__":
    main()
