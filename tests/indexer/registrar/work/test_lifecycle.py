"""A name's whole life, signed by the node's wallet or by keys in a file, on the sandbox's node."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from embit.hashes import hash160

from indexer.bitcoin.transactions import TxOut
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.protocol.records import Phase
from indexer.registrar.planning.wishes import (
    RegisterName,
    RenewName,
    RevokeName,
    TransferName,
    UpdateName,
    Wish,
)
from indexer.registrar.work.jobs import State
from indexer.registrar.work.orders import Orders
from indexer.registrar.work.payers import Purse
from indexer.wallet.key_signers import KeyFile
from indexer.wallet.key_storage import load_keys, make_keys
from indexer.wallet.node_coins import NodeCoins
from indexer.wallet.node_wallet import NodeWallet
from tests.indexer.registrar.fakes import World, person_key

CONTENT, LATER = b"$ORIGIN bob.id\n@ A 192.0.2.1\n", b"$ORIGIN bob.id\n@ A 192.0.2.2\n"
STRANGER = person_key("a stranger").script
GIFT = 20_000_000


class Office:
    """A world with a desk in it, and somebody who signs."""

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.client = BitcoinNode(world.node.url)
        self.signer: Purse = NodeWallet(self.client, SANDBOX)
        if kind == "key-file":
            path = world.folder / "keys"
            make_keys(path, SANDBOX, 6, "words", n=16)
            ring = load_keys(path, SANDBOX, "words")
            self.signer = KeyFile(ring, self.client, SANDBOX, NodeCoins(self.client))
        signers = {"own": self.signer}
        world.runner.books.signers = signers
        self.orders = Orders(world.runner, signers, max_fee_rate=500.0)
        outputs = [TxOut(GIFT, self.signer.fresh_script("gift")) for _ in range(2)]
        world.node.submit(world.signer.pay(outputs, 20.0).raw)
        world.mine()

    def carry_out(self, wish: Wish, content: bytes | None = None) -> str:
        job = self.orders.begin(wish, signer="own", max_total=GIFT, content=content)
        self.world.run()
        done = self.world.job(job.id)
        assert done.state is State.DONE, done.note
        assert all(len(step) == 1 for step in self.world.mined_of(done) if step)
        return done.note


@pytest.fixture(params=["node-wallet", "key-file"])
def office(made: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Office]:
    shutil.rmtree(tmp_path)
    with World(made, tmp_path, listens=True) as world:
        found = Office(world, request.param)
        assert found.signer.kind == request.param
        yield found
        found.client.close()


def test_a_name_lives_from_its_registration_to_its_end(office: Office) -> None:
    digest, later = hash160(CONTENT), hash160(LATER)
    office.carry_out(RegisterName("bob.id", digest), CONTENT)
    record = office.world.seen.name("bob.id")
    assert record is not None
    assert record.value_hash == digest
    assert office.signer.owns(record.sender)
    assert office.orders.payers.owned("own") == ["bob.id"]

    office.carry_out(UpdateName("bob.id", later), LATER)  # its owner's script is funded first
    assert office.world.seen.names_of_value(later) == ["bob.id"]
    assert office.world.published == {digest: CONTENT, later: LATER}

    office.carry_out(RenewName("bob.id", None))
    second = office.signer.fresh_script("another")
    office.carry_out(TransferName("bob.id", second, keep_data=True))
    record = office.world.seen.name("bob.id")
    assert record is not None
    assert (record.sender, record.value_hash) == (second, later)

    office.carry_out(RevokeName("bob.id"))
    found = office.world.seen.name_status("bob.id")
    assert found is not None
    assert found[1].phase is Phase.REVOKED


def test_a_name_is_given_to_a_stranger(office: Office) -> None:
    office.carry_out(RegisterName("eve.id"))
    office.carry_out(TransferName("eve.id", STRANGER, keep_data=False))
    record = office.world.seen.name("eve.id")
    assert record is not None
    assert record.sender == STRANGER
    assert office.orders.payers.owned("own") == []


def test_a_wallet_that_is_locked_half_way_holds_the_job_up_until_it_is_unlocked(
    made: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path)
    with World(made, tmp_path, listens=True) as world:
        office = Office(world, "node-wallet")
        job = office.orders.begin(RegisterName("bob.id"), signer="own", max_total=GIFT)
        world.node.switches.wallet_passphrase = "secret words"
        for _ in range(6):
            world.turn()
            world.mine()
        held_up = world.job(job.id)
        assert held_up.state is State.RUNNING
        assert "walletpassphrase" in held_up.note
        assert "secret words" not in str(held_up)
        assert len(world.burnt()) == 1
        office.client.call("walletpassphrase", "secret words", 600)
        world.run()
        assert world.seen.name("bob.id") is not None
        assert len(world.burnt()) == 1
        office.client.close()
