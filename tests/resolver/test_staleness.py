"""How old an answer may be: from the follower's clock to the extended error in the reply."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from indexer.following.index import Index
from indexer.networks import SANDBOX
from indexer.table.reached import read_reached, write_reached
from resolver.api.lookup import require_fresh
from resolver.dns.cache import ReplyCache
from resolver.dns.chase import Freshness, StalenessLimits
from resolver.dns.zones import Zones
from resolver.refusals import Refusal, Refused
from resolver.resolve import Resolver
from tests.indexer.following.test_follower import _NEVER, ALICE, World
from tests.indexer.following.test_reorganisations import branch
from tests.resolver.fakes import FakeSource, checked, errors
from zonefiles.text.zonefile import value_hash

HOUR = 3_600.0
STALE, NOT_READY = 3, 14
DATA = b"the data of alice"


class Clock:
    """Time as the test tells it."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class House:
    """A service's freshness over a real table and follower, and a resolver that asks it."""

    def __init__(self, path: Path, *, rhythm: bool) -> None:
        network = replace(SANDBOX, node_chain="main" if rhythm else "regtest")
        self.world = World(path, network)
        self.world.open_namespace("id")
        self.world.register("alice.id", ALICE, value_hash(DATA))
        self.clock = Clock(self.world.seen.block_time + 1.0)
        self.world.table.close()
        self.open_index(path)
        source = FakeSource()
        source.archive[value_hash(DATA)] = DATA
        self.resolver = Resolver(
            zones=Zones.from_settings({"bs": "id"}),
            table=lambda: self.index.snapshot(),
            source=source,
            freshness=self.freshness,
            staleness=StalenessLimits(2 * HOUR, 24 * HOUR),
            cache=ReplyCache(2**20),
            clock=self.clock,
            unix_clock=self.clock,
        )
        self.round()

    def open_index(self, path: Path) -> None:
        """As a start of the daemon does."""
        self.index = Index(path, self.world.network, clock=self.clock)
        self.index.attach(self.world.node, confirmations=1, poll_interval=1.0)
        self.world.table, self.world.follower = self.index.table, self.index.follower

    def freshness(self) -> Freshness:
        return Freshness(*self.index.standing())

    def restart(self, path: Path) -> None:
        """The daemon ends and starts again; what it remembered is what is on disk."""
        self.index.close()
        self.open_index(path)
        self.round()

    def round(self) -> None:
        """What the follower does every poll interval."""
        self.world.follower._round(_NEVER)

    def ask(self, qname: str = "alice.bs") -> dns.message.Message:
        query = dns.message.make_query(qname, "TXT", use_edns=0)
        wire = self.resolver.begin(query.to_wire(), 1232)
        assert isinstance(wire, bytes)
        return checked(query, wire)

    def said(self, qname: str = "alice.bs") -> tuple[str, list[int]]:
        """The rcode and the codes of the extended errors that speak of the index."""
        reply = self.ask(qname)
        codes = [code for code, _ in errors(reply) if code in (STALE, NOT_READY)]
        return dns.rcode.to_text(reply.rcode()), codes


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[House]:
    """On a chain without rhythm: only the node's silence tells."""
    house = House(tmp_path / "index", rhythm=False)
    yield house
    house.world.table.close()


@pytest.fixture
def steady(tmp_path: Path) -> Iterator[House]:
    """On a chain where blocks are expected."""
    house = House(tmp_path / "index", rhythm=True)
    yield house
    house.world.table.close()


TIMES = [
    (0.0, "NOERROR", []),
    (2 * HOUR - 2, "NOERROR", []),
    (2 * HOUR + 2, "NOERROR", [STALE]),
    (24 * HOUR - 2, "NOERROR", [STALE]),
    (24 * HOUR + 2, "SERVFAIL", [NOT_READY]),
]


@pytest.mark.parametrize(("later", "rcode", "codes"), TIMES)
def test_a_silent_node_is_said_in_answers_and_then_instead_of_them(
    quiet: House, later: float, rcode: str, codes: list[int]
) -> None:
    quiet.world.node.down = True
    quiet.clock.now += later
    quiet.round()
    assert quiet.said() == (rcode, codes)


@pytest.mark.parametrize(("later", "rcode", "codes"), TIMES)
def test_a_node_that_answers_and_has_no_new_block_is_as_silent(
    steady: House, later: float, rcode: str, codes: list[int]
) -> None:
    steady.clock.now += later
    steady.round()
    assert steady.said() == (rcode, codes)


def test_a_chain_without_rhythm_may_rest_while_its_node_answers(quiet: House) -> None:
    quiet.clock.now += 1_000 * HOUR
    quiet.round()
    assert quiet.said() == ("NOERROR", [])


def test_a_new_block_ends_it(steady: House) -> None:
    steady.clock.now += 30 * HOUR
    steady.round()
    assert steady.said() == ("SERVFAIL", [NOT_READY])
    steady.world.node.mine()
    steady.round()
    steady.clock.now += 1
    assert steady.said() == ("NOERROR", [])


def test_what_there_is_not_is_marked_too(quiet: House) -> None:
    quiet.world.node.down = True
    quiet.clock.now += 3 * HOUR
    assert quiet.said("nobody.bs") == ("NXDOMAIN", [STALE])
    text = next(text for code, text in errors(quiet.ask("nobody.bs")) if code == STALE)
    height = quiet.world.seen.height
    assert text == f"last block {height}, {3 * HOUR:.0f} seconds ago"


