"""The bar on a terminal: what it says in how much room, where it is drawn, and what it leaves."""

import asyncio
import errno
import fcntl
import io
import logging
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.following.follower import FollowerStatus
from indexer.following.progress import Progress
from indexer.sandbox.node import SandboxNode
from resolver.daemon import progress_bar
from resolver.daemon.progress_bar import MIN_BAR, ProgressBar, is_drawable, sides
from resolver.words import status_lines
from tests.conftest import ROOT
from tests.resolver.daemon.daemon_process import DEADLINE, Blockstored

PROGRESS = Progress(412_345, 850_000, 71_234, 1_463_700_000, 45.12, 31.97, 9701.0)
CATCHING_UP = FollowerStatus(state="catching up", height=400_000, progress=PROGRESS)
SCRIPT = b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"
COLUMNS, ROWS = 110, 24


class FakeTerminal(io.StringIO):
    """A terminal that shows the last thing that stands on each of its lines."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        return screen(self.getvalue())


def screen(written: str) -> list[str]:
    """What stands on the lines of an endless terminal after ``written``, without its right edge."""
    lines = [""]
    column = 0
    assert not re.search("[\x00-\x07\x0b\x0c\x0e-\x1f]", written), "no other controls are used"
    for sign in written:
        if sign == "\n":
            lines.append("")
            column = 0
        elif sign == "\r":
            column = 0
        else:
            lines[-1] = lines[-1][:column].ljust(column) + sign + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


# What it says


def test_a_wide_terminal_shows_everything() -> None:
    assert sides(PROGRESS, 110) == (
        "412345/850000 2016-05-19",
        "45.1 blocks/s, 32.0 MB/s, 71234 names, 2 h 42 min left",
    )


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (86, []),
        (80, []),
        (79, ["names"]),
        (67, ["names", "MB/s"]),
        (57, ["names", "MB/s", "2016"]),
        (46, ["names", "MB/s", "2016", "blocks/s"]),
    ],
)
def test_what_is_needed_least_gives_way_first(width: int, gone: list[str]) -> None:
    said = " ".join(sides(PROGRESS, width))
    for what in ("412345/850000", "2016", "blocks/s", "MB/s", "names", "left"):
        assert (what in said) is not (what in gone)


progresses = st.builds(
    Progress,
    height=st.integers(0, 2**31),
    target=st.integers(0, 2**31),
    names=st.integers(0, 10**9),
    block_time=st.integers(0, 2**32 - 1),
    blocks_per_second=st.floats(0, 1e6),
    megabytes_per_second=st.floats(0, 1e6),
    seconds_left=st.none() | st.floats(0, 1e10),
)


@given(progresses, st.integers(40, 300))
def test_no_figure_makes_the_line_longer_than_the_terminal(progress: Progress, width: int) -> None:
    left, right = sides(progress, width)
    assert len(left) + len(right) + 4 + MIN_BAR <= width
    assert left.startswith(f"{progress.height}/{progress.target}")


# Where it is drawn


@pytest.mark.parametrize(
    ("environ", "drawn"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "linux", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": ""}, False),
        ({}, False),
    ],
)
def test_a_bar_is_drawn_where_it_would_be_seen_as_one(environ, drawn: bool) -> None:
    assert is_drawable(FakeTerminal(), environ) is drawn
    assert not is_drawable(io.StringIO(), environ)


def test_the_bar_grows_and_leaves_an_empty_line() -> None:
    terminal = FakeTerminal()
    bar = ProgressBar(terminal)
    filled = []
    for height in (400_000, 550_000, 700_000, 849_999):
        progress = Progress(height, 850_000, 9, 0, 45.0, 32.0, 60.0)
        bar.show(FollowerStatus(state="catching up", progress=progress), 373_601)
        assert terminal.lines[-1].startswith(f"{height}/850000 1970-01-01 |")
        assert len(terminal.lines[-1]) <= 80
        filled.append(terminal.lines[-1].count("█"))
    assert filled == sorted(filled)
    assert filled[0] < filled[-1]
    bar.show(FollowerStatus(state="following", height=850_000), 373_601)
    assert terminal.lines == [""]
    assert "%" not in terminal.getvalue(), "only our own figures are ever drawn"


@pytest.mark.parametrize("state", ["following", "stopped", "node unavailable", "starting"])
def test_only_catching_up_shows_a_bar(state: str) -> None:
    terminal = FakeTerminal()
    bar = ProgressBar(terminal)
    bar.show(FollowerStatus(state=state, progress=PROGRESS), 373_601)
    assert terminal.getvalue() == ""


def test_a_few_new_blocks_are_no_reason_for_a_bar() -> None:
    terminal = FakeTerminal()
    bar = ProgressBar(terminal)
    few = Progress(849_998, 850_000, 9, 0, 45.0, 32.0, 0.1)
    bar.show(FollowerStatus(state="catching up", progress=few), 373_601)
    assert terminal.getvalue() == ""


def test_log_lines_stand_whole_above_the_bar() -> None:
    terminal = FakeTerminal()
    bar = ProgressBar(terminal)
    log = logging.Logger("above")
    log.addHandler(bar.log_handler)
    log.info("before")
    bar.show(CATCHING_UP, 373_601)
    log.info("while it is drawn")
    log.info("catching up: %s", PROGRESS, extra={"progress": PROGRESS})
    assert terminal.lines[:-1] == ["before", "while it is drawn"]
    assert terminal.lines[-1].startswith("412345/850000 ")
    bar.clear()
    log.info("after")
    assert terminal.lines == ["before", "while it is drawn", "after", ""]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EPIPE, errno.EAGAIN])
@pytest.mark.parametrize("good", [0, 3])
def test_a_terminal_that_goes_away_disturbs_nobody(monkeypatch, code: int, good: int) -> None:
    """Neither who draws nor who logs, whatever is under way when it goes."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(progress_bar, "REFRESH_SECONDS", 0.001)

    class Gone(FakeTerminal):
        left = good

        def write(self, text: str) -> int:
            if self.left <= 0:
                raise OSError(code, os.strerror(code))
            self.left -= 1
            return super().write(text)

    asked = 0

    def status() -> FollowerStatus:
        nonlocal asked
        asked += 1
        return CATCHING_UP

    async def draw() -> None:
        bar = ProgressBar(Gone())
        log = logging.Logger("gone")
        log.addHandler(bar.log_handler)
        drawing = asyncio.ensure_future(bar.follow(status, 373_601))
        while asked < 5 and not drawing.done():
            log.info("a line")
            await asyncio.sleep(0.001)
        drawing.cancel()
        await asyncio.wait({drawing}, timeout=DEADLINE)
        assert drawing.cancelled() or drawing.exception() is None

    asyncio.run(draw())


