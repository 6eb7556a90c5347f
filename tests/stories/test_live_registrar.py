"""Names live on a real Bitcoin node that is not ours: bcoin, with keys in a file that sign.

One daemon registers, updates, hands over, renews and revokes; that of a stranger answers.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.rcode
import pytest

from indexer.bitcoin.blocks import parse_block
from indexer.bitcoin.transactions import hash_hex, script_address
from indexer.networks import REGTEST
from indexer.node.node import BitcoinNode
from indexer.wallet.key_storage import make_keys
from resolver.sandbox.founding import MINER
from tests.indexer.node.bcoin import API_KEY, Bcoin, needs_bcoin
from tests.resolver.daemon.daemon_process import Blockstored
from tests.stories.neighbours import ENDED, PATIENCE, TERMS, Json, Keeper

pytestmark = [pytest.mark.live, needs_bcoin, pytest.mark.timeout(170)]

KEYS = 6
REWARDS = 12
BLOCKS = 40


class Scanning:
    """bcoin with the one call beside it that it lacks: ``scantxoutset``, by reading every block.

    Everything else goes through as it comes.
    """

    def __init__(self, bcoin: Bcoin) -> None:
        self.bcoin = bcoin
        self.node = BitcoinNode(bcoin.url)
        beyond = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                key = self.headers.get("Authorization", "")
                status, reply = beyond.reply(body, key)
                self.send_response(status)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.node.close()

    def reply(self, body: bytes, key: str) -> tuple[int, bytes]:
        call = json.loads(body)
        if isinstance(call, dict) and call["method"] == "scantxoutset":
            scripts = {bytes.fromhex(one[4:-1]) for one in call["params"][1]}  # raw(HEX)
            shown = {"result": self.scan(scripts), "error": None, "id": call["id"]}
            return 200, json.dumps(shown).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.bcoin.rpc_port}/", body)
        request.add_header("Authorization", key)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def scan(self, scripts: set[bytes]) -> Json:
        height = self.bcoin.height
        found: dict[tuple[bytes, int], Json] = {}
        hashes = self.node.block_hashes(range(1, height + 1))
        for place, raw in enumerate(self.node.raw_blocks(hashes), 1):
            for number, transaction in enumerate(parse_block(raw)[1]):
                for spent in transaction.inputs:
                    found.pop((spent.previous_txid, spent.previous_index), None)
                for index, (value, script) in enumerate(transaction.outputs):
                    if script in scripts:
                        found[transaction.txid, index] = {
                            "txid": hash_hex(transaction.txid),
                            "vout": index,
                            "scriptPubKey": script.hex(),
                            "amount": f"{value / 10**8:.8f}",
                            "coinbase": number == 0,
                            "height": place,
                        }
        return {"success": True, "height": height, "unspents": list(found.values())}


class Village:
    """bcoin, a daemon with keys and one without."""

    def __init__(self, folder: Path, bcoin: Bcoin) -> None:
        self.bcoin = bcoin
        ring = make_keys(folder / "keys", REGTEST, KEYS, None)
        self.addresses = [script_address(script, REGTEST) or "" for script in ring.scripts]
        bcoin.generate(REWARDS, ring.scripts[0])
        bcoin.generate(REGTEST.first_block, MINER.script)
        self.scanning = Scanning(bcoin)
        url = f"http://127.0.0.1:{self.scanning.port}"
        common = ("--node-user", "x", "--zones", "live=live")
        self.keeper = Keeper(folder / "keeper", url, *common)
        self.stranger = Blockstored(folder / "stranger", url, *common)
        for daemon in (self.keeper, self.stranger):
            daemon.env |= {"BLOCKSTORE_NODE_PASSWORD": API_KEY}
        self.folder = folder

    def start(self) -> None:
        keys = ("--signer", "key-file", "--key-file", str(self.folder / "keys"))
        ended = self.keeper.start(*keys)
        assert ended.returncode == 0, ended.stderr
        door = self.keeper.ports()["dht"]
        ended = self.stranger.start("--dht-bootstrap", f"{door['host']}:{door['port']}")
        assert ended.returncode == 0, ended.stderr
        for daemon in (self.keeper, self.stranger):
            daemon.wait(lambda info: info["dht"]["peers"] > 0)
        self.mine()

    def mine(self) -> None:
        self.bcoin.generate(1, MINER.script)
        height = self.bcoin.height
        for daemon in (self.keeper, self.stranger):
            daemon.wait_for_block(height)
        deadline = time.monotonic() + PATIENCE
        while (self.keeper.info()["registrar"]["looked_at_block"] or 0) < height:
            assert time.monotonic() < deadline, "the registrar has not looked at its jobs"
            time.sleep(0.02)

    def done(self, wish: Mapping[str, Any], data: bytes | None = None) -> Json:
        """Wish, and mine until it is done."""
        job = self.keeper.begin(wish, data)
        assert "id" in job, job
        for _ in range(BLOCKS):
            if job["state"] in ENDED:
                break
            self.mine()
            job = self.keeper.job(job["id"])
        assert job["state"] == "done", job["note"]
        return job

    def answer(self, qname: str) -> tuple[str, set[str]]:
        reply = self.stranger.dig(f"{qname}.", "A")
        records = {rdata.to_text() for rrset in reply.answer for rdata in rrset}
        return dns.rcode.to_text(reply.rcode()), records


@pytest.fixture
def village(tmp_path: Path) -> Iterator[Village]:
    with Bcoin(tmp_path / "node") as bcoin:
        found = Village(tmp_path, bcoin)
        try:
            found.start()
            yield found
        finally:
            found.stranger.kill()
            found.keeper.kill()
            found.scanning.close()


def test_names_live_on_a_real_node_by_keys_in_a_file(village: Village) -> None:
    revealer, friend = village.addresses[1], village.addresses[2]
    names = {"namespace_id": "live", "revealer": revealer}
    village.done({"wish": "namespace-preorder", **names})
    village.done({"wish": "namespace-reveal", **names, **TERMS, "lifetime": 5_000})
    gift = {"wish": "import", "name": "gift.live", "recipient": friend}
    village.done(gift, b"@ A 192.0.2.7\n")
    village.done({"wish": "namespace-ready", "namespace_id": "live"})
    assert village.answer("gift.live") == ("NOERROR", {"192.0.2.7"})

    name = {"name": "alice.live"}
    job = village.done({"wish": "register", **name}, b"@ A 192.0.2.1\n")
    assert [step["step"] for step in job["steps"]][-2:] == ["publish", "verify"]
    assert village.answer("alice.live") == ("NOERROR", {"192.0.2.1"})
    village.done({"wish": "update", **name}, b"@ A 192.0.2.2\n")
    assert village.answer("alice.live") == ("NOERROR", {"192.0.2.2"})
    village.done({"wish": "transfer", **name, "recipient": friend, "keep_data": True})
    assert village.answer("alice.live") == ("NOERROR", {"192.0.2.2"})
    village.done({"wish": "renew", **name}, b"@ A 192.0.2.3\n")
    assert village.answer("alice.live") == ("NOERROR", {"192.0.2.3"})
    village.done({"wish": "revoke", **name})
    assert village.answer("alice.live") == ("NXDOMAIN", set())
    history = village.keeper.ask("GET", "/v1/names/alice.live/history")
    assert [state["opcode"] for states in history.values() for state in states] == [
        *("NAME_REGISTRATION", "NAME_UPDATE", "NAME_TRANSFER", "NAME_RENEWAL", "NAME_REVOKE")
    ]
