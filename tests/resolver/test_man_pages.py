"""The manual pages say what the programs say, and are laid out as manual pages are."""

import shutil
import subprocess

import pytest

from resolver import blockstore_cli
from resolver.settings import text
from tests.conftest import ROOT
from tests.resolver.man_pages import PAGES, SETTINGS_FILE, file_of, page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_program_says(name: str) -> None:
    written = file_of(name).read_text("utf-8")
    assert written == page(name), "write it anew: python -m tests.resolver.man_pages"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_installed(name: str) -> None:
    assert str(file_of(name).relative_to(ROOT)) in (ROOT / "setup.py").read_text("utf-8")


def test_every_command_and_setting_is_in_its_page() -> None:
    told = page("blockstore-cli")
    for name, command in blockstore_cli.cli.commands.items():
        escaped = name.replace("-", "\\-")
        assert (f'.SS "{escaped} ' in told) is not command.hidden
    of_file, told = page(SETTINGS_FILE), page("blockstored")
    for name, _ in text.rows():
        assert f".B {name}\n" in of_file
        if not text.is_secret(name):
            assert text.flag_name(name).replace("-", "\\-") in told


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_set_without_a_warning(name: str) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff here; install groff-base")
    ended = subprocess.run(
        [groff, "-man", "-Tutf8", "-P-cbou", "-ww", str(file_of(name))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "EXAMPLES" in ended.stdout
