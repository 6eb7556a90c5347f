"""The parts of forwarding that touch nothing: questions, matching, cache, health, kept names."""

import dns.flags
import dns.message
import dns.name
import dns.reversename
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resolver.dns.answer import Answer
from resolver.dns.codes import Rcode
from resolver.dns.lookup import RecordSet
from resolver.dns.upstream_reply import Reply, read_reply
from resolver.forwarding.cache import (
    FAILURE_TTL,
    MOST_NEGATIVE_TTL,
    MOST_STALE,
    MOST_TTL,
    RETRY_STALE_AFTER,
    STALE_TTL,
    ForwardCache,
)
from resolver.forwarding.health import LEAST_WAIT, LONGEST_PAUSE, MOST_WAIT, Health
from resolver.forwarding.query import (
    Question,
    Verdict,
    compose,
    match,
    random_octets_needed,
    throw_case,
)
from resolver.forwarding.recursion import cut_at_ours
from resolver.forwarding.scrub import as_answer


def labels(text: str) -> tuple[bytes, ...]:
    return tuple(text.encode().split(b".")) if text else ()


WWW = Question(labels("www.example.com"), 1)
RANDOM = b"\x12\x34" + b"\xaa" * 40


# Questions and their replies


def sent(question: Question = WWW, random: bytes = RANDOM, *, ask_ad: bool = False):
    return compose(question, random, ask_ad=ask_ad)


def test_a_question_upstream_holds_nothing_of_the_one_who_asked():
    query = dns.message.from_wire(sent().packet)
    assert query.id == 0x1234
    assert query.flags == dns.flags.RD
    assert query.question[0].name == dns.name.from_text("www.example.com")
    assert (query.edns, query.payload, query.ednsflags, query.options) == (0, 1232, 0, ())


@pytest.mark.parametrize("ask_ad", [False, True])
@pytest.mark.parametrize("dnssec", [False, True])
@pytest.mark.parametrize("unchecked", [False, True])
def test_do_and_cd_are_passed_on_and_ad_is_asked_for_where_it_is_believed(
    dnssec, unchecked, ask_ad
):
    query = dns.message.from_wire(
        sent(Question(WWW.qname, 1, dnssec, unchecked), ask_ad=ask_ad).packet
    )
    assert bool(query.ednsflags & dns.flags.DO) is dnssec
    assert bool(query.flags & dns.flags.CD) is unchecked
    assert bool(query.flags & dns.flags.AD) is ask_ad


@given(
    st.lists(st.binary(min_size=1, max_size=63), max_size=4), st.binary(min_size=40, max_size=40)
)
def test_case_is_thrown_for_letters_alone(name, random):
    question = Question(tuple(label.lower() for label in name), 1)
    thrown = throw_case(question.qname, int.from_bytes(random, "big"))
    assert tuple(label.lower() for label in thrown) == question.qname
    assert random_octets_needed(question) >= 2
    letters = sum(label.isalpha() for label in (bytes((o,)) for part in name for o in part))
    assert (random_octets_needed(question) - 2) * 8 >= letters
    assert throw_case(question.qname, 0) == question.qname
    assert throw_case(question.qname, -1) == tuple(label.upper() for label in question.qname)


def reply_to(packet: bytes, *records: str) -> dns.message.Message:
    message = dns.message.make_response(dns.message.from_wire(packet), recursion_available=True)
    for record in records:
        owner, ttl, rtype, rdata = record.split(None, 3)
        message.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", rtype, rdata))
    return message


def test_the_reply_is_known_and_its_names_are_in_lower_case():
    asked = sent()
    message = reply_to(asked.packet)
    message.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "192.0.2.1"))
    found = match(message.to_wire(), asked)
    assert isinstance(found, Reply)
    assert found.qname == found.answer[0].owner == WWW.qname


