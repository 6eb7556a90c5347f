"""Every setting of Blockstore: name, default, meaning and check.

The class ``Settings`` is the table; flags, environment names, the README's table and the checks
all follow from it. Whence the values come is for ``settings``.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
)

from indexer.networks import NETWORKS, Network
from resolver.process.places import CONFIG_NAME, Whereabouts
from resolver.settings.types import (
    Address,
    Duration,
    Host,
    HostPort,
    Ipv4,
    Many,
    Port,
    Prefixes,
    Resolver,
    Seconds,
    Size,
    check_cookie_secret,
    check_url,
    check_zones,
    split_table,
)
from resolver.words import VERSION

FROM_FILE = "settings file"
MAX_SHOWN_PATH = 1000

NODES = {
    "mainnet": (8332, ""),
    "testnet": (18332, "testnet3"),
    "testnet4": (48332, "testnet4"),
    "signet": (38332, "signet"),
    "regtest": (18443, "regtest"),
    "sandbox": (18443, None),
}
"""The port that bitcoind itself chooses for JSON-RPC, and the folder of its cookie in its own."""


def _setting(default: Any, meaning: str, **more: Any) -> Any:
    """A row of the table. ``shown``: the default in words; ``secret``: never shown, no flag."""
    extra: dict[str, Any] = {key: more.pop(key) for key in ("shown", "secret") if key in more}
    return Field(default, description=meaning, json_schema_extra=extra, **more)


class Settings(BaseModel):
    """The effective settings; frozen. ``source_of(name)`` says where a value came from."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    network: Literal["mainnet", "testnet", "testnet4", "signet", "regtest", "sandbox"] = _setting(
        "mainnet", "The chain to follow: mainnet, testnet, testnet4, signet, regtest or sandbox."
    )
    working_dir: Path = _setting(
        ..., "Folder of databases, log and pid file.", shown="~/.blockstore, or .../NETWORK in it"
    )
    config: Path = _setting(..., "The settings file (TOML).", shown=f"WORKING_DIR/{CONFIG_NAME}")

    node_url: Annotated[str, AfterValidator(check_url)] = _setting(
        ..., "JSON-RPC address of the Bitcoin node.", shown="http://127.0.0.1 and bitcoind's port"
    )
    node_user: str | None = _setting(None, "User at the node; without one the cookie file is read.")
    node_password: str | None = _setting(
        None, "Password at the node; by file or environment only.", secret=True
    )
    node_cookie_file: Path | None = _setting(
        None,
        "bitcoind's cookie file, which goes before node_user and its password.",
        shown="~/.bitcoin/.cookie, if there is no node_user",
    )
    node_timeout: Duration = _setting(
        30.0, "How long the node may take to answer.", shown="30 s", ge=0.1, le=600
    )
    wait_for_node: bool = _setting(
        False, "Start although the node cannot be reached yet, and wait for it."
    )
    confirmations: int = _setting(
        ..., "Confirmations a block needs to be indexed.", ge=1, le=144, shown="6; 1 on regtest"
    )
    first_block: int = _setting(
        ...,
        "The first block that is indexed; other than its network's on regtest, signet and testnet4"
        " only. After a change: blockstored reindex.",
        ge=1,
        le=10_000_000,
        shown="its network's; 373601 on mainnet",
    )
    poll_interval: Duration = _setting(
        ...,
        "Time between questions for new blocks.",
        ge=0.01,
        le=3600,
        shown="10 s; 0.5 s on regtest",
    )

    blocks_dir: Path | None = _setting(
        None, "bitcoind's folder `blocks`, to read old blocks from rather than over RPC."
    )
    catch_up_processes: int = _setting(
        ...,
        "Processes that read blocks ahead while catching up; 0: threads of the daemon do.",
        ge=0,
        le=16,
        shown="half of the cores: 2 or 3; 0 on one core",
    )

    listen: Many[Address] = _setting(
        ("127.0.0.1",), "Addresses of the DNS doors (UDP and TCP).", min_length=1, max_length=64
    )
    dns_port: Port = _setting(6253, "Port of the DNS doors; 0 takes a free one.")
    tls_certificate: Path | None = _setting(
        None, "Certificate chain (PEM) of DNS over TLS and HTTPS; without one neither is offered."
    )
    tls_key: Path | None = _setting(None, "Its private key (PEM, without a password).")
    dot_port: Port | Literal["off"] = _setting(
        853, "Port of DNS over TLS, on the addresses of `listen`; 0 takes a free one, or off."
    )
    doh_port: Port | Literal["off"] = _setting(
        443, "Port of DNS over HTTPS, on the addresses of `listen`; 0 takes a free one, or off."
    )
    api_host: Address = _setting("127.0.0.1", "Address of the HTTP API.")
    api_port: Port = _setting(6264, "Port of the HTTP API; 0 takes a free one.")
    api_names: Many[Host] = _setting(
        (), "Host names the HTTP API answers to beside loopback ones.", max_length=64
    )
    api_connections: int = _setting(
        200, "Connections to the port of the HTTP API at once.", ge=4, le=512
    )
    api_connections_per_address: int = _setting(
        50, "Those of them from one address; from this machine three quarters.", ge=1, le=512
    )
    api_request_time: Duration = _setting(
        20.0,
        "How long a whole request to the HTTP API may take to come.",
        shown="20 s",
        ge=1,
        le=600,
    )
    dht_host: Ipv4 = _setting("127.0.0.1", "IPv4 address of the DHT node.")
    dht_port: Port = _setting(6265, "UDP port of the DHT node; 0 takes a free one.")
    dht_bootstrap: Many[HostPort] = _setting(
        (), "DHT nodes to begin with, as HOST:PORT.", max_length=256
    )

    zones: Annotated[dict[str, str], BeforeValidator(split_table), AfterValidator(check_zones)] = (
        _setting({"bs": "id"}, "Which DNS suffix serves which namespace.")
    )
    chain_first: Many[Host] = _setting(
        (),
        "Served suffixes whose unregistered names are asked of ordinary DNS; others' never are.",
        max_length=64,
    )
    forward: Many[Resolver] = _setting(
        (),
        "Resolvers asked for all other names, in order: ADDRESS, ADDRESS:PORT, or over TLS"
        " `tls://ADDRESS#NAME`; none: such are refused.",
        max_length=16,
    )
    forward_ca: Path | None = _setting(
        None,
        "Certificates (PEM) of those who vouch for the `tls://` resolvers.",
        shown="those this machine trusts",
    )
    allow_forward: Prefixes = _setting(
        ("127.0.0.0/8", "::1/128"), "Address prefixes of those it is done for.", max_length=256
    )
    forward_timeout: Duration = _setting(
        5.0, "How long the resolvers of `forward` may take together.", shown="5 s", ge=0.1, le=30
    )
    forward_cache_bytes: Size = _setting(
        32 * 2**20, "Memory for what they answered.", ge=2**16, le=2**40, shown="32MiB"
    )
    forward_rate: float = _setting(
        500.0,
        "Questions a second that they are asked in all, so that served names keep their share;"
        " what is beyond hears SERVFAIL; 0: any number.",
        shown="500",
        ge=0,
        le=1e6,
    )
    trust_ad: Literal["yes", "no"] = _setting(
        "no", "Pass on that they have validated an answer (AD): yes or no."
    )
    transfer_to: Prefixes = _setting(
        (),
        "Address prefixes of those who may have whole zones (AXFR); none: nobody.",
        max_length=256,
    )
    min_ttl: Seconds = _setting(60, "Least TTL of an answer, in seconds.", ge=0, le=604800)
    max_ttl: Seconds = _setting(86400, "Greatest TTL of an answer, in seconds.", ge=1, le=604800)
    soa_mname: Host = _setting("localhost", "Primary name server in the SOA record.")
    soa_rname: Host = _setting("nobody.invalid", "Mailbox of the zone's keeper in the SOA record.")
    version_text: str = _setting(
        f"Blockstore {VERSION}", "Answer to version.bind; empty: refused.", max_length=255
    )
    hostname: str = _setting("", "Answer to hostname.bind; empty: refused.", max_length=255)
    nsid: str = _setting("", "Name server identifier (EDNS NSID); empty: none.", max_length=64)

    query_timeout: Duration = _setting(
        3.0, "How long a question may wait for data from the network.", shown="3 s", ge=0.01, le=30
    )
    stale_after: Duration = _setting(
        7200.0, "Without a new block for so long, answers say so.", shown="2h", ge=1
    )
    refuse_after: Duration = _setting(
        86400.0, "Without a new block for so long, nothing is answered.", shown="24h", ge=1
    )
    max_queries_waiting: int = _setting(
        1000, "Questions that may wait for data at once.", ge=1, le=100_000
    )
    reply_cache_bytes: Size = _setting(
        32 * 2**20, "Memory for replies ready to send; 0: none.", ge=0, le=2**40, shown="32MiB"
    )
    rate_limit: float = _setting(
        50.0,
        "Like replies a second over UDP to one network (/24, /56); 0: no limit. Not for loopback.",
        ge=0,
        le=1e6,
    )
    rate_limit_slip: int = _setting(
        2, "One in so many replies above the limit is TC or BADCOOKIE; 0: none.", ge=0, le=100
    )
    rate_computed: float = _setting(
        500.0, "Replies a second to one network that are not in memory; 0: no limit.", ge=0, le=1e6
    )
    rate_fetched: float = _setting(
        20.0, "Look-ups a second in the DHT for one network; 0: no limit.", ge=0, le=1e6
    )
    cookie_secret: Annotated[str | None, AfterValidator(check_cookie_secret)] = _setting(
        None,
        "Secret of DNS cookies, 32 hex digits, shared by servers of one address; after a comma"
        " the last one. None: drawn, and anew each day.",
        secret=True,
    )
    tcp_connections: int = _setting(1000, "TCP connections at once.", ge=1, le=60_000)
    tcp_connections_per_address: int = _setting(
        50, "TCP connections at once from one address.", ge=1, le=60_000
    )
    tcp_idle_timeout: Duration = _setting(
        10.0, "A TCP connection silent for so long is closed.", shown="10 s", ge=0.1, le=600
    )

    replicate: bool = _setting(
        True, "Fetch the data of every live name when it is announced, not only when it is asked."
    )
    archive_max_bytes: Size = _setting(
        2**30, "Most data this node keeps, in bytes or as 1GiB.", ge=2**16, le=2**50, shown="1GiB"
    )
    zone_cache_entries: int = _setting(
        10_000, "Parsed zone files kept in memory.", ge=1, le=10_000_000
    )

    trusted_proxies: Prefixes = _setting(
        (),
        "Address prefixes of proxies that are believed for whom they ask: on the API's port by"
        " X-Forwarded-For, and by PROXY headers where `proxy_protocol` says so.",
        max_length=256,
    )
    proxy_protocol: Many[Literal["dns", "dot", "doh", "api"]] = _setting(
        (),
        "Doors at which the `trusted_proxies` have to begin each connection (and datagram) with a"
        " PROXY header, version 2: dns, dot, doh, api.",
        max_length=4,
    )
    api_pay_over_tcp: bool = _setting(
        False,
        "Whether programs on this machine may have names registered and paid for over the HTTP"
        " API's port, by the token of api_token_file, and not only over the daemon's socket.",
    )
    api_token_file: Path = _setting(
        ...,
        "The token that api_pay_over_tcp asks for; made where it is missing.",
        shown="WORKING_DIR/api-token",
    )
    socket_group: str | None = _setting(
        None,
        "The group whose members may have names registered over the daemon's socket, as its own"
        " user and root may; for a service of the system.",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$",
    )
    signer: Literal["node", "key-file", "nobody"] = _setting(
        "node",
        "Who signs what is registered here: a wallet of the node, key-file, or nobody (each"
        " transaction is handed out as a PSBT).",
    )
    node_wallet: str | None = _setting(
        None,
        "The name of the node's wallet, where it has more than one.",
        min_length=1,
        max_length=200,
    )
    key_file: Path | None = _setting(
        None, "Private keys that sign (WIF, one a line; see `blockstore-cli keys`)."
    )
    key_passphrase_file: Path | None = _setting(
        None, "A file with the passphrase of key_file, where that is encrypted."
    )
    max_fee_rate: float = _setting(
        200.0, "The most satoshis a byte that a miner is ever paid.", ge=1, le=100_000
    )
    auto_renew: Many[str] = _setting(
        (),
        "Names that are renewed before they lapse; `all`: every one that the signer owns.",
        max_length=10_000,
    )
    auto_renew_before: Duration = _setting(
        60 * 86400.0,
        "How long before, but never in the first half of a name's life.",
        shown="60d",
        ge=60,
        le=10 * 366 * 86400,
    )
    auto_renew_max_price: int = _setting(
        0, "The most satoshis that such a renewal may cost, the miner's fee apart.", ge=0
    )

    log_level: Literal["error", "warning", "info", "debug"] = _setting(
        "info", "Least level written to the log: error, warning, info or debug."
    )
    query_log: bool = _setting(
        False, "Write a line for every question to the log: who asks, for what, and the reply."
    )
    log_file: Path = _setting(..., "The log file.", shown="WORKING_DIR/blockstored.log")
    log_max_bytes: Size = _setting(
        10 * 2**20, "Size at which the log is rotated; 0: never.", ge=0, le=2**40, shown="10MiB"
    )
    log_backups: int = _setting(5, "Rotated logs kept.", ge=1, le=1000)

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def cookie_secrets(self) -> tuple[bytes, ...]:
        """The fixed secrets of DNS cookies, the present one first; none: they are drawn."""
        text = self.cookie_secret or ""
        return tuple(bytes.fromhex(part.strip()) for part in text.split(",") if part.strip())

    @property
    def chain(self) -> Network:
        """The chain to follow, from the first block to index on."""
        return replace(NETWORKS[self.network], first_block=self.first_block)

    @property
    def whereabouts(self) -> Whereabouts:
        """What a command must be told to find this daemon."""
        config = self.config if "config" in self._sources else None
        return Whereabouts(self.network, self.working_dir, config)

    def source_of(self, name: str) -> str:
        """Where the value of ``name`` came from, in words."""
        return self._sources.get(name, "default")


PATHS = tuple(
    name for name, row in Settings.model_fields.items() if row.annotation in (Path, Path | None)
)
"""Settings that are paths: those that are relative begin where the command was given."""
