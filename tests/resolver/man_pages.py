"""The manual pages of both programs, written from their own help.

``python -m tests.resolver.man_pages`` writes them anew; a test holds them to what the programs say.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from resolver import blockstore_cli, refusals
from resolver import blockstored as daemon
from resolver.daemon.command_line import EXIT_CODES
from resolver.words import VERSION
from tests.conftest import ROOT

FOLDER = ROOT / "resolver" / "man"
PROGRAMS: dict[str, tuple[click.Group, str, list[tuple[int, str]], list[tuple[str, str]]]] = {
    "blockstored": (
        daemon.cli,
        "follows the chain, keeps the name table and answers DNS",
        list(EXIT_CODES),
        [
            ("~/.blockstore/blockstore.toml", "The settings file."),
            ("~/.blockstore/blockstored.log", "The log."),
            ("~/.blockstore/blockstored.sock", "Where its user's commands ask it."),
            ("~/.blockstore/names", "The name table."),
            ("~/.blockstore/archive", "The data of names."),
            ("~/.blockstore/registrar", "What was begun by those who register names."),
        ],
    ),
    "blockstore-cli": (
        blockstore_cli.cli,
        "looks names up in Blockstore, and owns them",
        refusals.exit_code_rows(),
        [("~/.blockstore/blockstored.sock", "Where its user's daemon is asked.")],
    ),
}
"""Each program: its commands, what it does, what it exits with, and its files."""


def page(name: str) -> str:
    """The manual page of a program, in roff (man(7))."""
    group, does, exits, files = PROGRAMS[name]
    return "\n".join(_lines(name, group, does, exits, files)) + "\n"


def _lines(
    name: str,
    group: click.Group,
    does: str,
    exits: list[tuple[int, str]],
    files: list[tuple[str, str]],
) -> Iterator[str]:
    context = click.Context(group, info_name=name, **group.context_settings)
    yield f'.TH {name.upper()} 1 "" "Blockstore {VERSION}" "User Commands"'
    yield ".SH NAME"
    yield f"{_plain(name)} \\- {_plain(does)}"
    yield ".SH SYNOPSIS"
    yield f".B {_plain(name)}"
    yield _plain(" ".join(group.collect_usage_pieces(context)))
    yield ".SH DESCRIPTION"
    yield from _help(group)
    yield ".SH OPTIONS"
    yield from _options(group)
    yield ".SH COMMANDS"
    for title in group.list_commands(context):
        command = group.get_command(context, title)
        if command is not None and not command.hidden:
            yield from _command(command, title, context)
    yield ".SH EXIT STATUS"
    for code, meaning in exits:
        yield from (".TP", f".B {code}", _plain(meaning))
    yield ".SH FILES"
    for file, what in files:
        yield from (".TP", f".I {_plain(file)}", _plain(what))
    yield ".SH SEE ALSO"
    yield ", ".join(f"\\fB{_plain(other)}\\fR(1)" for other in PROGRAMS if other != name)


def _command(command: click.Command, title: str, above: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=title, parent=above, **command.context_settings)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                yield from _command(found, f"{title} {inner}", above)
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f'.SS "{_plain(f"{title} {usage}")}"'
    yield from _help(command)
    yield from _options(command)


def _help(command: click.Command) -> Iterator[str]:
    text = inspect.cleandoc(command.help or "").partition("\f")[0]
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *map(_plain, paragraph.splitlines()[1:]), ".fi")
        else:
            yield _plain(" ".join(paragraph.split()))


def _options(command: click.Command) -> Iterator[str]:
    for option in command.params:
        shown = isinstance(option, click.Option) and not option.hidden
        if not shown or (option.name == "human" and not isinstance(command, click.Group)):
            continue  # every command has that one; it is told of once
        flags = ", ".join(option.opts)
        if option.secondary_opts:
            flags += " / " + ", ".join(option.secondary_opts)
        yield from (".TP", f".B {_plain(flags)}{_value(option)}", _plain(_meaning(option)))


def _value(option: click.Option) -> str:
    """What stands behind the flag."""
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return f" {_plain(option.metavar)}"
    if isinstance(option.type, click.Choice):
        return f" {_plain('|'.join(map(str, option.type.choices)))}"
    return f" {option.type.name.split()[0].upper()}"


def _meaning(option: click.Option) -> str:
    more = []
    if option.show_envvar and option.envvar:
        more.append(f"environment: {option.envvar}")
    if option.show_default and option.default is not None:
        more.append(f"default: {option.default}")
    text = " ".join((option.help or "").split())
    return f"{text} ({'; '.join(more)})" if more else text


def _plain(text: str) -> str:
    """``text`` with nothing in it that roff would obey."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name in PROGRAMS:
        Path(FOLDER / f"{name}.1").write_text(page(name), "utf-8")


if __name__ == "__main__":
    main()
