"""The look-up, over a network that is a dictionary: liars, the silent and the inventive."""

import asyncio
import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rings import sampled
from zonefiles.dht.contacts import PER_SEGMENT, Contacts
from zonefiles.dht.lookup import ALPHA, MAX_QUESTIONS, distance, look_up
from zonefiles.dht.messages import Contact, K

VALUE = b"the value"
TARGET = hashlib.sha1(VALUE).digest()


def is_right(value: bytes) -> bool:
    return value == VALUE


def contact(n: int) -> Contact:
    return Contact(
        hashlib.sha1(b"%d" % n).digest(), f"1.{n // 65536}.{n // 256 % 256}.{n % 256}", 1
    )


class World:
    """Nodes that know all of each other; the K nearest to the target hold the value."""

    def __init__(self, size: int = 200) -> None:
        self.nodes = [contact(n) for n in range(size)]
        self.nearest = sorted(self.nodes, key=lambda c: distance(c.id, TARGET))
        self.holders = set(self.nearest[:K])
        self.silent: set[Contact] = set()
        self.liars: set[Contact] = set()
        self.inventors: set[Contact] = set()
        self.asked: list[Contact] = []
        self.under_way = self.most_under_way = 0

    async def ask(self, asked: Contact):
        self.asked.append(asked)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            for _ in range(3 if asked in self.nodes and asked not in self.silent else 30):
                await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if asked not in self.nodes or asked in self.silent:
            return None
        if asked in self.liars:
            return b"a lie"
        if asked in self.inventors:
            start = int.from_bytes(asked.id[:3], "big") * K
            close = int.from_bytes(TARGET, "big")
            return [
                Contact((close ^ (start + n)).to_bytes(20, "big"), f"9.{n}.{start % 251}.7", n + 1)
                for n in range(1, K + 1)
            ]
        if asked in self.holders:
            return VALUE
        neighbours = random.Random(asked.id).sample(self.nodes, 15)
        return sorted(neighbours, key=lambda c: distance(c.id, TARGET))[:K] + self.nearest[30:32]

    def look(self, *, start=None, deadline=5.0, is_valid=is_right):
        begin = self.nearest[-3:] if start is None else start
        return asyncio.run(
            look_up(TARGET, begin, self.ask, own_id=b"o" * 20, deadline=deadline, is_valid=is_valid)
        )


def test_a_value_is_found_from_far_away_and_says_who_gave_it():
    world = World()
    found = world.look()
    assert found.value == VALUE
    assert found.source in world.holders
    assert found.asked == len(world.asked) == len(set(world.asked))
    assert world.most_under_way <= ALPHA
    assert world.under_way == 0


@settings(max_examples=sampled(30), deadline=None)
@given(st.randoms(use_true_random=False))
def test_half_of_the_nodes_may_lie_and_a_fifth_be_silent(rng):
    world = World()
    world.liars = set(rng.sample(world.nodes, 80))
    world.silent = set(rng.sample(world.nodes, 40)) - world.liars
    honest = world.holders - world.liars - world.silent
    start = [c for c in world.nearest if c not in world.liars | world.silent][-5:]
    found = world.look(start=start)
    if honest and found.asked < MAX_QUESTIONS:
        assert found.value == VALUE
        assert found.source in honest
    assert set(found.liars) <= world.liars
    assert not set(found.nearest) & (world.liars | world.silent)


def test_whoever_invents_nodes_near_the_target_is_passed_over():
    world = World()
    world.inventors = set(world.nearest[40:80])
    found = world.look(start=world.nearest[40:44] + world.nearest[-4:])
    assert found.value == VALUE
    assert found.asked < MAX_QUESTIONS


def test_without_a_value_the_nearest_that_answered_are_given():
    world = World()
    world.holders = set()
    world.silent = set(world.nearest[:5])
    found = world.look(is_valid=None)
    assert found.value is None
    assert found.nearest == sorted(found.nearest, key=lambda c: distance(c.id, TARGET))
    assert len(found.nearest) == K
    assert not set(found.nearest) & world.silent


def test_the_deadline_ends_it_and_leaves_nothing_under_way():
    world = World()

    async def never(asked):
        world.asked.append(asked)
        await asyncio.Event().wait()

    world.ask = never
    found = world.look(start=world.nearest, deadline=0.3)
    assert found.value is None
    assert len(world.asked) == ALPHA
    assert world.look(deadline=0.0).asked <= ALPHA
    assert world.look(start=[]).asked == 0


