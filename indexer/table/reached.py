"""How far a table has come, in a file beside its database, which does not depend on it.

What must stay true: the file never says more than what was on the disk when it was written, so a
table that ends below it has lost blocks. Where there is no such file nothing is claimed.
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

NAME = "reached"
"""Of the file, in the folder of the database, which leaves alone what is not its own: a checksum
of the rest (CRC-32, decimal), a space, JSON."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The chain of an index and its last block that is known to have been on the disk."""

    network: str
    first_block: int
    height: int


def read_reached(folder: Path) -> Reached | None:
    """What the file in ``folder`` says; None where there is none, or it is damaged."""
    try:
        checksum, text = (folder / NAME).read_bytes().split(b" ", 1)
        said = json.loads(text) if int(checksum) == crc32(text) else None
        return None if said is None else Reached(**said)
    except (OSError, ValueError, TypeError):
        return None


def write_reached(folder: Path, reached: Reached) -> None:
    """Put it there, whole or not at all: where it cannot be written nothing is claimed."""
    new, text = folder / f"{NAME}.new", json.dumps(asdict(reached)).encode("ascii")
    try:
        new.write_bytes(b"%d %b" % (crc32(text), text))
        new.replace(folder / NAME)
    except OSError:
        with contextlib.suppress(OSError):
            (folder / NAME).unlink()
