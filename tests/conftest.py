"""What every test shares: the folder of recorded data, and how what is missing is told."""

import os
from pathlib import Path

import hypothesis
import pytest

from tests.rings import sampled

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("BLOCKSTORE_DATA", ROOT.parent / "shared" / "data")).resolve()

NO_SKIPS = os.environ.get("BLOCKSTORE_NO_SKIPS", "") not in ("", "0")
"""Whether a skipped test marked ``data`` or ``live`` fails the run, as it does where it counts."""

# A busy machine is slow at times: no test says anything by how long one example took.
hypothesis.settings.register_profile(
    "house",
    deadline=None,
    max_examples=sampled(100),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("house")

_skipped: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, saying so, the tests that need recorded data where there is none."""
    if DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no recorded data in {DATA}; set BLOCKSTORE_DATA to its folder")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(skip)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped though it must not be."""
    if report.skipped and {"data", "live"} & set(report.keywords):
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped what it must not skip."""
    if NO_SKIPS and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name them."""
    if NO_SKIPS and _skipped:
        terminalreporter.section("skipped, which fails this run", red=True)
        for nodeid in _skipped:
            terminalreporter.line(nodeid)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded data; only for tests marked ``data``."""
    return DATA
