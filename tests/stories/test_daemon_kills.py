"""The daemon, killed fifty times while it catches up, ends where one that nobody disturbed ends.

The moments are drawn: some before the node is asked for anything, some while blocks are read and
written, some around the last one; where they fell is told by what the next life asks first.
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexer.following.follower import Follower
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.table.table import NameTable
from tests.benchmarks.chain import MinedBlock, SyntheticChain
from tests.indexer.node.served_chain import ServedChain
from tests.resolver.daemon.daemon_process import Blockstored
from tests.rings import times
from tests.stories.unborn import Unborn, children_of, stacks_of, threads_of, wait_gone

pytestmark = [pytest.mark.live]

KILLS = times(20, 20, 100)
SIDE_BY_SIDE = 2
BLOCKS = 1500
OPERATIONS = 6000
DEADLINE = 60.0
CAUGHT_UP = f"has caught up with the chain at block {BLOCKS}"
STEP = 200
"""Blocks: how far a life gets at most before it is killed."""


class Victim:
    """A daemon whose lives end by SIGKILL, until its index is whole; then another, and so on."""

    def __init__(
        self, folder: Path, blocks: Sequence[MinedBlock], unborn: Unborn, seed: int
    ) -> None:
        self._folder, self._blocks, self._unborn = folder, blocks, unborn
        self._dice = random.Random(seed)
        self._asks_after = 0.2  # seconds from birth to the first question
        self.whole = 0
        """How many indexes were finished."""
        self.kills: Counter[str] = Counter()
        """Before the node was asked for a block, while blocks came, after the last one."""
        self.tips: set[int] = set()
        """The last blocks of the tables that the lives found when they began."""

    def run(self, kills: int) -> Iterator[dict[bytes, bytes]]:
        """The rows of every index that was finished; ends after so many kills."""
        while self.kills.total() < kills:
            one = Blockstored(self._folder / str(self.whole), "http://127.0.0.1", network="sandbox")
            lanes = str(self.whole % 2)
            while self.kills.total() < kills and self._is_killed(one, lanes):
                pass
            self._finish(one, lanes)
            self.whole += 1
            yield rows_of(one.folder / "w" / "names")

    def _is_killed(self, one: Blockstored, lanes: str) -> bool:
        """One life, to a moment that is drawn; False where it finds its index whole."""
        dice = self._dice
        with self._life(one, lanes) as (pid, node):
            born = time.monotonic()
            if dice.random() < 0.2:
                time.sleep(self._asks_after * dice.uniform(0, 1.1))
                self._kill(pid)
                self.kills["reading" if node.highest else "early"] += 1
                return True
            self._expect(node.wait(lambda: node.began_at is not None), one, pid)
            assert node.began_at is not None
            self._asks_after = time.monotonic() - born
            self.tips.add(node.began_at)
            if node.began_at == node.top:
                return False
            far = len(self._blocks) if dice.random() < 0.1 else dice.randint(1, STEP)
            goal = min(node.top, node.began_at + far)
            self._expect(node.wait(lambda: node.highest >= goal), one, pid)
            time.sleep(dice.uniform(0, 0.05 if goal < node.top else 0.3))
            self._kill(pid)
            self.kills["late" if node.highest == node.top else "reading"] += 1
            return True

    def _expect(self, came: bool, one: Blockstored, pid: int) -> None:
        """Fail with all that is known of a daemon that did not come so far."""
        assert came, f"{one.log.read_text()}\n{threads_of(pid)}"

    def _finish(self, one: Blockstored, lanes: str) -> None:
        """A life that nobody disturbs, to the end of the chain."""
        before = one.log.read_text().count(CAUGHT_UP)
        with self._life(one, lanes) as (pid, _):
            deadline = time.monotonic() + DEADLINE
            while one.log.read_text().count(CAUGHT_UP) == before:
                assert time.monotonic() < deadline, one.log.read_text()
                time.sleep(0.02)
            os.kill(pid, signal.SIGTERM)
            wait_gone([pid], DEADLINE)
        assert one.log.read_text().endswith("Stopped.\n")

    @contextlib.contextmanager
    def _life(self, one: Blockstored, lanes: str) -> Iterator[tuple[int, ServedChain]]:
        """A daemon and the node it follows."""
        with ServedChain(self._blocks) as node:
            flags = ("--node-url", node.place, "--catch-up-processes", lanes)
            pid = self._unborn.become("start", "--foreground", *one.where, *one.flags, *flags)
            try:
                yield pid, node
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                wait_gone([pid], DEADLINE)
                stacks_of(pid).unlink(missing_ok=True)

    def _kill(self, pid: int) -> None:
        """SIGKILL; nobody may be left behind."""
        lanes = children_of(pid)
        os.kill(pid, signal.SIGKILL)
        wait_gone([pid, *lanes], DEADLINE)


@pytest.mark.timeout(300)
def test_a_daemon_killed_fifty_times_while_it_catches_up_loses_nothing_but_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = list(SyntheticChain(7, OPERATIONS, BLOCKS, 0).mine(1))
    with ServedChain(blocks) as node:
        undisturbed = undisturbed_rows(node, tmp_path / "undisturbed")

    def run(number: int) -> Victim:
        with Unborn(tmp_path) as unborn:
            victim = Victim(tmp_path / str(number), blocks, unborn, seed=number)
            for rows in victim.run(KILLS // SIDE_BY_SIDE):
                different = sorted({key for key, _ in rows.items() ^ undisturbed.items()})
                assert not different, f"{len(different)} rows differ: {different[:5]}"
        return victim

    began = time.monotonic()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        victims = list(pool.map(run, range(SIDE_BY_SIDE)))
    kills: Counter[str] = sum((victim.kills for victim in victims), Counter())
    tips = set().union(*(victim.tips for victim in victims))
    whole = sum(victim.whole for victim in victims)
    with capsys.disabled():
        print(
            f"\n{kills.total()} kills in {time.monotonic() - began:.0f} s ({dict(kills)}), found at"
            f" {len(tips)} heights; {whole} indexes finished"
        )
    assert kills.total() == KILLS
    assert min(kills[when] for when in ("early", "reading", "late")) > 0
    assert len(tips) > KILLS // 4, "they came at different heights"


def undisturbed_rows(node: ServedChain, path: Path) -> dict[bytes, bytes]:
    """Every row of an index that follows ``node`` in this process to the end of its chain."""
    table, client = NameTable(path, SANDBOX), BitcoinNode(node.place)
    try:
        follower = Follower(client, table, SANDBOX, confirmations=1)
        while follower.step():
            pass
        assert table.tip == node.top
        assert table.name_count > 1000
        return dict(table.scan(b""))
    finally:
        table.close()
        client.close()


def rows_of(path: Path) -> dict[bytes, bytes]:
    table = NameTable(path, SANDBOX)
    try:
        return dict(table.scan(b""))
    finally:
        table.close()
