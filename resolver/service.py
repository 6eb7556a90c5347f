"""The only place that knows every room: builds the parts, starts them in order, stops in reverse.

What must stay true: doors open last and close first; whatever was started is stopped again, also
when a later part fails to start; the databases close only when nobody can reach them any more.
Nothing here is global, so that several services can live in one process.
"""

import asyncio
import contextlib
import inspect
import ipaddress
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from indexer.following.block_files import MESSAGE_START, BlockFiles, BlockFilesError
from indexer.following.follower import Follower
from indexer.following.lane_process import make_lanes
from indexer.networks import NETWORKS
from indexer.node.announcements import Announcements
from indexer.node.node import BitcoinNode, NodeError
from indexer.protocol.records import Phase
from indexer.registrar.work.journal import JournalError
from indexer.table.rebuild import mend
from indexer.table.table import NameTable, Snapshot, TableError
from indexer.wallet.signers import SignerError
from resolver.api.desk import AutoRenew, Desk
from resolver.api.door import ApiDoor, LetsIn, nobody
from resolver.api.export import Exports
from resolver.api.figures import Counted, figures_of
from resolver.api.keeping import Keeping
from resolver.api.pages import Behind, Json, Pages
from resolver.api.payer import Signing
from resolver.api.socket_door import SocketDoor
from resolver.api.token import Token, TokenError
from resolver.dns.answer import ServerIdentity
from resolver.dns.cache import ReplyCache
from resolver.dns.chase import Freshness, StalenessLimits
from resolver.dns.contents import Contents
from resolver.dns.cookies import ServerCookies
from resolver.dns.lookup import TtlLimits
from resolver.dns.meta import NodeStatus
from resolver.dns.rates import Rates, ReplyRates, WorkBudget
from resolver.dns.zones import Zones
from resolver.doors.certificate import CertificateError
from resolver.doors.encrypted import EncryptedDoors
from resolver.doors.listening import PortUnavailable, make_room
from resolver.doors.tcp import TcpDoor, open_tcp
from resolver.doors.udp import UdpDoor, open_udp
from resolver.forwarding.forwarder import Forwarder, ForwardError, open_forwarder
from resolver.process.own_socket import NoPlace
from resolver.resolve import Resolver
from resolver.settings.settings import Settings
from resolver.transfers.transfers import Transfers
from resolver.words import STATUS_NAME, VERSION
from zonefiles.archive.archive import Archive, ArchiveError
from zonefiles.dht.node import DhtError, DhtNode
from zonefiles.sources import DataSource, Replicator

log = logging.getLogger("blockstore.service")

FOLLOWER_STOP_TIMEOUT = 5.0
MAX_BEHIND = 144
"""Blocks: an index further behind than this speaks of another day, and so of no name at all."""
PORT_TRIES = 20
READY_POLL = 0.02


class StartError(Exception):
    """The service cannot start; ``str()`` is one line that says why and what to do."""


KNOWN_REASONS = (
    StartError,
    PortUnavailable,
    CertificateError,
    ForwardError,
    TableError,
    ArchiveError,
    DhtError,
    TokenError,
    JournalError,
    SignerError,
)
"""Errors whose text is already one line for people."""


