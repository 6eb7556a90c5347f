"""`blockstore-cli address` and `pay`: shown and agreed to before anything is sent."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from resolver.blockstore_cli import cli
from resolver.cli.asking import Daemon

PLAN = {"plan": {"total": 50_330}, "text": ["To pay 50,000 satoshis to mA:"]}
Asked = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found: Asked = []

    def order(_: Daemon, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found.append((path, body))
        if path.endswith("/address"):
            return {"address": "mFresh"}
        return {**PLAN, "txid": "ab" * 32} if "max_total" in body else PLAN

    monkeypatch.setattr(Daemon, "order", order)
    return found


def run(*words: str, typed: str | None = None) -> Any:
    return CliRunner().invoke(cli, words, input=typed)


def test_an_address_is_printed_alone_for_people(asked: Asked) -> None:
    assert run("--human", "address").stdout == "mFresh\n"
    assert json.loads(run("--json", "address").stdout) == {"address": "mFresh"}


@pytest.mark.parametrize(
    ("amount", "satoshis"),
    [("50000", 50_000), ("0.0005btc", 50_000), ("1BTC", 10**8), ("1e3", 1_000)],
)
def test_a_payment_is_sent_for_the_total_that_was_shown(asked: Asked, amount, satoshis) -> None:
    paid = run("--human", "pay", "mA", amount, "--yes", "--fee-rate", "3")
    assert paid.exit_code == 0, paid.output
    assert "To pay 50,000 satoshis to mA:" in paid.stderr
    assert paid.stdout == f"paid by {'ab' * 32}\n"
    body = {"address": "mA", "satoshis": satoshis, "fee_rate": 3.0}
    path = "/v1/registrar/payments"
    assert asked == [(path, body), (path, {**body, "max_total": 50_330})]


def test_without_agreement_and_in_a_dry_run_nothing_is_sent(asked: Asked) -> None:
    assert run("pay", "mA", "50000").exit_code == 2
    assert run("pay", "mA", "50000", "--dry-run").exit_code == 0
    assert all("max_total" not in body for _, body in asked)


@pytest.mark.parametrize("amount", ["0", "-5", "1.5", "nan", "inf", "0.000000001btc", "3e15", ""])
def test_what_is_no_amount_is_a_wrong_command_line(asked: Asked, amount) -> None:
    assert (run("pay", "mA", "--yes", "--", amount).exit_code, asked) == (2, [])
