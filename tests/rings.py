"""The three rings of tests, and how often each repeats what can be repeated.

*Fast* is what one runs while working: every claim, few repetitions. *Live* is what runs before a
change lands: other programs and whole daemons, sampled. *Long* (``python -m tests.long``) repeats
everything in full. ``BLOCKSTORE_RING`` says which one a run belongs to; without it, it is fast.
"""

import os

RINGS = ("fast", "live", "long")
RING = os.environ.get("BLOCKSTORE_RING", "fast")
if RING not in RINGS:
    raise SystemExit(f"BLOCKSTORE_RING is {RING!r}; it can be {', '.join(RINGS)}")


def times(fast: int, live: int, long: int) -> int:
    """How often something is repeated in this ring."""
    return (fast, live, long)[RINGS.index(RING)]


def sampled(examples: int) -> int:
    """How many of a property's examples are drawn: a quarter in the fast ring, at least ten."""
    return times(min(examples, max(10, examples // 4)), examples, 4 * examples)
