"""``blockstore-cli``: asks a running blockstored over its HTTP API and prints JSON, or text.

What must stay true: no traceback reaches a person; a command that only asks imports nothing but
the standard library and click, so that it starts at once.
"""

import copy

import click

from resolver import refusals
from resolver.cli import doctor, jobs, keys, namespaces, payments, proof, wishes
from resolver.cli import names as cli_names
from resolver.cli.asking import Daemon, fail
from resolver.cli.which_daemon import HOST, PORT, door_of
from resolver.daemon.interpreter import keep_memory
from resolver.process.places import NETWORKS, env_name
from resolver.terminal import completion, help_of
from resolver.words import CONTEXT, VERSION

_EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:>2}  {meaning}" for code, meaning in refusals.exit_code_rows()
)


@click.group("blockstore-cli", context_settings=CONTEXT, epilog=_EPILOG)
@click.option(
    "--working-dir",
    type=click.Path(file_okay=False),
    envvar=env_name("working_dir"),
    show_envvar=True,
    help="The working folder of the blockstored that is meant; by itself the one of --network.",
)
@click.option(
    "--network",
    type=click.Choice(NETWORKS),
    envvar=env_name("network"),
    show_envvar=True,
    help="Its network; by itself mainnet, or the only one that runs where that was never used.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    envvar=env_name("config"),
    show_envvar=True,
    help="Its settings file, which may name its working folder.",
)
@click.option(
    "--host",
    "--blockstored-server",
    "host",
    envvar="BLOCKSTORE_API_HOST",
    show_envvar=True,
    help=f"Ask the blockstored at this address instead, without paying.  [{HOST} with --port]",
)
@click.option(
    "--port",
    "--blockstored-port",
    "port",
    type=click.IntRange(1, 65535),
    envvar="BLOCKSTORE_API_PORT",
    show_envvar=True,
    help=f"And at this port of its HTTP API.  [{PORT} with --host]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=15.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@click.option(
    "--human/--json", default=None, help="Text for people, or JSON; by itself text on a terminal."
)
@click.version_option(VERSION, "--version", prog_name="blockstore-cli")
@click.pass_context
def cli(context: click.Context, timeout: float, human: bool | None, **_where: object) -> None:
    """Look up names in Blockstore, own them, and hand in their data.

    Talks to this user's blockstored over the socket in its working folder, which is found as
    `blockstored` finds it; with --host or --port to any other, which can then be asked and not
    made to pay.
    """
    context.obj = Daemon(door_of(context), timeout, human)


for _room in (cli_names, proof, wishes, namespaces, jobs, payments, keys, doctor):
    for _command in _room.COMMANDS:
        cli.add_command(_command)
for _name, _command in cli_names.FORMER_NAMES.items():
    _former = copy.copy(_command)
    _former.hidden = True
    cli.add_command(_former, _name)
cli.add_command(completion)
cli.add_command(help_of)


def main() -> None:
    """The program."""
    keep_memory()
    try:
        cli(prog_name="blockstore-cli")
    except Exception as error:  # noqa: BLE001 - a bug of ours; still one line for the person
        fail(refusals.FAILED, f"{type(error).__name__}: {error}", "please report this")


if __name__ == "__main__":
    main()
