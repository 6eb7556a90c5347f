"""The daemon on a disk that is full or may only be read: it says so, and goes on answering."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.rcode
import pytest

from resolver.process import pidfile
from tests.benchmarks.chain import MinedBlock, SyntheticChain
from tests.conftest import ROOT
from tests.indexer.node.served_chain import ServedChain
from tests.resolver.daemon.daemon_process import DEADLINE, Blockstored

pytestmark = [pytest.mark.live]

BLOCKS, INDEXED = 60, 40
MODE_READ_ONLY = 0o500

AS_ANYBODY = """
import ctypes, os, sys
prctl, drop_for_ever, override, read_search = ctypes.CDLL(None).prctl, 24, 1, 2
for right in (override, read_search):
    prctl(drop_for_ever, right, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "resolver.blockstored", *sys.argv[1:]])
"""
"""Becomes ``blockstored`` without the right of root to write where nobody may."""


@pytest.fixture(scope="module")
def blocks() -> list[MinedBlock]:
    return list(SyntheticChain(3, 300, BLOCKS, 0).mine(1))


@pytest.fixture
def half_served(blocks: list[MinedBlock]) -> Iterator[ServedChain]:
    with ServedChain(blocks) as node:
        node.top = INDEXED
        yield node


@pytest.fixture
def daemon(tmp_path: Path, half_served: ServedChain) -> Iterator[Blockstored]:
    one = Blockstored(tmp_path, half_served.place, network="sandbox")
    yield one
    one.kill()


def allow_file_bytes(daemon: Blockstored, most: int) -> None:
    """No file of the daemon may grow beyond so many bytes, as on a disk that is full."""
    pid = pidfile.owner(daemon.pid_file)
    assert pid is not None
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))


def start_as_anybody(daemon: Blockstored) -> subprocess.CompletedProcess[bytes]:
    """Start it bound by the modes of files, whoever runs the tests."""
    return subprocess.run(
        [sys.executable, "-c", AS_ANYBODY, "start", *daemon.where, *daemon.flags],
        env=daemon.env,
        cwd=ROOT,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )


def test_a_full_disk_stops_the_index_of_a_daemon_that_goes_on_answering(
    daemon: Blockstored, half_served: ServedChain, blocks: list[MinedBlock]
) -> None:
    assert daemon.start().returncode == 0
    daemon.wait_for_block(INDEXED)
    before = daemon.dig("bs.", "SOA")
    allow_file_bytes(daemon, 1)
    half_served.top = BLOCKS
    told = daemon.wait(lambda info: info["index"]["state"] == "stopped")
    assert "cannot write to" in told["node"]["error"]
    assert "make room on the disk" in told["node"]["error"]
    assert told["index"]["height"] == INDEXED
    shown = daemon.command("status", *daemon.where)
    assert shown.returncode == 0
    assert "make room on the disk" in shown.stdout.decode()
    for tcp in (False, True):
        reply = daemon.dig("bs.", "SOA", tcp=tcp)
        assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, before.answer)
    name = min(blocks[INDEXED - 1].outcome.touched)
    assert "has stopped" in daemon.ask("GET", f"/v1/names/{name}")["stale"]
    allow_file_bytes(daemon, resource.RLIM_INFINITY)
    assert daemon.stop().returncode == 0
    assert "Traceback" not in daemon.log.read_text()
    assert daemon.start().returncode == 0
    daemon.wait_for_block(BLOCKS)


@pytest.mark.parametrize("place", ["w", "w/names"])
def test_a_folder_that_may_only_be_read_is_said_in_one_line(
    daemon: Blockstored, place: str
) -> None:
    assert daemon.start().returncode == 0
    daemon.wait_for_block(INDEXED)
    assert daemon.stop().returncode == 0
    folder = daemon.folder / place
    mode = folder.stat().st_mode
    folder.chmod(MODE_READ_ONLY)
    try:
        refused = start_as_anybody(daemon)
    finally:
        folder.chmod(mode)
    assert refused.returncode == 2
    (line,) = refused.stderr.decode().splitlines()
    assert "permission" in line.lower()
    assert str(folder) in line
    assert daemon.start().returncode == 0
    daemon.wait_for_block(INDEXED)
