"""Where data is had from, what is remembered, and the queue that keeps it replicated."""

import asyncio
import itertools
import logging
import threading
import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zonefiles.dht.network import SlowDisk, record
from zonefiles.archive.archive import Archive
from zonefiles.replication.replicator import BATCH, Replicator
from zonefiles.replication.schedule import Schedule
from zonefiles.sources import DataSource, Found, Missing, MissingReason
from zonefiles.text.zonefile import value_hash


@dataclass
class Answer:
    data: bytes | None
    source: str | None = "192.0.2.1:6265"
    asked: int = 3
    wrong: int = 0


class FakeNetwork:
    """Holds records; counts questions; can be held up, be wrong, or break."""

    def __init__(self) -> None:
        self.holds: dict[bytes, bytes] = {}
        self.asked: list[bytes] = []
        self.published: list[bytes] = []
        self.wrong = 0
        self.error: Exception | None = None
        self.acknowledging = 5
        self.peers = 3
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, digest: bytes, deadline: float) -> Answer:
        self.asked.append(digest)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return Answer(self.holds.get(digest), asked=self.peers, wrong=self.wrong)

    async def publish(self, digest: bytes, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        self.published.append(digest)
        return self.acknowledging


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def archive(tmp_path):
    opened = Archive(tmp_path / "archive", max_bytes=1_000_000)
    yield opened
    opened.close()


def test_the_archive_is_asked_first_and_the_network_not_at_all(archive):
    async def story():
        network = FakeNetwork()
        source = DataSource(archive, network)
        digest, data = record(1)
        archive.put(digest, data)
        assert source.peek(digest) == data
        assert await source.get(digest, 1) == Found(data, "archive")
        assert network.asked == []

    asyncio.run(story())


def test_what_the_network_gives_is_kept(archive):
    async def story():
        network = FakeNetwork()
        source = DataSource(archive, network)
        digest, data = record(1)
        network.holds[digest] = data
        assert source.peek(digest) is None
        assert await source.get(digest, 1) == Found(data, "192.0.2.1:6265")
        assert archive.get(digest) == data
        assert (source.stats.fetched, source.stats.missing) == (1, 0)

    asyncio.run(story())


def test_at_debug_every_look_up_is_a_line_with_its_source(archive, caplog):
    caplog.set_level(logging.DEBUG, "blockstore.zonefiles")
    digest, data = record(1)

    async def story():
        network = FakeNetwork()
        source = DataSource(archive, network)
        await source.get(digest, 1)
        network.holds[digest] = data
        await source.get(digest, 1, fresh=True)
        await source.get(digest, 1)

    asyncio.run(story())
    nobody, network, kept = [entry.getMessage() for entry in caplog.records]
    assert nobody.startswith(f"{digest.hex()}: 3 nodes asked, and no source has it")
    assert network == f"{digest.hex()}: from 192.0.2.1:6265"
    assert kept == f"{digest.hex()}: from the archive"


def test_a_full_archive_does_not_keep_data_from_being_served(archive):
    async def story():
        archive.max_bytes = 0
        network = FakeNetwork()
        source = DataSource(archive, network)
        for n in range(3):
            digest, data = record(n)
            network.holds[digest] = data
            assert await source.get(digest, 1) == Found(data, "192.0.2.1:6265")
        assert source.stats.unkept == 3

    asyncio.run(story())


def test_a_disk_that_does_not_come_back_holds_up_neither_the_loop_nor_the_answer(archive):
    async def story():
        network = FakeNetwork()
        source = DataSource(archive, network)
        there, digest, data = record(2), *record(1)
        archive.put(*there)
        network.holds[digest] = data
        disk = SlowDisk(archive)
        asking = asyncio.create_task(source.get(digest, 1))
        while not disk.batches:
            await asyncio.sleep(0)
        assert await source.get(there[0], 1) == Found(there[1], "archive")
        assert await asking == Found(data, "192.0.2.1:6265")
        assert source.peek(digest) is None, "it is not on disk yet"
        disk.free.set()
        async with asyncio.timeout(5):
            assert await archive.keep(digest, data) is False
        assert source.peek(digest) == data
        assert source.stats.unkept == 0

    asyncio.run(story())


def test_many_who_ask_for_the_same_make_one_look_up(archive):
    async def story():
        network = FakeNetwork()
        network.open.clear()
        source = DataSource(archive, network)
        digest, data = record(1)
        network.holds[digest] = data
        asking = [asyncio.create_task(source.get(digest, 5)) for _ in range(20)]
        while not network.asked:
            await asyncio.sleep(0)
        asking[0].cancel()
        network.open.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError), "who went away takes nobody along"
        assert found[1:] == [Found(data, "192.0.2.1:6265")] * 19
        assert network.asked == [digest]
        assert source.stats.merged == 19
        assert source.looking_for == 0

    asyncio.run(story())


