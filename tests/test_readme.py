"""The READMEs tell the truth about settings, libraries, files and commands.

``python -m tests.test_readme`` writes their tables of settings and files anew.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from resolver.settings.text import markdown_table
from tests.conftest import ROOT

README = ROOT / "README.md"
SETUP = ROOT / "setup.py"
SETTINGS = ROOT / "resolver" / "settings" / "README.md"
PACKAGES = ("indexer", "zonefiles", "resolver")
PAGES = sorted(
    path
    for package in (*PACKAGES, "tests")
    for path in (ROOT / package).rglob("*.md")
    if "node_modules" not in path.parts
)


def _sentence(path: Path) -> str:
    """The first sentence of a module, as one line."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def _files(package: str) -> Iterator[str]:
    """Every file of a package with its first sentence, room by room."""
    root = ROOT / package
    yield "| file | what it is |"
    yield "|---|---|"
    rooms = sorted({path.parent for path in root.rglob("*.py")}, key=lambda p: p.as_posix())
    for room in rooms:
        if room != root:
            yield f"| **{room.relative_to(root)}/** | **{_sentence(room / '__init__.py')}** |"
        for path in sorted(room.glob("*.py")):
            if path.name != "__init__.py":
                yield f"| `{path.name}` | {_sentence(path)} |"


def _table(name: str, text: str) -> str | None:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    return None if found is None else found[1]


def tables() -> Iterator[tuple[Path, str, str]]:
    """(page, name of the table, what it must hold) of every table that is made from the code."""
    yield SETTINGS, "settings", markdown_table().strip() + "\n"
    for package in PACKAGES:
        yield ROOT / package / "README.md", "files", "\n".join(_files(package)) + "\n"


@pytest.mark.parametrize(
    ("page", "name", "made"), [pytest.param(*t, id=f"{t[0].parent.name}-{t[1]}") for t in tables()]
)
def test_a_table_is_as_the_code_has_it(page: Path, name: str, made: str) -> None:
    found = _table(name, page.read_text("utf-8"))
    assert found is not None
    assert found.strip() == made.strip(), "write it anew: python -m tests.test_readme"


def test_every_library_is_named_with_what_it_is_for() -> None:
    required = re.search(r"install_requires=\[\n(.*?)\n    \]", SETUP.read_text("utf-8"), re.DOTALL)
    assert required is not None
    names = re.findall(r'"([A-Za-z0-9-]+)', required[1])
    assert len(names) >= 8
    text = README.read_text("utf-8")
    missing = [name for name in names if f"| {name} |" not in text]
    assert not missing


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_linked_file_exists_and_a_page_is_short(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    assert len(text.splitlines()) <= (250 if page == README else 200)


def test_every_room_with_a_page_is_found_from_the_main_one() -> None:
    text = README.read_text("utf-8")
    missing = [page for page in PAGES if f"({page.relative_to(ROOT).as_posix()})" not in text]
    assert not missing


def write_tables() -> None:
    """Put every table into its page as the code has it."""
    for page, name, made in tables():
        text = page.read_text("utf-8")
        old = _table(name, text)
        assert old is not None, f"{page} has no place for the table {name}"
        marked = f"<!-- {name} -->\n"
        page.write_text(text.replace(f"{marked}{old}", f"{marked}{made}"), "utf-8")


if __name__ == "__main__":
    write_tables()