def test_suspects_are_asked_when_nobody_else_is_left():
    world = World(size=40)
    world.holders = {world.nearest[0]}
    suspects = set(world.nearest[:20])

    def look():
        world.asked.clear()
        return asyncio.run(
            look_up(
                TARGET,
                world.nodes,
                world.ask,
                own_id=b"",
                deadline=5,
                is_valid=is_right,
                is_suspect=suspects.__contains__,
            )
        )

    suspects.discard(world.nearest[0])
    assert look().value == VALUE
    assert not set(world.asked) & suspects
    suspects.update(world.nodes)
    assert look().value == VALUE


def test_an_endless_supply_of_liars_is_asked_a_bounded_number_of_questions():
    asked = []

    async def ask(node):
        asked.append(node)
        n = len(asked) * K
        return [
            Contact(random.randbytes(20), f"2.{n // 65536 % 256}.{n // 256 % 256}.{n % 256}", i + 1)
            for i in range(K)
        ]

    found = asyncio.run(
        look_up(TARGET, [contact(1)], ask, own_id=b"", deadline=30, is_valid=is_right)
    )
    assert found.asked == len(asked) <= MAX_QUESTIONS


def test_one_host_is_not_asked_on_all_its_ports():
    asked = []

    async def ask(node):
        asked.append(node)
        return [Contact(random.randbytes(20), "8.8.8.8", port) for port in range(1, K + 1)]

    asyncio.run(look_up(TARGET, [contact(1)], ask, own_id=b"", deadline=5, is_valid=is_right))
    assert sum(node.ip == "8.8.8.8" for node in asked) == 8


def test_we_do_not_ask_ourselves():
    world = World()
    asyncio.run(look_up(TARGET, world.nodes, world.ask, own_id=world.nearest[0].id, deadline=5))
    assert world.nearest[0] not in world.asked


# The routing table.


def test_the_nearest_contacts_are_exactly_the_nearest():
    contacts = Contacts(b"\0" * 20)
    known = [contact(n * 256) for n in range(300)]
    for c in known:
        contacts.add(c)
    kept = contacts.nearest(TARGET, 1000)
    assert len(kept) == len(contacts)
    assert kept == sorted(kept, key=lambda c: distance(c.id, TARGET))
    assert contacts.nearest(TARGET) == kept[:K]
    assert kept[0] not in contacts.nearest(TARGET, without=kept[0].id)


@pytest.mark.parametrize("kind", ["random", "near us", "on a border", "all alike"])
def test_no_set_of_made_up_ids_grows_the_table_beyond_its_bound(kind):
    own = b"\x55" * 20
    contacts = Contacts(own)
    border = (2**159).to_bytes(20, "big"), (2**159 - 1).to_bytes(20, "big")
    for n in range(5000):
        node_id = {
            "random": hashlib.sha1(b"%d" % n).digest(),
            "near us": own[:17] + n.to_bytes(3, "big"),
            "on a border": border[n % 2],
            "all alike": b"\xaa" * 18 + n.to_bytes(2, "big"),
        }[kind]
        contacts.add(Contact(node_id, "127.0.0.1", 1 + n))
    assert len(contacts.buckets) <= 161
    assert all(len(b.nodes) <= K and len(b.replacement_nodes) <= K for b in contacts.buckets)
    ids = [c.id for c in contacts.nearest(own, 100_000)]
    assert len(ids) == len(set(ids))


def test_who_is_known_by_an_id_keeps_it():
    contacts = Contacts(b"\0" * 20)
    old, thief = Contact(b"i" * 20, "127.0.0.1", 1), Contact(b"i" * 20, "127.0.0.1", 2)
    contacts.add(old)
    contacts.add(thief)
    contacts.remove(thief)
    assert contacts.nearest(b"i" * 20) == [old]
    contacts.remove(old)
    assert len(contacts) == 0
    contacts.add(Contact(b"\0" * 20, "127.0.0.1", 3))
    assert len(contacts) == 0, "ourselves"


def test_one_network_segment_does_not_fill_a_bucket():
    contacts = Contacts(b"\0" * 20)
    for n in range(1, 200):
        contacts.add(Contact(b"\xf0" + bytes([n]) * 19, f"8.8.8.{n}", 53))
    assert len(contacts) == PER_SEGMENT
