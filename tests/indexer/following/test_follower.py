"""The follower and the table: forward, back, and where a node misbehaves."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.following.follower import HEADERS_FIRST, Follower
from indexer.following.reading import BadBlock
from indexer.networks import REGTEST, SANDBOX, Network
from indexer.node.node import NodeUnavailable
from indexer.protocol import schema
from indexer.protocol.operations import Preorder
from indexer.protocol.records import Phase
from indexer.table.level import plyvel
from indexer.table.table import NameTable, Snapshot, TableError
from tests.indexer import fakes
from tests.indexer.fakes import FakeNode, Person
from tests.rings import sampled

PAYER, REVEALER, ALICE, BOB = (Person(n) for n in ("payer", "revealer", "alice", "bob"))


class World:
    """A fake node and a table that follows it."""

    def __init__(self, path: Path, network: Network = SANDBOX) -> None:
        self.network = network
        self.node = FakeNode(network)
        self.table = NameTable(path, network)
        self.told: list[frozenset[str]] = []
        self.follower = Follower(
            self.node,
            self.table,
            network,
            confirmations=1,
            on_blocks=lambda snapshot, names: self.told.append(names),
        )

    def mine(self, *transactions: bytes, salt: int = 0) -> None:
        self.node.mine(transactions, salt=salt)
        self.follow()

    def follow(self) -> None:
        while self.follower.step():
            pass

    @property
    def consensus(self) -> bytes:
        found = self.table.snapshot().consensus_hash(self.table.snapshot().height)
        assert found is not None
        return found

    @property
    def seen(self) -> Snapshot:
        return self.table.snapshot()

    def open_namespace(self, namespace_id: str, lifetime: int = 52595) -> None:
        """From preorder to ready, one block each."""
        self.mine()
        wish = fakes.namespace_preorder(self.network, namespace_id, PAYER, REVEALER, self.consensus)
        self.mine(self.node.send(PAYER, wish))
        reveal = fakes.namespace_reveal(namespace_id, REVEALER, lifetime)
        self.mine(self.node.send(PAYER, reveal))
        self.mine(self.node.send(REVEALER, fakes.namespace_ready(namespace_id)))

    def preorder(self, name: str, owner: Person) -> Preorder:
        return fakes.preorder(self.network, name, PAYER, owner, self.consensus)

    def register(self, name: str, owner: Person, value_hash: bytes | None = None) -> None:
        self.mine(self.node.send(PAYER, self.preorder(name, owner)))
        self.mine(self.node.send(PAYER, fakes.register(name, owner, value_hash)))

    def rows(self) -> dict[bytes, bytes]:
        return dict(self.table.scan(b""))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "index")


def test_at_debug_every_block_is_a_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "blockstore.follower")
    for _ in range(3):
        world.mine()
    tip = world.seen.height
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.DEBUG]
    assert [line.partition(":")[0] for line in said] == [f"block {tip - n}" for n in (2, 1, 0)]
    assert said[-1] == f"block {tip}: 0 operations, consensus {world.consensus.hex()}"


def test_a_name_is_registered_updated_and_announced(world: World) -> None:
    world.open_namespace("id")
    world.register("alice.id", ALICE)
    record, status = world.seen.name_status("alice.id") or pytest.fail("not registered")
    assert (record.sender, status.phase) == (ALICE.script, Phase.LIVE)
    digest = bytes(range(20))
    world.mine(world.node.send(ALICE, fakes.update("alice.id", world.consensus, digest)))
    record = world.seen.name("alice.id") or pytest.fail("gone")
    assert record.value_hash == digest
    assert world.seen.is_announced(digest)
    assert world.seen.names_of_value(digest) == ["alice.id"]
    assert list(world.seen.announced_values()) == [digest]
    assert world.seen.name_count() == 1
    assert world.told[-1] == {"alice.id"}


def on_a_public_chain(path: Path, first_block: int = 1) -> World:
    """A world whose blocks come by themselves, as they do not on regtest."""
    public = replace(SANDBOX, node_chain="main", genesis_hash="", first_block=first_block)
    return World(path, public)


@pytest.mark.parametrize("blocks", [0, 3])
@pytest.mark.parametrize("says", [True, None])
def test_a_node_in_its_initial_download_has_no_chain_to_have_caught_up_with(
    tmp_path: Path, blocks: int, says: bool | None
) -> None:
    world = on_a_public_chain(tmp_path / "index")
    for _ in range(blocks):
        world.node.mine()
    world.node.initial_download, world.node.tip_time = says, 1_700_000_000
    world.follow()
    status = world.follower.status
    assert (status.state, status.caught_up, status.height) == ("catching up", False, blocks)
    assert status.node_lacks_blocks
    # It is over when the node says so, or its last block is young.
    world.mine()
    assert not world.follower.status.caught_up
    world.node.initial_download = False
    world.follow()
    assert (world.follower.status.state, world.follower.status.caught_up) == ("following", True)
    assert not world.follower.status.node_lacks_blocks


def test_a_young_last_block_ends_the_initial_download(tmp_path: Path) -> None:
    world = on_a_public_chain(tmp_path / "index")
    now = 1_800_000_000.0
    world.follower = Follower(
        world.node, world.table, world.network, confirmations=1, clock=lambda: now
    )
    world.node.initial_download, world.node.tip_time = True, int(now) - 25 * 3600
    world.mine()
    assert not world.follower.status.caught_up
    world.node.tip_time = int(now) - 23 * 3600
    world.follow()
    assert world.follower.status.caught_up


def test_a_regtest_node_is_not_waited_for_to_end_its_initial_download(world: World) -> None:
    world.node.initial_download, world.node.tip_time = True, 1_300_000_000
    world.mine()
    assert (world.follower.status.state, world.follower.status.caught_up) == ("following", True)


def test_a_chain_that_has_not_reached_the_first_block_is_not_caught_up_with(
    tmp_path: Path,
) -> None:
    world = on_a_public_chain(tmp_path / "index", first_block=4)
    for height in range(4):
        status = world.follower.status
        assert (status.height, status.caught_up) == (3, False), f"with {height} blocks"
        world.mine()
        assert world.follower.status.target == 4
    assert world.follower.status.caught_up


def test_a_reorganisation_ends_where_a_straight_replay_ends(tmp_path: Path) -> None:
    world = World(tmp_path / "turned")
    world.open_namespace("id")
    fork = len(world.node.blocks)
    world.register("alice.id", ALICE, bytes(20))
    world.register("bob.id", BOB)
    world.node.invalidate(fork)
    world.node.mine(salt=1)
    for _ in range(4):
        world.node.mine(salt=1)
    world.follow()
    assert world.seen.name("alice.id") is None
    assert not world.seen.is_announced(bytes(20))
    assert world.told[-1] == {"alice.id", "bob.id"}
    world.register("bob.id", BOB)

    straight = World(tmp_path / "straight")
    straight.node.blocks = world.node.blocks
    straight.node.spent = world.node.spent
    straight.follow()
    assert straight.rows() == world.rows()


history = st.lists(
    st.one_of(
        st.tuples(st.just("mine"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("reorganise"), st.integers(1, 6), st.integers(1, 3)),
    ),
    min_size=4,
    max_size=14,
)


def _transactions(world: World, what: int, who: int) -> list[bytes]:
    """A few operations, valid or not, that make each block of a random history differ."""
    people = [PAYER, ALICE, BOB, REVEALER]
    owner = people[who % 4]
    name = f"n{what}.id"
    consensus = world.consensus
    digest = bytes([what, who]) * 10
    return [
        world.node.send(PAYER, fakes.preorder(world.network, name, PAYER, owner, consensus)),
        world.node.send(PAYER, fakes.register(name, owner, digest if who % 2 else None)),
        world.node.send(owner, fakes.update(f"n{who}.id", consensus, digest)),
        world.node.send(REVEALER, fakes.name_import(name, owner, digest)),
    ]


@settings(
    max_examples=sampled(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=history)
def test_any_history_with_any_reorganisations_ends_in_the_bytes_of_a_straight_replay(
    events: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("history")
    world = World(path / "turned")
    world.open_namespace("id")
    base = len(world.node.blocks)
    for salt, (verb, a, b) in enumerate(events):
        if verb == "mine":
            world.mine(*_transactions(world, a, b), salt=salt)
            continue
        kept = max(base, len(world.node.blocks) - a)
        lost = len(world.node.blocks) - kept
        world.node.invalidate(kept)
        for n in range(lost + b):
            world.node.mine(_transactions(world, a + n, b), salt=salt * 100 + n)
        world.follow()
    straight = World(path / "straight")
    straight.node.blocks, straight.node.spent = world.node.blocks, world.node.spent
    straight.follow()
    turned, replayed = world.rows(), straight.rows()
    world.table.close()
    straight.table.close()
    assert turned == replayed


def test_taking_every_block_back_leaves_nothing_but_the_schema(world: World) -> None:
    empty = world.rows()
    world.open_namespace("id")
    world.register("alice.id", ALICE, bytes(20))
    while world.table.tip is not None:
        world.table.take_back()
    assert world.rows() == empty


def test_a_fork_deeper_than_the_undo_stops_and_says_so(world: World) -> None:
    world.open_namespace("id")
    for _ in range(schema.UNDO_BLOCKS + 2):
        world.node.mine()
    world.follow()
    world.node.invalidate(2)
    for _ in range(schema.UNDO_BLOCKS + 8):
        world.node.mine(salt=9)
    before = world.rows()
    assert world.follower._round(_NEVER) > 0
    assert world.follower.status.state == "stopped"
    assert "`blockstored reindex --from 2`" in (world.follower.status.last_error or "")
    assert world.rows() == before


class _Never:
    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        raise AssertionError("the test waits for nothing")


_NEVER = _Never()


@pytest.mark.parametrize("where", [90, 300])
def test_a_corrupt_block_stops_the_follower_and_changes_nothing(world: World, where: int) -> None:
    world.open_namespace("id")
    before = world.rows()
    wish = world.node.send(PAYER, world.preorder("alice.id", ALICE))
    world.node.mine([wish])
    block_hash, raw = world.node.blocks[-1]
    at = where % len(raw)
    damaged = raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]
    world.node.blocks[-1] = (block_hash, damaged)
    world.follower._round(_NEVER)
    status = world.follower.status
    assert status.state == "stopped"
    assert f"corrupt block {len(world.node.blocks) - 1}" in (status.last_error or "")
    assert world.rows() == before
    world.node.blocks[-1] = (block_hash, raw)
    world.follow()
    assert world.follower.status.state == "following"


def test_a_corrupt_block_in_a_reorganisation_changes_nothing_either(world: World) -> None:
    world.open_namespace("id")
    world.register("alice.id", ALICE)
    before, fork = world.rows(), len(world.node.blocks) - 2
    world.node.invalidate(fork)
    for salt in (1, 2, 3):
        world.node.mine(salt=salt)
    block_hash, raw = world.node.blocks[fork + 1]
    world.node.blocks[fork + 1] = (block_hash, raw[:-1] + bytes((raw[-1] ^ 1,)))
    world.follower._round(_NEVER)
    assert world.follower.status.state == "stopped"
    assert world.rows() == before
    assert world.seen.name("alice.id") is not None
    world.node.blocks[fork + 1] = (block_hash, raw)
    world.follow()
    assert world.seen.name("alice.id") is None


def test_what_was_connected_before_a_corrupt_block_is_shown(world: World) -> None:
    world.open_namespace("id")
    world.node.mine([world.node.send(PAYER, world.preorder("alice.id", ALICE))])
    world.node.mine([world.node.send(PAYER, fakes.register("alice.id", ALICE))])
    world.node.mine()
    block_hash, raw = world.node.blocks[-1]
    world.node.blocks[-1] = (block_hash, raw[:-1] + bytes((raw[-1] ^ 1,)))
    world.follower._round(_NEVER)
    assert world.follower.status.state == "stopped"
    assert world.follower.status.height == len(world.node.blocks) - 2
    assert world.seen.name("alice.id") is not None
    assert world.told[-1] == {"alice.id"}


def test_the_same_trouble_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.open_namespace("id")
    world.node.mine()
    block_hash, raw = world.node.blocks[-1]
    world.node.blocks[-1] = (block_hash, raw[:-1] + bytes((raw[-1] ^ 1,)))
    for _ in range(3):
        world.follower._round(_NEVER)
    assert sum("corrupt block" in record.getMessage() for record in caplog.records) == 1


def test_a_node_that_goes_away_and_comes_back_needs_no_restart(world: World) -> None:
    world.open_namespace("id")
    world.node.down = True
    assert world.follower._round(_NEVER) > 0
    assert world.follower.status.state == "node unavailable"
    assert world.seen.namespace("id") is not None
    world.node.down = False
    world.register("alice.id", ALICE)
    assert world.follower.status.state == "following"
    assert world.seen.name("alice.id") is not None


def test_a_node_that_dies_between_two_blocks_loses_no_news(world: World) -> None:
    world.open_namespace("id")
    world.node.mine([world.node.send(PAYER, world.preorder("alice.id", ALICE))])
    world.node.mine([world.node.send(PAYER, fakes.register("alice.id", ALICE))])
    world.node.mine()
    fetched, asked = world.node.raw_blocks, 0

    def dying(hashes: list[bytes]) -> list[bytes]:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise NodeUnavailable("the fake node died; start it again")
        return fetched(hashes[:1]) if len(hashes) == 1 else fetched(hashes)

    world.node.raw_blocks = dying  # type: ignore[method-assign]
    world.follower._reader._block_bytes = 100_000_000.0  # one block a batch
    told = len(world.told)
    world.follower._round(_NEVER)
    assert world.seen.name("alice.id") is None  # the plan is not done, nobody sees half of it
    world.follow()
    assert world.seen.name("alice.id") is not None
    assert frozenset().union(*world.told[told:]) == {"alice.id"}


def headers_asked(world: World, bent: Callable[[list[bytes]], list[bytes]]) -> list[str]:
    """Bend the headers that the node shows; what was asked of it from then on, in order."""
    asked: list[str] = []
    show, read = world.node.headers, world.node.raw_blocks

    def headers(hashes: Sequence[bytes]) -> list[bytes]:
        asked.append("headers")
        return bent(show(hashes))

    def raw_blocks(hashes: Sequence[bytes]) -> list[bytes]:
        asked.append("blocks")
        return read(hashes)

    world.node.headers, world.node.raw_blocks = headers, raw_blocks  # type: ignore[method-assign]
    return asked


def test_the_headers_of_a_long_way_are_checked_before_any_block_is_read(world: World) -> None:
    for _ in range(HEADERS_FIRST):
        world.node.mine()
    asked = headers_asked(world, lambda headers: headers)
    while world.follower.step():
        pass
    assert world.seen.height == len(world.node.blocks) - 1
    assert asked[:2] == ["headers", "blocks"]


def test_headers_that_are_no_chain_are_asked_for_again_and_no_block_is_read(world: World) -> None:
    """As where the node turned to another chain while it told the hashes."""
    for _ in range(HEADERS_FIRST):
        world.node.mine()
    turned = bytes(4) + bytes(32)
    asked = headers_asked(world, lambda h: [*h[:20], turned + h[20][36:], *h[21:]])
    before = world.seen.height
    assert not world.follower.step()
    assert (asked, world.seen.height) == (["headers"], before)
    assert world.follower.status.last_error is None


def test_a_header_without_work_stops_the_follower_before_any_block_is_read(world: World) -> None:
    for _ in range(HEADERS_FIRST):
        world.node.mine()
    idle = (0x03000001).to_bytes(4, "little")  # bits that no hash meets
    asked = headers_asked(world, lambda h: [*h[:20], h[20][:72] + idle + h[20][76:], *h[21:]])
    with pytest.raises(BadBlock, match="does not show the work that it claims; check the node"):
        world.follower.step()
    assert asked == ["headers"]


def test_a_node_that_shows_no_headers_is_followed_all_the_same(world: World) -> None:
    for _ in range(HEADERS_FIRST):
        world.node.mine()
    world.node.headers = lambda hashes: None  # type: ignore[method-assign,assignment,return-value]
    while world.follower.step():
        pass
    assert world.seen.height == len(world.node.blocks) - 1


def test_a_node_on_another_chain_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "index", REGTEST)
    world.node.chain = "main"
    world.follower._round(_NEVER)
    assert "'main'" in (world.follower.status.last_error or "")
    assert world.table.tip is None


def test_a_node_that_becomes_one_of_another_chain_between_two_questions_is_refused(
    world: World,
) -> None:
    """It was started anew with other settings, and no call to it had failed."""
    for _ in range(3):
        world.mine()
    before = world.rows()
    world.node.chain = "main"
    world.follower._round(_NEVER)
    assert "'main'" in (world.follower.status.last_error or "")
    world.node.chain = world.network.node_chain
    own = world.node.blocks
    other = FakeNode(world.network)
    other.blocks[0] = (bytes(32), b"")
    for _ in range(5):
        other.mine(salt=9)
    world.node.blocks = other.blocks
    world.follower._round(_NEVER)
    assert "first block is 0000" in (world.follower.status.last_error or "")
    assert world.rows() == before
    world.node.blocks = own
    world.mine()
    assert world.follower.status.state == "following"


def test_a_checkpoint_that_does_not_match_stops_before_it_is_written(tmp_path: Path) -> None:
    from dataclasses import replace

    network = replace(SANDBOX, checkpoints={2: bytes(16)})
    world = World(tmp_path / "index", network)
    world.node.mine()
    world.node.mine()
    world.follower._round(_NEVER)
    assert "consensus hash of block 2" in (world.follower.status.last_error or "")
    assert world.table.tip == 1


def test_a_table_of_a_newer_schema_or_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index"
    NameTable(path, SANDBOX).close()
    with pytest.raises(TableError, match="belongs to the network 'sandbox'"):
        NameTable(path, REGTEST)
    database = plyvel.DB(str(path))
    newer = {"schema": schema.SCHEMA_VERSION + 1, "network": "sandbox"}
    database.put(schema.SCHEMA_KEY, json.dumps(newer).encode())
    database.close()
    with pytest.raises(TableError, match="newer version"):
        NameTable(path, SANDBOX)


def test_a_table_in_use_or_not_a_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    table = NameTable(tmp_path / "index", SANDBOX)
    with pytest.raises(TableError, match="another process") as in_use:
        NameTable(tmp_path / "index", SANDBOX)
    assert "\n" not in str(in_use.value)
    table.close()
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(TableError):
        NameTable(tmp_path / "file", SANDBOX)


def test_a_name_expires_by_height_alone(world: World) -> None:
    world.open_namespace("id", lifetime=5)
    world.register("alice.id", ALICE)
    grace = SANDBOX.epochs[0].grace_period
    phases = []
    for _ in range(5 + grace + 2):
        found = world.seen.name_status("alice.id") or pytest.fail("the record stays")
        phases.append(found[1].phase)
        world.mine()
    assert phases[:5] == [Phase.LIVE] * 5
    assert phases[5 : 5 + grace] == [Phase.GRACE] * grace
    found = world.seen.name_status("alice.id") or pytest.fail("the record stays")
    assert found[1].phase is Phase.EXPIRED
    assert found[1].gone_at is not None
