"""Somebody else who is quicker than the registrar, and what it has on its way and has paid."""

from indexer.networks import SANDBOX
from indexer.protocol.names import hash_name
from indexer.protocol.operations import Preorder, Register
from tests.indexer.registrar.fakes import World, person_key, send

RIVAL = person_key("other")


def waiting(world: World) -> list[bytes]:
    return [entry.transaction.txid for entry in world.node._chain.mempool]


def rival_takes(world: World, name: str, *also: bytes) -> None:
    """Somebody else has ``name``, and the index knows it."""
    rival_registers(world, name, *also)
    taken = world.seen.name(name)
    assert taken is not None
    assert taken.sender == RIVAL.script


def rival_registers(world: World, name: str, *also: bytes) -> None:
    """Somebody else preorders and registers ``name``; the miners leave our transactions out, but
    for those that are named."""
    height = world.seen.height
    price = Preorder(
        preorder_hash=hash_name(name, RIVAL.script, RIVAL.address(SANDBOX)),
        consensus_hash=world.seen.consensus_hash(height) or b"",
        op_fee=640_000,
        fee_script=SANDBOX.burn_script,
    )
    world.mine_only(send(world.signer, SANDBOX, RIVAL, price), *also)
    registration = Register(name=name, recipient=RIVAL.script)
    world.mine_only(send(world.signer, SANDBOX, RIVAL, registration))


def ours_burnt(world: World, job_id: str) -> int:
    ours = {attempt.txid for attempt in world.job(job_id).attempts()}
    return sum(satoshis for txid, satoshis in world.burnt() if txid in ours)
