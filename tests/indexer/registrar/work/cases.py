"""Jobs as they may stand, what may be seen of them, and whether the right thing is next."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from indexer.bitcoin.transactions import TxOut, p2pkh_script
from indexer.protocol.flaws import Flaw
from indexer.protocol.schema import Verdict
from indexer.registrar.planning.steps import Parties, StepKind
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.actions import Action, Replace, Rest, Rewrite
from indexer.registrar.work.decide import FRESH_BLOCKS, PATIENCE, decide
from indexer.registrar.work.jobs import Attempt, Job, State, Step
from indexer.registrar.work.observed import Seen, Standing
from indexer.wallet.coins import Coin, Unsigned

OURS = p2pkh_script(b"\x01" * 20)
NOW, PRICE = 1000, 25_000
FRESH, STALE, UNKNOWN = b"f" * 16, b"s" * 16, b"u" * 16
"""Consensus hashes: of the last block, of one that can hardly be named any more, of none."""

WAITS = Standing(in_mempool=True)
MINED = Standing(confirmations=2)
ACCEPTED = Standing(Verdict(990, 1, "?", "", None), 1)
REFUSED = Standing(Verdict(990, 1, "?", "", Flaw.CONSENSUS_HASH.name), 1)


def attempt(number: int = 1, *, coin: int = 1, **changes: Any) -> Attempt:
    """A signed preorder, ``number`` of its kind, that spends coin number ``coin``."""
    spent = Coin(bytes((coin,)) * 32, 0, 100_000, OURS)
    values: dict[str, Any] = {
        "unsigned": Unsigned((spent,), (TxOut(70_000, OURS),), 5_000, 0),
        "fee_rate": 20.0,
        "made_at": NOW,
        "raw": b"raw",
        "txid": (100 + number).to_bytes(2, "big") * 16,
        "price": PRICE,
        "consensus_hash": FRESH,
    }
    return Attempt(**(values | changes))


def cancelling(**changes: Any) -> Attempt:
    """The payment back of the coins of ``attempt``."""
    return attempt(9, price=0, consensus_hash=None, cancels=True, fee_rate=25.0, **changes)


def job(*steps: Step, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": "job00001",
        "wish": RegisterName("alice.id", b"\x07" * 20),
        "parties": Parties(OURS, OURS),
        "signer": "purse",
        "steps": steps,
        "created": 0,
        "max_fee_rate": 100.0,
    }
    return Job(**(values | changes))


def registering(*attempts: Attempt, register: tuple[Attempt, ...] = (), **changes: Any) -> Job:
    """A registration whose preorder has these transactions."""
    return job(
        Step(StepKind.PREORDER, attempts),
        Step(StepKind.REGISTER, register),
        Step(StepKind.PUBLISH),
        Step(StepKind.VERIFY),
        **changes,
    )


def seen(standings: dict[Attempt, Standing] | None = None, **changes: Any) -> Seen:
    values: dict[str, Any] = {
        "node_height": NOW,
        "index_height": NOW - 5,
        "confirmations": 6,
        "fee_rate": 20.0,
        "standings": {a.txid: standing for a, standing in (standings or {}).items()},
        "usable_until": {FRESH: NOW + 19, STALE: NOW + FRESH_BLOCKS - 1},
    }
    return Seen(**(values | changes))


A, B = attempt(1), attempt(2, fee_rate=30.0)
OLD = attempt(3, consensus_hash=STALE)
LOST = attempt(4, consensus_hash=UNKNOWN)
PAPER = replace(A, raw=None, txid=None, psbt="cHNidP8=")
REGISTRATION = attempt(5, coin=2, price=0, consensus_hash=None)
BACK = cancelling()
TAKEN = Flaw.NAME_TAKEN

FUND = attempt(40, coin=7, price=0, consensus_hash=None)
MANY = tuple(attempt(100 + n, made_at=NOW - PATIENCE) for n in range(150))
REPLACED = (Replace, "it has waited")


def funded(fund: Attempt, **changes: Any) -> Job:
    """A registration whose preorder waits, and coins that are moved so that it can be replaced."""
    waits = replace(A, made_at=NOW - PATIENCE)
    steps = registering(waits).steps
    return job(Step(StepKind.FUND, (fund,), amount=70_000), *steps, **changes)


Next = Action | type | State | tuple[type | State, str] | Callable[[Job], Action]
"""What is next: the action, its type or the state of the job, or one of these and words that it
says, or how it follows from the job."""
Row = tuple[str, Job, Seen, Next]
"""Its name, a job, what is seen of it, and what is next."""


def anew(index: int) -> Callable[[Job], Action]:
    """A step begins again."""
    return lambda given: Rewrite(index, given.steps[index].anew())


def rewrite(index: int, **changes: Any) -> Callable[[Job], Action]:
    """A step is written down with these changes."""
    return lambda given: Rewrite(index, replace(given.steps[index], **changes))


def rows(*table: Row) -> pytest.MarkDecorator:
    """A claim about each row of a table."""
    return pytest.mark.parametrize(
        ("given", "when", "then"), [row[1:] for row in table], ids=[row[0] for row in table]
    )


def assert_next(given: Job, when: Seen, then: Next) -> None:
    """This is next, whatever the job's note says; what replaces pays more than all before it."""
    action = decide(given, when)
    wanted, words = then if isinstance(then, tuple) else (then, "")
    if isinstance(wanted, State):
        assert isinstance(action, Rest), action
        assert action.state is wanted
    elif isinstance(wanted, type):
        assert isinstance(action, wanted), action
    else:
        assert action == (wanted(given) if callable(wanted) else wanted)
    assert words in getattr(action, "why", "")
    assert decide(given.noted(State.NEEDS_CONSENT, "something else", 7), when) == action
    signed = given.steps[action.step].signed if isinstance(action, Replace) else ()
    if any(when.of(one).in_mempool for one in signed):
        before = max(a.fee_rate for a in given.steps[action.step].signed)
        assert action.fee_rate >= before + when.relay_step
