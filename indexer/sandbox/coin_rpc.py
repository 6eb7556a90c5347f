"""Questions of the sandbox node's JSON-RPC about coins, scripts and payments not yet made.

What must stay true: each public method is a method of the RPC, with the names, fields, error
codes and words of Bitcoin Core's; nothing is changed by any of them.
"""

from embit.descriptor.checksum import add_checksum

from indexer.bitcoin.transactions import (
    CorruptTransaction,
    double_sha256,
    hash_hex,
    parse_transaction,
)
from indexer.sandbox.chain import SandboxChain
from indexer.sandbox.core_json import Json, amount, script_json
from indexer.sandbox.envelope import (
    RPC_MISC,
    RPC_NOT_FOUND,
    RPC_PARAMETER,
    RpcError,
    hex_of,
    list_of,
    outpoint_of,
    satoshis_of,
    script_of,
    text_of,
)
from indexer.sandbox.policy import RPC_DESERIALIZATION, RPC_MISSING_INPUTS, Rejected

MAX_SCANNED, MAX_TRIED = 1_000, 25
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

    def testmempoolaccept(self, rawtxs: object, maxfeerate: object = None) -> list[Json]:
        raws = list_of(rawtxs)
        if not 1 <= len(raws) <= MAX_TRIED:
            reason = f"Array must contain between 1 and {MAX_TRIED} transactions."
            raise RpcError(RPC_PARAMETER, reason)
        rate = satoshis_of(DEFAULT_MAX_FEE_RATE if maxfeerate is None else maxfeerate)
        return [self._tried(hex_of(raw), rate) for raw in raws]

    def _tried(self, raw: bytes, max_rate: int) -> Json:
        try:
            txid, wtxid = hash_hex(parse_transaction(raw).txid), hash_hex(double_sha256(raw))
        except CorruptTransaction:
            reason = "TX decode failed. Make sure the tx has at least one input."
            raise RpcError(RPC_DESERIALIZATION, reason) from None
        shown: Json = {"txid": txid, "wtxid": wtxid, "allowed": False}
        try:
            entry = self._chain.try_out(raw)
        except Rejected as refusal:
            reason = refusal.message.partition(",")[0]
            if refusal.code == RPC_MISSING_INPUTS:
                reason = "missing-inputs"
            elif refusal.code not in (-26,):
                reason = "txn-already-known"
            return shown | {"reject-reason": reason, "reject-details": refusal.message}
        size = entry.size
        if max_rate and entry.fee * 1000 > max_rate * size:
            return shown | {"reject-reason": "max-fee-exceeded"}
        fees = {
            "base": amount(entry.fee),
            "effective-feerate": amount(entry.fee * 1000 // size),
            "effective-includes": [wtxid],
        }
        return shown | {"allowed": True, "vsize": size, "fees": fees}

    def gettxspendingprevout(self, outputs: object) -> list[Json]:
        """Which waiting transaction spends each output, if any does."""
        shown = []
        for entry in list_of(outputs):
            txid, index = outpoint_of(entry)
            answer: Json = {"txid": hash_hex(txid), "vout": index}
            spender = self._chain.mempool.spender((txid, index))
            if spender is not None:
                answer["spendingtxid"] = hash_hex(spender)
            shown.append(answer)
        return shown

    def decodescript(self, hexstring: object) -> Json:
        return script_json(hex_of(hexstring, "argument must be hexadecimal string", RPC_PARAMETER))

    def validateaddress(self, address: object) -> Json:
        try:
            script = script_of(address)
        except RpcError as failure:
            if failure.code != RPC_NOT_FOUND:
                raise
            return {"isvalid": False, "error_locations": [], "error": failure.message}
        return {"isvalid": True, "address": address, "scriptPubKey": script.hex()}


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
