"""How a running daemon is, in a few lines for people: what two commands print.

Pure: the figures come as ``/v1/info`` gives them.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

from indexer.following.progress import Progress


def status_lines(pid: int, info: Mapping[str, Any]) -> list[str]:
    """The status for people."""
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
    peers = info["dht"]["peers"]
    lines.append(
        f"Data:    {info['archive']['records']} records, {info['archive']['bytes']} bytes;"
        f" {peers} peer{'' if peers == 1 else 's'}."
    )
    places = ", ".join(f"{door['host']} port {door['port']}" for door in addresses["dns"])
    lines.append(f"DNS:     {places}.")
    lines.append(f"API:     {addresses['api']['host']} port {addresses['api']['port']}.")
    return lines
