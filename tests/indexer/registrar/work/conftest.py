"""Worlds for the tests of jobs: each begins as ``BEGINS`` of its module makes it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.indexer.registrar.fakes import World, fast_folder, template
from tests.indexer.registrar.work.office import Office


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with TemporaryDirectory(dir=fast_folder()) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = getattr(request.module, "BEGINS", template)
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Iterator[World]:
    with World(made, tmp_path) as found:
        yield found


@pytest.fixture
def office(world: World) -> Office:
    return Office(world)