def test_what_differs_in_id_question_or_kind_is_another_matter():
    asked = sent()
    good = reply_to(asked.packet).to_wire()
    assert isinstance(match(good, asked), Reply)
    assert match(asked.packet, asked) is Verdict.UNRELATED  # our own question, sent back
    assert match(b"\x12\x35" + good[2:], asked) is Verdict.UNRELATED
    for other in (Question(labels("www.example.net"), 1), Question(WWW.qname, 28)):
        assert match(reply_to(sent(other).packet).to_wire(), asked) is Verdict.UNRELATED
    for cut in range(12):
        assert match(good[:cut], asked) is Verdict.UNRELATED
    two = good[:4] + b"\0\2" + good[6:]
    assert match(two, asked) is Verdict.UNRELATED
    none = good[:4] + b"\0\0" + good[6:12]
    assert match(none, asked) is Verdict.UNRELATED  # an answer without its question
    refused = none[:3] + b"\x85" + none[4:10] + b"\0\0"
    assert isinstance(match(refused, asked), Reply)


def test_a_reply_on_a_stream_that_is_cut_is_no_reply():
    question = sent()
    reply = reply_to(question.packet, "www.example.com. 60 A 192.0.2.1")
    reply.flags |= dns.flags.TC
    assert match(reply.to_wire(), question).truncated
    assert match(reply.to_wire(), question, stream=True) is Verdict.BROKEN


def test_the_right_reply_in_another_case_is_asked_for_again_over_tcp():
    asked = sent()
    lowered = reply_to(asked.packet).to_wire()
    lowered = lowered[:12] + lowered[12:].replace(lowered[12:29], lowered[12:29].lower())
    assert match(lowered, asked) is Verdict.OTHER_CASE
    assert isinstance(match(lowered, asked, stream=True), Reply)


def test_rubbish_behind_the_right_question_is_broken():
    asked = sent()
    good = reply_to(asked.packet, "www.example.com. 60 A 192.0.2.1").to_wire()
    assert isinstance(match(good + b"x", asked), Reply)
    assert match(good[:-20], asked) is Verdict.BROKEN


@given(st.binary(max_size=200))
def test_any_packet_is_the_reply_or_not(octets):
    asked = sent()
    head = asked.packet[:2] + b"\x80\x00" + asked.packet[4:33]
    for packet in (octets, asked.packet[:2] + octets, head + octets):
        assert isinstance(match(packet, asked), Reply | Verdict)


# What is kept of a reply


def answer_of(*records: str, qname: str = "a.example", rtype: str = "A") -> Answer:
    query = dns.message.make_query(qname, rtype)
    return as_answer(read_reply(reply_to(query.to_wire(), *records).to_wire()), trust_ad=True)[0]


def test_records_that_nobody_asked_for_are_dropped():
    answer = answer_of(
        "a.example. 60 CNAME b.example.",
        "b.example. 60 A 192.0.2.1",
        "bank.example. 60 A 192.0.2.66",
    )
    assert [records.owner[0] for records in answer.answer] == [b"a", b"b"]


def test_a_dname_above_the_name_is_a_part_of_the_answer():
    answer = answer_of(
        "old.example. 60 DNAME new.example.",
        "www.old.example. 60 CNAME www.new.example.",
        "www.new.example. 60 A 192.0.2.1",
        qname="www.old.example",
    )
    assert [records.rtype for records in answer.answer] == [39, 5, 1]


@pytest.mark.parametrize(("trust", "seen"), [(True, True), (False, False)])
def test_ad_is_believed_only_where_it_is_to_be(trust, seen):
    message = reply_to(dns.message.make_query("a.example", "A").to_wire())
    message.flags |= dns.flags.AD
    assert as_answer(read_reply(message.to_wire()), trust_ad=trust)[0].authenticated is seen


def ours(name: tuple[bytes, ...]) -> bool:
    return name[-1] == b"bs"


def test_what_upstream_says_of_a_served_name_is_cut_off():
    answer = answer_of(
        "a.example. 60 CNAME alice.bs.",
        "alice.bs. 60 A 192.0.2.66",
    )
    cut, target = cut_at_ours(answer, Question(labels("a.example"), 1), ours)
    assert target == labels("alice.bs")
    assert [records.rtype for records in cut.answer] == [5]
    alone = answer_of("a.example. 60 CNAME alice.bs.", rtype="CNAME")
    assert cut_at_ours(alone, Question(labels("a.example"), 5), ours) == (alone, None)


