"""What a name and a namespace are, and the hashes that stand for them on the chain.

A chain name is ``str`` of the form ``label.namespace``: lower case, exactly one dot, at most 37
bytes in all. Nothing is ever folded to lower case here: on the chain an upper-case name is no name.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from embit.hashes import hash160

MAX_NAME_BYTES = 37
MAX_NAMESPACE_BYTES = 19

_LABEL = re.compile(r"[a-z0-9_-]+", re.ASCII)
_BASE40 = {char: digit for digit, char in enumerate("0123456789abcdefghijklmnopqrstuvwxyz-_.+")}


class BadName(ValueError):
    """Text that is no name; ``str()`` of it is a sentence that says why."""


def check_namespace(namespace_id: str) -> str:
    """``namespace_id`` itself if it may name a namespace (1..19 of ``a-z 0-9 - _``).

    Raises ``BadName``. Protocol spec section 1.1.
    """
    if not namespace_id:
        raise BadName("a namespace has at least one character")
    if len(namespace_id) > MAX_NAMESPACE_BYTES:
        raise BadName(
            f"the namespace {namespace_id[:40]!r} is longer than {MAX_NAMESPACE_BYTES} characters"
        )
    if not _LABEL.fullmatch(namespace_id):
        raise BadName(
            f"the namespace {namespace_id!r} may hold only a-z, 0-9, '-' and '_'"
            f"{_about_case(namespace_id)}"
        )
    return namespace_id


def parse_name(name: str) -> tuple[str, str]:
    """Split a chain name into (label, namespace). Raises ``BadName``. Protocol spec section 1.1."""
    if len(name) > MAX_NAME_BYTES:
        raise BadName(f"the name {name[:40]!r}… is longer than {MAX_NAME_BYTES} characters")
    label, dot, namespace_id = name.partition(".")
    if not dot:
        raise BadName(f"the name {name!r} has no namespace; write it as {name or 'alice'}.id")
    if "." in namespace_id:
        raise BadName(f"the name {name!r} has more than one dot; a name is LABEL.NAMESPACE")
    if not label:
        raise BadName(f"the name {name!r} has nothing before its dot")
    if not _LABEL.fullmatch(label):
        raise BadName(
            f"the name {name!r} may hold only a-z, 0-9, '-' and '_' before its dot"
            f"{_about_case(label)}"
        )
    check_namespace(namespace_id)
    return label, namespace_id


def _about_case(text: str) -> str:
    return "" if text == text.lower() else " (upper case is not allowed on the chain)"


def is_name(name: str) -> bool:
    """Whether ``name`` is a well-formed chain name."""
    try:
        parse_name(name)
    except BadName:
        return False
    return True


def base40_bytes(text: str) -> bytes:
    """``text`` read as a big-endian base-40 number, as its shortest bytes (at least one).

    Leading ``0`` characters vanish, as they did in the original. Raises ``BadName`` for a
    character outside the alphabet. Protocol spec section 1.4.
    """
    number = 0
    for char in text:
        digit = _BASE40.get(char)
        if digit is None:
            raise BadName(f"{char!r} in {text!r} is not a base-40 digit")
        number = number * 40 + digit
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def hash_name(name: str, script: bytes, address: str | None) -> bytes:
    """The salted 20-byte hash that a preorder commits to.

    ``name`` is a chain name or a namespace id, ``script`` the scriptPubKey spent by the preorder's
    first input, ``address`` the base58check address of the owner to be. Spec section 1.4.
    """
    salted: bytes = hash160(base40_bytes(name) + script + (address or "").encode("ascii"))
    return salted


def hash128(text: str) -> bytes:
    """The first 16 bytes of SHA-256 of ASCII ``text``. Protocol spec section 1.4."""
    return sha256(text.encode("ascii")).digest()[:16]


def name_consensus_hash(name: str, consensus_hash: bytes) -> bytes:
    """How an update names its name: bound to one consensus hash (spec section 1.10)."""
    return hash128(name + consensus_hash.hex())


def find_bound_name(
    wanted: bytes, names: Sequence[str], consensus_hashes: Iterable[bytes]
) -> tuple[str, bytes] | None:
    """The pair whose :func:`name_consensus_hash` is ``wanted``; None where no pair's is.

    Consensus hashes are tried in the order given. There is one pair at most, as nobody can find two
    with the same hash: pairs differ as texts too.
    """
    encoded = [name.encode("ascii") for name in names]
    for consensus_hash in consensus_hashes:
        ending = consensus_hash.hex().encode("ascii")
        for index, name in enumerate(encoded):
            if sha256(name + ending).digest()[:16] == wanted:
                return names[index], consensus_hash
    return None
