"""``blockstored sandbox`` as a newcomer meets it: started, dug, stopped, killed, begun afresh."""

import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from indexer.node.node import BitcoinNode
from tests.conftest import ROOT
from tests.resolver.daemon.daemon_process import environment

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

READY_WITHIN = 40.0  # the README says eight; machines differ
PATIENCE = 60.0  # what a test waits on a busy machine


FREE_PORTS = [f"--{door}-port=0" for door in ("dns", "api", "dht", "node")]


class Box:
    """One sandbox in a folder; its ports change from start to start, its state does not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = ""
        self.errors = ""
        self.seconds = 0.0

    def start(self, *flags: str) -> "Box":
        began = time.monotonic()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "resolver.blockstored", "sandbox"),
                *("--working-dir", str(self.folder), *FREE_PORTS, *flags),
            ],
            cwd=ROOT,
            env=environment({"PYTHONUNBUFFERED": "1"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        watch = threading.Timer(PATIENCE, self.process.kill)
        watch.start()
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "Ctrl-C stops it" in line:
                break
        watch.cancel()
        self.text = "".join(lines)
        self.seconds = time.monotonic() - began
        if "Ctrl-C" not in self.text:
            assert self.process.stderr is not None
            raise AssertionError(self.text + self.process.stderr.read())
        return self

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        _, self.errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    @property
    def lines(self) -> list[str]:
        """The ``dig`` lines it printed."""
        return re.findall(r"^  (dig .*?)\s*(?:#.*)?$", self.text, re.MULTILINE)

    def line(self, name: str) -> list[str]:
        """The printed line that asks for ``name``, as words."""
        return next(line for line in self.lines if f" {name} " in line).split()

    @property
    def height(self) -> int:
        found = re.search(r"at block (\d+)", self.text)
        assert found is not None
        return int(found[1])

    def dig(self, *words: str) -> str:
        """What the real dig prints."""
        command = [*words, "+tries=1", "+time=10"]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``blockstore-cli`` against this box."""
        port = re.search(r"HTTP API on 127.0.0.1 port (\d+)", self.text)
        assert port is not None
        return subprocess.run(
            [sys.executable, "-m", "resolver.blockstore_cli", "--port", port[1], *words],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    if shutil.which("dig") is None:
        pytest.skip("no dig here; install bind9-dnsutils")
    box = Box(tmp_path_factory.mktemp("box") / "state").start()
    yield box
    if box.process.poll() is None:
        box.end(signal.SIGKILL)


def test_a_sandbox_is_ready_in_time(box: Box) -> None:
    assert box.seconds < READY_WITHIN * 2  # the promise, twice over for a busy machine
    assert len(box.lines) >= 12


def test_the_first_name_answers_with_its_data(box: Box) -> None:
    words = box.line("swiftonsecurity.bs")
    expected = '"{\\"name\\":{\\"formatted\\": \\"Taylor Swift\\"}}"\n'
    assert box.dig(*words) == expected
    assert box.dig(*words, "+tcp") == expected


def test_every_command_that_is_shown_can_be_typed_as_it_stands_in_this_order(box: Box) -> None:
    shown = re.findall(r"^  (\S.*?)\s+# ", box.text, re.MULTILINE)
    printed = []
    for line in shown:
        words = shlex.split(line)
        ended = subprocess.run(
            words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE
        )
        assert ended.returncode == 0, (line, ended.stderr)
        printed.append(ended.stdout)
    lookup, registered, own = printed[-3:]
    assert "Taylor Swift" in lookup
    assert json.loads(registered)["state"] == "done"
    assert own.splitlines() == ["myname1.bs.", "192.0.2.80"]


def test_the_node_of_a_sandbox_estimates_fees_for_whoever_reads_its_cookie(box: Box) -> None:
    port = re.search(r"Bitcoin node on 127.0.0.1 port (\d+)", box.text)
    cookie = re.search(r"credentials in (.*)\.\n", box.text)
    assert port is not None
    assert cookie is not None
    node = BitcoinNode(f"http://127.0.0.1:{port[1]}", cookie_file=Path(cookie[1]))
    assert node.call("estimatesmartfee", 6)["feerate"] == Decimal("0.00002")


def test_a_second_sandbox_is_told_all_taken_ports_at_once(box: Box, tmp_path: Path) -> None:
    ports = dict(re.findall(r"(DNS|API|node) on 127.0.0.1 port (\d+)", box.text))
    told = json.loads((box.folder / "blockstored.json").read_text())
    flags = {
        "--dns-port": ports["DNS"],
        "--api-port": ports["API"],
        "--dht-port": str(told["dht"]["port"]),
        "--node-port": ports["node"],
    }
    ended = blockstored(
        *("sandbox", "--working-dir", str(tmp_path / "second")),
        *(f"{flag}={port}" for flag, port in flags.items()),
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    for flag, port in flags.items():
        assert re.search(rf"port {port} of [^,;]* \({flag}\)", ended.stderr), ended.stderr


def test_the_command_line_prints_exactly_the_data(box: Box) -> None:
    ended = box.cli("lookup", "swiftonsecurity")
    assert ended.returncode == 0
    assert ended.stdout == (
        '{\n    "data": "{\\"name\\":{\\"formatted\\": \\"Taylor Swift\\"}}"\n}\n'
    )
    assert box.cli("ping").returncode == 0
    info = json.loads(box.cli("getinfo").stdout)
    assert info["indexing"] is False


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("nobody-has-this", 4, "nobody-has-this.id is not registered at block"),
        ("expired", 5, "expired.id expired at block"),
        ("revoked", 6, "revoked.id was revoked by its owner"),
        ("empty", 7, "empty.id is registered and has no data yet"),
        ("nowhere", 8, "of nowhere.id within"),
        ("up+per", 12, "may hold only"),
    ],
)
def test_each_failed_lookup_has_its_own_message_next_step_and_exit_code(
    box: Box, name: str, code: int, message: str
) -> None:
    ended = box.cli("lookup", name)
    assert ended.returncode == code
    assert ended.stdout == ""
    first, *more = ended.stderr.splitlines()
    assert message in first
    assert more[0].startswith("Next: ")