def test_nothing_is_drawn_by_a_thread_that_comes_after_the_end() -> None:
    class Slow(FakeTerminal):
        """The first that is written here is written while the drawing is given up."""

        def write(self, text: str) -> int:
            begun.set()
            assert go_on.wait(DEADLINE)
            return super().write(text)

    begun, go_on = threading.Event(), threading.Event()
    terminal = Slow()
    bar = ProgressBar(terminal)

    async def draw() -> None:
        drawing = asyncio.ensure_future(bar.follow(lambda: CATCHING_UP, 373_601))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        drawing.cancel()
        threading.Timer(0.05, go_on.set).start()
        await asyncio.wait({drawing}, timeout=DEADLINE)

    asyncio.run(draw())
    assert terminal.lines[-1] == ""
    bar.show(CATCHING_UP, 373_601)
    assert terminal.lines[-1] == ""


# The same, asked from elsewhere


@pytest.mark.parametrize(
    ("progress", "told"),
    [
        (asdict(PROGRESS), [f"         {PROGRESS}"]),
        (None, []),
        ({"speed": "of another release"}, []),
    ],
)
def test_the_status_of_a_daemon_tells_how_far_it_is(progress, told: list[str]) -> None:
    info = {
        "server_version": "1",
        "network": "mainnet",
        "first_block": 373_601,
        "names": 9,
        "consensus": None,
        "index": {
            "state": "catching up",
            "height": 400_000,
            "target": 850_000,
            "progress": progress,
        },
        "node": {"error": None, "height": 850_000},
        "dht": {"peers": 0},
        "archive": {"records": 0, "bytes": 0},
        "addresses": {"dns": [], "api": {"host": "127.0.0.1", "port": 1}},
    }
    lines = status_lines(77, info)
    assert lines[1].startswith("Index:   catching up, block 400000 of 850000; 9 names")
    assert lines[2:-4] == told
    info["node"] |= {"spent_outputs": "the blocks", "faster_with": "rest=1"}
    assert [line.strip() for line in status_lines(77, info)[-5:-3]] == [
        "What blocks spend is read from the blocks.",
        "That goes faster with rest=1.",
    ]


