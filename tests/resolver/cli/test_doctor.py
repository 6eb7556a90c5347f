"""What `blockstore-cli doctor` makes of what a daemon says."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from resolver.cli.doctor import doctor
from resolver.words import VERSION


def info_of(*, caught_up: bool, **node: object) -> dict[str, object]:
    return {
        "server_version": VERSION, "network": "mainnet", "names": 9, "consensus_frozen_at": None,
        "index": {"state": "x", "height": 5, "stopped_at": None, "caught_up": caught_up,
                  "silent_seconds": 1.0},
        "node": {"height": 5, "error": None, "downloading": False, **node},
        "archive": {"records": 0, "bytes": 0, "max_bytes": 9}, "dht": {"peers": 3},
        "addresses": {"dns": []},
    }  # fmt: skip


def checks_of(info: dict[str, object]) -> dict[str, dict[str, str]]:
    shown: list[dict[str, list[dict[str, str]]]] = []
    daemon = SimpleNamespace(
        get=lambda path: info,
        show=lambda values, lines: shown.append(values),
        place="here",
        door=SimpleNamespace(found="a folder"),
    )
    CliRunner().invoke(doctor, obj=daemon, standalone_mode=False, catch_exceptions=False)
    return {check["of"]: check for check in shown[0]["checks"]}


@pytest.mark.parametrize("caught_up", [True, False])
def test_a_node_that_could_be_read_faster_is_odd_until_it_has_been_read(caught_up) -> None:
    info = info_of(caught_up=caught_up, spent_outputs="the blocks", faster_with="rest=1")
    check = checks_of(info)["reading"]
    assert "the blocks" in check["saw"]
    assert check["is"] == ("good" if caught_up else "odd")
    assert "rest=1" in check["saw" if caught_up else "advice"]


def test_a_node_that_is_read_by_the_fastest_way_is_good() -> None:
    check = checks_of(info_of(caught_up=False, spent_outputs="REST", faster_with=None))["reading"]
    assert (check["is"], check["advice"]) == ("good", "")


def test_a_daemon_that_has_not_asked_its_node_yet_says_nothing_of_it() -> None:
    assert "reading" not in checks_of(info_of(caught_up=False, spent_outputs=None))
