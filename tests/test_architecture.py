"""The house keeps its own rules: who imports whom, and what may stand where."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("indexer", "zonefiles", "resolver")
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))

PURE = frozenset(
    [
        "indexer/protocol/apply.py",
        "indexer/protocol/carried.py",
        "indexer/following/chain.py",
        "indexer/protocol/consensus.py",
        "indexer/protocol/flaws.py",
        "indexer/bitcoin/headers.py",
        "indexer/protocol/names.py",
        "indexer/protocol/namespace_rules.py",
        "indexer/networks.py",
        "indexer/node/prevouts.py",
        "indexer/node/replies.py",
        "indexer/protocol/operations.py",
        "indexer/protocol/payloads.py",
        "indexer/protocol/prices.py",
        "indexer/following/progress.py",
        "indexer/protocol/proofs.py",
        "indexer/protocol/records.py",
        "indexer/protocol/rows.py",
        "indexer/protocol/rules.py",
        "indexer/bitcoin/spending.py",
        "indexer/protocol/schema.py",
        "indexer/bitcoin/scripts.py",
        "indexer/protocol/serialized.py",
        "indexer/bitcoin/shapes.py",
        "indexer/table/snapshot.py",
        "indexer/table/snapshot_file.py",
        "indexer/node/spent_outputs.py",
        "indexer/protocol/subjects.py",
        "indexer/bitcoin/transactions.py",
        "indexer/protocol/view.py",
        "indexer/bitcoin/walk.py",
        "indexer/registrar/work/actions.py",
        "indexer/registrar/planning/cautions.py",
        "indexer/wallet/coins.py",
        "indexer/registrar/planning/compose.py",
        "indexer/registrar/planning/dates.py",
        "indexer/registrar/work/decide.py",
        "indexer/registrar/work/jobs.py",
        "indexer/registrar/planning/outputs.py",
        "indexer/wallet/key_text.py",
        "indexer/wallet/payment.py",
        "indexer/registrar/planning/plan.py",
        "indexer/registrar/planning/plan_text.py",
        "indexer/registrar/planning/purse.py",
        "indexer/wallet/psbt.py",
        "indexer/registrar/planning/quote.py",
        "indexer/registrar/work/renewals.py",
        "indexer/registrar/planning/refusals.py",
        "indexer/registrar/work/seen.py",
        "indexer/registrar/work/sharing.py",
        "indexer/wallet/signers.py",
        "indexer/registrar/planning/steps.py",
        "indexer/wallet/keys.py",
        "indexer/registrar/planning/wishes.py",
        "zonefiles/dht/messages.py",
        "zonefiles/text/plain_lines.py",
        "zonefiles/text/recordsets.py",
        "zonefiles/text/edits.py",
        "zonefiles/text/zonefile.py",
        "resolver/dns/answer.py",
        "resolver/dns/cache.py",
        "resolver/dns/asker.py",
        "resolver/dns/chase.py",
        "resolver/dns/codes.py",
        "resolver/dns/contents.py",
        "resolver/dns/cookies.py",
        "resolver/forwarding/delegation.py",
        "resolver/doors/doh_json.py",
        "resolver/doors/doh_pages.py",
        "resolver/forwarding/cache.py",
        "resolver/forwarding/health.py",
        "resolver/forwarding/special_use.py",
        "resolver/forwarding/query.py",
        "resolver/doors/http2.py",
        "resolver/doors/http_values.py",
        "resolver/dns/lookup.py",
        "resolver/dns/message.py",
        "resolver/dns/meta.py",
        "resolver/forwarding/onward.py",
        "resolver/dns/outline.py",
        "resolver/api/openapi.py",
        "resolver/process/places.py",
        "resolver/dns/rates.py",
        "resolver/command_line.py",
        "resolver/refusals.py",
        "resolver/api/registrar.py",
        "resolver/status_lines.py",
        "resolver/cli/verified.py",
        "resolver/dns/reply.py",
        "resolver/api/calendar.py",
        "resolver/api/chain.py",
        "resolver/api/lists.py",
        "resolver/api/names.py",
        "resolver/api/parameters.py",
        "resolver/api/routes.py",
        "resolver/api/schemas.py",
        "resolver/api/shapes.py",
        "resolver/api/route_table.py",
        "resolver/api/values.py",
        "resolver/api/walks.py",
        "resolver/api/rpc.py",
        "resolver/api/rpc_methods.py",
        "resolver/settings/settings.py",
        "resolver/settings/table.py",
        "resolver/settings/text.py",
        "resolver/settings/types.py",
        "resolver/transfers/messages.py",
        "resolver/forwarding/upstreams.py",
        "resolver/api/value.py",
        "resolver/dns/zones.py",
    ]
)
"""Files that take and give values only; ``.ci/run`` checks their types strictly."""

OWNERS = {
    "plyvel": {"indexer/table/table.py", "zonefiles/archive/archive.py"},
    "dnslib": {"resolver/dns/message.py"},
    "bitcoinrpc": {"indexer/node/node.py", "indexer/node/wire.py"},
    "h2": {"resolver/doors/http2.py"},
    "hpack": {"resolver/doors/http2.py"},
}
"""Libraries that only these files may import."""


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports, also inside functions."""
    for statement in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path}: imports are absolute"
            yield statement.module or ""
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def inside(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=inside)
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    roots = {module.partition(".")[0] for module in imported(path)}
    package = inside(path).partition("/")[0]
    forbidden = {"indexer": {"zonefiles", "resolver"}, "zonefiles": {"indexer", "resolver"}}
    assert not roots & forbidden.get(package, set())
    assert "tests" not in roots
    for library, owners in OWNERS.items():
        assert library not in roots or inside(path) in owners
    if package == "indexer":
        assert "twisted" not in roots
    if "kademlia" in roots or "rpcudp" in roots:
        assert re.fullmatch(r"zonefiles/dht/\w+\.py", inside(path))


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_file_reaches_nothing_outside_itself(name: str) -> None:
    path = ROOT / name
    modules = set(imported(path))
    roots = {module.partition(".")[0] for module in modules}
    outside = {"twisted", "plyvel", "bitcoinrpc", "kademlia", "socket", "asyncio", "threading"}
    outside |= {"random", "secrets", "subprocess", "time"}
    assert not roots & outside
    ours = {m for m in modules if m.partition(".")[0] in PACKAGES}
    for module in ours:
        file = module.replace(".", "/") + ".py"
        assert not (ROOT / file).exists() or file in PURE, f"{name} is pure but imports {file}"


def test_every_pure_file_is_checked_strictly() -> None:
    listed = "$(python -c 'from tests.test_architecture import PURE; print(*sorted(PURE))')"
    assert f"mypy --strict {listed}" in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


@pytest.mark.parametrize("path", FILES, ids=inside)
def test_a_file_begins_with_a_sentence_and_stays_small(path: Path) -> None:
    text = path.read_text("utf-8")
    sentence = ast.get_docstring(ast.parse(text))
    assert sentence
    assert sentence.partition("\n\n")[0].rstrip().endswith((".", "?"))
    assert len(text.splitlines()) <= 600, f"{inside(path)} holds more than one room"
