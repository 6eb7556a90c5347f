"""What is next for a job, row by row: what is seen of it, and the answer."""

from dataclasses import replace

from indexer.protocol.flaws import Flaw
from indexer.registrar.planning.steps import StepKind
from indexer.registrar.work.actions import (
    Abandon,
    Action,
    Anew,
    AskConsent,
    Fail,
    Finish,
    Make,
    Publish,
    Remember,
    Send,
    Skip,
    Verify,
    Wait,
)
from indexer.registrar.work.jobs import Job, Step
from indexer.registrar.work.lost import FLAW_PATIENCE
from indexer.registrar.work.seen import Seen, Standing
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
    assert_next,
    attempt,
    job,
    registering,
    rows,
    seen,
)


@rows(
    # the first transaction of a step
    ("nothing was made", registering(), seen(), Make(0)),
    ("the index lags", registering(), seen(index_height=NOW - 9), (Wait, "waiting for the index")),
    ("the node lags", registering(), seen(node_is_current=False), (Wait, "newest blocks")),
    ("taken before", registering(), seen(flaw=TAKEN), (Fail, "Nothing was paid.")),
    ("given up before", registering(stopping=True), seen(), (Abandon, "Nothing was paid.")),
    ("perhaps not for long", registering(), seen(flaw=Flaw.QUOTA), Remember(0, None, NOW)),
    (
        "not for long",
        job(Step(StepKind.PREORDER, flawed_since=NOW - 1)),
        seen(flaw=Flaw.QUOTA),
        (Wait, "waiting whether that passes"),
    ),
    (
        "for too long",
        job(Step(StepKind.PREORDER, flawed_since=NOW - FLAW_PATIENCE)),
        seen(flaw=Flaw.QUOTA),
        (Fail, "at most 25 names. Nothing was paid."),
    ),
    (
        "no more",
        job(Step(StepKind.PREORDER, flawed_since=NOW - 1)),
        seen(),
        Remember(0, None, None),
    ),
    (
        "paid by us before, and forgotten",
        registering(),
        seen(flaw=Flaw.PREORDER_EXISTS),
        Skip(0),
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
        Anew(0),
    ),
    # mined
    ("in a block", registering(A), seen({A: MINED}), (Wait, "2 of 6 confirmations")),
    ("another one in a block", registering(A, B), seen({A: MINED}), (Wait, "2 of 6")),
    ("accepted", registering(A), seen({A: ACCEPTED}), Make(1)),
    ("accepted, whichever it was", registering(A, B), seen({A: ACCEPTED, B: WAITS}), Make(1)),
    (
        "refused",
        registering(A),
        seen({A: REFUSED}),
        (AskConsent, "25000 satoshis were paid for it, and 5000 satoshis to miners."),
    ),
    ("refused, and it is taken", registering(A), seen({A: REFUSED}, flaw=TAKEN), (Fail, "25000")),
    (
        "refused, and given up",
        registering(A, stopping=True),
        seen({A: REFUSED}),
        (Abandon, "25000 satoshis were paid"),
    ),
    # a reorganisation takes back what was accepted
    (
        "pending again",
        registering(A, register=(REGISTRATION,)),
        seen({A: WAITS, REGISTRATION: WAITS}),
        (Wait, "the preorder waits"),
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
        Verify(1),
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
        (Wait, "the renew waits"),
    ),
    (
        "on its way",
        job(Step(StepKind.FUND, (replace(A, price=0, consensus_hash=None),)), Step(StepKind.RENEW)),
        seen({A: WAITS}),
        (Wait, "the fund waits"),
    ),
    # off the chain
    (
        "published next",
        registering(A, register=(REGISTRATION,)),
        seen({A: ACCEPTED, REGISTRATION: ACCEPTED}),
        Publish(2),
    ),
    ("all done", job(Step(StepKind.VERIFY, done=True)), seen(), Finish()),
)
def test_what_is_next(given: Job, when: Seen, then: Action | type | tuple[type, str]) -> None:
    assert_next(given, when, then)
