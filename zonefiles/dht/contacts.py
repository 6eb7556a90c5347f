"""The nodes we know: the routing table of the kademlia package, bounded and without side effects.

What must stay true: a contact costs no packet and no task; no stranger, whatever ids he makes
up, grows it beyond 160 buckets of 20 nodes and 20 in reserve; no network segment fills a bucket.
"""

import heapq
import ipaddress
from itertools import chain

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from zonefiles.dht.messages import Contact, K

PER_SEGMENT = 2
"""Nodes of one /24 in one bucket; loopback and private networks are not counted."""


class Contacts(RoutingTable):
    """Contacts by their distance to ``own_id``, each known by its id; the eldest are kept."""

    def __init__(self, own_id: bytes) -> None:
        super().__init__(None, K, Node(own_id))

    def flush(self) -> None:
        self.buckets = [KBucket(0, 2**160 - 1, self.ksize, replacementNodeFactor=1)]

    def split_bucket(self, index: int) -> None:
        whole = self.buckets[index]
        low, high = whole.range
        middle = (low + high) // 2
        halves = [
            KBucket(low, middle, self.ksize, replacementNodeFactor=1),
            KBucket(middle + 1, high, self.ksize, replacementNodeFactor=1),
        ]
        for node in chain(whole.nodes.values(), whole.replacement_nodes.values()):
            halves[node.long_id > middle].add_node(node)
        self.buckets[index : index + 1] = halves

    def get_bucket_for(self, node: Node) -> int:
        # The package compares with "<": an id on the border of two buckets would be in both.
        for index, bucket in enumerate(self.buckets):
            if node.long_id <= bucket.range[1]:
                return index
        raise ValueError("an id has 20 bytes")

    def add_contact(self, node: Node) -> None:
        """Add a node that is not there; split only around our own id; ping nobody."""
        while True:
            index = self.get_bucket_for(node)
            bucket = self.buckets[index]
            if node.id in bucket.nodes or self._is_crowded(bucket, node):
                return
            if bucket.add_node(node):
                return
            if not bucket.has_in_range(self.node) or bucket.range[0] == bucket.range[1]:
                return
            self.split_bucket(index)

    def add(self, contact: Contact) -> None:
        """Add ``contact`` unless its id, which may be ours, is already there."""
        if contact.id != self.node.id:
            self.add_contact(Node(*contact))

    def remove(self, contact: Contact) -> None:
        """Forget ``contact``, if it is the one known by that id; a reserve takes its place."""
        node = Node(*contact)
        known = self.buckets[self.get_bucket_for(node)].nodes.get(contact.id)
        if known is None or known.same_home_as(node):
            self.remove_contact(node)

    def nearest(self, target: bytes, count: int = K, *, without: bytes = b"") -> list[Contact]:
        """The ``count`` contacts nearest to ``target``, nearest first."""
        goal = Node(target)
        found = heapq.nsmallest(
            count,
            (n for b in self.buckets for n in b.nodes.values() if n.id != without),
            key=goal.distance_to,
        )
        return [Contact(n.id, n.ip, n.port) for n in found]

    def find_neighbors(self, node: Node, k: int | None = None, exclude: Node | None = None):
        without = b"" if exclude is None else exclude.id
        return [Node(*c) for c in self.nearest(node.id, k or self.ksize, without=without)]

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    def _is_crowded(self, bucket: KBucket, node: Node) -> bool:
        address = ipaddress.IPv4Address(node.ip)
        if address.is_private:
            return False
        segment = node.ip.rpartition(".")[0] + "."
        others = chain(bucket.nodes.values(), bucket.replacement_nodes.values())
        return sum(other.ip.startswith(segment) for other in others) >= PER_SEGMENT
