"""The calls of the HTTP API that pay, and those that tell what was paid: for the daemon's own user.

What must stay true: a body says exactly what is known here, or is refused; nothing is begun without
the total that was agreed to; no reply holds a key, and none goes to anybody else.
"""

from collections.abc import Sequence
from typing import Protocol

from indexer.table.pages import PAGE
from resolver.api import parameters as p
from resolver.api import schemas as s
from resolver.api.job_shapes import JOB
from resolver.api.lists import within
from resolver.api.orders import (
    AgreedOrder,
    Nothing,
    Order,
    Payment,
    Signed,
    read_body,
    read_order,
    schema_of,
)
from resolver.api.request import Asked, Json, Told
from resolver.api.routes import Body, RouteTable
from resolver.api.shapes import end_json
from resolver.refusals import Refusal, Refused


class Registrar(Protocol):
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
    async def address(self) -> str: ...
    async def pay(self, payment: Payment) -> Json: ...


# --- what is promised


_PLAN: s.Schema = s.shape(plan={"type": "object"}, text=s.listed(s.TEXT))
_NOTHING = Body("An empty object.", schema_of(Nothing))
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


def _registrar(asked: Asked) -> Registrar:
    registrar: Registrar | None = asked.behind.registrar
    if registrar is None:
        raise Refused(
            Refusal.NOT_POSSIBLE,
            "this blockstored registers nothing: it follows no Bitcoin node of its own",
            "ask another one",
        )
    return registrar


@ROUTES.post("/v1/registrar/plan", reply=_PLAN, body=Body("The order.", schema_of(Order)))
async def plan(asked: Asked) -> Told:
    """What would be done for a wish, and what it costs; nothing is done."""
    return Told(await _registrar(asked).plan(read_order(Order, asked.body, asked.behind.zones)))


@ROUTES.post("/v1/registrar/jobs", reply=JOB, body=Body("The order.", schema_of(AgreedOrder)))
async def begin(asked: Asked) -> Told:
    """Begin it, for at most `max_total` satoshis."""
    order = read_order(AgreedOrder, asked.body, asked.behind.zones)
    return Told(await _registrar(asked).begin(order, order.max_total))


@ROUTES.get(
    "/v1/registrar/jobs",
    reply=s.shape(jobs=s.listed(JOB, PAGE)),
    query=(p.ALL_JOBS, p.PAGE),
    of_present=False,
)
async def jobs(asked: Asked) -> Told:
    """What was begun; `all`: also what has ended."""
    number = asked["page"] or 0
    found = await _registrar(asked).jobs(asked["all"], number * PAGE, PAGE + 1)
    further = asked.page_numbered(number + 1) if len(found) > PAGE else ""
    return Told({"jobs": found[:PAGE]}, next=further)


@JOBS.get("/v1/registrar/jobs/{job}", reply=JOB)
async def job(asked: Asked) -> Told:
    """How one of them is."""
    return Told(await _registrar(asked).job(asked["job"]))


@JOBS.post("/v1/registrar/jobs/{job}/resume", reply=JOB, body=_NOTHING)
async def resume(asked: Asked) -> Told:
    """Go on with it now."""
    read_body(Nothing, asked.body)
    return Told(await _registrar(asked).resume(asked["job"]))


@JOBS.post("/v1/registrar/jobs/{job}/consent", reply=JOB, body=_NOTHING)
async def consent(asked: Asked) -> Told:
    """Agree that a payment which was lost is made anew."""
    read_body(Nothing, asked.body)
    return Told(await _registrar(asked).consent(asked["job"]))


@JOBS.post("/v1/registrar/jobs/{job}/abandon", reply=JOB, body=_NOTHING)
async def abandon(asked: Asked) -> Told:
    """Give it up; what is not mined yet is taken back."""
    read_body(Nothing, asked.body)
    return Told(await _registrar(asked).abandon(asked["job"]))


@JOBS.post(
    "/v1/registrar/jobs/{job}/continue",
    reply=JOB,
    body=Body("The PSBT, in base64.", schema_of(Signed)),
)
async def hand_in(asked: Asked) -> Told:
    """Hand in the signed PSBT that it waits for."""
    signed = read_body(Signed, asked.body)
    return Told(await _registrar(asked).hand_in(asked["job"], signed.psbt))


@ROUTES.get(
    "/v1/registrar/names",
    reply=s.shape(names=s.listed(s.named("Ending"), PAGE)),
    query=(p.EXPIRING, p.PAGE, p.WITHIN),
)
async def owned_names(asked: Asked) -> Told:
    """The names that the signer of this node owns, with their ends."""
    seen, days = asked.seen, asked["expiring"]
    last = None if days is None else within(seen, days)
    told = [end_json(seen, name) for name in await _registrar(asked).owned()]
    ends = [one for one in told if last is None or (one["expire_block"] or last + 1) <= last]
    if asked["namespace"] is not None:
        ends = [one for one in ends if one["name"].endswith(f".{asked['namespace']}")]
    never = float("inf")
    ends.sort(key=lambda one: (one["expire_block"] or never, one["name"]))
    names, further = asked.page_of(ends)
    return Told({"names": names}, next=further)


@ROUTES.post(
    "/v1/registrar/address",
    reply=s.shape(address=p.ADDRESS.schema),
    body=_NOTHING,
    of_present=False,
)
async def fresh_address(asked: Asked) -> Told:
    """An address of whoever signs here, to be paid into; a fresh one each time."""
    read_body(Nothing, asked.body)
    return Told({"address": await _registrar(asked).address()})


@ROUTES.post(
    "/v1/registrar/payments",
    reply=s.shape({"txid": s.hexadecimal(32)}, plan={"type": "object"}, text=s.listed(s.TEXT)),
    body=Body("The payment.", schema_of(Payment)),
)
async def pay(asked: Asked) -> Told:
    """An ordinary payment: planned, or sent where `max_total` agrees to its total."""
    return Told(await _registrar(asked).pay(read_body(Payment, asked.body)))
