"""The commands that pay, before a daemon that only remembers: what they ask, where they stop."""

import base64
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from resolver import refusals
from resolver.blockstore_cli import cli
from resolver.cli import agreeing, asking
from resolver.cli import waiting as cli_waiting
from resolver.cli.asking import Daemon
from resolver.cli.which_daemon import AtPort
from resolver.refusals import Refusal

ZONE = b"$TTL 300\n@ A 192.0.2.1\n"
PLAN = {"plan": {"total": 5365}, "text": ["To register alice.id:", "It costs 5,365 satoshis."]}
JOB: dict[str, Any] = {
    "id": "abcdef0123",
    "wish": {"wish": "register", "name": "alice.id"},
    "subject": "alice.id",
    "state": "running",
    "note": "the preorder waits for a block",
    "signer": "own",
    "created": 1,
    "steps": [],
    "history": [],
}
EMPTY = (404, {"error": "no data", "code": "no_data", "hint": ""})


class Remembered(Daemon):
    """Answers what it was told to, and remembers what it was asked."""

    asked: list[tuple[str, str, Any, bool]]
    holds: tuple[int, Any]
    states: list[dict[str, Any]]

    def try_asking(
        self, method: str, path: str, body: bytes | None, *, secret: bool = False
    ) -> tuple[int, Any]:
        self.asked.append((method, path, None if body is None else json.loads(body), secret))
        if path.startswith("/v1/lookup/"):
            return self.holds
        if path == "/v1/info":
            return 200, {"zones": {"bs": "id", "podcast.example.net": "podcast"}}
        if path == "/v1/registrar/plan":
            return 200, PLAN
        if path.startswith("/v1/registrar/jobs") and method == "GET" and "/jobs/" not in path:
            first = 100 * int(path.partition("page=")[2] or 0)
            return 200, {"jobs": self.states[first : first + 100]}
        return 200, self.states.pop(0) if len(self.states) > 1 else self.states[0]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Remembered:
    made = Remembered(AtPort("127.0.0.1", 1), 1.0)
    made.asked, made.holds, made.states = [], EMPTY, [JOB]
    monkeypatch.setattr("resolver.blockstore_cli.Daemon", lambda *_: made)
    monkeypatch.setattr(cli_waiting, "POLL", 0.0)
    return made


def run(*words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli, words, input=typed)


@pytest.fixture
def zone(tmp_path: Path) -> str:
    (tmp_path / "zone").write_bytes(ZONE)
    return str(tmp_path / "zone")


def orders(daemon: Remembered) -> list[tuple[str, Any]]:
    """(path, body) of what was asked with the token."""
    return [(path, body) for _, path, body, secret in daemon.asked if secret]


def test_the_plan_is_shown_and_agreed_to_and_its_total_is_the_most_that_is_paid(daemon, zone):
    result = run("register", "alice", zone, "--yes")
    assert result.exit_code == 0
    assert "It costs 5,365 satoshis." in result.stderr
    order = {
        "wish": {"wish": "register", "name": "alice"},
        "data_base64": base64.b64encode(ZONE).decode(),
    }
    assert orders(daemon) == [
        ("/v1/registrar/plan", order),
        ("/v1/registrar/jobs", {**order, "max_total": 5365}),
    ]
    assert json.loads(result.stdout)["id"] == "abcdef0123"


def test_a_dry_run_begins_nothing(daemon, zone):
    result = run("register", "alice", zone, "--dry-run")
    assert json.loads(result.stdout) == PLAN
    assert [path for path, _ in orders(daemon)] == ["/v1/registrar/plan"]


def test_ctrl_c_at_the_question_is_a_no(daemon, monkeypatch):
    def leave(*_: object, **__: object) -> bool:
        raise click.Abort

    monkeypatch.setattr(agreeing, "is_somebody_here", lambda: True)
    monkeypatch.setattr(click, "confirm", leave)
    result = run("register", "alice")
    assert result.exit_code == 17
    assert "nothing was paid" in result.stderr
    assert [path for path, _ in orders(daemon)] == ["/v1/registrar/plan"]


def test_ctrl_c_while_the_daemon_begins_says_where_to_look(daemon, monkeypatch):
    ask = Remembered.try_asking

    def answer(self: Remembered, method: str, path: str, *rest: Any, **more: Any) -> Any:
        if path == "/v1/registrar/jobs":
            raise KeyboardInterrupt
        return ask(self, method, path, *rest, **more)

    monkeypatch.setattr(Remembered, "try_asking", answer)
    result = run("register", "alice", "--yes")
    assert result.exit_code == 130
    assert " pending` for whether it was begun" in result.stderr


