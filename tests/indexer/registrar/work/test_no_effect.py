"""What is next where something was lost, taken by others or given up, row by row."""

from dataclasses import replace

from indexer.protocol.flaws import Flaw
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.actions import Cancel, Replace, Send
from indexer.registrar.work.jobs import Job, State, Step
from indexer.registrar.work.observed import CoinState, Seen, Standing
from tests.indexer.registrar.work.cases import (
    ACCEPTED,
    BACK,
    MINED,
    NOW,
    REGISTRATION,
    TAKEN,
    WAITS,
    A,
    B,
    Next,
    anew,
    assert_next,
    job,
    registering,
    rewrite,
    rows,
    seen,
)


@rows(
    # coins that are gone
    (
        "gone, since now",
        registering(A),
        seen(coin=CoinState.GONE),
        rewrite(0, missing_since=NOW),
    ),
    (
        "the index will tell by whom",
        job(Step(StepKind.PREORDER, (A,), missing_since=NOW)),
        seen(coin=CoinState.GONE),
        (State.RUNNING, "when it has come to block 1000"),
    ),
    (
        "spent by somebody else",
        job(Step(StepKind.PREORDER, (A,), missing_since=NOW - 5)),
        seen(coin=CoinState.GONE),
        (State.NEEDS_CONSENT, "spent by another transaction. Nothing was paid."),
    ),
    (
        "it is there again",
        job(Step(StepKind.PREORDER, (A,), missing_since=NOW - 5)),
        seen(),
        rewrite(0, missing_since=None),
    ),
    (
        "what costs nothing begins anew",
        job(Step(StepKind.UPDATE, (replace(A, price=0),), missing_since=NOW - 5)),
        seen(coin=CoinState.GONE),
        anew(0),
    ),
    (
        "the coin of a transaction that was replaced",
        registering(A, B, register=(REGISTRATION,)),
        seen({B: ACCEPTED}, coin=CoinState.REPLACED),
        anew(1),
    ),
    # somebody else was quicker
    ("taken while unmined", registering(A), seen({A: WAITS}, flaw=TAKEN), Cancel(0, TAKEN.value)),
    (
        "taken while nowhere: it may be on its way",
        registering(A),
        seen(flaw=TAKEN),
        Cancel(0, TAKEN.value),
    ),
    (
        "taken when mined: too late",
        registering(A),
        seen({A: MINED}, flaw=TAKEN),
        (State.RUNNING, "waiting for the index"),
    ),
    (
        "taken when accepted",
        registering(A),
        seen({A: ACCEPTED}, flaw=TAKEN),
        (State.FAILED, "25000 satoshis were paid for it"),
    ),
    ("called back", registering(A, BACK), seen({A: WAITS}, flaw=TAKEN), Send(0, BACK)),
    (
        "paid back in a block",
        registering(A, BACK),
        seen({BACK: MINED}, flaw=TAKEN),
        (State.RUNNING, "paid back in a block with 2 of 6"),
    ),
    (
        "paid back for good",
        registering(A, BACK),
        seen({BACK: Standing(confirmations=6)}, flaw=TAKEN),
        (State.FAILED, "Nothing was paid but 5000 satoshis to miners."),
    ),
    (
        "it was mined instead of the payment back",
        registering(A, BACK),
        seen({A: ACCEPTED}, flaw=TAKEN),
        (State.FAILED, "25000 satoshis were paid"),
    ),
    (
        "a payment back knows no ceiling",
        registering(A, replace(BACK, fee_rate=150.0, made_at=NOW - 9)),
        seen({BACK: WAITS}, flaw=TAKEN),
        (Replace, "waited for 9 blocks"),
    ),
    (
        "the registration is on its way, and may be lost",
        registering(A, register=(REGISTRATION,)),
        seen({A: ACCEPTED, REGISTRATION: WAITS}, flaw=TAKEN),
        (State.RUNNING, "the register waits"),
    ),
    (
        "the registration is nowhere, and would be lost",
        registering(A, register=(REGISTRATION,)),
        seen({A: ACCEPTED}, flaw=TAKEN),
        (State.FAILED, "25000 satoshis were paid"),
    ),
    # the preorder grew too old
    (
        "slept over",
        registering(A),
        seen({A: ACCEPTED}, flaw=Flaw.PREORDER_EXPIRED),
        (State.NEEDS_CONSENT, "about 25000 satoshis"),
    ),
    # given up
    ("given up while unmined", registering(A, stopping=True), seen({A: WAITS}), (Cancel, "given")),
    (
        "given up after the preorder",
        registering(A, stopping=True),
        seen({A: ACCEPTED}),
        (State.ABANDONED, "25000 satoshis were paid"),
    ),
    (
        "given up with the registration on its way",
        registering(A, register=(REGISTRATION,), stopping=True),
        seen({A: ACCEPTED, REGISTRATION: WAITS}),
        (State.ABANDONED, "may still be mined"),
    ),
    (
        "given up and paid back",
        registering(A, BACK, stopping=True),
        seen({BACK: Standing(confirmations=6)}),
        (State.ABANDONED, "Nothing was paid but"),
    ),
)
def test_what_is_next_where_something_was_lost(given: Job, when: Seen, then: Next) -> None:
    assert_next(given, when, then)
