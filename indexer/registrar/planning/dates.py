"""Heights as dates: when a block will probably be mined, and how that is said.

What must stay true: a date is an estimate from one known block and the usual spacing, and every
text says so; no height is too large for an answer.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from indexer.networks import Network

_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that calendars know
_SOON = 2 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Tip:
    """The last block known: its height, and the Unix time in seconds at which it was seen."""

    height: int
    time: int


@dataclass(frozen=True, slots=True)
class When:
    """A height and the Unix time (seconds) at which it will probably be reached."""

    height: int
    time: int
    soon: bool = False
    """Whether it is so close that the hour matters."""

    def __str__(self) -> str:
        if self.time > _LAST_SECOND:
            return f"block {self.height} (after the year 9999)"
        moment = datetime.fromtimestamp(self.time, UTC)
        day = f"{moment.day} {moment:%B %Y}"
        return (
            f"block {self.height} (about {day}{moment:, %H:%M UTC})"
            if self.soon
            else (f"block {self.height} (about {day})")
        )

    @property
    def day(self) -> str | None:
        """The day in ISO 8601; None: after the year 9999."""
        if self.time > _LAST_SECOND:
            return None
        return f"{datetime.fromtimestamp(self.time, UTC):%Y-%m-%d}"


def blocks_to_time(height: int, tip_height: int, tip_time: int, spacing: float) -> int:
    """The Unix time at which ``height`` will probably be reached; of past blocks, was."""
    return max(0, tip_time + round((height - tip_height) * spacing))


def when(height: int, tip: Tip, network: Network) -> When:
    """``height`` with its probable date on ``network``."""
    time = blocks_to_time(height, tip.height, tip.time, network.target_spacing)
    return When(height, time, soon=abs(time - tip.time) < _SOON)
