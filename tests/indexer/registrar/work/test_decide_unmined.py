"""What is next for a transaction that no block has, row by row."""

from dataclasses import replace

from indexer.registrar.work.actions import Cancel, Make, Replace, Send
from indexer.registrar.work.decide import PATIENCE, TOO_OLD
from indexer.registrar.work.jobs import Job, State
from indexer.registrar.work.observed import Seen, Standing
from tests.indexer.registrar.work.cases import (
    ACCEPTED,
    BACK,
    FUND,
    LOST,
    MANY,
    MINED,
    NOW,
    OLD,
    PAPER,
    REPLACED,
    STALE,
    TAKEN,
    WAITS,
    A,
    B,
    Next,
    anew,
    assert_next,
    attempt,
    funded,
    registering,
    rows,
    seen,
)


@rows(
    # on its way
    ("written down, not sent", registering(A), seen(), Send(0, A)),
    ("evicted, or never arrived", registering(A), seen({A: Standing()}), Send(0, A)),
    ("waiting", registering(A), seen({A: WAITS}), (State.RUNNING, "waits for a block")),
    (
        "just sent",
        registering(A),
        seen(sent=frozenset([A.txid])),
        (State.RUNNING, "does not show it yet"),
    ),
    (
        "the latest is sent, not the one before",
        registering(A, B),
        seen({A: WAITS}),
        Send(0, B),
    ),
    ("not while the node lags", registering(A), seen(node_is_current=False), State.RUNNING),
    ("not while the index lags", registering(A), seen(index_height=900), State.RUNNING),
    # consensus hashes that grow old
    ("old in the mempool", registering(OLD), seen({OLD: WAITS}), (Replace, "too old")),
    ("old and nowhere", registering(OLD), seen(), (Replace, "too old")),
    ("of a block that is gone", registering(LOST), seen({LOST: WAITS}), (Replace, "too old")),
    (
        "too old to send, and no newer one is known",
        registering(LOST),
        seen(index_height=900),
        (State.RUNNING, "waiting for the index"),
    ),
    (
        "old, but the index knows none newer",
        registering(OLD),
        seen({OLD: WAITS}, usable_until={STALE: NOW + 1}),
        (State.RUNNING, "waits for a block"),
    ),
    (
        "old, at the highest fee",
        registering(replace(OLD, fee_rate=99.5)),
        seen({OLD: WAITS}),
        (State.RUNNING, "may pay by itself is"),
    ),
    (
        "old and nowhere, at the highest fee",
        registering(replace(OLD, fee_rate=99.5)),
        seen(),
        Replace(0, 100.0, TOO_OLD),
    ),
    # coins that are spent elsewhere
    ("one is gone", registering(A), seen(is_void=True), (Replace, "is gone")),
    ("one of what is signed elsewhere", registering(PAPER), seen(is_void=True), (Replace, "gone")),
    (
        "one, while the node lags",
        registering(A),
        seen(is_void=True, node_is_current=False),
        State.RUNNING,
    ),
    ("one of the way back", registering(A, BACK), seen(is_void=True), (Replace, "is gone")),
    # fees
    (
        "not yet raised",
        registering(replace(A, made_at=NOW - PATIENCE + 1)),
        seen({A: WAITS}, fee_rate=60.0),
        State.RUNNING,
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
        State.RUNNING,
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
        (State.RUNNING, "the most that this job may pay by itself is 100.0"),
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
        (State.RUNNING, "after the next block"),
    ),
    (
        "made more often than can be written down",
        registering(*(attempt(n, made_at=NOW - PATIENCE) for n in range(50)), *MANY),
        seen({MANY[-1]: WAITS}, fee_rate=60.0),
        (State.RUNNING, "not made anew any more"),
    ),
    # coins that are moved so that a transaction which waits can be replaced
    (
        "coins must be moved first",
        funded(FUND),
        seen({A: WAITS}, fee_rate=60.0),
        Send(0, FUND),
    ),
    (
        "they are on their way",
        funded(FUND),
        seen({A: WAITS, FUND: WAITS}, fee_rate=60.0),
        State.RUNNING,
    ),
    (
        "their coins were spent elsewhere",
        funded(replace(FUND, refusal="bad-txns-inputs-missingorspent")),
        seen({A: WAITS}, fee_rate=60.0),
        anew(0),
    ),
    ("they are there", funded(FUND), seen({A: WAITS, FUND: MINED}, fee_rate=60.0), REPLACED),
    ("fees fell meanwhile", funded(FUND), seen({A: WAITS}), (State.RUNNING, "waits for a block")),
    ("given up meanwhile", funded(FUND, stopping=True), seen({A: WAITS}), Cancel),
    ("taken meanwhile", funded(FUND), seen({A: WAITS}, flaw=TAKEN), Cancel),
    ("mined meanwhile", funded(FUND), seen({A: ACCEPTED}), Make(2)),
    (
        "refused for another reason",
        registering(replace(A, refusal="txn-mempool-conflict")),
        seen(sent=frozenset([A.txid])),
        (State.RUNNING, "txn-mempool-conflict. Nothing was paid."),
    ),
    (
        "taken without a word and kept by nobody",
        registering(replace(A, made_at=NOW - PATIENCE)),
        seen(sent=frozenset([A.txid])),
        (Replace, "no node keeps it"),
    ),
    # signed elsewhere
    (
        "to be signed elsewhere",
        registering(PAPER),
        seen(),
        (State.WAITING_FOR_SIGNATURE, "Nothing was paid."),
    ),
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
        (State.FAILED, "Do not sign"),
    ),
    (
        "never signed, and given up",
        registering(PAPER, stopping=True),
        seen(),
        (State.ABANDONED, "Do not sign"),
    ),
    (
        "a replacement to be signed, while the first one waits",
        registering(A, PAPER),
        seen({A: WAITS}),
        State.WAITING_FOR_SIGNATURE,
    ),
    (
        "what is too old is not sent while its replacement is being signed",
        registering(LOST, PAPER),
        seen(),
        State.WAITING_FOR_SIGNATURE,
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
        State.WAITING_FOR_SIGNATURE,
    ),
)
def test_what_is_next_for_what_is_on_its_way(given: Job, when: Seen, then: Next) -> None:
    assert_next(given, when, then)
