"""Whatever is mistyped ends with exit code 2, in every command and option of both programs."""

from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from resolver import blockstore_cli, blockstored
from resolver.refusals import Refusal
from resolver.settings.table import PATHS
from tests.resolver.daemon.daemon_process import serving_world

BAD = "no\x1b nonsense!"
USAGE = 2
PROGRAMS: dict[str, click.Group] = {
    "blockstore-cli": blockstore_cli.cli,
    "blockstored": blockstored.cli,
}
GOOD: dict[type[click.ParamType[Any]], str] = {click.IntRange: "1", click.FloatRange: "1"}
FREE = {
    *("words", "records", "deletions", "data", "buckets", "host"),
    *("node_user", "node_wallet", "version_text", "hostname", "nsid", "auto_renew"),
    *PATHS,
}
"""Arguments that may be any text, or a path."""
LIKE_CONFIG = ("start", "sandbox")
"""They take the settings that `config` takes, and would go on with those that are right."""
NAMES = {"name", "value_hash", "job", "namespace"}
"""Names have an exit code of their own."""


def commands(
    group: click.Group, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


def typed(param: click.Parameter) -> bool:
    """Whether there is text that does not fit it."""
    flag = isinstance(param, click.Option) and (param.is_flag or param.count)
    return not flag and not isinstance(param.type, click.Path)


def line_with(command: click.Command, wrong: click.Parameter) -> list[str]:
    """Arguments of which one is mistyped, and the rest could be right."""
    line: list[str] = []
    for param in command.params:
        if param is not wrong and not param.required:
            continue
        text = BAD if param is wrong else GOOD.get(type(param.type), "alice")
        if param is not wrong and param.type.name == "hash":
            text = "0" * param.type.digits  # type: ignore[attr-defined]
        elif param is not wrong and isinstance(param.type, click.Choice):
            text = str(param.type.choices[0])
        line += [param.opts[0], text] if isinstance(param, click.Option) else [text]
    return line


def cases() -> Iterator[Any]:
    for program, group in PROGRAMS.items():
        for words, command in commands(group):
            for param in command.params:
                if typed(param) and param.name not in FREE and words[0] not in LIKE_CONFIG:
                    shown = f"{program} {' '.join(words)} {param.name}"
                    yield pytest.param(program, words, command, param, id=shown)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving_world() as bound:
        yield bound


@pytest.mark.parametrize(("program", "words", "command", "param"), [*cases()])
def test_a_mistyped_argument_is_a_wrong_command_line(
    program, words, command, param, port, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    where = ["--port", str(port)] if program == "blockstore-cli" else []
    line = [*where, *words, *line_with(command, param)]
    ended = CliRunner().invoke(PROGRAMS[program], line)
    expected = {USAGE, Refusal.BAD_NAME.exit_code} if param.name in NAMES else {USAGE}
    assert ended.exit_code in expected, ended.output
    assert "\x1b" not in ended.output


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_command_and_an_option_that_are_none_are_too(program) -> None:
    for line in (["nothing"], ["status", "--nothing"], ["--nothing"], ["status", "too", "much"]):
        assert CliRunner().invoke(PROGRAMS[program], line).exit_code == USAGE
