"""Upstreams over TLS: real handshakes on loopback, one connection for many, no way to the clear."""

import asyncio
import contextlib
import ipaddress

import dns.flags
import dns.rcode
import pytest
import uvloop

from resolver.dns.codes import Rcode
from resolver.forwarding.forwarder import Forwarder
from resolver.forwarding.query import Question
from resolver.forwarding.tls import TlsUpstream, client_context
from resolver.forwarding.upstreams import Upstream
from tests.resolver.doors.certificates import make_certificate
from tests.resolver.forwarding.authority import Authority, serving, serving_tls

NAME = "dns.test"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("good"), NAME)


def run(story):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        said = []
        runner.get_loop().set_exception_handler(lambda loop, context: said.append(context))
        result = runner.run(asyncio.wait_for(story, 20))
    assert said == [], "something was left to the loop to complain about"
    return result


def question(name: str, qtype: int = 1) -> Question:
    return Question(tuple(name.encode().split(b".")), qtype)


@contextlib.asynccontextmanager
async def upstream(pair, *, name=NAME, trusted=None, before=(), after=(), **options):
    """An authority over TLS, and a forwarder that asks it between ``before`` and ``after``."""
    authority = Authority()
    for number in range(50):
        authority.add(f"n{number}.example.org", 300, "A", f"192.0.2.{number}")
    async with serving(authority), serving_tls(authority, *pair):
        it = Upstream("127.0.0.1", authority.tls_port, True, name)
        tls = client_context(trusted or pair[0])
        forwarder = Forwarder([*before, it, *after], tls=tls, **({"timeout": 20.0} | options))
        try:
            yield authority, forwarder
        finally:
            await forwarder.close()


def address(answer) -> str:
    return str(ipaddress.ip_address(answer.answer[0].rdatas[0]))


async def ask(forwarder, number: int):
    return await forwarder.answer(question(f"n{number}.example.org"))


def test_questions_share_one_connection_and_their_lengths_tell_little(good):
    async def story():
        async with upstream(good) as (authority, forwarder):
            assert address(await ask(forwarder, 1)) == "192.0.2.1"
            many = await asyncio.gather(*(ask(forwarder, n) for n in range(2, 40)))
            assert [address(answer) for answer in many] == [f"192.0.2.{n}" for n in range(2, 40)]
            assert len(authority.streams) == 1
            assert authority.ports == []  # nothing went over UDP
            assert {len(query.to_wire()) % 128 for query in authority.asked} == {0}
            assert {query.options[0].otype for query in authority.asked} == {12}
            assert len({query.id for query in authority.asked}) > 30
            connection = authority.streams[0].get_extra_info("ssl_object")
            assert connection.version() == "TLSv1.3"
            assert connection.selected_alpn_protocol() == "dot"

    run(story())


def test_those_who_come_while_it_is_opened_share_it(good):
    async def story():
        async with upstream(good) as (authority, forwarder):
            many = await asyncio.gather(*(ask(forwarder, n) for n in range(30)))
            assert len({address(answer) for answer in many}) == 30
            assert len(authority.streams) == 1

    run(story())


def test_a_reply_may_overtake_another(good):
    async def story():
        async with upstream(good) as (authority, forwarder):
            authority.gate = asyncio.Event()
            authority.late = {"n1.example.org"}
            slow = asyncio.ensure_future(ask(forwarder, 1))
            while not authority.asked:
                await asyncio.sleep(0)
            assert address(await ask(forwarder, 2)) == "192.0.2.2"
            assert not slow.done()
            authority.gate.set()
            assert address(await slow) == "192.0.2.1"
            assert len(authority.streams) == 1

    run(story())


def test_a_connection_that_was_closed_meanwhile_costs_nobody_an_answer(good):
    async def story():
        async with upstream(good) as (authority, forwarder):
            await ask(forwarder, 1)
            authority.hang_up()
            assert address(await ask(forwarder, 2)) == "192.0.2.2"
            assert len(authority.streams) == 2
            # And one that ends under a question: it is asked once more.
            authority.gate, authority.late = asyncio.Event(), {"n3.example.org"}
            asked = len(authority.asked)
            waiting = asyncio.ensure_future(ask(forwarder, 3))
            while len(authority.asked) == asked:
                await asyncio.sleep(0)
            authority.late = set()
            authority.hang_up()
            assert address(await waiting) == "192.0.2.3"
            assert len(authority.streams) == 3
            assert forwarder.outcomes["no reply"] == 0

    run(story())


