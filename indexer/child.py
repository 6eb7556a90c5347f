"""How a process of ours is started: our own interpreter, which runs nothing that it merely finds.

What must stay true: neither the folder where a command was given nor a variable PYTHON... decides
which modules such a process runs; our own come after the standard library.
"""

import os
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parent.parent)


def command(module: str, function: str, *arguments: str) -> list[str]:
    """What runs ``function`` of ``module`` with these in ``sys.argv[1:]``, in isolated mode."""
    program = (
        f"import sys; sys.path[:] = {module_folders()!r}; import {module};"
        f" sys.exit({module}.{function}())"
    )
    return [sys.executable, "-I", "-c", program, *arguments]


def module_folders() -> list[str]:
    """Where modules are looked for: as here, but not where the command was given."""
    here = os.path.realpath(os.getcwd())
    found = [
        folder
        for folder in sys.path
        if os.path.isabs(folder) and os.path.realpath(folder) not in (here, _ROOT)
    ]
    return [*found, _ROOT]
