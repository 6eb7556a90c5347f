"""The registrar between the API and the registrar: who signs, and what is told where that fails."""

import asyncio
import contextlib
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from embit.psbt import PSBT

from indexer.bitcoin.transactions import TxOut, address_script, hash_hex, script_address
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.registrar.planning.wishes import ReadyNamespace, RegisterName, Wish
from indexer.registrar.work.progress import hint_of_zone
from resolver.api.orders import Order, Payment
from resolver.api.payer import Signing
from resolver.api.registrar_service import RegistrarService
from resolver.api.renewing import AutoRenew
from resolver.refusals import Refusal, Refused
from resolver.settings.types import check_zones
from tests.indexer.registrar.fakes import BIG, CONTENT, OWNER, World, template


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Iterator[World]:
    shutil.rmtree(tmp_path)
    with World(made, tmp_path, listens=True) as found:
        yield found


@pytest.fixture
def registrar(world: World) -> Iterator[RegistrarService]:
    async def publish(digest: bytes, content: bytes) -> int:
        return 1

    async def verify(name: str, digest: bytes | None) -> bool:
        return True

    client = BitcoinNode(world.node.url)
    found = RegistrarService(
        world.folder / "jobs",
        SANDBOX,
        client,
        world.table.snapshot,
        signing=Signing(),
        renewing=AutoRenew(),
        confirmations=1,
        max_fee_rate=500.0,
        publish=publish,
        verify=verify,
        zones={"bs": "id"},
        clock=lambda: world.now,
    )
    yield found
    found.journal.close()
    client.close()


def update(*scripts: str, payer: str | None = None) -> Order:
    wish = {"wish": "update", "name": "alice.id"}
    return Order(wish, data=CONTENT, signer="offline", scripts=scripts, payer=payer, raw=True)


def test_who_signs_elsewhere_for_a_name_need_not_say_for_which_address(
    world: World, registrar: RegistrarService
) -> None:
    world.begin(RegisterName("alice.id"), owner=OWNER)
    world.run()
    world.node.submit(world.signer.pay([TxOut(BIG, OWNER)], 20.0).raw)
    world.mine()
    page = asyncio.run(registrar.begin(update(), 10**6))
    assert page["state"] == "waiting-for-signature"
    assert script_address(OWNER, SANDBOX) in page["signer"]
    assert PSBT.from_string(page["psbt"]).inputs
    register = Order({"wish": "register", "name": "bob.id"}, signer="offline")
    with pytest.raises(Refused, match="for which addresses"):
        asyncio.run(registrar.plan(register))


def test_an_error_of_a_wallet_points_to_the_wallet(
    world: World, registrar: RegistrarService
) -> None:
    world.node.switches.wallet_loaded = False
    with pytest.raises(Refused) as refused:
        asyncio.run(registrar.plan(Order({"wish": "register", "name": "bob.id"})))
    assert refused.value.refusal is Refusal.NODE_AWAY
    assert "bitcoin-cli" in str(refused.value.hint)
    assert "status" not in str(refused.value.hint)


@pytest.mark.parametrize(
    ("zones", "wish", "suffix"),
    [
        ({"bs": "id"}, ReadyNamespace("podcast"), "podcast"),
        ({"bs": "id"}, RegisterName("show.podcast"), "podcast"),
        ({"bs": "id"}, RegisterName("show.my_casts"), "my-casts"),
        ({"bs": "id", "b.example.net": "a"}, ReadyNamespace("bs"), "bs-names"),
        ({"bs": "id"}, ReadyNamespace("_"), "names"),
    ],
)
def test_the_setting_that_a_job_ends_with_serves_what_it_opened(
    zones: dict[str, str], wish: Wish, suffix: str
) -> None:
    said = hint_of_zone(wish, zones)
    written = said[said.index("zones = ") : said.index("}") + 1]
    found = check_zones(tomllib.loads(written)["zones"])
    namespace = wish.subject.rpartition(".")[2]
    assert found == zones | {suffix: namespace}
    assert hint_of_zone(wish, found) == ""


