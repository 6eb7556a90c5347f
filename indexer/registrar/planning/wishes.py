"""What a person can wish of the name table, as values, and how they are written as JSON.

What must stay true: a wish that exists is well formed (its name, scripts, hashes and numbers fit
their places on the wire); an address of another network never becomes one; reading takes exactly
the members that writing gives, so that a journal or a request that says more is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, NamedTuple, TypeAlias, get_args

from indexer.bitcoin.transactions import address_script, is_p2pkh, is_p2sh, script_address
from indexer.networks import Network
from indexer.protocol.names import BadName, check_namespace, parse_name

MAX_MONEY = 21_000_000 * 100_000_000


class BadWish(ValueError):
    """What is asked for cannot be meant; ``str()`` is a sentence that says why."""


class _Checked:
    """A value whose fields are checked, each by its name, when it is made."""

    __slots__ = ()
    word: ClassVar[str]
    """What the wish is called in JSON and on the command line."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            FORMS[field.name].check(field.name, value)

    @property
    def subject(self) -> str:
        """The name or namespace that it is about, which is its first field; the hash of an
        announcement, which is about none."""
        first = getattr(self, fields(self)[0].name)  # type: ignore[arg-type]
        return first if isinstance(first, str) else first.hex()


@dataclass(frozen=True, slots=True)
class RegisterName(_Checked):
    """Own a name that nobody owns: preorder, then register."""

    word: ClassVar[str] = "register"
    name: str
    value_hash: bytes | None = None
    """Hash of the data that the name holds from the first block on; None: no data yet."""
    owner: bytes | None = None
    """Script of the owner to be; None: a fresh address of whoever signs."""
    max_price: int | None = None
    """The most satoshis that the name may cost, the miner's fee apart."""


@dataclass(frozen=True, slots=True)
class UpdateName(_Checked):
    """Let a name hold other data."""

    word: ClassVar[str] = "update"
    name: str
    value_hash: bytes


@dataclass(frozen=True, slots=True)
class TransferName(_Checked):
    """Give a name to another owner, with its data or without."""

    word: ClassVar[str] = "transfer"
    name: str
    recipient: bytes
    keep_data: bool = True


@dataclass(frozen=True, slots=True)
class RenewName(_Checked):
    """Keep a name for another lifetime, counted from the block of the renewal."""

    word: ClassVar[str] = "renew"
    name: str
    value_hash: bytes | None = None
    """Hash of data to hold from then on; None: the data stays as it is."""
    max_price: int | None = None


@dataclass(frozen=True, slots=True)
class RevokeName(_Checked):
    """Make a name hold nothing, for everybody, until it lapses."""

    word: ClassVar[str] = "revoke"
    name: str


@dataclass(frozen=True, slots=True)
class ImportName(_Checked):
    """Give a name of a namespace that is revealed and not open yet to its first owner."""

    word: ClassVar[str] = "import"
    name: str
    recipient: bytes
    value_hash: bytes


@dataclass(frozen=True, slots=True)
class PreorderNamespace(_Checked):
    """Pay for a namespace, whose id stays hidden until it is revealed."""

    word: ClassVar[str] = "namespace-preorder"
    namespace_id: str
    revealer: bytes
    """Script of who will import into the namespace and open it."""
    max_price: int | None = None


@dataclass(frozen=True, slots=True)
class RevealNamespace(_Checked):
    """Say which namespace was preordered, and what its names cost and how long they live."""

    word: ClassVar[str] = "namespace-reveal"
    namespace_id: str
    revealer: bytes
    lifetime: int
    """Blocks; 0xffffffff: for ever."""
    coeff: int
    base: int
    buckets: tuple[int, ...]
    nonalpha_discount: int
    no_vowel_discount: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class ReadyNamespace(_Checked):
    """Open a namespace to everybody, for ever."""

    word: ClassVar[str] = "namespace-ready"
    namespace_id: str


@dataclass(frozen=True, slots=True)
class Announce(_Checked):
    """Tell the operators of nodes the hash of a message."""

    word: ClassVar[str] = "announce"
    message_hash: bytes


Wish: TypeAlias = (
    RegisterName
    | UpdateName
    | TransferName
    | RenewName
    | RevokeName
    | ImportName
    | PreorderNamespace
    | RevealNamespace
    | ReadyNamespace
    | Announce
)

WISHES: dict[str, type[Wish]] = {kind.word: kind for kind in get_args(Wish)}
"""Every kind of wish by its word."""


# --- what a field may hold, and how it is written