def test_what_was_not_found_is_remembered_for_a_short_while_and_until_it_arrives(archive):
    async def story():
        clock = Clock()
        network = FakeNetwork()
        source = DataSource(archive, network, negative_seconds=10, clock=clock)
        digest, data = record(1)
        missing = Missing(MissingReason.UNAVAILABLE, 3, 0)
        for _ in range(3):
            assert await source.get(digest, 1) == missing
        assert len(network.asked) == 1
        assert await source.get(digest, 1, fresh=True) == missing
        assert len(network.asked) == 2
        clock.time += 10
        assert await source.get(digest, 1) == missing
        assert len(network.asked) == 3
        archive.put(digest, data)
        assert await source.get(digest, 1) == Found(data, "archive")
        assert source.stats.remembered == 2

    asyncio.run(story())


def test_wrong_data_is_told_apart_from_no_data(archive):
    async def story():
        network = FakeNetwork()
        network.wrong = 2
        source = DataSource(archive, network)
        digest, data = record(1)
        assert await source.get(digest, 1) == Missing(MissingReason.MISMATCH, 3, 2)
        assert source.stats.refused == 2
        other, _ = record(2)
        network.wrong = 0
        network.holds[other] = data
        assert await source.get(other, 1) == Missing(MissingReason.MISMATCH, 3, 1)
        assert other not in archive
        assert data not in archive

    asyncio.run(story())


def test_a_network_that_hangs_or_breaks_is_a_network_without_the_data(archive, caplog):
    async def story():
        network = FakeNetwork()
        source = DataSource(archive, network)
        network.open.clear()
        assert await source.get(record(1)[0], -0.2) == Missing(MissingReason.UNAVAILABLE, 0, 0)
        assert source.looking_for == 1
        await source.close()
        assert source.looking_for == 0
        network.open.set()
        network.error = RuntimeError("a bug")
        assert await source.get(record(2)[0], 1) == Missing(MissingReason.UNAVAILABLE, 0, 0)
        assert "a bug" in caplog.text
        assert await DataSource(archive, None).get(record(3)[0], 1) == Missing(
            MissingReason.UNAVAILABLE, 0, 0
        )

    asyncio.run(story())


def test_the_number_of_look_ups_is_bounded(archive, monkeypatch):
    monkeypatch.setattr("zonefiles.sources.MAX_WAITING_LOOKUPS", 4)

    async def story():
        network = FakeNetwork()
        network.open.clear()
        source = DataSource(archive, network)
        asking = [asyncio.create_task(source.get(record(n)[0], 5)) for n in range(10)]
        while source.stats.too_busy < 6:
            await asyncio.sleep(0)
        assert source.looking_for == 4
        network.open.set()
        found = await asyncio.gather(*asking)
        assert [missing.asked for missing in found] == [3] * 4 + [0] * 6

    asyncio.run(story())


