"""What all rooms say alike: the version, names of files, the layout of help, status lines.

Pure, and quick to import, so that a command which only asks starts at once.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from indexer.following.progress import Progress

VERSION = "0.2.0"
PID_NAME = "blockstored.pid"
STATUS_NAME = "blockstored.json"
"""Both lie in the working directory while a daemon runs."""
TOKEN_NAME = "api-token"  # noqa: S105 - a file's name
"""In the working directory, with `api_pay_over_tcp`: who can read it may have names registered."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Of every command: how help is asked for, and how wide it may be."""


def printable(text: str, at_most: int | None = None, *, keeps: str = "") -> str:
    """``text`` as a part of one line, without what a terminal would obey but for those signs that
    it ``keeps``, in ``at_most`` signs."""
    shown = "".join(sign if sign.isprintable() or sign in keeps else "?" for sign in text)
    if at_most is None or len(shown) <= at_most:
        return shown
    return shown[: at_most - 3] + "..."


def unwritable(error: OSError, working_dir: Path, log_file: Path) -> str:
    """Why the working folder or the log cannot be written, and which setting chooses another."""
    place = Path(error.filename or working_dir)
    of_log = log_file.is_relative_to(place)
    flag = "--log-file" if of_log and not working_dir.is_relative_to(place) else ""
    another = f"choose another with {flag or '--working-dir'}"
    if isinstance(error, FileExistsError):
        return f"{place} is not a folder; {another}"
    if isinstance(error, NotADirectoryError):
        return f"{place} cannot be made, for what it would be in is a file; {another}"
    if isinstance(error, IsADirectoryError):
        return f"{place} is a folder and no file; {another}"
    return f"cannot write in {place} ({error.strerror}); mend its permissions or {another}"


def status_lines(pid: int, info: Mapping[str, Any]) -> list[str]:
    """How a running daemon is, for people; ``info`` is what ``/v1/info`` gives."""
    index, node, addresses = info["index"], info["node"], info["addresses"]
    goal = "" if index["target"] is None else f" of {max(0, index['target'])}"
    block = index["height"]
    reached = "no block yet," if block < info["first_block"] else f"block {block}{goal};"
    lines = [
        f"blockstored {info['server_version']} runs as pid {pid} on {info['network']}.",
        f"Index:   {index['state']}, {reached} {info['names']} names;"
        f" consensus {info['consensus'] or 'none yet'}.",
    ]
    with contextlib.suppress(TypeError):  # there is none, or it is that of another release
        lines.append(f"         {Progress(**index['progress'])}")
    if node["error"]:
        lines.append(f"Node:    {node['error']}")
    else:
        lines.append(f"Node:    at block {node['height']}.")
        if node.get("spent_outputs"):
            lines.append(f"         What blocks spend is read from {node['spent_outputs']}.")
        if node.get("faster_with"):
            lines.append(f"         That goes faster with {node['faster_with']}.")
    peers = info["dht"]["peers"]
    lines.append(
        f"Data:    {info['archive']['records']} records, {info['archive']['bytes']} bytes;"
        f" {peers} peer{'' if peers == 1 else 's'}."
    )
    places = ", ".join(f"{door['host']} port {door['port']}" for door in addresses["dns"])
    lines.append(f"DNS:     {places}.")
    lines.append(f"API:     {addresses['api']['host']} port {addresses['api']['port']}.")
    return lines
