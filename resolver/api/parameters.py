"""The parameters that paths and queries of the HTTP API have, each with the text it takes.

What must stay true: what ``read`` takes is what ``schema`` describes; a refusal says what it would
have taken; nothing is said twice.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from resolver.api.chain_names import Zones, chain_name, namespace_id
from resolver.refusals import Refusal, Refused

MAX_QUERY = 1024
MAX_PARAMETERS = 8

Schema = Mapping[str, Any]
"""A JSON Schema, in the dialect of OpenAPI 3.1."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value in a path or a query. ``read`` takes its text and raises ``Refused``, or
    ``ValueError`` with a sentence; ``default`` is what a query without it means."""

    name: str
    about: str
    schema: Schema
    read: Callable[..., Any]
    default: Any = None
    example: str | None = None
    of_zones: bool = False
    """Whether ``read`` takes the zones too, for its text may be a name of DNS."""


MAX_HEIGHT = 2**32 - 2
MAX_PAGE = 100_000
MAX_HISTORY_PAGE = 1000
MIN_DAYS = 0.01
MAX_DAYS = 36_500
_MAX_CURSOR = 64

_DAYS = re.compile(r"[0-9]{1,5}(\.[0-9]{1,9})?", re.ASCII)
_PLACE = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")
_DID = re.compile(r"did:stack:v0:([1-9A-HJ-NP-Za-km-z]{25,36})-(0|[1-9][0-9]{0,9})")


def _whole(name: str, least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        plain = text.isascii() and text.isdecimal() and len(text) <= 10
        if not plain or not least <= int(text) <= most:
            raise ValueError(f"{name} is no whole number from {least} to {most}")
        return int(text)

    return read


def _number(name: str, about: str, *, most: int, least: int = 0, default: Any = None) -> Parameter:
    schema = {"type": "integer", "minimum": least, "maximum": most}
    if default is not None:
        schema["default"] = default
    return Parameter(name, about, schema, _whole(name, least, most), default)


def _read_days(text: str) -> float:
    days = float(text) if _DAYS.fullmatch(text) else 0.0
    if not MIN_DAYS <= days <= MAX_DAYS:
        raise ValueError(f"expiring is no number of days from {MIN_DAYS} to {MAX_DAYS}")
    return int(days) if days.is_integer() else days


def _hex(name: str, size: int, about: str) -> Parameter:
    pattern = re.compile(rf"[0-9a-fA-F]{{{size}}}", re.ASCII)

    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{name} is not {size} hex digits")
        return text.lower()

    return Parameter(name, about, {"type": "string", "pattern": f"^[0-9a-fA-F]{{{size}}}$"}, read)


def _read_address(text: str) -> str:
    if not (text.isascii() and text.isalnum() and 25 <= len(text) <= 36):
        raise ValueError("the address is no base58 address of 25 to 36 characters")
    return text


def _read_did(text: str) -> tuple[str, int]:
    found = _DID.fullmatch(text)
    if found is None:
        raise ValueError("an identifier of a name is did:stack:v0:ADDRESS-NUMBER")
    return found[1], int(found[2])


def _whether(name: str, about: str) -> Parameter:
    def read(text: str) -> bool:
        if text.lower() not in ("true", "false", "1", "0", ""):
            raise ValueError(f"{name} is true or false")
        return text.lower() in ("true", "1", "")

    return Parameter(name, about, {"type": "boolean", "default": False}, read, False)


def _read_cursor(text: str) -> str:
    if len(text) > _MAX_CURSOR or not text.isascii() or not text.isprintable():
        raise ValueError("after is not what a page gave as the beginning of the next one")
    return text


def _read_place(text: str) -> str:
    found = _PLACE.fullmatch(text)
    if text and (found is None or max(int(found[1]), int(found[2])) > MAX_HEIGHT):
        raise ValueError(f"{text[:40]!r} is no place where a page ended, such as 400000-12")
    return text


def _read_job(text: str) -> str:
    if not (text.isascii() and text.isalnum() and text == text.lower() and 6 <= len(text) <= 32):
        raise ValueError("an id of something begun has 6 to 32 characters of 0-9 and a-z")
    return text


_AS_TYPED = r"^[A-Za-z0-9_-]{1,34}(\.[A-Za-z0-9_-]{1,19})?\.?$"
NAMESPACE_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,19}$"}
ADDRESS_SCHEMA = {"type": "string", "pattern": "^[1-9A-HJ-NP-Za-km-z]{25,36}$"}
DID_SCHEMA = {
    "type": "string",
    "pattern": "^did:stack:v0:[1-9A-HJ-NP-Za-km-z]{25,36}-(0|[1-9][0-9]{0,9})$",
}

NAME = Parameter(
    "name",
    "A name on the chain, or as DNS has it (`Alice.BS.`, by any suffix of the setting `zones`);"
    " a bare label is in the namespace id.",
    {"type": "string", "pattern": _AS_TYPED, "maxLength": 37},
    chain_name,
    example="alice.id",
    of_zones=True,
)
NAMESPACE = Parameter(
    "namespace", "The id of a namespace.", NAMESPACE_SCHEMA, namespace_id, example="id"
)
ADDRESS = Parameter("address", "A p2pkh or p2sh address.", ADDRESS_SCHEMA, _read_address)
DID = Parameter("did", "did:stack:v0:ADDRESS-NUMBER.", DID_SCHEMA, _read_did)
HEIGHT = _number("height", "The height of a block.", most=MAX_HEIGHT)
TXID = _hex("txid", 64, "A transaction, as block explorers write it.")
VALUE_HASH = _hex("hash", 40, "RIPEMD-160 of SHA-256 of data.")
CONSENSUS_HASH = _hex("consensus_hash", 32, "A consensus hash.")

PAGE = _number("page", "Which page, from 0; behind the last one nothing is.", most=MAX_PAGE)
HISTORY_PAGE = _number(
    "page",
    "Which page, from 0; behind the last one nothing is.",
    most=MAX_HISTORY_PAGE,
    default=0,
)
AFTER = Parameter(
    "after",
    "Where the page before ended; the header Link gives it.",
    {"type": "string", "pattern": "^[ -~]*$", "maxLength": _MAX_CURSOR, "default": ""},
    _read_cursor,
    "",
)
PLACE = Parameter(
    "after",
    "Where the page before ended: HEIGHT-INDEX; the header Link gives it.",
    {"type": "string", "pattern": "^([0-9]{1,10}-[0-9]{1,10})?$", "default": ""},
    _read_place,
    "",
)
ALL = _whether("all", "Whether names that lapsed or were revoked belong to it.")
ALL_OPERATIONS = _whether("all", "Whether refused operations belong to it.")
ALL_JOBS = _whether("all", "Whether what is done, failed or abandoned belongs to it.")
EXPIRING = Parameter(
    "expiring",
    "Only names that expire within so many days, or did and can still be renewed; 0.5 is 12 hours.",
    {"type": "number", "minimum": MIN_DAYS, "maximum": MAX_DAYS},
    _read_days,
)
DAYS = _number("days", "How far the calendar looks ahead.", least=1, most=MAX_DAYS)
OWNER = Parameter("address", "Only names of this owner.", ADDRESS_SCHEMA, _read_address)
WITHIN = Parameter("namespace", "Only names in this namespace.", NAMESPACE_SCHEMA, namespace_id)
OFFSET = _number("offset", "How many to leave out.", most=MAX_PAGE * 100, default=0)
COUNT = _number("count", "How many to give, 100 at most.", most=100, default=100)
STATE_HEIGHT = _number("height", "Of the state that is proven.", most=MAX_HEIGHT)
UNDER = _number("under", "Of the consensus hash that it is proven under.", most=MAX_HEIGHT)
JOB = Parameter(
    "job",
    "The id of something begun.",
    {"type": "string", "pattern": "^[0-9a-z]{6,32}$"},
    _read_job,
)

IN_PATHS = {
    one.name: one for one in (NAME, NAMESPACE, ADDRESS, DID, HEIGHT, TXID, VALUE_HASH, JOB)
} | {"consensus_hash": CONSENSUS_HASH}
"""What a path may hold between braces."""


def read_query(text: str) -> dict[str, str]:
    """The parameters behind the ``?`` of a path, each once. Raises ``Refused``."""
    if len(text) > MAX_QUERY:
        raise Refused(Refusal.BAD_REQUEST, f"a query has at most {MAX_QUERY} characters")
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            max_num_fields=MAX_PARAMETERS,
            errors="strict",
        )
    except UnicodeDecodeError:
        raise Refused(Refusal.BAD_REQUEST, "the query is not even text") from None
    except ValueError:
        raise Refused(Refusal.BAD_REQUEST, "the query has too many parameters") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused(Refusal.BAD_REQUEST, "the query says something twice")
    return found


def read_value(parameter: Parameter, text: str, zones: Zones) -> Any:
    """The value that ``text`` gives a parameter. Raises ``Refused``."""
    try:
        return parameter.read(text, zones) if parameter.of_zones else parameter.read(text)
    except ValueError as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from None
