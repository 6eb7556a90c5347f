"""The whole lives of names: one daemon pays for them, and that of a stranger answers for them.

Everything is wished by ``blockstore-cli`` or over the HTTP API, signed by a wallet of the sandbox
node or by keys in a file, mined there, and asked for over UDP at a daemon that knows nothing but
the chain and the DHT.
"""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexer.networks import BLOCKS_PER_DAY, SANDBOX
from indexer.wallet.key_storage import load_keys
from resolver.sandbox.founding import MINER
from tests.rings import times
from tests.stories.neighbours import PATIENCE, TERMS, Neighbours

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]

GRACE = BLOCKS_PER_DAY
LIFETIME, LONGER = 60, 400
WALLET_BLOCKS = 12
IMPORTS = times(60, 60, 300)
"""Three hundred take a minute on two cores, mostly of the sandbox node."""


def zone(address: str) -> str:
    return f"$TTL 60\n@ A {address}\nwww CNAME @\n"


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    folder = tmp_path_factory.mktemp("street")
    with Neighbours(
        folder, namespaces=("alps", "vale", "glen"), wallet_blocks=WALLET_BLOCKS
    ) as found:
        found.open_namespace("vale", LONGER)
        yield found


def test_names_live_from_their_namespace_to_their_next_owner(
    street: Neighbours, tmp_path: Path
) -> None:
    file, other = tmp_path / "zone.txt", tmp_path / "other.txt"
    file.write_text(zone("192.0.2.1"))
    other.write_text(zone("192.0.2.9"))
    revealer, friend = street.address("revealer"), street.address("friend")

    # A namespace: paid for, revealed, filled, opened.
    street.done("namespace-preorder", "alps", revealer)
    street.done("namespace-reveal", "alps", revealer, "--lifetime", str(LIFETIME), "--coeff", "4")
    street.done("import", "gift.alps", friend, str(file))
    assert street.answers("gift.alps", "A") == {"192.0.2.1"}
    street.done("namespace-ready", "alps")

    # A name with data, one without.
    job = street.done("register", "alice.alps", str(file))
    steps = [step["step"] for step in job["steps"]]
    assert steps == ["preorder", "register", "publish", "verify"]
    assert street.answers("www.alice.alps", "A") == {"alice.alps.", "192.0.2.1"}
    street.done("register", "bob.alps")
    assert street.answers("bob.alps", "A") == set()
    assert "no data" in street.says("bob.alps", "A")

    # Other data, by an edit of what is there.
    street.done("update", "alice.alps", "--record", "mail A 192.0.2.25", "--delete", "www")
    assert street.answers("mail.alice.alps", "A") == {"192.0.2.25"}
    assert street.says("www.alice.alps", "A").startswith("NXDOMAIN")

    # To another owner, with its data and then without.
    street.done("transfer", "alice.alps", friend)
    owned = street.keeper.call("GET", "/v1/names/alice.alps")
    assert owned["address"] == friend
    assert street.answers("mail.alice.alps", "A") == {"192.0.2.25"}
    heir = street.address("heir")
    street.done("transfer", "alice.alps", heir, "--drop-data")
    assert street.answers("alice.alps", "A") == set()
    assert "no data" in street.says("alice.alps", "A")

    # For longer, with data again; and one that is given up.
    before = street.keeper.call("GET", "/v1/names/alice.alps")["expire_block"]
    street.done("renew", "alice.alps", str(other))
    after = street.keeper.call("GET", "/v1/names/alice.alps")["expire_block"]
    assert after > before
    assert street.answers("alice.alps", "A") == {"192.0.2.9"}
    street.done("revoke", "bob.alps")
    assert "revoked at block" in street.says("bob.alps", "A")

    # Nobody renews it: it lapses, and then it is somebody else's.
    street.mine(after - street.height)
    assert street.answers("alice.alps", "A") == {"192.0.2.9"}  # in its grace period
    ended = street.keeper.cli("register", "alice.alps", "--yes")
    assert ended.returncode == 21
    assert f"{heir} alone can renew it" in ended.stderr
    assert "nothing was paid" in ended.stderr
    street.mine(GRACE + 1)
    assert "expired at block" in street.says("alice.alps", "A")
    keys = made_keys(street, tmp_path)
    by_another(street, keys, "register", "alice.alps", str(file))
    assert street.answers("alice.alps", "A") == {"192.0.2.1"}
    taken = street.keeper.call("GET", "/v1/names/alice.alps")
    assert taken["address"] not in (heir, friend)
    ended = street.keeper.cli("revoke", "alice.alps", "--yes")  # the wallet has no key of its owner
    assert "not of the wallet that signs here; nothing was paid" in ended.stderr
    by_another(street, keys, "revoke", "alice.alps")
    assert "revoked at block" in street.says("alice.alps", "A")
    history = street.keeper.call("GET", "/v1/names/alice.alps/history")
    assert [state["opcode"] for states in history.values() for state in states] == [
        *("NAME_REGISTRATION", "NAME_UPDATE", "NAME_TRANSFER", "NAME_TRANSFER", "NAME_RENEWAL"),
        *("NAME_REGISTRATION", "NAME_REVOKE"),
    ]


