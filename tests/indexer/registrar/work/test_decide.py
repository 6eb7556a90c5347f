"""What is next for a job, row by row: what is seen of it, and the answer."""

from dataclasses import replace

from indexer.protocol.flaws import Flaw
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.actions import Make, OffChain, Send
from indexer.registrar.work.jobs import Job, State, Step
from indexer.registrar.work.no_effect import FLAW_PATIENCE
from indexer.registrar.work.observed import Seen, Standing
from tests.indexer.registrar.work.cases import (
    ACCEPTED,
    MINED,
    NOW,
    REFUSED,
    REGISTRATION,
    TAKEN,
    WAITS,
    A,
    B,
    Next,
    anew,
    assert_next,
    attempt,
    job,
    registering,
    rewrite,
    rows,
    seen,
)


@rows(
    # the first transaction of a step
    ("nothing was made", registering(), seen(), Make(0)),
    (
        "the index lags",
        registering(),
        seen(index_height=NOW - 9),
        (State.RUNNING, "waiting for the index"),
    ),
    ("the node lags", registering(), seen(node_is_current=False), (State.RUNNING, "newest blocks")),
    ("taken before", registering(), seen(flaw=TAKEN), (State.FAILED, "Nothing was paid.")),
    ("given up before", registering(stopping=True), seen(), (State.ABANDONED, "Nothing was paid.")),
    ("perhaps not for long", registering(), seen(flaw=Flaw.QUOTA), rewrite(0, flawed_since=NOW)),
    (
        "not for long",
        job(Step(StepKind.PREORDER, flawed_since=NOW - 1)),
        seen(flaw=Flaw.QUOTA),
        (State.RUNNING, "waiting whether that passes"),
    ),
    (
        "for too long",
        job(Step(StepKind.PREORDER, flawed_since=NOW - FLAW_PATIENCE)),
        seen(flaw=Flaw.QUOTA),
        (State.FAILED, "at most 25 names. Nothing was paid."),
    ),
    (
        "no more",
        job(Step(StepKind.PREORDER, flawed_since=NOW - 1)),
        seen(),
        rewrite(0, flawed_since=None),
    ),
    (
        "paid by us before, and forgotten",
        registering(),
        seen(flaw=Flaw.PREORDER_EXISTS),
        rewrite(0, done=True),
    ),
    (
        "paid by us before, and skipped",
        job(Step(StepKind.PREORDER, done=True), Step(StepKind.REGISTER)),
        seen(),
        Make(1),
    ),
    (
        "refused because another of ours stands",
        registering(A),
        seen({A: REFUSED}, flaw=Flaw.PREORDER_EXISTS),
        anew(0),
    ),
    # mined
    ("in a block", registering(A), seen({A: MINED}), (State.RUNNING, "2 of 6 confirmations")),
    ("another one in a block", registering(A, B), seen({A: MINED}), (State.RUNNING, "2 of 6")),
    ("accepted", registering(A), seen({A: ACCEPTED}), Make(1)),
    ("accepted, whichever it was", registering(A, B), seen({A: ACCEPTED, B: WAITS}), Make(1)),
    (
        "refused",
        registering(A),
        seen({A: REFUSED}),
        (State.NEEDS_CONSENT, "25000 satoshis were paid for it, and 5000 satoshis to miners."),
    ),
    (
        "refused, and it is taken",
        registering(A),
        seen({A: REFUSED}, flaw=TAKEN),
        (State.FAILED, "25000"),
    ),
    (
        "refused, and given up",
        registering(A, stopping=True),
        seen({A: REFUSED}),
        (State.ABANDONED, "25000 satoshis were paid"),
    ),
    # a reorganisation takes back what was accepted
    (
        "pending again",
        registering(A, register=(REGISTRATION,)),
        seen({A: WAITS, REGISTRATION: WAITS}),
        (State.RUNNING, "the preorder waits"),
    ),
    (
        "sent again",
        registering(A, register=(REGISTRATION,)),
        seen({A: Standing(), REGISTRATION: Standing()}),
        Send(0, A),
    ),
    (
        "accepted by a transaction that was set aside",
        job(Step(StepKind.PREORDER, (B,), lost=(A,)), Step(StepKind.VERIFY)),
        seen({A: ACCEPTED}),
        OffChain(1),
    ),
    (
        "what was forgone counts for nothing",
        job(Step(StepKind.PREORDER, (), forgone=(A,)), Step(StepKind.VERIFY)),
        seen({A: ACCEPTED}),
        Make(0),
    ),
    # money for the sender
    (
        "moved",
        job(Step(StepKind.FUND, (replace(A, price=0, consensus_hash=None),)), Step(StepKind.RENEW)),
        seen({A: MINED}),
        Make(1),
    ),
    (
        "moved, for what spends it waits",
        job(
            Step(StepKind.FUND, (replace(A, price=0, consensus_hash=None),)),
            Step(StepKind.RENEW, (attempt(2, coin=101),)),
        ),
        seen({attempt(2): WAITS}),
        (State.RUNNING, "the renew waits"),
    ),
    (
        "on its way",
        job(Step(StepKind.FUND, (replace(A, price=0, consensus_hash=None),)), Step(StepKind.RENEW)),
        seen({A: WAITS}),
        (State.RUNNING, "the fund waits"),
    ),
    # off the chain
    (
        "published next",
        registering(A, register=(REGISTRATION,)),
        seen({A: ACCEPTED, REGISTRATION: ACCEPTED}),
        OffChain(2),
    ),
    ("all done", job(Step(StepKind.VERIFY, done=True)), seen(), State.DONE),
)
def test_what_is_next(given: Job, when: Seen, then: Next) -> None:
    assert_next(given, when, then)
