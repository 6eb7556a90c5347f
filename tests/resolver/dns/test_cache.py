"""The reply cache says what would have been made anew, forgets what was touched, and is bounded."""

import asyncio
import random
import tracemalloc

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.protocol.records import Phase
from resolver.dns.answer import Basis
from resolver.dns.asked import Place
from resolver.dns.cache import FAILURE_SECONDS, ReplyCache
from resolver.dns.chase import Freshness
from resolver.dns.cookies import ServerCookies
from resolver.dns.memory import MAX_TOLD
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from resolver.dns.outline import outline
from tests.resolver.fakes import HEIGHT, World, errors, lines
from tests.rings import sampled

MEGABYTE = 1_000_000


class Kept:
    """A world with a cache and a clock, and the verbs of a chain."""

    def __init__(self, max_bytes: int = MEGABYTE, **more: object) -> None:
        self.now = 1_000.0
        self.cache = ReplyCache(max_bytes)
        clocks = {"clock": lambda: self.now, "unix_clock": lambda: self.now}
        self.world = World(cache=self.cache, **clocks, **more)

    @property
    def hits(self) -> int:
        return self.world.resolver.outcomes["from memory"]

    def block(self, *names: str) -> None:
        self.world.snapshot.height += 1
        height = self.world.snapshot.height
        self.world.freshness = Freshness(True, height, height, 1.0)
        self.world.resolver.blocks_came(height, names)


@pytest.fixture
def kept() -> Kept:
    kept = Kept()
    kept.world.zonefile(
        "alice.id", '@ 300 TXT "one"\nwww 600 A 192.0.2.1\nfar 900 CNAME www.bob.bs.'
    )
    kept.world.zonefile("bob.id", "www 300 A 192.0.2.2")
    return kept


def ttls(reply: dns.message.Message) -> list[int]:
    return [rrset.ttl for rrset in (*reply.answer, *reply.authority)]


def test_the_second_asker_is_served_from_memory_with_his_own_id_and_case(kept):
    first = kept.world.ask("www.alice.bs")
    second = kept.world.ask("WwW.aLiCe.bS")  # checked() holds the reply to the query's own bytes
    assert kept.hits == 1
    assert second.answer == first.answer
    assert len(kept.world.source.peeked) == 1


@pytest.mark.parametrize("flags", [0, dns.flags.RD, dns.flags.AD, dns.flags.RD | dns.flags.CD])
def test_rd_comes_back_and_nothing_else_of_the_flags(kept, flags):
    kept.world.ask("www.alice.bs")
    reply = kept.world.ask("www.alice.bs", flags=flags)
    assert kept.hits == 1
    assert reply.flags & dns.flags.RD == flags & dns.flags.RD
    assert not reply.flags & (dns.flags.AD | dns.flags.CD)


def test_ttls_count_down_and_the_reply_is_made_anew_at_the_end(kept):
    kept.world.ask("far.alice.bs")
    kept.now += 299.9
    assert ttls(kept.world.ask("far.alice.bs")) == [601, 1]
    kept.now += 0.1
    assert ttls(kept.world.ask("far.alice.bs")) == [900, 300]
    assert kept.hits == 1


def test_a_block_forgets_the_names_it_touched_and_no_other(kept):
    for qname in ("www.alice.bs", "www.bob.bs", "far.alice.bs"):
        kept.world.ask(qname)
    kept.world.zonefile("bob.id", "www 300 A 192.0.2.99")
    kept.block("bob.id")
    assert lines(kept.world.ask("www.alice.bs").answer) == ["www.alice.bs. 600 IN A 192.0.2.1"]
    assert kept.hits == 1
    assert lines(kept.world.ask("www.bob.bs").answer) == ["www.bob.bs. 300 IN A 192.0.2.99"]
    assert "www.bob.bs. 300 IN A 192.0.2.99" in lines(kept.world.ask("far.alice.bs").answer)
    assert kept.hits == 1


def test_the_same_bytes_within_one_second_get_no_reply_of_before_a_block(kept):
    wire = dns.message.make_query("www.alice.bs", "A").to_wire()
    kept.world.resolver.begin(wire, UDP_LIMIT)
    said = [kept.world.resolver.ready(wire, UDP_LIMIT) for _ in range(3)]
    assert said[0] is not None
    assert said == [said[0]] * 3
    other = b"\xab\xcd" + wire[2:]
    assert kept.world.resolver.ready(other, UDP_LIMIT) == other[:2] + said[0][2:]
    kept.world.zonefile("alice.id", "www 600 A 192.0.2.9")
    kept.block("alice.id")
    assert kept.world.resolver.ready(wire, UDP_LIMIT) is None