class Service:
    """A whole Blockstore node. ``start`` and ``stop`` run on the asyncio loop of the reactor.

    ``node`` stands in for the Bitcoin node of the settings (same calls as ``BitcoinNode``).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        node: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self.network = NETWORKS[settings.network]
        self.dns_addresses: list[tuple[str, int]] = []
        """Bound (address, port) of the DNS doors; UDP and TCP share each."""
        self._given_node = node
        self._closers: list[tuple[str, Callable[[], Any]]] = []
        self._started = clock()
        self._last_block_came: float | None = None
        self._rates = Rates(
            alike=settings.rate_limit,
            computed=settings.rate_computed,
            fetched=settings.rate_fetched,
            slip=settings.rate_limit_slip,
        )
        self.udp_doors: list[UdpDoor] = []
        self.tcp_doors: list[TcpDoor] = []
        self.encrypted: EncryptedDoors
        self.forwarder: Forwarder | None = None
        self.table: NameTable
        self.archive: Archive
        self.dht: DhtNode
        self.source: DataSource
        self.replicator: Replicator
        self.follower: Follower
        self.resolver: Resolver
        self.api: ApiDoor
        self.own_door: SocketDoor
        self.keeping: Keeping
        self.desk: Desk | None = None

    async def start(self) -> None:
        """Start everything; doors are open when this returns. Raises StartError."""
        try:
            self._open_databases()
            node = await self._meet_node()
            await self._join_network()
            self._follow_chain(node)
            self._open_doors()
            self._open_desk(node)
            self._open_api()
            self._write_status()
        except KNOWN_REASONS as error:
            await self.stop()
            raise StartError(" ".join(str(error).split())) from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop what was started, last first. Never raises; may be called twice."""
        while self._closers:
            what, close = self._closers.pop()
            try:
                result = close()
                if inspect.isawaitable(result):
                    await result
            except Exception:
                log.exception("Stopping the %s failed.", what)

    async def wait_ready(self, timeout: float) -> bool:
        """Whether the index has caught up with the node within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self.follower.status.caught_up:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(READY_POLL)
        return True

    # Starting, in order

    def _open_databases(self) -> None:
        folder = self.settings.working_dir
        _make_folder(folder)
        try:
            mend(folder / "names")  # what a killed import or reindex left beside it
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}; mend its permissions") from error
        self.table = NameTable(folder / "names", self.network)
        self._closers.append(("name table", self.table.close))
        loop = asyncio.get_running_loop()

        def on_kept(digests: Sequence[bytes]) -> None:
            """In the archive's thread, whoever brought the data."""
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are stopping
                loop.call_soon_threadsafe(self._data_came, digests)

        self.archive = Archive(
            folder / "archive", max_bytes=self.settings.archive_max_bytes, on_kept=on_kept
        )
        self._closers.append(("archive", self.archive.close))

    async def _join_network(self) -> None:
        settings = self.settings
        self.dht = DhtNode(
            settings.dht_host,
            settings.dht_port,
            archive=self.archive,
            is_announced=self._is_announced,
            bootstrap=settings.dht_bootstrap,
            state_file=settings.working_dir / "dht.json",
        )
        await self.dht.start()
        self._closers.append(("DHT node", self.dht.stop))
        if not ipaddress.ip_address(settings.dht_host).is_loopback:
            log.warning("The DHT node is open to everybody who can reach %s.", settings.dht_host)
        self.keeping = Keeping(self.archive, self.dht, self.table.snapshot)
        self.source = DataSource(self.archive, self.dht)
        self._closers.append(("look-ups", self.source.close))
        self.replicator = Replicator(self.source, self.dht, is_announced=self._is_announced)
        await self.replicator.start()
        self._closers.append(("replicator", self.replicator.stop))

    async def _meet_node(self) -> Any:
        """The node, which must be there and on our chain unless the settings say to wait for it."""
        settings = self.settings
        node = self._given_node or BitcoinNode(
            settings.node_url,
            user=settings.node_user,
            password=settings.node_password,
            cookie_file=settings.node_cookie_file,
            timeout=settings.node_timeout,
        )
        if settings.wait_for_node:
            return node
        try:
            info = await asyncio.to_thread(node.chain_info)
        except NodeError as error:
            raise StartError(f"{error}; or give --wait-for-node") from error
        if info.chain != self.network.node_chain:
            raise StartError(
                f"the node follows the chain {info.chain!r}, but the network {self.network.name}"
                f" lives on {self.network.node_chain!r}; change node_url or network"
            )
        return node

    def _follow_chain(self, node: Any) -> None:
        settings = self.settings
        loop = asyncio.get_running_loop()

        rules: list[object] = [None]

        def on_blocks(snapshot: Snapshot, names: frozenset[str]) -> None:
            """In the follower's thread."""
            digests = list(_digests_of(snapshot, names))
            # What every name's end depends on, beside its own record.
            spaces = [snapshot.namespace(space) for space in settings.zones.values()]
            now = (self.network.epoch(snapshot.height), spaces)
            changed = rules[0] != now
            rules[0] = now
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are stopping
                loop.call_soon_threadsafe(
                    self._blocks_came, digests, snapshot.height, names, changed
                )

        self.follower = Follower(
            node,
            self.table,
            self.network,
            confirmations=settings.confirmations,
            poll_interval=settings.poll_interval,
            on_blocks=on_blocks,
            clock=self._clock,
            lanes=partial(
                make_lanes,
                node,
                self.network.magic,
                settings.catch_up_processes,
                self._block_files(),
            ),
        )
        stopping = threading.Event()

        def run() -> None:
            self.follower.run(stopping)
            node.close()

        thread = threading.Thread(target=run, name="follower", daemon=True)
        thread.start()
        if isinstance(node, BitcoinNode):
            listen = Announcements(node, self.follower.wake).run
            threading.Thread(
                target=listen, args=(stopping,), name="announcements", daemon=True
            ).start()
        backlog = asyncio.ensure_future(self._announce_backlog(stopping))

        async def stop_following() -> None:
            stopping.set()
            await asyncio.wait({backlog})
            await loop.run_in_executor(None, thread.join, FOLLOWER_STOP_TIMEOUT)
            if thread.is_alive():
                # Closing the table under its writer would be worse than not closing it: what is
                # written is whole batches, and the next start finds them.
                log.warning("The node does not answer; the index is left as a kill would leave it.")
                self._closers = [entry for entry in self._closers if entry[0] != "name table"]

        self._closers.append(("follower", stop_following))

    def _block_files(self) -> BlockFiles | None:
        folder = self.settings.blocks_dir
        if folder is None:
            return None
        try:
            return BlockFiles(folder, MESSAGE_START[self.network.node_chain])
        except BlockFilesError as error:
            raise StartError(f"blocks_dir: {error}") from error

    def _open_doors(self) -> None:
        from twisted.internet import reactor

        settings = self.settings
        zones = Zones.from_settings(
            settings.zones,
            nameservers=(settings.soa_mname,),
            hostmaster=settings.soa_rname,
            chain_first=settings.chain_first,
        )
        ttls = TtlLimits(settings.min_ttl, settings.max_ttl)
        may_transfer = [ipaddress.ip_network(prefix) for prefix in settings.transfer_to]
        self.resolver = Resolver(
            zones=zones,
            table=self.table.snapshot,
            source=self.source,
            freshness=self.freshness,
            fetch_timeout=settings.query_timeout,
            ttls=ttls,
            transfers=Transfers(zones, may_transfer, self.source.peek, ttls),
            staleness=StalenessLimits(settings.stale_after, settings.refuse_after),
            identity=ServerIdentity(settings.version_text, settings.hostname),
            nsid=settings.nsid.encode("utf-8"),
            keepalive=settings.tcp_idle_timeout,
            max_waiting=settings.max_queries_waiting,
            contents=Contents(max_entries=settings.zone_cache_entries),
            status=self.node_status,
            cache=ReplyCache(settings.reply_cache_bytes) if settings.reply_cache_bytes else None,
            cookies=ServerCookies(secrets.token_bytes, _cookie_secrets(settings)),
            work=WorkBudget(self._rates),
            forwarder=self._make_forwarder(),
        )
        self._closers.append(("resolver", self.resolver.close))
        tls = settings.tls_certificate is not None
        doors = 1 + tls * (settings.dot_port != "off") + tls * (settings.doh_port != "off")
        make_room(doors * len(settings.listen) * settings.tcp_connections)
        for host in settings.listen:
            self._open_dns(reactor, host)
            if not ipaddress.ip_address(host).is_loopback:
                log.warning("DNS is open to everybody who can reach %s.", host)
        self.encrypted = EncryptedDoors(self.resolver)
        self._closers.append(("encrypted doors", self.encrypted.stop))
        self.encrypted.open(
            reactor,
            settings.listen,
            settings.tls_certificate,
            settings.tls_key,
            dot_port=settings.dot_port,
            doh_port=settings.doh_port,
            idle=settings.tcp_idle_timeout,
            max_connections=settings.tcp_connections,
            max_per_address=settings.tcp_connections_per_address,
        )

    def _make_forwarder(self) -> Forwarder | None:
        settings = self.settings
        self.forwarder = open_forwarder(
            settings.forward,
            authorities=settings.forward_ca,
            allow=settings.allow_forward,
            trust_ad=settings.trust_ad == "yes",
            cache_bytes=settings.forward_cache_bytes,
            timeout=settings.forward_timeout,
        )
        if self.forwarder is not None:
            self._closers.append(("forwarding", self.forwarder.close))
        return self.forwarder

    def _open_dns(self, reactor: Any, host: str) -> None:
        """UDP and TCP on one port; a port of the system's choice must be free for both."""
        settings = self.settings
        for left in reversed(range(PORT_TRIES if settings.dns_port == 0 else 1)):
            tcp = open_tcp(
                reactor,
                host,
                settings.dns_port,
                self.resolver,
                idle=settings.tcp_idle_timeout,
                max_connections=settings.tcp_connections,
                max_per_address=settings.tcp_connections_per_address,
                max_per_loopback=max(1, settings.tcp_connections * 3 // 4),
            )
            self._closers.append(("DNS over TCP", tcp.stop))
            try:
                udp = open_udp(
                    reactor,
                    host,
                    tcp.port,
                    self.resolver,
                    rates=ReplyRates(self._rates),
                )
            except PortUnavailable:
                if not left:
                    raise
                continue  # the spare TCP door is closed with the others
            self._closers.append(("DNS over UDP", udp.stop))
            self.tcp_doors.append(tcp)
            self.udp_doors.append(udp)
            self.dns_addresses.append((host, tcp.port))
            return

    def _open_desk(self, node: Any) -> None:
        """Let names be registered; who may have it done is for the doors of the API."""
        settings = self.settings
        if not isinstance(node, BitcoinNode):
            return
        self.desk = Desk(
            settings.working_dir / "registrar",
            self.network,
            BitcoinNode(**node.place_and_key),
            self.table.snapshot,
            signing=Signing(
                settings.signer,
                settings.node_wallet,
                settings.key_file,
                settings.key_passphrase_file,
            ),
            renewing=AutoRenew(
                settings.auto_renew, settings.auto_renew_before, settings.auto_renew_max_price
            ),
            confirmations=settings.confirmations,
            max_fee_rate=settings.max_fee_rate,
            publish=self.keeping.keep_and_publish,
            verify=self.keeping.resolves,
            clock=self._clock,
        )
        self.desk.start()
        self._closers.append(("registrar", self.desk.stop))

    def _open_api(self) -> None:
        settings = self.settings
        behind = Behind(
            snapshot=self.table.snapshot,
            freshness=self.freshness,
            fetch=self.source.get,
            keep=self.keeping.keep,
            publish=self.keeping.publish,
            figures=self.figures,
            query_timeout=settings.query_timeout,
            staleness=StalenessLimits(settings.stale_after, settings.refuse_after),
            desk=self.desk,
        )
        exports = Exports(self.table.snapshot)
        self._closers.append(("exports", exports.close))
        pages = Pages(behind)
        self.api = ApiDoor(
            pages,
            settings.api_host,
            settings.api_port,
            settings.api_names,
            self.resolver.begin,
            exports,
            self._token(),
        )
        try:
            self.api.start()
        except Exception as error:
            cause = getattr(error, "socketError", error)
            if not isinstance(cause, OSError):
                raise
            raise StartError(
                _unbound("HTTP API", settings.api_host, settings.api_port, "--api-port", cause)
            ) from error
        self._closers.append(("HTTP API", self.api.stop))
        log.info("The HTTP API listens on %s port %d.", settings.api_host, self.api.port)
        if not ipaddress.ip_address(settings.api_host).is_loopback:
            log.warning("The HTTP API is open to everybody who can reach %s.", settings.api_host)
        self.own_door = SocketDoor(pages, settings.working_dir, os.environ, exports)
        try:
            self.own_door.start()
        except NoPlace as reason:
            log.warning("This user's commands cannot ask or pay here: no socket, for %s.", reason)
        else:
            self._closers.append(("socket", self.own_door.stop))
            log.info("Commands of this user are answered on %s.", self.own_door.path)

    def _token(self) -> LetsIn:
        """Who may pay over TCP: nobody, unless it was asked for."""
        if not self.settings.api_pay_over_tcp:
            return nobody
        return Token.on_file(self.settings.api_token_file).lets_in

    def _write_status(self) -> None:
        path = self.settings.working_dir / STATUS_NAME
        socket = None if self.own_door.path is None else str(self.own_door.path)
        told = {"pid": os.getpid(), "socket": socket, **self.addresses()}
        text = json.dumps(told, indent=4) + "\n"
        fresh = path.with_suffix(".tmp")
        fresh.write_text(text, "utf-8")
        fresh.replace(path)
        self._closers.append(("status file", lambda: path.unlink(missing_ok=True)))

    # While it runs

    def addresses(self) -> Json:
        """Where the doors are, as bound."""
        return {
            "version": VERSION,
            "network": self.network.name,
            "started": int(self._started),
            "dns": [{"host": host, "port": port} for host, port in self.dns_addresses],
            "dot": [{"host": door.host, "port": door.port} for door in self.encrypted.tls],
            "doh": [{"host": door.host, "port": door.port} for door in self.encrypted.https],
            "api": {"host": self.settings.api_host, "port": self.api.port},
            "dht": {"host": self.settings.dht_host, "port": self.dht.port},
        }

    def freshness(self) -> Freshness:
        """How far behind the chain the index is, now."""
        status = self.follower.status
        snapshot = self.table.snapshot()
        now = self._clock()
        silent_for = now - (status.last_contact or self._started)
        if status.stopped_at is not None:
            silent_for = max(silent_for, now - status.stopped_at)
        if self.network.node_chain != "regtest" and snapshot.block_time:
            # Test chains have no rhythm. On the others the last indexed block is as old as its
            # confirmations, and only blocks that came while we looked are of a known age.
            depth = (self.settings.confirmations - 1) * self.network.target_spacing
            came = max(snapshot.block_time + depth, self._last_block_came or 0.0)
            silent_for = max(silent_for, now - came)
        target = status.target if status.target is not None else snapshot.height
        ready = status.caught_up and target - snapshot.height <= MAX_BEHIND
        stopped = status.stopped_at is not None
        return Freshness(ready, snapshot.height, target, max(0.0, silent_for), stopped)

    def node_status(self) -> NodeStatus:
        """What ``_status.SUFFIX`` tells."""
        status = self.follower.status
        freshness = self.freshness()
        return NodeStatus(
            self.network.name,
            status.state,
            freshness.height,
            status.node_height,
            self.dht.peers,
            freshness.silent_for,
        )

    def figures(self) -> Json:
        """What ``/v1/info`` tells."""
        return figures_of(
            Counted(
                network=self.network,
                table=self.table,
                follower=self.follower,
                archive=self.archive,
                dht=self.dht,
                source=self.source,
                replicator=self.replicator,
                resolver=self.resolver,
                udp=self.udp_doors,
                tcp=self.tcp_doors,
                forwarder=self.forwarder,
                desk=self.desk,
            ),
            self.freshness(),
            self.addresses(),
        )

    def _is_announced(self, digest: bytes) -> bool:
        return self.table.snapshot().is_announced(digest)

    def _blocks_came(
        self, digests: list[bytes], height: int, names: frozenset[str], rules_changed: bool
    ) -> None:
        if hasattr(self, "resolver"):  # the chain is followed before the doors are open
            self.resolver.blocks_came(height, names, everything=rules_changed)
        if self.follower.status.caught_up:
            self._last_block_came = self._clock()
        if self.settings.replicate:
            self.replicator.announce(digests)
        if self.desk is not None:
            self.desk.blocks_came()

    def _data_came(self, digests: Sequence[bytes]) -> None:
        if hasattr(self, "resolver"):  # data comes before the doors are open
            self.resolver.data_came(digests)

    async def _announce_backlog(self, stopping: threading.Event) -> None:
        """Hand what all live names announce to the replicator, once."""
        if self.settings.replicate:
            announced = self.table.snapshot().announced_values()
            await self.replicator.take_backlog(announced, stopping.is_set)


def build(settings: Settings, *, node: Any = None) -> Service:
    """A service that is not started yet."""
    return Service(settings, node=node)


def _digests_of(snapshot: Snapshot, names: frozenset[str]) -> Iterator[bytes]:
    """What the live ones of ``names`` announce."""
    for name in names:
        found = snapshot.name_status(name)
        if found is not None and found[1].phase in (Phase.LIVE, Phase.GRACE):
            digest = found[0].value_hash
            if digest is not None:
                yield digest


def _cookie_secrets(settings: Settings) -> tuple[bytes, ...]:
    """The fixed secrets of DNS cookies, the present one first; none: they are drawn."""
    text = settings.cookie_secret or ""
    return tuple(bytes.fromhex(part.strip()) for part in text.split(",") if part.strip())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"the working folder {folder} cannot be made ({error.strerror});"
            " choose another with --working-dir"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(
            f"the working folder {folder} cannot be written to;"
            " mend its permissions or choose another with --working-dir"
        )


def _unbound(what: str, host: str, port: int, flag: str, error: OSError) -> str:
    return (
        f"the {what} cannot listen on {host} port {port} ({error.strerror or error});"
        f" stop what uses it, or choose another port with {flag}"
    )
