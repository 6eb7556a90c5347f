"""The house keeps its own rules: who imports whom, and what may stand where.

``HOUSE`` is the one table of rooms. Run as a program, this module writes the picture that the
README has of it: ``python -m tests.test_architecture``.
"""

import ast
from fnmatch import fnmatch
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

HOUSE = {
    "resolver": (
        "blockstored blockstore_cli",
        "sandbox",
        "cli daemon",
        "client",
        "service",
        "settings",
        "api",
        "doors",
        "resolve",
        "forwarding",
        "transfers",
        "signing",
        "dns",
        "process",
        "refusals terminal",
        "words",
    ),
    "indexer": (
        "sandbox",
        "registrar/work",
        "registrar/planning",
        "following",
        "wallet",
        "node peers servers",
        "table",
        "protocol",
        "bitcoin",
        "child networks",
    ),
    "zonefiles": (
        "holdings",
        "sources",
        "replication",
        "dht peers",
        "addresses",
        "archive",
        "text",
    ),
}
"""The floors of each package, top first, and the rooms of each. A room is a folder, or a file that
is a room by itself. It imports from the floors below its own and from no room beside or above."""

PACKAGES = {"resolver": {"indexer", "zonefiles"}, "indexer": set(), "zonefiles": set()}
"""The other packages that each may import."""

EVERYTHING = "*"
PURE_ROOMS = {
    "indexer/bitcoin": EVERYTHING,
    "indexer/following": "chain progress",
    "indexer/networks": EVERYTHING,
    "indexer/node": "costs replies spent_outputs",
    "indexer/protocol": EVERYTHING,
    "indexer/registrar/planning": "cautions compose dates payments plan plan_text purse"
    " quote refusals steps wishes",
    "indexer/registrar/work": "actions decide jobs no_effect observed progress renewals sharing",
    "indexer/table": "log_file pages snapshot snapshot_file",
    "indexer/wallet": "coins keys payment psbt signers",
    "zonefiles/dht": "limits messages",
    "zonefiles/text": EVERYTHING,
    "resolver/api": "calendar chain chain_names job_shapes listing_cache lists lookup names openapi"
    " orders parameters registrar request route_table routes rpc rpc_methods schemas"
    " shapes",
    "resolver/cli": "verified",
    "resolver/dns": EVERYTHING,
    "resolver/doors": "doh_json doh_pages http2 http_values proxies",
    "resolver/forwarding": "cache delegation health query recursion scrub special_use upstreams",
    "resolver/process": "places",
    "resolver/refusals": EVERYTHING,
    "resolver/settings": "settings table text types",
    "resolver/transfers": "messages",
    "resolver/words": EVERYTHING,
}
"""What takes and gives values only: whole rooms, or these files of a room."""

OUTSIDE = {"twisted", "plyvel", "plyvel_next", "bitcoinrpc", "kademlia", "rpcudp"}
OUTSIDE |= {"socket", "asyncio", "threading", "random", "secrets", "subprocess", "time"}
"""What no pure file imports."""

OWNERS = {
    "twisted": "resolver/* zonefiles/dht/* zonefiles/peers/* indexer/peers/* indexer/servers/*",
    "plyvel": "indexer/table/* zonefiles/archive/*",
    "plyvel_next": "indexer/table/* zonefiles/archive/*",
    "dnslib": "resolver/dns/message.py",
    "bitcoinrpc": "indexer/node/*",
    "kademlia": "zonefiles/dht/*",
    "rpcudp": "zonefiles/dht/*",
    "h2": "resolver/doors/http2.py",
    "hpack": "resolver/doors/http2.py",
}
"""Libraries that nobody else may import."""

KNOW_MANY = ("resolver/service", "resolver/blockstored", "resolver/blockstore_cli")
MANY = 10
"""Rooms. Whoever is not one of these, nor a sandbox, knows no more."""

MOST_LINES = 600
MAIN_OF_SANDBOX = "resolver/blockstored.py"
"""Where the command `sandbox` is."""

PICTURE = ("<!-- rooms: python -m tests.test_architecture -->\n", "<!-- /rooms -->\n")

FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in HOUSE
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
)
FLOOR = {
    f"{package}/{room}": floor
    for package, floors in HOUSE.items()
    for floor, rooms in enumerate(reversed(floors))
    for room in rooms.split()
}


def room_of(file: str) -> str:
    """The room in which a file is, or which it is."""
    rooms = [one for one in FLOOR if file == f"{one}.py" or file.startswith(f"{one}/")]
    assert rooms, f"{file} is in no room of HOUSE"
    return rooms[0]


def in_sandbox(room: str) -> bool:
    return room.endswith("/sandbox")


def is_pure(file: str) -> bool:
    inside = PURE_ROOMS.get(room_of(file), "").split()
    return EVERYTHING in inside or Path(file).stem in inside


PURE = frozenset(filter(is_pure, FILES))
"""Files that take and give values only; ``.ci/run`` checks their types strictly."""


@cache
def tree_of(path: Path) -> ast.Module:
    """What the file says, read once for all the tests."""
    return ast.parse(path.read_text("utf-8"))


