"""What every test shares: the folder of recorded data, and how its absence is told."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("BLOCKSTORE_DATA", ROOT.parent / "shared" / "data")).resolve()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, saying so, the tests that need recorded data where there is none."""
    if DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no recorded data in {DATA}; set BLOCKSTORE_DATA to its folder")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded data; only for tests marked ``data``."""
    return DATA
