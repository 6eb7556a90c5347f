"""The data of a name, or the one reason why there is none; in order of precedence."""

import asyncio

import pytest

from resolver.api.lookup import fetch_data_of, require_live
from resolver.refusals import NoNamespace, Refusal, Refused
from tests.resolver.api.fakes import SWIFT, HasNot, World
from zonefiles.sources import Missing, MissingReason


def find(name: str, world: World | None = None):
    world = world or World()
    record, _ = require_live(name, world.names)
    return asyncio.run(fetch_data_of(record, world.fetch, 1.0))


def refused(name: str, world: World | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        find(name, world)
    return caught.value


def test_a_live_name_gives_its_data_also_in_its_grace_period():
    assert find("swiftonsecurity.id").data == SWIFT
    world = World()
    digest = world.names.names_by_hand["late.id"][0].value_hash
    assert digest is not None
    world.held[digest] = b"in its grace period"
    assert find("late.id", world=world).data == b"in its grace period"


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("nobody.id", Refusal.NOT_REGISTERED),
        ("expired.id", Refusal.EXPIRED),
        ("revoked.id", Refusal.REVOKED),
        ("empty.id", Refusal.NO_DATA),
        ("nowhere.id", Refusal.DATA_UNAVAILABLE),
        ("lied.id", Refusal.HASH_MISMATCH),
    ],
)
def test_each_state_of_a_name_has_its_own_refusal(name, refusal):
    assert refused(name).refusal is refusal
    assert name in refused(name).sentence


@pytest.mark.parametrize("name", ["nobody.id", "expired.id", "revoked.id", "empty.id"])
def test_nobody_is_asked_for_the_data_of_a_name_that_has_none(name):
    world = World()

    async def asked(digest: bytes, timeout: float) -> HasNot:
        raise AssertionError("the network was asked")

    world.fetch = asked  # type: ignore[method-assign,assignment]
    refused(name, world=world)


def test_a_lonely_node_says_that_it_had_nobody_to_ask():
    world = World()

    async def alone(digest: bytes, timeout: float) -> HasNot:
        return HasNot(asked=0, wrong=0)

    world.fetch = alone  # type: ignore[method-assign,assignment]
    assert refused("nowhere.id", world=world).sentence.startswith("no source had the data")


def test_a_node_that_is_too_busy_to_ask_says_so_and_blames_nobody():
    world = World()

    async def busy(digest: bytes, timeout: float) -> Missing:
        return Missing(MissingReason.BUSY, 0, 0)

    world.fetch = busy  # type: ignore[method-assign,assignment]
    found = refused("nowhere.id", world=world)
    assert found.sentence.startswith("too many look-ups are under way")
    assert "blockstore-cli put" not in found.hint


def test_a_name_in_a_namespace_that_does_not_exist_is_never_free():
    with pytest.raises(NoNamespace, match=r"the namespace xyz does not exist"):
        require_live("alice.xyz", World().names)