def test_who_gets_no_turn_is_told_so_and_nothing_is_remembered_of_data_nobody_was_asked_for(
    archive, monkeypatch
):
    monkeypatch.setattr("zonefiles.sources.MAX_LOOKUPS", 4)

    async def story():
        network = FakeNetwork()
        network.open.clear()
        source = DataSource(archive, network)
        slow = [asyncio.create_task(source.get(record(n)[0], 5)) for n in range(4)]
        while len(network.asked) < 4:
            await asyncio.sleep(0)
        digest, data = record(99)
        network.holds[digest] = data
        flood = [source.get(record(n)[0], 0.02) for n in range(100, 150)]
        turned_away = await asyncio.gather(source.get(digest, 0.02), *flood)
        assert set(turned_away) == {Missing(MissingReason.BUSY, 0, 0)}
        assert (source.stats.too_busy, len(network.asked)) == (51, 4)
        network.open.set()
        assert await source.get(digest, 1) == Found(data, "192.0.2.1:6265")
        assert {found.asked for found in await asyncio.gather(*slow)} == {3}
        assert source.stats.remembered == 0
        await source.get(record(0)[0], 1)
        assert source.stats.remembered == 1, "what others were asked for in vain is"

    asyncio.run(story())


def test_who_waits_with_another_for_a_turn_that_never_comes_hears_why(archive, monkeypatch):
    monkeypatch.setattr("zonefiles.sources.MAX_LOOKUPS", 1)
    monkeypatch.setattr("zonefiles.sources._GRACE", 0.01)

    async def story():
        network = FakeNetwork()
        network.open.clear()
        source = DataSource(archive, network)
        others = [asyncio.create_task(source.get(record(n)[0], 60)) for n in (1, 2)]
        while source.looking_for < 2 or not network.asked:
            await asyncio.sleep(0)
        assert (await source.get(record(2)[0], 0.01)).busy
        assert not (await source.get(record(1)[0], 0.01)).busy, "this one is being asked for"
        await source.close()
        assert {found.asked for found in await asyncio.gather(*others)} == {0}

    asyncio.run(story())


def test_a_network_without_anybody_to_ask_is_asked_again_at_once(archive):
    async def story():
        network = FakeNetwork()
        network.peers = 0
        source = DataSource(archive, network)
        digest, data = record(1)
        assert await source.get(digest, 1) == Missing(MissingReason.UNAVAILABLE, 0, 0)
        network.peers, network.holds[digest] = 3, data
        assert await source.get(digest, 1) == Found(data, "192.0.2.1:6265")

    asyncio.run(story())


class Replication:
    """A replicator over a fake network, with the clock in hand."""

    def __init__(self, archive: Archive, **settings) -> None:
        self.archive = archive
        self.clock = Clock()
        self.network = FakeNetwork()
        self.source = DataSource(archive, self.network, clock=self.clock)
        self.live: set[bytes] = set()
        self.replicator = Replicator(
            self.source,
            self.network,
            is_announced=self.live.__contains__,
            clock=self.clock,
            **{"publishes_a_second": 1e9, **settings},
        )

    @property
    def stats(self):
        return self.replicator.stats

    async def announce(self, *digests: bytes) -> None:
        self.live.update(digests)
        self.replicator.announce(digests)
        await self.replicator.work()

    async def later(self, seconds: float) -> None:
        self.clock.time += seconds
        await self.replicator.work()


def test_what_a_block_announces_is_fetched_if_missing_and_published_if_there(archive):
    async def story():
        r = Replication(archive)
        here, there = record(1), record(2)
        archive.put(*here)
        r.network.holds[there[0]] = there[1]
        await r.announce(here[0], there[0])
        assert there[0] in archive
        assert r.network.asked == [there[0]]
        assert r.network.published == [here[0]]
        assert (r.stats.fetched, r.stats.published, r.stats.queued) == (1, 1, 2)

    asyncio.run(story())