class Form(NamedTuple):
    """How the fields of one name are checked, written and read."""

    check: Callable[[str, Any], None]
    """Raises ``BadWish`` with a sentence; takes the field's name and its value."""
    write: Callable[[Any, Network], object] = lambda value, _: value
    read: Callable[[str, object, Network], Any] = lambda field, value, _: value


def _names(parse: Callable[[str], object]) -> Form:
    def check(field: str, value: object) -> None:
        try:
            parse(_text(field, value))
        except BadName as bad:
            raise BadWish(str(bad)) from None

    return Form(check)


def _check_script(field: str, value: object) -> None:
    if not isinstance(value, bytes) or not (is_p2pkh(value) or is_p2sh(value)):
        raise BadWish(f"{field} is no p2pkh or p2sh script, and nothing else can own a name")


def _check_digest(field: str, value: object) -> None:
    if not isinstance(value, bytes) or len(value) != 20:
        raise BadWish(f"{field} is no hash of 20 bytes")


def _check_flag(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise BadWish(f"{field} is true or false")


def _check_buckets(field: str, value: object) -> None:
    fit = isinstance(value, tuple) and len(value) == 16
    if not fit or not all(_is_number(n) and 0 <= n <= 15 for n in value):  # type: ignore[attr-defined]
        raise BadWish(f"{field} are sixteen numbers from 0 to 15")


def _numbers(least: int, most: int) -> Form:
    def check(field: str, value: Any) -> None:
        if not _is_number(value) or not least <= value <= most:
            raise BadWish(f"{field} is a whole number from {least} to {most}")

    return Form(check)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadWish(f"{field} is no text")
    return value


def _read_script(field: str, value: object, network: Network) -> bytes:
    try:
        return address_script(_text(field, value), network)
    except ValueError as bad:
        raise BadWish(f"{field}: {bad}") from None


def _read_digest(field: str, value: object, network: Network) -> bytes:
    text = _text(field, value)
    try:
        return bytes.fromhex(text if len(text) == 40 else "?")
    except ValueError:
        raise BadWish(f"{field} is no hash: 40 hexadecimal digits are needed") from None


def _read_buckets(field: str, value: object, network: Network) -> object:
    return tuple(value) if isinstance(value, list) and len(value) == 16 else value


_SCRIPT = Form(_check_script, script_address, _read_script)
_DIGEST = Form(_check_digest, lambda value, _: value.hex(), _read_digest)

FORMS: dict[str, Form] = {
    "name": _names(parse_name),
    "namespace_id": _names(check_namespace),
    "value_hash": _DIGEST,
    "message_hash": _DIGEST,
    "owner": _SCRIPT,
    "recipient": _SCRIPT,
    "revealer": _SCRIPT,
    "max_price": _numbers(0, MAX_MONEY),
    "keep_data": Form(_check_flag),
    "lifetime": _numbers(1, 0xFFFFFFFF),
    "coeff": _numbers(0, 255),
    "base": _numbers(0, 255),
    "buckets": Form(_check_buckets, lambda value, _: list(value), _read_buckets),
    "nonalpha_discount": _numbers(1, 15),
    "no_vowel_discount": _numbers(1, 15),
    "version": _numbers(1, 3),
}
"""What a field of this name holds, in every wish that has one."""


def wish_json(wish: Wish, network: Network) -> dict[str, object]:
    """``wish`` as JSON: its word under ``wish``, scripts as addresses, hashes as hex.

    What is None is left out. ``read_wish`` is the inverse.
    """
    document: dict[str, object] = {"wish": wish.word}
    for field in fields(wish):
        value = getattr(wish, field.name)
        if value is not None:
            document[field.name] = FORMS[field.name].write(value, network)
    return document


def read_wish(document: Mapping[str, object], network: Network) -> Wish:
    """The wish that ``wish_json`` wrote; raises ``BadWish`` for anything else."""
    if not isinstance(document, Mapping):
        raise BadWish("a wish is a JSON object")
    word = document.get("wish")
    kind = WISHES.get(word) if isinstance(word, str) else None
    if kind is None:
        raise BadWish(f"'wish' is one of {', '.join(WISHES)}")
    known = {field.name: field for field in fields(kind)}
    for member in document:
        if member != "wish" and member not in known:
            raise BadWish(f"the wish to {word} knows no {member!r:.80}")
    found: dict[str, Any] = {}
    for name, field in known.items():
        if document.get(name) is not None:
            found[name] = FORMS[name].read(name, document[name], network)
        elif field.default is MISSING:
            raise BadWish(f"the wish to {word} needs {name!r}")
    return kind(**found)
