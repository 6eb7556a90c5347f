"""What is written on a terminal: the one place where text leaves for people.

What must stay true: whatever came from outside (a node's error, a name, a setting) is written
without what a terminal would obey. Quick to import.
"""

import click


def say(*lines: str, err: bool = False, nl: bool = True) -> None:
    """Write lines, on stderr with ``err``; a line may hold line breaks and tabs of our own."""
    for line in lines or ("",):
        click.echo("".join(map(_shown, line)), err=err, nl=nl)


def _shown(sign: str) -> str:
    return sign if sign.isprintable() or sign in "\n\t" else "?"


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
