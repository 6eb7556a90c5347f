"""The calls that pay: only for who has the token, only as documented, and refused in sentences."""

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from resolver.api import registrar as rest_registrar
from resolver.api.orders import AgreedOrder, Order
from resolver.api.pages import Page, Pages
from resolver.api.registrar import JOBS, ROUTES
from resolver.refusals import Refusal, Refused
from tests.resolver.api.fakes import SWIFT, World

ADDRESS = "mxzdcdKBCT5sDhacGSBybbgBXXZg2jSg1Z"
WISH = {"wish": "register", "name": "alice.id"}
JOB: dict[str, Any] = {
    "id": "abc123",
    "wish": WISH,
    "subject": "alice.id",
    "state": "running",
    "note": "it begins",
    "signer": "own",
    "created": 1,
    "steps": [],
    "history": [],
}


class Desk:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.begun = 1

    async def plan(self, order: Order) -> dict[str, Any]:
        self.told.append(("plan", order))
        return {"plan": {"total": 5}, "text": ["to register alice.id"]}

    async def begin(self, order: Order, max_total: int) -> dict[str, Any]:
        self.told.append(("begin", order, max_total))
        return JOB

    async def jobs(self, everything: bool, first: int, count: int) -> list[dict[str, Any]]:
        self.told.append(("jobs", everything, first))
        every = [{**JOB, "id": f"job{number:06}"} for number in range(self.begun)]
        return every[first : first + count]

    async def job(self, job_id: str) -> dict[str, Any]:
        if job_id != JOB["id"]:
            raise Refused(Refusal.NO_SUCH_JOB, f"nothing {job_id!r} was begun here")
        return JOB

    async def hand_in(self, job_id: str, psbt: str) -> dict[str, Any]:
        self.told.append(("hand_in", job_id, psbt))
        return JOB

    async def owned(self) -> list[str]:
        return ["swiftonsecurity.id", "late.id"]

    def __getattr__(self, deed: str) -> Any:
        async def do(job_id: str) -> dict[str, Any]:
            self.told.append((deed, job_id))
            return JOB

        return do


@pytest.fixture
def desk() -> Desk:
    return Desk()


def ask(
    desk: Desk | None, method: str, path: str, body: Any = b"", *, may_pay: bool = True
) -> Page:
    behind = replace(World().pages().behind, registrar=desk)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(Pages(behind).reply(method, path, content, may_pay=may_pay))


@pytest.mark.parametrize("route", [*ROUTES.all, *JOBS.all], ids=lambda route: route.operation)
def test_whoever_may_not_pay_is_answered_nothing(desk, route):
    path = route.paths[0].replace("{job}", "abc123")
    page = ask(desk, route.method, path, {"wish": WISH, "max_total": 5}, may_pay=False)
    assert (page.status, page.body["code"]) == (401, "needs_token")
    assert page.headers["WWW-Authenticate"] == "Bearer"
    assert desk.told == []


def test_where_nobody_may_pay_that_is_said():
    page = ask(None, "POST", "/v1/registrar/plan", {"wish": WISH})
    assert (page.status, page.body["code"]) == (409, "not_possible")
    assert "registers nothing" in page.body["error"]


def test_an_order_is_read_whole(desk):
    body = {
        "wish": WISH,
        "data_base64": base64.b64encode(SWIFT).decode(),
        "fee_rate": 3,
        "payer": "mxzdcdKBCT5sDhacGSBybbgBXXZg2jSg1Z",
        "signer": "offline",
        "addresses": ["mqRNVukH8RswqfAR3YLMoR4LW6HSPLYvxD"],
        "redeem_scripts": ["51ae"],
        "raw": True,
    }
    assert ask(desk, "POST", "/v1/registrar/plan", body).status == 200
    assert desk.told == [
        (
            "plan",
            Order(
                WISH,
                SWIFT,
                3.0,
                "mxzdcdKBCT5sDhacGSBybbgBXXZg2jSg1Z",
                "offline",
                ("mqRNVukH8RswqfAR3YLMoR4LW6HSPLYvxD",),
                (b"\x51\xae",),
                True,
            ),
        )
    ]


