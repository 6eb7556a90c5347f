"""What a zone file delegates, for those who ask us for the whole answer."""

import asyncio
import contextlib
import ipaddress

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from resolver.dns.answer import Answer
from resolver.dns.asker import Asker, is_public
from resolver.dns.cache import ReplyCache
from resolver.dns.codes import Rcode, Rtype
from resolver.dns.lookup import RecordSet
from resolver.dns.message import UDP_LIMIT
from resolver.dns.zones import name_wire
from resolver.forwarding.delegation import delegation_of, end_of, within_cut
from resolver.forwarding.forwarder import Forwarder
from resolver.forwarding.query import Question
from resolver.forwarding.upstreams import Upstream
from tests.resolver.fakes import World, errors, lines
from tests.resolver.forwarding.authority import serving

SOA = "sub.alice.bs. 300 IN SOA ns.sub.alice.bs. mail.sub.alice.bs. 1 3600 600 86400 120"


def run(story):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(story, 20))


def rrset(text: str) -> dns.rrset.RRset:
    owner, ttl, rclass, rtype, rdata = text.split(maxsplit=4)
    return dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata)


@contextlib.asynccontextmanager
async def delegated(records: str = "", **options):
    """A resolver with a name that delegates ``sub``, the server of that, and an upstream."""
    async with serving() as server, serving() as upstream:
        for authority in (server, upstream):
            authority.add("www.example.org", 300, "A", "192.0.2.80")
        server.add("sub.alice.bs", 300, "A", "192.0.2.30")
        server.add("www.sub.alice.bs", 300, "A", "192.0.2.31")
        server.add("away.sub.alice.bs", 300, "CNAME", "www.example.org.")
        server.add("back.sub.alice.bs", 300, "CNAME", "www.alice.bs.")
        server.add("www.alice.bs", 300, "A", "192.0.2.66")  # which is not its to say
        upstream.add("ns.example.org", 300, "A", "127.0.0.1")

        def authoritative(reply):
            reply.flags |= dns.flags.AA
            reply.flags &= ~dns.flags.RA
            reply.authority = [rrset(SOA) for _ in reply.authority]
            return reply

        server.twist = authoritative
        forwarder = Forwarder(
            [Upstream("127.0.0.1", upstream.port)],
            allow=[ipaddress.ip_network("127.0.0.0/8")],
            delegation_port=server.port,
            **({"reachable": lambda address: True, "timeout": 3.0} | options),
        )
        world = World(forwarder=forwarder, cache=ReplyCache(1 << 20))
        world.zonefile(
            "alice.id",
            records
            or "sub NS ns.sub\nns.sub A 127.0.0.1\nwww A 192.0.2.7\nin CNAME www.sub.alice.bs.",
        )

        async def ask(qname, rtype="A", *, address="127.0.0.1", flags="RD"):
            query = dns.message.make_query(qname, rtype, use_edns=0)
            query.flags = dns.flags.from_text(flags)
            wire = await world.resolver.reply_to(query.to_wire(), UDP_LIMIT, Asker(address))
            reply = dns.message.from_wire(wire)
            assert query.is_response(reply)
            return reply

        try:
            yield server, upstream, world, ask
        finally:
            await forwarder.close()


def test_the_whole_answer_comes_from_the_servers_of_the_delegation():
    async def story():
        async with delegated() as (server, upstream, world, ask):
            reply = await ask("www.sub.alice.bs")
            assert lines(reply.answer) == ["www.sub.alice.bs. 300 IN A 192.0.2.31"]
            assert dns.flags.to_text(reply.flags) == "QR RD RA"
            (asked,) = server.asked
            assert asked.flags == 0  # an authority is not asked to recurse
            alias = await ask("in.alice.bs")
            assert [lines([part])[0].split()[-1] for part in alias.answer] == [
                "www.sub.alice.bs.",
                "192.0.2.31",
            ]
            assert (await ask("sub.alice.bs")).answer[0][0].address == "192.0.2.30"
            missing = await ask("no.sub.alice.bs")
            assert missing.rcode() == dns.rcode.NXDOMAIN
            assert missing.authority[0].rdtype == dns.rdatatype.SOA
            assert upstream.asked == []
            wire = dns.message.make_query("www.sub.alice.bs", "A", use_edns=0).to_wire()
            assert world.resolver.ready(wire, UDP_LIMIT, "127.0.0.1") is not None
            world.resolver.blocks_came(world.snapshot.height + 1, ["alice.id"])
            assert world.resolver.ready(wire, UDP_LIMIT, "127.0.0.1") is None

    run(story())


