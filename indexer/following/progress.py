"""How fast an index catches up: blocks and bytes a second, the date it has reached, the time left.

Pure: the time is an argument. What must stay true: a pause or a slow start a while ago no longer
counts; where nothing is known nothing is claimed.
"""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

WINDOW_SECONDS = 60.0
SAMPLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Rates over the last minute. ``block_time``: unix seconds of the last block's header."""

    height: int
    target: int
    names: int
    """Known to the index at that block."""
    block_time: int
    blocks_per_second: float
    megabytes_per_second: float
    seconds_left: float | None
    """Until the target at this rate of blocks; None: not known."""

    def __str__(self) -> str:
        date = datetime.fromtimestamp(self.block_time, UTC).strftime("%Y-%m-%d")
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        return (
            f"block {self.height} of {self.target} ({date}), {self.blocks_per_second:.1f} blocks/s,"
            f" {self.megabytes_per_second:.1f} MB/s, {self.names} names{left}"
        )


def duration(seconds: float) -> str:
    """A time in words, as exact as a person wants it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class Meter:
    """Takes every block applied; tells the progress."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque()  # time, blocks and bytes so far
        self._blocks = self._bytes = 0
        self._height = self._block_time = 0

    def count(self, now: float, height: int, size: int, block_time: int) -> None:
        """A block of ``size`` bytes was applied. ``now``: seconds of any clock that only rises."""
        self._height, self._block_time = height, block_time
        self._blocks += 1
        self._bytes += size
        # The first block only starts the clock: nobody knows how long it took.
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append((now, self._blocks, self._bytes))
            while now - self._samples[0][0] > WINDOW_SECONDS and len(self._samples) > 2:
                self._samples.popleft()

    def progress(self, now: float, target: int, names: int) -> Progress | None:
        """What is known at ``now``; None before the first block."""
        if not self._samples:
            return None
        began, blocks, size = self._samples[0]
        seconds = max(now - began, 1e-3)
        rate = (self._blocks - blocks) / seconds
        behind = target - self._height
        is_known = rate > 0 and behind >= 0 and seconds >= SAMPLE_SECONDS
        return Progress(
            height=self._height,
            target=target,
            names=names,
            block_time=self._block_time,
            blocks_per_second=rate,
            megabytes_per_second=(self._bytes - size) / seconds / 1e6,
            seconds_left=behind / rate if is_known else None,
        )

    def forget(self) -> None:
        """Begin anew: what is counted next has nothing to do with what was before."""
        self._samples.clear()
