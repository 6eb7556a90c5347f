"""Headers of the node's chain against ours: linked to it, and as the rules of the chain ask for.

What must stay true: no block is believed for what a node says of it; what is remembered here is
one chain, whose highest header below what is asked about is in the table.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from indexer.bitcoin.headers import Header, parse_header
from indexer.bitcoin.transactions import hash_hex
from indexer.bitcoin.work import PERIOD, flaw_of_header
from indexer.following.reading import BadBlock
from indexer.networks import Network

REMEMBERED = 3 * PERIOD


class HeaderSource(Protocol):
    """What is asked of a node for the headers below the index's first block."""

    def block_hash(self, height: int) -> bytes: ...
    def headers(self, hashes: Sequence[bytes]) -> list[bytes] | None: ...
    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]: ...


class HeaderChain:
    """Our chain of headers, which others are held against. ``ours``: the header row of a height."""

    def __init__(
        self,
        node: HeaderSource,
        network: Network,
        ours: Callable[[int], bytes | None],
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._network = network
        self._ours = ours
        self._clock = clock
        self._known: dict[int, Header] = {}
        self._top = -1

    def is_followed_by(self, first: int, headers: Sequence[Header]) -> bool:
        """Whether these, from height ``first`` on, are a chain that grows from our block below.

        Raises BadBlock for a header that its chain cannot have.
        """
        parent = self._parent(first - 1)
        for height, header in enumerate(headers, start=first):
            if parent is not None and header.previous_hash != parent.hash:
                self._known.clear()  # the node may have turned round below our first block
                return False
            flaw = flaw_of_header(self._network, height, header, self._earlier, self._clock())
            known = self._network.known_blocks.get(height)
            if known is not None and hash_hex(header.hash) != known:
                flaw = f"the block there is known to be {known}"
            if flaw:
                raise BadBlock(
                    f"the header of block {height} ({hash_hex(header.hash)}) is not one of"
                    f" {self._network.name}: {flaw}; check the node, or use another one"
                )
            self._known[height] = parent = header
            self._top = height
        return True

    def _parent(self, height: int) -> Header | None:
        """Our block at ``height``, now the highest of what is remembered; None where unknown."""
        for above in range(height + 1, self._top + 1):
            self._known.pop(above, None)
        self._top = height
        raw = self._ours(height)
        if raw is not None:
            parent = parse_header(raw)
        elif self._network.retargets and 0 <= height < self._network.first_block:
            parent = self._earlier(height)
        else:
            return None
        known = self._known.get(height)
        if known is None or known.hash != parent.hash or len(self._known) > REMEMBERED:
            self._known = {height: parent}
        return parent

    def _earlier(self, height: int) -> Header:
        known = self._known.get(height)
        if known is None:
            raw = self._ours(height)
            if raw is None:
                wanted = self._node.block_hash(height)
                raws = self._node.headers([wanted])
                raw = raws[0] if raws else self._node.raw_blocks([wanted])[0][:80]
            known = self._known[height] = parse_header(raw)
        return known
