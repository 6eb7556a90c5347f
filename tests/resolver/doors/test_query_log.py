"""The query log: one line a question, whatever was sent."""

import asyncio
import logging

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.dns.asker import Asker
from resolver.dns.cache import ReplyCache
from resolver.dns.zones import Zones
from resolver.doors.query_log import LoggingResolver, question_text
from tests.resolver.fakes import FakeSource, World

UDP = 1232


@pytest.fixture
def resolver() -> LoggingResolver:
    world = World()
    return LoggingResolver(
        zones=Zones.from_settings({"bs": "id"}),
        table=lambda: world.snapshot,
        source=FakeSource(),
        freshness=lambda: world.freshness,
        cache=ReplyCache(2**20),
    )


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "blockstore.queries"]


def ask(resolver: LoggingResolver, packet: bytes) -> None:
    async def story() -> None:
        if resolver.ready(packet, UDP, "192.0.2.1") is None:
            reply = resolver.begin(packet, UDP, Asker("192.0.2.1"))
            if reply is not None and not isinstance(reply, bytes):
                await reply

    asyncio.run(story())


def test_every_question_is_a_line_whether_it_is_computed_or_from_memory(
    resolver: LoggingResolver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "blockstore.queries")
    packet = dns.message.make_query("nobody.bs", "TXT").to_wire()
    for _ in range(3):
        ask(resolver, packet)
    said = lines(caplog)
    assert len(said) == 3
    assert all(s.startswith("192.0.2.1 asked nobody.bs TXT: NXDOMAIN, ") for s in said)


def test_what_is_no_question_is_a_line_as_well(
    resolver: LoggingResolver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "blockstore.queries")
    ask(resolver, b"\xff\xff\xff")
    assert lines(caplog) == ["192.0.2.1 asked 3 octets that hold no question: no reply"]


@given(st.binary(max_size=80))
def test_whatever_is_sent_makes_one_printable_line(packet: bytes) -> None:
    for octets in (packet, bytes(12) + packet):
        assert question_text(octets).isprintable()
