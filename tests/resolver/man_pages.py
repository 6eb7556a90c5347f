"""The manual pages of both programs and of the settings file, written from what they say.

``python -m tests.resolver.man_pages`` writes them anew; a test holds them to what the programs say.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from resolver import blockstore_cli, refusals
from resolver import blockstored as daemon
from resolver.daemon.command_line import EXIT_CODES
from resolver.process.places import env_name
from resolver.settings.text import default_text, rows
from resolver.words import VERSION
from tests.conftest import ROOT

FOLDER = ROOT / "resolver" / "man"


class Program(NamedTuple):
    """A program: its commands, its section, what it does, exits with, uses, and how it is used."""

    commands: click.Group
    section: int
    does: str
    exits: list[tuple[int, str]]
    files: list[tuple[str, str]]
    examples: list[tuple[str, str]]


PROGRAMS = {
    "blockstored": Program(
        daemon.cli,
        8,
        "follows the chain, keeps the name table and answers DNS",
        list(EXIT_CODES),
        [
            ("~/.blockstore/blockstore.toml", "The settings file, blockstore.toml(5)."),
            ("~/.blockstore/blockstored.log", "The log."),
            ("~/.blockstore/blockstored.sock", "Where its user's commands ask it."),
            ("~/.blockstore/names", "The name table."),
            ("~/.blockstore/archive", "The data of names."),
            ("~/.blockstore/registrar", "What was begun by those who register names."),
        ],
        [
            ("blockstored sandbox", "Try everything on this machine, without a Bitcoin node."),
            ("blockstored start --node-url http://127.0.0.1:8332", "Follow a node of your own."),
            ("dig @127.0.0.1 -p 6253 alice.bs TXT", "Ask it for the data of the name alice.id."),
            ("blockstored config > blockstore.toml", "Begin a settings file."),
            ("blockstored snapshot export FILE", "Hand the index on to somebody else."),
        ],
    ),
    "blockstore-cli": Program(
        blockstore_cli.cli,
        1,
        "looks names up in Blockstore, and owns them",
        refusals.exit_code_rows(),
        [("~/.blockstore/blockstored.sock", "Where its user's daemon is asked.")],
        [
            ("blockstore-cli lookup alice", "Print the data of the name alice.id."),
            ("blockstore-cli register alice zone.txt --dry-run", "See what owning it costs."),
            ("blockstore-cli register alice zone.txt --wait", "Own it, and wait until it is done."),
            ("blockstore-cli update alice --record 'www A 192.0.2.1'", "Change one record."),
            ("blockstore-cli names --mine --expiring 60d", "See which of your names lapse soon."),
            (
                "blockstore-cli --host ns.example.net verify alice --trust 127.0.0.1:6264",
                "Ask a stranger, and believe only what follows from a daemon of your own.",
            ),
        ],
    ),
}
SETTINGS_FILE = "blockstore.toml"
PAGES = {**{name: one.section for name, one in PROGRAMS.items()}, SETTINGS_FILE: 5}
"""Every page, and its section."""


def page(name: str) -> str:
    """The manual page of a program or of the settings file, in roff (man(7))."""
    lines = _settings() if name == SETTINGS_FILE else _program(name, PROGRAMS[name])
    return "\n".join(lines) + "\n"


def file_of(name: str) -> Path:
    """Where that page is."""
    return FOLDER / f"{name}.{PAGES[name]}"


def _head(name: str, does: str) -> Iterator[str]:
    volume = {1: "User Commands", 5: "File Formats", 8: "System Administration"}[PAGES[name]]
    yield f'.TH {name.upper()} {PAGES[name]} "" "Blockstore {VERSION}" "{volume}"'
    yield ".SH NAME"
    yield f"{_plain(name)} \\- {_plain(does)}"


def _foot(name: str, examples: list[tuple[str, str]]) -> Iterator[str]:
    yield ".SH EXAMPLES"
    for command, what in examples:
        yield from (".TP", f".B {_plain(command)}", _plain(what))
    yield ".SH SEE ALSO"
    others = (other for other in PAGES if other != name)
    yield ", ".join(f"\\fB{_plain(other)}\\fR({PAGES[other]})" for other in others)


def _program(name: str, program: Program) -> Iterator[str]:
    group = program.commands
    context = click.Context(group, info_name=name, **group.context_settings)
    yield from _head(name, program.does)
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
    for code, meaning in program.exits:
        yield from (".TP", f".B {code}", _plain(meaning))
    yield ".SH FILES"
    for file, what in program.files:
        yield from (".TP", f".I {_plain(file)}", _plain(what))
    yield from _foot(name, program.examples)


def _settings() -> Iterator[str]:
    yield from _head(SETTINGS_FILE, "settings of blockstored")
    yield ".SH DESCRIPTION"
    yield _plain(
        "A TOML file in the working folder, or where --config says. A flag of blockstored goes"
        " before the environment, the environment before this file, and all before the default."
        " A setting that does not exist, or whose value cannot be used, keeps blockstored from"
        " starting; all such are named at once."
    )
    yield ".SH SETTINGS"
    for name, row in rows():
        how = f"environment: {env_name(name)}; default: {default_text(name)}"
        yield from (".TP", f".B {_plain(name)}", _plain(f"{row.description} ({how})"))
    yield from _foot(
        SETTINGS_FILE,
        [
            ('listen = ["127.0.0.1", "192.0.2.53"]', "Answer DNS on two addresses."),
            ('forward = ["tls://9.9.9.9#dns.quad9.net"]', "Ask somebody for all other names."),
            ('archive_max_bytes = "4GiB"', "Keep more data."),
        ],
    )


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
    for name in PAGES:
        file_of(name).write_text(page(name), "utf-8")


if __name__ == "__main__":
    main()