def test_without_somebody_to_agree_nothing_is_begun(daemon):
    result = run("register", "alice")
    assert result.exit_code == 2
    assert "nobody is here to agree" in result.stderr
    assert [path for path, _ in orders(daemon)] == ["/v1/registrar/plan"]


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        (("transfer", "alice", "mA", "--drop-data"),
         {"wish": "transfer", "name": "alice", "recipient": "mA", "keep_data": False}),
        (("renew", "alice", "--max-price", "5"),
         {"wish": "renew", "name": "alice", "max_price": 5}),
        (("revoke", "alice.id"), {"wish": "revoke", "name": "alice.id"}),
        (("namespace-preorder", "space", "mR"),
         {"wish": "namespace-preorder", "namespace_id": "space", "revealer": "mR"}),
        (("namespace-ready", "space"), {"wish": "namespace-ready", "namespace_id": "space"}),
        (("announce", "0" * 40), {"wish": "announce", "message_hash": "0" * 40}),
        (("namespace-reveal", "space", "mR"), {
            "wish": "namespace-reveal", "namespace_id": "space", "revealer": "mR",
            "lifetime": 52_595, "coeff": 250, "base": 4,
            "buckets": [6, 5, 4, 3, 2, 1] + [0] * 10,
            "nonalpha_discount": 10, "no_vowel_discount": 10, "version": 1}),
    ],
)  # fmt: skip
def test_each_command_says_its_wish(daemon, words, wish):
    assert run(*words, "--yes", "--fee-rate", "3").exit_code == 0
    assert orders(daemon)[0] == ("/v1/registrar/plan", {"wish": wish, "fee_rate": 3.0})


def test_data_goes_as_it_is_and_says_whether_it_is_meant_so(daemon, tmp_path):
    (tmp_path / "data").write_bytes(b"just words")
    for words in (("register", "alice"), ("renew", "alice"), ("import", "alice", "mA")):
        for raw in ((), ("--raw",)):
            daemon.asked.clear()
            assert run(*words, str(tmp_path / "data"), "--yes", *raw).exit_code == 0
            body = orders(daemon)[0][1]
            assert base64.b64decode(body["data_base64"]) == b"just words"
            assert body.get("raw", False) is bool(raw)


@pytest.mark.parametrize(
    ("content", "code", "why"),
    [(b"", 2, "is empty"), (b"x" * 40_961, 13, "more than 40960 bytes")],
)
def test_data_that_no_name_can_hold_is_refused(daemon, tmp_path, content, code, why):
    (tmp_path / "data").write_bytes(content)
    refused = run("register", "alice", str(tmp_path / "data"), "--yes", "--raw")
    assert refused.exit_code == code
    assert why in refused.stderr
    assert daemon.asked == []


@pytest.mark.parametrize(
    "command", [("register", "alice"), ("update", "alice"), ("renew", "alice")]
)
def test_whether_data_is_meant_as_it_is_goes_with_the_order(daemon, tmp_path, command):
    (tmp_path / "zone").write_bytes(b"\xff")
    assert run(*command, str(tmp_path / "zone"), "--yes", "--raw").exit_code == 0
    assert orders(daemon)[0][1]["raw"] is True
    assert orders(daemon)[-1][1]["raw"] is True
    (tmp_path / "zone").write_bytes(ZONE)
    assert run(*command, str(tmp_path / "zone"), "--yes").exit_code == 0
    assert "raw" not in orders(daemon)[-1][1]


def test_an_update_shows_what_changes(daemon):
    daemon.holds = (200, {"data": ZONE.decode()})
    result = run("update", "alice", "--record", "www A 192.0.2.2", "--yes")
    assert "+www A 192.0.2.2" in result.stderr
    body = orders(daemon)[0][1]
    assert base64.b64decode(body["data_base64"]) == ZONE + b"www A 192.0.2.2\n"


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ((), 2, "an update takes a FILE"),
        (("--delete", "www"), 19, "nothing to delete"),
        (("--record", "www A nonsense"), 19, "is no record"),
    ],
)
def test_an_update_that_changes_nothing_sensible_is_refused(daemon, words, code, why):
    daemon.holds = (200, {"data": ZONE.decode()})
    refused = run("update", "alice", *words, "--yes")
    assert refused.exit_code == code
    assert why in refused.stderr
    assert orders(daemon) == []


def test_an_update_to_the_same_data_costs_nothing(daemon, zone):
    daemon.holds = (200, {"data": ZONE.decode()})
    refused = run("update", "alice", zone, "--yes")
    assert refused.exit_code == 2
    assert "holds this very data already" in refused.stderr


def test_a_name_without_data_gets_its_first_record(daemon):
    run("update", "alice", "--record", "@ A 192.0.2.2", "--yes")
    body = orders(daemon)[0][1]
    assert base64.b64decode(body["data_base64"]).endswith(b"@ A 192.0.2.2\n")


