"""The transaction around an operation: which payload decides, and who sent it.

Protocol spec section 1.2. Nothing here knows what payloads say.
"""

from collections.abc import Sequence
from typing import Any

from embit.hashes import hash160

from indexer.bitcoin.transactions import Transaction, is_p2pkh, is_p2sh, op_return_payload
from indexer.protocol.flaws import Flaw, require

COINBASE_TXID = bytes(32)


def payload_of(transaction: Transaction, magic: bytes) -> tuple[bytes, bool] | None:
    """Our payload, and whether it stands in the last OP_RETURN output, which decides."""
    found: tuple[bytes, bool] | None = None
    for output in transaction.outputs:
        if output.script[:1] != b"\x6a":
            continue
        pushed = op_return_payload(output.script)
        if pushed is not None and pushed.startswith(magic) and len(pushed) >= 3:
            found = pushed, True
        elif found is not None:
            found = found[0], False
    return found


def sent_by(
    transaction: Transaction, vtxindex: int, spent_scripts: Sequence[bytes]
) -> dict[str, Any]:
    """The fields of ``Sent`` of what ``transaction`` carries. Raises ``Refused``."""
    inputs = transaction.inputs
    mined = not inputs or any(i.previous_txid == COINBASE_TXID for i in inputs)
    require(not mined, Flaw.COINBASE)
    require(len(spent_scripts) == len(inputs), Flaw.SCRIPTS_UNKNOWN)
    signed = all(is_p2pkh(script) or is_p2sh(script) for script in spent_scripts)
    require(signed, Flaw.SPENDS_OTHER_SCRIPTS)
    principal = spent_scripts[0]
    return {
        "sender": principal,
        "sender_pubkey": _public_key(transaction, principal),
        "txid": transaction.txid,
        "vtxindex": vtxindex,
    }


def _public_key(transaction: Transaction, principal: bytes) -> bytes | None:
    """The key that the principal's p2pkh script commits to, as pushed (spec 1.2, item 5)."""
    if not is_p2pkh(principal):
        return None
    for spending in transaction.inputs:
        pushed = _pushes(spending.script_sig)
        if pushed is None or len(pushed) != 2:
            continue
        key: bytes = pushed[1]
        well_formed = (len(key) == 33 and key[0] in (2, 3)) or (len(key) == 65 and key[0] == 4)
        if well_formed and hash160(key) == principal[3:23]:
            return key
    return None


def _pushes(script: bytes) -> list[bytes] | None:
    """What a script of nothing but pushes with their own bytes pushes; None for any other."""
    found: list[bytes] = []
    at = 0
    while at < len(script):
        opcode = script[at]
        at += 1
        if 1 <= opcode <= 75:
            size = opcode
        elif 76 <= opcode <= 78:  # OP_PUSHDATA1, 2, 4
            width = 1 << (opcode - 76)
            size = int.from_bytes(script[at : at + width], "little")
            at += width
        else:
            return None
        if at + size > len(script):
            return None
        found.append(script[at : at + size])
        at += size
    return found