def test_a_name_that_no_zone_serves_is_told_how_it_is_served(world: World) -> None:
    job_id = world.begin(RegisterName("bob.id"))
    world.zones.clear()
    world.run()
    assert 'write zones = {"id" = "id"} into the settings file' in world.job(job_id).note


UNFIT = (b"www.other.example. A 192.0.2.1\n", b"; nothing\n", b"\xff")
WISHES = ("register", "update", "renew")


@pytest.mark.parametrize("word", WISHES)
def test_data_that_answers_nothing_is_planned_and_begun_only_as_raw(
    world: World, registrar: RegistrarService, word: str
) -> None:
    wish = {"wish": word, "name": "alice.id"}
    for data in UNFIT:
        order = Order(
            wish, data=data, signer="offline", scripts=(script_address(OWNER, SANDBOX) or "",)
        )
        for ask in (registrar.plan(order), registrar.begin(order, 10**6)):
            with pytest.raises(Refused, match="nothing was paid") as refused:
                asyncio.run(ask)
            assert refused.value.refusal is Refusal.BAD_DATA
            assert "--raw" in str(refused.value.hint)
        with contextlib.suppress(Refused):  # for other reasons
            asyncio.run(registrar.plan(replace(order, raw=True)))


def test_names_of_the_data_without_their_final_dot_are_told_in_the_plan(
    world: World, registrar: RegistrarService
) -> None:
    world.node.submit(world.signer.pay([TxOut(BIG, OWNER)], 20.0).raw)
    world.mine()
    data = b"www.bob.bs A 192.0.2.1\nshop CNAME shop.example.com\nx.example.org. A 192.0.2.1\n"
    payer = script_address(OWNER, SANDBOX)
    order = Order({"wish": "register", "name": "bob.id"}, data=data, signer="offline", payer=payer)
    told = asyncio.run(registrar.plan(order))
    warnings = told["plan"]["warnings"][:3]
    assert "www.bob.bs, without a dot at its end, is read as www.bob.bs.bob.id" in warnings[0]
    assert "shop.example.com, to which shop CNAME points" in warnings[1]
    assert warnings[2].endswith(": 1 record of the data")
    assert all(f"Note: {warning}." in told["text"] for warning in warnings)


def test_a_payment_is_planned_and_then_sent_for_what_was_agreed_to(
    world: World, registrar: RegistrarService
) -> None:
    to = script_address(OWNER, SANDBOX) or ""
    mine = address_script(asyncio.run(registrar.address()), SANDBOX)
    world.node.submit(world.signer.pay([TxOut(BIG, mine)], 20.0).raw)
    world.mine()
    payment = Payment(to, 70_000, 2.0)
    planned = asyncio.run(registrar.pay(payment))
    assert planned["text"][0] == f"To pay 70,000 satoshis to {to}:"
    assert "txid" not in planned
    with pytest.raises(Refused, match="were agreed to; nothing was paid"):
        asyncio.run(registrar.pay(replace(payment, max_total=planned["plan"]["total"] - 1)))
    assert world.node.mempool_size == 0
    sent = asyncio.run(registrar.pay(replace(payment, max_total=planned["plan"]["total"])))
    world.mine()
    assert sent["txid"] in [hash_hex(coin.txid) for coin in world.signer.coins(OWNER)]


def test_what_is_no_payment_is_refused_before_anything_is_paid(registrar: RegistrarService) -> None:
    for payment in (Payment("nonsense", 70_000), Payment(script_address(OWNER, SANDBOX) or "", 1)):
        with pytest.raises(Refused, match="nothing was paid") as refused:
            asyncio.run(registrar.pay(payment))
        assert refused.value.refusal is Refusal.BAD_REQUEST
    with pytest.raises(Refused, match="at most 500 are paid here"):
        asyncio.run(registrar.pay(Payment(script_address(OWNER, SANDBOX) or "", 70_000, 501.0)))


def test_an_address_is_of_the_wallet_and_fresh(world: World, registrar: RegistrarService) -> None:
    first, second = asyncio.run(registrar.address()), asyncio.run(registrar.address())
    assert first != second
    for one in (first, second):
        assert len(address_script(one, SANDBOX)) == 25
