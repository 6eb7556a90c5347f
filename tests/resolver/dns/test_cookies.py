"""DNS cookies: the vectors of RFC 9018, rotation, and what the server says to each kind."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from resolver.dns.asker import Asker
from resolver.dns.cookies import MAX_AGE, MAX_AHEAD, RENEW_AFTER, SECRET_LIFETIME, ServerCookies
from resolver.dns.message import UDP_LIMIT
from tests.resolver.fakes import World

octets = bytes.fromhex
SECRET = octets("e5e973e5a6b2a43f48e7dc849e37bfcf")
OLD_SECRET = octets("dd3bdf9344b678b185a6f5cb60fca715")
NEW_SECRET = octets("445536bcd2513298075a5d379663c962")
NOW = 1_559_731_985


def fixed(*secrets: bytes) -> ServerCookies:
    return ServerCookies(lambda size: bytes(size), secrets)


@pytest.mark.parametrize(
    ("secrets", "sent", "address", "now", "back", "valid"),
    [
        # RFC 9018 appendix A.1 to A.4
        (
            (SECRET,),
            "2464c4abcf10c957",
            "198.51.100.100",
            1559731985,
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            False,
        ),
        (
            (SECRET,),
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            "198.51.100.100",
            1559734385,
            "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
            True,
        ),
        (
            (SECRET,),
            "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
            "203.0.113.203",
            1559734700,
            "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
            False,
        ),
        (
            (NEW_SECRET, OLD_SECRET),
            "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            1559741961,
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
            True,
        ),
    ],
)
def test_the_vectors_of_the_rfc(secrets, sent, address, now, back, valid):
    assert fixed(*secrets).reply(octets(sent), address, now) == (octets(back), valid)


def test_reserved_bits_are_hashed_as_they_came():
    """The cookie of appendix A.3 is good while it is young: only its age was against it."""
    sent = octets("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
    assert fixed(SECRET).reply(sent, "203.0.113.203", 0x5CF78F71 + 5) == (sent, True)


@pytest.mark.parametrize(
    ("age", "valid", "same"),
    [
        (0, True, True),
        (RENEW_AFTER, True, True),
        (RENEW_AFTER + 1, True, False),
        (MAX_AGE, True, False),
        (MAX_AGE + 1, False, False),
        (-MAX_AHEAD, True, True),
        (-MAX_AHEAD - 1, False, False),
    ],
)
def test_a_cookie_is_good_for_an_hour_and_renewed_after_half(age, valid, same):
    cookies = fixed(SECRET)
    sent, _ = cookies.reply(b"12345678", "192.0.2.1", NOW)
    back, proven = cookies.reply(sent, "192.0.2.1", NOW + age)
    assert (proven, back == sent) == (valid, same)


def test_the_year_2106_is_a_year_like_any_other():
    cookies = fixed(SECRET)
    sent, _ = cookies.reply(b"12345678", "192.0.2.1", 2**32 - 10)
    assert cookies.reply(sent, "192.0.2.1", 2**32 + 10)[1]


@pytest.mark.parametrize("at", range(24))
def test_a_cookie_changed_anywhere_proves_nothing(at):
    cookies = fixed(SECRET)
    sent = bytearray(cookies.reply(b"12345678", "192.0.2.1", NOW)[0])
    sent[at] ^= 1
    assert not cookies.reply(bytes(sent), "192.0.2.1", NOW)[1]


@pytest.mark.parametrize("address", ["192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1", ""])
def test_a_cookie_is_for_one_address(address):
    cookies = fixed(SECRET)
    sent, _ = cookies.reply(b"12345678", "192.0.2.1", NOW)
    assert not cookies.reply(sent, address, NOW)[1]


def test_a_new_secret_is_drawn_in_time_and_the_last_one_stays_good():
    drawn = iter(bytes((number,)) * 16 for number in range(1, 9))
    cookies = ServerCookies(lambda size: next(drawn))
    first, _ = cookies.reply(b"12345678", "192.0.2.1", NOW)
    later = NOW + SECRET_LIFETIME
    near_end, _ = cookies.reply(b"12345678", "192.0.2.1", later - 1)
    renewed, proven = cookies.reply(near_end, "192.0.2.1", later)
    assert proven
    assert renewed[8:] != near_end[8:]
    assert renewed[:16] != first[:16]
    assert cookies.reply(renewed, "192.0.2.1", later)[1]
    assert not cookies.reply(near_end, "192.0.2.1", later + SECRET_LIFETIME)[1]


def test_a_secret_of_another_size_is_refused():
    with pytest.raises(ValueError, match="16 bytes"):
        fixed(b"short")


# What goes over the wire


def cookie_option(octets: bytes) -> dns.edns.Option:
    return dns.edns.GenericOption(10, octets)


def cookie_of(reply: dns.message.Message) -> bytes | None:
    return next((bytes(option.to_wire()) for option in reply.options if option.otype == 10), None)


@pytest.fixture
def world() -> World:
    world = World(cookies=fixed(SECRET), unix_clock=lambda: NOW)
    world.zonefile("alice.id", "\n".join(f"@ A 192.0.2.{n}" for n in range(1, 70)))
    return world


def test_whoever_sends_a_cookie_gets_one_and_nobody_else(world):
    assert cookie_of(world.ask("alice.bs")) is None
    reply = world.ask("alice.bs", options=[cookie_option(b"12345678")])
    assert reply.rcode() == dns.rcode.NOERROR
    assert cookie_of(reply)[:12] == b"12345678\x01\0\0\0"
    assert len(cookie_of(reply)) == 24


def test_a_cookie_that_is_not_good_is_answered_all_the_same(world):
    reply = world.ask("alice.bs", options=[cookie_option(b"12345678" + bytes(16))])
    assert reply.rcode() == dns.rcode.NOERROR
    assert len(cookie_of(reply)) == 24


@pytest.mark.parametrize("length", [0, 1, 7, 9, 15, 41])
def test_an_unlawful_length_is_a_format_error(world, length):
    query = dns.message.make_query("alice.bs", "A", use_edns=0, options=[cookie_option(bytes(8))])
    wire = bytearray(query.to_wire()[:-12])
    wire[-2:] = (4 + length).to_bytes(2, "big")
    wire += b"\0\x0a" + length.to_bytes(2, "big") + bytes(length)
    assert dns.message.from_wire(world.send(bytes(wire))).rcode() == dns.rcode.FORMERR


def test_a_reply_with_a_cookie_fits_all_the_same(world):
    for payload in range(1_100, 1_233, 3):
        world.ask("alice.bs", payload=payload, options=[cookie_option(b"12345678")])


@pytest.mark.parametrize(
    ("sent", "rcode"),
    [(8, dns.rcode.NOERROR), (24, dns.rcode.NOERROR), (16, dns.rcode.BADCOOKIE)],
)
def test_only_a_cookie_may_be_asked_for(world, sent, rcode):
    asker = Asker("192.0.2.1")
    good, _ = fixed(SECRET).reply(b"12345678", asker.address, NOW)
    query = dns.message.Message(id=77)
    query.use_edns(0, options=[cookie_option(good[:sent])])
    wire = query.to_wire()
    assert wire[4:6] == b"\0\0"
    reply = dns.message.from_wire(world.resolver.begin(wire, UDP_LIMIT, asker))
    assert (reply.id, reply.rcode(), reply.question) == (77, rcode, [])
    assert reply.flags & 0xFFF0 == dns.flags.QR
    assert cookie_of(reply) == good


def test_no_question_and_no_cookie_is_a_format_error(world):
    query = dns.message.Message(id=77)
    query.use_edns(0)
    assert dns.message.from_wire(world.send(query.to_wire())).rcode() == dns.rcode.FORMERR
