"""Whoever starts a second sandbox is told of every taken port, and which flag changes it."""

from pathlib import Path

import pytest

from resolver.doors.listening import tcp_socket, udp_socket
from resolver.sandbox.ports import LOOPBACK, taken_ports
from resolver.settings.settings import Settings, load


def settings_with(tmp_path: Path, **flags: object) -> Settings:
    ports = {"dns_port": 0, "api_port": 0, "dht_port": 0}
    return load({}, {}, ports | {"working_dir": tmp_path, "network": "sandbox"} | flags)


def test_ports_of_the_systems_choice_are_never_taken(tmp_path: Path) -> None:
    assert taken_ports(settings_with(tmp_path), 0) == []


@pytest.mark.parametrize(
    ("setting", "open_one", "flag"),
    [
        ("dns_port", udp_socket, "--dns-port"),
        ("dns_port", tcp_socket, "--dns-port"),
        ("api_port", tcp_socket, "--api-port"),
        ("dht_port", udp_socket, "--dht-port"),
        (None, tcp_socket, "--node-port"),
    ],
)
def test_a_port_that_is_taken_is_told_with_its_flag(
    tmp_path: Path, setting, open_one, flag: str
) -> None:
    with open_one(LOOPBACK, 0) as taken:
        port = taken.getsockname()[1]
        flags = {setting: port} if setting else {}
        (told,) = taken_ports(settings_with(tmp_path, **flags), 0 if setting else port)
    assert told.startswith(f"{port} of ")
    assert told.endswith(f"({flag})")


def test_a_port_that_is_free_again_is_not_told(tmp_path: Path) -> None:
    with tcp_socket(LOOPBACK, 0) as once:
        port = once.getsockname()[1]
    assert taken_ports(settings_with(tmp_path, api_port=port), 0) == []
