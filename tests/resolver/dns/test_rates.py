"""Rate limiting and budgets: who is let through, who is slipped, and that no flood can grow."""

import asyncio
import socket

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from resolver.dns.asker import Asker
from resolver.dns.cache import ReplyCache
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from resolver.dns.rates import (
    IN_ALL,
    Cost,
    Rates,
    ReplyRates,
    Verdict,
    WorkBudget,
    network_of,
)
from resolver.doors.udp import UdpDoor
from tests.resolver.fakes import World

STRANGER = "198.51.100.7"


def a_query(qname: str, **more: object) -> bytes:
    return dns.message.make_query(qname, "A", use_edns=0, **more).to_wire()


def a_reply(rcode: int = 0) -> bytes:
    return bytes((0, 0, 0x84, rcode)) + bytes(8)


def judged(rates: ReplyRates, count: int, *, address: str = STRANGER, now: float = 0.0) -> list:
    query, reply = a_query("alice.bs"), a_reply()
    return [rates.judge(address, query, reply, now) for _ in range(count)]


def test_a_network_gets_its_rate_and_the_surplus_is_slipped_or_dropped():
    rates = ReplyRates(Rates(alike=5, slip=2))
    verdicts = judged(rates, 30)
    assert verdicts[:10] == [Verdict.SEND] * 10
    assert verdicts[10:] == [Verdict.DROP, Verdict.SLIP] * 10
    assert judged(rates, 6, now=1.0).count(Verdict.SEND) == 5


@pytest.mark.parametrize(("slip", "slipped"), [(0, 0), (1, 20), (4, 5)])
def test_one_in_slip_of_the_surplus_is_answered(slip, slipped):
    assert judged(ReplyRates(Rates(alike=5, slip=slip)), 30).count(Verdict.SLIP) == slipped


def test_a_rate_of_nothing_limits_nothing():
    assert set(judged(ReplyRates(Rates(alike=0)), 1_000)) == {Verdict.SEND}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1"])
def test_loopback_is_never_limited(address):
    assert set(judged(ReplyRates(Rates(alike=1)), 100, address=address)) == {Verdict.SEND}


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:0:1::1", "2001:db8:0:ff:2::9", True),
        ("2001:db8:0:1::1", "2001:db8:0:100::1", False),
    ],
)
def test_addresses_of_one_network_share_a_rate(one, other, together):
    assert (network_of(one) == network_of(other)) is together
    rates = ReplyRates(Rates(alike=5))
    judged(rates, 10, address=one)
    assert (Verdict.SEND in judged(rates, 1, address=other)) is not together


@pytest.mark.parametrize("rcode", [dns.rcode.NXDOMAIN, dns.rcode.REFUSED, dns.rcode.SERVFAIL])
def test_ever_new_names_do_not_help_a_flood_of_denials(rcode):
    rates = ReplyRates(Rates(alike=5))
    verdicts = [rates.judge(STRANGER, a_query(f"x{n}.bs"), a_reply(rcode), 0.0) for n in range(100)]
    assert verdicts.count(Verdict.SEND) == 10


def test_ever_new_names_that_exist_end_at_the_rate_in_all():
    rates = ReplyRates(Rates(alike=5))
    verdicts = [rates.judge(STRANGER, a_query(f"x{n}.bs"), a_reply(), 0.0) for n in range(500)]
    assert verdicts.count(Verdict.SEND) == 10 * IN_ALL


def test_the_case_of_the_name_does_not_make_another_question():
    rates = ReplyRates(Rates(alike=1))
    verdicts = [
        rates.judge(STRANGER, a_query(name), a_reply(), 0.0)
        for name in ("alice.bs", "ALICE.bs", "aLice.Bs")
    ]
    assert verdicts.count(Verdict.SEND) == 2


def test_work_is_rationed_by_its_cost_and_forgers_cannot_use_up_the_account_of_the_proven():
    work = WorkBudget(Rates(computed=10, fetched=1))
    assert [work.admits(STRANGER, Cost.FETCHED, False, 0.0) for _ in range(4)].count(True) == 2
    assert [work.admits(STRANGER, Cost.COMPUTED, False, 0.0) for _ in range(40)].count(True) == 20
    assert work.admits(STRANGER, Cost.FETCHED, True, 0.0)
    assert work.admits(STRANGER, Cost.FETCHED, False, 1.0)


# In the resolver


def test_over_the_budget_a_datagram_hears_tc_and_a_stream_servfail():
    work = WorkBudget(Rates(computed=0, fetched=1))
    world = World(work=work, clock=lambda: 0.0)
    for number in range(9):
        world.name(f"n{number}.id", f"data {number}", lies="network")
    stranger = Asker(STRANGER)

    async def ask(number: int, limit: int) -> dns.message.Message:
        wire = await world.resolver.reply_to(a_query(f"n{number}.bs"), limit, stranger)
        return dns.message.from_wire(wire)

    async def story() -> list[dns.message.Message]:
        return [await ask(n, UDP_LIMIT if n < 4 else STREAM_LIMIT) for n in range(8)]

    replies = asyncio.run(story())
    cut = [bool(reply.flags & dns.flags.TC) for reply in replies]
    assert cut == [False, False, True, True] + 4 * [False]
    assert [reply.rcode() for reply in replies] == [0] * 6 + [dns.rcode.SERVFAIL] * 2
    assert len(world.source.asked) == 4
    assert world.resolver.outcomes["over budget"] == 4