def test_what_is_missing_is_looked_for_again_after_pauses_that_double_up_to_a_bound(archive):
    async def story():
        r = Replication(archive, first_pause=2, longest_pause=100)
        digest, data = record(1)
        await r.announce(digest)
        pauses = []
        for _ in range(9):
            asked, waited = len(r.network.asked), 0.0
            while len(r.network.asked) == asked:
                await r.later(0.25)
                waited += 0.25
            pauses.append(waited)
        assert all(later >= earlier for earlier, later in itertools.pairwise(pauses))
        assert 1.5 <= pauses[0] <= 2.75
        assert pauses[1] == pytest.approx(2 * pauses[0], abs=0.5)
        assert 75 <= pauses[-1] <= 126
        r.network.holds[digest] = data
        await r.later(130)
        assert digest in archive
        assert r.stats.failing == 0

    asyncio.run(story())


def test_a_new_block_that_names_it_again_ends_the_pause(archive):
    async def story():
        r = Replication(archive, first_pause=1000)
        digest, data = record(1)
        await r.announce(digest)
        r.network.holds[digest] = data
        await r.announce(digest)
        assert digest in archive

    asyncio.run(story())


def test_records_are_published_again_at_intervals_until_no_name_holds_them(archive):
    async def story():
        r = Replication(archive, republish_interval=1000)
        digest, data = record(1)
        archive.put(digest, data)
        await r.announce(digest)
        await r.later(800)
        assert len(r.network.published) == 1
        for _ in range(3):
            await r.later(1100)
        assert len(r.network.published) == 4
        r.live.clear()
        await r.later(1100)
        assert len(r.network.published) == 4
        assert (r.stats.obsolete, r.stats.queued) == (1, 0)

    asyncio.run(story())


def test_what_nobody_acknowledged_and_what_broke_is_tried_again(archive):
    async def story():
        r = Replication(archive, first_pause=2)
        digest, data = record(1)
        archive.put(digest, data)
        r.network.acknowledging = 0
        await r.announce(digest)
        assert (r.stats.unpublished, r.stats.failing) == (1, 1)
        r.network.error = RuntimeError("a bug")
        await r.later(3)
        assert (r.stats.errors, r.stats.failing) == (1, 1)
        r.network.error, r.network.acknowledging = None, 3
        await r.later(6)
        assert (r.stats.published, r.stats.failing) == (1, 0)

    asyncio.run(story())


def test_what_is_too_large_for_the_network_stays_in_the_archive(archive):
    async def story():
        r = Replication(archive)
        digest, data = record(1, size=8001)
        archive.put(digest, data)
        await r.announce(digest)
        assert r.network.published == []
        assert (r.stats.too_large, r.stats.queued) == (1, 0)

    asyncio.run(story())


def test_publishing_keeps_its_pace(archive):
    async def story():
        r = Replication(archive, publishes_a_second=10)
        records = [record(n) for n in range(25)]
        for digest, data in records:
            archive.put(digest, data)
        await r.announce(*(digest for digest, _ in records))
        assert len(r.network.published) == 1
        await r.later(1)
        assert 9 <= len(r.network.published) <= 12
        await r.later(2)
        assert sorted(r.network.published) == sorted(digest for digest, _ in records)

    asyncio.run(story())


def test_a_backlog_is_fetched_soon_and_published_over_the_interval(archive):
    async def story():
        r = Replication(archive, republish_interval=1000)
        held, missing = [record(n) for n in range(50)], record(99)
        for digest, data in held:
            archive.put(digest, data)
        r.network.holds[missing[0]] = missing[1]
        digests = [*(digest for digest, _ in held), missing[0]]
        r.live.update(digests)
        await r.replicator.take_backlog(iter(digests), lambda: False)
        await r.replicator.work()
        assert missing[0] in archive
        assert r.network.published == []
        await r.later(499)
        await r.later(1)
        assert 10 < len(r.network.published) < 40
        await r.later(499)
        await r.later(1)
        assert {digest for digest, _ in held} <= set(r.network.published)

    asyncio.run(story())


