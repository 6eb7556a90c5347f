"""History: what was, what was refused, who owned and who held, all from one snapshot."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.transactions import TxOut
from indexer.following.replay import MemoryStore
from indexer.networks import SANDBOX
from indexer.protocol import schema
from indexer.protocol.apply import SpentCandidate
from indexer.protocol.flaws import Flaw
from indexer.protocol.operations import TokenTransfer
from indexer.protocol.payloads import write_operation
from indexer.protocol.records import NameRecord, NameStatus
from indexer.protocol.rows import read_pairs
from indexer.table.snapshot import Snapshot
from tests.indexer.following.test_follower import World, _transactions
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    CAROL,
    FOURTH,
    PAYER,
    REVEALER,
    SHORT_GRACE,
    THIRD,
    Ledger,
    name_import,
    op_return,
    opened,
    ready,
    register,
    revoke,
    transaction,
)
from tests.rings import sampled

ONE, TWO = b"\x11" * 20, b"\xff" * 20


def seen(ledger: Ledger) -> Snapshot:
    return Snapshot(ledger.store, ledger.network)


def test_every_state_of_a_name_has_its_block_transaction_and_operation() -> None:
    ledger = opened(THIRD)
    registered = ledger.register("alice.id")
    ledger.accept((ALICE, ledger.update("alice.id", ONE)), (ALICE, ledger.update("alice.id", TWO)))
    ledger.skip(3)
    ledger.accept((ALICE, ledger.transfer("alice.id", BOB)))
    ledger.accept((BOB, revoke("alice.id")))
    states = seen(ledger).states("alice.id").entries
    assert [(s.height - registered, s.vtxindex, s.record.op) for s in states] == [
        (0, 1, ":"),
        (1, 1, "+"),
        (1, 2, "+"),
        (5, 1, ">>"),
        (6, 1, "~"),
    ]
    assert len({s.record.txid for s in states}) == 5
    now = seen(ledger)
    assert [
        getattr(now.state_at("alice.id", registered + after), "record", None)
        for after in (-1, 0, 1, 4, 5, 6, 100)
    ] == [None, *(states[n].record for n in (0, 2, 2, 3, 4, 4))]
    assert now.state_at("alice.id", -1) is None
    assert now.state_at("alice.id", 2**40) == states[-1]
    assert now.state_at("lice.id", 2**31) is None


def test_the_pages_of_a_history_are_all_of_it_in_order() -> None:
    ledger = opened(THIRD)
    ledger.register("alice.id")
    for n in range(7):
        ledger.accept((ALICE, ledger.update("alice.id", bytes([n]) * 20)))
    now = seen(ledger)
    whole = now.states("alice.id").entries
    for limit in (1, 2, 3, 7, 8, 9):
        pages, after = [], ""
        while True:
            page = now.states("alice.id", after, limit)
            pages += page.entries
            if not page.next:
                break
            assert len(page.entries) == limit
            after = page.next
        assert tuple(pages) == whole
    assert len(whole) == 8


@pytest.mark.parametrize("after", ["7", "-", "7-", "a-b", "1-2-3", "٣-1", f"{2**32}-1", "9" * 40])
def test_a_place_that_no_page_gave_is_refused(after: str) -> None:
    now = seen(opened())
    for listing in (now.states, now.verdicts_about):
        with pytest.raises(ValueError, match="no place"):
            listing("alice.id", after)


def test_verdicts_are_found_by_txid_and_by_name_also_the_refused_ones() -> None:
    ledger = opened(THIRD)
    ledger.register("alice.id")
    ledger.block(
        (BOB, ledger.transfer("alice.id", CAROL)),  # not his
        (ALICE, ledger.transfer("alice.id", ALICE)),  # to herself
        (ALICE, ledger.update("alice.id", ONE)),
        (BOB, revoke("alice.id")),
        (BOB, ledger.renew("alice.id")),
        (PAYER, register("alice.id")),
    )
    found = seen(ledger).verdicts_about("alice.id").entries
    assert [(v.opcode, v.flaw) for _, v in found] == [
        ("?", None),
        (":", None),
        (">", Flaw.NOT_THE_OWNER.name),
        (">", Flaw.SENT_TO_ITSELF.name),
        ("+", None),
        ("~", Flaw.NOT_THE_OWNER.name),
        (":", Flaw.NOT_THE_OWNER.name),
        (":", Flaw.NAME_TAKEN.name),
    ]
    for txid, verdict in found:
        assert seen(ledger).verdict(txid) == verdict
        assert verdict.subject == ("" if verdict.opcode == "?" else "alice.id")
    assert seen(ledger).verdict(bytes(32)) is None
    pages, after = [], ""
    while True:
        page = seen(ledger).verdicts_about("alice.id", after, 3)
        pages += page.entries
        after = page.next
        if not after:
            break
    assert tuple(pages) == found


def test_a_payment_from_a_wallet_nobody_can_recognise_is_found_under_its_name() -> None:
    ledger = opened(THIRD)
    tx = transaction([op_return(b"id:alice.id"), TxOut(5500, ALICE.script)])
    segwit = b"\x00\x14" + bytes(20)
    flaws = ledger.block(SpentCandidate(Candidate(0, tx), (segwit,)))
    assert flaws == [Flaw.SPENDS_OTHER_SCRIPTS]
    ((txid, verdict),) = seen(ledger).verdicts_about("alice.id").entries
    assert (txid, verdict.flaw) == (tx.txid, Flaw.SPENDS_OTHER_SCRIPTS.name)


def test_a_namespace_has_verdicts_and_a_history_too() -> None:
    ledger = Ledger(THIRD)
    ledger.reveal_namespace("id")
    revealed = ledger.height
    ledger.block((ALICE, ready("id")))
    ledger.accept((REVEALER, ready("id")))
    found = seen(ledger).verdicts_about("id").entries
    assert [(v.opcode, v.flaw) for _, v in found] == [
        ("*", None),
        ("&", None),
        ("!", Flaw.NOT_THE_REVEALER.name),
        ("!", None),
    ]
    now = seen(ledger)
    assert now.namespace_at("id", revealed - 1) is None
    was, is_ = now.namespace_at("id", revealed + 1), now.namespace_at("id", revealed + 2)
    assert (getattr(was, "op", None), getattr(is_, "op", None)) == ("&", "!")
    assert now.namespaces().entries == ("id",)


def test_what_another_ledger_pays_for_is_recognised_and_reported() -> None:
    ledger = Ledger(FOURTH)
    ledger.skip()
    token = TokenTransfer(
        consensus_hash=ledger.ch(), token_type=b"STACKS", amount=7, recipient=BOB.script
    )
    outputs = [TxOut(0, b""), TxOut(5500, BOB.script)]
    outputs[0] = op_return(write_operation(token, b"id"))
    preorder = replace(ledger.namespace_preorder("id"), token_amount=640_000_000_000)
    sent = [ledger.send(ALICE, token, outputs), ledger.send(PAYER, preorder)]
    assert ledger.block(*sent) == [Flaw.OTHER_LEDGER, Flaw.OTHER_LEDGER]
    now = seen(ledger)
    found = now.verdicts_of_block(ledger.height)
    assert [txid for txid, _ in found] == [s.candidate.transaction.txid for s in sent]
    assert [(v.opcode, v.flaw) for _, v in found] == [("$", "OTHER_LEDGER"), ("*", "OTHER_LEDGER")]
    assert now.operations(ledger.height) == ()


def test_the_operations_of_a_block_are_what_its_ops_hash_holds() -> None:
    ledger = opened(THIRD)
    ledger.accept(*((PAYER, ledger.preorder(f"n{n}.id")) for n in range(5)))
    now = seen(ledger)
    assert ledger.last is not None
    assert now.operations(ledger.height) == ledger.last.serialized
    assert now.ops_hash(ledger.height) == ledger.last.ops_hash
    assert now.verdicts_of_block(ledger.height) == ledger.last.verdicts
    assert now.verdicts_of_block(ledger.height, 1, 2) == ledger.last.verdicts[1:3]
    assert now.verdicts_of_block(ledger.height, 9) == ()
    assert now.height_of_consensus_hash(ledger.ch()) == ledger.height
    assert now.height_of_consensus_hash(bytes(16)) is None


def test_owners_and_namespaces_are_listed_in_order_page_by_page() -> None:
    ledger = opened(SHORT_GRACE)
    ledger.open_namespace("io")
    alices = sorted(ledger.register_many(9, ALICE))
    bobs = sorted(ledger.register_many(3, BOB, "b"))
    ledger.register("a.io", CAROL)
    ledger.accept((ALICE, revoke(alices[4])))
    ledger.skip()
    now = seen(ledger)
    for limit in (1, 2, 5, 20):
        for listing, expected in (
            (lambda a, n=limit: now.owned_by(ALICE.script, a, n, live_only=False), alices),
            (lambda a, n=limit: now.owned_by(ALICE.script, a, n), alices[:4] + alices[5:]),
            (lambda a, n=limit: now.names_in("id", a, n, live_only=False), sorted(alices + bobs)),
            (lambda a, n=limit: now.names_in("io", a, n), ["a.io"]),
            (lambda a, n=limit: now.namespaces(a, n), ["id", "io"]),
        ):
            names, after = [], ""
            while True:
                page = listing(after)
                names += page.entries
                after = page.next
                if not after:
                    break
            # a revoked name is live, and nobody's
            assert names == expected
    assert now.names_in("i").entries == ()
    assert now.owned_by(REVEALER.script).entries == ()


def test_live_names_are_looked_for_in_a_bounded_number_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schema, "PAGE_ROWS", 4)
    ledger = opened(SHORT_GRACE)
    names = sorted(ledger.register_many(9, ALICE))
    ledger.skip(230)
    now = seen(ledger)
    page = now.owned_by(ALICE.script)
    assert page.entries == ()
    assert page.next == names[3]
    page = now.owned_by(ALICE.script, names[7])
    assert (page.entries, page.next) == ((), "")
    whole = now.owned_by(ALICE.script, live_only=False)
    assert (whole.entries, whole.next) == (tuple(names[:4]), names[3])


def test_a_value_has_present_and_past_holders() -> None:
    ledger = opened(THIRD)
    for name, owner in (("alice.id", ALICE), ("bob.id", BOB)):
        ledger.register(name, owner)
        ledger.accept((owner, ledger.update(name, TWO)))
    ledger.accept((ALICE, ledger.update("alice.id", ONE)))
    left = ledger.height
    ledger.skip()
    now = seen(ledger)
    assert [(h.name, h.until) for h in now.holders(TWO)] == [("bob.id", None), ("alice.id", left)]
    assert [(h.name, h.until) for h in now.holders(ONE)] == [("alice.id", None)]
    assert now.holders(bytes(20)) == ()
    assert now.names_of_value(TWO) == ["bob.id"]
    ledger.accept((BOB, revoke("bob.id")))
    assert [h.until for h in seen(ledger).holders(TWO)] == [left, ledger.height]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["register", "update", "transfer", "revoke", "renew", "import", "skip", "open"]
        ),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(1, 12),
    ),
    min_size=3,
    max_size=30,
)
PEOPLE = (ALICE, BOB, CAROL)


@settings(max_examples=sampled(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_what_a_snapshot_said_then_is_what_history_says_of_then(
    steps: list[tuple[str, int, int, int]],
) -> None:
    ledger = Ledger(SHORT_GRACE)
    ledger.reveal_namespace("id", lifetime=20)
    names = [f"n{n}.id" for n in range(3)]
    said: dict[int, list[tuple[NameRecord, NameStatus] | None]] = {}
    undo: list[tuple[dict[bytes, bytes], bytes]] = []

    def note() -> None:
        then = seen(ledger)
        said[ledger.height] = [then.name_status(name) for name in names]

    for verb, which, who, count in steps:
        name, person = names[which], PEOPLE[who]
        sent = {
            "register": lambda n=name, p=person: (PAYER, register(n, p)),
            "update": lambda n=name, p=person, c=count: (p, ledger.update(n, bytes([c]) * 20)),
            "transfer": lambda n=name, p=person, w=who: (p, ledger.transfer(n, PEOPLE[w - 1])),
            "revoke": lambda n=name, p=person: (p, revoke(n)),
            "renew": lambda n=name, p=person: (p, ledger.renew(n, p)),
            "import": lambda n=name, p=person, c=count: (
                REVEALER,
                name_import(n, p, bytes([c]) * 20),
            ),
            "open": lambda: (REVEALER, ready("id")),
        }
        if verb == "register":
            ledger.block((PAYER, ledger.preorder(name, person)))
            note()
        before = dict(ledger.store.rows)
        ledger.block(*([] if verb == "skip" else [sent[verb]()]))
        undo.append((before, ledger.store.rows[schema.undo_key(ledger.height)]))
        note()
        for _ in range(count if verb == "skip" else 0):
            ledger.block()
            note()
    now = seen(ledger)
    for height, statuses in said.items():
        for name, status in zip(names, statuses, strict=True):
            found = now.status_at(name, height)
            assert (None if found is None else (found[0].record, found[1])) == status
    for name in names:
        flawless = [txid for txid, v in now.verdicts_about(name).entries if v.flaw is None]
        changed = [state.record.txid for state in now.states(name).entries]
        assert [txid for txid in flawless if txid in changed] == changed
    before, pairs = undo[-1]
    if steps[-1][0] != "skip":
        rows = dict(ledger.store.rows)
        for key, row in read_pairs(pairs):
            rows.pop(key, None)
            if row is not None:
                rows[key] = row
        rows.pop(schema.undo_key(ledger.height))
        assert rows == before


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A chain of thirty blocks with names, followed at once."""
    world = World(tmp_path_factory.mktemp("whole"))
    world.open_namespace("id")
    for n in range(24):
        world.mine(*_transactions(world, n % 5, n % 7))
    return world


