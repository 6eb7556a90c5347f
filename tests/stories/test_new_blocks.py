"""From the node's new block to the new answer over DNS, with polling as good as off."""

import time
from pathlib import Path

import pytest

from indexer.sandbox.node import SandboxNode
from resolver.sandbox.founding import MINER
from tests.resolver.daemon.daemon_process import Blockstored

pytestmark = [pytest.mark.live]

BLOCKS = 10
WITHIN = 1.0  # seconds


def _serial(daemon: Blockstored) -> int:
    """The height that the zone's SOA tells."""
    reply = daemon.dig("bs.", "SOA")
    return int(reply.answer[0][0].serial)


def test_a_new_block_is_answered_from_within_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SandboxNode(tmp_path / "node", start_time=int(time.time()) - 3600) as node:
        node.generate(5, MINER.script, 5)
        flags = ("--node-cookie-file", str(node.cookie_file), "--poll-interval", "1h")
        url = f"http://127.0.0.1:{node.port}"
        daemon = Blockstored(tmp_path / "daemon", url, *flags, network="sandbox")
        daemon.flags = [flag for flag in daemon.flags if not flag.startswith("--poll-interval=")]
        try:
            assert daemon.start().returncode == 0
            daemon.wait_for_block(node.height)
            took = []
            for _ in range(BLOCKS):
                began = time.monotonic()
                node.generate(1, MINER.script, 5)
                while _serial(daemon) < node.height:
                    assert time.monotonic() - began < 30, daemon.log.read_text()
                took.append(time.monotonic() - began)
        finally:
            daemon.kill()
    ranked = sorted(took)
    with capsys.disabled():
        middle, worst = ranked[BLOCKS // 2], ranked[-1]
        print(f"\nnew block to new answer: median {middle:.3f} s, worst {worst:.3f} s")
    assert ranked[BLOCKS // 2] < WITHIN
