"""A wish on its way to the chain: its steps, every transaction made for them, and what is next.

What must stay true: all attempts of one step spend the same first coin, so at most one of them can
ever be mined; an attempt is never taken out of a job again, only set aside (``Step.lost``,
``Step.forgone``); a job written as JSON is read back as it was, and anything else is refused with
a sentence. Pure.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Any

from pydantic import ConfigDict, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from indexer.bitcoin.transactions import TxOut
from indexer.networks import Network
from indexer.registrar.planning.steps import Parties, StepKind
from indexer.registrar.planning.wishes import MAX_MONEY, Wish, read_wish, wish_json
from indexer.wallet.coins import Coin, Unsigned

VERSION = 1
MAX_EVENTS = 200
MAX_ATTEMPTS = 200
"""How many transactions one step may have; it is raised or remade a few times in its life."""
MAX_RATE = 10**6
"""Satoshis a byte, of whatever a journal says."""
MAX_SAID = 300
_MOST = {
    **dict.fromkeys(("fee_rate", "max_fee_rate"), MAX_RATE),
    **dict.fromkeys(("time", "created"), 253_402_300_799),  # the end of the year 9999
    **dict.fromkeys(("made_at", "missing_since", "flawed_since", "closed_at"), 0xFFFFFFFF),
    "index": 0xFFFFFFFF,
}
"""The greatest that a whole number of this name may be; all others are satoshis."""
_ID = re.compile(r"[0-9a-z]{6,32}")


class BadJob(ValueError):
    """A document that is no job; ``str()`` says what is wrong with it."""


class State(Enum):
    """What a job waits for; the value is its name in JSON."""

    RUNNING = "running"
    """Nobody but the chain, the node and this daemon."""
    WAITING_FOR_SIGNATURE = "waiting-for-signature"
    NEEDS_CONSENT = "needs-consent"
    """Going on costs money that the plan did not name."""
    DONE = "done"
    FAILED = "failed"
    ABANDONED = "abandoned"

    @property
    def is_open(self) -> bool:
        """Whether the registrar still works on it."""
        return self not in (State.DONE, State.FAILED, State.ABANDONED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One transaction for a step. Amounts in satoshis, rates in satoshis a byte."""

    unsigned: Unsigned
    fee_rate: float
    """What the fee was computed with."""
    made_at: int
    """Height of the node's chain when it was made."""
    raw: bytes | None = None
    """Signed; None while somebody else has yet to sign it. On disk before it is sent."""
    txid: bytes | None = None
    psbt: str | None = None
    """What somebody else must sign (BIP 174, base64)."""
    price: int = 0
    """What it pays to nobody or to a namespace's creator: lost when it is mined."""
    consensus_hash: bytes | None = None
    """What its operation names; None where it names none."""
    cancels: bool = False
    """It pays the coins back and says nothing, so that no other attempt can be mined."""
    refusal: str | None = None
    """Why the node did not take it when it was last sent."""

    @property
    def first_coin(self) -> Coin:
        """What every attempt of its step spends."""
        return self.unsigned.coins[0]

    @property
    def brought(self) -> tuple[TxOut, ...]:
        """The outputs of a payment that bring a coin to a sender: its own job's first, then those
        of others."""
        return self.unsigned.outputs[: self.unsigned.change]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a job and all that was tried for it."""

    kind: StepKind
    attempts: tuple[Attempt, ...] = ()
    """Oldest first."""
    lost: tuple[Attempt, ...] = ()
    """Attempts whose first coin is gone: mined without effect, or spent by something else. Should
    the chain turn and one of them be accepted after all, the step is done by it."""
    forgone: tuple[Attempt, ...] = ()
    """Attempts that took effect, and the effect was of no use any more: they count for nothing."""
    done: bool = False
    """Of PUBLISH and VERIFY, and of a preorder that was paid before the job began; the chain says
    it of all others."""
    amount: int = 0
    """Satoshis that FUND moves to the sender."""
    missing_since: int | None = None
    """Height of the node at which the first coin was first seen to be gone."""
    flawed_since: int | None = None
    """Height of the node since which the step would have no effect."""

    @property
    def tried(self) -> tuple[Attempt, ...]:
        """Every attempt there ever was, those set aside first."""
        return (*self.forgone, *self.lost, *self.attempts)

    @property
    def signed(self) -> tuple[Attempt, ...]:
        """The attempts that may be on their way, oldest first."""
        return tuple(attempt for attempt in self.attempts if attempt.raw is not None)

    def anew(self, *, forgo: bool = False) -> "Step":
        """The step before its first attempt; what was tried is kept aside. ``forgo``: also
        what was accepted counts no more."""
        lost = (*self.lost, *self.attempts)
        fresh = replace(self, attempts=(), missing_since=None, flawed_since=None, done=False)
        if forgo:
            return replace(fresh, lost=(), forgone=(*self.forgone, *lost))
        return replace(fresh, lost=lost)


@dataclass(frozen=True, slots=True)
class Event:
    """A line of a job's history. ``time``: unix seconds."""

    time: int
    says: str