def test_a_kept_reply_does_not_outlive_the_freshness_it_was_made_in(quiet: House) -> None:
    assert quiet.said() == ("NOERROR", [])
    assert quiet.said() == ("NOERROR", [])
    assert quiet.resolver.outcomes["from memory"] > 0
    quiet.world.node.down = True
    quiet.clock.now += 2 * HOUR + 2
    assert quiet.said() == ("NOERROR", [STALE])


def test_a_follower_that_stopped_marks_at_once_and_refuses_in_the_end(quiet: House) -> None:
    world = quiet.world
    for _ in range(150):
        world.node.mine()
    world.follow()
    assert quiet.said() == ("NOERROR", [])
    own, tip = list(world.node.blocks), world.seen.height
    world.node.blocks = branch(world, tip - 147, 149, salt=5)
    quiet.round()
    assert world.follower.status.state == "stopped"
    quiet.clock.now += 1.5  # the cache looks once a second
    assert quiet.said() == ("NOERROR", [STALE])
    assert any("the index has stopped" in text for _, text in errors(quiet.ask()))
    # The node goes on to answer, and that mends nothing.
    for _ in range(3):
        quiet.clock.now += 10 * HOUR
        quiet.round()
    assert quiet.said() == ("SERVFAIL", [NOT_READY])
    with pytest.raises(Refused) as refused:
        require_fresh(quiet.freshness(), 24 * HOUR)
    assert refused.value.refusal is Refusal.INDEX_BEHIND
    world.node.blocks = own
    quiet.round()
    quiet.clock.now += 1.5
    assert quiet.said() == ("NOERROR", [])


def test_an_index_that_is_too_far_behind_the_node_speaks_of_no_name(quiet: House) -> None:
    for _ in range(200):
        quiet.world.node.mine()
    status = quiet.world.follower.status
    quiet.world.follower.status = replace(status, target=status.height + 145)
    quiet.clock.now += 1.5
    assert quiet.said() == ("SERVFAIL", [NOT_READY])


@pytest.mark.parametrize("rhythm", [False, True])
@pytest.mark.parametrize(("later", "rcode", "codes"), TIMES)
def test_after_a_restart_without_the_node_the_age_of_the_last_block_is_told(
    tmp_path: Path, rhythm: bool, later: float, rcode: str, codes: list[int]
) -> None:
    house = House(tmp_path / "index", rhythm=rhythm)
    house.world.node.down = True
    house.clock.now = house.world.seen.block_time + later
    house.restart(tmp_path / "index")
    assert house.said() == (rcode, codes)
    house.index.close()


def test_after_a_restart_beside_a_node_that_begins_anew_answers_are_as_old_as_the_last_block(
    tmp_path: Path,
) -> None:
    """It downloads the chain again, and knows less of it than the index does."""
    house = House(tmp_path / "index", rhythm=True)
    node = house.world.node
    node.blocks, node.initial_download = node.blocks[:3], True
    for later, rcode, codes in TIMES:
        house.clock.now = house.world.seen.block_time + later
        house.restart(tmp_path / "index")
        assert house.said() == (rcode, codes)
    house.index.close()


def test_an_index_that_was_never_caught_up_answers_nothing_beside_a_node_that_begins_anew(
    tmp_path: Path,
) -> None:
    house = House(tmp_path / "index", rhythm=True)
    house.world.node.initial_download = True
    house.world.node.mine()
    house.clock.now += 1000 * HOUR
    house.restart(tmp_path / "index")
    assert house.said() == ("SERVFAIL", [NOT_READY])
    house.index.close()


@pytest.mark.parametrize(("years", "rcode", "codes"), [(0, "NOERROR", []), (55, "SERVFAIL", [14])])
@pytest.mark.parametrize("down", [True, False])
def test_by_a_clock_that_is_behind_the_last_block_nothing_is_said_to_be_fresh(
    tmp_path: Path, down: bool, years: int, rcode: str, codes: list[int]
) -> None:
    house = House(tmp_path / "index", rhythm=True)
    house.world.node.down = down
    house.clock.now = house.world.seen.block_time - years * 365 * 24 * HOUR
    house.restart(tmp_path / "index")
    assert house.said() == (rcode, codes)
    house.index.close()


def test_answers_go_on_while_the_node_that_came_back_is_caught_up_with(tmp_path: Path) -> None:
    house = House(tmp_path / "index", rhythm=True)
    house.world.node.down = True
    house.restart(tmp_path / "index")
    assert house.said() == ("NOERROR", [])
    status = house.index.follower.status
    for behind, rcode in ((144, "NOERROR"), (145, "SERVFAIL")):
        target = status.height + behind
        house.index.follower.status = replace(status, state="catching up", target=target)
        house.clock.now += 1.5  # the cache looks once a second
        assert house.said()[0] == rcode
    house.index.close()


def test_an_index_that_lost_blocks_speaks_of_no_name_before_its_node_gave_them_again(
    tmp_path: Path,
) -> None:
    house = House(tmp_path / "index", rhythm=False)
    reached = read_reached(tmp_path / "index")
    assert reached is not None
    write_reached(tmp_path / "index", replace(reached, height=reached.height + 7))
    house.world.node.down = True
    house.restart(tmp_path / "index")
    assert house.said() == ("SERVFAIL", [NOT_READY])
    house.index.close()


def test_an_index_without_a_block_speaks_of_no_name(tmp_path: Path) -> None:
    house = House(tmp_path / "index", rhythm=False)
    house.world.node.down = True
    house.index.close()
    house.open_index(tmp_path / "new")
    house.round()
    assert house.said() == ("SERVFAIL", [NOT_READY])
    house.index.close()