@pytest.mark.parametrize("more", [{"flags": ""}, {"address": "198.51.100.1"}])
def test_who_does_not_ask_or_may_not_gets_the_referral(more):
    async def story():
        async with delegated() as (server, _, _, ask):
            await ask("www.sub.alice.bs")
            reply = await ask("www.sub.alice.bs", **more)
            assert reply.answer == []
            assert lines(reply.authority) == ["sub.alice.bs. 3600 IN NS ns.sub.alice.bs."]
            assert lines(reply.additional) == ["ns.sub.alice.bs. 3600 IN A 127.0.0.1"]
            assert len(server.asked) == 1

    run(story())


def test_an_alias_out_of_the_part_is_followed_and_nothing_else_is_believed_of_other_names():
    async def story():
        async with delegated() as (server, upstream, _, ask):
            away = await ask("away.sub.alice.bs")
            assert lines(away.answer)[1] == "www.example.org. 300 IN A 192.0.2.80"
            assert len(upstream.asked) == 1
            back = await ask("back.sub.alice.bs")
            assert "www.alice.bs. 3600 IN A 192.0.2.7" in lines(back.answer)
            assert "192.0.2.66" not in str(back)
            assert len(upstream.asked) == 1

            def liar(reply):
                reply.flags |= dns.flags.AA
                reply.authority = [rrset("bs. 300 IN NS ns.liar.test.")]
                reply.additional = [rrset("www.alice.bs. 300 IN A 192.0.2.66")]
                return reply

            server.twist = liar
            server.add("x.sub.alice.bs", 300, "A", "192.0.2.32")
            reply = await ask("x.sub.alice.bs")
            assert (len(reply.answer), reply.authority, reply.additional) == (1, [], [])

    run(story())


@pytest.mark.parametrize("how", ["silent", "refused", "lame", "private"])
def test_servers_that_do_not_answer_are_a_failure_that_names_them(how):
    async def story():
        more = {"reachable": is_public} if how == "private" else {}
        async with delegated(timeout=0.5, **more) as (server, upstream, _, ask):

            def twist(reply):
                if how == "refused":
                    reply.set_rcode(dns.rcode.REFUSED)
                return None if how == "silent" else reply

            server.twist = twist
            reply = await ask("www.sub.alice.bs")
            assert reply.rcode() == dns.rcode.SERVFAIL
            text = "a name server of sub.alice.bs answered REFUSED"
            if how != "refused":
                text = "no name server of sub.alice.bs answers"
            assert errors(reply)[0][1] == text
            assert bool(server.asked) is (how != "private")
            assert upstream.asked == []

    run(story())


def test_the_address_of_a_server_elsewhere_is_asked_of_ordinary_dns():
    async def story():
        async with delegated("sub NS ns.example.org.") as (server, upstream, _, ask):
            assert (await ask("www.sub.alice.bs")).answer[0][0].address == "192.0.2.31"
            (asked,) = upstream.asked
            assert asked.question[0].name.to_text().lower() == "ns.example.org."
            assert len(server.asked) == 1

    run(story())


def test_a_delegation_to_nobody_is_a_failure():
    async def story():
        async with delegated("sub NS nowhere.example.org.") as (_, _, _, ask):
            reply = await ask("www.sub.alice.bs")
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert errors(reply) == [
                (22, "no name server of sub.alice.bs has an address that can be asked")
            ]

    run(story())