def section(*records: str) -> list[dns.rrset.RRset]:
    parts = [record.split(None, 3) for record in records]
    return [dns.rrset.from_text(name, int(ttl), "IN", rtype, rdata)
            for name, ttl, rtype, rdata in parts]  # fmt: skip


def texts(sets) -> list[tuple[str, int, int]]:
    return [(b".".join(part.owner).decode(), part.rtype, part.ttl) for part in sets]


@pytest.mark.parametrize("length", [2, 16, 17])
def test_a_chain_that_does_not_end_is_a_failure(length):
    chain = [f"n{n}.example. 60 CNAME n{(n + 1) % length}.example." for n in range(length)]
    answer = answer_of(*chain, qname="n0.example")
    assert (answer.rcode, answer.answer) == (Rcode.SERVFAIL, ())
    assert "the chain of aliases" in answer.errors[0].text


@pytest.mark.parametrize(("length", "records"), [(16, 17), (17, 0)])
def test_a_chain_is_followed_as_far_as_sixteen_aliases(length, records):
    chain = [f"n{n}.example. 60 CNAME n{n + 1}.example." for n in range(length)]
    answer = answer_of(*chain, f"n{length}.example. 60 A 192.0.2.1", qname="n0.example")
    assert len(answer.answer) == records


@pytest.mark.parametrize("target", ["new.example.", "new.bs."])
def test_a_dname_that_came_without_its_alias_is_followed(target):
    new = f"www.{target}"
    answer = answer_of(
        f"old.example. 60 DNAME {target}", f"{new} 60 A 192.0.2.1", qname="www.old.example"
    )
    assert texts(answer.answer) == [
        ("old.example", 39, 60), ("www.old.example", 5, 60), (new[:-1], 1, 60),
    ]  # fmt: skip
    cut, onward = cut_at_ours(answer, Question(labels("www.old.example"), 1), ours)
    assert onward == (labels(new[:-1]) if "bs" in target else None)
    assert len(cut.answer) == (2 if onward else 3)


def test_a_dname_that_makes_too_long_a_name_is_not_followed():
    long = ".".join(["x" * 60] * 3)
    answer = answer_of(f"old.example. 60 DNAME {long}.example.", qname=f"{long}.old.example")
    assert answer.answer == ()


@given(st.permutations(range(6)))
def test_aliases_come_first_and_in_the_order_of_their_chain(order):
    sent_so = [
        "www.old.example. 60 CNAME www.new.example.",
        "old.example. 60 DNAME new.example.",
        "www.new.example. 60 CNAME c.example.",
        "c.example. 60 CNAME d.example.",
        "d.example. 60 A 192.0.2.1",
        "d.example. 60 TXT unasked",
    ]
    answer = answer_of(*(sent_so[at] for at in order), qname="www.old.example")
    assert texts(answer.answer) == [
        ("old.example", 39, 60), ("www.old.example", 5, 60), ("www.new.example", 5, 60),
        ("c.example", 5, 60), ("d.example", 1, 60),
    ]  # fmt: skip


def test_of_one_who_asks_for_the_alias_itself_nothing_behind_it_is_taken():
    both = ("a.example. 60 CNAME alice.bs.", "alice.bs. 60 A 192.0.2.66")
    for rtype in ("CNAME", "ANY"):
        assert texts(answer_of(*both, rtype=rtype).answer) == [("a.example", 5, 60)]


SIGNED = "8 1 60 20300101000000 20200101000000 1"


def test_of_authority_and_additional_nothing_is_taken_about_names_outside_the_question():
    message = reply_to(dns.message.make_query("a.b.example", "A").to_wire())
    message.authority = section(
        "webhost.bs. 60 A 192.0.2.66",
        "b.example. 60 A 192.0.2.66",
        "b.example. 60 NS webhost.bs.",
        "bs. 60 SOA a. b. 1 2 3 4 50",
        "b.example. 60 SOA a. b. 1 2 3 4 50",
        "z.b.example. 60 NSEC b.example. A",
        f"z.b.example. 60 RRSIG NSEC {SIGNED} b.example. AAAA",
        "webhost.bs. 60 NSEC bs. A",
        f"webhost.bs. 60 RRSIG NSEC {SIGNED} bs. AAAA",
    )
    message.additional = section("webhost.bs. 60 A 192.0.2.66", "b.example. 60 A 192.0.2.66")
    answer, _ = as_answer(read_reply(message.to_wire()), trust_ad=False)
    assert texts(answer.authority) == [
        ("b.example", 6, 50), ("z.b.example", 47, 50), ("z.b.example", 46, 50),
    ]  # fmt: skip
    assert answer.additional == ()
    referral, _ = as_answer(read_reply(message.to_wire()), trust_ad=False, refers=True)
    assert ("b.example", 2, 50) in texts(referral.authority)


