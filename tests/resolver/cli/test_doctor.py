"""What `blockstore-cli doctor` and `status` make of what a daemon says."""

import contextlib
import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from resolver import refusals
from resolver.blockstore_cli import cli
from resolver.cli.asking import Daemon
from resolver.cli.doctor import doctor
from resolver.cli.which_daemon import AtPort, OwnDaemon
from resolver.refusals import Refusal
from resolver.words import VERSION
from tests.resolver.doors.certificates import make_certificate


def info_of(*, caught_up: bool = True, **more: Any) -> dict[str, Any]:
    """What a daemon says of itself; ``more``: other members, by the group that they are in."""
    info: dict[str, Any] = {
        "server_version": VERSION, "network": "mainnet", "names": 9, "consensus_frozen_at": None,
        "first_block": 1, "consensus": None, "pid": 1, "forward": None,
        "index": {"state": "following", "height": 5, "target": 5, "stopped_at": None,
                  "caught_up": caught_up, "silent_seconds": 1.0, "block_time": time.time(),
                  "progress": None},
        "node": {"height": 5, "error": None, "downloading": False},
        "archive": {"records": 0, "bytes": 0, "max_bytes": 9}, "dht": {"peers": 3},
        "addresses": {"dns": [], "api": {"host": "h", "port": 1}},
    }  # fmt: skip
    for group, members in more.items():
        info[group] = {**(info[group] or {}), **members}
    return info


def checks_of(
    info: dict[str, Any], status: int = 200, door: object = None
) -> dict[str, dict[str, str]]:
    shown: list[dict[str, list[dict[str, str]]]] = []
    daemon = SimpleNamespace(
        try_asking=lambda *_: (status, info),
        get=lambda _: info,
        show=lambda values, lines: shown.append(values),
        place="here",
        door=door or OwnDaemon({}, {}, Path("/")),
    )
    ended = CliRunner().invoke(doctor, obj=daemon, catch_exceptions=False)
    is_bad = any(check["is"] == "bad" for check in shown[0]["checks"])
    assert ended.exit_code == (refusals.FAILED if is_bad else 0)
    return {check["of"]: check for check in shown[0]["checks"]}


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port at which nobody listens, and which nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[Callable[[float], int]]:
    """Opens a port that shows one caller a certificate which ends after so many days."""
    with contextlib.ExitStack() as closing:

        def open_port(days: float) -> int:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*make_certificate(tmp_path, days=days))
            server = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
            server.settimeout(20)

            def shake() -> None:
                with contextlib.suppress(OSError):
                    caller, _ = server.accept()
                    with context.wrap_socket(caller, server_side=True) as shaken:
                        shaken.recv(1)

            thread = threading.Thread(target=shake)
            thread.start()
            closing.callback(thread.join)
            return int(server.getsockname()[1])

        yield open_port


def test_a_healthy_daemon_is_good_throughout() -> None:
    assert {check["is"] for check in checks_of(info_of()).values()} == {"good"}


@pytest.mark.parametrize("caught_up", [True, False])
def test_a_node_that_could_be_read_faster_is_odd_until_it_has_been_read(caught_up) -> None:
    node = {"spent_outputs": "the blocks", "faster_with": "rest=1"}
    check = checks_of(info_of(caught_up=caught_up, node=node))["reading"]
    assert "the blocks" in check["saw"]
    assert check["is"] == ("good" if caught_up else "odd")
    assert "rest=1" in check["saw" if caught_up else "advice"]


def test_a_dead_upstream_is_found_by_asking_it_now() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        place = {"host": "127.0.0.1", "port": door.getsockname()[1]}
        info = info_of(addresses={"dns": [place]}, forward={"upstreams": 1, "healthy": 1})
        asked: list[bytes] = []

        def answer() -> None:
            for _ in range(2):
                packet, asker = door.recvfrom(512)
                asked.append(packet)
                if b"example" in packet:
                    info["forward"]["healthy"] = 0
                door.sendto(packet[:2] + b"\x81" + packet[3:], asker)

        answering = threading.Thread(target=answer)
        answering.start()
        check = checks_of(info)["forward"]
        answering.join()
    assert (check["is"], len(asked)) == ("bad", 2)


def test_a_node_that_is_read_by_the_fastest_way_is_good() -> None:
    node = {"spent_outputs": "REST", "faster_with": None}
    check = checks_of(info_of(caught_up=False, node=node))["reading"]
    assert (check["is"], check["advice"]) == ("good", "")


