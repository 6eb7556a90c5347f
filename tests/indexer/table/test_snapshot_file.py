"""Snapshot files: what they give back, and every way in which one can lie."""

import io
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.headers import HEADER_BYTES, meets_target, parse_header
from indexer.following.replay import MemoryStore, read_chain
from indexer.networks import REGTEST, SANDBOX
from indexer.protocol import schema
from indexer.protocol.apply import SpentCandidate, apply_block
from indexer.protocol.carried import Carried, read_carried, write_carried
from indexer.protocol.rows import write_number
from indexer.table.rebuild import RebuildFailed, import_snapshot
from indexer.table.snapshot_file import MAX_ROW, BadSnapshot, write_snapshot
from indexer.table.table import NameTable
from tests.indexer import fakes
from tests.indexer.fakes import Person
from tests.indexer.following.test_follower import ALICE, BOB, PAYER, REVEALER, World
from tests.rings import times

SPOTS = times(20, 60, 1_000)
"""At how many places of a file something is changed."""
NOT_COVERED = b"vTwUR!"
"""Rows that tell of refused operations too, or how the table came to be."""


@dataclass(frozen=True)
class Whole:
    """A chain with a bit of everything, its table's rows and its snapshot file."""

    world: World
    rows: dict[bytes, bytes]
    file: bytes

    @property
    def height(self) -> int:
        return self.world.seen.height

    @property
    def trusted(self) -> bytes:
        return self.world.consensus

    @property
    def head(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.partition(b"\n")[0])
        return found

    @property
    def payload(self) -> bytes:
        return lzma.decompress(self.file.partition(b"\n")[2])


def packed(head: dict[str, Any], payload: bytes) -> bytes:
    return json.dumps(head).encode() + b"\n" + lzma.compress(payload)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    world = World(tmp_path_factory.mktemp("whole") / "names")
    send = world.node.send
    world.mine()
    wish = fakes.namespace_preorder(SANDBOX, "id", PAYER, REVEALER, world.consensus)
    world.mine(send(PAYER, wish))
    world.mine(send(PAYER, fakes.namespace_reveal("id", REVEALER)))
    world.mine(send(REVEALER, fakes.name_import("imported.id", BOB, b"i" * 20)))
    world.mine(send(REVEALER, fakes.namespace_ready("id")))
    world.register("alice.id", ALICE, b"a" * 20)
    world.mine(
        send(ALICE, fakes.update("alice.id", world.consensus, b"b" * 20)),
        send(BOB, fakes.update("alice.id", world.consensus, b"c" * 20)),  # not his
        send(PAYER, world.preorder("bob.id", BOB)),
    )
    # Two that claim one name in one block are both refused, and neither is in the file.
    rivals = [Person("one"), Person("two")]
    world.mine(*(send(PAYER, world.preorder("rivals.id", rival)) for rival in rivals))
    world.mine(*(send(PAYER, fakes.register("rivals.id", rival)) for rival in rivals))
    world.mine(send(PAYER, world.preorder("waiting.id", ALICE)))
    world.mine()
    return Whole(world, world.rows(), b"".join(write_snapshot(world.seen)))


def take(
    file: bytes, folder: Path, trusted: bytes, height: int | None = None
) -> dict[bytes, bytes]:
    """The rows of the table that an import makes."""
    import_snapshot(io.BytesIO(file), folder / "names", SANDBOX, trusted, height)
    table = NameTable(folder / "names", SANDBOX)
    rows = dict(table.scan(b""))
    table.close()
    return rows


def refused(file: bytes, folder: Path, trusted: bytes, height: int | None = None) -> str:
    """Why the file is refused; nothing of it is left."""
    with pytest.raises(BadSnapshot) as why:
        import_snapshot(io.BytesIO(file), folder / "names", SANDBOX, trusted, height)
    assert list(folder.iterdir()) == []
    assert "\n" not in str(why.value)
    return str(why.value)


