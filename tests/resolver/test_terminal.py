"""What comes from outside is shown without what a terminal would obey."""

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from resolver import blockstored as daemon
from resolver.daemon import start_stop
from resolver.terminal import say
from resolver.words import printable, status_lines
from tests.resolver.daemon.daemon_process import environment

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2028\r"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@given(st.text())
def test_nothing_that_is_said_holds_a_control(text):
    with CliRunner().isolation() as (out, err, *_):
        say(text)
        say(text, err=True)
        for written in (out.getvalue().decode(), err.getvalue().decode()):
            assert not OBEYED.search(written)
            assert written.count("\n") == text.count("\n") + 1


@given(st.text(), st.integers(4, 50))
def test_a_part_of_a_line_is_one_and_has_its_bound(text, at_most):
    shown = printable(text, at_most)
    assert len(shown) <= at_most
    assert shown.isprintable()


def test_a_nodes_error_cannot_steer_the_terminal(monkeypatch, tmp_path):
    info = {
        "server_version": "1", "network": EVIL, "first_block": 1, "names": 0, "consensus": EVIL,
        "index": {"state": EVIL, "height": 5, "target": 5, "progress": None},
        "node": {"height": 5, "error": f"no {EVIL} luck"},
        "dht": {"peers": 0}, "archive": {"records": 0, "bytes": 0},
        "addresses": {"dns": [], "api": {"host": EVIL, "port": 1}},
    }  # fmt: skip
    assert any("\x1b" in line for line in status_lines(1, info))
    monkeypatch.setattr(start_stop, "_owner", lambda _: 1)
    monkeypatch.setattr(start_stop, "_ask_info", lambda _: info)
    shown = CliRunner().invoke(daemon.cli, ["status", "--working-dir", str(tmp_path)])
    assert shown.exit_code == 0
    assert "luck" in shown.output
    assert not OBEYED.search(shown.output)


@pytest.mark.parametrize("name", ["forward", "zones", "node_url", "listen", EVIL])
def test_what_a_settings_file_holds_cannot_either(tmp_path, name):
    (tmp_path / "blockstore.toml").write_text(f"{json.dumps(name)} = [{json.dumps(EVIL)}]\n")
    shown = CliRunner().invoke(
        daemon.cli, ["config", "--working-dir", str(tmp_path)], env=dict.fromkeys(environment())
    )
    assert shown.exit_code == 2
    assert shown.output.startswith("blockstored: ")
    assert not OBEYED.search(shown.output)


def test_a_folder_with_an_odd_name_cannot_either(tmp_path: Path):
    if sys.platform == "win32":
        pytest.skip("no such names there")
    shown = CliRunner().invoke(daemon.cli, ["stop", "--working-dir", str(tmp_path / "\x1b[2Jw")])
    assert shown.exit_code == 3
    assert not OBEYED.search(shown.output)


def test_a_daemon_that_can_read_nothing_says_so_in_its_status(monkeypatch, tmp_path):
    reply = {"error": "the index is damaged", "code": "index_behind", "hint": "run this next"}
    monkeypatch.setattr(start_stop, "_owner", lambda _: 7)
    monkeypatch.setattr(start_stop, "_ask_info", lambda _: reply)
    shown = CliRunner().invoke(daemon.cli, ["status", "--working-dir", str(tmp_path)])
    assert shown.exit_code == 1
    said = " ".join(shown.output.split())
    assert said == "blockstored: runs as pid 7, but the index is damaged; run this next"