def test_a_daemon_that_has_not_asked_its_node_yet_says_nothing_of_it() -> None:
    assert "reading" not in checks_of(info_of(caught_up=False, node={"spent_outputs": None}))


@pytest.mark.parametrize(
    ("of", "is_", "saw", "more"),
    [
        ("node", "bad", "no route", {"node": {"error": "no route"}}),
        ("node", "odd", "initial download", {"node": {"downloading": True}}),
        ("index", "bad", "stopped at block 5", {"index": {"stopped_at": 1.8e9}}),
        ("chain", "odd", "no block for 5.0 hours", {"index": {"silent_seconds": 18_000.0}}),
        ("clock", "bad", "days in the future", {"index": {"block_time": time.time() + 55 * 3e7}}),
        ("clock", "bad", "3 hours in the future", {"index": {"block_time": time.time() + 11_000}}),
        ("forward", "bad", "0 of 2", {"forward": {"upstreams": 2, "healthy": 0}}),
        ("forward", "odd", "1 of 2", {"forward": {"upstreams": 2, "healthy": 1}}),
        ("forward", "good", "2 of 2", {"forward": {"upstreams": 2, "healthy": 2}}),
        ("archive", "odd", "100% full", {"archive": {"bytes": 9}}),
        ("peers", "odd", "none", {"dht": {"peers": 0}}),
    ],
)
def test_what_is_amiss_is_seen_and_what_to_do_is_said(of, is_, saw, more) -> None:
    check = checks_of(info_of(**more))[of]
    assert (check["is"], saw in check["saw"]) == (is_, True)
    assert bool(check["advice"]) == (is_ != "good")


def test_a_block_a_little_ahead_of_our_clock_is_nothing() -> None:
    assert "clock" not in checks_of(info_of(index={"block_time": time.time() + 6_000}))


@pytest.mark.parametrize(("free", "is_"), [(1 << 40, "good"), (1 << 30, "odd"), (1 << 20, "bad")])
def test_a_disk_that_is_nearly_full_is_seen(free, is_, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert checks_of(info_of())["disk"]["is"] == is_


def test_a_daemon_at_a_port_is_told_no_disk_and_takes_no_orders() -> None:
    checks = checks_of(info_of(), door=AtPort("192.0.2.1", 6264))
    assert "disk" not in checks
    assert (checks["orders"]["is"], "not registered from here" in checks["orders"]["saw"]) == (
        "odd",
        True,
    )


def test_a_damaged_table_is_a_check_that_says_how_it_is_mended() -> None:
    refused = {"error": "the index is damaged", "code": "index_behind", "hint": "run reindex"}
    check = checks_of(refused, status=503)["daemon"]
    assert (check["is"], check["saw"], check["advice"]) == (
        "bad",
        "the index is damaged",
        "run reindex",
    )


@pytest.mark.parametrize(("days", "is_"), [(90, "good"), (3, "odd"), (-1, "bad")])
def test_a_certificate_that_ends_is_seen_where_it_is_shown(tls_port, days, is_) -> None:
    doors = {"dot": [{"host": "127.0.0.1", "port": tls_port(days)}]}
    (check,) = [c for of, c in checks_of(info_of(addresses=doors)).items() if of[:3] == "dot"]
    assert (check["is"], "certificate" in check["saw"]) == (is_, True)


@pytest.mark.parametrize("kind", ["dot", "doh"])
def test_an_encrypted_door_that_is_shut_is_seen(kind, free_port) -> None:
    doors = {kind: [{"host": "127.0.0.1", "port": free_port}]}
    checks = checks_of(info_of(addresses=doors))
    assert checks[f"{kind} 127.0.0.1 port {free_port}"]["is"] == "bad"


@pytest.mark.parametrize(
    ("state", "exit_code"),
    [
        ("following", 0),
        ("catching up", 0),
        ("node unavailable", Refusal.INDEX_BEHIND.exit_code),
        ("stopped", Refusal.INDEX_BEHIND.exit_code),
        ("starting", Refusal.INDEX_BEHIND.exit_code),
    ],
)
def test_status_ends_as_the_index_stands(state, exit_code, monkeypatch) -> None:
    monkeypatch.setattr(Daemon, "get", lambda *_, **__: info_of(index={"state": state}))
    ended = CliRunner().invoke(cli, ["status", "--json"])
    assert (ended.exit_code, json.loads(ended.stdout)["state"]) == (exit_code, state)