def test_the_same_bytes_with_a_cookie_get_each_address_its_own(kept):
    cookie = dns.edns.GenericOption(10, b"12345678")
    wire = dns.message.make_query("www.alice.bs", "A", use_edns=0, options=[cookie]).to_wire()
    kept.world.resolver.begin(wire, UDP_LIMIT)
    said = {}
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        reply = dns.message.from_wire(kept.world.resolver.ready(wire, UDP_LIMIT, address))
        assert lines(reply.answer) == ["www.alice.bs. 600 IN A 192.0.2.1"]
        (option,) = [option for option in reply.options if option.otype == 10]
        assert said.setdefault(address, option.to_wire()) == option.to_wire()
    assert len(set(said.values())) == 2


def test_the_same_bytes_in_the_next_second_get_ttls_that_have_counted_down(kept):
    wire = dns.message.make_query("www.alice.bs", "A").to_wire()
    kept.world.resolver.begin(wire, UDP_LIMIT)
    for seconds, ttl in ((0, 600), (1, 599), (1, 598), (3, 595)):
        kept.now += seconds
        for _ in range(2):
            said = dns.message.from_wire(kept.world.resolver.ready(wire, UDP_LIMIT))
            assert ttls(said) == [ttl]


def test_a_flood_of_different_questions_within_a_second_is_not_all_remembered(kept):
    wires = [dns.message.make_query(f"n{n}.bs", "A").to_wire() for n in range(MAX_TOLD + 10)]
    for wire in wires:
        kept.world.resolver.begin(wire, UDP_LIMIT)
        assert kept.world.resolver.ready(wire, UDP_LIMIT) is not None
    assert kept.world.resolver.ready(wires[-1], UDP_LIMIT) is not None
    assert kept.world.resolver.ready(wires[0], UDP_LIMIT) is None


def test_a_negative_answer_bears_the_serial_of_the_last_block(kept):
    for _ in range(2):
        kept.world.ask("nobody.bs")
    assert kept.hits == 1
    kept.block()
    reply = kept.world.ask("nobody.bs")
    assert reply.authority[0][0].serial == HEIGHT + 1
    assert errors(reply) == [(0, f"not registered at block {HEIGHT + 1}")]


def test_a_registered_name_is_seen_at_once(kept):
    assert kept.world.ask("carol.bs").rcode() == dns.rcode.NXDOMAIN
    kept.world.zonefile("carol.id", "@ A 192.0.2.3")
    kept.block("carol.id")
    assert kept.world.ask("carol.bs").rcode() == dns.rcode.NOERROR


def test_a_name_that_expires_without_an_operation_ends_with_its_height(kept):
    end = HEIGHT + 2
    kept.world.zonefile("old.id", "@ A 192.0.2.1", gone_at=end)
    kept.world.ask("old.bs")
    kept.block()
    kept.world.ask("old.bs")
    assert kept.hits == 1
    kept.world.zonefile("old.id", "@ A 192.0.2.1", phase=Phase.EXPIRED, gone_at=end)
    kept.block()
    assert kept.world.ask("old.bs").rcode() == dns.rcode.NXDOMAIN


def test_the_stale_mark_comes_and_goes_with_the_clock_and_with_a_block(kept):
    kept.world.ask("www.alice.bs")
    kept.world.freshness = Freshness(True, HEIGHT, HEIGHT, 8_000.0)
    kept.now += 1
    assert [code for code, _ in errors(kept.world.ask("www.alice.bs"))] == [3]
    assert [code for code, _ in errors(kept.world.ask("www.alice.bs"))] == [3]
    kept.world.freshness = Freshness(True, HEIGHT, HEIGHT, 1.0)
    kept.block()
    assert errors(kept.world.ask("www.alice.bs")) == []


def test_nothing_is_served_from_memory_when_the_index_is_not_ready(kept):
    kept.world.ask("www.alice.bs")
    kept.world.freshness = Freshness(False, HEIGHT, HEIGHT + 500, 1.0)
    kept.now += 1
    assert kept.world.ask("www.alice.bs").rcode() == dns.rcode.SERVFAIL


def test_a_failure_is_remembered_for_seconds_and_forgotten_when_the_data_comes(kept):
    digest = kept.world.name("lost.id", "some data", lies="nowhere")
    for _ in range(3):
        assert kept.world.ask("lost.bs", "TXT").rcode() == dns.rcode.SERVFAIL
    assert len(kept.world.source.asked) == 1
    kept.now += FAILURE_SECONDS
    kept.world.ask("lost.bs", "TXT")
    assert len(kept.world.source.asked) == 2
    kept.world.source.archive[digest] = b"some data"
    kept.world.resolver.data_came([digest])
    assert kept.world.ask("lost.bs", "TXT").rcode() == dns.rcode.NOERROR


