"""What a running node says of itself: ``/v1/info`` of protocol spec section 7.5, and more.

Everything here is counted elsewhere; asking costs a few look-ups and may be done at any time.
"""

import os
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from resolver.api.pages import Json
from resolver.settings.settings import VERSION

if TYPE_CHECKING:
    from indexer.following.progress import Progress
    from resolver.forwarding.forwarder import Forwarder
    from resolver.service import Service


def of(service: "Service") -> Json:
    """The figures of ``service``, ready for JSON. Heights are of blocks, times in seconds."""
    snapshot = service.table.snapshot()
    status = service.follower.status
    frozen = snapshot.consensus_frozen_at
    consensus: str | None
    if frozen is not None:
        consensus = f"frozen at {frozen}"
    else:
        digest = snapshot.consensus_hash(snapshot.height)
        consensus = digest.hex() if digest else None
    freshness = service.freshness()
    return {
        "consensus": consensus,
        "consensus_frozen_at": snapshot.consensus_frozen_at,
        "first_block": service.network.first_block,
        "indexing": not status.caught_up,
        "last_block_processed": snapshot.height,
        "last_block_seen": status.node_height,
        "server_alive": True,
        "server_version": VERSION,
        "testnet": service.network.node_chain != "main",
        "zonefile_count": service.archive.count,
        "network": service.network.name,
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
            "error": status.last_error,
            "last_contact": status.last_contact,
        },
        "archive": {
            "records": service.archive.count,
            "bytes": service.archive.bytes_held,
            "max_bytes": service.settings.archive_max_bytes,
        },
        "dht": {"peers": service.dht.peers, "port": service.dht.port},
        "dns": {
            "waiting": service.resolver.waiting,
            "outcomes": dict(service.resolver.outcomes),
            "udp": dict(sum((door.outcomes for door in service.udp_doors), Counter())),
            "replies_kept": {
                "count": len(service.resolver.cache),
                "bytes": service.resolver.cache.bytes_held,
            },
            "tcp_connections": sum(door.connections.connections for door in service.tcp_doors),
        },
        "forward": _forwarding(service.forwarder),
        "replication": asdict(service.replicator.stats),
        "sources": asdict(service.source.stats),
        "addresses": service.addresses(),
        "registrar": None if service.desk is None else service.desk.figures(),
        "pid": os.getpid(),
    }


def _progress(progress: "Progress | None") -> Json | None:
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


def _forwarding(forwarder: "Forwarder | None") -> Json | None:
    """How the resolvers are that ordinary names are asked of; None where there are none."""
    if forwarder is None:
        return None
    return {
        "upstreams": forwarder.upstreams,
        "healthy": forwarder.healthy(),
        "outcomes": dict(forwarder.outcomes),
    }
