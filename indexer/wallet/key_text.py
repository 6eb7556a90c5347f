"""The text of a key file: private keys and the multisig scripts they take part in.

What must stay true: no error shows a part of a line, for it may be a part of a key; the text is
bounded. Pure.
"""

from collections.abc import Iterable

from indexer.networks import Network
from indexer.wallet.keys import BadKey, Key, KeyRing, multisig_script

MAX_KEYS = 1_000
MAX_KEY_TEXT = 256_000
_MULTISIG, _REDEEM = "multisig", "redeem"


class BadKeyText(ValueError):
    """Text that is no key file of this network; ``str()`` names the line and shows none of it."""


def read_key_text(text: str, network: Network) -> KeyRing:
    """The keys and scripts of a key file.

    One a line: a private key in wallet import format; ``multisig M KEY KEY ...`` (public keys in
    hex, in the order of the script); or ``redeem HEX``, the same script as it is. What follows a
    ``#`` is a comment. Raises BadKeyText.
    """
    if len(text) > MAX_KEY_TEXT:
        raise BadKeyText("this key file is too large")
    keys: dict[bytes, Key] = {}
    scripts: list[bytes] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(keys) + len(scripts) >= MAX_KEYS:
            raise BadKeyText(f"this key file has more than {MAX_KEYS} lines with keys")
        try:
            if words[0].lower() in (_MULTISIG, _REDEEM):
                script = _script(words)
                KeyRing((), [script])  # that it is one which can be signed for
                scripts.append(script)
            elif len(words) == 1:
                key = Key.from_wif(words[0], network)
                keys[key.script] = key
            else:
                raise BadKeyText("one key a line is wanted, and what else it says after a #")
        except BadKey as flaw:
            raise BadKeyText(f"line {number} of the key file: {flaw}") from None
        except ValueError as flaw:
            reason = str(flaw) if isinstance(flaw, BadKeyText) else "no multisig of public keys"
            raise BadKeyText(f"line {number} of the key file: {reason}") from None
    if not keys:
        raise BadKeyText("there is no private key in the key file")
    return KeyRing(keys.values(), scripts)


def write_key_text(
    keys: Iterable[Key], network: Network, redeem_scripts: Iterable[bytes] = ()
) -> str:
    """The text that ``read_key_text`` reads. It is a secret."""
    lines = [
        f"# Private keys of {network.name}. Whoever reads this owns what they own.",
        *(f"{key.wif(network)}  # {key.address(network)}" for key in keys),
        *(f"{_REDEEM} {script.hex()}" for script in redeem_scripts),
    ]
    return "\n".join(lines) + "\n"


def _script(words: list[str]) -> bytes:
    if words[0].lower() == _REDEEM:
        if len(words) != 2:
            raise BadKeyText("redeem takes one script in hex")
        return bytes.fromhex(words[1])
    return multisig_script(
        int(words[1] if len(words) > 1 else ""), [*map(bytes.fromhex, words[2:])]
    )
