"""The long ring: every test with full counts, then every fuzz run; ``python -m tests.long``.

Run before a large piece of work is called done; it takes hours on two cores. ``--only WORD`` runs
the steps whose name holds the word, ``--list`` names them. What each step says last is printed at
the end, with how long it took; the exit code is 1 where a step failed.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time

from tests.conftest import ROOT

PYTEST = "-m pytest -q -n 2 -o timeout=3600"
STEPS = {
    "claims": f"{PYTEST} -m 'not live'",
    "daemons": f"{PYTEST} -m live",
    "payloads": "-m tests.benchmarks.fuzz_payloads",
    "packets": "-m tests.benchmarks.fuzz_packets",
    "doors": "-m tests.benchmarks.fuzz_doors",
    "frames": "-m tests.benchmarks.fuzz_http2",
    "attacks": "-m tests.benchmarks.http2_attacks",
}
"""Each step: the arguments of Python that run it."""
LONGEST = 4 * 3600.0
"""Seconds that one step may take."""


def run(arguments: str) -> tuple[int, str]:
    """(exit code, last line of what was printed) of one step; what it printed is shown."""
    environment = {**os.environ, "BLOCKSTORE_RING": "long", "BLOCKSTORE_NO_SKIPS": "1"}
    with tempfile.TemporaryFile("w+") as printed:
        command = [sys.executable, *shlex.split(arguments)]
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=printed, timeout=LONGEST
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
        printed.seek(0)
        text = printed.read()
    print(text, flush=True)
    lines = [line for line in text.splitlines() if line.strip()]
    return code, lines[-1] if lines else "nothing was printed"


def main() -> int:
    """Run the steps that are wanted, and say what each came to."""
    parser = argparse.ArgumentParser(description="the long ring of the tests")
    parser.add_argument("--only", default="", metavar="WORD", help="steps whose name holds WORD")
    parser.add_argument("--list", action="store_true", help="name the steps and end")
    wanted = parser.parse_args()
    steps = {name: how for name, how in STEPS.items() if wanted.only in name}
    if wanted.list:
        print(*steps, sep="\n")
        return 0
    told = []
    for name, how in steps.items():
        print(f"== {name}: python {how}", flush=True)
        began = time.monotonic()
        code, last = run(how)
        told.append((code, f"{name:<10} {time.monotonic() - began:7.0f} s  exit {code}  {last}"))
    print(*(line for _, line in told), sep="\n")
    return int(any(code for code, _ in told))


if __name__ == "__main__":
    sys.exit(main())
