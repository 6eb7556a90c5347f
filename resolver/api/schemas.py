"""JSON Schemas of everything that the HTTP API answers, in the dialect of OpenAPI 3.1.

What must stay true: they say exactly what comes, so that a member that is not described is an error
(tests validate every reply); one that may be missing is not required. Shapes follow protocol spec
sections 7.2 and 7.5.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from resolver.api.parameters import ADDRESS as ADDRESS_PARAMETER
from resolver.api.parameters import DID, MAX_HEIGHT
from resolver.refusals import Refusal

Schema = Mapping[str, Any]


OPCODES: Mapping[str, str] = {
    "?": "NAME_PREORDER",
    ":": "NAME_REGISTRATION",
    "::": "NAME_RENEWAL",
    "+": "NAME_UPDATE",
    ">": "NAME_TRANSFER",
    ">>": "NAME_TRANSFER",
    ">~": "NAME_TRANSFER",
    "~": "NAME_REVOKE",
    ";": "NAME_IMPORT",
    "*": "NAMESPACE_PREORDER",
    "&": "NAMESPACE_REVEAL",
    "!": "NAMESPACE_READY",
    "#": "ANNOUNCE",
    "$": "TOKEN_TRANSFER",
}
"""Protocol spec section 1.3, and the signs under which operations are stored."""


def hexadecimal(octets: int) -> Schema:
    """So many bytes in lower-case hex."""
    return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * octets}}}$"}


def nullable(schema: Schema) -> Schema:
    """Or null."""
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def listed(item: Schema, most: int | None = None) -> Schema:
    """A list."""
    return {"type": "array", "items": item} | ({} if most is None else {"maxItems": most})


def shape(optional: Mapping[str, Schema] | None = None, /, **members: Schema) -> Schema:
    """An object with these members and no others; ``optional`` ones may be missing."""
    return {
        "type": "object",
        "properties": {**members, **(optional or {})},
        "required": sorted(members),
        "additionalProperties": False,
    }


def named(name: str) -> Schema:
    """A schema of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
HEIGHT: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_HEIGHT + 1}
DEADLINE: Schema = {**nullable(COUNT), "description": "A height; null: never."}
DAY: Schema = {
    "type": ["string", "null"],
    "format": "date",
    "description": "The day of that block, estimated; null: never, or in no calendar.",
}
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9_-]+\.[a-z0-9_-]+$", "maxLength": 37}
NAMESPACE: Schema = {"type": "string", "pattern": "^[a-z0-9_-]{1,19}$"}
ADDRESS: Schema = ADDRESS_PARAMETER.schema
HASH20, HASH32, HASH16 = hexadecimal(20), hexadecimal(32), hexadecimal(16)
SCRIPT: Schema = {"type": "string", "pattern": "^([0-9a-f]{2})+$"}
AMOUNT: Schema = {"type": "string", "pattern": "^[0-9]+$"}
UNITS: Schema = {"enum": ["BTC", "STACKS"]}
OP: Schema = {"type": "string", "minLength": 1, "maxLength": 2}
OPCODE: Schema = {"enum": sorted(set(OPCODES.values()))}
STALE: Schema = {
    "type": "string",
    "description": "Why the index may be behind the chain; only there when it may.",
}
CURSOR: Schema = {
    "type": ["string", "null"],
    "description": "What `after` is for the next page; null: this is the last one.",
}
_MARK = {"stale": STALE}

ERROR = shape(
    {"status": {"const": "available"}, **_MARK},
    error=TEXT,
    code={"enum": sorted(refusal.name.lower() for refusal in Refusal)},
    hint=TEXT,
)

RECORD: dict[str, Schema] = {
    "opcode": OPCODE,
    "op": OP,
    "txid": HASH32,
    "vtxindex": COUNT,
    "name": NAME,
    "namespace_id": NAMESPACE,
    "address": ADDRESS,
    "sender": SCRIPT,
    "sender_pubkey": nullable(SCRIPT),
    "value_hash": nullable(HASH20),
    "revoked": TRUTH,
    "block_number": HEIGHT,
    "first_registered": HEIGHT,
    "last_renewed": HEIGHT,
    "preorder_block_number": HEIGHT,
    "preorder_hash": HASH20,
    "op_fee": {"type": "number", "minimum": 0, "description": "Satoshis."},
    "importer": nullable(SCRIPT),
    "importer_address": nullable(ADDRESS),
    "consensus_hash": nullable(HASH16),
}

