"""Key files: their text, private ones on disk only, and encrypted ones if their owner likes.

What must stay true: no error shows a part of a line, for it may be a part of a key; a file that
others may read, that is a link, or that belongs to somebody else is refused before it is read; a
written one is never readable by others, not for a moment, and none is ever overwritten. A
passphrase comes from a prompt or a private file: it is in no argument, environment, log, error or
repr.

An encrypted file is one line, ``blockstore-keys 1 scrypt N R P SALT`` (N a power of two, salt in
hex), and base64 of a 12-byte nonce and what ChaCha20-Poly1305 (RFC 8439) made of the text, with
that line as associated data and a key of scrypt (RFC 7914).
"""

import base64
import binascii
import contextlib
import getpass
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from indexer.bitcoin.spending import multisig_script
from indexer.networks import Network
from indexer.wallet.keys import BadKey, Key, KeyRing
from indexer.wallet.signers import SignerError

MAX_KEYS = 1_000
MAX_KEY_TEXT = 256_000
MAX_FILE_BYTES = 2 * MAX_KEY_TEXT
MAX_PASSPHRASE = 1_000
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 17, 8, 1
"""128 MiB and half a second for each try at a passphrase."""
_MOST_N, _MOST_R, _MOST_P = 1 << 20, 16, 4
_MOST_MEMORY = 1 << 28
"""Bytes that a file may make us take for a try: 128 N R (RFC 7914 section 2)."""
_MULTISIG, _REDEEM = "multisig", "redeem"
_MARK = "blockstore-keys"
_SALT_BYTES, _NONCE_BYTES, _KEY_BYTES = 16, 12, 32


class BadKeyText(ValueError):
    """Text that is no key file of this network; ``str()`` names the line and shows none of it."""


class KeyFileError(SignerError):
    """The key file cannot be used or written; ``str()`` says why and what to do."""


class PassphraseWanted(KeyFileError):
    """The key file is encrypted, and no passphrase was given."""


class WrongPassphrase(KeyFileError):
    """The passphrase does not open the key file, or somebody changed the file."""


def load_keys(path: Path, network: Network, passphrase: str | None = None) -> KeyRing:
    """The keys in a file; ``passphrase`` for an encrypted one. Raises KeyFileError."""
    try:
        text = read_private(path).decode("utf-8")
        if text.startswith(_MARK):
            text = _decrypted(text, passphrase, path)
        return read_key_text(text, network)
    except KeyFileError:
        raise
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is no key file: it is no text") from None
    except ValueError as flaw:
        raise KeyFileError(f"{path}: {flaw}") from None


def is_encrypted(path: Path) -> bool:
    """Whether a key file needs a passphrase. Raises KeyFileError."""
    return read_private(path).startswith(_MARK.encode())


def make_keys(
    path: Path, network: Network, count: int, passphrase: str | None = None, *, n: int = SCRYPT_N
) -> KeyRing:
    """A new key file with ``count`` keys; KeyFileError where something stands at ``path``."""
    keys = [Key(secrets.token_bytes(32)) for _ in range(count)]
    write_keys(path, write_key_text(keys, network), network, passphrase, n=n)
    return KeyRing(keys)


def write_keys(
    path: Path, text: str, network: Network, passphrase: str | None = None, *, n: int = SCRYPT_N
) -> None:
    """Write the text of a key file, encrypted where a passphrase is given; also see above."""
    try:
        read_key_text(text, network)
    except ValueError as flaw:
        raise KeyFileError(f"this is not written: {flaw}") from None
    content = text if passphrase is None else _encrypted(text, passphrase, n)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeyFileError(f"{path} is there already; it is left as it is") from None
    except OSError as failure:
        raise KeyFileError(f"cannot write {path}: {failure.strerror}") from None


# Passphrases