def test_a_connection_that_nobody_uses_is_closed(good):
    async def story():
        async with serving() as authority, serving_tls(authority, *good):
            authority.add("n1.example.org", 300, "A", "192.0.2.1")
            one = TlsUpstream(
                Upstream("127.0.0.1", authority.tls_port, True, NAME),
                client_context(good[0]),
                idle=0.02,
            )
            for opened in (1, 2):
                await one.ask(question("n1.example.org"), ask_ad=False, edns=True, wait=10.0)
                assert one.opened == opened
                while one.is_open:
                    await asyncio.sleep(0.005)
            await one.close()

    run(story())


def test_a_connection_on_which_nothing_comes_back_is_given_up(good):
    async def story():
        async with serving() as authority, serving_tls(authority, *good):
            authority.add("n1.example.org", 300, "A", "192.0.2.1")
            it = Upstream("127.0.0.1", authority.tls_port, True, NAME)
            one = TlsUpstream(it, client_context(good[0]))
            authority.stream_twist = lambda reply: None
            with pytest.raises(TimeoutError):
                await one.ask(question("n1.example.org"), ask_ad=False, edns=True, wait=0.05)
            authority.stream_twist = None
            await one.ask(question("n1.example.org"), ask_ad=False, edns=True, wait=1.0)
            assert one.opened == 2
            # One late reply among others is no reason.
            authority.gate, authority.late = asyncio.Event(), {"n2.example.org"}
            late = asyncio.ensure_future(
                one.ask(question("n2.example.org"), ask_ad=False, edns=True, wait=0.2)
            )
            while len(authority.asked) < 3:
                await asyncio.sleep(0)
            await one.ask(question("n1.example.org"), ask_ad=False, edns=True, wait=1.0)
            with pytest.raises(TimeoutError):
                await late
            authority.gate.set()
            for _ in range(12):
                await one.ask(question("n1.example.org"), ask_ad=False, edns=True, wait=1.0)
            assert one.opened == 2
            await one.close()

    run(story())


@pytest.mark.parametrize("rubbish", ["other question", "broken", "short"])
def test_rubbish_on_a_connection_is_no_answer_and_the_next_upstream_is_asked(good, rubbish):
    def twist(reply):
        wire = reply.to_wire()
        match rubbish:
            case "other question":
                return wire[:13] + b"x" + wire[14:]
            case "broken":
                return wire[:-1]
        return b"\0" * 5

    async def story():
        async with serving() as second:
            second.add("n1.example.org", 300, "A", "192.0.2.200")
            plain = Upstream("127.0.0.1", second.port)
            async with upstream(good, after=[plain]) as (authority, forwarder):
                authority.stream_twist = twist
                assert address(await ask(forwarder, 1)) == "192.0.2.200"
                assert forwarder.healthy() == 1

    run(story())


@pytest.mark.parametrize(
    ("made", "asked", "trusts", "says"),
    [
        ("dns.test", "other.test", True, "not for other.test: give the name it is for"),
        ("dns.test", "dns.test", False, "install ca-certificates, or name the file"),
        ("dns.test", "", True, None),  # it is for 127.0.0.1 too
    ],
)
def test_a_certificate_must_be_for_the_name_and_of_an_issuer_who_is_trusted(
    tmp_path, caplog, made, asked, trusts, says
):
    pair = make_certificate(tmp_path, made)
    (tmp_path / "other").mkdir()
    stranger = make_certificate(tmp_path / "other", "stranger.test")[0]

    async def story():
        async with upstream(pair, name=asked, trusted=None if trusts else stranger) as (
            authority,
            forwarder,
        ):
            first = await ask(forwarder, 1)
            await ask(forwarder, 2)
            return first, list(authority.asked), authority.port, authority.ports, forwarder

    first, reached, _, over_udp, forwarder = run(story())
    lines = [record.getMessage() for record in caplog.records if "ertificate" in record.message]
    if says is None:
        assert address(first) == "192.0.2.1"
        assert lines == []
        return
    assert first.rcode == Rcode.SERVFAIL
    assert (reached, over_udp) == ([], [])
    assert forwarder.outcomes["certificate refused"] == 2  # once a question, not in three rounds
    (line,) = lines  # and once in the log
    assert says in line
    assert line.startswith("The certificate of the resolver 127.0.0.1:")