# The real thing


class Pty:
    """``blockstored start --foreground`` on a terminal of its own."""

    def __init__(self, one: Blockstored, *flags: str, **environ: str) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        command = ["start", "--foreground", *one.where, *one.flags, *flags]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "resolver.blockstored", *command],
            cwd=ROOT,
            env=one.env | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | environ,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self._bytes = b""

    @property
    def written(self) -> str:
        """All that was written to the terminal so far."""
        return self._bytes.decode("utf-8", "replace").replace("\r\n", "\n")

    def until(self, text: str) -> None:
        """Read on until ``text`` was written."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.written:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self.master], [], [], left)[0], f"no {text!r} in {self.written}"
            self._bytes += os.read(self.master, 65536)

    def end(self) -> int:
        """Ask it to end, and read what it still says."""
        self.child.send_signal(signal.SIGTERM)
        while True:
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # nobody holds the other end any more
                break
            self._bytes += piece
        return self.child.wait(DEADLINE)

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)


@pytest.fixture(scope="module")
def long_chain() -> Iterator[SandboxNode]:
    with SandboxNode() as node:
        node.generate(6000, SCRIPT)
        yield node


@pytest.fixture
def one(long_chain: SandboxNode, tmp_path: Path) -> Blockstored:
    return Blockstored(tmp_path, long_chain.url, network="sandbox")


@pytest.mark.live
def test_on_a_terminal_the_bar_runs_to_the_end_and_the_log_stands_whole(
    one: Blockstored, long_chain: SandboxNode
) -> None:
    shown = Pty(one)
    try:
        shown.until("has caught up")
        assert shown.end() == 0
    finally:
        shown.close()
    drawn = re.findall(r"(\d+)/6000 \d{4}-\d\d-\d\d \|[^|]*\| [\d.]+ blocks/s", shown.written)
    assert len(drawn) >= 2, shown.written
    assert list(map(int, drawn)) == sorted(map(int, drawn))
    lines = screen(shown.written)
    logged = one.log.read_text().splitlines()
    assert lines == [*(line for line in logged if "catching up: " not in line), ""]
    assert "Stopped." in lines[-2]


@pytest.mark.live
@pytest.mark.parametrize(
    ("flags", "environ", "says_ready"),
    [((), {"NO_COLOR": "1"}, True), ((), {"TERM": "dumb"}, True), (("--quiet",), {}, False)],
)
def test_who_wants_no_bar_gets_none(one: Blockstored, flags, environ, says_ready: bool) -> None:
    shown = Pty(one, *flags, **environ)
    try:
        if says_ready:
            shown.until("has caught up")
        else:
            deadline = time.monotonic() + DEADLINE
            while not one.log.exists() or "has caught up" not in one.log.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert shown.end() == 0
    finally:
        shown.close()
    assert "|" not in shown.written
    assert ("Ready." in shown.written) is says_ready
    assert screen(shown.written)[-1] == ""
