"""The interpreter set up for a server: short pauses, short turns of its threads, no memory on disk.

What must stay true: ``settle`` is called once, when the service is up; nothing it sets changes
what the program does, only when.
"""

import gc
import sys
from contextlib import suppress

YOUNG_OBJECTS = 10_000
"""New containers that draw a look for rubbish among the young; Python's own 700 take a fifth of the
time of a reply made anew."""
YOUNG_ROUNDS = 20
MIDDLE_ROUNDS = 50

SWITCH_SECONDS = 0.0005
"""How long a thread that computes may go on while another waits. The doors give up the interpreter
with each call of the kernel, and while a block is indexed they then wait so long for it."""


def settle() -> None:
    """Take what is there now as there to stay, and look for rubbish more seldom.

    A full collection looks at every object; modules and databases are 100,000 of them, of which
    none ever becomes rubbish.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_ROUNDS, MIDDLE_ROUNDS)
    sys.setswitchinterval(SWITCH_SECONDS)


def keep_memory() -> None:
    """Leave no picture of our memory on the disk when we crash: it may hold keys (core(5))."""
    try:
        import resource
    except ImportError:  # Windows makes none by itself
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
