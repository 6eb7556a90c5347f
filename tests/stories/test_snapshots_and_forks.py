"""A chain that turns round, an index handed on, and one that is mended: whole daemons, by DNS."""

import http.client
import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest

from indexer.bitcoin.transactions import hash_bytes
from indexer.networks import SANDBOX
from indexer.protocol.operations import Operation
from indexer.protocol.schema import UNDO_BLOCKS
from indexer.sandbox.node import SandboxNode
from resolver.sandbox.founding import LARGE_COIN, MINER, SPACING, Purse, sandbox_key
from tests.indexer import fakes
from tests.resolver.daemon.daemon_process import DEADLINE, Blockstored
from zonefiles.text.zonefile import value_hash

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

DATA = b"the data of alice"
CREATOR, REVEALER, ALICE = (sandbox_key(word) for word in ("creator", "revealer", "alice"))


class Village:
    """A sandbox node with one namespace, and daemons that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = SandboxNode()
        self.node.start()
        self.daemons: list[Blockstored] = []
        self.purse = Purse(self.node)

    def daemon(self, *flags: str) -> Blockstored:
        folder = self.folder / str(len(self.daemons))
        self.daemons.append(Blockstored(folder, self.node.url, *flags, network="sandbox"))
        return self.daemons[-1]

    def end(self) -> None:
        for daemon in self.daemons:
            daemon.kill()
        self.node.stop()

    def mine(self, *sent: tuple[Any, Operation], blocks: int = 1) -> bytes:
        """Send and mine; the consensus hash once the first daemon has indexed it."""
        for sender, operation in sent:
            self.purse.send(sender, operation)
        self.node.generate(blocks, MINER.script, SPACING)
        seen = self.daemons[0].wait_for_block(self.node.height)
        return bytes.fromhex(seen["consensus"])

    def settle(self) -> None:
        self.node.generate(110, MINER.script, SPACING)
        self.purse.fund({CREATOR: (4, LARGE_COIN), REVEALER: (2, 1_000_000), ALICE: (6, 1_000_000)})
        consensus = self.mine()
        wish = fakes.namespace_preorder(SANDBOX, "id", CREATOR, REVEALER, consensus)
        self.mine((CREATOR, wish))
        self.mine((CREATOR, fakes.namespace_reveal("id", REVEALER)))
        self.mine((REVEALER, fakes.namespace_ready("id")))

    def register(self, name: str) -> int:
        """Register ``name`` for Alice with her data; the height of its preorder."""
        consensus = self.mine()
        self.mine((ALICE, fakes.preorder(SANDBOX, name, ALICE, ALICE, consensus)))
        height = self.node.height
        self.mine((ALICE, fakes.register(name, ALICE, value_hash(DATA))))
        return height


@pytest.fixture
def village(tmp_path: Path) -> Iterator[Village]:
    village = Village(tmp_path)
    try:
        started = village.daemon().start()
        assert started.returncode == 0, started.stderr
        village.settle()
        yield village
    finally:
        village.end()


def texts(reply: dns.message.Message) -> list[str]:
    return [option.text for option in reply.extended_errors()]


def codes(reply: dns.message.Message) -> list[int]:
    return [int(option.code) for option in reply.extended_errors()]


def asked(daemon: Blockstored, name: str, until: dns.rcode.Rcode) -> dns.message.Message:
    """The reply as soon as it has this rcode."""
    deadline = time.monotonic() + DEADLINE
    while (reply := daemon.dig(name)).rcode() != until:
        assert time.monotonic() < deadline, reply.to_text()
        time.sleep(0.02)
    return reply


def one_line(ended: subprocess.CompletedProcess[bytes]) -> str:
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("blockstored: ")
    return line


def branch(node: SandboxNode, blocks: int) -> bytes:
    """Mine this many empty blocks; the hash of the first."""
    address = sandbox_key("rival").address(SANDBOX)
    hashes = []
    for _ in range(blocks):
        call = {"id": 1, "method": "generateblock", "params": [address, []]}
        told = json.loads(node.reply_to(json.dumps(call).encode())[1])
        assert told.get("error") is None, told
        hashes.append(hash_bytes(told["result"]["hash"]))
    return hashes[0]


def block_hash(node: SandboxNode, height: int) -> bytes:
    call = {"id": 1, "method": "getblockhash", "params": [height]}
    return hash_bytes(json.loads(node.reply_to(json.dumps(call).encode())[1])["result"])


def test_a_name_goes_with_its_branch_and_comes_back_with_it(village: Village) -> None:
    daemon, node = village.daemons[0], village.node
    fork = village.register("alice.id")
    assert "status" in daemon.ask("POST", "/v1/data", DATA)
    reply = asked(daemon, "alice.bs", dns.rcode.NOERROR)
    assert DATA.decode() in reply.to_text()
    own, tip = block_hash(node, fork), node.tip

    node.invalidate(own)
    rival = branch(node, 4)
    gone = asked(daemon, "alice.bs", dns.rcode.NXDOMAIN)
    assert any("not registered" in text for text in texts(gone))
    daemon.wait_for_block(node.height)

    # Back to a branch that is shorter than what the daemon has seen.
    node.invalidate(rival)
    node.reconsider(own)
    assert node.tip == tip
    back = asked(daemon, "alice.bs", dns.rcode.NOERROR)
    assert DATA.decode() in back.to_text()
    assert daemon.info()["last_block_processed"] == node.height

    # And while nobody looks.
    daemon.stop()
    node.invalidate(own)
    branch(node, 2)
    daemon.start()
    asked(daemon, "alice.bs", dns.rcode.NXDOMAIN)
    log = daemon.log.read_text()
    assert "took back block" in log
    assert "Traceback" not in log


def test_a_fork_too_deep_is_said_everywhere_and_mended(village: Village) -> None:
    daemon, node = village.daemons[0], village.node
    village.register("alice.id")
    shared = node.height
    node.generate(UNDO_BLOCKS + 6, MINER.script, SPACING)
    daemon.wait_for_block(node.height)
    node.invalidate(block_hash(node, shared + 1))
    node.generate(UNDO_BLOCKS + 8, ALICE.script, SPACING)
    info = daemon.wait(lambda info: info["index"]["state"] == "stopped")
    mend = f"blockstored reindex --from {shared + 1}"
    assert mend in info["node"]["error"]
    reply = daemon.dig("alice.bs", "NS")
    assert 3 in codes(reply)
    assert any("the index has stopped" in text for text in texts(reply))
    printed = daemon.command("status", *daemon.where).stdout.decode()
    assert "Index:   stopped" in printed
    named = re.search(f"`blockstored (reindex [^`]* --from {shared + 1})`", printed)
    assert named, "the command as it is to be typed for this very daemon"
    assert named[0] in daemon.log.read_text()

    words = shlex.split(named[1])
    assert "blockstored stop" in one_line(daemon.command(*words))
    daemon.stop()
    mended = daemon.command(*words)
    assert mended.returncode == 0, mended.stderr
    assert f"goes on with {shared + 1}" in mended.stdout.decode()
    daemon.start()
    daemon.wait_for_block(node.height)
    assert 3 not in codes(daemon.dig("alice.bs", "NS"))
    assert daemon.ask("GET", "/v1/names/alice.id")["status"] == "registered"

    # Start over: everything is indexed again, and what is kept beside the index stays.
    before = daemon.info()["consensus"]
    daemon.stop()
    archive = sorted(path.name for path in (daemon.folder / "w" / "archive").iterdir())
    assert daemon.command("reindex", *daemon.where).returncode == 0
    assert not (daemon.folder / "w" / "names").exists()
    assert sorted(path.name for path in (daemon.folder / "w" / "archive").iterdir()) == archive
    daemon.start()
    daemon.wait_for_block(node.height)
    assert daemon.info()["consensus"] == before


def test_an_index_is_handed_on_beside_a_running_daemon(village: Village, tmp_path: Path) -> None:
    giver, node = village.daemons[0], village.node
    village.register("alice.id")
    giver.ask("POST", "/v1/data", DATA)
    file = tmp_path / "snapshot"
    exported = giver.command("snapshot", "export", str(file), *giver.where)
    assert exported.returncode == 0, exported.stderr
    consensus = giver.info()["consensus"]
    assert f"--consensus {consensus}" in exported.stdout.decode()
    again = giver.command("snapshot", "export", str(file), *giver.where)
    assert "exists already" in one_line(again)

    taker = village.daemon(f"--dht-bootstrap=127.0.0.1:{giver.ports()['dht']['port']}")
    take = ("snapshot", "import", str(file), *taker.where, "--consensus")
    lie = taker.command(*take, "0" * 32)
    assert lie.returncode == 1
    assert "nothing of it was kept" in one_line(lie)
    assert not (taker.folder / "w" / "names").exists()
    assert b"not 32 hex digits" in taker.command(*take, "abc").stderr
    height = str(node.height + 1)
    assert "is not in it" in one_line(taker.command(*take, consensus, "--height", height))
    taken = taker.command(*take, consensus)
    assert taken.returncode == 0, taken.stderr
    assert "holds an index up to block" in one_line(taker.command(*take, consensus))

    assert taker.start().returncode == 0
    info = taker.wait_for_block(node.height)
    assert info["consensus"] == consensus
    assert info["index"]["began_at"] == node.height
    assert DATA.decode() in asked(taker, "alice.bs", dns.rcode.NOERROR).to_text()
    village.mine()
    assert taker.wait_for_block(node.height)["consensus"] == giver.info()["consensus"]
    assert "Traceback" not in taker.log.read_text() + giver.log.read_text()

    # What a stopped daemon has is the same file, byte for byte.
    for daemon, name in ((giver, "one"), (taker, "two")):
        daemon.stop()
        ended = daemon.command("snapshot", "export", str(tmp_path / name), *daemon.where)
        assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_snapshot_is_not_for_web_pages_and_broken_off_without_harm(village: Village) -> None:
    daemon = village.daemons[0]
    port = daemon.ports()["api"]["port"]
    page = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    page.request("GET", "/v1/snapshot", headers={"Origin": "http://elsewhere.example"})
    response = page.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (403, "forbidden")
    for _ in range(5):
        page.close()
        page.request("GET", "/v1/snapshot")
        page.getresponse().read(1)
    page.close()
    assert daemon.info()["server_alive"]
    deadline = time.monotonic() + DEADLINE
    while True:
        page.request("GET", "/v1/snapshot")
        line = json.loads(page.getresponse().readline())
        page.close()
        if line.get("code") != "busy":
            break
        assert time.monotonic() < deadline, line
    assert line["network"] == "sandbox"
    assert daemon.stop().returncode == 0
    assert "Traceback" not in daemon.log.read_text()
