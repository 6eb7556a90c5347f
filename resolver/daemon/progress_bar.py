"""The bar on a terminal while the index catches up: height, date, speed, names, time left.

What must stay true: nothing is drawn where nobody could read it (no terminal, a dumb one) or
wants it (NO_COLOR); no line of the log is broken by the bar, nor the bar by a line; the cursor is
never hidden nor the screen switched, so that whatever ends the process leaves a terminal in order.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol, TextIO

from tqdm import tqdm

from indexer.following.follower import FollowerStatus
from indexer.following.progress import Progress, duration

log = logging.getLogger("blockstore.daemon")

REFRESH_SECONDS = 0.25
MIN_BAR = 4
"""Signs: a figure gives way before the bar is shorter than this."""
USUAL_WIDTH = 80
GONE = (OSError, ValueError)
"""What a stream raises whose terminal was closed."""
MIN_BEHIND = 10
"""Blocks: of fewer nobody waits for the end, and a bar would flash up at every new one."""


class _Line(tqdm):
    """A bar of ours: no watching thread, and a lock for threads rather than for processes."""

    monitor_interval = 0


_LOCK = threading.RLock()
_Line.set_lock(_LOCK)


class Terminal(Protocol):
    """What is asked of the stream before anything is drawn on it."""

    def isatty(self) -> bool: ...


def is_drawable(stream: Terminal, environ: Mapping[str, str]) -> bool:
    """Whether a bar on ``stream`` would be seen as one. NO_COLOR asks for plain lines."""
    return (
        stream.isatty()
        and environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
        and not environ.get("NO_COLOR")
    )


def bar_on(stream: TextIO, environ: Mapping[str, str]) -> "ProgressBar | None":
    """A bar on ``stream``, where one would be seen."""
    return ProgressBar(stream) if is_drawable(stream, environ) else None


def sides(progress: Progress, width: int) -> tuple[str, str]:
    """What stands left and right of the bar in ``width`` columns; the least needed goes first."""
    place = f"{progress.height}/{progress.target}"
    date = datetime.fromtimestamp(progress.block_time, UTC).strftime("%Y-%m-%d")
    left = "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"
    short = left.replace(" ", "").replace("left", " left")
    blocks = f"{_rate(progress.blocks_per_second)} blocks/s"
    size = f"{_rate(progress.megabytes_per_second)} MB/s"
    names = f"{progress.names} names"
    for before, after in (
        ((place, date), ", ".join(filter(None, (blocks, size, names, left)))),
        ((place, date), " ".join(filter(None, (blocks, size, names, short)))),
        ((place, date), " ".join(filter(None, (blocks, size, short)))),
        ((place, date), " ".join(filter(None, (blocks, short)))),
        ((place,), " ".join(filter(None, (blocks, short)))),
        ((place,), short),
    ):
        both = " ".join(before), after
        if sum(map(len, both)) + len(" || ") + MIN_BAR <= width:
            return both
    return place, ""


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


class ProgressBar:
    """The bar on one terminal. ``log_handler`` writes the log above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line: _Line | None = None
        self._ended = False
        self.log_handler = LogAbove(stream)

    async def follow(self, status: Callable[[], FollowerStatus], first_block: int) -> None:
        """Draw until cancelled. Raises nothing: a terminal that goes away ends the drawing."""
        try:
            while True:
                # A terminal may be held (Ctrl-S): nobody else shall wait for it.
                await asyncio.to_thread(self.show, status(), first_block)
                await asyncio.sleep(REFRESH_SECONDS)
        except GONE as error:
            log.debug("the bar is drawn no more: %s", error)
        finally:
            with _LOCK:  # the thread that draws may still be at it, and is not to draw again
                self._ended = True
                self.clear()

    def show(self, status: FollowerStatus, first_block: int) -> None:
        """Draw the bar as ``status`` says, or take it away where there is nothing to show."""
        progress = status.progress
        if status.state != "catching up" or progress is None:
            self.clear()
            return
        if self._line is None and progress.target - progress.height < MIN_BEHIND:
            return
        with _LOCK:
            if not self._ended:
                self._draw(progress, first_block)

    def _draw(self, progress: Progress, first_block: int) -> None:
        width = self._width()
        left, right = sides(progress, width)
        if self._line is None:
            self._line = _Line(file=self._stream, position=0, leave=False, ncols=width, delay=1e9)
        line = self._line
        line.delay = 0  # drawn from here on, with figures of its own rather than empty ones
        line.ncols = width
        line.total = max(1, progress.target - first_block + 1)
        line.n = min(line.total, max(0, progress.height - first_block + 1))
        line.bar_format = f"{left} |{{bar}}| {right}"
        line.refresh(nolock=True)  # it would keep the lock where the terminal fails

    def clear(self) -> None:
        """Take the bar away; the line it stood on is empty again."""
        line, self._line = self._line, None
        if line is not None:
            with contextlib.suppress(*GONE):
                line.close()

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or USUAL_WIDTH
        except GONE:
            return USUAL_WIDTH


class LogAbove(logging.StreamHandler[TextIO]):
    """Writes log lines above whatever bar stands on the terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what the bar shows already."""
        return not hasattr(record, "progress") and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """One line, and the bar below it again."""
        try:
            with _Line.external_write_mode(file=self.stream):
                super().emit(record)
        except GONE:
            self.handleError(record)
