"""A registrar that the kernel kills, at any moment and many times: every name is paid for once."""

import random
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from indexer.bitcoin.blocks import parse_block
from indexer.networks import SANDBOX
from indexer.registrar.planning.steps import Parties, steps_of
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.jobs import Job, State, Step
from indexer.registrar.work.journal import Journal
from indexer.sandbox.node import SandboxNode
from tests.conftest import ROOT
from tests.indexer.registrar.fakes import CONTENT, DIGEST, PAYER, made_world, person_key
from tests.rings import times

KILLS = times(4, 16, 80)
"""How often the program is killed at least."""
NAMES = 3
DEADLINE = 60.0
BLOCK_EVERY = 0.05
"""Seconds between two blocks while the program runs."""


class Program:
    """The registrar's process, and the miner who goes on while it runs."""

    def __init__(self, node: SandboxNode, folder: Path) -> None:
        self.node = node
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.indexer.registrar.registrar_process",
                str(node.port),
                str(folder),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def wait(self, word: bytes, seconds: float, *, mining: bool) -> bool:
        """Mine until the program says ``word``, it ends, or the time is over."""
        assert self.process.stdout is not None
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            pause = min(left, BLOCK_EVERY) if mining else left
            if select.select([self.process.stdout], [], [], pause)[0]:
                line = self.process.stdout.readline()
                if line.strip() == word or not line:
                    return line.strip() == word
            elif mining:
                self.node.generate(1, person_key("miner").script)
        return False

    def kill(self) -> None:
        """As the kernel kills whoever needs too much memory."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def burnt(node: SandboxNode, after: int) -> list[bytes]:
    """The txids of all payments to nobody in blocks after a height."""
    chain = node._chain
    return [
        transaction.txid
        for height in range(after + 1, chain.height + 1)
        for transaction in parse_block(chain.at_height(height).raw)[1]
        if any(output.script == SANDBOX.burn_script for output in transaction.outputs)
    ]


@pytest.mark.live
def test_a_registrar_that_is_killed_at_any_moment_pays_for_each_name_once(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    shutil.copytree(made_world(tmp_path / "made"), folder)
    dice = random.Random(20_260_101)
    kills = done = 0
    with SandboxNode(folder / "chain") as node:
        while kills < KILLS:
            begun = node.height
            with Journal(folder / "journal", SANDBOX) as journal:
                for number in range(NAMES):
                    begin(journal, f"job{done:04}{number}", f"name{done}x{number}.id")
            finished = False
            while not finished:
                program = Program(node, folder)
                assert program.wait(b"up", DEADLINE, mining=False)
                # Towards the end it is let go on, so that each round has one.
                patience = dice.uniform(0, 0.4) if kills < KILLS else DEADLINE
                finished = program.wait(b"done", patience, mining=True)
                kills += not finished
                program.kill()
            done += 1
            with Journal(folder / "journal", SANDBOX) as journal:
                jobs = journal.jobs()
            assert {job.state for job in jobs} == {State.DONE}, [job.note for job in jobs]
            assert len(burnt(node, begun)) == NAMES
    assert (folder / DIGEST.hex()).read_bytes() == CONTENT


def begin(journal: Journal, job_id: str, name: str) -> None:
    wish = RegisterName(name, DIGEST)
    steps = tuple(Step(kind) for kind in steps_of(wish, has_data=True))
    journal.save_content(DIGEST, CONTENT)
    parties = Parties(PAYER, person_key(f"owner of {name}").script)
    journal.save(Job(job_id, wish, parties, "purse", steps, 0, 500.0))