def test_data_that_came_while_it_was_looked_for_in_vain_is_answered_with(kept):
    digest = kept.world.name("lost.id", "some data", lies="nowhere")

    async def story() -> dns.message.Message:
        kept.world.source.gate = asyncio.Event()
        query = dns.message.make_query("lost.bs", "TXT").to_wire()
        asked = asyncio.ensure_future(kept.world.resolver.reply_to(query, UDP_LIMIT))
        while not kept.world.source.asked:
            await asyncio.sleep(0)
        kept.world.source.archive[digest] = b"some data"
        kept.world.resolver.data_came([digest])
        kept.world.source.gate.set()
        return dns.message.from_wire(await asked)

    assert asyncio.run(story()).rcode() == dns.rcode.NOERROR


def test_data_that_nobody_missed_leaves_what_is_kept_as_it_is(kept):
    kept.world.ask("www.alice.bs")
    generation = kept.cache.generation
    kept.world.resolver.data_came([bytes(20)])
    assert kept.cache.generation == generation


def test_an_answer_begun_before_a_block_is_not_kept_after_it(kept):
    kept.world.name("late.id", "old", lies="network")

    async def story() -> None:
        kept.world.source.gate = asyncio.Event()
        query = dns.message.make_query("late.bs", "TXT").to_wire()
        asked = asyncio.ensure_future(kept.world.resolver.reply_to(query, UDP_LIMIT))
        while not kept.world.source.asked:
            await asyncio.sleep(0)
        kept.world.name("late.id", "new")
        kept.block("late.id")
        kept.world.source.gate.set()
        assert b"old" in await asked

    asyncio.run(story())
    assert lines(kept.world.ask("late.bs", "TXT").answer) == ['late.bs. 300 IN TXT "new"']


def test_a_reorganisation_forgets_everything(kept):
    kept.world.ask("www.alice.bs")
    kept.world.resolver.blocks_came(HEIGHT, ())
    assert len(kept.cache) == 0


def test_a_flood_of_junk_does_not_push_out_what_is_asked_in_earnest():
    kept = Kept(100_000)
    for number in range(40):
        kept.world.zonefile(f"n{number}.id", "@ A 192.0.2.1")
        kept.world.ask(f"n{number}.bs")
    for number in range(1_000):
        kept.world.ask(f"junk{number}.bs")
    before = kept.hits
    for number in range(40):
        kept.world.ask(f"n{number}.bs")
    assert kept.hits == before + 40
    assert kept.cache.bytes_held <= 100_000


def test_memory_is_bounded_by_what_was_allowed():
    most = 1_000_000
    cache = ReplyCache(most)
    query = dns.message.make_query("x.bs", "A", use_edns=0).to_wire()
    world = World()
    world.zonefile("x.id", "@ A 192.0.2.1")
    reply = world.send(query)
    cache.block(1, ())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(4_000):
        asked = outline(query, UDP_LIMIT, stream=False, keeps_connection=False)
        key = b"%06d" % number + asked.key
        basis = Basis(frozenset({f"name{number}.id"}))
        asked = asked._replace(key=key)
        place = Place(asked, cache.generation, 1)
        cache.keep(place, bytes(bytearray(reply)), 1232, 0, basis, 300, 5)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.5 * most < cache.bytes_held <= most
    assert used <= 1.15 * cache.bytes_held


def test_what_does_not_fit_a_small_asker_is_cut_for_him_alone(kept):
    kept.world.zonefile("wide.id", "\n".join(f"@ A 192.0.2.{n}" for n in range(1, 50)))
    whole = kept.world.ask("wide.bs")
    assert not whole.flags & dns.flags.TC
    small = kept.world.ask("wide.bs", payload=512)
    assert small.flags & dns.flags.TC
    assert kept.world.ask("wide.bs", payload=4096).answer == whole.answer


def test_tcp_and_udp_do_not_share_what_was_cut(kept):
    kept.world.name("big.id", bytes(5_000))
    assert kept.world.ask("big.bs", "TXT").flags & dns.flags.TC
    assert not kept.world.ask("big.bs", "TXT", tcp=True).flags & dns.flags.TC
    assert kept.world.ask("big.bs", "TXT").flags & dns.flags.TC


