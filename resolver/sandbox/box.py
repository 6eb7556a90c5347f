"""``blockstored sandbox``: a chain of its own, two DHT nodes and a daemon between them.

What must stay true: the daemon in the box is the one that everybody runs. It learns of names from
the chain alone and of their data from the other DHT node alone; nothing is put into its databases.
"""

import asyncio
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.sandbox.node import SandboxNode, StoreError
from indexer.table.table import Snapshot
from resolver.daemon.run import run as run_process
from resolver.process.places import usual_dirs
from resolver.sandbox import founding
from resolver.service import Service, StartError
from resolver.settings.settings import Settings
from resolver.terminal import say
from resolver.words import PID_NAME
from zonefiles.archive.archive import Archive, ArchiveError
from zonefiles.dht.node import DhtNode

log = logging.getLogger("blockstore.sandbox")

POLL_INTERVAL = 0.1  # seconds; the node is in this process and asks nothing of anybody
PUBLISHER_BYTES = 64 * 1024 * 1024
TEND_EVERY = 64  # blocks
FIRST_ANSWER_TIMEOUT = 30.0

_MARK = "sandbox"
"""A file that says that a folder is a sandbox's, so that nothing else is ever thrown away."""
_FOUNDED = "founded"
_FOLDERS = ("node", "names", "archive", "publisher")
_FILES = ("dht.json", _FOUNDED)

TRY = (  # (type and options, name, what it shows)
    ("swiftonsecurity", "TXT +short", "the data of a name"),
    ("webhost", "A", "an address, with all sections"),
    ("webhost", "MX +short", "mail servers"),
    ("www.webhost", "AAAA +short", "an alias, followed"),
    ("anything.webhost", "A +short", "a wildcard"),
    ("_http._tcp.webhost", "URI +short", "a URI record"),
    ("reading-room.library", "A +short", "a label inside a name's zone file"),
    ("profile", "TXT +short", "a JSON document"),
    ("www.alias", "A +short", "an alias that leads to another name"),
    ("sales.department", "A", "a delegation, with glue"),
    ("almanac", "TXT +bufsize=512", "cut over UDP, complete over TCP"),
    ("gift", "TXT +tcp", "a name that was handed over; asked over TCP"),
    ("empty", "TXT", "registered, without data yet"),
    ("nowhere", "TXT", "data that nobody has: SERVFAIL, and why"),
    ("expired", "TXT", "NXDOMAIN, and since when"),
    ("revoked", "TXT", "NXDOMAIN, and since when"),
    ("nobody-has-this", "TXT", "NXDOMAIN: never registered"),
    ("", "SOA +short", "the zone; its serial is the height of the chain"),
)


class _Interrupted(Exception):
    """The sandbox is being stopped."""


