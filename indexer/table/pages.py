"""Pages of a listing: where one ends, and where among the keys the next one begins."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from indexer.protocol import schema

T = TypeVar("T")

PAGE = 100  # how many entries a page holds unless told otherwise


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some entries of a listing. ``next`` is what to ask for to go on; "" at the end."""

    entries: tuple[T, ...]
    next: str


def end_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with ``prefix``, which begins with a letter."""
    shorter = prefix.rstrip(b"\xff")
    return shorter[:-1] + bytes((shorter[-1] + 1,))


def after_text(after: str) -> bytes:
    """Where the keys begin that follow ``after``: no name goes on with a NUL."""
    return after.encode() + b"\0" if after else b""


def place_of_page(suffix: bytes) -> str:
    """Where a page ends (HEIGHT-INDEX) whose last key ends in ``suffix``."""
    height, vtxindex = schema.place_of_key(suffix)
    return f"{height}-{vtxindex}"


def place_after(place: str) -> bytes:
    """The first key suffix behind the ``place`` (HEIGHT-INDEX) at which a page ended."""
    if not place:
        return b""
    height, dash, vtxindex = place.partition("-")
    digits = height.isdecimal() and vtxindex.isdecimal() and place.isascii() and len(place) <= 21
    if not dash or not digits or max(int(height), int(vtxindex)) >= 2**32 - 1:
        raise ValueError(f"{place[:40]!r} is no place where a page ended, such as 400000-12")
    return schema.height_bytes(int(height)) + schema.height_bytes(int(vtxindex) + 1)