def test_https_is_not_mistaken_for_type_97(kept):
    """Lower-casing octets would turn type 65 into 97."""
    kept.world.zonefile("web.id", "@ HTTPS 1 . alpn=h2")
    assert kept.world.ask("web.bs", "HTTPS").answer
    assert not kept.world.ask("web.bs", "TYPE97").answer
    assert kept.world.ask("web.bs", "HTTPS").answer
    assert kept.hits == 1


def test_the_servers_own_records_and_refusals_are_not_kept(kept):
    for qname in ("_blockstore.alice.bs", "_status.bs", "example.com"):
        kept.world.ask(qname, "TXT")
        kept.world.ask(qname, "TXT")
    assert kept.hits == 0


# The cache on is the cache off


LABELS = ("", "www.", "WWW.", "a.w.", "x.", "far.", "loop.", "_blockstore.", "none.", "sub.x.")
NAMES = ("alice", "BOB", "lost", "old", "nobody", "_status", "deep.er.alice")
TYPES = ("A", "TXT", "SOA", "ANY", "TYPE97", "HTTPS", "NS", "DS")

DOORS = ("plain", 0, 512, 700, 1_210, 1_231, 1_232, 4_096, "tcp", "tcp plain")
EXTRAS = ("do", "nsid", "cookie", "keepalive", "rd", "cd", "odd", "upper")
LIKELY = ("www.alice.bs", "far.alice.bs", "lost.bs", "old.bs", "nobody.bs")
QUESTIONS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(LIKELY),
            st.sampled_from([f"{label}{name}.bs" for label in LABELS for name in NAMES] + ["bs"]),
        ),
        st.one_of(st.just("A"), st.sampled_from(TYPES)),
    ),
    min_size=1,
    max_size=3,
)
"""Few in one story, so that they are asked again."""
ASKING = st.tuples(
    st.just("ask"),
    st.integers(0, 2),
    st.one_of(st.just(1_232), st.sampled_from(DOORS)),
    st.one_of(st.just(set()), st.sets(st.sampled_from(EXTRAS))),
)
STEP = st.one_of(
    ASKING,
    ASKING,
    ASKING,
    st.tuples(st.just("clock"), st.sampled_from([0.4, 1.0, 59.0, 300.0, 3_000.0])),
    st.tuples(st.just("block"), st.sampled_from(["alice", "bob", "old", "nobody", "lost", ""])),
    st.tuples(st.just("data"), st.just("lost")),
    st.tuples(st.just("silence"), st.sampled_from([1.0, 7_199.0, 7_201.0, 90_000.0])),
)


def zone_of(name: str, version: int) -> str:
    return (
        f'$ORIGIN {name}\n$TTL 300\n@ A 192.0.2.{version}\n@ 90 TXT "{"v" * 90 * version}"\n'
        f"www 600 A 192.0.2.{version}\n*.w A 192.0.2.9\nfar 70 CNAME www.bob.bs.\n"
        "loop CNAME loop\nx NS ns.x\nns.x A 192.0.2.7\n"
    )