def test_it_is_begun_for_at_most_what_was_agreed_to(desk):
    page = ask(desk, "POST", "/v1/registrar/jobs", {"wish": WISH, "max_total": 5365})
    assert page.body == JOB
    assert desk.told == [("begin", AgreedOrder(WISH, max_total=5365), 5365)]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", '"wish" of the body: Field required'),
        (b"[]", "the body: Input should be an object"),
        (b"{", "the body: Invalid JSON"),
        (b"[" * 5000, "recursion limit"),
        ({"wish": "register"}, '"wish" of the body: Input should be an object'),
        ({"wish": WISH, "key": "x"}, '"key" of the body: Unexpected'),
        ({"wish": WISH, "data_base64": "?"}, "no base64"),
        ({"wish": WISH, "data_base64": 5}, "no base64"),
        ({"wish": WISH, "fee_rate": "5"}, '"fee_rate" of the body: Input should be a valid number'),
        ({"wish": WISH, "fee_rate": True}, "a valid number"),
        ({"wish": WISH, "fee_rate": 0}, "greater than or equal to 0.1"),
        ({"wish": WISH, "payer": 5}, '"payer" of the body'),
        ({"wish": WISH, "signer": "me"}, "offline"),
        ({"wish": WISH, "addresses": "m"}, "a valid array"),
        ({"wish": WISH, "addresses": ["m"] * 17}, "at most 16 items"),
        (
            {"wish": WISH, "addresses": [5]},
            '"addresses.0" of the body: Input',
        ),
        ({"wish": WISH, "redeem_scripts": ["zz"]}, "no hex"),
    ],
)
def test_a_body_that_says_something_else_is_refused(desk, body, why):
    page = ask(desk, "POST", "/v1/registrar/plan", body)
    assert (page.status, page.body["code"]) == (400, "bad_request")
    assert why in page.body["error"]
    assert desk.told == []


@pytest.mark.parametrize("most", [None, "5", -1, True, 5.0, 21 * 10**14 + 1])
def test_without_a_total_nothing_is_begun(desk, most):
    page = ask(desk, "POST", "/v1/registrar/jobs", {"wish": WISH, "max_total": most})
    assert page.status == 400
    assert "max_total" in page.body["error"]


@pytest.mark.parametrize(
    "path", ["jobs/abc123/resume", "jobs/abc123/consent", "jobs/abc123/abandon"]
)
def test_a_body_where_none_is_wanted_is_refused(desk, path):
    assert ask(desk, "POST", f"/v1/registrar/{path}", {"psbt": "x"}).status == 400
    assert desk.told == []


@pytest.mark.parametrize("deed", ["resume", "consent", "abandon"])
def test_what_was_begun_is_gone_on_with_by_its_id(desk, deed):
    assert ask(desk, "POST", f"/v1/registrar/jobs/abc123/{deed}").body == JOB
    assert desk.told == [(deed, "abc123")]


def test_a_signed_psbt_is_handed_in(desk):
    path = "/v1/registrar/jobs/abc123/continue"
    assert ask(desk, "POST", path, {"psbt": "cHNidA=="}).body == JOB
    assert desk.told == [("hand_in", "abc123", "cHNidA==")]
    for body in ({}, {"psbt": 5}, {"psbt": "x", "more": 1}, {"psbt": "x" * 400_001}):
        assert ask(desk, "POST", path, body).status == 400


def test_jobs_are_listed_and_shown(desk):
    assert ask(desk, "GET", "/v1/registrar/jobs?all=true").body == {
        "jobs": [{**JOB, "id": "job000000"}]
    }
    assert desk.told == [("jobs", True, 0)]
    assert ask(desk, "GET", "/v1/registrar/jobs/abc123").body == JOB
    assert ask(desk, "GET", "/v1/registrar/jobs/nothere").body["code"] == "no_such_job"
    assert ask(desk, "GET", "/v1/registrar/jobs/..%2f").status == 400


def test_the_signers_names_come_with_their_ends_the_soonest_first(desk):
    names = ask(desk, "GET", "/v1/registrar/names").body["names"]
    assert [(one["name"], one["phase"]) for one in names] == [
        ("late.id", "grace"),
        ("swiftonsecurity.id", "live"),
    ]
    assert names[0]["expire_block"] is not None


def test_many_jobs_come_in_pages(desk):
    desk.begun, path, found = 250, "/v1/registrar/jobs?all=true", []
    while path:
        page = ask(desk, "GET", path)
        assert len(page.body["jobs"]) <= 100
        found += page.body["jobs"]
        path = page.headers.get("Link", "").removesuffix('>; rel="next"').removeprefix("<")
    assert [job["id"] for job in found] == [f"job{number:06}" for number in range(250)]


def test_owned_names_come_in_pages_and_by_namespace(desk, monkeypatch):
    names = [f"name{number:03}.id" for number in range(120)] + ["a.other"]

    async def owned() -> list[str]:
        return names

    def end(seen: Any, name: str) -> dict[str, Any]:
        ends = {"expire_block": 5_000, "renewal_deadline": 6_000, "phase": "live"}
        days = {"expires_about": "2026-11-23", "gone_about": "2026-11-24"}
        return {"name": name, "address": ADDRESS, **ends, **days}

    monkeypatch.setattr(desk, "owned", owned, raising=False)
    monkeypatch.setattr(rest_registrar, "end_json", end)
    first = ask(desk, "GET", "/v1/registrar/names?namespace=id")
    assert [one["name"] for one in first.body["names"]] == names[:100]
    assert "page=1&namespace=id" in first.headers["Link"]
    second = ask(desk, "GET", "/v1/registrar/names?namespace=id&page=1")
    assert [one["name"] for one in second.body["names"]] == names[100:120]
    assert "Link" not in second.headers


def test_what_is_told_of_jobs_is_not_kept_by_caches(desk):
    page = ask(desk, "GET", "/v1/registrar/jobs")
    assert "ETag" not in page.headers