NAMESPACE_RECORD: dict[str, Schema] = {
    "opcode": OPCODE,
    "op": OP,
    "txid": HASH32,
    "vtxindex": COUNT,
    "namespace_id": NAMESPACE,
    "version": COUNT,
    "address": ADDRESS,
    "sender": SCRIPT,
    "sender_pubkey": nullable(SCRIPT),
    "recipient": SCRIPT,
    "recipient_address": ADDRESS,
    "preorder_hash": HASH20,
    "block_number": HEIGHT,
    "reveal_block": HEIGHT,
    "ready_block": nullable(HEIGHT),
    "ready": TRUTH,
    "lapsed": TRUTH,
    "lifetime": COUNT,
    "coeff": COUNT,
    "base": COUNT,
    "buckets": listed(COUNT, 16),
    "nonalpha_discount": COUNT,
    "no_vowel_discount": COUNT,
}

_ENDS: dict[str, Schema] = {
    "expire_block": DEADLINE,
    "expires_about": DAY,
    "renewal_deadline": DEADLINE,
    "gone_about": DAY,
}
END = shape(name=NAME, address=ADDRESS, phase={"enum": ["live", "grace"]}, **_ENDS)
_VERDICT: dict[str, Schema] = {
    "txid": HASH32,
    "height": HEIGHT,
    "vtxindex": COUNT,
    "op": OP,
    "opcode": nullable(OPCODE),
    "subject": {**nullable(TEXT), "description": "The name or namespace, where it tells."},
    "accepted": TRUTH,
    "flaw": nullable(TEXT),
    "reason": {**nullable(TEXT), "description": "Why it had no effect, for who paid."},
}

_CONTENT = {
    "zonefile": TEXT,
    "zonefile_base64": {
        "type": "string",
        "contentEncoding": "base64",
        "description": "In place of `zonefile` where the data is no UTF-8.",
    },
}

SCHEMAS: dict[str, Schema] = {
    "Error": ERROR,
    "Name": shape(
        {
            **_CONTENT,
            "zonefile": nullable(TEXT),
            "zonefile_missing": ERROR,
            **_MARK,
        },
        status={"enum": ["registered", "revoked"]},
        name=NAME,
        address=ADDRESS,
        zonefile_hash=nullable(HASH20),
        last_txid=HASH32,
        blockchain={"const": "bitcoin"},
        did=nullable(DID.schema),
        resolver={**nullable(TEXT), "description": "Who answers for names below it (a URL)."},
        **_ENDS,
        grace_period=TRUTH,
        first_registered=HEIGHT,
        last_renewed=HEIGHT,
        preorder_block_number=HEIGHT,
        height=HEIGHT,
    ),
    "NameRecord": shape(_MARK, expire_block=DEADLINE, renewal_deadline=DEADLINE, **RECORD),
    "NameState": shape(block_id=HEIGHT, **RECORD),
    "NamespaceRecord": shape(**NAMESPACE_RECORD),
    "Verdict": shape(**_VERDICT),
    "Operation": {
        "type": "object",
        "description": "A verdict and, of an accepted operation, its fields in the consensus.",
        "properties": {**_VERDICT, "serialized": nullable(TEXT)},
        "required": sorted([*_VERDICT, "serialized"]),
    },
    "Ending": END,
    "Consensus": shape(
        {
            "consensus": TEXT,
            "consensus_frozen_at": nullable(HEIGHT),
            "computed_here": nullable(HASH16),
        },
        consensus_hash=nullable(HASH16),
        height=HEIGHT,
        ops_hash=nullable(HASH32),
    ),
    "Price": shape({"satoshis": COUNT}, units=UNITS, amount=AMOUNT),
    "Price2": shape(units=UNITS, amount=AMOUNT),
    "Zonefile": {
        **shape({**_CONTENT, **_MARK}),
        "oneOf": [{"required": ["zonefile"]}, {"required": ["zonefile_base64"]}],
    },
    "Stored": shape(
        status=TRUTH,
        value_hash=HASH20,
        names=listed(NAME),
        bytes=COUNT,
        stored_at_nodes=COUNT,
    ),
    "Info": {
        "type": "object",
        "properties": {
            "consensus": nullable(TEXT),
            "consensus_frozen_at": nullable(HEIGHT),
            "first_block": HEIGHT,
            "indexing": TRUTH,
            "last_block_processed": HEIGHT,
            "last_block_seen": nullable(HEIGHT),
            "server_alive": TRUTH,
            "server_version": TEXT,
            "testnet": TRUTH,
            "zonefile_count": COUNT,
            "network": TEXT,
            "names": COUNT,
            "zones": {
                "type": "object",
                "description": "DNS suffixes that are served, and the namespace of each.",
                "additionalProperties": NAMESPACE,
            },
        },
        "required": ["last_block_processed", "server_alive"],
    },
}

