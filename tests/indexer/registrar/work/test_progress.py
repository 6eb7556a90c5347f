"""A job that goes on after all: what is begun again, and what is not."""

from dataclasses import replace

from indexer.protocol.flaws import Flaw
from indexer.registrar.work.actions import Make, Rest
from indexer.registrar.work.decide import decide
from indexer.registrar.work.jobs import State
from indexer.registrar.work.observed import Standing
from indexer.registrar.work.progress import consented, reopened, turned_by_chain
from tests.indexer.registrar.work.cases import (
    ACCEPTED,
    BACK,
    NOW,
    REFUSED,
    REGISTRATION,
    A,
    registering,
    seen,
)


def test_with_consent_a_refused_preorder_is_paid_again() -> None:
    given, when = registering(A), seen({A: REFUSED})
    action = decide(given, when)
    assert isinstance(action, Rest)
    assert action.state is State.NEEDS_CONSENT
    again = consented(given, action, when)
    assert decide(again, when) == Make(0)
    assert again.steps[0].tried == (A,)


def test_with_consent_a_preorder_that_grew_too_old_is_paid_again() -> None:
    given, when = registering(A), seen({A: ACCEPTED}, flaw=Flaw.PREORDER_EXPIRED)
    action = decide(given, when)
    assert isinstance(action, Rest)
    assert action.state is State.NEEDS_CONSENT
    again = consented(given, action, when)
    assert decide(again, seen({A: ACCEPTED})) == Make(0)
    assert again.steps[0].forgone == (A,)


def test_a_job_is_opened_again_where_the_chain_takes_back_its_end() -> None:
    done = registering(A, register=(REGISTRATION,), state=State.DONE, closed_at=NOW)
    both = {A.txid: ACCEPTED, REGISTRATION.txid: ACCEPTED}
    assert turned_by_chain(done, both) is None
    turned = turned_by_chain(done, {A.txid: ACCEPTED})
    assert turned is not None
    assert (turned[1], turned[0].closed_at) == (State.RUNNING, None)


def test_a_preorder_that_was_mined_after_all_is_told_once() -> None:
    failed = registering(A, BACK, state=State.FAILED, closed_at=NOW)
    assert turned_by_chain(failed, {}) is None
    turned = turned_by_chain(failed, {A.txid: ACCEPTED})
    assert turned is not None
    again, state, why = turned
    assert (state, "25000 satoshis were paid" in why) == (State.RUNNING, True)
    assert again.steps[0].tried == (BACK, A)
    assert decide(again, seen({A: ACCEPTED})) == Make(1)
    assert turned_by_chain(replace(again, state=State.FAILED), {A.txid: ACCEPTED}) is None
    given_up = turned_by_chain(replace(failed, state=State.ABANDONED), {A.txid: ACCEPTED})
    assert given_up is not None
    assert given_up[1] is State.ABANDONED


def test_a_job_that_was_taken_back_begins_again_when_it_is_opened_again() -> None:
    when = seen({BACK: Standing(confirmations=6)})
    ended = registering(A, BACK, state=State.ABANDONED, stopping=True, closed_at=NOW)
    again = reopened(ended, when)
    assert (again.state, again.stopping, again.closed_at) == (State.RUNNING, False, None)
    assert decide(again, when) == Make(0)
