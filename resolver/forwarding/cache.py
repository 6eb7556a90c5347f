"""Answers of ordinary DNS, kept as long as they may be and no more than fits; time is an argument.

What must stay true: no answer is given as fresh beyond its TTL, and what is given counts down;
negative answers are kept as RFC 2308 says and failures for seconds only; what is past its TTL is
kept on for the day on which nobody answers (RFC 8767); the bytes held never exceed the bound, and
what was asked for longest ago goes first.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

from resolver.dns.answer import Answer, Basis, ExtendedError
from resolver.dns.codes import ErrorCode, Rcode
from resolver.dns.lookup import RecordSet
from resolver.forwarding.query import Question

MOST_TTL = 86_400
MOST_NEGATIVE_TTL = 10_800  # RFC 2308 5
FAILURE_TTL = 5  # RFC 9520 3.2: at least 1, at most 300
MOST_STALE = 86_400.0
STALE_TTL = 30  # RFC 8767 4
RETRY_STALE_AFTER = 30.0
"""Seconds after a failed refresh during which a stale answer is given at once (RFC 8767 5)."""

_ENTRY_OVERHEAD = 700
_SET_OVERHEAD = 250
_RDATA_OVERHEAD = 50


@dataclass(slots=True)
class _Entry:
    answer: Answer
    stored: float
    ttl: int
    size: int
    retry_at: float = 0.0


class ForwardCache:
    """At most ``max_bytes`` of answers, estimated with their overhead in memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Question, _Entry] = OrderedDict()
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question, now: float) -> Answer | None:
        """A fresh answer, its TTLs counted down."""
        entry = self._entries.get(question)
        if entry is None or now - entry.stored >= entry.ttl:
            return None
        self._entries.move_to_end(question)
        age = now - entry.stored
        return replace(_aged(entry.answer, int(age)), basis=Basis(seconds=int(entry.ttl - age)))

    def stale(self, question: Question, now: float) -> Answer | None:
        """An answer past its time, marked as such, if it is not too old and no failure."""
        entry = self._entries.get(question)
        if (
            entry is None
            or entry.answer.rcode == Rcode.SERVFAIL
            or now - entry.stored - entry.ttl >= MOST_STALE
        ):
            return None
        self._entries.move_to_end(question)
        missing = entry.answer.rcode == Rcode.NXDOMAIN
        code = ErrorCode.STALE_NXDOMAIN if missing else ErrorCode.STALE_ANSWER
        late = max(0, int(now - entry.stored - entry.ttl))
        remark = ExtendedError(code, f"expired {late} seconds ago, and no upstream answers")
        return _aged(entry.answer, None).with_errors((remark,))

    def stale_at_once(self, question: Question, now: float) -> Answer | None:
        """A stale answer, while a refresh has failed so shortly ago that none is worth a try."""
        entry = self._entries.get(question)
        if entry is None or now >= entry.retry_at:
            return None
        return self.stale(question, now)

    def refresh_failed(self, question: Question, now: float) -> None:
        """Nobody could tell anew; for a while nobody is asked."""
        entry = self._entries.get(question)
        if entry is not None:
            entry.retry_at = now + RETRY_STALE_AFTER

    def put(self, question: Question, answer: Answer, ttl: int, now: float) -> None:
        """Keep ``answer`` for ``ttl`` seconds (0: not at all)."""
        negative = answer.rcode == Rcode.NXDOMAIN or not answer.answer
        ttl = min(ttl, MOST_NEGATIVE_TTL if negative else MOST_TTL)
        self._drop(question)
        if ttl <= 0:
            return
        size = _size(question, answer)
        if size > self._max_bytes // 8:
            return  # one answer must not push out all others
        self._entries[question] = _Entry(answer, now, ttl, size)
        self.bytes_held += size
        while self.bytes_held > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def put_failure(self, question: Question, answer: Answer, now: float) -> None:
        """Keep a failure for seconds, unless there is something better, however old."""
        if self.stale(question, now) is None:
            self.put(question, answer, FAILURE_TTL, now)

    def _drop(self, question: Question) -> None:
        entry = self._entries.pop(question, None)
        if entry is not None:
            self.bytes_held -= entry.size


def _aged(answer: Answer, age: int | None) -> Answer:
    """``answer`` with TTLs ``age`` seconds less; None: with those of a stale one."""

    def older(sets: tuple[RecordSet, ...]) -> tuple[RecordSet, ...]:
        if age is None:
            return tuple(replace(records, ttl=STALE_TTL) for records in sets)
        return tuple(replace(records, ttl=max(0, records.ttl - age)) for records in sets)

    if age == 0:
        return answer
    return replace(
        answer,
        answer=older(answer.answer),
        authority=older(answer.authority),
        additional=older(answer.additional),
    )


def _size(question: Question, answer: Answer) -> int:
    sets = (*answer.answer, *answer.authority, *answer.additional)
    return (
        _ENTRY_OVERHEAD
        + sum(len(label) + 34 for label in question.qname)
        + sum(
            _SET_OVERHEAD
            + sum(len(label) + 34 for label in records.owner)
            + sum(len(rdata) + _RDATA_OVERHEAD for rdata in records.rdatas)
            for records in sets
        )
        + sum(len(error.text) + 100 for error in answer.errors)
    )
