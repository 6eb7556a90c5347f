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
from collections.abc import Coroutine
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.sandbox.node import SandboxNode, StoreError
from indexer.table.table import Snapshot, TableError
from resolver.daemon.progress_bar import ProgressBar, bar_on
from resolver.daemon.run import run as run_process
from resolver.process.places import CONFIG_NAME
from resolver.sandbox import founding
from resolver.sandbox.ports import LOOPBACK, taken_ports
from resolver.sandbox.welcome import EXAMPLE, EXAMPLE_NAME, Place, folder_flag, welcome
from resolver.service import Service, StartError
from resolver.settings.table import Settings
from resolver.terminal import say
from zonefiles.archive.archive import Archive, ArchiveError
from zonefiles.dht.node import DhtNode

log = logging.getLogger("blockstore.sandbox")

FEE_RATE = 2_000  # satoshis per 1000 bytes, which the node estimates
POLL_INTERVAL = 0.1  # seconds; the node is in this process and asks nothing of anybody
PUBLISHER_BYTES = 64 * 1024 * 1024
TEND_EVERY = 64  # blocks
FIRST_ANSWER_TIMEOUT = 30.0

_MARK = "sandbox"
"""A file that says that a folder is a sandbox's, so that nothing else is ever thrown away."""
_FOUNDED = "founded"
_FOLDERS = ("node", "names", "archive", "publisher")
_FILES = ("dht.json", _FOUNDED)
_SETTINGS = """\
# A sandbox works in this folder: commands that are told the folder learn its network from here.
network = "sandbox"
"""


class _Interrupted(Exception):
    """The sandbox is being stopped."""


class Sandbox:
    """The node, the publisher of the data, and the daemon between them."""

    def __init__(
        self, settings: Settings, fresh: bool, node_port: int, bar: ProgressBar | None = None
    ) -> None:
        """``node_port`` 0 takes a free one; ``bar`` is drawn while the chain is founded."""
        self._fresh = fresh
        self._node_port = node_port
        self._bar = bar
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
        taken = taken_ports(self._settings, self._node_port)
        if taken:
            raise StartError(
                f"in use by another program, perhaps another sandbox: port {', port '.join(taken)};"
                " stop it, or choose others with these flags (0 takes a free one)"
            )
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
        except StartError as error:
            await self.stop()
            if isinstance(error.__cause__, TableError):
                again = " ".join(["blockstored sandbox", *folder_flag(self._folder), "--fresh"])
                raise StartError(f"{error}; or begin a new sandbox with `{again}`") from error
            raise
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
        (self._folder / EXAMPLE_NAME).write_text(EXAMPLE)
        if not self._settings.config.exists():
            (self._folder / CONFIG_NAME).write_text(_SETTINGS)

    def _start_node(self) -> SandboxNode:
        blocks = founding.LIFETIME + SANDBOX.epochs[0].grace_period + 200
        began = int(time.time()) - blocks * founding.SPACING
        node = SandboxNode(
            self._folder / "node", port=self._node_port, start_time=began, fee_rate=FEE_RATE
        )
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
            await self._drawn(asyncio.to_thread(self._founder.found))
            (self._folder / _FOUNDED).touch()
        doors = self.service.addresses()
        door, api = Place(**doors["dns"][0]), Place(**doors["api"])
        answered = await asyncio.to_thread(self._first_answer, door)
        if not answered:
            log.error("No name answered within %d s; the log says why.", FIRST_ANSWER_TIMEOUT)
        seen, seconds = self.service.index.snapshot(), time.monotonic() - began
        node = Place(LOOPBACK, self._node.port)
        say(welcome(seen, seconds, self._folder, self._suffix, door, api, node))
        while True:
            await asyncio.sleep(founding.SPACING)
            await asyncio.to_thread(self._founder.mine)
            if self._node.height % TEND_EVERY == 0:
                await asyncio.to_thread(self._founder.tend)

    async def _drawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` under the bar, where there is one."""
        assert self.service is not None
        index, bar = self.service.index, self._bar
        first, drawing = index.network.first_block, None
        if bar is not None:
            follow = bar.follow(lambda: index.follower.status, first)
            drawing = asyncio.ensure_future(follow)
        try:
            await work
        finally:
            if drawing is not None:
                drawing.cancel()
                await asyncio.wait({drawing})

    def _first_answer(self, door: Place) -> bool:
        """Ask our own door, as anybody would, until the first name is answered."""
        question = dns.message.make_query(f"swiftonsecurity.{self._suffix}.", "TXT")
        deadline = time.monotonic() + FIRST_ANSWER_TIMEOUT
        while time.monotonic() < deadline and not self._stopping.is_set():
            try:
                reply = dns.query.udp(question, door.host, port=door.port, timeout=2)
            except (dns.exception.DNSException, OSError):
                reply = None
            if reply is not None and reply.rcode() == dns.rcode.NOERROR and reply.answer:
                return True
            self._stopping.wait(0.05)
        return False

    @property
    def _suffix(self) -> str:
        """The DNS suffix under which the namespace is served."""
        zones = self._settings.zones
        return next((s for s, ns in zones.items() if ns == founding.NAMESPACE), "bs")


def run(settings: Settings, fresh: bool, node_port: int) -> int:
    """Run the sandbox until a signal; the exit code of ``blockstored``."""
    bar = bar_on(sys.stderr, os.environ)
    # What the sandbox has to say to a person it prints; the log has the rest.
    return run_process(
        settings,
        lambda: Sandbox(settings, fresh, node_port, bar),
        describe=lambda _: f"The sandbox lies in {settings.working_dir}.",
        on_ready=Sandbox.live,
        stderr_level=logging.WARNING,
        stderr=None if bar is None else bar.log_handler,
    )