@pytest.mark.parametrize(
    ("days", "says"), [(-1, "it has expired: check this machine's clock"), (30, None)]
)
def test_a_certificate_past_its_end_is_refused_and_the_next_upstream_is_asked(
    tmp_path, caplog, days, says
):
    pair = make_certificate(tmp_path, NAME, days=days)

    async def story():
        async with serving() as second:
            second.add("n1.example.org", 300, "A", "192.0.2.200")
            plain = Upstream("127.0.0.1", second.port)
            async with upstream(pair, after=[plain]) as (_, forwarder):
                return address(await ask(forwarder, 1)), forwarder.healthy()

    got, healthy = run(story())
    assert (got, healthy) == (("192.0.2.200", 1) if says else ("192.0.2.1", 2))
    assert (says or "") in caplog.text


def test_where_nobody_listens_or_nobody_speaks_tls_the_next_is_asked(good):
    async def story():
        async with serving() as plain:  # which waits for the end of what it takes for a message
            bad = [
                Upstream("127.0.0.1", 1, True, NAME),
                Upstream("127.0.0.1", plain.port, True, NAME),
            ]
            async with upstream(good, before=bad, timeout=5.0) as (_, forwarder):
                began = asyncio.get_running_loop().time()
                assert address(await ask(forwarder, 1)) == "192.0.2.1"
                assert asyncio.get_running_loop().time() - began < 3
                began = asyncio.get_running_loop().time()
                assert address(await ask(forwarder, 2)) == "192.0.2.2"
                assert asyncio.get_running_loop().time() - began < 0.5
                assert forwarder.healthy() == 1
            assert plain.asked == []

    run(story())


def test_an_error_over_tls_is_passed_on_as_over_udp(good):
    async def story():
        async with upstream(good) as (authority, forwarder):

            def refuse(reply):
                reply.set_rcode(dns.rcode.REFUSED)
                return reply

            authority.stream_twist = refuse
            answer = await ask(forwarder, 1)
            assert answer.rcode == Rcode.SERVFAIL
            assert answer.errors[0].text == "the upstream resolver answered REFUSED"
            assert len(authority.asked) == 1

    run(story())


def test_a_connection_whose_only_asker_went_away_meanwhile_is_closed(good):
    async def story():
        async with serving() as authority, serving_tls(authority, *good):
            it = Upstream("127.0.0.1", authority.tls_port, True, NAME)
            one = TlsUpstream(it, client_context(good[0]), idle=0.02)
            asking = asyncio.ensure_future(
                one.ask(question("n1.example.org"), ask_ad=False, edns=True, wait=2.0)
            )
            while not one.is_open:
                await asyncio.sleep(0)
            asking.cancel()
            while one.is_open:
                await asyncio.sleep(0.005)
            assert one.opened == 1
            assert authority.asked == []
            await one.close()

    run(story())


def test_who_stops_waiting_takes_nothing_from_the_others(good):
    async def story():
        async with serving() as authority, serving_tls(authority, *good):
            authority.add("n1.example.org", 300, "A", "192.0.2.1")
            it = Upstream("127.0.0.1", authority.tls_port, True, NAME)
            one = TlsUpstream(it, client_context(good[0]))
            waiting = [
                asyncio.ensure_future(
                    one.ask(question("n1.example.org"), ask_ad=False, edns=True, wait=2.0)
                )
                for _ in range(5)
            ]
            await asyncio.sleep(0)
            waiting[0].cancel()
            replies = await asyncio.gather(*waiting[1:])
            assert all(reply.flags & dns.flags.QR for reply in replies)
            assert one.opened == 1
            await one.close()

    run(story())
