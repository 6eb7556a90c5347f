"""The HTTP API against its own document: thousands of drawn requests to a whole daemon."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.resolver.api.api_cases import Cases
from tests.resolver.daemon.daemon_process import environment
from tests.rings import times
from tests.stories.test_sandbox_story import Box

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

COUNT = times(2000, 3000, 10_000)
"""How many requests are drawn; 10,000 and more when measuring."""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    box = Box(tmp_path_factory.mktemp("box") / "state").start()
    found = re.search(r"HTTP API on 127.0.0.1 port (\d+)", box.text)
    assert found is not None
    yield int(found[1])
    box.end(15)


@pytest.fixture
def log(port: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(tmp_path_factory.getbasetemp().glob("box*/state/blockstored.log"))


def test_every_drawn_request_is_answered_as_the_document_promises(port: int, log: Path) -> None:
    cases = Cases(port, seed=20)
    cases.run(COUNT)
    assert set(cases.asked) == set(cases.document["paths"])
    assert cases.statuses[200] > COUNT // 4, cases.statuses  # it does not only ask nonsense
    assert cases.statuses[400] > COUNT // 100
    assert cases.statuses[404] > COUNT // 100
    assert "Traceback" not in log.read_text("utf-8")


def test_another_reader_of_the_document_finds_nothing_unpromised(port: int, tmp_path: Path) -> None:
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no schemathesis here; install the extra `test`")
    checks = "status_code_conformance,content_type_conformance,response_schema_conformance"
    ran = subprocess.run(
        [
            *(program, "run", f"http://127.0.0.1:{port}/v1/openapi.json", "--phases", "fuzzing"),
            *("--checks", checks, "-n", "3", "--seed", "1", "--generation-database", "none"),
        ],
        env=environment({"NO_COLOR": "1"}),
        cwd=tmp_path,  # it leaves files of its own
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