def test_with_wait_it_stays_until_it_is_done_and_says_each_step_once(daemon, zone):
    later, done = {**JOB, "note": "the register waits"}, {**JOB, "state": "done"}
    daemon.states = [JOB, JOB, later, done]
    result = run("register", "alice", zone, "--yes", "--wait")
    assert result.exit_code == 0
    assert result.stderr.count("the preorder waits") == 1
    assert result.stderr.count("the register waits") == 1
    assert json.loads(result.stdout)["state"] == "done"


@pytest.mark.parametrize("state", ["failed", "needs-consent", "abandoned"])
def test_what_did_not_go_well_has_an_exit_code_of_its_own(daemon, zone, state):
    daemon.states = [{**JOB, "state": state, "note": "somebody else was faster"}]
    assert run("register", "alice", zone, "--yes", "--wait").exit_code == 18


def test_a_psbt_is_written_out_with_what_to_do_next(daemon, zone, tmp_path):
    waiting = {**JOB, "state": "waiting-for-signature", "psbt": "cHNidA=="}
    daemon.states = [waiting]
    file = tmp_path / "out.psbt"
    result = run("register", "alice", zone, "--yes", "--payer", "mA", "--psbt", str(file))
    assert file.read_text() == "cHNidA==\n"
    assert f"continue abcdef0123 {file}" in result.stderr
    assert orders(daemon)[0][1]["signer"] == "offline"


def test_a_signed_psbt_is_handed_in_as_text_whatever_its_form(daemon, tmp_path):
    file = tmp_path / "signed.psbt"
    for content in (b"psbt\xff\x00", base64.b64encode(b"psbt\xff\x00") + b"\n"):
        file.write_bytes(content)
        daemon.asked.clear()
        assert run("continue", "abcdef0123", str(file)).exit_code == 0
        path, body = orders(daemon)[0]
        assert path == "/v1/registrar/jobs/abcdef0123/continue"
        assert base64.b64decode(body["psbt"]) == b"psbt\xff\x00"


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("resume", "abcdef0123"), "/v1/registrar/jobs/abcdef0123/resume"),
        (("resume", "abcdef0123", "--consent"), "/v1/registrar/jobs/abcdef0123/consent"),
        (("abandon", "abcdef0123"), "/v1/registrar/jobs/abcdef0123/abandon"),
    ],
)
def test_what_was_begun_is_gone_on_with(daemon, words, path):
    assert run(*words).exit_code == 0
    assert orders(daemon)[0] == (path, {})


def test_when_the_daemon_goes_away_meanwhile_what_was_begun_is_said_to_go_on(daemon, monkeypatch):
    def gone(self: Daemon, path: str, *, secret: bool = False) -> Any:
        asking.fail(3, "blockstored does not run there", "start it")

    monkeypatch.setattr(Remembered, "get", gone)
    result = run("resume", "abcdef0123", "--wait")
    assert result.exit_code == 3
    assert "abcdef0123 is written down; blockstored goes on with it" in result.stderr


def test_pending_says_what_each_waits_for(daemon):
    shown = run("pending", "--human").stdout
    assert "abcdef0123  register  alice.id  running" in shown
    assert "the preorder waits for a block" in shown
    daemon.states = []
    assert run("pending", "--human").stdout == "Nothing is pending.\n"


def test_pending_lists_all_of_very_many(daemon):
    daemon.states = [{**JOB, "id": f"job{number:06}"} for number in range(200)]
    assert json.loads(run("pending", "--all").stdout) == {"jobs": daemon.states}


@pytest.mark.parametrize("typed", ["alice", "alice.id", "Alice.BS.", "ALICE"])
@pytest.mark.parametrize(("deed", "asked"), [("resume", "resume"), ("abandon", "abandon")])
def test_what_was_begun_is_meant_by_its_name_too(daemon, deed, asked, typed):
    run(deed, typed)
    assert orders(daemon)[-1][0] == f"/v1/registrar/jobs/abcdef0123/{asked}"


def test_a_name_of_no_job_and_of_two_is_told(daemon):
    assert run("abandon", "bob").exit_code == Refusal.NO_SUCH_JOB.exit_code
    daemon.states = [JOB, {**JOB, "id": "0123456789"}]
    result = run("abandon", "alice")
    assert result.exit_code == refusals.USAGE
    assert "abcdef0123, 0123456789" in result.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("alice", "alice.id"),
        ("Alice.BS.", "alice.id"),
        ("show.podcast.example.net", "show.podcast"),
    ],
)
def test_a_name_is_meant_as_the_daemons_zones_have_it(daemon, typed, meant):
    daemon.holds = (200, {"data": ZONE.decode()})
    shown = run("update", typed, "--record", "www A 192.0.2.2", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert orders(daemon)[0][1]["wish"]["name"] == meant
    assert f"/v1/lookup/{meant}" in [path for _, path, _, _ in daemon.asked]
