"""The rights at the node that the README asks for are those that a daemon makes use of."""

from pathlib import Path

import pytest

from indexer.node.capabilities import RPC_METHODS
from tests.benchmarks.chain import SyntheticChain
from tests.indexer.node.served_chain import ServedChain
from tests.resolver.daemon.daemon_process import Blockstored

pytestmark = [pytest.mark.live]

OTHERWISE = {"sendrawtransaction"}  # nothing is paid here


def test_a_daemon_asks_for_all_of_the_whitelist_and_for_nothing_else(tmp_path: Path) -> None:
    blocks = list(SyntheticChain(3, 300, 60, 0).mine(1))
    with ServedChain(blocks) as node:
        node.top = 55  # far enough for headers first and for what reads ahead
        daemon = Blockstored(tmp_path, node.place, "--catch-up-processes", "1", network="sandbox")
        try:
            assert daemon.start().returncode == 0
            daemon.wait_for_block(node.top)
            node.top = blocks[-1].height
            daemon.wait_for_block(node.top)
            assert daemon.stop().returncode == 0
        finally:
            daemon.kill()
    calls = [call for body in node.seen for call in (body if isinstance(body, list) else [body])]
    assert {call["method"] for call in calls} == set(RPC_METHODS) - OTHERWISE
