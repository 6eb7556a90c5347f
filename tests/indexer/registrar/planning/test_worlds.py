"""What is composed by us is read back and accepted: in random worlds, for every wish."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.protocol.flaws import Flaw, Refused
from indexer.registrar.planning import wishes
from indexer.registrar.planning.plan_text import plan_json, plan_lines
from indexer.registrar.planning.refusals import PlanRefused, refusal
from indexer.registrar.planning.steps import Parties, StepKind, dry_run, sender_of, steps_of
from indexer.registrar.planning.wishes import Wish
from indexer.wallet.coins import Unsigned
from tests.indexer.protocol.ledger import ALICE, BOB, CLASSIC, REVEALER, Holder, Ledger, ready
from tests.indexer.registrar.planning.world import CHAINS, EVERYBODY, World, coin
from tests.rings import sampled

NAMES = ("ab.id", "ab.id", "crier.id", "crier.id", "crier.id", "new.id", "f.no")
NAMESPACES = ("id", "no")

names = st.sampled_from(NAMES)
digests = st.sampled_from([bytes((n,)) * 20 for n in range(3)])
holders = st.sampled_from(EVERYBODY)
scripts = holders.map(lambda holder: holder.script)
of_names: st.SearchStrategy[Wish] = st.one_of(
    st.builds(wishes.RegisterName, names, st.none() | digests),
    st.builds(wishes.UpdateName, names, digests),
    st.builds(wishes.TransferName, names, scripts, st.booleans()),
    st.builds(wishes.RenewName, names, st.none() | digests),
    st.builds(wishes.RevokeName, names),
    st.builds(wishes.ImportName, names, scripts, digests),
    st.builds(wishes.Announce, digests),
)
of_namespaces: st.SearchStrategy[Wish] = st.one_of(
    st.builds(wishes.PreorderNamespace, st.sampled_from(NAMESPACES), scripts),
    st.builds(
        wishes.RevealNamespace,
        st.sampled_from(NAMESPACES),
        scripts,
        lifetime=st.sampled_from([1, 9, 40, 0xFFFFFFFF]),
        version=st.integers(1, 3),
        **{name: st.just(value) for name, value in CLASSIC.items()},
    ),
    st.builds(wishes.ReadyNamespace, st.sampled_from(NAMESPACES)),
)
by_whom_may = st.sampled_from([True, True, True, False])
acting = st.tuples(of_names, holders, holders, by_whom_may)
governing = st.tuples(of_namespaces, holders, holders, by_whom_may)
founding = st.tuples(st.sampled_from(NAMESPACES), holders, scripts)
waiting = st.sampled_from([1, 1, 2, 3, 7, 15, 30])
WEIGHTS = [acting] * 10 + [governing] * 2 + [founding] + [waiting] * 3
actions_of = st.lists(st.sampled_from(WEIGHTS).flatmap(lambda kind: kind), min_size=4, max_size=18)


def opened_or_revealed(chain: str, opens: bool) -> World:
    """A world with a namespace ``id``, and owners in it where it is open."""
    ledger = Ledger(CHAINS[chain])
    if not ledger.network.epochs[0].second_ledger:
        ledger.reveal_namespace("id", lifetime=14)
        if opens:
            ledger.accept((REVEALER, ready()))
            ledger.register("crier.id", ALICE)
            ledger.register("ab.id", BOB)
    return World(ledger)


@settings(max_examples=sampled(250), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(CHAINS)), st.sampled_from([True, True, False]), actions_of)
def test_the_dry_run_says_what_the_indexer_will_say(chain, opens, actions) -> None:
    world = opened_or_revealed(chain, opens)
    for action in actions:
        if isinstance(action, int):
            world.ledger.skip(action)
            continue
        if len(action) == 3:
            found(world, *action)
            continue
        wish, sender, owner, by_owner = action
        parties = Parties(sender_for(wish, world, sender, by_owner), owner.script)
        act(world, wish, parties)


def found(world: World, namespace_id: str, sender: Holder, revealer: bytes) -> None:
    """Preorder a namespace and reveal it, perhaps in vain."""
    parties = Parties(sender.script)
    act(world, wishes.PreorderNamespace(namespace_id, revealer), parties)
    terms = {"lifetime": 14, **CLASSIC}
    act(world, wishes.RevealNamespace(namespace_id, revealer, **terms), parties)


def sender_for(wish: Wish, world: World, chosen: Holder, by_owner: bool) -> bytes:
    """Who may send the wish, or somebody else."""
    try:
        return (sender_of(wish, world.view) if by_owner else None) or chosen.script
    except Refused:
        return chosen.script


def act(world: World, wish: Wish, parties: Parties) -> None:
    """Try each step of a wish, and compare what was foretold with what became of it."""
    planned = plan_or_reason(world, wish, parties)
    for kind in steps_of(wish):
        if not kind.carries_operation:
            continue
        foretold = dry_run(kind, wish, parties, world.view)
        if foretold is not None:
            told = refusal(foretold, kind, wish, parties, world.view, world.tip)
            assert str(told)
            assert told.hint
        unsigned = composed_or_flaw(world, kind, wish, parties)
        if isinstance(unsigned, Flaw):
            assert foretold is unsigned
            assert isinstance(planned, PlanRefused)
            return
        (flaw,) = world.mine(unsigned)
        assert flaw is foretold, (kind, wish)
        if isinstance(planned, PlanRefused) and flaw is not None:
            return
        if not isinstance(planned, PlanRefused):
            # What stands preordered already is not preordered again.
            again = kind is StepKind.PREORDER and flaw is Flaw.PREORDER_EXISTS
            assert flaw is None or (again and planned.paid_already)


def composed_or_flaw(world: World, kind: StepKind, wish: Wish, parties: Parties) -> Unsigned | Flaw:
    try:
        return world.compose(kind, wish, parties)
    except Refused as refused:
        return refused.flaw


def plan_or_reason(world: World, wish: Wish, parties: Parties) -> Any:
    network = world.ledger.network
    try:
        plan = world.plan(wish, parties)
    except PlanRefused as refused:
        return refused
    assert plan_lines(plan, network)
    assert plan_json(plan, network)["total"] == plan.total
    spent = coin(parties.sender).value
    assert spent - plan.total == plan.comes_back
    return plan
