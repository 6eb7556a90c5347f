"""What lets us in at a Bitcoin node, and when a password that was refused is shown again.

What must stay true: no credential is in any text that leaves here but the header itself; what a
cookie file holds is read anew each time; a password that was refused is shown to nobody for a
while, for whoever listens in the node's place may be another.
"""

import base64
import time
from pathlib import Path

from indexer.node.failures import NodeUnavailable, NotLetIn

MAX_COOKIE_BYTES = 4_096
LEAST_PAUSE, MOST_PAUSE = 60.0, 3600.0
"""Seconds for which a refused password is shown to nobody, doubled at each refusal."""


class Credentials:
    """Of one node at ``place``: of its cookie file where there is one, else user and password."""

    def __init__(self, user: str, password: str, cookie_file: Path | None, place: str) -> None:
        self._user, self._password = user, password
        self._cookie_file = cookie_file
        self._place = place
        self._pause, self._silent_until = 0.0, 0.0

    def __repr__(self) -> str:
        return "Credentials()"

    @property
    def is_lasting(self) -> bool:
        """Whether it is a password, which stays the same when the node starts anew."""
        return self._cookie_file is None and bool(self._password)

    def header(self) -> str:
        """The header Authorization. Raises NodeUnavailable, and NotLetIn where it was refused a
        moment ago."""
        user, password = self._user, self._password
        if self._cookie_file is not None:
            user, _, password = self._cookie().partition(":")
        elif self._pause and time.monotonic() < self._silent_until:
            raise NotLetIn(401, self._place)
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")

    def refused(self, failure: NotLetIn) -> bool:
        """Note that they were; whether others may be had at once."""
        if failure.status != 401 or self._cookie_file is not None:
            return failure.status == 401
        self._pause = min(MOST_PAUSE, 2 * self._pause or LEAST_PAUSE)
        self._silent_until = time.monotonic() + self._pause
        return False

    def taken(self) -> None:
        """Note that they let us in."""
        self._pause = 0.0

    def _cookie(self) -> str:
        assert self._cookie_file is not None
        try:
            with self._cookie_file.open("rb") as file:
                return file.read(MAX_COOKIE_BYTES).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise NodeUnavailable(
                f"cannot read the node's cookie file {self._cookie_file}; is bitcoind "
                "running, and may this user read the file?"
            ) from None
