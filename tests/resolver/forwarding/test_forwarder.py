"""Forwarding to a real server on loopback: who is asked, when, how often, and what is believed."""

import asyncio
import contextlib
import ipaddress
import socket

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
import uvloop

from resolver.dns.answer import Answer
from resolver.dns.asker import Asker
from resolver.dns.cache import ReplyCache
from resolver.dns.codes import Rcode
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from resolver.doors.listening import udp_socket
from resolver.doors.udp import UdpDoor
from resolver.forwarding.forwarder import Forwarder
from resolver.forwarding.plain import MAX_STRANGE
from resolver.forwarding.query import Question
from resolver.forwarding.upstreams import Upstream
from tests.resolver.fakes import World, errors, lines
from tests.resolver.forwarding.authority import Authority, serving, silent_port

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]


def run(story):
    """On the loop of the daemon, which is not asyncio's own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(story, 20))


def question(name: str, qtype: int = 1, **more) -> Question:
    return Question(tuple(name.encode().split(b".")), qtype, **more)


class Clock:
    """Real time and what a test adds to it, or the moment at which it stands."""

    def __init__(self) -> None:
        self.added = 0.0
        self.stands: float | None = None

    def __call__(self) -> float:
        return (
            asyncio.get_running_loop().time() + self.added if self.stands is None else self.stands
        )


@contextlib.asynccontextmanager
async def upstream(*more: tuple[str, int], **options):
    """An authority with a few names, and a forwarder that asks it after ``more``."""
    async with serving() as authority:
        authority.add("www.example.org", 300, "A", "192.0.2.1")
        authority.add("alias.example.org", 60, "CNAME", "www.example.org.")
        authority.add("big.example.org", 300, "TXT", *[f'"{n:0>250}"' for n in range(10)])
        authority.add("ours.example.org", 60, "CNAME", "www.alice.bs.")
        authority.add("www.alice.bs", 60, "A", "192.0.2.66")  # what upstream says of our names
        authority.clock = Clock()
        options = {"allow": LOOPBACK, "timeout": 3.0, "clock": authority.clock} | options
        places = [*more, ("127.0.0.1", authority.port)]
        forwarder = Forwarder([Upstream(*place) for place in places], **options)
        try:
            yield authority, forwarder
        finally:
            await forwarder.close()


def addresses(answer: Answer) -> list[str]:
    return [
        str(ipaddress.ip_address(rdata))
        for records in answer.answer
        if records.rtype == 1
        for rdata in records.rdatas
    ]


def test_a_question_is_asked_once_and_then_answered_from_memory():
    async def story():
        async with upstream() as (authority, forwarder):
            first = await forwarder.answer(question("www.example.org"))
            again = forwarder.at_hand(question("www.example.org"))
            assert addresses(first) == addresses(again) == ["192.0.2.1"]
            authority.clock.added = 100
            assert 190 <= forwarder.at_hand(question("www.example.org")).answer[0].ttl <= 200
            authority.clock.added = 301
            assert forwarder.at_hand(question("www.example.org")) is None
            assert len(authority.asked) == 1

    run(story())


def test_those_who_ask_the_same_at_once_wait_for_one_question():
    async def story():
        async with upstream() as (authority, forwarder):
            authority.gate = asyncio.Event()
            waiting = [
                asyncio.ensure_future(forwarder.answer(question("www.example.org")))
                for _ in range(50)
            ]
            while not authority.asked:
                await asyncio.sleep(0)
            waiting[0].cancel()  # who goes away takes nothing from the others
            authority.gate.set()
            got = await asyncio.gather(*waiting[1:])
            assert all(addresses(answer) == ["192.0.2.1"] for answer in got)
            assert len(authority.asked) == 1
            assert forwarder.outcomes["merged"] == 49

    run(story())


def test_what_is_not_there_is_remembered_as_long_as_the_soa_says():
    async def story():
        async with upstream() as (authority, forwarder):
            for name, qtype, rcode in (("no.example.org", 1, 3), ("www.example.org", 15, 0)):
                answer = await forwarder.answer(question(name, qtype))
                assert (answer.rcode, answer.answer) == (rcode, ())
                assert answer.authority[0].rtype == 6
                authority.clock.added = 119
                assert forwarder.at_hand(question(name, qtype)) is not None
                authority.clock.added = 121
                assert forwarder.at_hand(question(name, qtype)) is None
                authority.clock.added = 0

    run(story())


def test_every_question_has_a_port_an_id_and_a_case_of_its_own():
    async def story():
        async with upstream() as (authority, forwarder):
            for number in range(40):
                authority.add(f"host{number}.somewhere.example.org", 60, "A", "192.0.2.9")
                await forwarder.answer(question(f"host{number}.somewhere.example.org"))
            assert len(set(authority.ports)) > 35
            assert len({query.id for query in authority.asked}) > 35
            cases = {
                query.question[0].name.to_text().partition(".")[2] for query in authority.asked
            }
            assert len(cases) > 35
            assert max(authority.ports) - min(authority.ports) > 20_000

    run(story())


def test_a_truncated_reply_is_asked_for_again_over_tcp():
    async def story():
        async with upstream() as (authority, forwarder):

            def cut(reply):
                reply.flags |= dns.flags.TC
                reply.answer.clear()
                return reply

            authority.twist = cut
            answer = await forwarder.answer(question("big.example.org", 16))
            assert len(answer.answer[0].rdatas) == 10
            assert authority.over_tcp == 1

    run(story())


def test_a_reply_in_another_case_is_asked_for_again_over_tcp():
    async def story():
        async with upstream() as (authority, forwarder):

            def lowered(reply):
                wire = reply.to_wire()
                end = wire.index(b"\0", 12)
                return wire[:12] + wire[12:end].swapcase() + wire[end:]

            authority.twist = lowered
            answer = await forwarder.answer(question("www.example.org"))
            assert addresses(answer) == ["192.0.2.1"]
            assert authority.over_tcp == 1

    run(story())


@pytest.mark.parametrize("trailing", [b"", b"behind"])
def test_one_that_answers_in_another_case_and_has_no_tcp_is_asked_in_small_letters(trailing):
    async def story():
        async with upstream() as (authority, forwarder):

            def lowered(reply):
                wire = reply.to_wire()
                end = wire.index(b"\0", 12)
                return wire[:12] + wire[12:end].lower() + wire[end:] + trailing

            authority.twist = lowered
            authority.stop_listening()
            assert addresses(await forwarder.answer(question("www.example.org"))) == ["192.0.2.1"]
            first, again = authority.asked
            assert again.question[0].name.to_text() == "www.example.org."
            assert (first.id, authority.ports[0]) != (again.id, authority.ports[1])

    run(story())


@pytest.mark.parametrize("how", ["FORMERR", "NOTIMP", "BADVERS", "FORMERR without question"])
def test_one_that_does_not_know_edns_is_asked_without_it(how):
    async def story():
        async with upstream() as (authority, forwarder):

            def old(reply):
                if authority.asked[-1].edns < 0:
                    return reply
                reply.answer.clear()
                reply.use_edns(0 if how == "BADVERS" else False)
                reply.set_rcode(getattr(dns.rcode, how.split()[0]))
                if "without" in how:
                    return reply.to_wire()[:4] + bytes(8)
                return reply

            authority.twist = old
            assert addresses(await forwarder.answer(question("www.example.org"))) == ["192.0.2.1"]
            assert [query.edns for query in authority.asked] == [0, -1]
            assert forwarder.healthy() == 1

    run(story())


def test_an_opt_that_nobody_asked_for_is_borne():
    async def story():
        async with upstream() as (authority, forwarder):

            def new(reply):
                if authority.asked[-1].edns >= 0:
                    reply.answer.clear()
                    reply.set_rcode(dns.rcode.FORMERR)
                reply.use_edns(0, options=[dns.edns.GenericOption(65_001, b"x")])
                return reply

            authority.twist = new
            assert addresses(await forwarder.answer(question("www.example.org"))) == ["192.0.2.1"]

    run(story())


@pytest.mark.parametrize("tcp", ["refused", "cut too"])
def test_a_reply_that_is_cut_wherever_it_is_asked_is_a_failure_and_the_next_is_asked(tcp):
    async def story():
        async with serving() as broken, upstream(("127.0.0.1", broken.port)) as (good, forwarder):

            def cut(reply):
                reply.flags |= dns.flags.TC
                return reply

            broken.add("www.example.org", 60, "A", "192.0.2.66")
            broken.twist = broken.stream_twist = cut
            if tcp == "refused":
                broken.stop_listening()
            assert addresses(await forwarder.answer(question("www.example.org"))) == ["192.0.2.1"]
            assert len(good.asked) == 1

    run(story())


def test_one_that_looks_nothing_up_for_us_is_passed_over():
    async def story():
        async with serving() as lame, upstream(("127.0.0.1", lame.port)) as (good, forwarder):

            def refer(reply):
                reply.flags &= ~(dns.flags.RA | dns.flags.AA)
                reply.set_rcode(dns.rcode.NOERROR)
                reply.authority = [dns.rrset.from_text("org.", 60, "IN", "NS", "ns.org.")]
                return reply

            lame.twist = refer
            assert addresses(await forwarder.answer(question("www.example.org"))) == ["192.0.2.1"]
            good.twist = refer
            answer = await forwarder.answer(question("nosuch.example.org"))
            assert answer.rcode == Rcode.SERVFAIL
            assert "does not look names up" in answer.errors[0].text

    run(story())


def forged(packet: bytes, *, ident: int, address: str = "192.0.2.66") -> bytes:
    """What a forger sends who knows everything but the ID."""
    reply = dns.message.make_response(dns.message.from_wire(packet))
    reply.id = ident
    reply.answer.append(dns.rrset.from_text(reply.question[0].name, 300, "IN", "A", address))
    return reply.to_wire()


@pytest.mark.parametrize("guesses", [1, MAX_STRANGE - 1, MAX_STRANGE, 200])
def test_guesses_are_not_believed_and_many_of_them_mean_tcp(guesses):
    async def story():
        async with upstream() as (authority, forwarder):
            authority.forge = lambda packet: [
                forged(packet, ident=(packet[0] << 8 | packet[1]) ^ (n + 1)) for n in range(guesses)
            ]
            answer = await forwarder.answer(question("www.example.org"))
            assert addresses(answer) == ["192.0.2.1"]
            assert authority.over_tcp == (guesses >= MAX_STRANGE)

    run(story())


def test_a_packet_from_another_address_does_not_arrive():
    async def story():
        async with upstream() as (authority, forwarder):
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            stranger.bind(("127.0.0.1", 0))
            authority.gate = asyncio.Event()
            waiting = asyncio.ensure_future(forwarder.answer(question("www.example.org")))
            while not authority.asked:
                await asyncio.sleep(0)
            query = authority.asked[0]
            right = forged(query.to_wire(), ident=query.id)
            stranger.sendto(right, ("127.0.0.1", authority.ports[0]))
            authority.gate.set()
            assert addresses(await waiting) == ["192.0.2.1"]
            assert forwarder.outcomes["strange"] == 0
            stranger.close()

    run(story())


@pytest.mark.parametrize("first", ["refused port", "silent", "servfail", "rubbish"])
def test_when_the_first_upstream_fails_the_second_is_asked(first):
    async def story():
        async with contextlib.AsyncExitStack() as stack:
            bound, port = silent_port()
            stack.callback(bound.close)
            if first == "refused port":
                bound.close()
            elif first in ("servfail", "rubbish"):
                bad = await stack.enter_async_context(serving())
                port = bad.port

                def fail(reply):
                    reply.set_rcode(dns.rcode.SERVFAIL)
                    return reply if first == "servfail" else reply.to_wire()[:-1]

                bad.twist = fail
            authority, forwarder = await stack.enter_async_context(upstream(("127.0.0.1", port)))
            answer = await forwarder.answer(question("www.example.org"))
            assert addresses(answer) == ["192.0.2.1"]
            # Now it stands at the end, unless it was only this name it could not tell.
            assert forwarder.healthy() == (2 if first == "servfail" else 1)
            before = authority.clock()
            assert addresses(await forwarder.answer(question("alias.example.org")))
            assert authority.clock() - before < 0.5

    run(story())


def test_when_nobody_answers_the_failure_says_so_and_is_kept_for_seconds():
    async def story():
        bound, port = silent_port()
        forwarder = Forwarder([Upstream("127.0.0.1", port)], timeout=0.3)
        answer = await forwarder.answer(question("www.example.org"))
        assert answer.rcode == Rcode.SERVFAIL
        assert [(e.code, e.text) for e in answer.errors] == [
            (22, "none of 1 upstream resolvers answers")
        ]
        again = forwarder.at_hand(question("www.example.org"))
        assert (again.rcode, again.errors) == (answer.rcode, answer.errors)
        bound.close()

    run(story())


def test_the_reasons_of_an_upstream_are_passed_on():
    async def story():
        async with upstream() as (authority, forwarder):

            def bogus(reply):
                reply.set_rcode(dns.rcode.SERVFAIL)
                reply.use_edns(0, options=[dns.edns.EDEOption(6, "signature is wrong")])
                return reply

            authority.twist = bogus
            answer = await forwarder.answer(question("www.example.org"))
            assert answer.rcode == Rcode.SERVFAIL
            assert [(e.code, e.text) for e in answer.errors] == [(6, "signature is wrong")]
            assert len(authority.asked) == 1  # to ask the same again would tell nothing new

    run(story())


def test_an_answer_past_its_time_is_better_than_none():
    async def story():
        async with upstream(timeout=0.3) as (authority, forwarder):
            await forwarder.answer(question("www.example.org"))
            authority.twist = lambda reply: None
            authority.clock.added = 400
            stale = await forwarder.answer(question("www.example.org"))
            assert addresses(stale) == ["192.0.2.1"]
            assert stale.answer[0].ttl == 30
            assert stale.errors[0].code == 3
            asked = len(authority.asked)
            assert forwarder.at_hand(question("www.example.org")).errors[0].code == 3
            assert len(authority.asked) == asked  # for a while nobody is asked again
            authority.twist = None
            authority.clock.added = 440
            fresh = await forwarder.answer(question("www.example.org"))
            assert (fresh.errors, fresh.answer[0].ttl) == ((), 300)

    run(story())


def test_a_slow_refresh_does_not_hold_a_stale_answer_back_and_is_kept_when_it_comes():
    async def story():
        async with upstream(patience=0.05) as (authority, forwarder):
            await forwarder.answer(question("www.example.org"))
            authority.gate = asyncio.Event()
            authority.clock.added = 400
            stale = await forwarder.answer(question("www.example.org"))
            assert stale.errors[0].code == 3
            authority.gate.set()
            while forwarder.at_hand(question("www.example.org")) is None:
                await asyncio.sleep(0.01)
            assert forwarder.at_hand(question("www.example.org")).errors == ()

    run(story())


def test_no_more_questions_are_under_way_than_allowed():
    async def story():
        async with upstream(max_under_way=3) as (authority, forwarder):
            authority.gate = asyncio.Event()
            waiting = [
                asyncio.ensure_future(forwarder.answer(question(f"n{n}.example.org")))
                for n in range(5)
            ]
            while len(authority.asked) < 3:
                await asyncio.sleep(0)
            authority.gate.set()
            got = [answer.rcode for answer in await asyncio.gather(*waiting)]
            assert sorted(got) == [2, 2, 3, 3, 3]

    run(story())


# Behind a resolver


def test_a_flood_of_other_names_gets_no_more_than_the_share_of_forwarding():
    async def story():
        async with world(rate=10.0) as (authority, made, ask):
            authority.clock.stands = 1_000.0
            replies = await asyncio.gather(
                *(ask(f"n{n}.example.org") for n in range(400)),
                *(ask("www.alice.bs") for _ in range(400)),
            )
            rcodes = [reply.rcode() for reply in replies]
            assert rcodes[400:] == [dns.rcode.NOERROR] * 400
            assert (
                rcodes[:400].count(dns.rcode.NXDOMAIN) == 20
            )  # two seconds' worth may come at once
            assert rcodes[:400].count(dns.rcode.SERVFAIL) == 380
            assert len(authority.asked) == 20
            # Most of them cost a look at the question: neither cache nor chase saw them.
            over, late = (
                made.resolver.outcomes["over budget"],
                made.forwarder.outcomes["overloaded"],
            )
            assert over + late == 380
            assert over >= 370
            authority.clock.stands += 1.0
            later = [(await ask(f"n{n}.example.org")).rcode() for n in range(400, 430)]
            assert later.count(dns.rcode.NXDOMAIN) == 10

    run(story())


def test_what_is_beyond_the_share_of_forwarding_is_told_by_the_short_way():
    async def story():
        async with kept_world(rate=1.0) as (authority, _, ask, ready):
            authority.clock.stands = 1_000.0
            assert ready("n0.example.org") is None
            for number in range(3):
                last = await ask(f"n{number}.example.org")
            assert last.rcode() == dns.rcode.SERVFAIL
            refused = ready("n9.example.org", do=True)
            assert (refused.rcode(), refused.edns) == (dns.rcode.SERVFAIL, 0)
            assert refused.flags & dns.flags.RA
            assert ready("n0.example.org").rcode() == dns.rcode.NXDOMAIN  # it is in memory
            assert ready("www.alice.bs") is None
            assert ready("n9.example.org", address="192.0.2.77") is None
            authority.clock.stands += 1.0
            assert ready("n9.example.org") is None

    run(story())


@contextlib.asynccontextmanager
async def world(zones=None, chain_first=(), cache=None, **options):
    """A resolver with names of its own that forwards the rest."""
    from resolver.dns.zones import Zones

    async with upstream(**options) as (authority, forwarder):
        made = World(
            Zones.from_settings(zones or {"bs": "id"}, chain_first=chain_first),
            forwarder=forwarder,
            cache=cache,
            clock=authority.clock,
        )
        made.forwarder = forwarder
        made.zonefile(
            "alice.id",
            "www A 192.0.2.7\naway CNAME www.example.org.\nthere CNAME no.example.org.",
        )

        async def ask(
            qname, rtype="A", *, address="127.0.0.1", tcp=False, flags="RD", do=False
        ) -> dns.message.Message:
            query = dns.message.make_query(qname, rtype, use_edns=0, want_dnssec=do)
            query.flags = dns.flags.from_text(flags)
            limit = STREAM_LIMIT if tcp else UDP_LIMIT
            wire = await made.resolver.reply_to(query.to_wire(), limit, Asker(address))
            reply = dns.message.from_wire(wire)
            assert query.is_response(reply)
            return reply

        yield authority, made, ask


def asked(authority: Authority) -> list[str]:
    return [query.question[0].name.to_text().lower() for query in authority.asked]


def test_an_ordinary_name_is_answered_with_ra_and_without_aa():
    async def story():
        async with world() as (authority, _, ask):
            for _ in range(2):
                reply = await ask("www.example.org")
                assert lines(reply.answer)[0].startswith("www.example.org. ")
                assert dns.flags.to_text(reply.flags) == "QR RD RA"
            assert len(authority.asked) == 1
            missing = await ask("no.example.org")
            assert missing.rcode() == dns.rcode.NXDOMAIN
            assert missing.authority

    run(story())


def test_ra_is_offered_with_our_own_names_too_and_to_those_alone_who_may():
    async def story():
        async with world() as (_, _, ask):
            for _ in range(2):
                ours = await ask("www.alice.bs")
                assert dns.flags.to_text(ours.flags) == "QR AA RD RA"
                stranger = await ask("www.alice.bs", address="192.0.2.99")
                assert dns.flags.to_text(stranger.flags) == "QR AA RD"

    run(story())


def test_ra_is_offered_with_refusals_too():
    async def story():
        async with world() as (_, made, _):
            strange = dns.message.make_query("www.alice.bs", "A", use_edns=0)
            strange.set_opcode(4)
            broken = strange.to_wire()[:-1]
            late = dns.message.make_query("www.alice.bs", "A", use_edns=1)
            for packet in (strange.to_wire(), broken, late.to_wire()):
                for address, offered in (("127.0.0.1", 0x80), ("192.0.2.99", 0)):
                    wire = await made.resolver.reply_to(packet, UDP_LIMIT, Asker(address))
                    assert wire[3] & 0x80 == offered
                    assert wire[:2] == packet[:2]

    run(story())


@pytest.mark.parametrize("address", ["192.0.2.99", "2001:db8::1", "", "fe80::1%eth0", "rubbish"])
def test_strangers_are_refused_and_told_why(address):
    async def story():
        async with world() as (authority, _, ask):
            await ask("www.example.org")
            reply = await ask("www.example.org", address=address)
            assert reply.rcode() == dns.rcode.REFUSED
            assert errors(reply)[0][0] == 18
            assert not reply.flags & dns.flags.RA
            alias = await ask("away.alice.bs", address=address)
            assert [rrset.rdtype for rrset in alias.answer] == [dns.rdatatype.CNAME]
            assert len(authority.asked) == 1

    run(story())


def test_without_rd_nothing_is_asked_of_others_nor_of_the_cache():
    async def story():
        async with world() as (authority, _, ask):
            await ask("www.example.org")
            reply = await ask("www.example.org", flags="")
            assert (reply.rcode(), errors(reply)[0][0]) == (dns.rcode.REFUSED, 20)
            alias = await ask("away.alice.bs", flags="")
            assert len(alias.answer) == 1
            assert len(authority.asked) == 1

    run(story())


def test_an_alias_that_leads_away_is_followed_to_its_end():
    async def story():
        async with world() as (authority, _, ask):
            for _ in range(2):
                reply = await ask("Away.alice.bs")
                assert [(r.name.to_text(), r[0].to_text()) for r in reply.answer] == [
                    ("Away.alice.bs.", "www.example.org."),
                    ("www.example.org.", "192.0.2.1"),
                ]
                assert dns.flags.to_text(reply.flags) == "QR AA RD RA"
            missing = await ask("there.alice.bs")
            assert missing.rcode() == dns.rcode.NXDOMAIN  # RFC 6604
            assert len(missing.answer) == 1
            assert missing.authority[0].name.to_text() == "org."
            assert asked(authority) == ["www.example.org.", "no.example.org."]

    run(story())


def test_an_alias_that_leads_to_us_is_answered_here_whatever_upstream_says():
    async def story():
        async with world() as (_, _, ask):
            for _ in range(2):
                reply = await ask("ours.example.org")
                assert [r[0].to_text() for r in reply.answer] == ["www.alice.bs.", "192.0.2.7"]
                assert not reply.flags & dns.flags.AA

    run(story())


def aliases(count: int) -> str:
    """``count`` aliases from n0 on, one leading to the next, and an address at the end."""
    return "".join(f"n{n} CNAME n{n + 1}\n" for n in range(count)) + f"n{count} A 192.0.2.5"


@pytest.mark.parametrize(
    ("count", "flags", "address", "rcode", "records"),
    [
        (8, "RD", "127.0.0.1", "NOERROR", 9),
        (16, "RD", "127.0.0.1", "NOERROR", 17),
        (17, "RD", "127.0.0.1", "SERVFAIL", 0),
        (17, "", "127.0.0.1", "NOERROR", 9),  # who does not rely on us goes on from there
        (17, "RD", "192.0.2.77", "NOERROR", 9),
    ],
)
def test_who_relies_on_us_gets_a_whole_chain_or_a_failure(count, flags, address, rcode, records):
    async def story():
        async with world() as (_, made, ask):
            made.zonefile("alice.id", aliases(count))
            reply = await ask("n0.alice.bs", flags=flags, address=address)
            assert dns.rcode.to_text(reply.rcode()) == rcode
            assert sum(map(len, reply.answer)) == records
            broken = [] if records == count + 1 else [(0, "the chain of aliases is followed no ")]
            assert [(code, text[:36]) for code, text in errors(reply)] == broken

    run(story())


@pytest.mark.parametrize("start", ["turn.alice.bs", "out.alice.bs", "back.example.org"])
def test_a_circle_of_aliases_on_one_side_or_both_is_a_failure(start):
    async def story():
        async with world() as (authority, made, ask):
            made.zonefile("alice.id", "turn CNAME turn\nout CNAME back.example.org.")
            authority.add("back.example.org", 60, "CNAME", "out.alice.bs.")
            reply = await ask(start)
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert not reply.answer
            ((code, text),) = errors(reply)
            assert code == 0
            assert text.startswith("the chain of aliases ")
            assert len(authority.asked) <= 1

    run(story())


SECRETS = [
    "bs",
    "alice.bs",
    "www.alice.bs",
    "nosuch.bs",
    "a.b.nosuch.bs",
    "x!y.bs",
    "WWW.NOSUCH.BS",
]


def test_no_name_of_a_served_suffix_ever_leaves():
    async def story():
        async with world() as (authority, made, ask):
            for rtype in ("A", "NS", "DS", "SOA", "ANY", "TYPE65280"):
                for name in SECRETS:
                    await ask(name, rtype)
            made.freshness = type(made.freshness)(False, 1, 2, 0.0)
            for name in SECRETS:
                assert (await ask(name)).rcode() == dns.rcode.SERVFAIL
            assert asked(authority) == []

    run(story())


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "a.local",
        "a.onion",
        "a.alt",
        "a.bit",
        "a.test",
        "a.internal",
        "a.service.arpa",
        "1.1.168.192.in-addr.arpa",
    ],
)
def test_names_that_are_kept_here_never_leave(name):
    async def story():
        async with world() as (authority, _, ask):
            reply = await ask(name)
            assert reply.rcode() == (0 if name == "localhost" else dns.rcode.NXDOMAIN)
            assert reply.answer or reply.authority[0].rdtype == dns.rdatatype.SOA
            assert dns.flags.to_text(reply.flags) == "QR AA RD RA"
            assert asked(authority) == []

    run(story())


def test_in_a_chain_first_zone_what_is_not_registered_is_asked_of_ordinary_dns():
    async def story():
        async with world({"bs": "id", "pod": "podcast"}, chain_first=["bs"]) as (
            authority, made, ask,
        ):  # fmt: skip
            from indexer.protocol.records import Phase

            authority.add("www.bahamas.bs", 60, "A", "192.0.2.50")
            authority.add("gone.bs", 60, "A", "192.0.2.51")
            made.name("gone.id", "old", phase=Phase.EXPIRED, gone_at=900)
            made.name("mine.id", "old", phase=Phase.REVOKED)
            assert lines((await ask("www.bahamas.bs")).answer) == [
                "www.bahamas.bs. 60 IN A 192.0.2.50"
            ]
            assert (await ask("gone.bs")).answer[0][0].to_text() == "192.0.2.51"
            assert (await ask("nosuch.bs")).authority[0].name.to_text() == "bs."
            # The chain comes first, and what is somebody's stays here.
            assert (await ask("www.alice.bs")).answer[0][0].to_text() == "192.0.2.7"
            assert (await ask("nosuch.alice.bs")).rcode() == dns.rcode.NXDOMAIN
            assert (await ask("mine.bs")).rcode() == dns.rcode.NXDOMAIN
            assert (await ask("nosuch.pod")).rcode() == dns.rcode.NXDOMAIN
            assert (await ask("bs", "SOA")).flags & dns.flags.AA
            stranger = await ask("www.bahamas.bs", address="192.0.2.99")
            assert (stranger.rcode(), errors(stranger)[0][1]) == (
                dns.rcode.NXDOMAIN, "not registered at block 1000",
            )  # fmt: skip
            assert asked(authority) == ["www.bahamas.bs.", "gone.bs.", "nosuch.bs."]

    run(story())


@pytest.mark.parametrize(
    ("trust", "flags", "do", "ad"),
    [(True, "RD", False, False), (True, "RD AD", False, True), (True, "RD", True, True),
     (False, "RD AD", True, False)],
)  # fmt: skip
def test_ad_is_passed_on_where_it_is_trusted_and_wanted(trust, flags, do, ad):
    async def story():
        async with world(trust_ad=trust) as (authority, _, ask):

            def validated(reply):
                reply.flags |= dns.flags.AD
                return reply

            authority.twist = validated
            for _ in range(2):
                reply = await ask("www.example.org", flags=flags, do=do)
                assert bool(reply.flags & dns.flags.AD) is ad
            assert bool(authority.asked[0].flags & dns.flags.AD) is trust
            mixed = await ask("away.alice.bs", flags=flags, do=do)
            assert not mixed.flags & dns.flags.AD  # our part of it nobody validated

    run(story())


def test_do_and_cd_are_asked_apart_and_cd_comes_back():
    async def story():
        async with world() as (authority, _, ask):
            assert (await ask("www.example.org", flags="RD CD")).flags & dns.flags.CD
            assert not (await ask("www.example.org")).flags & dns.flags.CD
            await ask("www.example.org", do=True)
            seen = [(bool(q.flags & dns.flags.CD), bool(q.ednsflags & dns.flags.DO))
                    for q in authority.asked]  # fmt: skip
            assert seen == [(True, False), (False, False), (False, True)]
            assert not (await ask("www.alice.bs", flags="RD CD")).flags & dns.flags.CD

    run(story())


def test_a_long_forwarded_answer_is_cut_for_udp_and_whole_over_tcp():
    async def story():
        async with world() as (authority, _, ask):
            short = await ask("big.example.org", "TXT")
            assert short.flags & dns.flags.TC
            whole = await ask("big.example.org", "TXT", tcp=True)
            assert len(whole.answer[0]) == 10
            assert len(set(asked(authority))) == 1

    run(story())


# The replies kept ready


@contextlib.asynccontextmanager
async def kept_world(**options):
    """A resolver that forwards and keeps replies, and what a datagram finds ready."""
    async with world(cache=ReplyCache(1 << 20), **options) as (authority, made, ask):

        def ready(qname, rtype="A", *, address="127.0.0.1", flags="RD", do=False):
            query = dns.message.make_query(qname, rtype, use_edns=0, want_dnssec=do)
            query.flags = dns.flags.from_text(flags)
            wire = made.resolver.ready(query.to_wire(), UDP_LIMIT, address)
            if wire is None:
                return None
            reply = dns.message.from_wire(wire)
            assert query.is_response(reply)
            return reply

        yield authority, made, ask, ready


@pytest.mark.parametrize(
    "qname", ["www.alice.bs", "nobody.bs", "www.example.org", "alias.example.org",
              "no.example.org", "away.alice.bs", "there.alice.bs"],
)  # fmt: skip
def test_a_reply_given_before_is_ready_for_the_next_who_asks_whosever_the_name_is(qname):
    async def story():
        async with kept_world() as (authority, _, ask, ready):
            assert ready(qname) is None
            long_way = await ask(qname)
            short_way = ready(qname.upper())
            assert short_way.flags == long_way.flags
            assert short_way.rcode() == long_way.rcode()
            assert short_way.answer == long_way.answer
            assert short_way.authority == long_way.authority
            assert errors(short_way) == errors(long_way)
            assert len(authority.asked) <= 1

    run(story())


def test_what_is_ready_for_some_is_not_what_others_get():
    async def story():
        async with kept_world() as (_, _, ask, ready):
            for qname in ("www.alice.bs", "www.example.org"):
                await ask(qname)
                await ask(qname, address="192.0.2.99")
            assert ready("www.alice.bs").flags & dns.flags.RA
            assert not ready("www.alice.bs", address="192.0.2.99").flags & dns.flags.RA
            assert ready("www.example.org").rcode() == dns.rcode.NOERROR
            assert ready("www.example.org", address="192.0.2.99") is None
            assert ready("www.example.org", flags="") is None
            assert (await ask("www.example.org", flags="")).rcode() == dns.rcode.REFUSED
            assert ready("www.example.org", flags="RD CD") is None
            assert (await ask("www.example.org", flags="RD CD")).flags & dns.flags.CD
            assert not ready("www.example.org").flags & dns.flags.CD
            assert ready("www.example.org", do=True) is None

    run(story())


def test_what_is_ready_of_ordinary_dns_ends_when_it_may_be_kept_no_longer():
    async def story():
        async with kept_world() as (authority, _, ask, ready):
            for qname in ("www.example.org", "no.example.org"):
                await ask(qname)
            authority.clock.added = 100
            assert 199 <= ready("www.example.org").answer[0].ttl <= 201
            authority.clock.added = 121  # the SOA allows 120, though its own TTL is 300
            assert ready("no.example.org") is None
            authority.clock.added = 301
            assert ready("www.example.org") is None
            assert len(authority.asked) == 2

    run(story())


def test_a_block_ends_what_is_ready_of_an_alias_of_its_name_and_a_stale_answer_never_is():
    async def story():
        async with kept_world(timeout=0.3) as (authority, made, ask, ready):
            for qname in ("away.alice.bs", "www.example.org"):
                await ask(qname)
            made.resolver.blocks_came(made.snapshot.height + 1, ["alice.id"])
            assert ready("away.alice.bs") is None
            assert ready("www.example.org") is not None
            made.resolver.blocks_came(made.snapshot.height, [])
            authority.twist = lambda reply: None
            authority.clock.added = 400
            for _ in range(2):
                assert errors(await ask("www.example.org"))[0][0] == 3
                assert ready("www.example.org") is None

    run(story())


def test_the_udp_door_takes_the_short_way_where_others_are_asked_too():
    async def story():
        async with kept_world() as (_, made, _, _):
            loop = asyncio.get_running_loop()
            door = UdpDoor(None, udp_socket("127.0.0.1", 0), made.resolver)
            loop.add_reader(door, door.doRead)
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.setblocking(False)
            client.connect((door.host, door.port))
            for qname in ("www.alice.bs", "www.example.org"):
                query = dns.message.make_query(qname, "A", use_edns=0)
                for turn in range(3):
                    before = door.outcomes["from memory"]
                    await loop.sock_sendall(client, query.to_wire())
                    reply = dns.message.from_wire(await loop.sock_recv(client, 65_535))
                    assert reply.answer
                    assert reply.flags & dns.flags.RA
                    assert door.outcomes["from memory"] - before == (turn > 0)
            loop.remove_reader(door)
            door.connectionLost("the test ends")
            client.close()

    run(story())