def covered(rows: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {key: row for key, row in rows.items() if key[0] not in NOT_COVERED}


def test_an_import_gives_every_row_that_the_trusted_hash_covers(
    whole: Whole, tmp_path: Path
) -> None:
    rows = take(whole.file, tmp_path, whole.trusted)
    assert covered(rows) == covered(whole.rows)
    for key in (schema.TIP_KEY, schema.NAME_COUNT_KEY, schema.SCHEMA_KEY):
        assert rows[key] == whole.rows[key]
    assert [path.name for path in tmp_path.iterdir()] == ["names"]


def test_what_was_refused_is_not_in_the_file_and_its_verdict_is_not_known(
    whole: Whole, tmp_path: Path
) -> None:
    rows = take(whole.file, tmp_path, whole.trusted)
    verdicts = {key for key in whole.rows if key[:1] == b"v"}
    refusals = {
        key for key in verdicts if schema.VERDICT_ROW.read(whole.rows[key]).flaw is not None
    }
    assert len(refusals) == 3
    assert {key for key in rows if key[:1] == b"v"} == verdicts - refusals
    table = NameTable(tmp_path / "names", SANDBOX)
    assert table.snapshot().began_at == whole.height
    table.close()
    assert whole.world.seen.began_at is None


def test_an_older_block_may_be_the_trusted_one(whole: Whole, tmp_path: Path) -> None:
    height = whole.height - 4
    trusted = whole.world.seen.consensus_hash(height) or b""
    rows = take(whole.file, tmp_path, trusted, height)
    assert int.from_bytes(rows[schema.TIP_KEY], "big") == height
    straight = World(tmp_path / "straight")
    straight.node.blocks = whole.world.node.blocks[: height + 1]
    straight.node.spent = whole.world.node.spent
    straight.follow()
    assert covered(rows) == covered(straight.rows())


def test_an_imported_table_is_followed_on_and_taken_back(whole: Whole, tmp_path: Path) -> None:
    take(whole.file, tmp_path, whole.trusted)
    world = World(tmp_path / "names")
    world.node.blocks = list(whole.world.node.blocks)
    world.node.spent = dict(whole.world.node.spent)
    world.mine(world.node.send(PAYER, fakes.register("waiting.id", ALICE)))
    assert world.seen.name("waiting.id") is not None
    fork = whole.height - 5
    world.node.invalidate(fork)
    for _ in range(8):
        world.node.mine(salt=3)
    world.follow()
    assert world.follower.status.state == "following"
    assert world.seen.name("waiting.id") is None
    straight = World(tmp_path / "straight")
    straight.node.blocks, straight.node.spent = world.node.blocks, world.node.spent
    straight.follow()
    assert covered(world.rows()) == covered(straight.rows())


def test_the_snapshot_of_an_import_is_the_same_file(whole: Whole, tmp_path: Path) -> None:
    take(whole.file, tmp_path, whole.trusted)
    table = NameTable(tmp_path / "names", SANDBOX)
    assert b"".join(write_snapshot(table.snapshot())) == whole.file
    table.close()


# --- lies


def test_a_file_with_any_one_bit_flipped_is_refused(whole: Whole, tmp_path: Path) -> None:
    for at in range(0, len(whole.file), max(1, len(whole.file) // SPOTS)):
        flipped = bytearray(whole.file)
        flipped[at] ^= 1 << at % 8
        refused(bytes(flipped), tmp_path, whole.trusted)


def test_a_lie_below_the_checksum_is_refused_too(whole: Whole, tmp_path: Path) -> None:
    payload = whole.payload
    for at in range(0, len(payload), max(1, len(payload) // SPOTS)):
        lie = bytearray(payload)
        lie[at] ^= 1 << at % 8
        refused(packed(whole.head, bytes(lie)), tmp_path, whole.trusted)


def test_a_file_that_ends_early_anywhere_is_refused(whole: Whole, tmp_path: Path) -> None:
    for size in range(0, len(whole.file), max(1, len(whole.file) // 25)):
        refused(whole.file[:size], tmp_path, whole.trusted)
    assert "cut short" in refused(packed(whole.head, whole.payload[:-1]), tmp_path, whole.trusted)


def test_whatever_follows_the_end_is_refused(whole: Whole, tmp_path: Path) -> None:
    assert "follows its end" in refused(whole.file + b"\0", tmp_path, whole.trusted)
    longer = packed(whole.head, whole.payload + b"\0")
    assert "follows its last block" in refused(longer, tmp_path, whole.trusted)


def _frames(payload: bytes) -> list[tuple[bytes, list[Carried]]]:
    """The blocks of a payload: the 48 bytes of a header and the operations."""
    at, frames = 32, []
    while at < len(payload):
        rest, at = payload[at : at + 48], at + 48
        size = shift = 0
        while True:
            byte, at = payload[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        frames.append((rest, list(read_carried(payload[at : at + size]))))
        at += size
    return frames


def _payload(link: bytes, frames: list[tuple[bytes, list[Carried]]]) -> bytes:
    rows = ((rest, write_carried(operations)) for rest, operations in frames)
    return link + b"".join(rest + write_number(len(row)) + row for rest, row in rows)


def _lie(whole: Whole, change: Callable[[list[Carried]], list[Carried]]) -> bytes:
    """The file with the operations of each block that has some changed, one block only."""
    frames = _frames(whole.payload)
    for index, (rest, operations) in enumerate(frames):
        told = change(list(operations))
        if told != operations:
            frames[index] = (rest, told)
            break
    else:
        raise AssertionError("the lie changes nothing")
    return packed(whole.head, _payload(whole.payload[:32], frames))


def _stranger(operation: Carried) -> Carried:
    scripts = (Person("thief").script, *operation.spent_scripts[1:])
    return operation._replace(spent_scripts=scripts)


LIES: dict[str, Callable[[list[Carried]], list[Carried]]] = {
    "an operation is left out": lambda operations: operations[1:],
    "an operation is said twice": lambda operations: (
        [*operations, operations[-1]._replace(vtxindex=9)] if operations else []
    ),
    "another signed": lambda operations: [_stranger(o) for o in operations],
    "it stood elsewhere in its block": lambda operations: [
        o._replace(vtxindex=o.vtxindex + 1) for o in operations
    ],
    "it is said to count for nothing": lambda operations: [
        o._replace(counted=False) for o in operations
    ],
    "nobody signed": lambda operations: [o._replace(spent_scripts=()) for o in operations],
    "a script of another kind was spent": lambda operations: [
        o._replace(spent_scripts=(b"\x51",)) for o in operations
    ],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_an_operation_is_refused(whole: Whole, tmp_path: Path, lie: str) -> None:
    refused(_lie(whole, LIES[lie]), tmp_path, whole.trusted)


def test_an_invented_operation_is_refused_whether_or_not_the_rules_take_it(
    whole: Whole, tmp_path: Path
) -> None:
    node = whole.world.node
    theft = node.send(BOB, fakes.update("alice.id", whole.trusted, b"x" * 20))
    fair = node.send(PAYER, whole.world.preorder("invented.id", BOB))
    for raw, signer in ((theft, BOB), (fair, PAYER)):
        frames = _frames(whole.payload)
        transaction = fakes.parse_transaction(raw)
        frames[-1][1].append(Carried(3, True, transaction, (signer.script,)))
        lie = packed(whole.head, _payload(whole.payload[:32], frames))
        why = refused(lie, tmp_path, whole.trusted)
        assert "no effect" in why or "consensus hash" in why


def test_headers_must_link_and_show_work(whole: Whole, tmp_path: Path) -> None:
    frames = _frames(whole.payload)
    link, (rest, operations) = whole.payload[:32], frames[0]
    nonce = next(
        n.to_bytes(4, "little")
        for n in range(1000)
        if not meets_target(parse_header(rest[:4] + link + rest[4:-4] + n.to_bytes(4, "little")))
    )
    idle = [(rest[:-4] + nonce, operations), *frames[1:]]
    why = refused(packed(whole.head, _payload(link, idle)), tmp_path, whole.trusted)
    assert "no proof of work" in why
    easy = [(rest[:-8] + (0x217FFFFF).to_bytes(4, "little") + rest[-4:], operations), *frames[1:]]
    why = refused(packed(whole.head, _payload(link, easy)), tmp_path, whole.trusted)
    assert "no proof of work" in why
    assert len(rest) + len(link) == HEADER_BYTES


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("network", "mainnet", "of the network 'mainnet'"),
        ("network", "x" * 500, "of the network"),
        ("schema", schema.SCHEMA_VERSION + 1, "newer version"),
        ("blockstore_snapshot", 2, "newer version"),
        ("blockstore_snapshot", 0, "older version"),
        ("blockstore_snapshot", "1", "not a snapshot"),
        ("first_block", 2, "not of this network"),
        ("height", 0, "not of this network"),
        ("height", 2**40, "not of this network"),
        ("height", True, "first line is damaged"),
        ("height", 10_000, "cut short"),
        ("block_hash", "00" * 32, "is "),
        ("consensus_hash", "00" * 16, "the consensus hash of its block"),
    ],
)
def test_a_first_line_that_lies_is_refused(
    whole: Whole, tmp_path: Path, field: str, value: object, reason: str
) -> None:
    lie = packed(whole.head | {field: value}, whole.payload)
    assert reason in refused(lie, tmp_path, whole.trusted)


@pytest.mark.parametrize(
    "file", [b"", b"\n", b"{}\n", b"[1]\n", b"\xff\n", b"[" * 900 + b"\n", b"{" * 5000]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, file: bytes) -> None:
    assert "not a snapshot" in refused(file, tmp_path, bytes(16))


def test_a_hash_that_is_not_the_trusted_one_is_refused(whole: Whole, tmp_path: Path) -> None:
    refused(whole.file, tmp_path, bytes(16))
    refused(whole.file, tmp_path, whole.trusted, whole.height - 1)
    agreeing = packed(whole.head | {"consensus_hash": bytes(16).hex()}, whole.payload)
    why = refused(agreeing, tmp_path, bytes(16))
    assert whole.trusted.hex() in why


@pytest.mark.parametrize("height", [0, 10_000])
def test_a_height_that_the_file_does_not_have_is_refused(
    whole: Whole, tmp_path: Path, height: int
) -> None:
    assert f"block {height} is not in it" in refused(whole.file, tmp_path, whole.trusted, height)


def test_a_bomb_is_refused_before_it_is_unpacked(whole: Whole, tmp_path: Path) -> None:
    rest = _frames(whole.payload)[0][0]
    bomb = whole.payload[:32] + rest + write_number(MAX_ROW + 1) + bytes(8 * 2**20)
    assert f"more than {MAX_ROW} bytes" in refused(
        packed(whole.head, bomb), tmp_path, whole.trusted
    )
    endless = whole.payload[:32] + rest + b"\xff" * 1000
    refused(packed(whole.head, endless), tmp_path, whole.trusted)
    greedy = lzma.compress(
        whole.payload, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 512 * 2**20}]
    )
    line = whole.file.partition(b"\n")[0] + b"\n"
    assert "compressed part" in refused(line + greedy, tmp_path, whole.trusted)


def test_a_wrong_header_that_shows_work_ends_where_the_node_is_asked(
    whole: Whole, tmp_path: Path
) -> None:
    """A header is in no consensus hash, so a liar may invent some; no answer comes of it."""
    frames = _frames(whole.payload)
    link, (rest, operations) = whole.payload[:32], frames[-1]
    previous = whole.world.node.blocks[-2][0]
    for nonce in range(1000):
        late = rest[:44] + nonce.to_bytes(4, "little")
        header = parse_header(late[:4] + previous + late[4:])
        if meets_target(header) and header.hash != whole.world.node.blocks[-1][0]:
            break
    lie = [*frames[:-1], (late, operations)]
    head = whole.head | {"block_hash": header.hash[::-1].hex()}
    take(packed(head, _payload(link, lie)), tmp_path, whole.trusted)
    world = World(tmp_path / "names")
    world.node.blocks, world.node.spent = whole.world.node.blocks, whole.world.node.spent
    assert not world.follower.status.caught_up
    world.follow()
    assert world.seen.block_hash == whole.world.seen.block_hash
    assert covered(world.rows()) == covered(whole.rows)


# --- where it goes


def test_a_folder_that_holds_an_index_is_left_alone(whole: Whole, tmp_path: Path) -> None:
    take(whole.file, tmp_path, whole.trusted)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(RebuildFailed, match=f"holds an index up to block {whole.height}"):
        take(whole.file, tmp_path, whole.trusted)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_index_without_blocks_gives_way(whole: Whole, tmp_path: Path) -> None:
    NameTable(tmp_path / "names", SANDBOX).close()
    assert covered(take(whole.file, tmp_path, whole.trusted)) == covered(whole.rows)


def test_an_import_after_one_that_was_killed_begins_anew(whole: Whole, tmp_path: Path) -> None:
    half = World(tmp_path / "names.building")
    half.mine()
    half.table.close()
    assert covered(take(whole.file, tmp_path, whole.trusted)) == covered(whole.rows)
    assert [path.name for path in tmp_path.iterdir()] == ["names"]


def test_a_table_of_another_network_is_not_replaced(whole: Whole, tmp_path: Path) -> None:
    from indexer.table.table import TableError

    NameTable(tmp_path / "names", REGTEST).close()
    with pytest.raises(TableError, match="belongs to the network"):
        take(whole.file, tmp_path, whole.trusted)


# --- why refused operations may be left out


@pytest.mark.data
def test_recorded_chains_give_the_same_hashes_from_what_was_accepted_alone(
    data_dir: Path,
) -> None:
    left_out = 0
    for path in sorted((data_dir / "protocol" / "chains").glob("*.json")):
        chain, store, whole_store = read_chain(path), MemoryStore(), MemoryStore()
        for block in chain.blocks:
            header = bytes(80)
            full = apply_block(whole_store, chain.network, block.height, header, block.spent)
            whole_store.write(full.rows)
            kept = read_carried(full.rows.get(schema.carried_key(block.height)) or b"")
            spent = [
                SpentCandidate(Candidate(o.vtxindex, o.transaction), o.spent_scripts)
                for o in kept
                if o.counted
            ]
            left_out += len(block.spent) - len(spent)
            outcome = apply_block(store, chain.network, block.height, header, spent)
            assert outcome.consensus_hash == block.consensus_hash, (path.name, block.height)
            store.write(outcome.rows)
        assert covered(store.rows) == covered(whole_store.rows), path.name
    assert left_out > 0


def test_the_row_of_a_block_is_read_back_and_nothing_else_is(whole: Whole) -> None:
    rows = [row for key, row in whole.rows.items() if key[:1] == b"R"]
    assert rows
    for row in rows:
        assert write_carried(read_carried(row)) == row
