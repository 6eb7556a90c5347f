"""What a transaction must be before anything is known of the coins it spends.

What must stay true: codes and words of a refusal are those of Bitcoin Core (CheckTransaction,
IsStandardTx), so that a program that understands a real node understands this one.
"""

from indexer.bitcoin.spending import ScriptFailed, read_multisig, read_pushes
from indexer.bitcoin.transactions import (
    Transaction,
    is_coinbase_input,
    is_p2pkh,
    is_p2sh,
    op_return_payload,
)

RPC_DESERIALIZATION = -22
RPC_MISSING_INPUTS = -25
RPC_REJECTED = -26
RPC_ALREADY_KNOWN = -27

MAX_MONEY = 21_000_000 * 100_000_000
MAX_STANDARD_SIZE = 100_000
MIN_STANDARD_SIZE = 65
MAX_SCRIPT_SIG = 1650
MIN_RELAY_FEE = 1000
"""Satoshis for 1000 bytes."""
DUST_RELAY_FEE = 3000
MAX_DATACARRIER = 83
"""Bytes of an OP_RETURN script that nodes before version 30 pass on."""
SEQUENCE_FINAL = 0xFFFFFFFF
LOCKTIME_IS_TIME = 500_000_000


class Rejected(Exception):
    """A transaction not taken: Core's RPC error code and its words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def refuse(reason: str) -> Rejected:
    """The refusal that consensus or policy gives, with Core's word for the reason."""
    return Rejected(RPC_REJECTED, reason)


def check_transaction(transaction: Transaction) -> None:
    """The rules of consensus that need no context; raises Rejected."""
    if not transaction.outputs:
        raise refuse("bad-txns-vout-empty")
    total = 0
    for value, _ in transaction.outputs:
        if value >> 63:
            raise refuse("bad-txns-vout-negative")
        if value > MAX_MONEY:
            raise refuse("bad-txns-vout-toolarge")
        total += value
        if total > MAX_MONEY:
            raise refuse("bad-txns-txouttotal-toolarge")
    outpoints = {spent[:2] for spent in transaction.inputs}
    if len(outpoints) != len(transaction.inputs):
        raise refuse("bad-txns-inputs-duplicate")
    if is_coinbase_input(transaction.inputs[0]) and len(transaction.inputs) == 1:
        if not 2 <= len(transaction.inputs[0].script_sig) <= 100:
            raise refuse("bad-cb-length")
    elif any(map(is_coinbase_input, transaction.inputs)):
        raise refuse("bad-txns-prevout-null")


def check_standard(transaction: Transaction, size: int, max_datacarrier: int) -> None:
    """The rules of relay; ``size`` is that of the serialization in bytes. Raises Rejected."""
    if not 1 <= transaction.version <= 3:
        raise refuse("version")
    if size > MAX_STANDARD_SIZE:
        raise refuse("tx-size")
    if size < MIN_STANDARD_SIZE:
        raise refuse("tx-size-small")
    for spent in transaction.inputs:
        if len(spent.script_sig) > MAX_SCRIPT_SIG:
            raise refuse("scriptsig-size")
        try:
            read_pushes(spent.script_sig)
        except ScriptFailed:
            raise refuse("scriptsig-not-pushonly") from None
    carriers = 0
    for value, script in transaction.outputs:
        kind = script_kind(script)
        if kind == "nulldata":
            carriers += 1
            if len(script) > max_datacarrier:
                raise refuse("datacarrier")
        elif kind == "nonstandard":
            raise refuse("scriptpubkey")
        elif value < dust_threshold(script):
            raise refuse("dust")
    if carriers > 1:
        raise refuse("multi-op-return")


def is_final(transaction: Transaction, height: int, median_time: int) -> bool:
    """Whether the transaction may be in a block of this height whose parent has that median."""
    locktime = transaction.locktime
    if locktime == 0 or locktime < (height if locktime < LOCKTIME_IS_TIME else median_time):
        return True
    return all(spent.sequence == SEQUENCE_FINAL for spent in transaction.inputs)


def dust_threshold(script: bytes) -> int:
    """The least value in satoshis that an output with this script may have on the wire."""
    spending = 67 if is_witness_program(script) else 148
    return (8 + 1 + len(script) + spending) * DUST_RELAY_FEE // 1000


def is_witness_program(script: bytes) -> bool:
    """Whether the script is a version and one push of 2 to 40 bytes (BIP 141)."""
    return (
        4 <= len(script) <= 42
        and (script[0] == 0 or 0x51 <= script[0] <= 0x60)
        and script[1] == len(script) - 2
    )


def script_kind(script: bytes) -> str:
    """The node's name of the kind of a scriptPubKey."""
    if is_p2pkh(script):
        return "pubkeyhash"
    if is_p2sh(script):
        return "scripthash"
    if script[:1] == b"\x6a":
        standard = len(script) == 1 or op_return_payload(script) is not None
        if not standard:
            try:
                read_pushes(script[1:])
            except ScriptFailed:
                return "nonstandard"
        return "nulldata"
    if is_witness_program(script):
        if script[0] == 0:
            known = {22: "witness_v0_keyhash", 34: "witness_v0_scripthash"}
            return known.get(len(script), "nonstandard")
        return "witness_v1_taproot" if len(script) == 34 else "witness_unknown"
    if len(script) in (35, 67) and script[0] == len(script) - 2 and script[-1] == 0xAC:
        return "pubkey"
    multisig = read_multisig(script)
    if multisig is not None and len(multisig[1]) <= 3:
        return "multisig"
    return "nonstandard"
