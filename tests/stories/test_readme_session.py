"""The session in the README, run against a new sandbox: what it shows is what it prints.

``python -m tests.stories.test_readme_session`` writes the README's session anew.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.resolver.daemon.daemon_process import environment
from tests.stories.test_sandbox_story import Box

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

README = ROOT / "resolver" / "cli" / "SESSION.md"
BEGIN, END = "<!-- session -->\n\n", "\n<!-- end of session -->"
PROMPT = "    $ "
COMMAND = ".venv/bin/blockstore-cli"
PATIENCE = 90.0

VOLATILE = (
    (r"\b[0-9a-f]{64}\b", "TXID"),
    (r"\b[0-9a-f]{40}\b", "HASH"),
    (r"\b[0-9a-f]{32}\b", "CONSENSUS"),
    (r"\b[0-9a-f]{10}\b", "JOB"),
    (r"\b[mn2][1-9A-HJ-NP-Za-km-z]{25,34}\b", "ADDRESS"),
    (r"\b76a914[0-9a-f]{40}88ac\b", "SCRIPT"),
    (r"\b\d{1,2} [A-Z][a-z]+ \d{4}(, \d\d:\d\d UTC)?", "DATE"),
    (r"\b\d{4}-\d\d-\d\d\b", "DATE"),
    (r"\b[1-9]\d{4}\b", "HEIGHT"),
)
"""What differs from run to run, as patterns; all else is held to the letter."""
PROGRESS = re.compile(r"    [0-9a-f]{10}: the ")
"""What is said while one waits depends on when a block comes."""


def masked(text: str) -> str:
    """``text`` without what differs from run to run."""
    lines = [line.rstrip() for line in text.splitlines() if not PROGRESS.match(line)]
    text = "\n".join(lines)
    for pattern, word in VOLATILE:
        text = re.sub(pattern, word, text)
    return text


def session(readme: str) -> list[tuple[str, str]]:
    """(command, what it prints, indented) of every prompt in the README's session."""
    inside = readme.partition(BEGIN)[2].partition(END)[0]
    parts = re.split(r"^    \$ (.*)\n", inside, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return [(command, _only_indented(output)) for command, output in pairs]


def _only_indented(text: str) -> str:
    """The output itself, without the prose between two prompts."""
    lines = []
    for line in text.splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line)
    return "\n".join(lines).rstrip()


class Shell:
    """Runs the session's commands in a folder of its own, as a person at a terminal would."""

    def __init__(self, box: Box, folder: Path) -> None:
        self.box = box
        self.folder = folder
        api = re.search(r"HTTP API on 127.0.0.1 port (\d+)", box.text)
        dns = re.search(r"DNS on 127.0.0.1 port (\d+)", box.text)
        assert api is not None
        assert dns is not None
        self.api_port, self.dns_port = api[1], dns[1]

    def run(self, command: str, shown: str) -> str:
        """What ``command`` prints, indented as in the README."""
        if command.startswith("cat "):
            file = self.folder / command.removeprefix("cat ")
            if not file.exists():  # the README shows the file that the reader is to write
                lines = [line.removeprefix("    ") for line in shown.splitlines()]
                file.write_text("\n".join(lines) + "\n")
        command = command.replace("-p 6253", f"-p {self.dns_port}").replace(
            ":6264", f":{self.api_port}"
        )
        words = shlex.split(command)
        if words[0] == COMMAND:
            printing = [] if "--json" in words else ["--human"]  # as on a terminal
            options = ["--working-dir", str(self.box.folder), *printing]
            words = [sys.executable, "-m", "resolver.blockstore_cli", *options, *words[1:]]
        ended = subprocess.run(
            words,
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        printed = ended.stdout.replace(f"127.0.0.1 port {self.api_port}", "127.0.0.1 port 6264")
        return "\n".join(f"    {line}".rstrip() for line in printed.splitlines())


def test_the_session_prints_what_the_readme_shows(tmp_path: Path) -> None:
    if shutil.which("dig") is None:
        pytest.skip("no dig here; install bind9-dnsutils")
    told = session(README.read_text("utf-8"))
    assert len(told) >= 8
    box = Box(tmp_path / "box").start()
    try:
        shell = Shell(box, tmp_path)
        for command, shown in told:
            assert masked(shell.run(command, shown)) == masked(shown), command
    finally:
        box.process.terminate()
        box.process.communicate(timeout=PATIENCE)


def main() -> None:
    """Write the session of the README anew."""
    readme = README.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder) / "box").start()
        try:
            shell = Shell(box, Path(folder))
            for command, shown in session(readme):
                lines = shell.run(command, shown).splitlines()
                printed = "\n".join(line for line in lines if not PROGRESS.match(line))
                old = f"{PROMPT}{command}\n{shown}" if shown else f"{PROMPT}{command}"
                assert readme.count(old) == 1, command
                readme = readme.replace(old, f"{PROMPT}{command}\n{printed}")
        finally:
            box.process.terminate()
            box.process.communicate(timeout=PATIENCE)
    fresh = README.with_suffix(".tmp")
    fresh.write_text(readme, "utf-8")
    os.replace(fresh, README)


if __name__ == "__main__":
    main()