# In the door


class Line:
    """A socket whose datagrams come from whom the test says."""

    def __init__(self, packets: list[tuple[bytes, tuple[str, int]]]) -> None:
        self.packets = packets
        self.sent: list[tuple[bytes, tuple[str, int]]] = []

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.53", 53)

    def recvmsg(self, size: int, room: int) -> tuple[bytes, list, int, tuple[str, int]]:
        if not self.packets:
            raise BlockingIOError
        packet, peer = self.packets.pop(0)
        return packet, [], 0, peer

    def sendto(self, reply: bytes, peer: tuple[str, int]) -> None:
        self.sent.append((reply, peer))


@pytest.fixture
def world() -> World:
    world = World(cache=ReplyCache(1_000_000))
    world.zonefile("alice.id", "@ A 192.0.2.1")
    return world


def through(world: World, packets: list[bytes], address: str = STRANGER) -> list[bytes]:
    line = Line([(packet, (address, 1_234)) for packet in packets])
    rates = ReplyRates(Rates(alike=5, slip=2))
    door = UdpDoor(None, line, world.resolver, rates=rates, clock=lambda: 0.0)  # type: ignore[arg-type]
    while line.packets:
        door.doRead()
    return [reply for reply, _ in line.sent]


def test_a_flood_of_one_question_is_cut_to_its_rate(world):
    query = a_query("alice.bs")
    replies = [dns.message.from_wire(wire) for wire in through(world, [query] * 30)]
    whole = [reply for reply in replies if reply.answer]
    slipped = [reply for reply in replies if not reply.answer]
    assert (len(whole), len(slipped)) == (10, 10)
    assert all(reply.flags & dns.flags.TC and reply.question for reply in slipped)
    assert all(len(reply.to_wire()) <= len(query) for reply in slipped)


def test_who_knows_cookies_is_given_one_and_then_let_through(world):
    bare = a_query("alice.bs", options=[dns.edns.GenericOption(10, b"12345678")])
    replies = [dns.message.from_wire(wire) for wire in through(world, [bare] * 30)]
    assert [reply.rcode() for reply in replies[10:]] == [dns.rcode.BADCOOKIE] * 10
    assert not any(reply.flags & dns.flags.TC for reply in replies)
    given = next(bytes(o.to_wire()) for o in replies[-1].options if o.otype == 10)
    proven = a_query("alice.bs", options=[dns.edns.GenericOption(10, given)])
    replies = [dns.message.from_wire(wire) for wire in through(world, [proven] * 30)]
    assert sum(bool(reply.answer) for reply in replies) == 30


def test_broken_packets_are_limited_like_any_refusal(world):
    assert len(through(world, [a_query("alice.bs")[:-3]] * 100)) == 10 + 45


def test_loopback_is_served_without_limit(world):
    assert len(through(world, [a_query("alice.bs")] * 100, "127.0.0.1")) == 100


def test_an_address_of_version_six_is_limited_too(world):
    assert len(through(world, [a_query("alice.bs")] * 100, "2001:db8::1")) == 10 + 45


def test_no_reply_amplifies_beyond_the_stated_factor(world):
    """The worst is the shortest question for the largest answer: with EDNS 1,232 bytes for a
    question of 33, without it 512 for 22."""
    world.name("a.id", bytes(40_000))
    world.zonefile("b.id", "\n".join(f"@ A 192.0.2.{n}" for n in range(1, 250)))
    world.zonefile("c.id", "\n".join(f'@ TXT "{"x" * n}"' for n in range(2, 250)))
    world.zonefile(
        "d.id", f'@ TXT "{"x" * 255}" "{"x" * 255}" "{"x" * 255}" "{"x" * 255}" "{"x" * 130}"'
    )
    worst = {True: 0.0, False: 0.0}
    for name in ("a", "b", "c", "d", "nobody", "lost"):
        for rtype in ("A", "TXT", "ANY", "SOA"):
            for edns in (True, False):
                query = dns.message.make_query(f"{name}.bs", rtype)
                if edns:
                    query.use_edns(0, payload=65_535)
                wire = query.to_wire()
                factor = len(world.send(wire)) / len(wire)
                worst[edns] = max(worst[edns], factor)
    assert 30 < worst[True] <= UDP_LIMIT / 33
    assert worst[False] <= 512 / 22


def test_a_bound_socket_is_closed_with_its_door(world):
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    door = UdpDoor(None, bound, world.resolver)
    door.connectionLost("the reactor stops")
    assert bound.fileno() == -1