@pytest.mark.parametrize(("ttl", "minimum", "least"), [(300, 60, 60), (60, 300, 60)])
def test_a_denial_says_how_long_it_is_good_for_and_counts_down(ttl, minimum, least):
    message = reply_to(dns.message.make_query("a.example", "A").to_wire())
    message.set_rcode(3)
    message.authority = section(f"example. {ttl} SOA a. b. 1 2 3 4 {minimum}")
    cache = ForwardCache(1 << 20)
    cache.put(WWW, *as_answer(read_reply(message.to_wire()), trust_ad=False), 0.0)
    assert [cache.get(WWW, now).authority[0].ttl for now in (0.0, 25.0)] == [least, least - 25]
    assert cache.get(WWW, least) is None


def test_how_long_an_answer_is_kept_is_said_by_what_is_taken_of_it():
    message = reply_to(dns.message.make_query("a.example", "A").to_wire())
    message.authority = section("bs. 9 SOA a. b. 1 2 3 4 9", "example. 300 SOA a. b. 1 2 3 4 60")
    assert as_answer(read_reply(message.to_wire()), trust_ad=False)[1] == 60
    message.answer = section("z.example. 0 A 192.0.2.1", "a.example. 50 A 192.0.2.1")
    assert as_answer(read_reply(message.to_wire()), trust_ad=False)[1] == 50
    message.answer = section("a.example. 50 CNAME b.example.")
    message.set_rcode(3)
    answer, ttl = as_answer(read_reply(message.to_wire()), trust_ad=False)
    assert (ttl, texts(answer.authority)) == (50, [("example", 6, 60)])


# The cache


def records(ttl: int, *rdatas: bytes, owner=WWW.qname) -> Answer:
    return Answer(Rcode.NOERROR, answer=(RecordSet(owner, 1, ttl, rdatas or (b"1234",)),))


def test_what_is_kept_counts_down_and_ends():
    cache = ForwardCache(1 << 20)
    cache.put(WWW, records(300), 300, 1000.0)
    first, last = cache.get(WWW, 1000.5), cache.get(WWW, 1299.9)
    assert (first.answer, last.answer) == (records(300).answer, records(1).answer)
    assert (first.basis.seconds, last.basis.seconds) == (299, 0)  # never longer than it is fresh
    assert cache.get(WWW, 1300.0) is None
    assert cache.get(Question(WWW.qname, 28), 1000.0) is None
    assert cache.get(Question(WWW.qname, 1, wants_dnssec=True), 1000.0) is None


def test_ttls_are_believed_up_to_a_day_and_denials_up_to_three_hours():
    cache = ForwardCache(1 << 20)
    cache.put(WWW, records(10**6), 10**6, 0.0)
    assert cache.get(WWW, MOST_TTL - 1) is not None
    assert cache.get(WWW, MOST_TTL) is None
    for answer in (Answer(Rcode.NXDOMAIN), Answer(Rcode.NOERROR)):
        cache.put(WWW, answer, 10**6, 0.0)
        assert cache.get(WWW, MOST_NEGATIVE_TTL - 1) is not None
        assert cache.get(WWW, MOST_NEGATIVE_TTL) is None


def test_an_answer_with_ttl_0_is_not_kept_and_ends_what_was():
    cache = ForwardCache(1 << 20)
    cache.put(WWW, records(300), 300, 0.0)
    cache.put(WWW, records(0), 0, 1.0)
    assert cache.get(WWW, 1.0) is None
    assert (len(cache), cache.bytes_held) == (0, 0)


