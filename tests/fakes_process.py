"""Programs of ours as child processes of a test; each ends with the test that began it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.conftest import ROOT

DEADLINE = 30.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: ours without any setting of Blockstore, and ``extra``."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("BLOCKSTORE_")}
    return kept | {"PYTHONPATH": str(ROOT)} | dict(extra or {})


def run_module(
    module: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = DEADLINE,
) -> subprocess.CompletedProcess[bytes]:
    """``python -m module arguments`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment(env),
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def serving_world() -> Iterator[int]:
    """The port of an API over a ``tests.fakes_api.World`` in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes_api"],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        yield int(child.stdout.readline())
    finally:
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(DEADLINE)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
