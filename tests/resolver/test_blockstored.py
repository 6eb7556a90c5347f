"""blockstored: its commands, how it starts and ends, and what it says when it cannot."""

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from indexer.sandbox.node import SandboxNode
from indexer.table.level import plyvel
from resolver import blockstored as program
from resolver.daemon.command_line import EXIT_CODES
from resolver.process import pidfile
from resolver.process.pidfile import AlreadyRunning, PidFile
from resolver.settings.text import flag_name, is_secret, is_switch, rows
from tests.conftest import ROOT
from tests.resolver.daemon.daemon_process import DEADLINE, Blockstored, environment, holding

NOWHERE = "http://ada:hunter2@127.0.0.1:1"  # port 1 is nobody's
SCRIPT = b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"
FIRST_BLOCK = 256  # of regtest

Make = Callable[..., Blockstored]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes daemons, and ends what is left of them."""
    made: list[Blockstored] = []

    def make(node_url: str = NOWHERE, *flags: str, network: str = "regtest") -> Blockstored:
        made.append(Blockstored(tmp_path / str(len(made)), node_url, *flags, network=network))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def node() -> Iterator[SandboxNode]:
    node = SandboxNode()
    node.start()
    yield node
    node.stop()


def one_line(ended: subprocess.CompletedProcess[bytes]) -> str:
    """What it said on stderr, which must be one line."""
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("blockstored: ")
    return line


# Commands that need no daemon.


def invoke(tmp_path: Path, *arguments: str, **env: str):
    env = {"HOME": str(tmp_path)} | env
    return CliRunner().invoke(program.cli, arguments, env=env)


def test_every_setting_but_the_secret_has_a_flag(tmp_path):
    for command in ("start", "sandbox", "config"):
        text = invoke(tmp_path, command, "-h").output
        for name, _row in rows():
            shown = f"  {flag_name(name)}{' / ' if is_switch(name) else ' VALUE'}"
            assert (shown in text) is not is_secret(name)


@pytest.mark.parametrize("command", ["start", "stop", "status", "sandbox", "config"])
def test_every_help_lists_the_exit_codes(tmp_path, command):
    text = invoke(tmp_path, command, "--help").output
    for code, meaning in EXIT_CODES:
        assert f"{code}  {meaning}" in text


def test_config_prints_a_settings_file_with_the_source_of_each_value(tmp_path):
    folder = tmp_path / ".blockstore"
    folder.mkdir()
    (folder / "blockstore.toml").write_text('api_port = 7000\nnode_user = "ada"\n')
    result = invoke(
        tmp_path,
        *("config", "--listen", "127.0.0.1", "--listen", "::1"),
        BLOCKSTORE_DNS_PORT="53",
        BLOCKSTORE_NODE_PASSWORD="hunter2",
    )
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    assert "api_port = 7000  # settings file" in result.output
    assert "dns_port = 53  # environment BLOCKSTORE_DNS_PORT" in result.output
    assert tomllib.loads(result.output)["listen"] == ["127.0.0.1", "::1"]


def test_config_speaks_json_too(tmp_path):
    printed = json.loads(invoke(tmp_path, "config", "--format", "json", "--dns-port", "5").output)
    assert printed["dns_port"] == {"value": 5, "source": "flag --dns-port"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dns_port = 70000", "dns_port: 70000 (from settings file {file}) cannot be used"),
        ("dns_prot = 1", "(in settings file {file}); did you mean dns_port?"),
        ("min_ttl = 9\nmax_ttl = 8", "min_ttl: 9 (from settings file {file})"),
        ("dns_port = ", "{file} is not TOML"),
        ("\ufeff\u0000", "is not TOML"),
    ],
)
def test_a_bad_settings_file_is_answered_in_one_line(tmp_path, text, says):
    file = tmp_path / "b.toml"
    file.write_text(text)
    result = invoke(tmp_path, "config", "--config", str(file))
    assert result.exit_code == 2
    assert says.replace("{file}", str(file)) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_settings_file_that_was_named_must_exist(tmp_path):
    result = invoke(tmp_path, "config", "--config", "/no/such.toml")
    assert result.exit_code == 2
    assert "/no/such.toml" in result.stderr


def test_where_nothing_runs_status_and_stop_end_with_3(tmp_path):
    for arguments in (("status",), ("stop",)):
        result = invoke(tmp_path, *arguments)
        assert result.exit_code == 3
        assert "not running" in result.stderr
    result = invoke(tmp_path, "status", "--json")
    assert (json.loads(result.stdout), result.exit_code) == ({"running": False}, 3)


def test_the_sandbox_refuses_another_network(tmp_path):
    result = invoke(tmp_path, "sandbox", "--network", "mainnet")
    assert result.exit_code == 2
    assert "--network" in result.stderr


@pytest.mark.parametrize(
    ("flags", "file", "told"),
    [
        (("--node-url", "http://127.0.0.1:1"), "", "node_url away (flag --node-url)"),
        (("--blocks-dir", "/tmp"), "", "blocks_dir away (flag --blocks-dir)"),
        ((), 'node_url = "http://127.0.0.1:1"', "node_url away (settings file)"),
    ],
)
def test_the_sandbox_refuses_a_node_that_is_not_its_own(tmp_path, flags, file, told):
    (tmp_path / "blockstore.toml").write_text(file)
    result = invoke(tmp_path, "sandbox", "--working-dir", str(tmp_path), *flags)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "a sandbox brings its own Bitcoin node" in line
    assert told in line


# The pid file.


def test_a_pid_file_has_one_owner_at_a_time(tmp_path):
    path = tmp_path / "pid"
    mine = PidFile(path)
    with holding(path) as pid:
        assert pidfile.owner(path) == pid
        assert path.read_text() == f"{pid}\n"
        with pytest.raises(AlreadyRunning, match=str(pid)):
            mine.acquire()
        assert pidfile.owner(path) == pid
    assert pidfile.owner(path) is None
    mine.acquire()
    mine.release()
    mine.release()
    assert not path.exists()


def test_those_who_ask_who_runs_keep_nobody_from_starting(tmp_path):
    path = tmp_path / "pid"
    code = (
        "import sys; from pathlib import Path; from resolver.process import pidfile\n"
        "print(flush=True)\n"
        "while True: pidfile.owner(Path(sys.argv[1]))"
    )
    words = [sys.executable, "-c", code, str(path)]
    asking = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(), cwd=ROOT)
    mine = PidFile(path)
    try:
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"\n"
        for _ in range(500):
            mine.acquire()
            mine.release()
            path.write_text("1\n")  # as a daemon leaves it that was killed
    finally:
        asking.kill()
        asking.communicate()


@pytest.mark.parametrize("left", ["1\n", "", "no number", "\xff"])
def test_what_a_killed_daemon_left_behind_is_no_obstacle(tmp_path, left):
    path = tmp_path / "pid"
    path.write_bytes(left.encode("latin-1"))
    assert pidfile.owner(path) is None
    mine = PidFile(path)
    mine.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    mine.release()


# Whole daemons.

live = pytest.mark.live


@live
def test_a_daemon_starts_follows_and_stops(make, node):
    node.generate(FIRST_BLOCK + 4, SCRIPT)
    one = make(node.url)
    started = one.start()
    assert started.returncode == 0, started.stderr
    assert b"runs as pid" in started.stdout
    info = one.wait(lambda info: info["index"]["caught_up"])
    assert info["last_block_processed"] == node.height
    assert len(info["consensus"]) == 32

    node.generate(3, SCRIPT)
    one.wait(lambda info: info["last_block_processed"] == node.height)
    status = one.status()
    assert status["running"] is True
    assert status["info"]["index"]["state"] == "following"

    again = one.start()
    assert again.returncode == 2
    assert f"already running as pid {status['pid']}" in one_line(again)

    stopped = one.stop()
    assert (stopped.returncode, stopped.stderr) == (0, b"")
    assert one.stop().returncode == 3
    log = one.log.read_text()
    assert "Stopped." in log
    assert "Traceback" not in log
    assert not (one.folder / "w" / "blockstored.json").exists()


@live
def test_a_kill_loses_no_block_and_the_next_start_needs_no_help(make, node):
    node.generate(FIRST_BLOCK + 20, SCRIPT)
    one = make(node.url)
    one.start()
    before = one.wait(lambda info: info["index"]["caught_up"])
    one.kill()
    assert one.pid_file.exists()
    node.stop()
    assert one.start().returncode == 0
    after = one.info()
    assert after["last_block_processed"] == before["last_block_processed"]
    assert after["consensus"] == before["consensus"]


@live
def test_a_node_that_comes_and_goes_needs_no_restart(make, tmp_path):
    first = SandboxNode(tmp_path / "node", user="ada", password="hunter2")
    first.start()
    first.generate(FIRST_BLOCK, SCRIPT)
    one = make(first.url)
    one.start()
    one.wait(lambda info: info["index"]["caught_up"])
    port = first.port
    first.stop()
    gone = one.wait(lambda info: info["index"]["state"] == "node unavailable")
    assert "cannot reach the node" in gone["node"]["error"]
    second = SandboxNode(tmp_path / "node", port=port, user="ada", password="hunter2")
    second.start()
    try:
        second.generate(2, SCRIPT)
        one.wait(lambda info: info["last_block_processed"] == second.height)
    finally:
        second.stop()


@live
def test_an_unreachable_node_ends_the_start_unless_it_is_to_be_waited_for(make):
    one = make()
    refused = one.start("--no-wait-for-node")
    assert refused.returncode == 2
    assert "cannot reach the node at 127.0.0.1:1" in one_line(refused)
    assert "--wait-for-node" in one_line(refused)
    assert one.start().returncode == 0
    status = one.command("status", *one.where)
    assert status.returncode == 0
    assert b"cannot reach the node at 127.0.0.1:1" in status.stdout
    shown = status.stdout + one.log.read_bytes()
    assert b"hunter2" not in shown


@live
def test_wrong_credentials_and_a_wrong_chain_are_said_so(make, node):
    stranger = node.url.replace("__cookie__", "stranger", 1)
    one = make(stranger)
    one.start()
    refused = one.wait(lambda info: info["node"]["error"] is not None)
    assert "cookie" in refused["node"]["error"] or "password" in refused["node"]["error"]

    other = make(node.url, network="testnet")
    other.start()
    wrong = other.wait(lambda info: info["node"]["error"] is not None)
    assert "'regtest'" in wrong["node"]["error"]
    assert "testnet" in wrong["node"]["error"]


@live
@pytest.mark.parametrize("flag", ["--dns-port", "--api-port", "--dht-port"])
def test_a_port_in_use_ends_the_start_with_one_line(make, flag):
    kind = socket.SOCK_DGRAM if flag == "--dht-port" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        one = make()
        ended = one.start(flag, str(port))
    assert ended.returncode == 2
    line = one_line(ended)
    assert str(port) in line
    assert flag in line or flag == "--dht-port"
    assert "Traceback" not in one.log.read_text()
    assert one.start().returncode == 0


@live
def test_a_database_of_another_network_or_a_newer_release_is_refused(make):
    one = make()
    assert one.start().returncode == 0
    one.stop()
    other = one.command("start", *one.flags, "--network=testnet", *one.where[:2])
    assert other.returncode == 2
    assert "belongs to the network 'regtest'" in one_line(other)

    database = plyvel.DB(str(one.folder / "w" / "names"))
    database.put(b"!schema", b'{"schema": 999, "network": "regtest"}')
    database.close()
    newer = one.start()
    assert newer.returncode == 2
    assert "newer" in one_line(newer)


@live
@pytest.mark.parametrize(
    ("place", "says"),
    [
        (("--working-dir", "file"), "file is not a folder; choose another with --working-dir"),
        (("--working-dir", "file/w"), "file/w cannot be made, for what it would be in is a file"),
        (("--log-file", "file/log"), "file is not a folder; choose another with --log-file"),
        (
            ("--log-file", "folder"),
            "folder is a folder and no file; choose another with --log-file",
        ),
    ],
)
def test_a_place_that_cannot_be_is_refused(make, tmp_path, place, says):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    one = make()
    flag, name = place
    ended = one.start(flag, str(tmp_path / name))
    assert ended.returncode == 2
    assert says in one_line(ended)


class Foreground:
    """``blockstored start --foreground`` as a child of the test."""

    def __init__(self, one: Blockstored) -> None:
        command = ["start", "--foreground", *one.where, *one.flags]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "resolver.blockstored", *command],
            cwd=ROOT,
            env=one.env,
            stderr=subprocess.PIPE,
        )
        self.said: list[str] = []

    def until(self, text: str) -> None:
        """Read its stderr up to a line with ``text``."""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.said.append(line.decode())
            if text in self.said[-1]:
                return
        raise AssertionError(f"it never said {text!r}: {self.said}")

    def end(self) -> int:
        assert self.child.stderr is not None
        self.said += [line.decode() for line in self.child.stderr.readlines()]
        self.child.stderr.close()
        return self.child.wait(DEADLINE)


@live
def test_in_the_foreground_it_logs_to_the_terminal_and_ends_on_ctrl_c(make):
    one = make()
    shown = Foreground(one)
    shown.until("Ready.")
    shown.child.send_signal(signal.SIGINT)
    assert shown.end() == 0
    assert "Stopped." in shown.said[-1]
    assert "Traceback" not in "".join(shown.said)
    assert "Ready." in one.log.read_text()


@live
def test_in_the_foreground_too_it_fails_with_one_line(make):
    one = make()
    one.start()
    second = Foreground(one)
    assert second.end() == 2
    (line,) = second.said
    assert "already running" in line


@live
def test_a_hangup_opens_the_log_anew(make):
    one = make()
    shown = Foreground(one)
    shown.until("Ready.")
    one.log.rename(one.log.with_suffix(".1"))
    shown.child.send_signal(signal.SIGHUP)
    shown.until("opened anew")
    assert "opened anew" in one.log.read_text()
    shown.child.send_signal(signal.SIGTERM)
    assert shown.end() == 0


@live
def test_a_second_signal_ends_it_at_once(make):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a node that never answers
        one = make(f"http://a:b@127.0.0.1:{silent.getsockname()[1]}")
        shown = Foreground(one)
        shown.until("Ready.")
        asking, _ = silent.accept()
        with asking:
            asking.settimeout(DEADLINE)
            assert asking.recv(1)  # the question is under way, and stays so
            shown.child.send_signal(signal.SIGTERM)
            shown.until("Stopping.")
            shown.child.send_signal(signal.SIGTERM)
            assert shown.end() == 143
    assert one.start().returncode == 0


@live
def test_ports_of_the_systems_choice_are_told_and_answer(make):
    one = make(NOWHERE, "--listen", "127.0.0.1", "--listen", "127.0.0.2")
    one.start()
    doors = one.ports()["dns"]
    assert [door["host"] for door in doors] == ["127.0.0.1", "127.0.0.2"]
    query = bytes.fromhex("abcd01000001000000000000") + b"\x05alice\x02bs\x00" + b"\x00\x10\x00\x01"
    for door in doors:
        where = (door["host"], door["port"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(10)
            udp.sendto(query, where)
            over_udp = udp.recv(4096)
        with socket.create_connection(where, timeout=10) as tcp:
            tcp.sendall(len(query).to_bytes(2, "big") + query)
            over_tcp = tcp.recv(4096)[2:]
        for reply in (over_udp, over_tcp):
            assert reply[:2] == b"\xab\xcd"
            assert reply[3] & 15 == 2  # SERVFAIL: nothing is known of the chain


@live
def test_the_command_line_finds_the_daemon_and_hears_that_it_is_behind(make):
    one = make()
    one.start()
    ended = subprocess.run(
        [sys.executable, "-m", "resolver.blockstore_cli", "lookup", "alice"],
        cwd=ROOT,
        env=environment({"BLOCKSTORE_API_PORT": str(one.ports()["api"]["port"])}),
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode == 10
    assert b"has not reached the node yet" in ended.stderr
