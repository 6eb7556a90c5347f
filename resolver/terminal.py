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
