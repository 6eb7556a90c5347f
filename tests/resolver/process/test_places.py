"""Commands in messages are those that work for the daemon that the message is about."""

import logging
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from indexer.table.level import TableDamaged
from resolver import blockstored
from resolver.daemon.logs import LineFormatter
from resolver.process.places import NETWORKS, Whereabouts, default_dir
from resolver.refusals import Refusal

HOME = Path("/home/ada")
ENVIRON = {"HOME": str(HOME)}
ALL = "`blockstored stop`, `blockstored reindex -h`, `blockstored start`, `blockstore-cli ping`"


@pytest.mark.parametrize(
    ("where", "environ", "said"),
    [
        (Whereabouts("mainnet", HOME / ".blockstore"), {}, ALL),
        (
            Whereabouts("testnet", HOME / ".blockstore" / "testnet"),
            {},
            "`blockstored stop --network testnet`, `blockstored reindex --network testnet -h`,"
            " `blockstored start --network testnet`, `blockstore-cli --network testnet ping`",
        ),
        (
            Whereabouts("mainnet", Path("/var/my names")),
            {},
            "`blockstored stop --working-dir '/var/my names'`,"
            " `blockstored reindex --working-dir '/var/my names' -h`,"
            " `blockstored start --working-dir '/var/my names'`,"
            " `blockstore-cli --working-dir '/var/my names' ping`",
        ),
        (
            Whereabouts("sandbox", HOME / ".blockstore" / "sandbox"),
            {},
            "`blockstored stop --network sandbox`, `blockstored reindex --network sandbox -h`,"
            " `blockstored sandbox`, `blockstore-cli --network sandbox ping`",
        ),
        (
            Whereabouts("mainnet", HOME / ".blockstore", Path("/etc/b.toml")),
            {"BLOCKSTORE_NETWORK": "regtest"},
            re.sub(
                "`(blockstored [a-z]+|blockstore-cli)",
                r"`\1 --network mainnet --working-dir /home/ada/.blockstore --config /etc/b.toml",
                ALL,
            ),
        ),
    ],
)
def test_each_command_of_a_message_names_the_daemon(where, environ, said):
    assert where.completed(ALL, ENVIRON | environ) == said
    assert where.completed(said, ENVIRON | environ) == said, "it is done once"


@given(st.sampled_from(NETWORKS), st.booleans(), st.text("ab '\"$;", min_size=1))
def test_what_a_command_names_is_read_back_as_it_was_meant(network, usual, name):
    folder = default_dir(network, HOME) if usual else HOME / name
    said = Whereabouts(network, folder).completed("`blockstored stop`", ENVIRON)
    words = shlex.split(said.strip("`"))[2:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    found_network = options.get("--network", "mainnet")
    found = options.get("--working-dir", str(default_dir(found_network, HOME)))
    assert (found_network, found) == (network, str(folder))


@pytest.mark.parametrize(
    "message",
    [
        str(TableDamaged(Path("x"), "why")),
        Refusal.INDEX_BEHIND.hint,
        Refusal.NO_SUCH_JOB.hint,
    ],
)
def test_messages_of_every_room_are_completed(message):
    said = Whereabouts("regtest", Path("/w")).completed(message, ENVIRON)
    commands = re.findall("`(blockstored? ?[^`]*|blockstore-cli[^`]*)`", said)
    assert commands
    assert all(" --network regtest --working-dir /w" in command for command in commands)


def test_a_damaged_index_is_mended_by_the_commands_that_the_daemon_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "w"
    (folder / "names").mkdir(parents=True)
    (folder / "names" / "CURRENT").write_text("MANIFEST-000009\n")
    command = ["verify", "--height", "373601", "--consensus", "0" * 32]
    ended = CliRunner().invoke(blockstored.cli, [*command, "--working-dir", str(folder)])
    assert f"`blockstored reindex --working-dir {folder}`" in ended.stderr


def test_a_line_of_the_log_names_the_daemon_too():
    formatter = LineFormatter(completed=lambda text: text.replace("stop", "stop --network x"))
    record = logging.LogRecord("a", logging.ERROR, "", 0, "run `blockstored stop`", (), None)
    assert formatter.format(record).endswith("run `blockstored stop --network x`")
