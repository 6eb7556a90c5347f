"""What a running node says of itself: ``/v1/info`` of protocol spec section 7.5, and more.

Everything here is counted elsewhere; asking costs a few look-ups and may be done at any time.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from indexer.following.follower import Follower
from indexer.following.progress import Progress
from indexer.networks import Network
from indexer.table.table import NameTable
from resolver.api.desk import Desk
from resolver.api.pages import Json
from resolver.dns.chase import Freshness
from resolver.doors.tcp import TcpDoor
from resolver.doors.udp import UdpDoor
from resolver.forwarding.forwarder import Forwarder
from resolver.resolve import Resolver
from resolver.words import VERSION
from zonefiles.archive.archive import Archive
from zonefiles.dht.node import DhtNode
from zonefiles.replication.replicator import Replicator
from zonefiles.sources import DataSource


@dataclass(frozen=True)
class Counted:
    """The parts of a node that count what they do."""

    network: Network
    table: NameTable
    follower: Follower
    archive: Archive
    dht: DhtNode
    source: DataSource
    replicator: Replicator
    resolver: Resolver
    udp: Sequence[UdpDoor]
    tcp: Sequence[TcpDoor]
    forwarder: Forwarder | None
    desk: Desk | None


def figures_of(node: Counted, freshness: Freshness, addresses: Json) -> Json:
    """The figures of ``node``, ready for JSON. Heights are of blocks, times in seconds."""
    snapshot = node.table.snapshot()
    status = node.follower.status
    frozen = snapshot.consensus_frozen_at
    consensus: str | None
    if frozen is not None:
        consensus = f"frozen at {frozen}"
    else:
        digest = snapshot.consensus_hash(snapshot.height)
        consensus = digest.hex() if digest else None
    return {
        "consensus": consensus,
        "consensus_frozen_at": snapshot.consensus_frozen_at,
        "first_block": node.network.first_block,
        "indexing": not status.caught_up,
        "last_block_processed": snapshot.height,
        "last_block_seen": status.node_height,
        "server_alive": True,
        "server_version": VERSION,
        "testnet": node.network.node_chain != "main",
        "zonefile_count": node.archive.count,
        "network": node.network.name,
        "names": snapshot.name_count(),
        "index": {
            "state": status.state,
            "height": snapshot.height,
            "target": status.target,
            "caught_up": status.caught_up,
            "began_at": snapshot.began_at,
            "stopped_at": status.stopped_at,
            "silent_seconds": round(freshness.silent_for, 1),
            "progress": _progress(status.progress),
        },
        "node": {
            "height": status.node_height,
            "downloading": status.node_lacks_blocks,
            "error": status.last_error,
            "last_contact": status.last_contact,
        },
        "archive": {
            "records": node.archive.count,
            "bytes": node.archive.bytes_held,
            "max_bytes": node.archive.max_bytes,
        },
        "dht": {"peers": node.dht.peers, "port": node.dht.port},
        "dns": {
            "waiting": node.resolver.waiting,
            "outcomes": dict(node.resolver.outcomes),
            "udp": dict(sum((door.outcomes for door in node.udp), Counter())),
            "replies_kept": {
                "count": len(node.resolver.cache),
                "bytes": node.resolver.cache.bytes_held,
            },
            "tcp_connections": sum(door.connections.connections for door in node.tcp),
        },
        "forward": _forwarding(node.forwarder),
        "replication": asdict(node.replicator.stats),
        "sources": asdict(node.source.stats),
        "addresses": addresses,
        "registrar": None if node.desk is None else node.desk.figures(),
        "pid": os.getpid(),
    }


def _progress(progress: Progress | None) -> Json | None:
    """How fast the index catches up; None where it has."""
    if progress is None:
        return None
    left = progress.seconds_left
    return {
        "height": progress.height,
        "target": progress.target,
        "names": progress.names,
        "block_time": progress.block_time,
        "blocks_per_second": round(progress.blocks_per_second, 2),
        "megabytes_per_second": round(progress.megabytes_per_second, 2),
        "seconds_left": None if left is None else round(left),
    }


def _forwarding(forwarder: Forwarder | None) -> Json | None:
    """How the resolvers are that ordinary names are asked of; None where there are none."""
    if forwarder is None:
        return None
    return {
        "upstreams": forwarder.upstreams,
        "healthy": forwarder.healthy(),
        "outcomes": dict(forwarder.outcomes),
    }