class Twins:
    """The same world twice, with a cache and without."""

    def __init__(self, questions: list[tuple[str, str]]) -> None:
        self.questions = questions
        self.now = 5_000.0
        self.versions: dict[str, int] = {}
        self.silent = 1.0
        clocks = {"clock": lambda: self.now, "unix_clock": lambda: self.now}
        clocks["cookies"] = ServerCookies(bytes, (bytes(16),))
        self.on = World(cache=ReplyCache(20_000), **clocks)
        self.off = World(**clocks)
        for name in ("alice", "bob", "old"):
            self.change(name)
        self.change("lost", lies="nowhere")

    def change(self, name: str, lies: str = "archive") -> None:
        version = self.versions.get(name, 0) % 20 + 1
        self.versions[name] = version
        gone = HEIGHT + 3 if name == "old" else None
        late = gone is not None and self.off.snapshot.height >= gone
        for world in (self.on, self.off):
            phase = Phase.EXPIRED if late else Phase.LIVE
            data = zone_of(f"{name}.id", version)
            world.name(f"{name}.id", data, lies=lies, phase=phase, gone_at=gone)

    def play(self, step: tuple) -> None:
        match step:
            case ("clock", seconds):
                self.now += seconds
            case ("block", name):
                for world in (self.on, self.off):
                    world.snapshot.height += 1
                if name:
                    self.change(name, lies="nowhere" if name == "lost" else "archive")
                if self.on.snapshot.height == HEIGHT + 3:
                    self.change("old")
                self.silent = 1.0
                self._tell([f"{name}.id"] if name else [])
            case ("data", name):
                record, _ = self.off.snapshot.names[f"{name}.id"]
                data = zone_of(f"{name}.id", self.versions[name]).encode()
                for world in (self.on, self.off):
                    world.source.archive[record.value_hash] = data
                    world.resolver.data_came([record.value_hash])
            case ("silence", seconds):
                self.silent = seconds
                self.now += 1
                self._tell(None)
            case ("ask", which, door, more):
                qname, rtype = self.questions[which % len(self.questions)]
                self.ask(qname.upper() if "upper" in more else qname, rtype, door, more)

    def _tell(self, names: list[str] | None) -> None:
        for world in (self.on, self.off):
            height = world.snapshot.height
            world.freshness = Freshness(True, height, height, self.silent)
            if names is not None:
                world.resolver.blocks_came(height, names)

    def ask(self, qname: str, rtype: str, door: object, more: set[str]) -> None:
        stream = str(door).startswith("tcp")
        options = [dns.edns.GenericOption(code, octets) for word, code, octets in (
            ("nsid", 3, b""), ("cookie", 10, b"12345678"), ("keepalive", 11, b""), ("odd", 99, b"x")
        ) if word in more]  # fmt: skip
        query = dns.message.make_query(qname, rtype)
        query.id = random.Random(qname).randrange(65_536)
        query.flags = (dns.flags.RD if "rd" in more else 0) | (dns.flags.CD if "cd" in more else 0)
        if "plain" not in str(door):
            payload = 1_232 if stream else door
            ednsflags = dns.flags.DO if "do" in more else 0
            query.use_edns(0, ednsflags, payload, options=options)
        limit = STREAM_LIMIT if stream else UDP_LIMIT
        wire = query.to_wire()
        on, off = self.on.send(wire, limit), self.off.send(wire, limit)
        kept, made = dns.message.from_wire(on), dns.message.from_wire(off)
        for mine, anew in zip(
            (*kept.answer, *kept.authority, *kept.additional),
            (*made.answer, *made.authority, *made.additional),
            strict=True,
        ):
            assert 0 < mine.ttl <= anew.ttl or mine.ttl == anew.ttl == 0
        assert _without_ttls(on) == _without_ttls(off)
        if not stream:
            for _ in range(2):  # what the cache puts together, and the very same bytes again
                ready = self.on.resolver.ready(wire, limit, "127.0.0.1")
                assert ready is None or ready == on


def _without_ttls(wire: bytes) -> bytes:
    octets = bytearray(wire)
    at = 12
    while octets[at]:
        at += 1 + octets[at]
    at += 5
    for _ in range(sum(int.from_bytes(wire[n : n + 2]) for n in (6, 8, 10))):
        while 0 < octets[at] < 0xC0:
            at += 1 + octets[at]
        at += 2 if octets[at] else 1
        if octets[at : at + 2] != b"\0\x29":
            octets[at + 4 : at + 8] = bytes(4)
        at += 10 + int.from_bytes(octets[at + 8 : at + 10])
    assert at == len(wire)
    return bytes(octets)


@settings(max_examples=sampled(400), deadline=None)
@given(QUESTIONS, st.lists(STEP, max_size=40))
def test_with_the_cache_every_reply_is_what_it_is_without(questions, steps):
    twins = Twins(questions)
    for step in steps:
        twins.play(step)
    assert twins.on.resolver.outcomes["failed"] == twins.off.resolver.outcomes["failed"] == 0


def test_the_property_test_reaches_the_cache():
    twins = Twins([("www.alice.bs", "A")])
    for more in (set(), {"cookie", "nsid", "rd", "upper"}, {"cookie", "nsid"}, {"upper", "cookie"}):
        twins.play(("ask", 0, 1_232, more))
    assert twins.on.resolver.outcomes["from memory"] == 2


def test_a_kept_reply_with_a_cookie_fits_whoever_asks(kept):
    kept.world.zonefile("wide.id", "\n".join(f"@ A 192.0.2.{n}" for n in range(1, 75)))
    full = len(kept.world.ask("wide.bs").to_wire())
    assert 1_204 < full <= UDP_LIMIT
    kept.now += 1
    for cookie in ([], [dns.edns.GenericOption(10, b"12345678")]):
        for payload in range(1_195, 1_240):
            kept.world.ask("wide.bs", payload=payload, options=cookie)  # which checks the length


def test_do_is_part_of_what_is_kept(kept):
    for wanted in (True, False, True, False):
        reply = kept.world.ask("www.alice.bs", want_dnssec=wanted)
        assert bool(reply.ednsflags & dns.flags.DO) is wanted
    assert kept.hits == 2