@pytest.mark.parametrize("onward", ["deep.sub.alice.bs.", "sub.alice.bs.", "alice.bs.", "bs."])
def test_a_further_delegation_is_followed_downwards_alone(onward):
    async def story():
        async with delegated() as (server, _, _, ask):
            server.add("www.deep.sub.alice.bs", 300, "A", "192.0.2.33")
            seen = []

            def twist(reply):
                seen.append(reply)
                reply.flags &= ~dns.flags.AA
                if len(seen) == 1:
                    reply.answer.clear()
                    reply.authority = [rrset(f"{onward} 300 IN NS ns.{onward}")]
                    reply.additional = [rrset(f"ns.{onward} 300 IN A 127.0.0.1")]
                else:
                    reply.flags |= dns.flags.AA
                return reply

            server.twist = twist
            reply = await ask("www.deep.sub.alice.bs")
            if onward.startswith("deep"):
                assert reply.answer[0][0].address == "192.0.2.33"
            else:
                assert (reply.answer, len(seen)) == ([], 1)

    run(story())


# Servers whose names are ours


@pytest.mark.parametrize(
    ("host", "others"),
    [
        ("ns A 127.0.0.1", {}),
        ("* A 127.0.0.1", {}),
        ("ns CNAME real\nreal A 127.0.0.1", {}),
        ("ns CNAME ns.other.bs.", {"other.id": "ns A 127.0.0.1"}),
        ("ns CNAME ns.example.org.", {}),
        ("@ DNAME other.bs.", {"other.id": "ns A 127.0.0.1"}),
        ("ns NS ns.other.bs.", {"other.id": "ns A 127.0.0.1"}),
    ],
    ids=["here", "wildcard", "alias", "alias of another", "alias of a name outside", "dname",
         "delegated"],
)  # fmt: skip
def test_the_address_of_a_server_whose_name_is_ours_is_found_here(host, others):
    async def story():
        async with delegated("sub NS ns.host.bs.") as (server, upstream, world, ask):
            world.zonefile("host.id", host)
            for name, records in others.items():
                world.zonefile(name, records)
            server.add("ns.host.bs", 300, "A", "127.0.0.1")  # where its own part is handed on
            upstream.add("ns.host.bs", 300, "A", "192.0.2.66")  # which is not its to say
            reply = await ask("www.sub.alice.bs")
            assert lines(reply.answer) == ["www.sub.alice.bs. 300 IN A 192.0.2.31"]
            asked = [query.question[0].name.to_text().lower() for query in upstream.asked]
            assert not any(name.endswith("bs.") for name in asked)

    run(story())


@pytest.mark.parametrize(
    "records",
    [
        "sub NS ns.nobody.bs.",
        "sub NS ns.host.bs.",
        "sub NS bs.",
        "sub NS ns.sub",
        "sub NS ns.loop.bs.",
        "sub NS a.circle.bs.",
        "sub NS x!y.bs.",
    ],
)
def test_a_server_of_ours_without_an_address_is_asked_of_nobody(records):
    async def story():
        async with delegated(records) as (server, upstream, world, ask):
            world.zonefile("host.id", 'www A 127.0.0.1\nns TXT "no address"')
            world.zonefile("loop.id", "ns NS www.sub.alice.bs.")
            world.zonefile("circle.id", "a CNAME b\nb CNAME a")
            for name in ("ns.nobody", "ns.host", "ns.sub.alice", "ns.loop", "a.circle", "x!y"):
                upstream.add(f"{name}.bs", 300, "A", "127.0.0.1")
            reply = await ask("www.sub.alice.bs")
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert errors(reply)[-1] == (
                22,
                "no name server of sub.alice.bs has an address that can be asked",
            )
            assert (server.asked, upstream.asked) == ([], [])

    run(story())


def test_a_server_that_is_found_by_name_stands_in_for_one_that_is_silent():
    async def story():
        records = "sub NS ns.sub\nsub NS ns.host.bs.\nns.sub A 127.0.0.9"
        async with delegated(records) as (_, upstream, world, ask):
            world.zonefile("host.id", "ns A 127.0.0.1")
            assert (await ask("www.sub.alice.bs")).answer[0][0].address == "192.0.2.31"
            assert upstream.asked == []

    run(story())