@cache
def imported(file: str) -> frozenset[str]:
    """Every module that the file imports, also inside functions and for types alone."""
    found = set[str]()
    for statement in ast.walk(tree_of(ROOT / file)):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{file}: imports are absolute"
            found.add(statement.module or "")
            found.update(f"{statement.module}.{alias.name}" for alias in statement.names)
    return frozenset(found)


def libraries(file: str) -> set[str]:
    return {module.partition(".")[0] for module in imported(file)}


def ours(file: str) -> set[str]:
    """The files of ours that the file imports."""
    named = {module.replace(".", "/") + ".py" for module in imported(file)}
    return named.intersection(FILES) - {file}


def rooms_known(file: str) -> set[str]:
    return {room_of(other) for other in ours(file)} - {room_of(file)}


def test_a_file_imports_only_from_the_floors_below() -> None:
    wrong = []
    for file in FILES:
        room = room_of(file)
        package = room.partition("/")[0]
        assert libraries(file) & {*HOUSE, "tests"} <= PACKAGES[package] | {package}, file
        for other in rooms_known(file):
            if other.startswith(f"{package}/") and FLOOR[other] >= FLOOR[room]:
                wrong.append(f"{file} imports {other}, which is not below it")
    assert not wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({file: ours(file) for file in FILES}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_a_library_is_imported_by_its_owners_only() -> None:
    assert not [
        (file, library)
        for file in FILES
        for library in libraries(file) & set(OWNERS)
        if not any(fnmatch(file, pattern) for pattern in OWNERS[library].split())
    ]


@pytest.mark.parametrize("room", ["indexer/table", "zonefiles/archive"])
def test_a_database_is_opened_in_one_file_of_its_room(room: str) -> None:
    opening = [f for f in FILES if room_of(f) == room and libraries(f) & {"plyvel", "plyvel_next"}]
    assert len(opening) == 1, opening


def test_only_the_root_the_mains_and_the_sandbox_know_many_rooms() -> None:
    others = [f for f in FILES if room_of(f) not in KNOW_MANY and not in_sandbox(room_of(f))]
    known = {file: len(rooms_known(file)) for file in others}
    assert {file: count for file, count in known.items() if count > MANY} == {}


def test_what_people_run_needs_no_sandbox() -> None:
    others = [f for f in FILES if not in_sandbox(room_of(f))]
    assert [f for f in others if any(map(in_sandbox, rooms_known(f)))] == [MAIN_OF_SANDBOX]


def test_a_pure_file_reaches_nothing_outside_itself() -> None:
    reached = {file: libraries(file) & OUTSIDE | ours(file) - PURE for file in PURE}
    assert {file: what for file, what in reached.items() if what} == {}


def test_every_file_that_is_said_to_be_pure_is_there() -> None:
    named = {f"{room}/{stem}.py" for room, stems in PURE_ROOMS.items() for stem in stems.split()}
    assert {file for file in named if not file.endswith(f"/{EVERYTHING}.py")} <= set(FILES)


def test_every_pure_file_is_checked_strictly() -> None:
    listed = "$(python -c 'from tests.test_architecture import PURE; print(*sorted(PURE))')"
    assert f"mypy --strict {listed}" in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


def test_a_file_begins_with_a_sentence_and_stays_small() -> None:
    assert not [file for file in FILES if not first_sentence(ROOT / file).endswith((".", "?"))]
    sizes = {file: len((ROOT / file).read_text("utf-8").splitlines()) for file in FILES}
    assert {file: size for file, size in sizes.items() if size > MOST_LINES} == {}


def test_text_for_people_leaves_in_one_place() -> None:
    spoken = []
    for file in (one for one in FILES if one != "resolver/terminal.py"):
        for call in ast.walk(tree_of(ROOT / file)):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute):
                said = ast.unparse(call.func)
                spoken += [file] if said in ("print", "click.echo", "click.secho", "echo") else []
    assert spoken == []


def first_sentence(path: Path) -> str:
    """The first paragraph of a file's docstring."""
    docstring = ast.get_docstring(tree_of(path))
    assert docstring, f"{path} says what it is"
    return " ".join(docstring.partition("\n\n")[0].split())


def picture() -> str:
    """The rooms that there are, for the README: floor by floor, top first, with a sentence each."""
    lines = ["```text"]
    for package, floors in HOUSE.items():
        may = " and ".join(sorted(PACKAGES[package])) or "neither of the others"
        lines.append(f"{package}/  {first_sentence(ROOT / package / '__init__.py')}")
        lines.append(f"    It imports {may}.")
        for rooms in floors:
            beside = ""
            for room in rooms.split():
                folder = ROOT / package / room
                file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
                if file.exists():
                    name = f"{room}/" if folder.is_dir() else f"{room}.py"
                    lines.append(f"  {beside or '-'} {name:21}{first_sentence(file)}")
                    beside = "="
    return "\n".join([*lines, "```\n"])


def test_the_readme_shows_the_rooms_as_they_are() -> None:
    begin, end = PICTURE
    shown = (ROOT / "README.md").read_text("utf-8").partition(begin)[2].partition(end)[0]
    assert shown == picture(), "run python -m tests.test_architecture"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text("utf-8").partition(PICTURE[0])
    _, end, after = rest.partition(PICTURE[1])
    assert end, f"README.md has no {PICTURE[0]!r}"
    readme.write_text(before + begin + picture() + end + after, "utf-8")
