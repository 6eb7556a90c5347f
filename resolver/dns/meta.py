"""What the chain and this node say, as TXT, for people with nothing but dig.

``_blockstore.NAME TXT`` tells what the chain holds about a live name, whether or not its data can
be had; ``_status.SUFFIX TXT`` tells how this node stands, whether or not its index is ready.
What must stay true:
- TXT at exactly these two places is the server's word: what strangers write into their zone files
  cannot forge it; every other type there, and everything below, is the zone file's own;
- both places exist, so no wildcard reaches them or what is below them (RFC 4592 2.2.1);
- a name that is not live has no ``_blockstore`` below it either (RFC 8020);
- each fact is one character-string ``key=value``, in a fixed order (RFC 1464).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from indexer.bitcoin.transactions import hash_hex
from indexer.protocol.records import NameRecord, NameStatus, Phase
from resolver.dns.answer import about_date
from resolver.dns.codes import Rtype
from resolver.dns.lookup import RecordSet
from resolver.dns.zones import AtName, Labels

ABOUT_NAME = b"_blockstore"
STATUS = b"_status"

ABOUT_TTL = 60
"""Seconds; the facts bear the height at which they hold, and blocks come every ten minutes."""
STATUS_TTL = 0
"""The state of now is for the one who asked (RFC 2181 8)."""

MAX_STRING = 255


class Chain(Protocol):
    """What is asked of a snapshot of the name table."""

    @property
    def height(self) -> int: ...
    @property
    def block_time(self) -> int: ...
    def consensus_hash(self, height: int, /) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How this node stands. Heights are of blocks; ``block_age`` in seconds since the last block
    was mined or, where the chain has no rhythm, since the node last answered; below 0 where the
    block is of the future, so that a clock is wrong."""

    network: str
    state: str
    """The follower's: starting, catching up, following, node unavailable, stopped."""
    height: int
    node_height: int | None
    peers: int
    block_age: float


def is_status(place: AtName) -> bool:
    """Whether this is ``_status.SUFFIX`` itself. Nobody is harmed: a name ``_status`` on the chain
    keeps everything but this one RRset, which the HTTP API shows."""
    return not place.left and place.anchor[0] == STATUS


def is_about(left: Labels) -> bool:
    """Whether these labels to the left of a name lead to ``_blockstore`` or below it."""
    return bool(left) and left[-1] == ABOUT_NAME


def status_record(owner: Labels, status: NodeStatus) -> RecordSet:
    """The TXT record at ``_status.SUFFIX``."""
    unknown = "unknown"
    facts = (
        ("network", status.network),
        ("state", status.state),
        ("height", status.height),
        ("node_height", unknown if status.node_height is None else status.node_height),
        ("peers", status.peers),
        ("block_age", f"{status.block_age:.0f}"),
    )
    return RecordSet(owner, int(Rtype.TXT), STATUS_TTL, (_strings(facts),))


def about_record(
    owner: Labels,
    record: NameRecord,
    status: NameStatus,
    chain: Chain,
    spacing: float,
    data_from: str,
) -> RecordSet:
    """The TXT record at ``_blockstore.NAME`` of a live name.

    ``spacing`` is the chain's seconds between blocks; ``data_from`` says in words where this node
    has the data from. Hashes are written as block explorers do (txid reversed). ``expire_block``
    and ``renewal_deadline`` are the heights that the HTTP API calls so (protocol spec section 7.5).
    """
    consensus = chain.consensus_hash(chain.height)
    facts: list[tuple[str, object]] = [
        ("name", record.name),
        ("status", "grace" if status.phase is Phase.GRACE else "live"),
        ("owner", record.address),
        ("registered", record.first_registered),
        ("renewed", record.last_renewed),
        ("txid", hash_hex(record.txid)),
        ("value_hash", "none" if record.value_hash is None else record.value_hash.hex()),
        ("data_from", data_from),
    ]
    for word, about, block in (
        ("expire_block", "expires_about", status.expires_at),
        ("renewal_deadline", "gone_about", status.gone_at),
    ):
        facts.append((word, "never" if block is None else block))
        if block is not None:
            date = about_date(block, chain.height, chain.block_time, spacing)
            facts += [(about, date)] if date else []
    facts.append(("height", chain.height))
    facts.append(("consensus", "unknown" if consensus is None else consensus.hex()))
    return RecordSet(owner, int(Rtype.TXT), ABOUT_TTL, (_strings(facts),))


def _strings(facts: Sequence[tuple[str, object]]) -> bytes:
    """TXT rdata of one record, a fact a string; what is longer than a string can be is cut."""
    octets = (f"{key}={value}".encode("utf-8", "replace")[:MAX_STRING] for key, value in facts)
    return b"".join(bytes((len(string),)) + string for string in octets)
