"""The only place that knows every room: opens them in order from the settings, closes in reverse.

What must stay true: doors open last and close first; whatever was started is stopped again, also
when a later part fails to start; the databases close only when nobody can reach them any more.
Nothing here is global, so that several services can live in one process.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from indexer.following.index import Index, News, meet
from indexer.node.node import BitcoinNode, open_node
from resolver.api.api import Api
from resolver.api.chain_names import chain_name
from resolver.api.figures import figures_of
from resolver.api.pages import Behind, Json
from resolver.api.payer import Signing
from resolver.api.publishing import Publishing
from resolver.api.registrar_service import RegistrarService
from resolver.api.renewing import AutoRenew
from resolver.dns.chase import Freshness, StalenessLimits
from resolver.dns.meta import NodeStatus
from resolver.dns.rates import Rates
from resolver.doors.doors import Doors, Encryption
from resolver.doors.query_log import LoggingResolver
from resolver.forwarding.forwarder import Forwarder, open_forwarder
from resolver.process.folder import StatusFile, make_folder
from resolver.refusals import Refused
from resolver.resolve import Resolver, open_resolver
from resolver.settings.table import Settings
from resolver.words import VERSION
from zonefiles.holdings import Holdings, open_holdings

log = logging.getLogger("blockstore.service")

MOST_AHEAD = 2 * 3600.0
"""Seconds by which a block's time may be fast, by Bitcoin's rules; more, and a clock is wrong."""
_OURS = ("indexer", "zonefiles", "resolver")


class StartError(Exception):
    """The service cannot start; ``str()`` is one line that says why and what to do."""


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
        self._node = node
        self._started = clock()
        self._closing = contextlib.AsyncExitStack()
        self._staleness = StalenessLimits(settings.stale_after, settings.refuse_after)
        self._proxies = [ipaddress.ip_network(prefix) for prefix in settings.trusted_proxies]
        self._rates = Rates(
            alike=settings.rate_limit,
            computed=settings.rate_computed,
            fetched=settings.rate_fetched,
            slip=settings.rate_limit_slip,
        )
        self.index: Index
        self.holdings: Holdings
        self.resolver: Resolver | None = None
        self.forwarder: Forwarder | None = None
        self.doors: Doors
        self.registrar: RegistrarService | None = None
        self.api: Api

    async def start(self) -> None:
        """Start everything; doors are open when this returns. Raises StartError."""
        try:
            await self._start()
        except BaseException as error:
            await self.stop()
            # Errors of our own are one line for people already.
            if isinstance(error, Exception) and type(error).__module__.split(".")[0] in _OURS:
                raise StartError(" ".join(str(error).split())) from error
            raise

    async def _start(self) -> None:
        settings = self.settings
        make_folder(settings.working_dir)
        self.index = Index(settings.working_dir / "names", settings.chain, clock=self._clock)
        self._closing.callback(self.index.close)
        node = await self._meet_node()
        self.holdings = await open_holdings(
            settings.working_dir,
            max_bytes=settings.archive_max_bytes,
            host=settings.dht_host,
            port=settings.dht_port,
            bootstrap=settings.dht_bootstrap,
            is_announced=self.index.is_announced,
            on_data=self._data_came,
        )
        self._closing.push_async_callback(self.holdings.stop)
        self._follow(node)
        self._closing.push_async_callback(asyncio.to_thread, self.index.stop)
        self.resolver = self._make_resolver()
        self._closing.push_async_callback(self.resolver.close)
        self._open_doors(self.resolver)
        publishing = Publishing(self.holdings.archive, self.holdings.dht, self.index.snapshot)
        if isinstance(node, BitcoinNode):
            self.registrar = self._make_registrar(node, publishing)
            self._closing.push_async_callback(self.registrar.stop)
            self.registrar.start()
        self.api = self._make_api(self.resolver, publishing)
        self._closing.push_async_callback(self.api.stop)
        self.api.open()
        socket = None if self.api.socket is None else str(self.api.socket)
        told = {"pid": os.getpid(), "socket": socket, **self.addresses()}
        self._closing.callback(StatusFile(settings.working_dir, told).remove)

    async def stop(self) -> None:
        """Stop what was started, last first. Never raises; may be called twice."""
        try:
            await self._closing.aclose()
        except Exception:  # what failed before it stands in its context
            log.exception("Stopping failed.")

    # The rooms, from the values of the settings

    async def _meet_node(self) -> Any:
        """The node, which must be there and on our chain unless the settings say to wait for it."""
        settings = self.settings
        node = self._node or open_node(
            settings.node_url,
            user=settings.node_user,
            password=settings.node_password,
            cookie_file=settings.node_cookie_file,
            timeout=settings.node_timeout,
        )
        if not settings.wait_for_node:
            await asyncio.to_thread(meet, node, self.index.network)
        return node

    def _follow(self, node: Any) -> None:
        settings, loop = self.settings, asyncio.get_running_loop()

        def tell(news: News) -> None:
            """In the follower's thread."""
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are stopping
                loop.call_soon_threadsafe(self._blocks_came, news)

        self.index.attach(
            node,
            confirmations=settings.confirmations,
            poll_interval=settings.poll_interval,
            processes=settings.catch_up_processes,
            blocks_dir=settings.blocks_dir,
            served=tuple(settings.zones.values()),
            tell=tell,
        )
        self.index.start()
        if settings.replicate:
            self.holdings.begin_with(self.index.snapshot().announced_values())

    def _make_resolver(self) -> Resolver:
        settings = self.settings
        self.forwarder = open_forwarder(
            settings.forward,
            authorities=settings.forward_ca,
            allow=settings.allow_forward,
            trust_ad=settings.trust_ad == "yes",
            cache_bytes=settings.forward_cache_bytes,
            timeout=settings.forward_timeout,
            rate=settings.forward_rate,
        )
        if self.forwarder is not None:
            self._closing.push_async_callback(self.forwarder.close)
        return open_resolver(
            LoggingResolver if settings.query_log else Resolver,
            zones=settings.zones,
            nameserver=settings.soa_mname,
            hostmaster=settings.soa_rname,
            chain_first=settings.chain_first,
            ttls=(settings.min_ttl, settings.max_ttl),
            transfer_to=settings.transfer_to,
            version_text=settings.version_text,
            hostname=settings.hostname,
            nsid=settings.nsid,
            zone_cache_entries=settings.zone_cache_entries,
            reply_cache_bytes=settings.reply_cache_bytes,
            cookie_secrets=settings.cookie_secrets,
            rates=self._rates,
            source=self.holdings.source,
            table=self.index.snapshot,
            freshness=self.freshness,
            fetch_timeout=settings.query_timeout,
            staleness=self._staleness,
            keepalive=settings.tcp_idle_timeout,
            max_waiting=settings.max_queries_waiting,
            status=self.node_status,
            forwarder=self.forwarder,
        )

    def _open_doors(self, resolver: Resolver) -> None:
        settings = self.settings
        encryption = None
        if settings.tls_certificate is not None and settings.tls_key is not None:
            encryption = Encryption(
                settings.tls_certificate, settings.tls_key, settings.dot_port, settings.doh_port
            )
        self.doors = Doors(
            resolver,
            idle=settings.tcp_idle_timeout,
            connections=settings.tcp_connections,
            per_address=settings.tcp_connections_per_address,
            proxies=dict.fromkeys(settings.proxy_protocol, self._proxies),
        )
        self._closing.push_async_callback(self.doors.stop)
        self.doors.open(settings.listen, settings.dns_port, self._rates, encryption)

    def _make_registrar(self, node: BitcoinNode, publishing: Publishing) -> RegistrarService:
        """What has names registered; who may have it done is for the doors of the API."""
        settings = self.settings
        return RegistrarService(
            settings.working_dir / "registrar",
            self.index.network,
            BitcoinNode(**node.place_and_key),
            self.index.snapshot,
            signing=Signing(
                settings.signer,
                settings.node_wallet,
                settings.key_file,
                settings.key_passphrase_file,
            ),
            renewing=AutoRenew(
                tuple(self._renewed()), settings.auto_renew_before, settings.auto_renew_max_price
            ),
            confirmations=settings.confirmations,
            max_fee_rate=settings.max_fee_rate,
            publish=publishing.keep_and_publish,
            verify=publishing.resolves,
            zones=settings.zones,
            clock=self._clock,
        )

    def _renewed(self) -> Iterator[str]:
        """The names of ``auto_renew``, however they are written there. Raises StartError."""
        for text in self.settings.auto_renew:
            try:
                yield text if text == "all" else chain_name(text, self.settings.zones)
            except Refused as bad:
                raise StartError(f"auto_renew: {bad.sentence}; {bad.hint}") from None

    def _make_api(self, resolver: Resolver, publishing: Publishing) -> Api:
        settings = self.settings
        behind = Behind(
            snapshot=self.index.snapshot,
            freshness=self.freshness,
            fetch=self.holdings.source.get,
            keep=publishing.keep,
            publish=publishing.publish,
            figures=self.figures,
            query_timeout=settings.query_timeout,
            staleness=self._staleness,
            zones=settings.zones,
            registrar=self.registrar,
        )
        return Api(
            behind,
            resolver.begin,
            settings.api_host,
            settings.api_port,
            names=settings.api_names,
            working_dir=settings.working_dir,
            connections=settings.api_connections,
            connections_per_address=settings.api_connections_per_address,
            request_time=settings.api_request_time,
            token_file=settings.api_token_file if settings.api_pay_over_tcp else None,
            socket_group=settings.socket_group,
            proxies=self._proxies,
            proxy_headers="api" in settings.proxy_protocol,
        )

    # While it runs

    def addresses(self) -> Json:
        """Where the doors are, as bound."""
        return {
            "version": VERSION,
            "network": self.index.network.name,
            "started": int(self._started),
            **self.doors.addresses(),
            "api": {"host": self.api.host, "port": self.api.port},
            "dht": {"host": self.holdings.dht.host, "port": self.holdings.dht.port},
        }

    def freshness(self) -> Freshness:
        """How far behind the chain the index is, now."""
        return Freshness(*self.index.standing())

    def node_status(self) -> NodeStatus:
        """What ``_status.SUFFIX`` tells."""
        status, standing = self.index.follower.status, self.index.standing()
        age = self._clock() - self.index.snapshot().block_time
        return NodeStatus(
            self.index.network.name,
            status.state,
            standing.height,
            status.node_height,
            self.holdings.dht.peers,
            age if age < -MOST_AHEAD else standing.silent_for,
        )

    def figures(self) -> Json:
        """What ``/v1/info`` tells."""
        assert self.resolver is not None, "it tells when the doors are open"
        return figures_of(
            self.index,
            self.holdings,
            self.resolver,
            self.doors,
            self.forwarder,
            self.registrar,
            self.addresses(),
        )

    def _blocks_came(self, news: News) -> None:
        if self.resolver is not None:  # the chain is followed before the doors are open
            self.resolver.blocks_came(news.height, news.names, everything=news.rules_changed)
        if self.settings.replicate:
            self.holdings.replicator.announce(news.digests)
        if self.registrar is not None:
            self.registrar.blocks_came()

    def _data_came(self, digests: Sequence[bytes]) -> None:
        if self.resolver is not None:  # data comes before the doors are open
            self.resolver.data_came(digests)
