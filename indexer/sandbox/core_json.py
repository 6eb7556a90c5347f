"""Blocks, transactions and scripts as the JSON that Bitcoin Core writes.

What must stay true: field names, orders of hashes and the eight decimals of amounts are
Core's; no amount passes through a float.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from embit.descriptor.checksum import add_checksum
from embit.networks import NETWORKS
from embit.script import Script

from indexer.bitcoin.headers import target_of_bits
from indexer.bitcoin.transactions import (
    Transaction,
    double_sha256,
    hash_hex,
    is_coinbase_input,
    script_address,
)
from indexer.bitcoin.witness import (
    has_witness,
    is_p2wpkh,
    stripped,
    virtual_size,
    weight,
    witnesses,
)
from indexer.networks import REGTEST
from indexer.sandbox.blocks import BlockNode, serialize
from indexer.sandbox.chain import SandboxChain
from indexer.sandbox.coins import Coin
from indexer.sandbox.policy import script_kind

Json = dict[str, Any]

# An amount travels through json.dumps as a string between two characters of the private
# use area, which no other text of a result contains, and loses its quotes afterwards.
_MARK = "\ue000"
_MARKED = re.compile(r'"\\ue000(-?\d+\.\d{8})\\ue000"')

_DIFFICULTY_1 = 0xFFFF << 208


def amount(satoshis: int) -> str:
    """An amount in bitcoin, to be written as a JSON number by ``encode``."""
    sign, satoshis = ("-", -satoshis) if satoshis < 0 else ("", satoshis)
    return f"{_MARK}{sign}{satoshis // 10**8}.{satoshis % 10**8:08d}{_MARK}"


def encode(value: object) -> bytes:
    """JSON text of a reply, amounts as numbers with eight decimals."""
    return _MARKED.sub(r"\1", json.dumps(value)).encode()


def address_of(script: bytes) -> str:
    """The address of a scriptPubKey on this network; nothing where it has none."""
    if is_p2wpkh(script):
        return str(Script(script).address(NETWORKS["regtest"]))
    return script_address(script, REGTEST) or ""


@lru_cache(maxsize=4096)
def described(public_key: bytes, kind: str = "pkh") -> str:
    """The output descriptor of a key's script, with its checksum (BIP 380); ``kind``: pkh, wpkh."""
    return str(add_checksum(f"{kind}({public_key.hex()})"))


def script_json(script: bytes) -> Json:
    """A scriptPubKey with its address where it has one."""
    shown: Json = {"hex": script.hex()}
    if address_of(script):
        shown["address"] = address_of(script)
    shown["type"] = script_kind(script)
    return shown


def transaction_json(
    transaction: Transaction,
    spent: Sequence[Coin] | None = None,
    with_prevouts: bool = False,
    raw: bytes | None = None,
) -> Json:
    """A transaction; with ``spent`` also its fee, and each prevout where that is asked for.

    ``raw``: its bytes, where it may have a witness.
    """
    raw = serialize(transaction) if raw is None else raw
    shows = witnesses(raw) if has_witness(raw) else ()
    inputs: list[Json] = []
    for place, spending in enumerate(transaction.inputs):
        shown: Json
        if is_coinbase_input(spending):
            shown = {"coinbase": spending.script_sig.hex()}
        else:
            shown = {
                "txid": hash_hex(spending.previous_txid),
                "vout": spending.previous_index,
                "scriptSig": {"hex": spending.script_sig.hex()},
            }
            if spent is not None and with_prevouts:
                coin = spent[place]
                shown["prevout"] = {
                    "generated": coin.coinbase,
                    "height": coin.height,
                    "value": amount(coin.value),
                    "scriptPubKey": script_json(coin.script),
                }
        if shows and shows[place]:
            shown["txinwitness"] = [item.hex() for item in shows[place]]
        shown["sequence"] = spending.sequence
        inputs.append(shown)
    result: Json = {
        "txid": hash_hex(transaction.txid),
        "hash": hash_hex(double_sha256(raw)),
        "version": transaction.version,
        "size": len(raw),
        "vsize": virtual_size(raw),
        "weight": weight(raw),
        "locktime": transaction.locktime,
        "vin": inputs,
        "vout": [
            {"value": amount(value), "n": index, "scriptPubKey": script_json(script)}
            for index, (value, script) in enumerate(transaction.outputs)
        ],
    }
    if spent:
        paid = sum(output.value for output in transaction.outputs)
        result["fee"] = amount(sum(coin.value for coin in spent) - paid)
    result["hex"] = raw.hex()
    return result


def bits_json(bits: int) -> Json:
    """The three ways in which a node shows how hard a block is."""
    target = target_of_bits(bits)
    return {
        "bits": f"{bits:08x}",
        "target": f"{target:064x}",
        "difficulty": _DIFFICULTY_1 / target,
    }


def header_json(chain: SandboxChain, block: BlockNode) -> Json:
    """A header with its place in the chain; confirmations are -1 off the active chain."""
    header = block.header
    active = chain.is_active(block)
    shown: Json = {
        "hash": hash_hex(block.hash),
        "confirmations": chain.height - block.height + 1 if active else -1,
        "height": block.height,
        "version": header.version,
        "versionHex": f"{header.version & 0xFFFFFFFF:08x}",
        "merkleroot": hash_hex(header.merkle_root),
        "time": header.time,
        "mediantime": block.median_time,
        "nonce": header.nonce,
        **bits_json(header.bits),
        "chainwork": f"{block.work:064x}",
        "nTx": len(block.transactions),
    }
    if block.previous is not None:
        shown["previousblockhash"] = hash_hex(block.previous.hash)
    if active and block.height < chain.height:
        shown["nextblockhash"] = hash_hex(chain.at_height(block.height + 1).hash)
    return shown


def block_json(chain: SandboxChain, block: BlockNode, verbosity: int) -> Json:
    """A block: with txids (1), transactions (2), or these with their prevouts (3)."""
    shown = header_json(chain, block)
    size, raws = len(block.raw), block.raws
    plain = size - sum(len(raw) - len(stripped(raw)) for raw in raws)
    shown.update(strippedsize=plain, size=size, weight=3 * plain + size)
    if verbosity == 1:
        shown["tx"] = [hash_hex(transaction.txid) for transaction in block.transactions]
        return shown
    shown["tx"] = [
        transaction_json(
            transaction,
            block.undo[place] if block.undo else None,
            with_prevouts=verbosity >= 3,
            raw=raws[place],
        )
        for place, transaction in enumerate(block.transactions)
    ]
    return shown