@settings(max_examples=sampled(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.sets(st.integers(1, 28), max_size=5))
def test_any_split_of_a_history_gives_one_hash_and_the_same_bytes(
    cuts: set[int], followed: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("split")
    blocks = followed.node.blocks
    for cut in (*sorted(cuts), len(blocks)):
        part = World(path)  # opened again: nothing is remembered but what is written
        part.node.blocks, part.node.spent = blocks[:cut], followed.node.spent
        part.follow()
        rows, hashed = part.rows(), part.seen.consensus_hash(part.seen.height)
        part.table.close()
    assert hashed == followed.consensus
    assert rows == followed.rows()


def test_the_same_questions_to_the_database_have_the_same_answers(
    followed: World,
) -> None:
    memory = MemoryStore()
    memory.write(followed.rows())
    ours, other = followed.seen, Snapshot(memory, followed.network)
    names = other.names_in("id", live_only=False).entries
    assert names
    for name in names:
        assert ours.states(name) == other.states(name)
        assert ours.states(name, "5-0", 1) == other.states(name, "5-0", 1)
        assert ours.verdicts_about(name) == other.verdicts_about(name)
        for height in range(ours.height + 1):
            assert ours.status_at(name, height) == other.status_at(name, height)
    for height in range(ours.height + 1):
        assert ours.verdicts_of_block(height) == other.verdicts_of_block(height)
    assert ours.names_in("id", "n1.id", 2) == other.names_in("id", "n1.id", 2)


def test_a_published_hash_lets_the_follower_pass_and_another_stops_it(tmp_path: Path) -> None:
    plain = World(tmp_path / "plain")
    plain.open_namespace("id")
    height = plain.seen.height
    right = replace(SANDBOX, checkpoints={height: plain.consensus})
    world = World(tmp_path / "right", right)
    world.node.blocks, world.node.spent = plain.node.blocks, plain.node.spent
    world.follow()
    assert (world.seen.height, world.follower.status.state) == (height, "following")
    world.table.close()
    # an index that an older version made, which did not know the hash
    wrong = replace(SANDBOX, checkpoints={height - 1: bytes(16)})
    world = World(tmp_path / "right", wrong)
    world.node.blocks, world.node.spent = plain.node.blocks, plain.node.spent
    assert world.follower._round(_Never()) > 0  # type: ignore[arg-type]
    assert world.follower.status.state == "stopped"
    assert not world.follower.status.caught_up
    assert f"block {height - 1} is" in (world.follower.status.last_error or "")


class _Never:
    def is_set(self) -> bool:
        return False
