"""Two daemons that follow one sandbox node: one that pays for names, and one of a stranger.

The keeper's daemon has a wallet of the node; the stranger's has none, and all it
knows of names is what the chain says and what it is given in the DHT. What is wished is wished as
a person does it: by ``blockstore-cli`` in a process of its own, or over the HTTP API.
"""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import dns.message
import dns.rcode

from indexer.bitcoin.transactions import script_address
from indexer.networks import SANDBOX
from indexer.sandbox.node import SandboxNode
from indexer.sandbox.switches import Switches
from resolver.process import own_socket
from resolver.sandbox.founding import MINER
from tests.conftest import ROOT
from tests.resolver.daemon.daemon_process import Blockstored, environment

SPACING = 1  # seconds of the clock of the chain between blocks
MATURITY = 100
WALLET_BLOCKS = 3
PATIENCE = 60.0  # seconds, of a busy machine
NAMESPACE = "alps"
ENDED = ("done", "failed", "abandoned")
TERMS = {
    "coeff": 4,
    "base": 4,
    "buckets": [6, 5, 4, 3, 2, 1, *[0] * 10],
    "nonalpha_discount": 10,
    "no_vowel_discount": 10,
    "version": 1,
}
Json = dict[str, Any]


class Keeper(Blockstored):
    """A daemon, and the command line of its user."""

    def cli(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """``blockstore-cli`` to its end."""
        return self.begin_cli(*words).communicated(stdin)

    def begin_cli(self, *words: str) -> "Command":
        """``blockstore-cli`` as it runs."""
        where = ["--working-dir", str(self.folder / "w")]
        command = [sys.executable, "-m", "resolver.blockstore_cli", *where, *words]
        return Command(
            command,
            cwd=ROOT,
            env=environment({"HOME": str(self.folder)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """What the API answers over the daemon's socket, errors included."""
        headers = {"Content-Type": "application/json"}
        connection = own_socket.Connection(self.folder / "w", {}, PATIENCE)
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, headers)
            told: Json = json.loads(connection.getresponse().read())
            return told
        finally:
            connection.close()

    def plan(self, wish: Mapping[str, Any], data: bytes | None = None, **more: Any) -> Json:
        """The plan of a wish, or why there is none."""
        return self.call("POST", "/v1/registrar/plan", order(wish, data, more))

    def begin(self, wish: Mapping[str, Any], data: bytes | None = None, **more: Any) -> Json:
        """Plan it, agree, and begin it: the job, or why there is none."""
        told: Json = {}
        for _ in range(3):  # coins that a plan counts on may go to another wish of the same moment
            planned = self.plan(wish, data, **more)
            if "plan" not in planned:
                return planned
            told = self.agree(wish, planned["plan"]["total"], data, **more)
            if "agreed to" not in told.get("error", ""):
                break
        return told

    def agree(
        self, wish: Mapping[str, Any], total: int, data: bytes | None = None, **more: Any
    ) -> Json:
        """Begin what was planned for so many satoshis: the job, or why there is none."""
        body = order(wish, data, more) | {"max_total": total}
        return self.call("POST", "/v1/registrar/jobs", body)

    def job(self, job_id: str) -> Json:
        return self.call("GET", f"/v1/registrar/jobs/{job_id}")

    def jobs_of(self, subject: str) -> list[Json]:
        """Everything that was ever begun for a name, the oldest first."""
        found: list[Json] = []
        for page in range(100):
            path = f"/v1/registrar/jobs?all=true&page={page}"
            part: list[Json] = self.call("GET", path)["jobs"]
            found += (job for job in part if job["subject"] == subject)
            if not part:
                break
        return found


def order(wish: Mapping[str, Any], data: bytes | None, more: Mapping[str, Any]) -> Json:
    """The body of a request."""
    body: Json = {"wish": dict(wish), **more}
    if data is not None:
        body |= {"data_base64": base64.b64encode(data).decode(), "raw": True}
    return body


class Command(subprocess.Popen[str]):
    """A command that runs."""

    def communicated(self, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Its end."""
        try:
            out, err = self.communicate(stdin, timeout=PATIENCE)
        finally:
            self.kill()
        return subprocess.CompletedProcess(self.args, self.returncode, out, err)


class Neighbours:
    """The node, the keeper and the stranger; ``mine`` makes the time go by."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        namespaces: Sequence[str] = (NAMESPACE,),
        switches: Switches | None = None,
        wallet_blocks: int = WALLET_BLOCKS,
        stranger: bool = True,
    ) -> None:
        began = int(time.time()) - 7200
        self.node = SandboxNode(folder / "node", start_time=began, switches=switches)
        self.folder = folder
        self.flags = flags
        self.namespaces = namespaces
        self.has_stranger = stranger
        self._wallet_blocks = wallet_blocks

    def __enter__(self) -> "Neighbours":
        self.node.start()
        zones = ("--zones", ",".join(f"{one}={one}" for one in self.namespaces))
        common = ("--node-cookie-file", str(self.node.cookie_file), *zones)
        url = f"http://127.0.0.1:{self.node.port}"
        self.keeper = Keeper(self.folder / "keeper", url, *common, network="sandbox")
        self.stranger = Blockstored(self.folder / "stranger", url, *common, network="sandbox")
        try:
            self.node.generate(self._wallet_blocks, self.node.wallet_script("mined"), SPACING)
            self.node.generate(MATURITY, MINER.script, SPACING)
            self.start_keeper()
            if self.has_stranger:
                dht = self.keeper.ports()["dht"]
                bootstrap = ("--dht-bootstrap", f"{dht['host']}:{dht['port']}")
                ended = self.stranger.start(*bootstrap)
                assert ended.returncode == 0, ended.stderr.decode()
                self.stranger.wait(lambda info: info["dht"]["peers"] > 0)
                self.keeper.wait(lambda info: info["dht"]["peers"] > 0)
            self.wait()
        except BaseException:
            self._end()
            raise
        return self

    def start_keeper(self, *flags: str) -> None:
        ended = self.keeper.start(*self.flags, *flags)
        assert ended.returncode == 0, ended.stderr.decode()

    def restart_keeper(self, *flags: str) -> None:
        """Start the keeper's daemon again, with other settings perhaps."""
        dht = self.stranger.ports()["dht"] if self.has_stranger else None
        peers = () if dht is None else ("--dht-bootstrap", f"{dht['host']}:{dht['port']}")
        self.start_keeper(*peers, *flags)
        if self.has_stranger:
            self.keeper.wait(lambda info: info["dht"]["peers"] > 0)
        self.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if error is None:
            logs = [d.log.read_text() for d in (self.keeper, self.stranger) if d.log.exists()]
            assert "Traceback" not in "".join(logs)

    def _end(self) -> None:
        self.stranger.kill()
        self.keeper.kill()
        self.node.stop()

    # --- time

    def mine(self, count: int = 1) -> None:
        """Blocks with what waits; both daemons have them."""
        self.node.generate(count, MINER.script, SPACING)
        self.wait()

    def wait(self) -> None:
        """Until both daemons know all blocks."""
        for daemon in (self.keeper, self.stranger) if self.has_stranger else (self.keeper,):
            daemon.wait_for_block(self.node.height)
        deadline = time.monotonic() + PATIENCE
        while (self.keeper.info()["registrar"]["looked_at_block"] or 0) < self.height:
            assert time.monotonic() < deadline, "the registrar has not looked at its jobs"
            time.sleep(0.02)

    @property
    def height(self) -> int:
        return self.node.height

    def settle(self, *job_ids: str, blocks: int = 40) -> list[Json]:
        """Mine until these jobs have ended; how they are then."""
        for _ in range(blocks):
            found = [self.keeper.job(job_id) for job_id in job_ids]
            if all(job["state"] in ENDED for job in found):
                return found
            self.mine()
        raise AssertionError(f"not done after {blocks} blocks: {[j['note'] for j in found]}")

    def done(self, *words: str) -> Json:
        """Wish by the command line, agree, and mine until it is done; the job then."""
        ended = self.keeper.cli(*words, "--yes")
        assert ended.returncode == 0, ended.stderr
        assert "It costs" in ended.stderr  # whoever agrees beforehand sees the plan too
        (job,) = self.settle(json.loads(ended.stdout)["id"])
        assert job["state"] == "done", job["note"]
        return job

    def address(self, label: str) -> str:
        """A legacy address of the node's wallet."""
        found = script_address(self.node.wallet_script(label), SANDBOX)
        assert found is not None
        return found

    def pay(self, script: bytes, *amounts: int) -> None:
        """Give coins to a script out of the node's wallet, and mine them."""
        address = script_address(script, SANDBOX)
        for satoshis in amounts:
            coins = f"{satoshis / 10**8:.8f}"
            arguments = {"address": address, "amount": coins, "fee_rate": 10}
            call = {"id": 1, "method": "sendtoaddress", "params": arguments}
            status, reply = self.node.reply_to(json.dumps(call).encode())
            assert status == 200, reply
        self.mine()

    def wish(self, wish: Mapping[str, Any], data: bytes | None = None, **more: Any) -> Json:
        """Wish over the API, and mine until it is done; the job then."""
        begun = self.keeper.begin(wish, data, **more)
        assert "id" in begun, begun
        (job,) = self.settle(begun["id"])
        assert job["state"] == "done", job["note"]
        return job

    def open_namespace(self, namespace_id: str = NAMESPACE, lifetime: int = 52_595) -> None:
        """From its preorder until it is open to everybody."""
        names = {"namespace_id": namespace_id, "revealer": self.address("revealer")}
        self.wish({"wish": "namespace-preorder", **names})
        self.wish({"wish": "namespace-reveal", **names, **TERMS, "lifetime": lifetime})
        self.wish({"wish": "namespace-ready", "namespace_id": namespace_id})

    # --- as a stranger sees it

    def dig(self, qname: str, rdtype: str = "TXT") -> dns.message.Message:
        """What the stranger's daemon answers over UDP."""
        return self.stranger.dig(f"{qname}.", rdtype)

    def answers(self, qname: str, rdtype: str = "TXT") -> set[str]:
        """The records of an answer; that there is one is a claim too."""
        reply = self.dig(qname, rdtype)
        assert reply.rcode() == dns.rcode.NOERROR, reply
        return {rdata.to_text() for rrset in reply.answer for rdata in rrset}

    def says(self, qname: str, rdtype: str = "TXT") -> str:
        """The rcode, and what is said to explain it."""
        reply = self.dig(qname, rdtype)
        texts = [str(option.text) for option in reply.options if hasattr(option, "text")]
        return " ".join((dns.rcode.to_text(reply.rcode()), *texts))
