"""A ``blockstored`` that has read its modules and waits: becomes a daemon for each line it hears.

Reading modules takes longer than all else that a daemon does at its start, and nothing can go
wrong there; so who starts one often starts this once. Run as a program, ``python -m
tests.stories.unborn`` reads command lines as JSON from its input and answers each with the
process id of the daemon that it has become; it ends when its input ends.
"""

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import resolver.daemon.run
import resolver.service  # noqa: F401 - so that it is read
from resolver import blockstored as daemon
from tests.conftest import ROOT
from tests.resolver.daemon.daemon_process import environment


class Unborn:
    """The program in a process of its own."""

    def __init__(self, home: Path) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.stories.unborn"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment({"HOME": str(home)}),
            cwd=ROOT,
        )

    def become(self, *arguments: str) -> int:
        """The process id of ``blockstored`` with these arguments."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(arguments).encode() + b"\n")
        self._child.stdin.flush()
        return int(self._child.stdout.readline())

    def __enter__(self) -> "Unborn":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()


def is_running(pid: int) -> bool:
    """Whether the process is there and has not ended, though nobody may have asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def wait_gone(pids: list[int], seconds: float) -> None:
    """Until none of them runs."""
    deadline = time.monotonic() + seconds
    while living := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"still running: {living}"
        time.sleep(0.005)


def stacks_of(pid: int) -> Path:
    """Where a daemon writes what each of its threads does when it hears SIGUSR1."""
    return Path(tempfile.gettempdir()) / f"blockstored-{pid}.stacks"


def threads_of(pid: int) -> str:
    """What each thread of a daemon is doing."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGUSR1)
        time.sleep(1.0)
        return stacks_of(pid).read_text()
    return "nothing is known of its threads"


def main() -> None:
    """Wait for command lines."""
    signal.signal(signal.SIGCHLD, _reap)
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            be(json.loads(line))
        print(pid, flush=True)


def _reap(number: int, frame: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def be(arguments: list[str]) -> NoReturn:
    """Be that daemon, with nothing of ours left."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    os.setsid()
    stacks = open(stacks_of(os.getpid()), "w")  # noqa: SIM115 - as long as the process
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    sys.argv = ["blockstored", *arguments]
    code: object = 1
    try:
        daemon.main()
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
