"""scriptPubKeys: the payload of an OP_RETURN, and scripts to addresses and back.

What must stay true: any bytes give an answer, None or a ValueError with a sentence; an
address of another network is never taken for one of ours.
"""

from functools import lru_cache

from embit import base58, bech32

from indexer.networks import Network

SEGWIT_PREFIXES = ("bc", "tb", "bcrt")
"""What addresses of segregated witness begin with, on some network."""
_OP_RETURN = 0x6A
_OP_PUSHDATA1, _OP_PUSHDATA4 = 0x4C, 0x4E


def op_return_payload(script: bytes) -> bytes | None:
    """The data of ``OP_RETURN <one push>`` (1..75 bytes directly, or PUSHDATA1/2/4), else None."""
    if len(script) < 2 or script[0] != _OP_RETURN:
        return None
    push = script[1]
    if push < _OP_PUSHDATA1:
        at, size = 2, push
        if not push:
            return None  # OP_0 pushes nothing and is a small integer to every parser
    elif push <= _OP_PUSHDATA4:
        at = 2 + (1 << (push - _OP_PUSHDATA1))
        if len(script) < at:
            return None
        size = int.from_bytes(script[2:at], "little")
    else:
        return None
    return script[at:] if len(script) == at + size else None


def is_p2pkh(script: bytes) -> bool:
    """Whether ``script`` pays to the hash of a public key."""
    return len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac"


def is_p2sh(script: bytes) -> bool:
    """Whether ``script`` pays to the hash of a script (BIP 16)."""
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87


def p2pkh_script(digest: bytes) -> bytes:
    """The scriptPubKey that pays to a 20-byte public key hash."""
    return b"\x76\xa9\x14" + digest + b"\x88\xac"


def p2sh_script(digest: bytes) -> bytes:
    """The scriptPubKey that pays to a 20-byte script hash."""
    return b"\xa9\x14" + digest + b"\x87"


def script_address(script: bytes, network: Network) -> str | None:
    """The base58check address of a p2pkh or p2sh script; None for every other script."""
    if is_p2pkh(script):
        return _base58check(bytes((network.p2pkh_version,)) + script[3:23])
    if is_p2sh(script):
        return _base58check(bytes((network.p2sh_version,)) + script[2:22])
    return None


@lru_cache(maxsize=16_384)  # the same few owners act again and again
def _base58check(versioned: bytes) -> str:
    return str(base58.encode_check(versioned))


def address_script(address: str, network: Network) -> bytes:
    """The scriptPubKey of a p2pkh or p2sh address; ValueError with a sentence for people."""
    if not 25 <= len(address) <= 36 or not address.isascii():
        raise ValueError(f"{address!r:.80} is no address of the kind that can own names")
    try:
        decoded = bytes(base58.decode_check(address))
    except Exception:  # noqa: BLE001 - embit raises its own error, KeyError or OverflowError
        raise ValueError(f"{address!r} is no address: its checksum is wrong") from None
    if len(decoded) != 21:
        raise ValueError(f"{address!r} is no address: it has the wrong length")
    if decoded[0] == network.p2pkh_version:
        return p2pkh_script(decoded[1:])
    if decoded[0] == network.p2sh_version:
        return p2sh_script(decoded[1:])
    raise ValueError(f"{address} is an address of another network, not of {network.name}")


def payment_script(address: str, network: Network) -> bytes:
    """The scriptPubKey of an address of any kind, those of segregated witness among them (BIP 173,
    BIP 350); ValueError with a sentence for people."""
    prefix, mark, _ = address.lower().rpartition("1")
    if not mark or prefix not in SEGWIT_PREFIXES:
        return address_script(address, network)
    if prefix != network.segwit_prefix:
        raise ValueError(f"{address:.100} is an address of another network, not of {network.name}")
    version, program = bech32.decode(prefix, address)
    if version not in (0, 1) or (version == 1 and len(program) != 32):
        raise ValueError(f"{address!r:.100} is no address: its checksum or its length is wrong")
    return bytes((0x51 if version else 0, len(program), *program))


def payment_address(script: bytes, network: Network) -> str | None:
    """The address that ``payment_script`` reads as ``script``; None where it has none."""
    if script[:2] in (b"\x00\x14", b"\x00\x20", b"\x51\x20") and len(script) == 2 + script[1]:
        return str(bech32.encode(network.segwit_prefix, min(script[0], 1), list(script[2:])))
    return script_address(script, network)