LOOKUP = {
    **shape(
        {
            "data": TEXT,
            "data_base64": {"type": "string", "contentEncoding": "base64"},
            **_MARK,
        },
        name=NAME,
        value_hash=HASH20,
        source=TEXT,
        height=HEIGHT,
    ),
    "oneOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
}
HISTORY: Schema = {
    "type": "object",
    "propertyNames": {"pattern": "^[0-9]+$"},
    "additionalProperties": listed(named("NameState")),
}
VERDICTS = shape(name=NAME, height=HEIGHT, verdicts=listed(named("Verdict"), 100), next=CURSOR)
PROOF = shape(
    name=NAME,
    proof={"type": "object"},
    namespace_proof=nullable({"type": "object"}),
    under=shape(height=HEIGHT, consensus_hash=nullable(HASH16)),
)
OWNED = shape(names=listed(NAME, 100), next=CURSOR, height=HEIGHT)
HOLDERS = shape(
    value_hash=HASH20,
    holders=listed(shape(name=NAME, until=nullable(HEIGHT)), 200),
    height=HEIGHT,
)
NAMES = {"anyOf": [listed(NAME, 100), listed(named("Ending"), 100)]}
PING = shape(status={"const": "alive"}, version=TEXT)
NAMES_COUNT = shape(names_count=COUNT)
BLOCK_HEIGHT = shape(block_height=HEIGHT)
NAME_PRICE = shape(name_price=named("Price"))
NAME_PRICE_2 = shape(name_price=named("Price2"))
DID_DOCUMENT = shape(
    did=DID.schema,
    name=NAME,
    address=ADDRESS,
    status={"enum": ["live", "grace"]},
    public_key=nullable(SCRIPT),
    document={"type": "object", "required": ["@context", "id", "publicKey"]},
    height=HEIGHT,
)
CALENDAR: Schema = {"type": "string", "pattern": "^BEGIN:VCALENDAR\r\n"}
DOCUMENT: Schema = {"type": "object", "required": ["openapi", "info", "paths"]}
PUT_ZONEFILE = {
    "type": "object",
    "properties": {"zonefile": {"type": "string", "maxLength": 40_960}},
    "required": ["zonefile"],
}

_RPC_ID: Schema = {"type": ["string", "number", "null"]}


def rpc_calls(methods: Iterable[str], most: int) -> Schema:
    """A call of one of these methods, or a batch of up to so many."""
    call: Schema = {
        "type": "object",
        "properties": {
            "jsonrpc": {"type": "string", "examples": ["2.0", "1.0"]},
            "method": {"type": "string", "examples": sorted(methods)},
            "params": {"type": ["array", "object", "null"]},
            "id": _RPC_ID,
        },
        "required": ["method"],
    }
    batch: Schema = {"type": "array", "items": call, "minItems": 1, "maxItems": most}
    return {"anyOf": [call, batch]}


_RPC_ERROR: Schema = {
    "type": "object",
    "properties": {"code": NUMBER, "message": TEXT, "data": {"type": "object"}},
    "required": ["code", "message"],
}
_RPC_ANSWER: Schema = {
    "oneOf": [
        shape(jsonrpc={"const": "2.0"}, id=_RPC_ID, result={}),
        shape(jsonrpc={"const": "2.0"}, id=_RPC_ID, error=_RPC_ERROR),
        shape(id=_RPC_ID, result={}, error=nullable(_RPC_ERROR)),
    ]
}
RPC_REPLY: Schema = {"anyOf": [_RPC_ANSWER, listed(_RPC_ANSWER, 50)]}
