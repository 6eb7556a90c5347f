"""Private keys in memory: what they own, and signing what spends it.

What must stay true: a secret is in no text that this file makes (repr, error, log); every
signature is SIGHASH_ALL with a low s, over a transaction that is not changed afterwards.
Pure but for embit, which does the elliptic curves.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO

from embit import base58, ec
from embit.hashes import hash160
from embit.script import Script
from embit.transaction import Transaction as EmbitTransaction

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

SIGHASH_ALL = 1
MAX_MULTISIG_KEYS = 15
MAX_REDEEM_SCRIPT = 520
_OP_CHECKMULTISIG = 0xAE
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
            if _read_multisig(redeem_script) is None:
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

    def script_sig_size(self, script: bytes) -> int:
        """The most bytes that the scriptSig spending ``script`` can have; CannotSign if none."""
        key = self._keys.get(script)
        if key is not None:
            return 1 + 72 + 1 + len(key.public_key)
        redeem_script = self._redeem_scripts.get(script)
        if redeem_script is None:
            raise CannotSign("there is no key for this script")
        required, _ = _read_multisig(redeem_script) or (0, ())
        return 1 + required * 73 + len(_push(redeem_script))

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
        if len(spent_scripts) != len(inputs):
            raise ValueError("one spent script is needed for each input")
        bare = [spent._replace(script_sig=b"") for spent in inputs]
        unsigned = serialize_transaction(version, bare, outputs, locktime)
        form = EmbitTransaction.read_from(BytesIO(unsigned))
        signed = [
            spent._replace(script_sig=self._script_sig(form, index, script))
            for index, (spent, script) in enumerate(zip(bare, spent_scripts, strict=True))
        ]
        return serialize_transaction(version, signed, outputs, locktime)

    def redeem_script(self, script: bytes) -> bytes | None:
        """The multisig script behind a p2sh scriptPubKey, where the ring has it."""
        return self._redeem_scripts.get(script)

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
            policy = _read_multisig(known) if script_of_redeem_script(known) == script else None
            if policy is not None:
                code, keys = known, policy[1]
        ours = [self._by_public_key[key] for key in keys if key in self._by_public_key]
        if not ours:
            return {}
        form = EmbitTransaction.read_from(BytesIO(unsigned))
        digest = form.sighash_legacy(index, Script(code))
        return {key.public_key: key.sign(digest) for key in ours}

    def _script_sig(self, form: EmbitTransaction, index: int, script: bytes) -> bytes:
        if is_p2pkh(script):
            key = self._keys.get(script)
            if key is None:
                raise CannotSign(f"input {index} spends an output of a key that is not here")
            digest = form.sighash_legacy(index, Script(script))
            return _push(key.sign(digest)) + _push(key.public_key)
        if not is_p2sh(script):
            raise CannotSign(f"input {index} spends neither p2pkh nor p2sh")
        redeem_script = self._redeem_scripts.get(script)
        policy = _read_multisig(redeem_script) if redeem_script is not None else None
        if redeem_script is None or policy is None:
            raise CannotSign(f"input {index} spends a p2sh output whose script is not here")
        required, public_keys = policy
        ours = [self._by_public_key[k] for k in public_keys if k in self._by_public_key]
        if len(ours) < required:
            raise CannotSign(
                f"input {index} needs {required} signatures; {len(ours)} of its keys are here"
            )
        digest = form.sighash_legacy(index, Script(redeem_script))
        signatures = b"".join(_push(key.sign(digest)) for key in ours[:required])
        return b"\x00" + signatures + _push(redeem_script)


def multisig_script(required: int, public_keys: Sequence[bytes]) -> bytes:
    """The redeem script of ``required`` of these keys, in this order; ValueError if none fits."""
    if not 1 <= required <= len(public_keys) <= MAX_MULTISIG_KEYS:
        raise ValueError(f"{required} of {len(public_keys)} keys is no multisig of 1 to 15 keys")
    if any(len(key) not in (33, 65) for key in public_keys):
        raise ValueError("a public key has 33 or 65 bytes")
    pushes = b"".join(bytes((len(key),)) + key for key in public_keys)
    tail = bytes((0x50 + len(public_keys), _OP_CHECKMULTISIG))
    script = bytes((0x50 + required,)) + pushes + tail
    if len(script) > MAX_REDEEM_SCRIPT:
        raise ValueError(f"a redeem script has at most 520 bytes; this one has {len(script)}")
    return script


def script_of_redeem_script(redeem_script: bytes) -> bytes:
    """The p2sh scriptPubKey that pays to a redeem script."""
    return p2sh_script(hash160(redeem_script))


def _wif_version(network: Network) -> int:
    return _MAINNET_WIF if network.p2pkh_version == 0 else _OTHER_WIF


def _push(payload: bytes) -> bytes:
    if len(payload) < 0x4C:
        return bytes((len(payload),)) + payload
    if len(payload) < 0x100:
        return bytes((0x4C, len(payload))) + payload
    return b"\x4d" + len(payload).to_bytes(2, "little") + payload


def _read_multisig(script: bytes) -> tuple[int, tuple[bytes, ...]] | None:
    if len(script) < 3 or script[-1] != _OP_CHECKMULTISIG:
        return None
    keys = []
    at = 1
    while at < len(script) - 2:
        keys.append(script[at + 1 : at + 1 + script[at]])
        at += 1 + script[at]
    required = script[0] - 0x50
    try:
        return (required, tuple(keys)) if multisig_script(required, keys) == script else None
    except ValueError:
        return None
