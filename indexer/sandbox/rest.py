"""The part of Bitcoin Core's REST interface that an index needs: blocks, and what they spend.

What must stay true: paths, formats, HTTP statuses and words are those of Bitcoin Core 30
(doc/REST-interface.md); nobody is asked for credentials here, as there.
"""

import json

from indexer.bitcoin.transactions import compact_size, hash_bytes
from indexer.sandbox.blocks import BlockNode
from indexer.sandbox.chain import SandboxChain
from indexer.sandbox.core_json import amount, block_json, encode, script_json
from indexer.sandbox.switches import Switches

REST_PREFIX = "/rest/"
SPENT_SINCE = 300000

Reply = tuple[int, str, bytes]
"""HTTP status, content type, body."""


def reply_to_path(chain: SandboxChain, switches: Switches, path: str) -> Reply:
    """The reply to GET ``path``, which begins with ``/rest/``. Whoever calls holds the lock."""
    kind, _, rest = path[len(REST_PREFIX) :].partition("/")
    name, _, form = rest.partition("?")[0].rpartition(".")
    if kind == "block":
        return _block(chain, switches, name, form)
    if kind == "spenttxouts" and switches.version >= SPENT_SINCE:
        return _spent_outputs(chain, switches, name, form)
    return 404, "text/html", b""


def _block(chain: SandboxChain, switches: Switches, name: str, form: str) -> Reply:
    block = _find(chain, switches, name)
    if not isinstance(block, BlockNode):
        return block
    if form == "json":
        return 200, "application/json", encode(block_json(chain, block, 3)) + b"\n"
    return _in_bytes(block.raw, form)


def _spent_outputs(chain: SandboxChain, switches: Switches, name: str, form: str) -> Reply:
    """A list for each transaction of the block, the coinbase's empty: what its inputs spend."""
    block = _find(chain, switches, name)
    if not isinstance(block, BlockNode):
        return block
    if block.height and not block.undo:
        return _refusal(404, f"{name} undo not available")
    spent = block.undo or [[]]
    if form == "json":
        shown = [
            [{"value": amount(coin.value), "scriptPubKey": script_json(coin.script)} for coin in of]
            for of in spent
        ]
        return 200, "application/json", encode(shown) + b"\n"
    parts = [compact_size(len(spent))]
    for coins in spent:
        parts.append(compact_size(len(coins)))
        for coin in coins:
            parts.append(coin.value.to_bytes(8, "little") + compact_size(len(coin.script)))
            parts.append(coin.script)
    return _in_bytes(b"".join(parts), form)


def _in_bytes(raw: bytes, form: str) -> Reply:
    if form == "bin":
        return 200, "application/octet-stream", raw
    if form == "hex":
        return 200, "text/plain", raw.hex().encode() + b"\n"
    return _refusal(404, "output format not found (available: .bin, .hex, .json)")


def _find(chain: SandboxChain, switches: Switches, name: str) -> BlockNode | Reply:
    try:
        wanted = hash_bytes(name)
    except ValueError:
        return _refusal(400, f"Invalid hash: {json.dumps(name)[1:-1][:200]}")
    block = chain.block(wanted)
    if block is None:
        return _refusal(404, f"{name} not found")
    if switches.prune_height is not None and block.height < switches.prune_height:
        return _refusal(404, f"{name} not available (pruned data)")
    return block


def _refusal(status: int, words: str) -> Reply:
    return status, "text/plain", words.encode() + b"\r\n"