def read_passphrase(file: Path | None, prompt: str = "Passphrase: ") -> str:
    """A passphrase: the first line of a private file, or else asked on the terminal.

    Raises KeyFileError.
    """
    if file is not None:
        try:
            lines = read_private(file).decode("utf-8").splitlines()
        except UnicodeDecodeError:
            raise KeyFileError(f"{file} holds no text") from None
        given = lines[0] if lines else ""
    elif sys.stdin is not None and sys.stdin.isatty():
        try:
            given = getpass.getpass(prompt)
        except (EOFError, KeyboardInterrupt):
            raise PassphraseWanted("no passphrase was given") from None
    else:
        raise PassphraseWanted(
            "the key file is encrypted and there is no terminal to ask for its passphrase; name a "
            "file with the passphrase that only you can read"
        )
    if not given or len(given) > MAX_PASSPHRASE:
        raise KeyFileError(f"a passphrase has 1 to {MAX_PASSPHRASE} characters")
    return given


# Text


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


# Files

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def read_private(path: Path) -> bytes:
    """The bytes of a small file that nobody else may read. Raises KeyFileError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0))
    except OSError as failure:
        with contextlib.suppress(OSError):
            if path.is_symlink():
                raise KeyFileError(f"{path} is a link; name the file itself") from None
        raise KeyFileError(f"cannot open {path}: {failure.strerror}") from None
    try:
        _check_private(path, os.fstat(descriptor))
        with os.fdopen(os.dup(descriptor), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise KeyFileError(f"{path} is too large for a file of keys")
    return content


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is no ordinary file")
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        raise KeyFileError(f"{path} belongs to another user; make it yours (chown)")
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        raise KeyFileError(f"others may read {path}; take that from them (chmod 600 {path})")


# Encryption


def _encrypted(text: str, passphrase: str, n: int) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    header = f"{_MARK} 1 scrypt {n} {SCRYPT_R} {SCRYPT_P} {salt.hex()}"
    nonce = secrets.token_bytes(_NONCE_BYTES)
    key = _derived(passphrase, salt, n, SCRYPT_R, SCRYPT_P)
    sealed = nonce + ChaCha20Poly1305(key).encrypt(nonce, text.encode(), header.encode())
    body = base64.b64encode(sealed).decode("ascii")
    lines = [body[at : at + 76] for at in range(0, len(body), 76)]
    return "\n".join([header, *lines]) + "\n"


def _decrypted(text: str, passphrase: str | None, path: Path) -> str:
    header, _, body = text.partition("\n")
    words = header.split(" ")
    try:
        if len(words) != 7 or words[:3] != [_MARK, "1", "scrypt"]:
            raise ValueError
        n, r, p = map(int, words[3:6])
        salt = bytes.fromhex(words[6])
        written = "".join(body.split())
        sealed = base64.b64decode(written, validate=True)
        if base64.b64encode(sealed).decode("ascii") != written:  # bits that stand for nothing
            raise ValueError
        if n & (n - 1) or not (2 <= n <= _MOST_N and 1 <= r <= _MOST_R and 1 <= p <= _MOST_P):
            raise ValueError
        if 128 * n * r > _MOST_MEMORY:
            raise ValueError
        if len(salt) != _SALT_BYTES or len(sealed) < _NONCE_BYTES + 16:
            raise ValueError
    except (ValueError, binascii.Error):
        raise KeyFileError(f"{path} is damaged, or made by a later version") from None
    if passphrase is None:
        raise PassphraseWanted(f"{path} is encrypted; its passphrase is wanted")
    key = _derived(passphrase, salt, n, r, p)
    try:
        nonce = sealed[:_NONCE_BYTES]
        opened = ChaCha20Poly1305(key).decrypt(nonce, sealed[_NONCE_BYTES:], header.encode())
    except InvalidTag:
        raise WrongPassphrase(
            f"the passphrase does not open {path}, or the file was changed; try again"
        ) from None
    return opened.decode("utf-8")


def _derived(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=_KEY_BYTES, n=n, r=r, p=p).derive(passphrase.encode())
