"""What the bodies of the calls that pay say: each read, bounded and described by one declaration.

What must stay true: a body says exactly what is known here, or is refused with the member that is
wrong. Tests and the daemon make the same values without a body.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from resolver.api.chain_names import Zones, chain_name, namespace_id
from resolver.api.parameters import Schema
from resolver.refusals import Refusal, Refused

MAX_PSBT = 400_000  # characters of base64
MAX_SCRIPTS = 16
MAX_SCRIPT = 2_000  # characters of an address or of a script in hex
MAX_PAID = 21_000_000 * 100_000_000

T = TypeVar("T")
AnyOrder = TypeVar("AnyOrder", bound="Order")


def _text(read: Callable[[str], bytes], form: str) -> BeforeValidator:
    """Reads bytes that JSON has as text of some form; ``read`` raises ``ValueError``."""

    def decoded(text: object) -> bytes:
        try:
            return read(text if isinstance(text, str) else "!")
        except ValueError:
            raise ValueError(f"it is no {form}") from None

    return BeforeValidator(decoded)


_Base64 = Annotated[
    bytes,
    _text(lambda text: base64.b64decode(text, validate=True), "base64"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
_Script = Annotated[
    bytes,
    _text(lambda text: bytes.fromhex(text[: MAX_SCRIPT + 1]), "hex"),
    WithJsonSchema({"type": "string", "pattern": "^([0-9a-f]{2})+$", "maxLength": MAX_SCRIPT}),
]
_Rate = Annotated[float, Field(strict=True, ge=0.1, le=100_000, allow_inf_nan=False)]
_Satoshis = Annotated[int, Field(strict=True, ge=0, le=MAX_PAID)]
_Address = Annotated[str, Field(max_length=MAX_SCRIPT)]
WISH: dict[str, Any] = {
    "type": "object",
    "description": "What is wished: `wish` is its word, the other members are those of the word.",
    "properties": {
        "wish": {
            "enum": [
                *("register", "update", "transfer", "renew", "revoke", "import"),
                *("namespace-preorder", "namespace-reveal", "namespace-ready", "announce"),
            ]
        }
    },
    "required": ["wish"],
}


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wishes, and how it is to be paid and signed."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    wish: Annotated[dict[str, Any], WithJsonSchema(WISH)]
    """As ``indexer.registrar.planning.wishes`` reads it, without the hash of the data."""
    data: Annotated[
        _Base64 | None,
        Field(alias="data_base64", description="The data that the name shall hold."),
    ] = None
    fee_rate: _Rate | None = None
    """Satoshis a virtual byte; None: what the node estimates."""
    payer: _Address | None = None
    """The legacy address that sends; None: one of the signer's."""
    signer: Literal["offline"] | None = None
    """Whether somebody else signs, whoever signs otherwise."""
    scripts: Annotated[tuple[_Address, ...], Field(alias="addresses", max_length=MAX_SCRIPTS)] = ()
    """Legacy addresses of who signs offline, beside the payer's."""
    redeem_scripts: Annotated[tuple[_Script, ...], Field(max_length=MAX_SCRIPTS)] = ()
    """Of multisig addresses among them."""
    raw: Annotated[
        bool,
        Field(
            strict=True,
            description="Take data that is neither a zone file with records nor JSON.",
        ),
    ] = False

    @property
    def offline(self) -> bool:
        """Whether it is signed elsewhere."""
        return self.signer == "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedOrder(Order):
    """An order whose plan was agreed to, for at most ``max_total`` satoshis."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    max_total: _Satoshis


@dataclass(frozen=True, slots=True)
class Payment:
    """An ordinary payment that somebody wants made by whoever signs here."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    address: Annotated[_Address, Field(description="Of any kind: base58, bech32 or bech32m.")]
    satoshis: _Satoshis
    fee_rate: _Rate | None = None
    """Satoshis a virtual byte; None: what the node estimates."""
    max_total: _Satoshis | None = None
    """The total that was agreed to; None: it is planned and not sent."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A PSBT in base64, signed."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    psbt: Annotated[str, Field(max_length=MAX_PSBT)]


@dataclass(frozen=True, slots=True)
class Nothing:
    """An empty object."""

    __pydantic_config__ = ConfigDict(extra="forbid")


_BODIES: dict[Any, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Order, AgreedOrder, Payment, Signed, Nothing)
}


def schema_of(kind: type[Any]) -> Schema:
    """How a body of this kind is described."""
    return _BODIES[kind].json_schema()


def read_body(kind: type[T], body: bytes) -> T:
    """The value in a body. Raises ``Refused``."""
    try:
        value: T = _BODIES[kind].validate_json(body or b"{}")
        return value
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:60]
        member = f'"{where}" of the body' if where else "the body"
        sentence = f"{member}: {first['msg'].removeprefix('Value error, ')}"
        raise Refused(
            Refusal.BAD_REQUEST, sentence, "mend it; /v1/openapi.json says what the body holds"
        ) from None


def read_order(kind: type[AnyOrder], body: bytes, zones: Zones) -> AnyOrder:
    """An order, whose name or namespace is taken as people type it. Raises ``Refused``."""
    order = read_body(kind, body)
    wish = dict(order.wish)
    if isinstance(wish.get("name"), str):
        wish["name"] = chain_name(wish["name"], zones)
    if isinstance(wish.get("namespace_id"), str):
        wish["namespace_id"] = namespace_id(wish["namespace_id"])
    return replace(order, wish=wish)
