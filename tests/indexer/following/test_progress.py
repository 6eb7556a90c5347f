"""How fast an index catches up: what is counted, over which time, and how it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.following.progress import WINDOW_SECONDS, Meter, Progress, duration


def test_the_rate_is_that_of_the_last_minute() -> None:
    meter = Meter()
    for second in range(100):  # a slow start, long ago
        meter.count(second, second, 100_000, 1_500_000_000)
    for second in range(200):
        meter.count(1000.0 + second, 2 * second, 2_000_000, 1_500_000_000)
        meter.count(1000.0 + second, 2 * second + 1, 2_000_000, 1_500_000_000)
    seen = meter.progress(1199.5, 619, 12)
    assert seen is not None
    assert seen.blocks_per_second == pytest.approx(2.0, rel=0.05)
    assert seen.megabytes_per_second == pytest.approx(4.0, rel=0.05)
    assert seen.seconds_left == pytest.approx(110, rel=0.05)
    assert str(seen).startswith(
        "block 399 of 619 (2017-07-14), 2.0 blocks/s, 4.0 MB/s, 12 names, 2 min left"
    )


def test_a_node_that_falls_silent_is_seen_in_the_rate() -> None:
    meter = Meter()
    for second in range(30):
        meter.count(float(second), second, 1_000_000, 0)
    running, silent = meter.progress(29.0, 100, 0), meter.progress(29.0 + 290, 100, 0)
    assert running is not None
    assert silent is not None
    assert silent.blocks_per_second == pytest.approx(running.blocks_per_second / 11, rel=0.05)
    assert running.seconds_left == pytest.approx(71, rel=0.05)
    assert silent.seconds_left == pytest.approx(71 * 11, rel=0.05)


def test_before_the_first_block_nothing_is_claimed() -> None:
    meter = Meter()
    assert meter.progress(0.0, 100, 0) is None
    meter.count(1.0, 5, 1000, 0)
    seen = meter.progress(1.0, 100, 0)
    assert seen is not None
    assert (seen.height, seen.blocks_per_second, seen.seconds_left) == (5, 0.0, None)
    meter.count(1.5, 6, 1000, 0)
    seen = meter.progress(1.5, 100, 0)
    assert seen is not None
    assert seen.seconds_left is None  # half a second tells little
    meter.forget()
    assert meter.progress(1200.0, 419, 0) is None


def test_a_target_behind_us_is_no_time_left() -> None:
    meter = Meter()
    for second in range(10):
        meter.count(float(second), second, 1000, 0)
    seen = meter.progress(9.0, 5, 0)  # the node went to a branch with fewer blocks
    assert seen is not None
    assert seen.seconds_left is None
    assert str(seen).endswith("names")


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(81, 4_000_000)), min_size=1, max_size=300),
    st.floats(1, 30),
)
def test_the_rate_is_the_exact_one_since_some_block_of_the_last_minute(steps, wait) -> None:
    meter, times, sizes = Meter(), [], []
    for height, (pause, size) in enumerate(steps):
        times.append((times[-1] if times else 0.0) + pause)
        sizes.append(size)
        meter.count(times[-1], height, size, 0)
    now, last = times[-1] + wait, len(steps) - 1
    seen = meter.progress(now, last + 10, 0)
    assert seen is not None
    # Where blocks are so slow that hardly one falls into a minute, the one before it counts too.
    young = [n for n in range(last + 1) if times[last] - times[n] <= WINDOW_SECONDS]
    rates = [
        (
            (last - first) / (now - times[first]),
            sum(sizes[first + 1 :]) / (now - times[first]) / 1e6,
        )
        for first in (*young, max(0, young[0] - 1))
    ]
    found = (seen.blocks_per_second, seen.megabytes_per_second)
    assert any(found == pytest.approx(rate) for rate in rates)
    if seen.seconds_left is not None:
        assert seen.seconds_left == pytest.approx(10 / seen.blocks_per_second)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 s"), (89, "89 s"), (600, "10 min"), (7200, "2 h 0 min"), (10**6, "11 d 13 h")],
)
def test_a_time_is_told_as_exactly_as_it_matters(seconds, text) -> None:
    assert duration(seconds) == text


def test_progress_is_one_line_for_the_log() -> None:
    seen = Progress(412_345, 850_000, 71_234, 1_463_700_000, 45.12, 31.97, 9701.0)
    assert str(seen) == (
        "block 412345 of 850000 (2016-05-19), 45.1 blocks/s, 32.0 MB/s, 71234 names,"
        " 2 h 42 min left"
    )
