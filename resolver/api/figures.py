"""What a running node says of itself: ``/v1/info`` of protocol spec section 7.5, and more.

Everything here is counted elsewhere; asking costs a few look-ups and may be done at any time.
"""

import os
from dataclasses import asdict

from indexer.following.index import Index
from indexer.following.progress import Progress
from resolver.api.pages import Json
from resolver.api.registrar_service import RegistrarService
from resolver.doors.doors import Doors
from resolver.forwarding.forwarder import Forwarder
from resolver.resolve import Resolver
from resolver.words import VERSION
from zonefiles.holdings import Holdings


def figures_of(
    index: Index,
    holdings: Holdings,
    resolver: Resolver,
    doors: Doors,
    forwarder: Forwarder | None,
    registrar: RegistrarService | None,
    addresses: Json,
) -> Json:
    """The figures of a node, ready for JSON. Heights are of blocks, times in seconds."""
    network, status, snapshot = index.network, index.follower.status, index.snapshot()
    archive, dht = holdings.archive, holdings.dht
    frozen, offers = snapshot.consensus_frozen_at, index.node_offers
    consensus: str | None
    if frozen is not None:
        consensus = f"frozen at {frozen}"
    else:
        digest = snapshot.consensus_hash(snapshot.height)
        consensus = digest.hex() if digest else None
    return {
        "consensus": consensus,
        "consensus_frozen_at": frozen,
        "first_block": network.first_block,
        "indexing": not status.caught_up,
        "last_block_processed": snapshot.height,
        "last_block_seen": status.node_height,
        "server_alive": True,
        "server_version": VERSION,
        "testnet": network.node_chain != "main",
        "zonefile_count": archive.count,
        "network": network.name,
        "names": snapshot.name_count(),
        "index": {
            "state": status.state,
            "height": snapshot.height,
            "block_time": snapshot.block_time,
            "target": status.target,
            "caught_up": status.caught_up,
            "began_at": snapshot.began_at,
            "stopped_at": status.stopped_at,
            "silent_seconds": round(index.standing().silent_for, 1),
            "progress": _progress(status.progress),
        },
        "node": {
            "height": status.node_height,
            "downloading": status.node_lacks_blocks,
            "error": status.last_error,
            "last_contact": status.last_contact,
            "spent_outputs": None if offers is None else offers.spent_outputs,
            "faster_with": None if offers is None else offers.faster,
        },
        "archive": {
            "records": archive.count,
            "bytes": archive.bytes_held,
            "max_bytes": archive.max_bytes,
        },
        "dht": {"peers": dht.peers, "port": dht.port},
        "dns": {
            "waiting": resolver.waiting,
            "outcomes": dict(resolver.outcomes),
            "replies_kept": {
                "count": len(resolver.cache),
                "bytes": resolver.cache.bytes_held,
            },
            **doors.figures(),
        },
        "forward": _forwarding(forwarder),
        "replication": asdict(holdings.replicator.stats),
        "sources": asdict(holdings.source.stats),
        "addresses": addresses,
        "registrar": None if registrar is None else registrar.figures(),
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
