"""What cannot be had, and what goes wrong on the way: told in words, and the journal is right.

Wished by ``blockstore-cli`` or over the HTTP API of a daemon whose sandbox node is bent: each
message says whether anything was paid and what to do, and what was begun ends with one payment.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from indexer.networks import SANDBOX
from indexer.wallet.key_storage import load_keys, make_keys
from tests.stories.neighbours import Neighbours

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

ELSEWHERE = "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"  # an address of the main network
Answer = tuple[int, bytes]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    folder = tmp_path_factory.mktemp("street")
    with Neighbours(folder, wallet_blocks=20, stranger=False) as found:
        found.open_namespace()
        found.wish({"wish": "register", "name": "taken.alps"}, b"mine")
        yield found


def said(street: Neighbours, code: int, *words: str) -> str:
    """What a refused command says; nothing waits at the node, and no traceback is printed."""
    ended = street.keeper.cli(*words)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert "\nNext: " in ended.stderr
    assert street.node.mempool_size == 0
    return ended.stderr


def once_each(job: dict[str, Any]) -> bool:
    """Whether each step that takes a transaction was made just once."""
    sent = {step["step"]: len(step["transactions"]) for step in job["steps"]}
    return sent.pop("verify") == 0 and set(sent.values()) == {1}


@pytest.mark.parametrize(
    ("code", "words", "says", "then"),
    [
        (21, "register taken.alps", "taken.alps belongs to", "choose another name"),
        (21, "register a.nowhere", "there is no namespace nowhere", "spelling"),
        (12, "register up+per.alps", "may hold only", ""),
        (2, f"transfer taken.alps {ELSEWHERE}", f"{ELSEWHERE} is an address of another", "check"),
        (2, f"register a.alps --owner {ELSEWHERE}", "address of another network", "check"),
        (2, f"register a.alps --payer {ELSEWHERE}", "address of another network", "check"),
        (21, "register a.alps --max-price 1", "costs", "allow a higher price"),
        (4, "update nobody.alps --record 'a A 192.0.2.1'", "not registered", "spelling"),
        (4, "renew nobody.alps", "nobody.alps is not registered", "register it"),
        (21, "register a.alps --fee-rate 900", "at most 200", "max_fee_rate"),
        (21, "namespace-preorder alps ADDRESS", "alps exists already", "choose another"),
        (21, "namespace-ready alps", "open", ""),
    ],
)
def test_what_the_chain_would_not_take_is_refused_before_anything_is_paid(
    street: Neighbours, code: int, words: str, says: str, then: str
) -> None:
    line = words.replace("ADDRESS", street.address("somebody"))
    told = said(street, code, *shlex.split(line), "--yes")
    assert says in told
    assert then in told.partition("\nNext: ")[2]
    if code != 12:
        assert "nothing was paid" in told


def test_data_that_no_name_can_hold_is_refused(street: Neighbours, tmp_path: Path) -> None:
    large, odd = tmp_path / "large", tmp_path / "odd"
    large.write_bytes(b"A" * 41_000)
    odd.write_bytes(b"\x00\xff no zone file")
    for more in ((), ("--raw",)):
        told = said(street, 13, "register", "large.alps", str(large), *more, "--yes")
        assert "more than 40960 bytes" in told
    told = said(street, 19, "register", "odd.alps", str(odd), "--yes")
    assert "neither JSON nor a zone file of odd.alps" in told
    assert "nothing was paid" in told
    assert "--raw" in told
    job = street.done("register", "odd.alps", str(odd), "--raw")
    assert job["state"] == "done"
    assert street.keeper.ask("GET", "/v1/lookup/odd.alps")["data_base64"]


def test_too_little_money_says_how_much_is_missing_and_where(
    street: Neighbours, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    script = make_keys(keys, SANDBOX, 1, None).scripts[0]
    assert script in load_keys(keys, SANDBOX, None).scripts
    words = ("register", "poor.alps", "--key-file", str(keys), "--yes")
    told = said(street, 21, *words)
    assert "there are 0 satoshis that can be spent on this" in told
    street.pay(script, 600)  # a coin that is worth less than what it costs to spend it
    told = said(street, 21, *words)
    assert "satoshis that can be spent" in told
    assert "nothing was paid" in told
    street.pay(script, 9_000)
    told = said(street, 21, *words)
    assert "lacks" in told
    assert "send at least" in told


def test_a_missing_estimate_of_fees_is_said_in_the_plan(street: Neighbours) -> None:
    ended = street.keeper.cli("--human", "register", "a.alps", "--dry-run")
    assert "5 satoshis a byte, the node has no estimate" in ended.stdout
    told = street.keeper.plan({"wish": "register", "name": "a.alps"}, fee_rate=7.5)
    assert "7.5 satoshis a byte, the rate that was asked for" in told["text"][-1]


def test_one_name_is_registered_by_one_wish_at_a_time(street: Neighbours) -> None:
    begun = street.keeper.begin({"wish": "register", "name": "twice.alps"})
    again = street.keeper.begin({"wish": "register", "name": "twice.alps"})
    assert f"is under way already ({begun['id']}" in again["error"]
    assert "nothing more was paid" in again["error"]
    assert begun["id"] in again["hint"]
    (ended,) = street.settle(begun["id"])
    assert ended["state"] == "done"


# --- wallets


def test_a_locked_wallet_is_waited_for(street: Neighbours) -> None:
    street.node.switches.wallet_passphrase = "secret"
    try:
        begun = street.keeper.begin({"wish": "register", "name": "locked.alps"})
        assert begun["state"] == "running"
        assert "is locked; unlock it (bitcoin-cli walletpassphrase) and it goes on" in begun["note"]
        assert "Nothing was paid" in begun["note"]
        street.mine()
        assert street.keeper.job(begun["id"])["note"] == begun["note"]
    finally:
        street.node.switches.wallet_passphrase = None
    (ended,) = street.settle(begun["id"])
    assert ended["state"] == "done"
    assert once_each(ended)


def test_a_wallet_without_legacy_addresses_keeps_to_those_that_it_has(street: Neighbours) -> None:
    street.node.switches.legacy_addresses = False
    try:
        job = street.wish({"wish": "register", "name": "modern.alps"})
    finally:
        street.node.switches.legacy_addresses = True
    assert job["state"] == "done"
    owned = street.keeper.call("GET", "/v1/registrar/names")["names"]
    assert "modern.alps" in {one["name"] for one in owned}


def test_no_wallet_and_one_of_several_are_told_apart(street: Neighbours) -> None:
    street.node.switches.wallet_loaded = False
    try:
        told = said(street, 23, "register", "a.alps", "--yes")
    finally:
        street.node.switches.wallet_loaded = True
    assert "has no wallet loaded; load it (bitcoin-cli loadwallet)" in told
    assert "Nothing was paid" in told
    call(street, "createwallet", "second")
    try:
        told = said(street, 23, "register", "a.alps", "--yes")
    finally:
        call(street, "unloadwallet", "second")
    assert "has several wallets loaded; say in node_wallet which one is to pay" in told


def call(street: Neighbours, method: str, *params: Any) -> None:
    body = json.dumps({"id": 1, "method": method, "params": params}).encode()
    status, reply = street.node.reply_to(body)
    assert status == 200, reply


# --- the node


class Bent:
    """Answers the next calls of ``sendrawtransaction`` in the place of the node."""

    def __init__(self, street: Neighbours, answer: Callable[[bytes], Answer]) -> None:
        self.node, self.answer = street.node, answer
        self.asked = 0

    def __enter__(self) -> "Bent":
        real = self.node.reply_to

        def reply(body: bytes, wallet: str | None = None) -> Answer:
            if b'"sendrawtransaction"' not in body:
                return real(body, wallet)
            self.asked += 1
            return self.answer(body)

        self.node.reply_to = reply  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        del self.node.reply_to


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (-25, "bad-txns-inputs-missingorspent", "the node does not take the preorder"),
        (-26, "scriptpubkey", "the node does not take the preorder: scriptpubkey"),
        (-26, "min relay fee not met, 5 < 10", ""),
        (-27, "Transaction outputs already in utxo set", ""),
    ],
)
def test_a_node_that_refuses_is_quoted_and_asked_again(
    street: Neighbours, code: int, words: str, says: str
) -> None:
    def refuse(body: bytes) -> Answer:
        error = {"code": code, "message": words}
        return 500, json.dumps({"result": None, "error": error, "id": 1}).encode()

    name = f"refused{-code}-{len(words)}.alps"
    with Bent(street, refuse) as bent:
        begun = street.keeper.begin({"wish": "register", "name": name})
        assert bent.asked
    assert street.node.mempool_size == 0
    assert begun["state"] == "running"
    assert says in begun["note"]
    if says:
        assert "Nothing was paid. It is offered again until the node takes it" in begun["note"]
        assert words in begun["note"]
        assert begun["steps"][0]["transactions"][0]["refusal"] == words
    (ended,) = street.settle(begun["id"])
    assert ended["state"] == "done"
    mined = [one for one in ended["steps"][0]["transactions"] if one["refusal"] is None]
    assert len(mined) == 1


def test_a_connection_that_breaks_after_the_send_costs_nothing_twice(street: Neighbours) -> None:
    real = street.node.reply_to

    def breaks(body: bytes) -> Answer:
        real(body, None)
        raise ConnectionResetError

    with Bent(street, breaks) as bent:
        ended = street.keeper.cli("register", "broken.alps", "--yes")
        assert ended.returncode == 0, ended.stderr
        assert bent.asked
    (job,) = street.settle(json.loads(ended.stdout)["id"])
    assert job["state"] == "done"
    assert once_each(job)