def test_a_block_for_the_name_of_the_server_ends_what_was_kept_by_it():
    async def story():
        async with delegated("sub NS ns.host.bs.") as (_, _, world, ask):
            world.zonefile("host.id", "ns A 127.0.0.1")
            await ask("www.sub.alice.bs")
            wire = dns.message.make_query("www.sub.alice.bs", "A", use_edns=0).to_wire()
            assert world.resolver.ready(wire, UDP_LIMIT, "127.0.0.1") is not None
            world.resolver.blocks_came(world.snapshot.height + 1, ["host.id"])
            assert world.resolver.ready(wire, UDP_LIMIT, "127.0.0.1") is None

    run(story())


def test_a_server_further_down_whose_name_its_own_part_holds_is_asked_for_there():
    async def story():
        async with delegated() as (server, upstream, _, ask):
            server.add("www.deep.sub.alice.bs", 300, "A", "192.0.2.33")
            server.add("ns.sub.alice.bs", 300, "A", "127.0.0.1")
            upstream.add("ns.sub.alice.bs", 300, "A", "192.0.2.66")
            seen = []

            def twist(reply):
                seen.append(reply)
                if len(seen) == 1:
                    reply.answer.clear()
                    reply.authority = [rrset("deep.sub.alice.bs. 300 IN NS ns.sub.alice.bs.")]
                else:
                    reply.flags |= dns.flags.AA
                return reply

            server.twist = twist
            assert (await ask("www.deep.sub.alice.bs")).answer[0][0].address == "192.0.2.33"
            assert upstream.asked == []

    run(story())


# What needs no server


def labels(text: str) -> tuple[bytes, ...]:
    return tuple(text.encode().split(b"."))


NS = RecordSet(labels("sub.alice.bs"), int(Rtype.NS), 300, (name_wire(labels("ns.sub.alice.bs")),))
CHAIN = (
    RecordSet(labels("a.alice.bs"), int(Rtype.CNAME), 300, (name_wire(labels("b.alice.bs")),)),
    RecordSet(labels("b.alice.bs"), int(Rtype.CNAME), 300, (name_wire(labels("a.alice.bs")),)),
)


def test_a_circle_of_aliases_has_an_end():
    assert end_of(CHAIN, labels("a.alice.bs")) in {labels("a.alice.bs"), labels("b.alice.bs")}


@pytest.mark.parametrize(
    ("end", "below", "found"),
    [
        ("www.sub.alice.bs", (), True),
        ("sub.alice.bs", (), True),
        ("www.alice.bs", (), False),
        ("www.sub.alice.bs", labels("sub.alice.bs"), False),
    ],
)
def test_a_referral_leads_closer_to_what_was_asked_or_is_none(end, below, found):
    answer = Answer(Rcode.NOERROR, authority=(NS,))
    assert (delegation_of(answer, labels(end), below) is not None) is found
    assert delegation_of(Answer(Rcode.SERVFAIL, authority=(NS,)), labels(end), below) is None


@given(st.lists(st.binary(max_size=30), max_size=6), st.lists(st.binary(max_size=20), max_size=3))
def test_no_rdata_of_strangers_raises(rdatas, addresses):
    nameservers = RecordSet(labels("sub.alice.bs"), int(Rtype.NS), 300, tuple(rdatas))
    glue = RecordSet(labels("ns.sub.alice.bs"), int(Rtype.A), 300, tuple(addresses))
    cname = RecordSet(labels("www.sub.alice.bs"), int(Rtype.CNAME), 300, tuple(rdatas))
    answer = Answer(Rcode.NOERROR, answer=(cname,), authority=(nameservers,), glue=(glue,))
    end = end_of(answer.answer, labels("www.sub.alice.bs"))
    delegation_of(answer, end, ())
    question = Question(labels("www.sub.alice.bs"), 1, cut=labels("sub.alice.bs"))
    within_cut(answer, question)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("192.0.2.1", False),
        ("8.8.8.8", True),
        ("10.1.2.3", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.251", False),
        ("100.64.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::fb", False),
        ("::ffff:10.0.0.1", False),
        ("2620:fe::fe", True),
    ],
)
def test_strangers_send_us_to_the_open_internet_alone(address, public):
    assert is_public(address) is public