class Sandbox:
    """The node, the publisher of the data, and the daemon between them."""

    def __init__(self, settings: Settings, fresh: bool) -> None:
        self._fresh = fresh
        self._folder = settings.working_dir
        self._settings = settings
        self._stopping = threading.Event()
        self._node: SandboxNode | None = None
        self._archive: Archive | None = None
        self._publisher: DhtNode | None = None
        self.service: Service | None = None
        self._founder: founding.Founder | None = None

    async def start(self) -> None:
        """Start everything; the doors are open when this returns. Raises ``StartError``."""
        self._begin_afresh()
        try:
            self._node = await asyncio.to_thread(self._start_node)
            bootstrap = await self._start_publisher()
            changes = {
                "dht_bootstrap": (bootstrap, *self._settings.dht_bootstrap),
                "poll_interval": min(POLL_INTERVAL, self._settings.poll_interval),
                "catch_up_processes": 0,  # so small blocks are read before one has started
            }
            bitcoin = BitcoinNode(self._node.url)
            self.service = Service(self._settings.model_copy(update=changes), node=bitcoin)
            await self.service.start()
        except (StoreError, ArchiveError, OSError) as error:
            await self.stop()
            raise StartError(" ".join(str(error).split())) from error
        except BaseException:
            await self.stop()
            raise
        self._founder = founding.Founder(self._node, self._indexed)

    async def stop(self) -> None:
        """Stop everything, last first. May be called twice."""
        self._stopping.set()
        if self.service is not None:
            await self.service.stop()
        if self._publisher is not None:
            await self._publisher.stop()
            self._publisher = None
        if self._archive is not None:
            self._archive.close()
            self._archive = None
        if self._node is not None:
            await asyncio.to_thread(self._node.stop)

    def _begin_afresh(self) -> None:
        """Throw the old sandbox away where that was asked for, or where it was never finished.

        Raises ``StartError`` for a folder with databases that are not a sandbox's.
        """
        used = [name for name in _FOLDERS if (self._folder / name).exists()]
        ours = (self._folder / _MARK).exists()
        if used and not ours:
            raise StartError(
                f"{self._folder} belongs to another Blockstore ({', '.join(used)} are in it);"
                " give the sandbox a folder of its own with --working-dir"
            )
        if (self._folder / _FOUNDED).exists() and not self._fresh:
            return
        if (self._folder / "node").exists() and not self._fresh:
            log.warning("The founding of the sandbox was interrupted; it begins afresh.")
        for folder in _FOLDERS:
            shutil.rmtree(self._folder / folder, ignore_errors=True)
        for file in _FILES:
            (self._folder / file).unlink(missing_ok=True)
        (self._folder / _MARK).touch()

    def _start_node(self) -> SandboxNode:
        blocks = founding.LIFETIME + SANDBOX.epochs[0].grace_period + 200
        began = int(time.time()) - blocks * founding.SPACING
        node = SandboxNode(self._folder / "node", start_time=began)
        node.start()
        return node

    async def _start_publisher(self) -> tuple[str, int]:
        """A second DHT node, which alone holds the data that the names stand for."""
        self._archive = Archive(self._folder / "publisher", max_bytes=PUBLISHER_BYTES)
        for digest, data in founding.published().items():
            if digest not in self._archive:
                self._archive.put(digest, data)
        self._publisher = DhtNode(
            "127.0.0.1", 0, archive=self._archive, is_announced=self._is_announced
        )
        await self._publisher.start()
        return "127.0.0.1", self._publisher.port

    def _is_announced(self, digest: bytes) -> bool:
        return self.service is not None and self.service.index.snapshot().is_announced(digest)

    def _indexed(self, height: int) -> Snapshot:
        """Wait, in a thread, until block ``height`` is what readers see."""
        assert self.service is not None
        while (seen := self.service.index.snapshot()).height < height:
            if self._stopping.wait(POLL_INTERVAL / 10):
                raise _Interrupted
        return seen

    # While it runs

    async def live(self) -> None:
        """Found the chain where it is new, say what to try, and mine until cancelled."""
        try:
            await self._live()
        except _Interrupted:
            pass
        finally:
            self._stopping.set()

    async def _live(self) -> None:
        assert self.service is not None
        assert self._founder is not None
        assert self._node is not None
        began = time.monotonic()
        if not (self._folder / _FOUNDED).exists():
            say("Founding a chain, a namespace and its names…")
            await asyncio.to_thread(self._founder.found)
            (self._folder / _FOUNDED).touch()
        door = self.service.addresses()["dns"][0]
        host, port = door["host"], door["port"]
        answered = await asyncio.to_thread(self._first_answer, host, port)
        if not answered:
            log.error("No name answered within %d s; the log says why.", FIRST_ANSWER_TIMEOUT)
        say(self._welcome(host, port, time.monotonic() - began))
        while True:
            await asyncio.sleep(founding.SPACING)
            await asyncio.to_thread(self._founder.mine)
            if self._node.height % TEND_EVERY == 0:
                await asyncio.to_thread(self._founder.tend)

    def _first_answer(self, host: str, port: int) -> bool:
        """Ask our own door, as anybody would, until the first name is answered."""
        question = dns.message.make_query(f"swiftonsecurity.{self._suffix}.", "TXT")
        deadline = time.monotonic() + FIRST_ANSWER_TIMEOUT
        while time.monotonic() < deadline and not self._stopping.is_set():
            try:
                reply = dns.query.udp(question, host, port=port, timeout=2)
            except (dns.exception.DNSException, OSError):
                reply = None
            if reply is not None and reply.rcode() == dns.rcode.NOERROR and reply.answer:
                return True
            self._stopping.wait(0.05)
        return False

    @property
    def _folder_flag(self) -> str:
        """What ``blockstore-cli`` must be told to find this daemon; "" in its usual place."""
        usual = list(usual_dirs(os.environ))[-1:]
        return "" if [self._folder] == usual else f" --working-dir {self._folder}"

    @property
    def _suffix(self) -> str:
        """The DNS suffix under which the namespace is served."""
        zones = self._settings.zones
        return next((s for s, ns in zones.items() if ns == founding.NAMESPACE), "bs")

    def _welcome(self, host: str, port: int, seconds: float) -> str:
        assert self.service is not None
        seen = self.service.index.snapshot()
        server = f"@{host}" + ("" if port == 53 else f" -p {port}")
        lines = [
            f"dig {server} {f'{name}.{self._suffix}' if name else self._suffix} {options}"
            for name, options, _ in TRY
        ]
        width = max(map(len, lines))
        shown = "\n".join(
            f"  {line:{width}}  # {what}" for line, (_, _, what) in zip(lines, TRY, strict=True)
        )
        api = self.service.addresses()["api"]
        return (
            f"\nThe sandbox is ready after {seconds:.1f} s: {seen.name_count()} names at block"
            f" {seen.height}, a new block every {founding.SPACING} s.\n"
            f"DNS on {host} port {port}, HTTP API on {api['host']} port {api['port']},"
            f" state in {self._folder}.\n\n"
            f"Try, in another terminal:\n\n{shown}\n"
            f"  {_command_line()}{self._folder_flag} lookup swiftonsecurity\n"
            f"  {_command_line()}{self._folder_flag} register barname --wait\n\n"
            "Ctrl-C stops it; the state survives unless --fresh is given.\n"
        )


def _command_line() -> str:
    """``blockstore-cli`` as this person has to type it."""
    if shutil.which("blockstore-cli"):
        return "blockstore-cli"
    beside = Path(sys.executable).with_name("blockstore-cli")
    return str(beside) if beside.exists() else f"{sys.executable} -m resolver.blockstore_cli"


def run(settings: Settings, fresh: bool) -> int:
    """Run the sandbox until a signal; the exit code of ``blockstored``."""
    boxes: list[Sandbox] = []

    def make() -> Sandbox:
        boxes.append(Sandbox(settings, fresh))
        return boxes[-1]

    async def live(box: Sandbox) -> None:
        await box.live()

    def places(box: Sandbox) -> str:
        return f"The sandbox lies in {settings.working_dir}."

    pid_path: Path = settings.working_dir / PID_NAME
    # What the sandbox has to say to a person it prints; the log has the rest.
    return run_process(
        settings, pid_path, make, describe=places, on_ready=live, stderr_level=logging.WARNING
    )