def made_keys(street: Neighbours, folder: Path) -> Path:
    """A file of keys, each with coins."""
    path = folder / "keys"
    ended = street.keeper.cli("keys", str(path), "--new", "3", "--network", "sandbox")
    assert ended.returncode == 0, ended.stderr
    ring = load_keys(path, SANDBOX, None)
    street.pay(ring.scripts[0], 10_000_000, 10_000_000)
    street.pay(ring.scripts[1], 10_000_000)
    return path


def by_another(street: Neighbours, keys: Path, *words: str) -> None:
    """Wish with keys that no daemon sees, as a command that stays until it is done."""
    command = street.keeper.begin_cli(*words, "--key-file", str(keys), "--yes")
    while command.poll() is None:
        if street.node.mempool_size:
            street.mine()
        time.sleep(0.05)
    ended = command.communicated()
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["state"] == "done"


def test_many_names_are_imported_by_one_key_in_a_few_blocks(street: Neighbours) -> None:
    names = {"namespace_id": "glen", "revealer": street.address("revealer of many")}
    street.wish({"wish": "namespace-preorder", **names})
    street.wish({"wish": "namespace-reveal", **names, **TERMS, "lifetime": 1_000})
    wishes = [
        {"wish": "import", "name": f"gift{number}.glen", "recipient": names["revealer"]}
        for number in range(IMPORTS)
    ]
    total = 2 * street.keeper.plan(wishes[0], b"gift")["plan"]["total"]
    jobs = [
        street.keeper.agree(wish, total, f"gift {number}".encode())["id"]
        for number, wish in enumerate(wishes)
    ]
    began = street.height
    ended = street.settle(*jobs, blocks=12)
    assert {job["state"] for job in ended} == {"done"}
    assert street.height - began < 8
    street.wish({"wish": "namespace-ready", "namespace_id": "glen"})
    paid = [sent for job in ended for step in job["steps"] for sent in step["transactions"]]
    assert len(paid) < IMPORTS + 2 * WALLET_BLOCKS  # one payment brings coins to many
    for number in (0, 7, IMPORTS - 1):
        assert street.answers(f"gift{number}.glen") == {f'"gift {number}"'}
    assert street.stranger.ask("GET", "/v1/namespaces/glen/name_count")["names_count"] == IMPORTS


def test_registrations_at_once_are_each_paid_once(street: Neighbours) -> None:
    """Also where the wallet has fewer coins than there are names to register."""
    wishes = [{"wish": "register", "name": f"many{number}.vale"} for number in range(10)]
    with ThreadPoolExecutor(5) as threads:
        jobs = list(threads.map(lambda w: street.keeper.begin(w, w["name"].encode()), wishes))
    ended = street.settle(*(job["id"] for job in jobs))
    assert {job["state"] for job in ended} == {"done"}
    sent = [
        attempt
        for job in ended
        for step in job["steps"]
        for attempt in step["transactions"]
        if attempt["price"]
    ]
    assert len(sent) == len(wishes)
    for number in range(10):
        assert street.answers(f"many{number}.vale") == {f'"many{number}.vale"'}


@pytest.mark.parametrize("step", ["preorder", "register"])
def test_a_daemon_killed_on_the_way_goes_on_by_itself_and_pays_once(
    street: Neighbours, step: str
) -> None:
    name = f"killed-after-{step}.vale"
    begun = street.keeper.begin({"wish": "register", "name": name}, name.encode())
    assert begun["steps"][0]["transactions"]
    while step == "register" and not street.keeper.job(begun["id"])["steps"][1]["transactions"]:
        street.mine()
    street.keeper.kill()
    street.node.generate(1, MINER.script, 1)
    street.restart_keeper()
    (ended,) = street.settle(begun["id"])
    assert ended["state"] == "done"
    assert [len(one["transactions"]) for one in ended["steps"]] == [1, 1, 0, 0]
    assert street.answers(name) == {f'"{name}"'}


def test_names_are_renewed_by_themselves_but_for_the_dear_ones(street: Neighbours) -> None:
    for name in ("cheap-enough.vale", "ab.vale"):
        street.wish({"wish": "register", "name": name}, name.encode())
    before = end_of(street, "cheap-enough.vale"), end_of(street, "ab.vale")
    street.mine(LONGER // 2 + 1)  # nothing is renewed by itself in the first half of its life
    street.keeper.stop()
    settings = {
        "auto_renew": "cheap-enough.vale,ab.vale",
        "auto_renew_before": "2d",
        "auto_renew_max_price": "5000",  # two letters cost 40,960
    }
    street.restart_keeper(*(part for key, text in settings.items() for part in (flag(key), text)))
    deadline = time.monotonic() + PATIENCE
    while not (renewals := street.keeper.jobs_of("cheap-enough.vale")[1:]):
        assert time.monotonic() < deadline, street.keeper.log.read_text()[-1500:]
        time.sleep(0.05)
    (ended,) = street.settle(renewals[0]["id"])
    assert ended["state"] == "done", ended["note"]
    assert end_of(street, "cheap-enough.vale") > before[0]
    assert end_of(street, "ab.vale") == before[1]
    street.mine(2)
    log = street.keeper.log.read_text()
    assert len(re.findall(r"ab\.vale lapses at block \d+ and is not renewed: it costs", log)) == 1


def flag(setting: str) -> str:
    return "--" + setting.replace("_", "-")


def end_of(street: Neighbours, name: str) -> int:
    found: int = street.stranger.ask("GET", f"/v1/names/{name}")["expire_block"]
    return found