def test_past_its_time_an_answer_is_stale_for_a_day_and_says_so():
    cache = ForwardCache(1 << 20)
    cache.put(WWW, records(300), 300, 0.0)
    stale = cache.stale(WWW, 310.0)
    assert stale.answer[0].ttl == STALE_TTL
    assert [(error.code, error.text) for error in stale.errors] == [
        (3, "expired 10 seconds ago, and no upstream answers")
    ]
    assert cache.stale(WWW, 300 + MOST_STALE) is None
    cache.put(WWW, Answer(Rcode.NXDOMAIN), 300, 0.0)
    assert cache.stale(WWW, 310.0).errors[0].code == 19


def test_after_a_failed_refresh_a_stale_answer_is_given_at_once_for_a_while():
    cache = ForwardCache(1 << 20)
    cache.put(WWW, records(300), 300, 0.0)
    assert cache.stale_at_once(WWW, 310.0) is None
    cache.refresh_failed(WWW, 310.0)
    assert cache.stale_at_once(WWW, 311.0) is not None
    assert cache.stale_at_once(WWW, 310.0 + RETRY_STALE_AFTER) is None


def test_a_failure_is_kept_for_seconds_and_never_in_the_place_of_an_answer():
    cache = ForwardCache(1 << 20)
    failure = Answer(Rcode.SERVFAIL)
    cache.put_failure(WWW, failure, 0.0)
    assert cache.get(WWW, FAILURE_TTL - 1).rcode == failure.rcode
    assert cache.get(WWW, FAILURE_TTL) is None
    assert cache.stale(WWW, FAILURE_TTL + 1) is None
    cache.put(WWW, records(10), 10, 0.0)
    cache.put_failure(WWW, failure, 20.0)
    assert cache.stale(WWW, 20.0).rcode == Rcode.NOERROR


def test_one_answer_does_not_push_out_all_others():
    cache = ForwardCache(100_000)
    cache.put(WWW, records(300), 300, 0.0)
    cache.put(Question(labels("big.example"), 16), records(300, bytes(60_000)), 300, 0.0)
    assert len(cache) == 1


class Kept(RuleBasedStateMachine):
    """Whatever is put and asked, the bytes are those of the entries and below the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = ForwardCache(30_000)
        self.now = 0.0

    @rule(number=st.integers(0, 60), ttl=st.integers(0, 50), size=st.integers(0, 2_000))
    def put(self, number, ttl, size):
        self.cache.put(Question((b"%d" % number,), 1), records(ttl, bytes(size)), ttl, self.now)

    @rule(number=st.integers(0, 60), step=st.floats(0, 20))
    def get(self, number, step):
        self.now += step
        answer = self.cache.get(Question((b"%d" % number,), 1), self.now)
        assert answer is None or answer.answer[0].ttl > 0

    @invariant()
    def bounded(self):
        assert self.cache.bytes_held <= 30_000
        assert self.cache.bytes_held == sum(e.size for e in self.cache._entries.values())


TestKept = Kept.TestCase


# Health


def test_upstreams_are_asked_in_their_order_and_those_that_fail_last():
    health = Health(3)
    assert health.order(0.0) == [0, 1, 2]
    health.failed(0, 0.0)
    assert health.order(0.5) == [1, 2, 0]
    assert health.healthy() == 2
    assert health.order(1.0) == [0, 1, 2]
    assert health.healthy() == 2, "it did not answer, and was not asked again"
    health.failed(0, 1.0)
    health.failed(1, 1.0)
    assert health.order(1.5) == [2, 1, 0]
    health.answered(0, 0.01)
    assert health.order(1.6) == [0, 2, 1]


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), max_size=40))
def test_waits_and_pauses_have_bounds_whatever_happened(history):
    health = Health(2)
    for took in history:
        if took is None:
            health.failed(0, 100.0)
        else:
            health.answered(0, took)
    for tries in range(4):
        assert LEAST_WAIT <= health.wait(0, tries) <= 2 * MOST_WAIT
    assert sorted(health.order(100.0)) == [0, 1]
    assert health.order(100.0 + LONGEST_PAUSE) == [0, 1]
