"""The whole service: several in one process, and nothing left behind by one that fails to start."""

import asyncio
import json
import re

import pytest

from indexer.sandbox.node import SandboxNode
from resolver.daemon.command_line import EXIT_CODES
from resolver.refusals import Refusal, exit_code_rows
from tests.conftest import ROOT
from tests.resolver.daemon.daemon_process import run_module
from zonefiles.holdings import open_holdings
from zonefiles.text.zonefile import value_hash


@pytest.mark.live
def test_services_share_a_process_and_a_failed_one_gives_everything_back(tmp_path):
    node = SandboxNode()
    node.start()
    try:
        node.generate(260, b"\x76\xa9\x14" + bytes(20) + b"\x88\xac")
        ended = run_module("tests.stories.two_services", str(tmp_path), node.url)
    finally:
        node.stop()
    assert ended.returncode == 0, ended.stderr.decode()
    seen = json.loads(ended.stdout)
    assert seen["ready"] == [True, True]
    assert seen["heights"] == [260, 260]
    assert len(set(seen["dns_ports"])) == 2
    assert "--api-port" in seen["refused"]
    assert seen["started again"] is True
    assert seen["status files"] == []


def test_whoever_brings_data_to_the_archive_it_is_told(tmp_path):
    came: list[bytes] = []
    one, two = value_hash(b"one"), value_hash(b"two")

    async def story() -> None:
        holdings = await open_holdings(
            tmp_path,
            max_bytes=2**20,
            host="127.0.0.1",
            port=0,
            bootstrap=(),
            is_announced=lambda digest: True,
            on_data=came.extend,
        )
        await holdings.archive.keep(one, b"one")
        await holdings.archive.keep(two, b"two")
        await holdings.stop()

    asyncio.run(story())
    assert came == [one, two]


def test_the_readme_has_every_exit_code_and_refusal():
    pages = [ROOT / "resolver" / room / "README.md" for room in ("daemon", "cli", "api")]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(str(code), meaning) for code, meaning in (*EXIT_CODES, *exit_code_rows())]
    for refusal in Refusal:
        row = f"| `{refusal.name.lower()}` | {refusal.status} | {refusal.meaning} |"
        assert row in text
