"""How the interpreter is set up for a server."""

import gc
import subprocess
import sys

from resolver.daemon.interpreter import YOUNG_OBJECTS


def test_what_is_there_at_the_start_is_never_looked_at_again():
    """In a process of its own: the settings are the whole interpreter's."""
    script = (
        "import gc, sys, resolver.dns.message\n"
        "from resolver.daemon.interpreter import settle\n"
        "settle()\n"
        "print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 100, gc.isenabled(),\n"
        "      gc.get_threshold()[0] > 5_000, sys.getswitchinterval() < 0.001)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True"] * 5


def test_rubbish_in_circles_is_still_found():
    script = (
        "import gc, weakref\n"
        "from resolver.daemon.interpreter import YOUNG_OBJECTS, settle\n"
        "settle()\n"
        "class Node: pass\n"
        "node = Node()\n"
        "node.me = node\n"
        "gone = weakref.ref(node)\n"
        "del node\n"
        "kept = [[] for _ in range(2 * YOUNG_OBJECTS)]\n"
        "print(gone() is None)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True"]
    assert gc.get_threshold()[0] < YOUNG_OBJECTS, "nothing is set in the tests' own process"
