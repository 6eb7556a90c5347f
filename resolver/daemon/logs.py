"""The log: one line an event, in a file that rotates, and on stderr in the foreground.

No credential reaches it (URLs and known secrets are cut out of the finished line), no line break
comes from outside, and one warning repeated a thousand times is ten lines and a count.
"""

import copy
import logging
import logging.handlers
import os
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from io import TextIOWrapper

from resolver.process.own_files import open_own
from resolver.settings.table import Settings
from resolver.settings.types import HIDDEN, without_credentials

REPEATS = 10
REPEAT_WINDOW = 60.0
MAX_KINDS = 1000
MAX_LINE = 2000
SHORT = 8

# Libraries that log every datagram, or tracebacks for what strangers send.
_QUIET = {
    "kademlia": logging.ERROR,
    "rpcudp": logging.ERROR,
    "BitcoinRPC": logging.WARNING,
    "asyncio": logging.WARNING,
    "hpack": logging.WARNING,  # which would tell who asked what
    "blockstore.twisted": logging.WARNING,
}
_WRITTEN = "is_written"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class LineFormatter(logging.Formatter):
    """A record as one line without secrets; a traceback follows only where ``tracebacks`` are."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(
        self,
        secrets: Iterable[str] = (),
        *,
        tracebacks: bool = True,
        completed: Callable[[str], str] = str,
    ) -> None:
        """``completed`` is given a message whose commands do not say which daemon is meant."""
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._tracebacks = tracebacks
        self._completed = completed
        longest_first = sorted((s for s in secrets if s), key=len, reverse=True)
        self._secrets = [re.compile(_where(secret)) for secret in longest_first]

    def formatMessage(self, record: logging.LogRecord) -> str:
        # What strangers send must not begin a line of its own.
        record.message = self._completed(_CONTROLS.sub(_escaped, record.message)[:MAX_LINE])
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and not self._tracebacks:
            record = copy.copy(record)
            record.exc_info = record.exc_text = record.stack_info = None
        line = without_credentials(super().format(record))
        for secret in self._secrets:
            line = secret.sub(HIDDEN, line)
        return line


def _where(secret: str) -> str:
    """A short one only where it is a word: cut out of words it would be told by what is missing."""
    found = re.escape(secret)
    return found if len(secret) >= SHORT else rf"(?<!\w){found}(?!\w)"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


class RepeatLimit(logging.Filter):
    """At most ``REPEATS`` records of one kind (logger, level, message template) in a window.

    The first record of the next window says how many were left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written. Every output asks, and the record is counted once."""
        if not hasattr(record, _WRITTEN):
            setattr(record, _WRITTEN, self._counted(record))
        return bool(getattr(record, _WRITTEN))

    def _counted(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind = (record.name, record.levelno, str(record.msg)[:200])
        now = self._clock()
        since, count = self._seen.get(kind, (now, 0))
        if now - since >= REPEAT_WINDOW:
            left_out = count - REPEATS
            since, count = now, 0
            if left_out > 0:
                record.msg = f"{record.getMessage()} ({left_out} more like this were left out)"
                record.args = None
        if len(self._seen) >= MAX_KINDS and kind not in self._seen:
            self._seen.clear()
        self._seen[kind] = (since, count + 1)
        return count < REPEATS


class ReopeningFile(logging.handlers.RotatingFileHandler):
    """A rotating log file that can be opened anew after another program moved it away."""

    def _open(self) -> TextIOWrapper:
        """As the stock handler, but no link is followed, and nobody else's file written."""
        descriptor = open_own(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def reopen(self) -> None:
        """Close the file and open its name again."""
        self.acquire()
        try:
            if self.stream is not None:
                self.stream.close()
            self.stream = self._open()
        finally:
            self.release()


def open_log(settings: Settings, terminal: logging.Handler | None = None) -> ReopeningFile:
    """Direct all logging to the log file, and to ``terminal`` in the same form. Raises OSError."""
    settings.log_file.parent.mkdir(parents=True, exist_ok=True)
    file = ReopeningFile(
        settings.log_file,
        maxBytes=settings.log_max_bytes,
        backupCount=settings.log_backups,
        encoding="utf-8",
        errors="backslashreplace",
    )
    outputs: list[logging.Handler] = [file]
    if terminal is not None:
        outputs.append(terminal)
    secrets = [settings.node_password or ""]
    completed = partial(settings.whereabouts.completed, environ=os.environ)
    limit = RepeatLimit()
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    for output in outputs:
        output.addFilter(limit)
        root.addHandler(output)
        # A person at the terminal is spared the tracebacks; the file has them.
        output.setFormatter(LineFormatter(secrets, tracebacks=output is file, completed=completed))
    root.setLevel(settings.log_level.upper())
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, root.level))
    logging.captureWarnings(True)
    # A full disk must not turn every log line into a traceback on stderr.
    logging.raiseExceptions = False
    return file


def bridge_twisted() -> None:
    """Lead what Twisted logs into standard logging. Call once, before the reactor runs."""
    from twisted.logger import STDLibLogObserver, globalLogBeginner

    globalLogBeginner.beginLoggingTo(
        [STDLibLogObserver(name="blockstore.twisted")],
        redirectStandardIO=False,
        discardBuffer=True,
    )
