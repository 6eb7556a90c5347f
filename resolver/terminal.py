"""What is written on a terminal, the one place where text leaves for people, and typed there.

What must stay true: whatever came from outside (a node's error, a name, a setting) is written
without what a terminal would obey. Quick to import.
"""

import re
from typing import Any

import click
from click.shell_completion import get_completion_class

from resolver.words import printable


def say(*lines: str, err: bool = False, nl: bool = True) -> None:
    """Write lines, on stderr with ``err``; a line may hold line breaks and tabs of our own."""
    for line in lines or ("",):
        click.echo(printable(line, keeps="\n\t"), err=err, nl=nl)


class Hex(click.ParamType[str]):
    """A hash in so many hexadecimal digits; in lower case whatever was typed."""

    name = "hash"

    def __init__(self, digits: int) -> None:
        self.digits = digits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The digits; ends with a usage error where there are others, or another number."""
        if not re.fullmatch(f"[0-9a-fA-F]{{{self.digits}}}", value):
            self.fail(f"{printable(value, 80)!r} is not {self.digits} hex digits", param, ctx)
        return value.lower()


class HostPort(click.ParamType[tuple[str, int]]):
    """A host and a port, with a colon between them; an IPv6 address stands in brackets."""

    name = "place"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """(host, port); ends with a usage error where ``value`` is something else."""
        match = re.fullmatch(r"\[?(.+?)\]?:([0-9]{1,5})", value)
        if match is None or not 0 < int(match[2]) < 65_536:
            shown = printable(value, 80)
            self.fail(f"{shown!r} is no HOST:PORT, such as 127.0.0.1:6264", param, ctx)
        return match[1], int(match[2])


CONSENSUS_HASH, VALUE_HASH = Hex(32), Hex(40)
HEIGHT = click.IntRange(0, 2**32 - 2)


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_of(context: click.Context, words: tuple[str, ...]) -> None:
    """Print the help of a command, or the list of all."""
    at = context.find_root()
    for word in words:
        group = at.command
        found = group.get_command(at, word) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"there is no command {' '.join(words)!r}", at)
        at = click.Context(found, info_name=word, parent=at, **found.context_settings)
    say(at.get_help())


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete the commands of this program, and their options.

    For bash, put `source <(PROGRAM completion bash)` into ~/.bashrc.
    """
    found, root = get_completion_class(shell), context.find_root().command
    assert found is not None, "click knows the shells that are offered"
    name = str(root.name)
    say(found(root, {}, name, f"_{name.replace('-', '_')}_COMPLETE".upper()).source())
