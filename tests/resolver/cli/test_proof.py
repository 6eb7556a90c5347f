"""``blockstore-cli verify`` beside daemons that lie about time: it says yes to no past state."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from indexer import networks
from indexer.networks import Network
from indexer.table.snapshot import Snapshot
from resolver import blockstore_cli, refusals
from resolver.api.pages import Pages
from resolver.dns.chase import Freshness
from resolver.refusals import Refusal
from tests.indexer.protocol.ledger import (
    ALICE,
    BOB,
    PAYER,
    THIRD,
    Ledger,
    opened,
    register,
    revoke,
)
from tests.resolver.api.fakes import World
from zonefiles.text.zonefile import value_hash

OLD, NEW = b"what alice said", b"what bob says"
NAME = "alice.id"
CHAIN = replace(THIRD, name="regtest")


@dataclass
class Place:
    """A daemon over ``ledger``; ``rewrite`` is what a proxy before it makes of a path."""

    ledger: Ledger
    rewrite: Callable[[str], str] = str
    info: dict[str, Any] = field(default_factory=dict)
    silent_for: float = 0.0
    """Seconds since it heard of the chain."""

    def pages(self) -> Pages:
        world, ledger = World(), self.ledger
        world.held = {value_hash(data): data for data in (OLD, NEW)}
        seen = Snapshot(ledger.store, ledger.network)
        index = {"height": ledger.height, "caught_up": True}
        first = ledger.network.first_block
        said = {"network": ledger.network.name, "first_block": first, "index": index, **self.info}
        info = {**world.figures(), **said}
        behind: dict[str, Any] = {
            "snapshot": lambda: seen,
            "freshness": lambda: Freshness(True, ledger.height, ledger.height, self.silent_for),
            "figures": lambda: info,
        }
        return Pages(replace(world.pages().behind, **behind))


@contextlib.contextmanager
def serving(place: Place) -> Iterator[int]:
    """The port that ``place`` answers at."""

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = asyncio.run(place.pages().reply("GET", place.rewrite(self.path)))
            body = json.dumps(page.body).encode()
            self.send_response(page.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture(autouse=True)
def chain(monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setitem(networks.NETWORKS, "regtest", CHAIN)  # type: ignore[index]
    return CHAIN


def story(**terms: Any) -> tuple[Ledger, int]:
    """alice.id with OLD; at the block that is told with it bob gets it, and says NEW."""
    ledger = opened(CHAIN, **terms)
    ledger.accept((PAYER, ledger.preorder(NAME)))
    ledger.accept((PAYER, register(NAME, ALICE, value_hash(OLD))))
    ledger.skip(3)
    return ledger, ledger.height


def moved(ledger: Ledger) -> Ledger:
    ledger.accept((ALICE, ledger.transfer(NAME, BOB)))
    ledger.accept((BOB, ledger.update(NAME, value_hash(NEW))))
    ledger.skip(2)
    return ledger


def verify(asked: int, *arguments: str, output: str = "--json") -> Result:
    options = ["--port", str(asked), output, "verify", NAME]
    return CliRunner().invoke(blockstore_cli.cli, [*options, *arguments])


def of_past(height: int) -> Callable[[str], str]:
    return lambda path: path + f"&height={height}" if "/proof" in path else path


def test_the_state_that_a_trusted_daemon_knows_as_the_last_is_verified_with_its_end():
    ledger = moved(story()[0])
    with serving(Place(ledger)) as asked, serving(Place(ledger)) as own:
        result = verify(asked, "--trust", f"127.0.0.1:{own}")
    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert report["verified"]
    assert report["standing"] == "newest"
    assert report["as_of_block"] == ledger.height
    assert report["owner_address"] == BOB.address(CHAIN)
    assert report["data"] == NEW.decode()
    status = Snapshot(ledger.store, CHAIN).name_status(NAME)
    assert status is not None
    assert report["expire_block"] == status[1].expires_at
    assert report["renewal_deadline"] == status[1].gone_at


@pytest.mark.parametrize("output", ["--json", "--human"])
def test_a_proxy_that_asks_for_an_old_state_is_found_out_by_the_trusted_daemon(output):
    ledger, before = story()
    moved(ledger)
    lying = Place(ledger, of_past(before))
    with serving(lying) as asked, serving(Place(ledger)) as own:
        result = verify(asked, "--trust", f"127.0.0.1:{own}", output=output)
        raw = verify(asked, "--trust", f"127.0.0.1:{own}", "--raw")
    assert result.exit_code == raw.exit_code == refusals.SUPERSEDED
    assert "is over" in result.stderr
    assert OLD.decode() not in result.stdout
    assert raw.stdout == ""
    if output == "--json":
        assert not json.loads(result.stdout)["verified"]


def test_by_a_hash_alone_a_past_state_is_told_as_of_its_block_and_is_no_yes():
    ledger, before = story()
    moved(ledger)
    trusted = ("--consensus", ledger.ch().hex(), "--height", str(ledger.height))
    with serving(Place(ledger, of_past(before))) as asked:
        result = verify(asked, *trusted, "--network", "regtest")
    report = json.loads(result.stdout)
    assert result.exit_code == refusals.PERHAPS_OVER
    assert (report["verified"], report["standing"]) == (False, "past")
    assert report["as_of_block"] < before
    assert "nothing shows that nothing came after" in result.stderr


def test_under_the_hash_of_its_own_block_a_registration_may_be_over():
    ledger = opened(CHAIN)
    ledger.accept((PAYER, ledger.preorder(NAME)))
    ledger.accept((PAYER, register(NAME, ALICE, value_hash(OLD))))
    trusted = ("--consensus", ledger.ch().hex(), "--height", str(ledger.height))
    with serving(Place(ledger)) as asked:
        result = verify(asked, *trusted, "--network", "regtest")
    assert result.exit_code == refusals.PERHAPS_OVER, result.output


@pytest.mark.parametrize("by_hash", [True, False])
def test_an_expired_name_is_told_as_expired_by_what_is_proven(by_hash):
    ledger, _ = story(lifetime=10)
    ledger.skip(20 + CHAIN.epoch(ledger.height).grace_period)
    with serving(Place(ledger)) as asked, serving(Place(ledger)) as own:
        of_hash = ["--consensus", ledger.ch().hex(), "--height", str(ledger.height)]
        trust = of_hash if by_hash else ["--trust", f"127.0.0.1:{own}"]
        result = verify(asked, *trust, "--network", "regtest")
    assert result.exit_code == Refusal.EXPIRED.exit_code
    assert json.loads(result.stdout)["standing"] == "expired"
    assert "data" not in json.loads(result.stdout)


def test_a_revoked_name_is_told_as_revoked():
    ledger, _ = story()
    ledger.accept((ALICE, revoke(NAME)))
    with serving(Place(ledger)) as asked:
        result = verify(asked, "--trust", f"127.0.0.1:{asked}")
    assert result.exit_code == Refusal.REVOKED.exit_code


def test_a_name_that_the_trusted_daemon_does_not_know_is_over():
    ledger, before = story()
    other = opened(CHAIN)
    trusted = ("--consensus", ledger.ch().hex(), "--height", str(before))
    with serving(Place(ledger)) as asked, serving(Place(other)) as own:
        result = verify(asked, *trusted, "--trust", f"127.0.0.1:{own}")
    assert result.exit_code == refusals.SUPERSEDED
    assert "not registered" in result.stderr


def test_a_trusted_daemon_that_is_behind_confirms_nothing():
    ledger, before = story()
    behind = Place(ledger, info={"index": {"height": before, "caught_up": False}})
    with serving(Place(ledger)) as asked, serving(behind) as own:
        result = verify(asked, "--trust", f"127.0.0.1:{own}")
    assert result.exit_code == Refusal.INDEX_BEHIND.exit_code


def test_a_trusted_daemon_that_has_heard_nothing_for_long_confirms_nothing():
    ledger, _ = story()
    with serving(Place(ledger)) as asked, serving(Place(ledger, silent_for=86_000.0)) as own:
        result = verify(asked, "--trust", f"127.0.0.1:{own}")
    assert result.exit_code == Refusal.INDEX_BEHIND.exit_code
    assert "does not know the present itself" in result.stderr


def test_a_hash_alone_says_nothing_of_what_came_later_in_its_own_block():
    ledger, _ = story()
    ledger.accept((ALICE, ledger.renew(NAME, ALICE)), (ALICE, ledger.transfer(NAME, BOB)))
    trusted = ("--consensus", ledger.ch().hex(), "--height", str(ledger.height))
    with serving(Place(ledger)) as asked:
        result = verify(asked, *trusted, "--network", "regtest")
    assert result.exit_code == refusals.PERHAPS_OVER
    assert not json.loads(result.stdout)["verified"]


def test_the_network_is_never_what_the_asked_daemon_says():
    ledger, _ = story()
    trusted = ("--consensus", ledger.ch().hex(), "--height", str(ledger.height))
    with serving(Place(ledger)) as asked:
        result = verify(asked, *trusted)
        of_other = verify(asked, "--trust", f"127.0.0.1:{asked}", "--network", "mainnet")
    assert result.exit_code == refusals.NOT_PROVEN
    assert "not of 'mainnet'" in result.stderr
    assert of_other.exit_code == refusals.USAGE


def test_a_proof_on_file_is_what_prove_prints_and_needs_nobody(tmp_path):
    ledger, _ = story()
    trusted = ("--consensus", ledger.ch().hex(), "--height", str(ledger.height))
    file, data = tmp_path / "proof.json", tmp_path / "data"
    data.write_bytes(OLD)
    with serving(Place(ledger)) as port:
        options = ["--port", str(port), "--json", "prove", NAME]
        file.write_text(CliRunner().invoke(blockstore_cli.cli, options).stdout)
    files = ("--proof", str(file), "--data", str(data), "--network", "regtest")
    assert verify(port, *trusted, *files).exit_code == refusals.PERHAPS_OVER
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "namespace_proof": None}))
    without = verify(port, *trusted, *files)
    assert without.exit_code == refusals.NOT_PROVEN
    assert "namespace id is open" in without.stderr
    file.write_text(json.dumps({**said, "namespace_proof": said["proof"]}))
    assert verify(port, *trusted, *files).exit_code == refusals.NOT_PROVEN


def test_a_daemon_of_another_network_is_told_with_the_whole_command_that_names_it():
    ledger, _ = story()
    api = {"addresses": {"api": {"host": "127.0.0.1", "port": 7}}}
    with serving(Place(ledger, info=api)) as asked:
        result = verify(asked)
        named = verify(asked, "--network", "testnet", "--consensus", "0" * 32, "--height", "9")
    assert result.exit_code != 0
    for told in (result, named):
        assert f" verify {NAME} --network regtest --trust 127.0.0.1:7`" in told.stderr


def test_a_proof_under_another_block_says_of_which_block_a_hash_is_needed(tmp_path):
    ledger, _ = story()
    file = tmp_path / "proof.json"
    with serving(Place(ledger)) as port:
        options = ["--port", str(port), "--json", "prove", NAME]
        file.write_text(CliRunner().invoke(blockstore_cli.cli, options).stdout)
        under = ledger.height
        published = verify(port, "--proof", str(file))
        moved(ledger)
        own = verify(port, "--proof", str(file), "--trust", f"127.0.0.1:{port}")
    assert published.exit_code == refusals.NOT_PROVEN
    assert f"--height {under} --consensus HASH" in published.stderr
    # The trusted daemon is asked for the hash of the block that the proof is under.
    assert own.exit_code == refusals.SUPERSEDED, own.output


def test_names_that_begin_at_another_block_are_proven_from_there(monkeypatch):
    ledger, _ = story()
    other = replace(CHAIN, first_block=CHAIN.first_block - 50)
    monkeypatch.setitem(networks.NETWORKS, "regtest", other)  # type: ignore[index]
    trusted = ("--consensus", ledger.ch().hex(), "--height", str(ledger.height))
    here = ("--network", "regtest", "--first-block", str(CHAIN.first_block))
    with serving(Place(ledger)) as asked:
        assert verify(asked, "--trust", f"127.0.0.1:{asked}").exit_code == 0
        assert verify(asked, *trusted, "--network", "regtest").exit_code == refusals.NOT_PROVEN
        assert verify(asked, *trusted, *here).exit_code == refusals.PERHAPS_OVER
