"""The README tells the truth about settings, libraries and commands.

``python -m tests.test_readme`` writes its table of settings anew.
"""

import re
from pathlib import Path

import pytest

from resolver.settings.text import markdown_table
from tests.conftest import ROOT

README = ROOT / "README.md"
SETUP = ROOT / "setup.py"
_TABLE = re.compile(r"(<!-- settings -->\n)(.*?)(<!-- /settings -->)", re.DOTALL)


def test_every_setting_is_in_the_table() -> None:
    found = _TABLE.search(README.read_text("utf-8"))
    assert found is not None
    assert found[2].strip() == markdown_table().strip()


def test_every_library_is_named_with_what_it_is_for() -> None:
    required = re.search(r"install_requires=\[\n(.*?)\n    \]", SETUP.read_text("utf-8"), re.DOTALL)
    assert required is not None
    names = re.findall(r'"([A-Za-z0-9-]+)', required[1])
    assert len(names) >= 8
    text = README.read_text("utf-8")
    missing = [name for name in names if f"| {name} |" not in text]
    assert not missing


def test_every_linked_file_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text("utf-8")):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("package", ["indexer", "zonefiles", "resolver"])
def test_every_file_of_a_package_is_described_in_its_readme(package: str) -> None:
    text = (ROOT / package / "README.md").read_text("utf-8")
    files = [p.name for p in (ROOT / package).glob("*.py") if p.name != "__init__.py"]
    missing = [name for name in files if f"`{name}`" not in text]
    assert not missing


def write_table(path: Path) -> None:
    """Put the table of settings into the file as the code has it."""
    text = path.read_text("utf-8")
    path.write_text(_TABLE.sub(lambda m: m[1] + markdown_table() + "\n" + m[3], text), "utf-8")


if __name__ == "__main__":
    write_table(README)
