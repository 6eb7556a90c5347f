"""The calls of the HTTP API that pay, and those that tell what was paid: for the daemon's own user.

What must stay true: a body says exactly what is known here, or is refused; nothing is begun without
the total that was agreed to; no reply holds a key, and none goes to anybody else.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from indexer.table.pages import PAGE
from resolver.api import parameters as p
from resolver.api import schemas as s
from resolver.api.chain_names import Zones, chain_name, namespace_id
from resolver.api.lists import within
from resolver.api.routes import Body, RouteTable
from resolver.api.shapes import end_json
from resolver.api.values import Asked, Json, Told
from resolver.refusals import Refusal, Refused

MAX_PSBT = 400_000  # characters of base64
MAX_SCRIPTS = 16
MAX_PAID = 21_000_000 * 100_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wishes, and how it is to be paid and signed."""

    wish: Mapping[str, Any]
    """As ``indexer.registrar.planning.wishes`` reads it, without the hash of the data."""
    data: bytes | None = None
    fee_rate: float | None = None
    """Satoshis a virtual byte; None: what the node estimates."""
    payer: str | None = None
    """The legacy address that sends; None: one of the signer's."""
    offline: bool = False
    """Whether somebody else signs, whoever signs otherwise."""
    scripts: tuple[str, ...] = ()
    """Legacy addresses of who signs offline, beside the payer's."""
    redeem_scripts: tuple[bytes, ...] = ()
    """Of multisig addresses among them."""
    raw: bool = False
    """Whether the data is meant as it is, also where it is no zone file and no JSON."""


class Desk(Protocol):
    """Takes orders. Each raises ``Refused``; all JSON is as the schemas below say."""

    async def plan(self, order: Order) -> Json: ...
    async def begin(self, order: Order, max_total: int) -> Json: ...
    async def jobs(self, everything: bool, first: int, count: int) -> Sequence[Json]:
        """At most ``count``, the oldest first, of those behind the first ``first``; without what
        is to be signed."""
        ...

    async def job(self, job_id: str) -> Json: ...
    async def resume(self, job_id: str) -> Json: ...
    async def consent(self, job_id: str) -> Json: ...
    async def abandon(self, job_id: str) -> Json: ...
    async def hand_in(self, job_id: str, psbt: str) -> Json: ...
    async def owned(self) -> Sequence[str]: ...


# --- what is promised


