"""A new block is indexed within a second of the node's having it, though nobody polls."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer.bitcoin.transactions import p2pkh_script
from indexer.following.follower import Follower
from indexer.networks import SANDBOX
from indexer.node.announcements import LONG_POLL_SECONDS, Announcements, zmq_address
from indexer.node.node import BitcoinNode
from indexer.sandbox.node import SandboxNode, Switches
from indexer.table.table import NameTable

NEVER = 3600.0
DEADLINE = 20.0
MINER = p2pkh_script(bytes(20))


class Watched:
    """A follower that would look once an hour, and what announces blocks to it."""

    def __init__(self, sandbox: SandboxNode, path: Path) -> None:
        self.sandbox = sandbox
        self.node = BitcoinNode(sandbox.url)
        self.table = NameTable(path, SANDBOX)
        self.came = threading.Condition()
        self.follower = Follower(
            self.node,
            self.table,
            SANDBOX,
            confirmations=1,
            poll_interval=NEVER,
            on_blocks=lambda snapshot, names: self._tell(),
        )
        self.stop = threading.Event()
        announcements = Announcements(self.node, self.follower.wake)
        self.threads = [
            threading.Thread(target=run, args=(self.stop,))
            for run in (self.follower.run, announcements.run)
        ]
        for thread in self.threads:
            thread.start()

    def _tell(self) -> None:
        with self.came:
            self.came.notify_all()

    def seconds_until(self, height: int) -> float:
        began = time.monotonic()
        with self.came:
            assert self.came.wait_for(lambda: self.table.snapshot().height >= height, DEADLINE), (
                f"block {height} was not heard of"
            )
        return time.monotonic() - began

    def close(self) -> None:
        self.stop.set()
        self.node.close()
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        self.table.close()


@contextmanager
def watched(sandbox: SandboxNode, path: Path) -> Iterator[Watched]:
    watch = Watched(sandbox, path)
    try:
        yield watch
    finally:
        watch.close()


@pytest.mark.parametrize("version", [300000, 250000])
def test_by_long_polling_a_block_is_indexed_within_a_second(tmp_path: Path, version: int) -> None:
    switches = Switches(version=version)
    with (
        SandboxNode(switches=switches) as sandbox,
        watched(sandbox, tmp_path / "index") as watch,
    ):
        sandbox.generate(1, MINER)
        watch.seconds_until(1)
        worst = 0.0
        for height in range(2, 12):
            sandbox.generate(1, MINER)
            worst = max(worst, watch.seconds_until(height))
        assert worst < 1.0


@pytest.mark.parametrize(("version", "threads"), [(300000, 1), (250000, 1), (300000, 2)])
def test_whoever_else_asks_the_node_does_not_wait_until_we_have(
    tmp_path: Path, version: int, threads: int, caplog
) -> None:
    caplog.set_level("INFO", "blockstore.follower")
    switches = Switches(version=version, rpc_threads=threads)
    with (
        SandboxNode(switches=switches) as sandbox,
        watched(sandbox, tmp_path / "index") as watch,
    ):
        sandbox.generate(1, MINER)
        watch.seconds_until(1)
        other = BitcoinNode(sandbox.url)
        began = time.monotonic()
        for _ in range(60):
            other.block_hash(0)
            watch.stop.wait(0.05)
        assert time.monotonic() - began < LONG_POLL_SECONDS / 2
        assert ("answers nobody while we wait" in caplog.text) == (threads == 1)
        sandbox.generate(1, MINER)
        assert watch.seconds_until(2) < 5.0
        other.close()


def test_over_zeromq_a_block_is_indexed_within_a_second(tmp_path: Path) -> None:
    zmq = pytest.importorskip("zmq", reason="pyzmq, an optional library, is not installed")
    context = zmq.Context()
    publisher = context.socket(zmq.XPUB)  # a PUB that hears who subscribes
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    switches = Switches(long_polling=False, zmq_hashblock=f"tcp://0.0.0.0:{port}")
    try:
        with SandboxNode(switches=switches) as sandbox:
            sandbox.generate(1, MINER)
            with watched(sandbox, tmp_path / "index") as watch:
                watch.seconds_until(1)
                assert publisher.poll(DEADLINE * 1000)
                assert publisher.recv() == b"\x01hashblock"
                worst = 0.0
                for height in range(2, 12):
                    mined = sandbox.generate(1, MINER)[0]
                    count = height.to_bytes(4, "little")
                    publisher.send_multipart([b"hashblock", mined[::-1], count])
                    worst = max(worst, watch.seconds_until(height))
                assert worst < 1.0
    finally:
        publisher.close(linger=0)
        context.term()


def test_a_node_that_restarts_is_listened_to_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("indexer.node.announcements.RETRY_SECONDS", 0.05)
    with SandboxNode(tmp_path / "node", user="u", password="p") as sandbox:
        port = sandbox.port
        with watched(sandbox, tmp_path / "index") as watch:
            sandbox.generate(1, MINER)
            watch.seconds_until(1)
            sandbox.stop()
            again = SandboxNode(tmp_path / "node", port=port, user="u", password="p")
            with again:
                again.generate(1, MINER)
                watch.seconds_until(2)
                again.generate(1, MINER)
                assert watch.seconds_until(3) < 5.0


@pytest.mark.parametrize(
    ("announced", "host", "reached"),
    [
        ("tcp://127.0.0.1:28332", "127.0.0.1", "tcp://127.0.0.1:28332"),
        ("tcp://127.0.0.1:28332", "localhost", "tcp://127.0.0.1:28332"),
        ("tcp://127.0.0.1:28332", "192.0.2.7", None),
        ("tcp://0.0.0.0:28332", "192.0.2.7", "tcp://192.0.2.7:28332"),
        ("tcp://*:28332", "2001:db8::1", "tcp://[2001:db8::1]:28332"),
        ("tcp://192.0.2.9:28332", "192.0.2.7", "tcp://192.0.2.9:28332"),
        ("ipc:///run/blocks", "127.0.0.1", "ipc:///run/blocks"),
        ("ipc:///run/blocks", "192.0.2.7", None),
        ("tcp://[nonsense", "127.0.0.1", None),
        ("udp://127.0.0.1:1", "127.0.0.1", None),
        (None, "127.0.0.1", None),
    ],
)
def test_an_address_is_connected_to_where_it_can_be_reached(announced, host, reached) -> None:
    assert zmq_address(announced, host) == reached
