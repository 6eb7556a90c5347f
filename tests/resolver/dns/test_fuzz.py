"""Rubbish through the resolver with everything switched on; the long run is a benchmark program."""

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.dns.asker import Asker
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from resolver.dns.outline import outline
from tests.benchmarks.fuzz_packets import Fuzz, a_world, good_packets
from tests.rings import sampled

GOOD = good_packets()
WORLD = a_world()
FORGETFUL = a_world(keeping=False)


def test_ten_thousand_mutated_packets_leave_no_trace():
    fuzz = Fuzz(seed=20)
    fuzz.run(10_000)
    assert fuzz.flaws == []
    assert fuzz.outcomes["rcode 0"] > 500
    assert fuzz.outcomes["silence"] > 100


@settings(max_examples=sampled(300), deadline=None)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4),
    st.integers(0, 200),
    st.binary(max_size=40),
)
def test_whatever_the_bytes_no_door_sees_an_exception(good, changes, keep, more):
    packet = bytearray(good[: max(keep, 1)])
    for at, octet in changes:
        if at < len(packet):
            packet[at] = octet
    wire = bytes(packet + more)
    assert (WORLD.resolver.ready(wire, UDP_LIMIT) or b"")[:2] in (b"", wire[:2])
    reply = WORLD.resolver.begin(wire, UDP_LIMIT, Asker("192.0.2.1"))
    if isinstance(reply, bytes):
        assert len(reply) <= UDP_LIMIT
    elif reply is not None:
        reply.close()
    assert WORLD.resolver.outcomes["failed"] == 0


@settings(max_examples=sampled(500), deadline=None)
@given(st.sampled_from(GOOD), st.sampled_from(GOOD), st.randoms(use_true_random=False))
def test_what_has_one_outline_has_one_answer(one, other, draw):
    """Of two packets with one key, if the first is answered so is the second, and alike."""
    packet = bytearray(other)
    for _ in range(draw.randint(0, 2)):
        packet[draw.randrange(2, len(packet))] ^= draw.choice((0x20, 0x01, 0x80, 0x60))
    pairs = [
        (wire, outline(wire, STREAM_LIMIT, stream=True, keeps_connection=True))
        for wire in (one, other, bytes(packet))
    ]
    for wire, asked in pairs:
        for twin, asked_too in pairs:
            if asked is None or asked_too is None or asked.key != asked_too.key:
                continue
            first, second = (FORGETFUL.resolver.begin(w, STREAM_LIMIT) for w in (wire, twin))
            if isinstance(first, bytes) and isinstance(second, bytes):
                assert first[3] & 0xF == second[3] & 0xF
                assert first[4:12] == second[4:12]
            for reply in (first, second):
                if reply is not None and not isinstance(reply, bytes):
                    reply.close()
