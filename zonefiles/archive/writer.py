"""The thread that writes for event loops: what comes while one batch syncs goes with the next.

What must stay true: a record's future is done only when the record is synced or never will be;
what waits is bounded in records and in bytes; after ``close`` nothing is written and nothing waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

Record = tuple[bytes, bytes]
"""A digest (20 bytes) and the data with that hash."""

MAX_WAITING = 4_096
MAX_WAITING_BYTES = 16 << 20


class ArchiveWriter:
    """Hands batches of records to ``put_many``, in one thread of its own.

    ``put_many`` gives for each record what it came to: a bool, or the exception of its future;
    what it raises is the exception of all. Any thread may call the methods.
    """

    def __init__(self, put_many: Callable[[Sequence[Record]], Sequence[bool | Exception]]) -> None:
        self._put_many = put_many
        self._lock = threading.Lock()
        self._waiting: list[tuple[Record, Future[bool]]] = []
        self._bytes = 0
        self._writing = False
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="archive")

    def submit(self, record: Record) -> Future[bool] | None:
        """Write ``record`` soon; None when too much waits already, or after ``close``."""
        kept: Future[bool] = Future()
        with self._lock:
            held = self._bytes + len(record[1])
            if self._closed or len(self._waiting) >= MAX_WAITING or held > MAX_WAITING_BYTES:
                return None
            self._waiting.append((record, kept))
            self._bytes = held
            if not self._writing:
                self._writing = True
                self._thread.submit(self._write_all)
        return kept

    def close(self) -> None:
        """Write what waits, and end; a second call does nothing."""
        with self._lock:
            self._closed = True
        self._thread.shutdown(wait=True)

    def _write_all(self) -> None:
        while batch := self._next_batch():
            wanted = [entry for entry in batch if entry[1].set_running_or_notify_cancel()]
            try:
                outcomes = self._put_many([record for record, _ in wanted])
            except Exception as error:  # noqa: BLE001 - those who wait must hear of it, whatever it is
                outcomes = [error] * len(wanted)
            for (_, kept), outcome in zip(wanted, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    kept.set_exception(outcome)
                else:
                    kept.set_result(outcome)

    def _next_batch(self) -> list[tuple[Record, Future[bool]]]:
        with self._lock:
            batch, self._waiting, self._bytes = self._waiting, [], 0
            self._writing = bool(batch)
            return batch
