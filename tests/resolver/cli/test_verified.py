"""What is believed of a name that an untrusted daemon tells of: what one trusted hash shows."""

from dataclasses import replace

import pytest

from indexer.protocol.proofs import BadProof, Proof, build_proof
from indexer.table.snapshot import Snapshot
from resolver.cli.verified import Trusted, VerifiedName, verify_data, verify_name
from tests.indexer.protocol.ledger import ALICE, BOB, PAYER, THIRD, Ledger, opened, register, revoke
from zonefiles.text.zonefile import value_hash

DATA = b"what alice says"
NAME = "alice.id"


def registered() -> Ledger:
    ledger = opened(THIRD)
    ledger.register("other.id", BOB)
    ledger.accept((PAYER, ledger.preorder(NAME)))
    ledger.accept((PAYER, register(NAME, ALICE, value_hash(DATA))))
    return ledger


def shown(ledger: Ledger, name: str = NAME, *, asked: str | None = None) -> VerifiedName:
    """What a proof of the last operation of ``name`` shows under the last hash."""
    seen = Snapshot(ledger.store, ledger.network)
    state = seen.state_at(name, ledger.height)
    assert state is not None
    txid = state.record.txid[::-1].hex()
    text = next(one for one in seen.operations(state.height) if txid in one)
    proof = build_proof(seen, text, state.height, ledger.height)
    trusted = Trusted(ledger.height, ledger.ch(), "given")
    return verify_name(proof, opening(ledger), asked or name, trusted, ledger.network)


def opening(ledger: Ledger) -> Proof:
    """A proof of the operation that opened the namespace, under the last hash."""
    seen = Snapshot(ledger.store, ledger.network)
    at = ledger.namespace().ready_block
    text = next(one for one in seen.operations(at) if one.startswith("!"))
    return build_proof(seen, text, at, ledger.height)


def test_a_proof_shows_owner_value_hash_and_block_of_a_name():
    ledger = registered()
    at = ledger.height
    ledger.skip(5)
    found = shown(ledger)
    assert found.name == NAME
    assert found.address == ALICE.address(ledger.network)
    assert found.sender == ALICE.script.hex()
    assert found.value_hash == value_hash(DATA).hex()
    assert (found.height, found.height_proven, found.revoked) == (at, True, False)
    verify_data(found, DATA)


def test_a_proof_of_another_name_shows_nothing_of_this_one():
    with pytest.raises(BadProof, match=r"about 'other\.id', not about 'alice\.id'"):
        shown(registered(), "other.id", asked=NAME)


@pytest.mark.parametrize("data", [b"", DATA + b"\n", DATA[:-1]])
def test_data_that_was_not_announced_is_refused(data):
    with pytest.raises(BadProof, match="announced another"):
        verify_data(shown(registered()), data)


def test_a_revoked_name_is_shown_as_such_and_has_no_data():
    ledger = registered()
    ledger.accept((ALICE, revoke(NAME)))
    found = shown(ledger)
    assert found.revoked
    assert not found.height_proven
    with pytest.raises(BadProof, match="announced no data"):
        verify_data(found, DATA)


def test_nothing_is_shown_under_a_hash_that_is_not_the_chains():
    ledger = registered()
    seen = Snapshot(ledger.store, ledger.network)
    text = seen.operations(ledger.height)[-1]
    proof = build_proof(seen, text, ledger.height, ledger.height)
    good = Trusted(ledger.height, ledger.ch(), "given")
    verify_name(proof, opening(ledger), NAME, good, ledger.network)
    for bad in (replace(good, consensus_hash=bytes(16)), replace(good, height=good.height + 1)):
        with pytest.raises(BadProof):
            verify_name(proof, opening(ledger), NAME, bad, ledger.network)


def test_a_preorder_is_proven_to_be_about_no_name():
    ledger = registered()
    seen = Snapshot(ledger.store, ledger.network)
    text = seen.operations(ledger.height - 1)[-1]
    proof = build_proof(seen, text, ledger.height - 1, ledger.height)
    trusted = Trusted(ledger.height, ledger.ch(), "given")
    with pytest.raises(BadProof, match="about no name"):
        verify_name(proof, opening(ledger), NAME, trusted, ledger.network)
