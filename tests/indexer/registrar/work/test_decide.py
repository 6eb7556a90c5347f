"""What is next for a job, row by row: what is seen of it, and the answer."""

from dataclasses import replace
from typing import Any

import pytest

from indexer.bitcoin.transactions import TxOut, p2pkh_script
from indexer.protocol.flaws import Flaw
from indexer.protocol.schema import Verdict
from indexer.registrar.planning.steps import Parties, StepKind
from indexer.registrar.planning.wishes import RegisterName
from indexer.registrar.work.actions import (
    Abandon,
    Action,
    Anew,
    AskConsent,
    AwaitSignature,
    Cancel,
    Fail,
    Finish,
    Make,
    Publish,
    Remember,
    Replace,
    Send,
    Skip,
    Verify,
    Wait,
)
from indexer.registrar.work.decide import (
    FLAW_PATIENCE,
    FRESH_BLOCKS,
    PATIENCE,
    consented,
    decide,
    reopened,
    turned_by_chain,
)
from indexer.registrar.work.jobs import Attempt, Job, State, Step
from indexer.registrar.work.seen import CoinState, Seen, Standing
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


TABLE: list[tuple[str, Job, Seen, Action | type | tuple[type, str]]] = [
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
    # on its way
    ("written down, not sent", registering(A), seen(), Send(0, A)),
    ("evicted, or never arrived", registering(A), seen({A: Standing()}), Send(0, A)),
    ("waiting", registering(A), seen({A: WAITS}), (Wait, "waits for a block")),
    ("just sent", registering(A), seen(sent=frozenset([A.txid])), (Wait, "does not show it yet")),
    (
        "the latest is sent, not the one before",
        registering(A, B),
        seen({A: WAITS}),
        Send(0, B),
    ),
    ("not while the node lags", registering(A), seen(node_is_current=False), Wait),
    ("not while the index lags", registering(A), seen(index_height=900), Wait),
    # consensus hashes that grow old
    ("old in the mempool", registering(OLD), seen({OLD: WAITS}), (Replace, "too old")),
    ("old and nowhere", registering(OLD), seen(), (Replace, "too old")),
    ("of a block that is gone", registering(LOST), seen({LOST: WAITS}), (Replace, "too old")),
    (
        "too old to send, and no newer one is known",
        registering(LOST),
        seen(index_height=900),
        (Wait, "waiting for the index"),
    ),
    (
        "old, but the index knows none newer",
        registering(OLD),
        seen({OLD: WAITS}, usable_until={STALE: NOW + 1}),
        (Wait, "waits for a block"),
    ),
    (
        "old, at the highest fee",
        registering(replace(OLD, fee_rate=99.5)),
        seen({OLD: WAITS}),
        (Wait, "may pay by itself is"),
    ),
    # fees
    (
        "not yet raised",
        registering(replace(A, made_at=NOW - PATIENCE + 1)),
        seen({A: WAITS}, fee_rate=60.0),
        Wait,
    ),
    (
        "raised to what miners ask for",
        registering(replace(A, made_at=NOW - PATIENCE)),
        seen({A: WAITS}, fee_rate=60.0),
        Replace(0, 60.0, "it has waited for 3 blocks"),
    ),
    (
        "the estimate says it is enough",
        registering(replace(A, made_at=NOW - PATIENCE)),
        seen({A: WAITS}),
        Wait,
    ),
    (
        "the estimate is wrong for too long",
        registering(replace(A, made_at=NOW - 2 * PATIENCE)),
        seen({A: WAITS}),
        Replace(0, 25.0, "it has waited for 6 blocks"),
    ),
    (
        "never above the ceiling",
        registering(replace(A, made_at=NOW - PATIENCE)),
        seen({A: WAITS}, fee_rate=5000.0),
        Replace(0, 80.0, "it has waited for 3 blocks"),
    ),
    (
        "at the ceiling",
        registering(replace(A, fee_rate=79.5, made_at=NOW - 50)),
        seen({A: WAITS}, fee_rate=5000.0),
        (Wait, "the most that this job may pay by itself is 100.0"),
    ),
    (
        "the node wants more for its mempool",
        registering(replace(A, refusal="mempool min fee not met, 10 < 20")),
        seen(sent=frozenset([A.txid]), fee_rate=40.0),
        Replace(0, 40.0, "the node asks for a higher fee"),
    ),
    (
        "the node wants more for a replacement",
        registering(A, replace(B, refusal="insufficient fee, rejecting replacement")),
        seen({A: WAITS}, sent=frozenset([B.txid])),
        Replace(0, 37.5, "the node asks for a higher fee"),
    ),
    (
        "refused for its fee time and again",
        registering(*(replace(attempt(n), refusal="insufficient fee") for n in range(6))),
        seen(sent=frozenset([attempt(5).txid])),
        (Wait, "after the next block"),
    ),
    (
        "made more often than can be written down",
        registering(*(attempt(n, made_at=NOW - PATIENCE) for n in range(50)), *MANY),
        seen({MANY[-1]: WAITS}, fee_rate=60.0),
        (Wait, "not made anew any more"),
    ),
    # coins that are moved so that a transaction which waits can be replaced
    (
        "coins must be moved first",
        funded(FUND),
        seen({A: WAITS}, fee_rate=60.0),
        Send(0, FUND),
    ),
    ("they are on their way", funded(FUND), seen({A: WAITS, FUND: WAITS}, fee_rate=60.0), Wait),
    (
        "their coins were spent elsewhere",
        funded(replace(FUND, refusal="bad-txns-inputs-missingorspent")),
        seen({A: WAITS}, fee_rate=60.0),
        Anew(0),
    ),
    ("they are there", funded(FUND), seen({A: WAITS, FUND: MINED}, fee_rate=60.0), REPLACED),
    ("fees fell meanwhile", funded(FUND), seen({A: WAITS}), (Wait, "waits for a block")),
    ("given up meanwhile", funded(FUND, stopping=True), seen({A: WAITS}), Cancel),
    ("taken meanwhile", funded(FUND), seen({A: WAITS}, flaw=TAKEN), Cancel),
    ("mined meanwhile", funded(FUND), seen({A: ACCEPTED}), Make(2)),
    (
        "refused for another reason",
        registering(replace(A, refusal="txn-mempool-conflict")),
        seen(sent=frozenset([A.txid])),
        (Wait, "txn-mempool-conflict. Nothing was paid."),
    ),
    (
        "taken without a word and kept by nobody",
        registering(replace(A, made_at=NOW - PATIENCE)),
        seen(sent=frozenset([A.txid])),
        (Replace, "no node keeps it"),
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
    # coins that are gone
    (
        "gone, since now",
        registering(A),
        seen(coin=CoinState.GONE),
        Remember(0, NOW, None),
    ),
    (
        "the index will tell by whom",
        job(Step(StepKind.PREORDER, (A,), missing_since=NOW)),
        seen(coin=CoinState.GONE),
        (Wait, "when it has come to block 1000"),
    ),
    (
        "spent by somebody else",
        job(Step(StepKind.PREORDER, (A,), missing_since=NOW - 5)),
        seen(coin=CoinState.GONE),
        (AskConsent, "spent by another transaction. Nothing was paid."),
    ),
    (
        "it is there again",
        job(Step(StepKind.PREORDER, (A,), missing_since=NOW - 5)),
        seen(),
        Remember(0, None, None),
    ),
    (
        "what costs nothing begins anew",
        job(Step(StepKind.UPDATE, (replace(A, price=0),), missing_since=NOW - 5)),
        seen(coin=CoinState.GONE),
        Anew(0),
    ),
    (
        "the coin of a transaction that was replaced",
        registering(A, B, register=(REGISTRATION,)),
        seen({B: ACCEPTED}, coin=CoinState.REPLACED),
        Anew(1),
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
        (Wait, "waiting for the index"),
    ),
    (
        "taken when accepted",
        registering(A),
        seen({A: ACCEPTED}, flaw=TAKEN),
        (Fail, "25000 satoshis were paid for it"),
    ),
    ("called back", registering(A, BACK), seen({A: WAITS}, flaw=TAKEN), Send(0, BACK)),
    (
        "paid back in a block",
        registering(A, BACK),
        seen({BACK: MINED}, flaw=TAKEN),
        (Wait, "paid back in a block with 2 of 6"),
    ),
    (
        "paid back for good",
        registering(A, BACK),
        seen({BACK: Standing(confirmations=6)}, flaw=TAKEN),
        (Fail, "Nothing was paid but 5000 satoshis to miners."),
    ),
    (
        "it was mined instead of the payment back",
        registering(A, BACK),
        seen({A: ACCEPTED}, flaw=TAKEN),
        (Fail, "25000 satoshis were paid"),
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
        (Wait, "the register waits"),
    ),
    (
        "the registration is nowhere, and would be lost",
        registering(A, register=(REGISTRATION,)),
        seen({A: ACCEPTED}, flaw=TAKEN),
        (Fail, "25000 satoshis were paid"),
    ),
    # the preorder grew too old
    (
        "slept over",
        registering(A),
        seen({A: ACCEPTED}, flaw=Flaw.PREORDER_EXPIRED),
        (AskConsent, "about 25000 satoshis"),
    ),
    # given up
    ("given up while unmined", registering(A, stopping=True), seen({A: WAITS}), (Cancel, "given")),
    (
        "given up after the preorder",
        registering(A, stopping=True),
        seen({A: ACCEPTED}),
        (Abandon, "25000 satoshis were paid"),
    ),
    (
        "given up with the registration on its way",
        registering(A, register=(REGISTRATION,), stopping=True),
        seen({A: ACCEPTED, REGISTRATION: WAITS}),
        (Abandon, "may still be mined"),
    ),
    (
        "given up and paid back",
        registering(A, BACK, stopping=True),
        seen({BACK: Standing(confirmations=6)}),
        (Abandon, "Nothing was paid but"),
    ),
    # signed elsewhere
    ("to be signed elsewhere", registering(PAPER), seen(), (AwaitSignature, "Nothing was paid.")),
    (
        "signed too late",
        registering(replace(PAPER, consensus_hash=STALE)),
        seen(),
        (Replace, "too old"),
    ),
    (
        "never signed, and taken",
        registering(PAPER),
        seen(flaw=TAKEN),
        (Fail, "Do not sign"),
    ),
    (
        "never signed, and given up",
        registering(PAPER, stopping=True),
        seen(),
        (Abandon, "Do not sign"),
    ),
    (
        "a replacement to be signed, while the first one waits",
        registering(A, PAPER),
        seen({A: WAITS}),
        AwaitSignature,
    ),
    (
        "what is too old is not sent while its replacement is being signed",
        registering(LOST, PAPER),
        seen(),
        AwaitSignature,
    ),
    (
        "given up, with an older one on its way",
        registering(A, PAPER, stopping=True),
        seen({A: WAITS}),
        (Cancel, "given up"),
    ),
    (
        "a payment back to be signed",
        registering(A, replace(BACK, raw=None, txid=None, psbt="cHNidP8="), stopping=True),
        seen({A: WAITS}),
        AwaitSignature,
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
]


@pytest.mark.parametrize(("name", "given", "when", "then"), TABLE, ids=[row[0] for row in TABLE])
def test_what_is_next(
    name: str, given: Job, when: Seen, then: Action | type | tuple[type, str]
) -> None:
    action = decide(given, when)
    if isinstance(then, tuple):
        kind, words = then
        assert isinstance(action, kind), action
        assert words in getattr(action, "why", "")
    elif isinstance(then, type):
        assert isinstance(action, then), action
    else:
        assert action == then


def test_the_same_is_decided_whatever_is_noted() -> None:
    for _, given, when, _ in TABLE:
        noted = given.noted(State.NEEDS_CONSENT, "something else", 7)
        assert decide(noted, when) == decide(given, when)


def test_a_replacement_always_pays_more_than_all_before_it() -> None:
    for _, given, when, _ in TABLE:
        action = decide(given, when)
        if isinstance(action, Replace) and given.steps[action.step].signed:
            before = max(a.fee_rate for a in given.steps[action.step].signed)
            assert action.fee_rate >= before + when.relay_step


def test_with_consent_a_refused_preorder_is_paid_again() -> None:
    given, when = registering(A), seen({A: REFUSED})
    action = decide(given, when)
    assert isinstance(action, AskConsent)
    again = consented(given, action, when)
    assert decide(again, when) == Make(0)
    assert again.steps[0].tried == (A,)


def test_with_consent_a_preorder_that_grew_too_old_is_paid_again() -> None:
    given, when = registering(A), seen({A: ACCEPTED}, flaw=Flaw.PREORDER_EXPIRED)
    action = decide(given, when)
    assert isinstance(action, AskConsent)
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