@pytest.mark.parametrize(
    ("name", "status", "needle"),
    [
        ("webhost.bs", "NOERROR", "192.0.2.10"),
        ("sales.department.bs", "NOERROR", "IN\tA\t192.0.2.53"),
        ("empty.bs", "NOERROR", "SOA"),
        ("nowhere.bs", "SERVFAIL", "EDE: 22"),
        ("expired.bs", "NXDOMAIN", "expired at block"),
        ("revoked.bs", "NXDOMAIN", "revoked at block"),
        ("nobody-has-this.bs", "NXDOMAIN", "not registered at block"),
        ("gift.bs", "NOERROR", "handed over"),
    ],
)
def test_each_printed_line_shows_what_it_promises(
    box: Box, name: str, status: str, needle: str
) -> None:
    printed = box.dig(*box.line(name))
    assert f"status: {status}" in printed
    assert needle in re.sub(r"\s*\n", "\n", printed)


def test_a_long_answer_is_cut_over_udp_and_complete_over_tcp(box: Box) -> None:
    words = [*box.line("almanac.bs")]
    cut = box.dig(*words, "+ignore", "+notcp")
    assert re.search(r"flags: qr aa tc", cut)
    whole = box.dig(*words)
    assert len(re.findall(r"^almanac\.bs\..*TXT", whole, re.MULTILINE)) == 12


def test_an_alias_leads_to_another_name(box: Box) -> None:
    printed = box.dig(*box.line("www.alias.bs")).splitlines()
    assert printed == ["www.webhost.bs.", "webhost.bs.", "192.0.2.10"]


def test_the_blocks_of_a_new_sandbox_have_times_that_end_now(box: Box) -> None:
    webhost = box.line("webhost.bs")
    name = webhost[webhost.index("webhost.bs")]
    words = [word for word in webhost if word not in ("A", name)]
    told = box.dig(*words, f"_blockstore.{name}", "TXT", "+short")
    expires = re.search(r"expires_about=([0-9-]+)", told)
    assert expires is not None
    # The lifetime of a name and its grace period: 14 hours and a few minutes at this pace.
    now = datetime.now(UTC)
    days = {f"{now + timedelta(hours=hours):%Y-%m-%d}" for hours in (14, 15)}
    assert expires[1] in days


