"""Private keys in memory: what they own, and signing what spends it.

What must stay true: a secret is in no text that this file makes (repr, error, log); every
signature is SIGHASH_ALL with a low s, over a transaction that is not changed afterwards.
Pure but for embit, which does the elliptic curves.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO

from embit import base58, ec
from embit.hashes import hash160
from embit.script import Script
from embit.transaction import Transaction as EmbitTransaction

from indexer.bitcoin.spending import SIGHASH_ALL, push, read_multisig
from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    is_p2pkh,
    is_p2sh,
    p2pkh_script,
    p2sh_script,
    script_address,
    serialize_transaction,
)
from indexer.networks import Network
from indexer.wallet.coins import spending_size

_MAINNET_WIF, _OTHER_WIF = 0x80, 0xEF


class BadKey(ValueError):
    """Text or bytes that are no private key; the text says why and shows nothing of it."""


class CannotSign(ValueError):
    """An input that these keys may not spend; the text names the input and the reason."""


class Key:
    """One private key and the legacy (p2pkh) script that it owns."""

    __slots__ = ("_key", "public_key")

    def __init__(self, secret: bytes, *, compressed: bool = True) -> None:
        """``secret``: 32 bytes, a number from 1 below the order of the curve; else BadKey."""
        try:
            self._key = ec.PrivateKey(bytes(secret), compressed)
        except Exception:  # noqa: BLE001 - embit's errors may quote what they were given
            raise BadKey("32 bytes that are a number below the curve's order are needed") from None
        self.public_key: bytes = bytes(self._key.get_public_key().sec())

    @classmethod
    def from_wif(cls, text: str, network: Network) -> "Key":
        """The key written in wallet import format for ``network``; BadKey with a sentence."""
        try:
            decoded = bytes(base58.decode_check(text.strip()))
        except Exception:  # noqa: BLE001 - as above
            raise BadKey("this is no private key in wallet import format") from None
        if len(decoded) not in (33, 34) or (len(decoded) == 34 and decoded[33] != 1):
            raise BadKey("this is no private key in wallet import format: its length is wrong")
        if decoded[0] != _wif_version(network):
            raise BadKey(f"this private key is of another network, not of {network.name}")
        return cls(decoded[1:33], compressed=len(decoded) == 34)

    def wif(self, network: Network) -> str:
        """The key in wallet import format: a secret, for a file that only its owner reads."""
        tail = b"\x01" if len(self.public_key) == 33 else b""
        secret = bytes(self._key.secret)
        return str(base58.encode_check(bytes((_wif_version(network),)) + secret + tail))

    @property
    def script(self) -> bytes:
        """The p2pkh scriptPubKey that pays to this key."""
        return p2pkh_script(hash160(self.public_key))

    def address(self, network: Network) -> str:
        """The p2pkh address of this key."""
        return script_address(self.script, network) or ""

    def sign(self, digest: bytes) -> bytes:
        """A DER signature (low s, deterministic) of a 32-byte digest, with SIGHASH_ALL behind."""
        return bytes(self._key.sign(digest).serialize()) + bytes((SIGHASH_ALL,))

    def __repr__(self) -> str:
        return f"Key(public_key={self.public_key.hex()})"


class KeyRing:
    """Keys, and the multisig scripts they take part in; signs whatever they may spend."""

    def __init__(self, keys: Iterable[Key] = (), redeem_scripts: Iterable[bytes] = ()) -> None:
        self._keys: dict[bytes, Key] = {key.script: key for key in keys}
        self._by_public_key = {key.public_key: key for key in self._keys.values()}
        self._redeem_scripts: dict[bytes, bytes] = {}
        for redeem_script in redeem_scripts:
            if read_multisig(redeem_script) is None:
                raise ValueError("only m-of-n multisig redeem scripts can be signed for")
            self._redeem_scripts[script_of_redeem_script(redeem_script)] = redeem_script

    @property
    def scripts(self) -> tuple[bytes, ...]:
        """The scriptPubKeys that may be spent with this ring."""
        return (*self._keys, *self._redeem_scripts)

    def __contains__(self, script: object) -> bool:
        return script in self._keys or script in self._redeem_scripts

    def __repr__(self) -> str:
        return f"KeyRing({len(self._keys)} keys, {len(self._redeem_scripts)} multisig scripts)"

    def spending_size(self, script: bytes) -> float:
        """As ``coins.spending_size``; of the ring's own scripts, what its keys make of them."""
        key = self._keys.get(script)
        key_bytes = 33 if key is None else len(key.public_key)
        return spending_size(script, self._redeem_scripts.get(script, b""), key_bytes=key_bytes)

    def redeem_script(self, script: bytes) -> bytes | None:
        """The multisig script behind a p2sh scriptPubKey, where the ring has it."""
        return self._redeem_scripts.get(script)

    def sign(
        self,
        version: int,
        inputs: Sequence[TxIn],
        outputs: Sequence[TxOut],
        locktime: int,
        spent_scripts: Sequence[bytes],
    ) -> bytes:
        """The raw transaction with every input signed.

        ``spent_scripts``: the scriptPubKey that each input spends. Raises CannotSign when
        some input is not ours to spend; ValueError when a field does not fit.
        """
        bare = [spent._replace(script_sig=b"") for spent in inputs]
        unsigned = serialize_transaction(version, bare, outputs, locktime)
        signed = []
        for index, (spent, script) in enumerate(zip(bare, spent_scripts, strict=True)):
            signatures = self.partial_signatures(unsigned, index, script)
            try:
                script_sig = script_sig_of(script, self._redeem_scripts.get(script), signatures)
            except CannotSign as flaw:
                raise CannotSign(f"input {index} {flaw}") from None
            signed.append(spent._replace(script_sig=script_sig))
        return serialize_transaction(version, signed, outputs, locktime)

    def partial_signatures(
        self, unsigned: bytes, index: int, script: bytes, redeem_script: bytes | None = None
    ) -> dict[bytes, bytes]:
        """What the ring's keys can sign of one input: public key to signature, perhaps nothing.

        ``unsigned``: the raw transaction without scriptSigs. ``redeem_script`` is believed only
        where it is the one behind ``script``.
        """
        code = script
        keys: tuple[bytes, ...] = ()
        if script in self._keys:
            keys = (self._keys[script].public_key,)
        elif is_p2sh(script):
            known = self._redeem_scripts.get(script) or redeem_script or b""
            policy = read_multisig(known) if script_of_redeem_script(known) == script else None
            if policy is not None:
                code, keys = known, policy[1]
        ours = [self._by_public_key[key] for key in keys if key in self._by_public_key]
        if not ours:
            return {}
        form = EmbitTransaction.read_from(BytesIO(unsigned))
        digest = form.sighash_legacy(index, Script(code))
        return {key.public_key: key.sign(digest) for key in ours}


def script_sig_of(
    script: bytes, redeem_script: bytes | None, signatures: Mapping[bytes, bytes]
) -> bytes:
    """The scriptSig that shows these signatures, each under its public key; CannotSign if it takes
    others, with a text that goes on from the name of the input."""
    if is_p2pkh(script):
        for public_key, signature in signatures.items():
            if hash160(public_key) == script[3:23]:
                return push(signature) + push(public_key)
        raise CannotSign("spends an output of a key that is not here")
    policy = None if redeem_script is None else read_multisig(redeem_script)
    if redeem_script is None or policy is None:
        raise CannotSign("is of no key and of no m-of-n multisig whose script is here")
    required, public_keys = policy
    present = [signatures[key] for key in public_keys if key in signatures][:required]
    if len(present) < required:
        raise CannotSign(f"has {len(present)} of {required} signatures")
    return b"\x00" + b"".join(map(push, present)) + push(redeem_script)


def script_of_redeem_script(redeem_script: bytes) -> bytes:
    """The p2sh scriptPubKey that pays to a redeem script."""
    return p2sh_script(hash160(redeem_script))


def _wif_version(network: Network) -> int:
    return _MAINNET_WIF if network.p2pkh_version == 0 else _OTHER_WIF
