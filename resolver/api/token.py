"""The token that lets commands pay: made once, kept in a private file, compared in constant time.

What must stay true: it is in the file and in this process's memory and nowhere else, no log, no
error and no reply; a file that others may read is not used.
"""

import hmac
import os
import secrets
import stat
from pathlib import Path

TOKEN_BYTES = 32
LEAST, MOST = 16, 256
"""Characters of a token that somebody else has made."""


class TokenError(Exception):
    """The file cannot be used; ``str()`` says why and what to do."""


class Token:
    """What is shown by whoever may pay."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text.encode("ascii")

    @classmethod
    def on_file(cls, path: Path) -> "Token":
        """The token in ``path``, which is made where it is missing. Raises TokenError."""
        try:
            return cls(_read(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise TokenError(f"{path} cannot be read ({error.strerror})") from None
        try:
            return cls(_make(path))
        except FileExistsError:
            return cls(_read(path))  # another daemon was faster
        except OSError as error:
            raise TokenError(f"{path} cannot be written ({error.strerror})") from None

    def __repr__(self) -> str:
        return "Token()"

    def lets_in(self, authorization: str) -> bool:
        """Whether the header Authorization shows it (RFC 6750 section 2.1)."""
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self._text)


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read(MOST + 2)
    if stat.S_IMODE(mode) & 0o077:
        raise TokenError(f"others may read {path}; chmod 600 it, or remove it for a new one")
    text = content.strip().decode("ascii", "replace")
    if not LEAST <= len(text) <= MOST or not text.isprintable() or " " in text or "\ufffd" in text:
        raise TokenError(
            f"{path} holds no token, which is one word of {LEAST} to {MOST} characters;"
            " remove it for a new one"
        )
    return text


def _make(path: Path) -> str:
    text = secrets.token_urlsafe(TOKEN_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
    return text