def test_every_printed_short_line_prints_something(box: Box) -> None:
    # A name that is to be registered first is asked for in the order that is shown, above.
    short = [line for line in box.lines if "+short" in line and "myname" not in line]
    assert len(short) >= 8
    for line in short:
        assert box.dig(*line.split()).strip(), line


def blockstored(*words: str) -> subprocess.CompletedProcess[str]:
    """``blockstored`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "resolver.blockstored", *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_the_folder_of_a_sandbox_knows_its_network_and_damage_names_what_mends_it(
    tmp_path: Path,
) -> None:
    box = Box(tmp_path / "state").start()
    assert box.end(signal.SIGTERM) == 0
    where = ("--working-dir", str(box.folder))
    again = f"`blockstored sandbox --working-dir {box.folder}"
    for table in (box.folder / "names").glob("*.ldb"):
        table.write_bytes(b"\0" * table.stat().st_size)
    for table in (box.folder / "names").glob("MANIFEST*"):
        table.write_bytes(b"\0" * 100)
    ended = blockstored("sandbox", *where, *FREE_PORTS)
    assert ended.returncode == 2
    assert f"`blockstored reindex --network sandbox --working-dir {box.folder}" in ended.stderr
    assert f"{again}`" in ended.stderr
    assert f"{again} --fresh`" in ended.stderr
    ended = blockstored("reindex", *where)
    assert ended.returncode == 0
    assert f"{again}` makes it from block 1 on" in ended.stdout
    box.start()
    assert "Founding" not in box.text
    assert "Taylor" in box.cli("lookup", "swiftonsecurity").stdout
    assert box.end(signal.SIGTERM) == 0


def test_a_terminal_is_shown_a_bar_while_the_chain_is_founded(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "resolver.blockstored", "sandbox"),
            *("--working-dir", str(tmp_path / "state"), *FREE_PORTS),
        ],
        cwd=ROOT,
        env=environment({"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    watch = threading.Timer(PATIENCE, child.kill)
    watch.start()
    written = b""
    try:
        while b"Ctrl-C stops it" not in written:
            written += os.read(master, 65536)
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) == 0
    finally:
        watch.cancel()
        child.kill()
        os.close(master)
    founding = written.decode().partition("Founding")[2].partition("The sandbox is ready")[0]
    assert re.search(r"\d+/10\d{3} .*\|.*blocks/s", founding), founding


def test_its_state_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    box = Box(tmp_path / "state").start()
    first = box.height
    assert box.end(signal.SIGTERM) == 0
    assert "WARNING" not in box.errors  # there is nothing that a newcomer could do about it
    box.start()
    assert box.height >= first
    assert "Founding" not in box.text
    assert "Taylor" in box.cli("lookup", "swiftonsecurity").stdout
    second = box.height
    box.end(signal.SIGKILL)
    box.start()
    assert box.height >= second
    assert "Founding" not in box.text
    assert "Taylor" in box.cli("lookup", "swiftonsecurity").stdout
    assert box.end(signal.SIGINT) == 0
    box.start("--fresh")
    assert "Founding" in box.text
    assert box.end(signal.SIGTERM) == 0
    log = (tmp_path / "state" / "blockstored.log").read_text()
    assert "Traceback" not in log


@pytest.mark.parametrize("flags", [[], ["--fresh"]])
def test_a_folder_with_other_databases_is_refused_and_kept(
    tmp_path: Path, flags: list[str]
) -> None:
    kept = tmp_path / "state" / "archive" / "kept"
    kept.parent.mkdir(parents=True)
    kept.write_text("data of another network")
    where = ("--working-dir", str(tmp_path / "state"))
    ended = blockstored("sandbox", *flags, *where, *FREE_PORTS)
    assert ended.returncode == 2
    assert "give the sandbox a folder of its own" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert kept.read_text() == "data of another network"


def test_a_sandbox_killed_while_it_was_founded_begins_afresh(tmp_path: Path) -> None:
    box = Box(tmp_path / "state")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "resolver.blockstored", "sandbox"),
            *("--working-dir", str(box.folder), *FREE_PORTS),
        ],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert "Founding" in process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    box.start()
    assert "Founding" in box.text
    assert "Taylor" in box.cli("lookup", "swiftonsecurity").stdout
    assert box.end(signal.SIGTERM) == 0
