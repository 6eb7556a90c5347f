"""What a DHT node keeps between two runs, as JSON: its id and where its neighbours were.

What must stay true: the file is replaced whole or not at all; whatever is in it, reading gives a
usable state (at worst a new id and no neighbours) and runs nothing.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from zonefiles.dht.messages import ID_BYTES, is_reachable

MAX_NEIGHBOURS = 50
_MAX_FILE = 64 * 1024

_log = logging.getLogger("blockstore.zonefiles")


@dataclass(frozen=True, slots=True)
class DhtState:
    """``node_id`` has 20 bytes; ``neighbours`` are (ip, port), nearest first."""

    node_id: bytes
    neighbours: tuple[tuple[str, int], ...] = ()


def read_state(path: Path | None) -> DhtState:
    """The state in the file; a new random id where there is none to be read."""
    fresh = DhtState(os.urandom(ID_BYTES))
    if path is None:
        return fresh
    try:
        with path.open("rb") as file:
            state = parse_state(file.read(_MAX_FILE))
    except FileNotFoundError:
        return fresh
    except OSError as error:
        _log.warning("the DHT state %s cannot be read (%s): starting anew", path, error.strerror)
        return fresh
    if state is None:
        _log.warning("the DHT state %s is damaged: starting with a new id", path)
        return fresh
    return state


def parse_state(text: bytes) -> DhtState | None:
    """The state that ``text`` says, neighbours that are no addresses left out; None if none."""
    try:
        found = json.loads(text)
        node_id = bytes.fromhex(found["id"])
        rows = found["neighbours"]
        if len(node_id) != ID_BYTES or not isinstance(rows, list):
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    neighbours: list[tuple[str, int]] = []
    for row in rows[:MAX_NEIGHBOURS]:
        if not isinstance(row, list) or len(row) != 2:
            continue
        ip, port = row
        if isinstance(ip, str) and type(port) is int and 0 < port < 65_536 and is_reachable(ip, ip):
            neighbours.append((ip, port))
    return DhtState(node_id, tuple(neighbours))


def write_state(path: Path | None, state: DhtState) -> None:
    """Replace the file; a disk that refuses is logged, for the state is only a convenience."""
    if path is None:
        return
    text = json.dumps({"id": state.node_id.hex(), "neighbours": state.neighbours}, indent=1)
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        _log.warning("the DHT state %s cannot be written (%s)", path, error.strerror)