@dataclass(frozen=True, slots=True)
class Job:
    """A wish and how far it has come."""

    id: str
    wish: Annotated[
        Wish,
        PlainValidator(lambda wish, about: read_wish(wish, about.context)),
        PlainSerializer(lambda wish, about: wish_json(wish, about.context)),
    ]
    parties: Parties
    signer: str
    """The name under which the runner knows who signs."""
    steps: tuple[Step, ...]
    created: int
    """Unix seconds."""
    max_fee_rate: float
    """The most satoshis a byte that a miner is ever paid."""
    fee_rate: float | None = None
    """The satoshis a byte that its owner chose to begin with; None: what the node estimates."""
    state: State = State.RUNNING
    note: str = ""
    """A sentence for people: what is waited for, or what went wrong, and what was paid."""
    stopping: bool = False
    """Its owner gave it up: what is not mined yet is taken back where that can be."""
    closed_at: int | None = None
    """Height of the node when it was done, failed or abandoned."""
    history: tuple[Event, ...] = ()

    @property
    def subject(self) -> str:
        """The name or namespace that it is about."""
        return self.wish.subject

    @property
    def digest(self) -> bytes | None:
        """Hash of the data that the name shall hold; None: the wish names none."""
        value_hash: bytes | None = getattr(self.wish, "value_hash", None)
        return value_hash

    def attempts(self) -> Iterator[Attempt]:
        """Every transaction that was ever made for it."""
        for step in self.steps:
            yield from step.tried

    def with_step(self, index: int, step: Step) -> "Job":
        """The job with another state of one step."""
        return replace(self, steps=(*self.steps[:index], step, *self.steps[index + 1 :]))

    def with_attempt(self, index: int, attempt: Attempt) -> "Job":
        """The job with one more transaction for a step, which must spend the step's first coin.

        What was checked by resolving is to be checked again after it.
        """
        step = self.steps[index]
        if step.attempts and attempt.first_coin != step.attempts[0].first_coin:
            raise ValueError("every transaction of a step spends the same first coin")
        before = step.attempts
        if len(before) >= MAX_ATTEMPTS:
            # What nobody signed in all that time is forgotten first.
            unsigned = next((old for old in before if old.raw is None), None)
            if unsigned is None:
                raise ValueError(f"a step has at most {MAX_ATTEMPTS} transactions")
            before = tuple(old for old in before if old is not unsigned)
        grown = self.with_step(index, replace(step, attempts=(*before, attempt)))
        return replace(grown, steps=tuple(map(_unverified, grown.steps)))

    def with_changed(self, index: int, old: Attempt, new: Attempt) -> "Job":
        """The job with ``new`` in the place of the attempt ``old`` of a step."""
        step = self.steps[index]
        attempts = tuple(new if attempt is old else attempt for attempt in step.attempts)
        return self.with_step(index, replace(step, attempts=attempts))

    def noted(self, state: State, note: str, time: int) -> "Job":
        """The job in this state, with what people are told; itself where nothing changes."""
        if (state, note) == (self.state, self.note):
            return self
        history = (*self.history, Event(time, note))[-MAX_EVENTS:]
        return replace(self, state=state, note=note, history=history)


def _unverified(step: Step) -> Step:
    return replace(step, done=False) if step.kind is StepKind.VERIFY else step


# --- JSON


_SHAPE = TypeAdapter(
    list[Job],
    config=ConfigDict(
        strict=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex", allow_inf_nan=False
    ),
)
"""How a job is read and written, by the types of its fields. The context is the network."""


def job_json(job: Job, network: Network) -> dict[str, Any]:
    """``job`` as JSON: bytes as hex in the order of the wire. ``read_job`` is the inverse."""
    (members,) = _SHAPE.dump_python([job], mode="json", context=network)
    return {"version": VERSION, "network": network.name, **members}


def read_job(document: object, network: Network) -> Job:
    """The job that ``job_json`` wrote; raises ``BadJob`` for anything else."""
    if not isinstance(document, Mapping):
        raise BadJob("a job is a JSON object")
    members = {"fee_rate": None, **document}  # older jobs have none
    version, name = members.pop("version", None), members.pop("network", None)
    if version != VERSION:
        raise BadJob(f"this is a job of version {version!r:.40}, and only {VERSION} is known here")
    if name != network.name:
        raise BadJob(f"the job is of the network {name!r:.40}")
    _check_numbers(members, "")
    try:
        (job,) = _SHAPE.validate_json(json.dumps([members]), context=network)
    except ValidationError as flaws:
        flaw = flaws.errors(include_url=False)[0]
        where = ".".join(str(part) for part in flaw["loc"][1:])
        raise BadJob(f"{where}: {flaw['msg']}"[:MAX_SAID]) from None
    again = job_json(job, network)
    other = [name for name in members if name != "wish" and again[name] != members[name]]
    missing = [name for name in again if name not in members and name not in document]
    if other or missing:
        raise BadJob(f"members are missing of it, or of {', '.join(other + missing):.200}")
    if not _ID.fullmatch(job.id):
        raise BadJob("the id of a job has 6 to 32 characters of 0-9 and a-z")
    if any(not attempt.unsigned.coins for attempt in job.attempts()):
        raise BadJob("a transaction of the job spends nothing")
    for step in job.steps:
        if len({attempt.first_coin for attempt in step.attempts}) > 1:
            raise BadJob("the transactions of a step do not spend the same first coin")
    return job


def _check_numbers(value: object, where: str) -> None:
    """BadJob where a number is none, or not from 0 to the most of its name."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            _check_numbers(part, name)
    elif isinstance(value, list):
        for part in value:
            _check_numbers(part, where)
    elif isinstance(value, int | float):
        most = _MOST.get(where, MAX_MONEY)
        if not 0 <= value <= most:  # so is NaN
            raise BadJob(f"{where}: a number from 0 to {most} is needed, not {value!r:.40}")
