"""Reading ahead: in order, bounded, over when nobody takes any more; and the lane next door."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from indexer.bitcoin.headers import parse_header
from indexer.following.ahead import AHEAD, Batch, OwnLane, Reader
from indexer.following.chain import Connect
from indexer.following.follower import Follower
from indexer.following.lane_process import LaneProcess, make_lanes
from indexer.following.reading import BadBlock, ReadBlock
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode, NodeError, NodePruned, NodeRefused, NodeUnavailable
from indexer.sandbox.node import SandboxNode, Switches
from indexer.table.table import NameTable
from tests.indexer.node.fakes import Purse

DEADLINE = 20.0
HEADER = parse_header(bytes(80))


def steps(count: int) -> list[Connect]:
    return [Connect(height, height.to_bytes(32, "little")) for height in range(1, count + 1)]


def blocks_of(part: Sequence[Connect]) -> Batch:
    return [ReadBlock(step.height, HEADER, 1_000_000, ()) for step in part]


class ScriptedLane:
    """A lane whose every batch goes through ``before``."""

    at_once = 1

    def __init__(self, before: Callable[[Sequence[Connect]], None]) -> None:
        self.before = before
        self.closed = threading.Event()

    def read(self, part: Sequence[Connect]) -> Batch:
        self.before(part)
        return blocks_of(part)

    def close(self) -> None:
        self.closed.set()


def test_blocks_come_in_order_though_one_lane_is_always_overtaken() -> None:
    first_done = threading.Event()

    def slow(part: Sequence[Connect]) -> None:
        if part[0].height == 1:
            assert first_done.wait(DEADLINE)

    def quick(part: Sequence[Connect]) -> None:
        if part[0].height == 1:
            assert first_done.wait(DEADLINE)
        elif part[0].height > 4:
            first_done.set()

    reader = Reader(_NoSource(), b"id", lambda: [ScriptedLane(slow), ScriptedLane(quick)])
    heights = [block.height for block in reader.blocks(steps(100))]
    assert heights == list(range(1, 101))


def test_no_more_is_read_than_may_wait() -> None:
    begun: list[int] = []
    lanes = [ScriptedLane(lambda part: begun.append(part[-1].height)) for _ in range(2)]
    reader = Reader(_NoSource(), b"id", lambda: lanes)
    blocks = reader.blocks(steps(300))
    for block in blocks:
        assert max(begun) - block.height <= (2 * AHEAD + 1) * reader._many()
    assert max(begun) == 300


def test_a_failure_is_raised_in_its_place_and_the_lanes_are_not_used_again() -> None:
    made: list[list[ScriptedLane]] = []

    def fail(part: Sequence[Connect]) -> None:
        if any(step.height == 50 for step in part):
            raise NodeUnavailable("the node went away")

    def make() -> list[ScriptedLane]:
        made.append([ScriptedLane(fail), ScriptedLane(fail)])
        return made[-1]

    reader = Reader(_NoSource(), b"id", make)
    seen = []
    with pytest.raises(NodeUnavailable):
        _take(seen, reader, 100)
    assert seen == list(range(1, len(seen) + 1))
    assert 40 <= len(seen) < 50
    assert all(lane.closed.is_set() for lane in made[0])
    assert [block.height for block in reader.blocks(steps(49))] == list(range(1, 50))
    assert len(made) == 2


def test_who_stops_taking_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    lanes = [ScriptedLane(lambda part: None) for _ in range(3)]
    reader = Reader(_NoSource(), b"id", lambda: lanes)
    blocks = reader.blocks(steps(1000))
    assert next(blocks).height == 1
    blocks.close()
    assert threading.active_count() == before
    assert all(lane.closed.is_set() for lane in lanes)


def test_a_short_plan_needs_no_lanes() -> None:
    def make() -> list[ScriptedLane]:
        raise AssertionError("lanes for three blocks")

    with SandboxNode() as sandbox:
        node = BitcoinNode(sandbox.url)
        hashes = sandbox.generate(3, Purse(sandbox).script)
        plan = [Connect(height, hashes[height - 1]) for height in (1, 2, 3)]
        reader = Reader(node, b"id", make)
        assert [block.header.hash for block in reader.blocks(plan)] == hashes


def test_blocks_that_turned_out_tiny_need_no_lanes() -> None:
    asked: list[int] = []
    with SandboxNode() as sandbox:
        node = BitcoinNode(sandbox.url)

        class Lane(OwnLane):
            def read(self, part: Sequence[Connect]) -> Batch:
                asked.append(part[0].height)
                return super().read(part)

        def make() -> list[Lane]:
            return [Lane(node, b"id")]

        hashes = sandbox.generate(400, Purse(sandbox).script)
        plan = [Connect(height, block_hash) for height, block_hash in enumerate(hashes, 1)]
        reader = Reader(node, b"id", make)
        for part in (plan[:200], plan[200:]):
            read = [block.header.hash for block in reader.blocks(part)]
            assert read == [step.block_hash for step in part]
    # Of the first ones nobody knew that they would be tiny.
    assert 1 in asked
    assert max(asked) <= 200


def _take(seen: list[int], reader: Reader, count: int) -> None:
    """Take blocks one by one, so that what came before a failure is seen."""
    for block in reader.blocks(steps(count)):
        seen.append(block.height)


class _NoSource:
    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]:
        raise AssertionError("read by the lanes")

    def spent_scripts(self, block_hash: bytes, outpoints: object) -> dict[tuple[bytes, int], bytes]:
        raise AssertionError("read by the lanes")


# The lane next door


@pytest.fixture
def sandbox():
    with SandboxNode(user="somebody", password="hush 4711", switches=Switches()) as node:
        node.generate(60, Purse(node).script)
        yield node


def plan_of(sandbox: SandboxNode) -> list[Connect]:
    node = BitcoinNode(sandbox.url)
    return [Connect(h, node.block_hash(h)) for h in range(1, sandbox.height + 1)]


def test_a_process_reads_what_a_thread_reads(sandbox) -> None:
    node, plan = BitcoinNode(sandbox.url), plan_of(sandbox)
    lane = LaneProcess(node.place_and_key, b"id")
    try:
        assert lane.read(plan) == OwnLane(node, b"id").read(plan)
        wrong = [Connect(1, plan[0].block_hash), Connect(2, bytes(32))]
        with pytest.raises(NodeError, match="not found"):
            lane.read(wrong)
        assert lane.read(plan[:1])  # an error of the node ends nothing
    finally:
        lane.close()


def test_secrets_reach_the_process_neither_as_arguments_nor_in_its_environment(sandbox) -> None:
    lane = LaneProcess(BitcoinNode(sandbox.url).place_and_key, b"id")
    try:
        assert lane.read(plan_of(sandbox)[:1])
        folder = Path("/proc") / str(lane._process.pid)
        for name in ("cmdline", "environ"):
            told = (folder / name).read_bytes()
            assert b"4711" not in told
            assert b"somebody" not in told
    finally:
        lane.close()


def test_failures_arrive_as_what_they_are(sandbox) -> None:
    plan = plan_of(sandbox)
    lane = LaneProcess(BitcoinNode(sandbox.url).place_and_key, b"id")
    try:
        for turn, back, kind in (
            ("busy", False, NodeUnavailable),
            ("allowed", None, NodeRefused),
            ("prune_height", None, NodePruned),
        ):
            setattr(sandbox.switches, turn, {"allowed": frozenset(), "busy": True}.get(turn, 99))
            with pytest.raises(kind):
                lane.read(plan)
            setattr(sandbox.switches, turn, back)
        assert len(lane.read(plan)) == len(plan)
    finally:
        lane.close()


def test_a_process_that_was_killed_is_replaced(sandbox, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("indexer.following.ahead.MIN_BYTES", 0)  # the sandbox's blocks are tiny
    node = BitcoinNode(sandbox.url)
    made: list[LaneProcess] = []

    def make() -> list[LaneProcess]:
        made.extend(lane for lane in make_lanes(node, b"id", 1) if isinstance(lane, LaneProcess))
        return made[-1:]

    table = NameTable(tmp_path / "index", SANDBOX)
    follower = Follower(node, table, SANDBOX, confirmations=1, lanes=make)
    follower.step()
    sandbox.generate(60, Purse(sandbox).script)
    made[0]._process.kill()
    with pytest.raises(NodeError, match="has ended"):
        follower.step()
    while follower.step():
        pass
    assert table.snapshot().height == sandbox.height
    assert len(made) == 2
    follower.close()
    assert all(lane._process.poll() is not None for lane in made)
    table.close()


def test_the_process_ends_when_nobody_holds_its_input(sandbox) -> None:
    lane = LaneProcess(BitcoinNode(sandbox.url).place_and_key, b"id")
    assert lane.read(plan_of(sandbox)[:1])
    assert lane._process.stdin is not None
    lane._process.stdin.close()  # as the system does when we are killed
    assert lane._process.wait(DEADLINE) == 0
    lane.close()


def test_a_corrupt_block_is_told_after_the_good_ones_before_it() -> None:
    with SandboxNode() as sandbox:
        sandbox.generate(3, Purse(sandbox).script)
        node, plan = BitcoinNode(sandbox.url), plan_of(sandbox)
        fetch = node.raw_blocks

        def damaged(hashes: Sequence[bytes]) -> list[bytes]:
            raws = fetch(hashes)
            return [*raws[:2], raws[2][:-1] + bytes((raws[2][-1] ^ 1,))]

        node.raw_blocks = damaged  # type: ignore[method-assign]
        one, two, three = OwnLane(node, b"id").read(plan)
        assert isinstance(one, ReadBlock)
        assert isinstance(two, ReadBlock)
        assert isinstance(three, BadBlock)
        assert "corrupt block 3" in str(three)


def test_our_own_environment_does_not_reach_the_process(sandbox, monkeypatch) -> None:
    monkeypatch.setenv("BLOCKSTORE_NODE_PASSWORD", "hush 4711")
    lane = LaneProcess(BitcoinNode(sandbox.url).place_and_key, b"id")
    try:
        assert lane.read(plan_of(sandbox)[:1])
        told = Path(f"/proc/{lane._process.pid}/environ").read_bytes()
        assert os.fsencode("BLOCKSTORE_") not in told
    finally:
        lane.close()


def test_a_process_answers_several_questions_each_with_its_own_blocks(sandbox) -> None:
    node, plan = BitcoinNode(sandbox.url), plan_of(sandbox)
    lane = LaneProcess(node.place_and_key, b"id")
    parts = [plan[at : at + 6] for at in range(0, 60, 6)]
    answers: dict[int, Batch] = {}

    def ask(numbers: Sequence[int]) -> None:
        for number in numbers:
            answers[number] = lane.read(parts[number])

    try:
        threads = [threading.Thread(target=ask, args=(range(n, 10, 2),)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        own = OwnLane(node, b"id")
        assert answers == {number: own.read(part) for number, part in enumerate(parts)}
    finally:
        lane.close()


def test_a_lane_is_asked_by_as_many_threads_as_it_takes_at_once() -> None:
    together = threading.Barrier(3)

    def meet(part: Sequence[Connect]) -> None:
        if part[0].height == 1 or part[-1].height <= 6:
            together.wait(DEADLINE)

    lane = ScriptedLane(meet)
    lane.at_once = 3
    reader = Reader(_NoSource(), b"id", lambda: [lane])
    assert [block.height for block in reader.blocks(steps(100))] == list(range(1, 101))
