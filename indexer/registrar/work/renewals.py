"""Which names are to be renewed by themselves, and which would be but for their price.

What must stay true: a name is renewed only where its owner asked for it beforehand, at most at the
price that was allowed, never while something else is under way for it, and never twice in one half
of its life, however short that is. Pure.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

ALL = "all"
"""Among the wanted names: every name that the signer owns."""


@dataclass(frozen=True, slots=True)
class Lapsing:
    """A name of ours that ends. Heights are those from which it is in grace, and anybody's."""

    name: str
    renewed_at: int
    """When its life began anew, or at all."""
    expires_at: int
    gone_at: int
    price: int
    """Satoshis that a renewal in the next block costs, without the miner's fee."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be renewed now, soonest first, and what costs more than was allowed."""

    now: tuple[str, ...]
    too_dear: tuple[Lapsing, ...]


def names_due(
    owned: Iterable[Lapsing],
    height: int,
    *,
    wanted: Collection[str],
    within: int,
    ceiling: int,
    busy: Collection[str] = (),
) -> Due:
    """The names of ``owned`` that lapse in at most ``within`` blocks from ``height`` on, and have
    lived for half of their time: where they live for less than ``within``, it would never end.

    ``wanted``: names, or ``ALL``; ``ceiling``: satoshis; ``busy``: names with something open.
    """
    everything = ALL in wanted
    due = [
        one
        for one in owned
        if (everything or one.name in wanted)
        and one.name not in busy
        and one.expires_at - height <= min(within, (one.expires_at - one.renewed_at) // 2)
        and height < one.gone_at
    ]
    due.sort(key=lambda one: (one.gone_at, one.name))
    affordable = tuple(one.name for one in due if one.price <= ceiling)
    return Due(affordable, tuple(one for one in due if one.price > ceiling))
