"""Questions of the sandbox node's JSON-RPC about the unspent outputs of any script. No sockets.

What must stay true: each public method is a method of the RPC, with the names, fields, error
codes and words of Bitcoin Core's; nothing is changed by any of them.
"""

from embit.descriptor.checksum import add_checksum

from indexer.bitcoin.transactions import (
    hash_hex,
)
from indexer.sandbox.chain import SandboxChain
from indexer.sandbox.core_json import amount
from indexer.sandbox.envelope import (
    RPC_MISC,
    RPC_NOT_FOUND,
    RPC_PARAMETER,
    RpcError,
    hex_of,
    list_of,
    script_of,
    text_of,
)

MAX_SCANNED = 1_000
DEFAULT_MAX_FEE_RATE = "0.10"


class CoinRpc:
    """What the node answers about coins. Whoever calls holds the chain's lock."""

    def __init__(self, chain: SandboxChain) -> None:
        self._chain = chain

    def scantxoutset(self, action: object, scanobjects: object = None) -> object:
        """The unspent outputs of addr(ADDRESS) and raw(HEX) descriptors."""
        wanted = text_of(action)
        if wanted in ("status", "abort"):
            return None if wanted == "status" else False
        if wanted != "start":
            raise RpcError(RPC_PARAMETER, f"Invalid action '{wanted:.80}'")
        if scanobjects is None:
            reason = "scanobjects argument is required for the start action"
            raise RpcError(RPC_MISC, reason)
        described = list_of(scanobjects)
        if len(described) > MAX_SCANNED:
            raise RpcError(RPC_PARAMETER, f"at most {MAX_SCANNED} descriptors are scanned for")
        scripts = {_descriptor_script(each): each for each in described}
        tip = self._chain.tip
        found, total = [], 0
        for script, description in scripts.items():
            for unspent in self._chain.unspent(script):
                total += unspent.value
                found.append(
                    {
                        "txid": hash_hex(unspent.txid),
                        "vout": unspent.output_index,
                        "scriptPubKey": script.hex(),
                        "desc": add_checksum(_text(description).partition("#")[0]),
                        "amount": amount(unspent.value),
                        "coinbase": unspent.coinbase,
                        "height": unspent.height,
                        "blockhash": hash_hex(self._chain.at_height(unspent.height).hash),
                        "confirmations": tip.height - unspent.height + 1,
                    }
                )
        return {
            "success": True,
            "txouts": len(self._chain.coins),
            "height": tip.height,
            "bestblock": hash_hex(tip.hash),
            "unspents": found,
            "total_amount": amount(total),
        }


def _text(description: object) -> str:
    return text_of(description["desc"] if isinstance(description, dict) else description)


def _descriptor_script(description: object) -> bytes:
    if isinstance(description, dict) and "desc" not in description:
        raise RpcError(RPC_PARAMETER, "Descriptor needs to be provided in scan object")
    text, mark, checksum = _text(description).partition("#")
    if mark and add_checksum(text) != f"{text}#{checksum}":
        raise RpcError(RPC_NOT_FOUND, f"Provided checksum '{checksum:.20}' does not match")
    if text.startswith("addr(") and text.endswith(")"):
        return script_of(text[5:-1])
    if text.startswith("raw(") and text.endswith(")"):
        return hex_of(text[4:-1], "Raw script is not hex", RPC_NOT_FOUND)
    raise RpcError(RPC_NOT_FOUND, f"'{text:.80}' is not a descriptor that this node scans for")