def test_a_backlog_is_read_beside_the_loop_and_no_faster_than_it_is_taken(archive):
    async def story():
        r = Replication(archive)
        loop_thread, total = threading.get_ident(), 5 * BATCH + 7
        turns, ahead = 0, []
        holds = r.source.holds

        def held(digest: bytes) -> bool:
            assert threading.get_ident() != loop_thread
            return holds(digest)

        def announced():
            for n in range(total):
                assert threading.get_ident() != loop_thread
                ahead.append(n - r.stats.queued)
                yield value_hash(b"%d" % n)

        async def turn():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        r.source.holds = held
        others = asyncio.create_task(turn())
        await r.replicator.take_backlog(announced(), lambda: False)
        others.cancel()
        assert (r.stats.queued, r.stats.errors) == (total, 0)
        assert max(ahead) < BATCH
        assert turns > total // BATCH

    asyncio.run(story())


def test_a_backlog_ends_when_the_node_stops_and_where_it_cannot_be_read(archive, caplog):
    async def story():
        r = Replication(archive)

        def announced(last: int):
            for n in itertools.count():
                if n == last:
                    raise RuntimeError("a torn table")
                yield value_hash(b"%d" % n)

        await r.replicator.take_backlog(announced(1 << 30), lambda: r.stats.queued > 0)
        assert r.stats.queued == BATCH
        await r.replicator.take_backlog(announced(3 * BATCH), lambda: False)
        assert (r.stats.queued, r.stats.errors) == (3 * BATCH, 1)
        assert "a torn table" in caplog.text

    asyncio.run(story())


def test_the_queue_is_bounded(archive):
    async def story():
        r = Replication(archive, queue_size=10)
        await r.announce(*(record(n)[0] for n in range(30)))
        assert (r.stats.queued, r.stats.overflowed) == (10, 20)

    asyncio.run(story())


def test_the_workers_take_what_comes_and_leave_nothing_behind(archive):
    async def story():
        r = Replication(archive, at_once=3)
        await r.replicator.start()
        slow, quick = record(1), record(2)
        r.network.open.clear()
        r.replicator.announce([slow[0]])
        r.live.update({slow[0], quick[0]})
        async with asyncio.timeout(2):
            while not r.network.asked:
                await asyncio.sleep(0)
            archive.put(*quick)
            r.replicator.announce([quick[0]])
            while not r.network.published:
                await asyncio.sleep(0)
        await r.replicator.stop()
        await r.replicator.stop()
        await r.source.close()
        assert r.stats.queued == 2, "what was under way is still to be done"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


@given(
    st.lists(st.tuples(st.sampled_from("nafst"), st.integers(0, 5), st.floats(0, 50)), max_size=60)
)
def test_a_schedule_holds_each_digest_at_most_once_and_never_too_many(steps):
    schedule, time, model = Schedule(size=4, first_pause=1, longest_pause=8), 0.0, set()
    for step, n, seconds in steps:
        digest = bytes([n]) * 20
        if step == "t":
            time += seconds
            while (taken := schedule.take(time)) is not None:
                model.remove(taken)
            assert schedule.next_due(time) is None or schedule.next_due(time) > 0
            continue
        if step == "s":
            schedule.succeeded(digest)
            continue
        if step == "n":
            done = schedule.now(digest)
        elif step == "a":
            done = schedule.at(digest, time + seconds)
        else:
            done = schedule.failed(digest, time)
        assert done == (digest in model or len(model) < 4)
        if done:
            model.add(digest)
        assert len(schedule) == len(model)
        assert all(d in schedule for d in model)
    while schedule.take(time + 1e9) is not None:
        pass
    assert len(schedule) == 0


def test_a_schedule_gives_out_in_order_and_at_a_cost_that_does_not_grow_with_its_length():
    def seconds_for_each(size: int) -> float:
        digests = [n.to_bytes(20, "big") for n in range(size)]
        schedule = Schedule(size=size, first_pause=1, longest_pause=8)
        for digest in digests:
            schedule.now(digest)
        began = time.process_time()
        assert [schedule.take(0.0) for _ in digests] == digests
        return (time.process_time() - began) / size

    seconds_for_each(1_000)  # warm up
    # Walking over what was taken out before makes the long one 50 times as dear, or more.
    assert seconds_for_each(60_000) < 15 * min(seconds_for_each(1_000) for _ in range(5))
