"""blockstore-cli: what it prints, how it ends, and that it starts fast."""

import base64
import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from resolver import blockstore_cli as program
from resolver import blockstored as daemon
from resolver import refusals
from resolver.api.parameters import EXPIRING
from resolver.cli.asking import Daemon
from resolver.refusals import Refusal
from resolver.words import VERSION
from tests.conftest import ROOT
from tests.resolver.api.fakes import BYTES, HEIGHT, SWIFT
from tests.resolver.daemon.daemon_process import environment, run_module, serving_world
from zonefiles.text.zonefile import value_hash

LOOKUP = """{
    "data": "{\\"name\\":{\\"formatted\\": \\"Taylor Swift\\"}}"
}
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving_world() as bound:
        yield bound


def run(port: int, *arguments: str, stdin: bytes | None = None) -> Result:
    options = ["--port", str(port), "--timeout", "10"]
    return CliRunner().invoke(program.cli, [*options, *arguments], input=stdin)


def test_a_lookup_prints_exactly_the_data_as_json(port):
    result = run(port, "lookup", "swiftonsecurity")
    assert result.stdout == LOOKUP
    assert result.stderr == ""
    assert result.exit_code == 0


def test_data_that_is_no_text_is_printed_in_base64_or_raw(port):
    printed = json.loads(run(port, "lookup", "bytes.id").stdout)
    assert base64.b64decode(printed["data_base64"]) == BYTES
    assert run(port, "lookup", "--raw", "bytes.id").stdout_bytes == BYTES
    assert run(port, "lookup", "--raw", "swiftonsecurity").stdout_bytes == SWIFT


@pytest.mark.parametrize(
    ("name", "exit_code", "says"),
    [
        ("nobody", 4, "not registered"),
        ("expired", 5, "expired"),
        ("revoked", 6, "revoked"),
        ("empty", 7, "no data"),
        ("nowhere", 8, "none of the 3 sources"),
        ("lied", 9, "none with the hash"),
        ("UPPER", 4, "upper.id is not registered"),
        ("a/../b", 12, "more than one dot"),
        ("a%2fb", 12, "may hold only"),
        ("a.b.c", 12, "more than one dot"),
    ],
)
def test_each_failure_has_its_own_message_next_step_and_exit_code(port, name, exit_code, says):
    result = run(port, "lookup", name)
    assert result.exit_code == exit_code
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("blockstore-cli: ")
    assert says in first
    assert second.startswith("Next: ")


def test_no_two_failures_share_an_exit_code():
    codes = [code for code, _meaning in refusals.exit_code_rows()]
    assert codes == sorted(set(codes))


def test_getinfo_and_ping_print_json(port):
    assert json.loads(run(port, "getinfo").stdout)["last_block_processed"] == HEIGHT
    assert json.loads(run(port, "ping").stdout)["status"] == "alive"


def test_put_shows_the_hash_and_the_names_that_announce_it(port, tmp_path):
    file = tmp_path / "zone"
    file.write_bytes(b"nobody has this")
    printed = json.loads(run(port, "put", str(file)).stdout)
    assert printed["value_hash"] == value_hash(b"nobody has this").hex()
    assert printed["names"] == ["nowhere.id"]
    again = run(port, "put", "-", stdin=b"nobody has this")
    assert json.loads(again.stdout)["bytes"] == 15


def test_the_first_releases_words_work_still(port):
    stored = json.loads(run(port, "storedata", "nobody has this").stdout)
    assert stored["value_hash"] == value_hash(b"nobody has this").hex()
    assert run(port, "storedata", "x" * 40_961).exit_code == 13
    got = run(port, "getdata", stored["value_hash"])
    assert json.loads(got.stdout) == {"data": "nobody has this"}
    assert run(port, "getdata", "--raw", stored["value_hash"]).stdout == "nobody has this"
    assert json.loads(run(port, "info").stdout)["server_alive"]


def test_put_of_what_nobody_announces_or_is_too_large_is_refused(port, tmp_path):
    file = tmp_path / "zone"
    file.write_bytes(b"unheard of")
    result = run(port, "put", str(file))
    assert result.exit_code == 11
    assert value_hash(b"unheard of").hex() in result.stderr
    file.write_bytes(b"x" * 40_961)
    assert run(port, "put", str(file)).exit_code == 13
    assert run(port, "put", str(tmp_path / "missing")).exit_code == 2


def test_a_daemon_that_does_not_run_is_said_so():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can be there
        result = run(free.getsockname()[1], "lookup", "alice")
    assert result.exit_code == 3
    assert "blockstored start" in result.stderr


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A server that says ``reply`` to whoever connects, b"" for silence."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)
                    if not reply:
                        done.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join()


def http_reply(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH\r\n",
        http_reply("200 OK", b"<html>"),
        http_reply("200 OK", b"[1]"),
        http_reply("404 Not Found", b"[]"),
        http_reply("200 OK", b"x" * (2**22 + 1)),
        http_reply("404 Not Found", b"{}"),
        http_reply("404 Not Found", b'{"code": "no_such_code", "error": "x"}'),
    ],
)
def test_a_stranger_at_the_port_is_recognised(reply):
    with answering(reply) as port:
        result = run(port, "ping")
    assert result.exit_code == 1
    assert "not blockstored's API" in result.stderr


def test_a_daemon_that_is_silent_is_not_waited_for_forever():
    with answering(b"") as port:
        result = CliRunner().invoke(program.cli, ["--port", str(port), "--timeout", "0.2", "ping"])
    assert result.exit_code == 15
    assert "--timeout" in result.stderr


def test_an_old_index_is_said_so():
    body = json.dumps(
        {"code": "index_behind", "error": "the index is at block 5", "hint": "wait"}
    ).encode()
    with answering(http_reply("503 Service Unavailable", body)) as port:
        result = run(port, "lookup", "alice")
    assert result.exit_code == Refusal.INDEX_BEHIND.exit_code == 10
    assert result.stderr.splitlines()[1] == "Next: wait"


def test_what_strangers_send_cannot_steer_the_terminal():
    body = json.dumps({"code": "broken", "error": "\x1b[2Jhm", "hint": "a\nb"}).encode()
    with answering(http_reply("500 Oops", body)) as port:
        result = run(port, "ping")
    assert "\x1b" not in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_the_address_may_be_given_as_in_2015_or_by_environment(port):
    old = ["--blockstored-server", "127.0.0.1", "--blockstored-port", str(port)]
    assert CliRunner().invoke(program.cli, [*old, "ping"]).exit_code == 0
    env = {"BLOCKSTORE_API_PORT": str(port)}
    assert CliRunner().invoke(program.cli, ["ping"], env=env).exit_code == 0
    assert CliRunner().invoke(program.cli, ["--port", "0", "ping"]).exit_code == 2


def test_the_help_lists_every_exit_code():
    text = CliRunner().invoke(program.cli, ["-h"]).output
    for code, meaning in refusals.exit_code_rows():
        assert f"{code}  {meaning}" in text


def test_the_real_program_prints_the_same(port):
    ended = run_module(
        "resolver.blockstore_cli", "--port", str(port), "lookup", "swiftonsecurity.id"
    )
    assert (ended.returncode, ended.stdout.decode(), ended.stderr) == (0, LOOKUP, b"")
    ended = run_module("resolver.blockstore_cli", "--port", str(port), "lookup", "nobody")
    assert (ended.returncode, ended.stdout) == (4, b"")


def test_starting_it_imports_nothing_heavy():
    code = (
        "import sys, resolver.blockstore_cli;"
        "heavy = {'twisted', 'pydantic', 'dnslib', 'dns', 'plyvel', 'embit', 'asyncio'};"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        cwd=ROOT,
        env=environment(),
        check=True,
        timeout=30,
    )
    assert ended.stdout.decode().strip() == "[]"


@pytest.mark.parametrize("name", ["swiftonsecurity.bs", "SwiftOnSecurity.BS.", "swiftonsecurity."])
def test_a_name_is_looked_up_as_dns_has_it(port, name):
    assert run(port, "lookup", name).stdout == LOOKUP


def test_a_name_in_no_namespace_is_not_available(port):
    result = run(port, "availability", "alice.xyz")
    assert result.exit_code == Refusal.NOT_REGISTERED.exit_code
    assert "the namespace xyz does not exist" in result.stderr
    assert "vailable" not in result.output


def test_a_mistyped_argument_is_a_wrong_command_line(port):
    result = run(port, "owned", "nonsense")
    assert result.exit_code == refusals.USAGE
    assert "no base58 address" in result.stderr


def test_a_lookup_is_json_also_on_a_terminal_and_text_where_asked_for(port, monkeypatch):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    assert run(port, "lookup", "swiftonsecurity").stdout == LOOKUP
    assert run(port, "lookup", "swiftonsecurity", "--human").stdout == SWIFT.decode() + "\n"


def test_help_and_version_are_commands_and_options_of_both_programs():
    for main in (program.cli, daemon.cli):
        version = CliRunner().invoke(main, ["--version"])
        assert (version.exit_code, VERSION in version.output) == (0, True)
        assert CliRunner().invoke(main, ["help"]).output.startswith("Usage: ")
        of_one = CliRunner().invoke(main, ["help", "status"])
        assert of_one.exit_code == 0
        assert " status " in of_one.output.splitlines()[0]
        none = CliRunner().invoke(main, ["help", "nothing"])
        assert (none.exit_code, "no command 'nothing'" in none.output) == (2, True)


@pytest.mark.parametrize(("span", "days"), [("1h", "0.0416667"), ("12h", "0.5"), ("2w", "14")])
def test_names_that_expire_within_hours_are_asked_for_by_the_hour(monkeypatch, span, days):
    asked: list[str] = []

    def get(_: object, path: str, **__: object) -> list[str]:
        asked.append(path)
        return []

    monkeypatch.setattr(Daemon, "get", get)
    run(1, "names", "--expiring", span)
    assert asked == [f"/v1/names?expiring={days}"]
    assert EXPIRING.read(days) == pytest.approx(float(days))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_both_programs_print_what_completes_them(shell):
    for main, name in ((program.cli, "BLOCKSTORE_CLI"), (daemon.cli, "BLOCKSTORED")):
        shown = CliRunner().invoke(main, ["completion", shell])
        assert (shown.exit_code, f"_{name}_COMPLETE" in shown.stdout) == (0, True)


@pytest.mark.parametrize(
    ("words", "typed", "completed"),
    [
        (("lookup",), "al", ["alice.id", "almanac.id"]),
        (("register",), "b", ["bob.id"]),
        (("resume",), "0", ["0123456789"]),
        (("abandon",), "", ["0123456789", "carol.id"]),
        (("continue",), "c", ["carol.id"]),
        (("--timeout", "3", "whois"), "x", []),
    ],
)
def test_a_shell_completes_ones_own_names_and_what_was_begun(monkeypatch, words, typed, completed):
    mine = [{"name": f"{label}.id"} for label in ("alice", "almanac", "bob")]
    told = {
        "/v1/registrar/names": {"names": mine},
        "/v1/registrar/jobs": {"jobs": [{"id": "0123456789", "subject": "carol.id"}]},
    }
    monkeypatch.setattr(Daemon, "get", lambda _, path, **__: told[path])
    shell = ShellComplete(program.cli, {}, "blockstore-cli", "_BLOCKSTORE_CLI_COMPLETE")
    assert [one.value for one in shell.get_completions(list(words), typed)] == completed


def test_a_shell_that_completes_where_nobody_answers_is_told_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    shell = ShellComplete(program.cli, {}, "blockstore-cli", "_BLOCKSTORE_CLI_COMPLETE")
    assert shell.get_completions(["lookup"], "a") == []
    assert capsys.readouterr() == ("", "")
