"""Processes of ours run our modules, and not what lies where a command was given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.child import command, module_folders
from indexer.following.lane_process import LaneProcess
from tests.conftest import ROOT
from tests.resolver.daemon.daemon_process import environment

TRAP = "import pathlib; pathlib.Path(__file__).with_suffix('.sprung').touch()\n"


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder full of modules that tell when they are run; the current one."""
    for name in ("http", "json", "pickle", "select", "sitecustomize", "usercustomize", "indexer"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sprung(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*.sprung")]


def test_what_lies_in_the_current_folder_is_not_run(trapped, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", str(trapped), *sys.path])
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, str(trapped))
    ended = subprocess.run(
        command("tests.indexer.test_child", "hello", "word"),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (7, b"['word']\n"), ended.stderr
    assert sprung(trapped) == []


def hello() -> int:
    print(sys.argv[1:])
    return 7


def test_a_lane_runs_nothing_of_the_current_folder(trapped, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(trapped))
    lane = LaneProcess({"url": "http://127.0.0.1:1", "timeout": 1.0}, b"\0\0\0\0")
    try:
        assert lane.read([]) == []
    finally:
        lane.close()
    assert sprung(trapped) == []


def test_a_daemon_in_the_background_runs_nothing_of_the_current_folder(trapped):
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "resolver.blockstored", "start", "--working-dir", "w",
         "--node-url", "http://127.0.0.1:1", "--dns-port=0", "--api-port=0", "--dht-port=0"],
        env=environment({"HOME": str(trapped)}),
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "the node's cookie file" in ended.stderr
    assert sprung(trapped) == []


def test_our_own_modules_come_last():
    folders = module_folders()
    assert folders[-1] == str(ROOT)
    assert "" not in folders
    assert os.getcwd() not in folders[:-1]
