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

_DAYS = re.compile(r"[0-9]{1,5}(\.[0-9]{1,9})?", re.ASCII)


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


def _text(
    name: str,
    about: str,
    pattern: str,
    flaw: str,
    meaning: Callable[[str], Any] = str,
    default: str | None = None,
) -> Parameter:
    """One whose whole text matches ``pattern``; ``flaw`` is told of what does not."""
    allowed = re.compile(pattern, re.ASCII)

    def read(text: str) -> Any:
        if not allowed.fullmatch(text):
            raise ValueError(flaw)
        return meaning(text)

    schema = {"type": "string", "pattern": f"^({pattern})$"}
    if default is not None:
        schema["default"] = default
    return Parameter(name, about, schema, read, default)


def _hex(name: str, size: int, about: str) -> Parameter:
    return _text(
        name, about, f"[0-9a-fA-F]{{{size}}}", f"{name} is not {size} hex digits", str.lower
    )


def _owner_and_number(did: str) -> tuple[str, int]:
    owner, _, number = did.rpartition(":")[2].rpartition("-")
    return owner, int(number)


def _whether(name: str, about: str) -> Parameter:
    def read(text: str) -> bool:
        if text.lower() not in ("true", "false", "1", "0", ""):
            raise ValueError(f"{name} is true or false")
        return text.lower() in ("true", "1", "")

    return Parameter(name, about, {"type": "boolean", "default": False}, read, False)


def _place(text: str) -> str:
    if any(int(number) > MAX_HEIGHT for number in text.split("-") if number):
        raise ValueError(f"{text} is behind every block")
    return text


_AS_TYPED = r"^[A-Za-z0-9_-]{1,34}(\.[A-Za-z0-9_-]{1,19})?\.?$"
NAMESPACE_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,19}$"}
_ADDRESS = "[1-9A-HJ-NP-Za-km-z]{25,36}"
_NO_ADDRESS = "the address is no base58 address of 25 to 36 characters"

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
ADDRESS = _text("address", "A p2pkh or p2sh address.", _ADDRESS, _NO_ADDRESS)
DID = _text(
    "did",
    "did:stack:v0:ADDRESS-NUMBER.",
    f"did:stack:v0:{_ADDRESS}-(0|[1-9][0-9]{{0,9}})",
    "an identifier of a name is did:stack:v0:ADDRESS-NUMBER",
    _owner_and_number,
)
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
AFTER = _text(
    "after",
    "Where the page before ended; the header Link gives it.",
    "[ -~]{0,64}",
    "after is not what a page gave as the beginning of the next one",
    default="",
)
PLACE = _text(
    "after",
    "Where the page before ended: HEIGHT-INDEX; the header Link gives it.",
    "([0-9]{1,10}-[0-9]{1,10})?",
    "after is no place where a page ended, such as 400000-12",
    _place,
    default="",
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
OWNER = _text("address", "Only names of this owner.", _ADDRESS, _NO_ADDRESS)
WITHIN = Parameter("namespace", "Only names in this namespace.", NAMESPACE_SCHEMA, namespace_id)
OFFSET = _number("offset", "How many to leave out.", most=MAX_PAGE * 100, default=0)
COUNT = _number("count", "How many to give, 100 at most.", most=100, default=100)
STATE_HEIGHT = _number("height", "Of the state that is proven.", most=MAX_HEIGHT)
UNDER = _number("under", "Of the consensus hash that it is proven under.", most=MAX_HEIGHT)
JOB = _text(
    "job",
    "The id of something begun.",
    "[0-9a-z]{6,32}",
    "an id of something begun has 6 to 32 characters of 0-9 and a-z",
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