_SATOSHIS: s.Schema = {"type": "integer", "minimum": 0, "maximum": MAX_PAID}
_WISH: s.Schema = {
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
_ORDER: dict[str, s.Schema] = {
    "data_base64": {"type": "string", "description": "The data that the name shall hold."},
    "raw": {
        "type": "boolean",
        "description": "Take data that is neither a zone file with records nor JSON.",
    },
    "fee_rate": {"type": "number", "minimum": 0.1, "maximum": 100_000},
    "payer": p.ADDRESS_SCHEMA,
    "signer": {"enum": ["offline"]},
    "addresses": s.listed(p.ADDRESS_SCHEMA, MAX_SCRIPTS),
    "redeem_scripts": s.listed({"type": "string", "pattern": "^([0-9a-f]{2})+$"}, MAX_SCRIPTS),
}
_PLAN: s.Schema = s.shape(plan={"type": "object"}, text=s.listed(s.TEXT))
_JOB: s.Schema = s.shape(
    {"psbt": s.TEXT},
    id=s.TEXT,
    wish=_WISH,
    subject=s.TEXT,
    state={
        "enum": [
            *("running", "waiting-for-signature", "needs-consent"),
            *("done", "failed", "abandoned"),
        ]
    },
    note={"type": "string", "description": "What is waited for, or what became of it."},
    signer=s.TEXT,
    created=s.COUNT,
    steps=s.listed(
        s.shape(
            step=s.TEXT,
            transactions=s.listed(
                s.shape(
                    txid=s.nullable(s.hexadecimal(32)),
                    fee=_SATOSHIS,
                    price=_SATOSHIS,
                    made_at=s.COUNT,
                    cancels=s.TRUTH,
                    refusal=s.nullable(s.TEXT),
                )
            ),
        )
    ),
    history=s.listed(s.shape(time=s.COUNT, says=s.TEXT)),
)
_NOTHING = Body("An empty object.", s.shape())
_REFUSALS = (
    Refusal.BAD_NAME,
    Refusal.BAD_DATA,
    Refusal.TOO_LARGE,
    Refusal.NEEDS_TOKEN,
    Refusal.NOT_POSSIBLE,
    Refusal.NODE_AWAY,
)
ROUTES = RouteTable(refusals=_REFUSALS, of_block=False, secret=True)
JOBS = RouteTable(
    refusals=(*_REFUSALS, Refusal.NO_SUCH_JOB), of_block=False, of_present=False, secret=True
)


# --- what is answered


def _desk(asked: Asked) -> Desk:
    desk: Desk | None = asked.behind.desk
    if desk is None:
        raise Refused(
            Refusal.NOT_POSSIBLE,
            "this blockstored registers nothing: it follows no Bitcoin node of its own",
            "ask another one",
        )
    return desk


@ROUTES.post(
    "/v1/registrar/plan", reply=_PLAN, body=Body("The order.", s.shape(_ORDER, wish=_WISH))
)
async def plan(asked: Asked) -> Told:
    """What would be done for a wish, and what it costs; nothing is done."""
    return Told(await _desk(asked).plan(read_order(_members(asked.body), asked.behind.zones)))


@ROUTES.post(
    "/v1/registrar/jobs",
    reply=_JOB,
    body=Body("The order.", s.shape(_ORDER, wish=_WISH, max_total=_SATOSHIS)),
)
async def begin(asked: Asked) -> Told:
    """Begin it, for at most `max_total` satoshis."""
    members = _members(asked.body)
    most = members.pop("max_total", None)
    if not isinstance(most, int) or isinstance(most, bool) or not 0 <= most <= MAX_PAID:
        raise _bad("max_total is the total of the plan that was agreed to, in satoshis")
    return Told(await _desk(asked).begin(read_order(members, asked.behind.zones), most))


@ROUTES.get(
    "/v1/registrar/jobs",
    reply=s.shape(jobs=s.listed(_JOB, PAGE)),
    query=(p.ALL_JOBS, p.PAGE),
    of_present=False,
)
async def jobs(asked: Asked) -> Told:
    """What was begun; `all`: also what has ended."""
    page = asked["page"] or 0
    found = list(await _desk(asked).jobs(asked["all"], page * PAGE, PAGE + 1))
    every = "all=true&" if asked["all"] else ""
    further = f"{asked.path}?{every}page={page + 1}" if len(found) > PAGE else ""
    return Told({"jobs": found[:PAGE]}, next=further)


@JOBS.get("/v1/registrar/jobs/{job}", reply=_JOB)
async def job(asked: Asked) -> Told:
    """How one of them is."""
    return Told(await _desk(asked).job(asked["job"]))


@JOBS.post("/v1/registrar/jobs/{job}/resume", reply=_JOB, body=_NOTHING)
async def resume(asked: Asked) -> Told:
    """Go on with it now."""
    _members(asked.body)
    return Told(await _desk(asked).resume(asked["job"]))


@JOBS.post("/v1/registrar/jobs/{job}/consent", reply=_JOB, body=_NOTHING)
async def consent(asked: Asked) -> Told:
    """Agree that a payment which was lost is made anew."""
    _members(asked.body)
    return Told(await _desk(asked).consent(asked["job"]))


@JOBS.post("/v1/registrar/jobs/{job}/abandon", reply=_JOB, body=_NOTHING)
async def abandon(asked: Asked) -> Told:
    """Give it up; what is not mined yet is taken back."""
    _members(asked.body)
    return Told(await _desk(asked).abandon(asked["job"]))


@JOBS.post(
    "/v1/registrar/jobs/{job}/continue",
    reply=_JOB,
    body=Body("The PSBT, in base64.", s.shape(psbt=s.TEXT)),
)
async def hand_in(asked: Asked) -> Told:
    """Hand in the signed PSBT that it waits for."""
    members = _members(asked.body)
    psbt = members.pop("psbt", None)
    if members or not isinstance(psbt, str) or len(psbt) > MAX_PSBT:
        raise _bad('the body is {"psbt": "..."}, in base64')
    return Told(await _desk(asked).hand_in(asked["job"], psbt))


@ROUTES.get(
    "/v1/registrar/names",
    reply=s.shape(names=s.listed(s.named("Ending"), PAGE)),
    query=(p.EXPIRING, p.PAGE, p.WITHIN),
)
async def owned_names(asked: Asked) -> Told:
    """The names that the signer of this node owns, with their ends."""
    seen, days = asked.seen, asked["expiring"]
    last = None if days is None else within(seen, days)
    told = [end_json(seen, name) for name in await _desk(asked).owned()]
    ends = [one for one in told if last is None or (one["expire_block"] or last + 1) <= last]
    if asked["namespace"] is not None:
        ends = [one for one in ends if one["name"].endswith(f".{asked['namespace']}")]
    never, page = float("inf"), asked["page"] or 0
    ends.sort(key=lambda one: (one["expire_block"] or never, one["name"]))
    given = {"expiring": days, "namespace": asked["namespace"], "page": page + 1}
    query = urlencode({key: value for key, value in given.items() if value is not None})
    further = f"{asked.path}?{query}" if len(ends) > (page + 1) * PAGE else ""
    return Told({"names": ends[page * PAGE : (page + 1) * PAGE]}, next=further)


# --- bodies


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _bad("the body is no JSON object")
    return found


def read_order(members: Mapping[str, Any], zones: Zones) -> Order:
    """The order in the body of a request. Raises ``Refused``."""
    left = dict(members)
    wish = left.pop("wish", None)
    if not isinstance(wish, dict):
        raise _bad('"wish" is an object, such as {"wish": "register", "name": "alice.id"}')
    if isinstance(wish.get("name"), str):
        wish = {**wish, "name": chain_name(wish["name"], zones)}
    if isinstance(wish.get("namespace_id"), str):
        wish = {**wish, "namespace_id": namespace_id(wish["namespace_id"])}
    encoded = left.pop("data_base64", None)
    raw = left.pop("raw", False)
    fee_rate = left.pop("fee_rate", None)
    payer = left.pop("payer", None)
    signer = left.pop("signer", None)
    scripts = left.pop("addresses", [])
    redeem_scripts = left.pop("redeem_scripts", [])
    if left:
        raise _bad(f"an order has no member {sorted(left)[0][:40]!r}")
    if not isinstance(raw, bool):
        raise _bad('"raw" is true or false')
    if signer not in (None, "offline"):
        raise _bad('"signer" is "offline", or left away')
    if payer is not None and not isinstance(payer, str):
        raise _bad('"payer" is an address')
    is_number = isinstance(fee_rate, int | float) and not isinstance(fee_rate, bool)
    if fee_rate is not None and not (is_number and 0.1 <= fee_rate <= 100_000):
        raise _bad('"fee_rate" is a number of satoshis a byte, from 0.1 on')
    return Order(
        wish,
        None if encoded is None else _base64(encoded),
        None if fee_rate is None else float(fee_rate),
        payer,
        signer == "offline",
        tuple(_texts(scripts, "addresses")),
        tuple(map(_hex, _texts(redeem_scripts, "redeem_scripts"))),
        raw,
    )


def _base64(text: object) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise _bad('"data_base64" is no base64') from None


def _texts(value: object, member: str) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_SCRIPTS:
        raise _bad(f'"{member}" is a list of at most {MAX_SCRIPTS}')
    if not all(isinstance(one, str) and len(one) <= 2_000 for one in value):
        raise _bad(f'"{member}" holds text')
    return value


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise _bad('"redeem_scripts" are in hex') from None


def _bad(sentence: str) -> Refused:
    return Refused(Refusal.BAD_REQUEST, sentence, "see /v1/openapi.json")
