"""Our blocks against the node's, as steps: what to take back, then what to connect.

A reorganisation is not a mode: it is a plan that begins with ``TakeBack`` steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Undo our block at ``height``, the highest we have."""

    height: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Apply the node's block ``block_hash`` at ``height``, next to the highest we have."""

    height: int
    block_hash: bytes


Step: TypeAlias = TakeBack | Connect


class ForkTooDeep(Exception):
    """The chains part further back than blocks can be taken back."""


def last_shared(shares: Callable[[int], bool], first: int, top: int) -> int:
    """The highest of ``first``..``top`` whose block both chains have; below ``first``: none.

    ``shares`` tells of one height; a chain shares all that lies below what it shares.
    """
    low, high = first - 1, top
    while low < high:
        middle = (low + high + 1) // 2
        if shares(middle):
            low = middle
        else:
            high = middle - 1
    return low


def plan(
    ours: Mapping[int, bytes], theirs: Mapping[int, bytes], first_block: int, undo_blocks: int
) -> list[Step]:
    """The steps from our chain to theirs.

    ``ours`` maps heights to block hashes down from our tip (empty: nothing indexed yet); ``theirs``
    the node's, over the same heights and up to the block to reach. A chain of the node that is a
    part of ours needs no step: the node is behind, and nothing it has contradicts us. Raises
    ``ForkTooDeep`` where the two share none of the given heights, or blocks would have to be taken
    back whose undo is gone.
    """
    if not theirs:
        return []
    target = max(theirs)
    if not ours:
        return [Connect(height, theirs[height]) for height in range(first_block, target + 1)]
    tip, low = max(ours), min(ours)
    fork = next(
        (
            height
            for height in range(min(tip, target), low - 1, -1)
            if ours[height] == theirs[height]
        ),
        None,
    )
    if fork is None:
        if low > first_block or tip - first_block + 1 > undo_blocks:
            raise ForkTooDeep
        fork = first_block - 1
    if fork == target:
        return []
    if tip - fork > undo_blocks:
        raise ForkTooDeep
    back: list[Step] = [TakeBack(height) for height in range(tip, fork, -1)]
    return back + [Connect(height, theirs[height]) for height in range(fork + 1, target + 1)]
