"""``blockstored replay`` and ``blockstored verify``, as a person runs them."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from indexer.networks import REGTEST
from indexer.table.level import Level
from resolver import blockstored as program
from resolver.words import PID_NAME
from tests.conftest import DATA
from tests.indexer.following.test_follower import World, _transactions
from tests.indexer.following.test_replay import chain_file
from tests.resolver.daemon.daemon_process import holding

CHAINS = sorted((DATA / "protocol" / "chains").glob("*.json"))


def run(tmp_path: Path, *arguments: object) -> Result:
    env = {"HOME": str(tmp_path)}
    return CliRunner().invoke(program.cli, [str(one) for one in arguments], env=env)


def one_line(result: Result) -> str:
    (line,) = result.stderr.splitlines()
    assert line.startswith("blockstored: ")
    return line


@pytest.mark.data
@pytest.mark.parametrize("path", CHAINS or [Path("none")], ids=lambda path: path.stem)
def test_a_recorded_chain_is_printed_line_by_line_and_checked(path: Path, tmp_path: Path) -> None:
    result = run(tmp_path, "replay", path, "--check")
    assert result.exit_code == 0, result.stderr
    recorded = json.loads(path.read_text())["blocks"]
    expected = [f"{b['height']} {b['ops_hash']} {b['consensus_hash']}" for b in recorded]
    assert result.stdout.splitlines() == expected


def test_what_differs_is_shown_after_the_blocks_that_do_not(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    document = chain_file(path)
    document["blocks"][4]["serialized_ops"][0] = document["blocks"][4]["serialized_ops"][0].replace(
        "5:False", "4:True"
    )
    document["blocks"][4]["ops_hash"] = "00" * 32
    path.write_text(json.dumps(document))
    assert run(tmp_path, "replay", path).exit_code == 0
    result = run(tmp_path, "replay", "--check", path)
    assert result.exit_code == 1
    assert "ops_hash" in result.stderr
    assert "expected" in result.stderr
    assert len(result.stdout.splitlines()) == 5


def test_several_files_are_replayed_and_named_on_stderr(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        chain_file(tmp_path / name)
    result = run(tmp_path, "replay", "--check", tmp_path / "one.json", tmp_path / "two.json")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert "two.json" in result.stderr


@pytest.mark.parametrize("text", [None, "", "[]", '{"params": {}, "blocks": []}'])
def test_a_file_that_cannot_be_replayed_is_one_line_and_exit_code_2(
    text: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_text(text)
    result = run(tmp_path, "replay", path)
    assert result.exit_code == 2
    assert str(path) in one_line(result)


# --- verify


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    """A working folder with a closed index of regtest, and its consensus hashes by height."""
    folder = tmp_path_factory.mktemp("node")
    world = World(folder / "names", REGTEST)
    for _ in range(REGTEST.first_block):
        world.node.mine()
    world.open_namespace("id")
    for n in range(5):
        world.mine(*_transactions(world, n, n))
    hashes = {}
    for height in range(REGTEST.first_block, world.seen.height + 1):
        found = world.seen.consensus_hash(height)
        assert found is not None
        hashes[height] = found.hex()
    world.table.close()
    return folder, hashes


def verify(folder: Path, height: object, consensus: str, network: str = "regtest") -> Result:
    where = ("--working-dir", folder, "--network", network)
    return run(folder, "verify", "--height", height, "--consensus", consensus, *where)


def test_an_index_is_verified_at_any_of_its_blocks(indexed: tuple[Path, dict[int, str]]) -> None:
    folder, hashes = indexed
    assert len(hashes) > 5
    for height, digest in hashes.items():
        result = verify(folder, height, digest)
        assert (result.exit_code, result.stdout) == (0, f"{height} {digest}\n")


@pytest.mark.parametrize("kind", [b"N", b"y", b"v", b"d", b"!names"])
@pytest.mark.parametrize("change", ["other", "gone", "new"])
def test_a_row_that_does_not_follow_from_the_blocks_is_found(
    kind: bytes, change: str, indexed: tuple[Path, dict[int, str]], tmp_path: Path
) -> None:
    """With checksums that are right: whoever wrote it, it is not what the chain says."""
    folder, hashes = indexed
    copied = tmp_path / "w"
    shutil.copytree(folder, copied)
    level = Level(copied / "names")
    key, row = next(iter(level.between(kind, None)))
    rows: dict[str, list[tuple[bytes, bytes | None]]] = {
        "other": [(key, row[:-1] + bytes(((row or b"\0")[-1] ^ 1,)))],
        "gone": [(key, None)],
        "new": [(key + b"0", row)],
    }
    level.write(rows[change], sync=True)
    level.close()
    result = verify(copied, max(hashes), hashes[max(hashes)])
    assert result.exit_code == 1
    assert "is damaged" in one_line(result)
    assert "blockstored reindex" in one_line(result)
    assert not list(copied.glob("names.*")), "nothing is left beside it"


def test_another_hash_is_refused_with_the_one_that_was_computed(
    indexed: tuple[Path, dict[int, str]],
) -> None:
    folder, hashes = indexed
    height = max(hashes)
    result = verify(folder, height, "00" * 16)
    assert result.exit_code == 1
    assert f"{hashes[height]}, not {'00' * 16}" in one_line(result)


@pytest.mark.parametrize(
    ("height", "consensus", "said"),
    [
        (255, "00" * 16, "is not indexed"),
        (10**6, "00" * 16, "is not indexed"),
    ],
)
def test_what_cannot_be_verified_says_why_in_one_line(
    height: int, consensus: str, said: str, indexed: tuple[Path, dict[int, str]]
) -> None:
    result = verify(indexed[0], height, consensus)
    assert result.exit_code == 2
    assert said in one_line(result)


@pytest.mark.parametrize("consensus", ["00", "zz" * 16, "0 " * 16, ""])
def test_what_is_no_hash_is_a_wrong_command_line(
    consensus: str, indexed: tuple[Path, dict[int, str]]
) -> None:
    result = verify(indexed[0], 260, consensus)
    assert result.exit_code == 2
    assert "is not 32 hex digits" in result.stderr


def test_an_index_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = verify(tmp_path, 300, "00" * 16)
    assert result.exit_code == 2
    assert "there is no index" in one_line(result)
    assert not (tmp_path / "names").exists()


def test_while_the_daemon_holds_the_index_verify_says_what_to_do(
    indexed: tuple[Path, dict[int, str]],
) -> None:
    with holding(indexed[0] / PID_NAME):
        result = verify(indexed[0], 260, "00" * 16)
    assert result.exit_code == 2
    assert "blockstored stop" in one_line(result)


def test_nothing_is_verified_beyond_the_freeze_of_mainnet(tmp_path: Path) -> None:
    result = verify(tmp_path, 547_922, "00" * 16, "mainnet")
    assert result.exit_code == 2
    assert "frozen at 547921" in one_line(result)
