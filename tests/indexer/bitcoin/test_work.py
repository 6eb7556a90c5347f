"""A chain's rules say what work each header has to show; known headers show that they do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitcoin.headers import Header, meets_target, parse_header, target_of_bits
from indexer.bitcoin.transactions import double_sha256, hash_bytes, hash_hex
from indexer.bitcoin.work import (
    PERIOD,
    SPACING,
    TIMESPAN,
    bits_of_target,
    flaw_of_header,
    flaw_of_work,
    required_bits,
)
from indexer.networks import MAINNET, REGTEST, SIGNET, TESTNET, TESTNET4
from tests.conftest import DATA

LIMIT = MAINNET.easiest_bits
HARD = 0x1C05A3F4


def header(time: int, bits: int = LIMIT) -> Header:
    return Header(4, bytes(32), bytes(32), time, bits, 0, bytes(32), bytes(80))


def ending(first: Header, last: Header, at: int):
    """The headers of a period that ends before ``at``, as far as they are asked for."""
    return {at - PERIOD: first, at - 1: last}.__getitem__


@pytest.mark.parametrize(
    ("height", "first_time", "last_time", "bits", "expected"),
    [
        # Blocks 30240 and 32255 of the main chain, whose difficulty rose for the first time.
        (32256, 1261130161, 1262152739, 0x1D00FFFF, 0x1D00D86A),
        # Blocks 0 and 2015: slower than a block in ten minutes, and at the limit already.
        (2016, 1231006505, 1233061996, 0x1D00FFFF, 0x1D00FFFF),
        # Blocks 66528 and 68543: four times as hard at the most.
        (68544, 1279008237, 1279297671, 0x1C05A3F4, 0x1C0168FD),
        # Four times as easy at the most.
        (48384, 1263163443, 1269211443, 0x1C387F6F, 0x1D00E1FD),
    ],
)
def test_the_target_of_a_period_follows_from_the_time_that_the_last_one_took(
    height: int, first_time: int, last_time: int, bits: int, expected: int
) -> None:
    earlier = ending(header(first_time, bits), header(last_time, bits), height)
    assert required_bits(MAINNET, height, last_time, earlier) == expected


def test_within_a_period_the_bits_stay() -> None:
    assert required_bits(MAINNET, 4033, 1 << 31, {4032: header(1_000, HARD)}.__getitem__) == HARD


@pytest.mark.parametrize("network", [TESTNET, TESTNET4])
def test_on_the_test_networks_a_late_block_may_be_an_easy_one(network) -> None:
    chain = {4032: header(0, HARD), 4033: header(1300, LIMIT), 4034: header(2600, LIMIT)}
    asked = chain.__getitem__
    assert required_bits(network, 4035, 2600 + 2 * SPACING + 1, asked) == LIMIT
    # Else what the last block that was no easy one had, and the period's first at the latest.
    assert required_bits(network, 4035, 2600 + 2 * SPACING, asked) == HARD
    chain[4032] = header(0, LIMIT)
    assert required_bits(network, 4034, 1301, asked) == LIMIT
    assert required_bits(MAINNET, 4035, 9**9, asked) == LIMIT, "as the block before it"


def test_on_testnet3_an_easy_last_block_makes_the_next_period_easy_and_on_testnet4_not() -> None:
    first, last = header(0, HARD), header(TIMESPAN, LIMIT)
    assert required_bits(TESTNET, 4032, TIMESPAN, ending(first, last, 4032)) == LIMIT
    assert required_bits(TESTNET4, 4032, TIMESPAN, ending(first, last, 4032)) == HARD


def mined(time: int, bits: int) -> Header:
    """A header that shows the work of easy ``bits``."""
    for nonce in range(10_000):
        raw = bytes(68) + b"".join(n.to_bytes(4, "little") for n in (time, bits, nonce))
        found = parse_header(raw)
        if meets_target(found):
            return found
    raise AssertionError


EASY = 0x2000FFFF
TOY = replace(MAINNET, easiest_bits=EASY)


def test_on_testnet4_a_period_begins_at_most_ten_minutes_before_the_last_one_ended() -> None:
    network = replace(TESTNET4, easiest_bits=EASY)
    last = header(TIMESPAN, EASY)
    earlier = ending(header(0, EASY), last, 4032)
    for back, fits in ((600, True), (601, False)):
        late = mined(last.time - back, EASY)
        flaw = flaw_of_work(network, 4032, late, earlier)
        assert (flaw is None) is fits, flaw
        assert flaw_of_work(replace(network, bip94=False), 4032, late, earlier) is None


@pytest.mark.parametrize(
    ("network", "bits", "words"),
    [
        (MAINNET, 0x207FFFFF, "less work"),
        (TESTNET, 0x207FFFFF, "less work"),
        (SIGNET, 0x1E0377AF, "less work"),
        (REGTEST, 0x2100FFFF, "less work"),  # above regtest's limit
        (REGTEST, 0x20800000, "less work"),  # negative
        (REGTEST, 0x01000000, "less work"),  # zero
        (MAINNET, 0x1D00FFFF, "does not show"),
    ],
)
def test_no_header_shows_less_than_the_least_work_of_its_chain(network, bits, words) -> None:
    unasked = {}.__getitem__
    found = flaw_of_work(network, 373601, replace(header(0, bits), hash=b"\xff" * 32), unasked)
    assert found is not None
    assert words in found


def test_other_bits_than_those_required_are_refused() -> None:
    earlier = {5000: header(0, 0x2000FFFE)}.__getitem__
    found = flaw_of_work(TOY, 5001, mined(600, EASY), earlier)
    assert found == "its bits are 2000ffff, where the chain asks for 2000fffe"
    assert flaw_of_work(TOY, 5001, mined(600, 0x2000FFFE), earlier) is None
    still = replace(REGTEST, easiest_bits=EASY)
    assert flaw_of_work(still, 5001, mined(600, EASY), {}.__getitem__) is None


@given(st.integers(0, (1 << 256) - 1))
def test_bits_are_the_highest_digits_of_a_target(target: int) -> None:
    kept = target_of_bits(bits_of_target(target))
    assert kept <= target
    assert target - kept < max(1, target >> 15)
    assert bits_of_target(kept) == bits_of_target(target)


@given(
    st.integers(0, 1 << 31),
    st.integers(0, 1 << 31),
    st.sampled_from([LIMIT, HARD, 0x1703A30C]),
    st.sampled_from([MAINNET, TESTNET4]),
)
def test_a_target_changes_by_a_factor_of_four_at_most(start, end, bits, network) -> None:
    earlier = ending(header(start, bits), header(end, bits), 4032)
    target = target_of_bits(required_bits(network, 4032, end, earlier))
    before = target_of_bits(bits)
    assert before // 4 * 0.9999 <= target <= min(4 * before, target_of_bits(LIMIT))


def eleven_before(height: int, times: list[int], bits: int = EASY):
    """The headers at the eleven heights before ``height``, with these times."""
    return {height - 11 + n: header(time, bits) for n, time in enumerate(times)}.__getitem__


def test_a_block_is_younger_than_the_median_of_the_eleven_before_it() -> None:
    times = [900, 100, 200, 300, 400, 500, 600, 700, 800, 950, 50]  # median 500
    earlier = eleven_before(5001, times)
    for time, fits in ((500, False), (501, True), (0, False)):
        flaw = flaw_of_header(TOY, 5001, mined(time, EASY), earlier, now=1000.0)
        assert (flaw is None) is fits, flaw
        assert fits or "median" in str(flaw)
        still = replace(REGTEST, easiest_bits=EASY)
        assert flaw_of_header(still, 5001, mined(time, EASY), {}.__getitem__, 1000.0) is None


def test_a_block_from_more_than_two_hours_ahead_of_our_clock_is_not_taken_yet() -> None:
    earlier = eleven_before(5001, list(range(11)))
    for ahead, fits in ((7200, True), (7201, False), (55 * 365 * 86400, False)):
        flaw = flaw_of_header(TOY, 5001, mined(1000 + ahead, EASY), earlier, now=1000.0)
        assert (flaw is None) is fits, flaw
        assert fits or "ahead of this machine's clock" in str(flaw)


@pytest.mark.parametrize(
    ("network", "height", "least"),
    [
        (MAINNET, 373601, 3),
        (MAINNET, 388380, 3),
        (MAINNET, 388381, 4),
        (TESTNET, 581884, 3),
        (TESTNET, 581885, 4),
        (TESTNET4, 100_001, 4),
        (SIGNET, 250_001, 4),
    ],
)
def test_a_version_that_its_height_no_longer_allows_is_refused(network, height, least) -> None:
    toy = replace(network, easiest_bits=EASY, easy_when_late=False)
    earlier = eleven_before(height, list(range(100, 111)))
    for version, fits in ((least - 1, False), (least, True), (0x20000000, True), (-1, False)):
        versioned = replace(mined(600, EASY), version=version)
        flaw = flaw_of_header(toy, height, versioned, earlier, now=1000.0)
        assert (flaw is None) is fits, flaw


@pytest.mark.data
def test_recorded_blocks_stand_where_the_networks_say() -> None:
    for network, letters in ((MAINNET, "main"), (TESTNET, "test")):
        assert network.known_blocks
        for height, known in network.known_blocks.items():
            raw = (DATA / "blocks" / f"{letters}-{height:07d}.raw").read_bytes()[:80]
            assert double_sha256(raw)[::-1].hex() == known
            alone = replace(network, retargets=False)
            assert flaw_of_work(alone, height, parse_header(raw), {}.__getitem__) is None


@pytest.mark.parametrize(
    ("network", "merkle_root", "time", "nonce"),
    [
        (
            TESTNET4,
            "7aa0a7ae1e223414cb807e40cd57e667b718e42aaf9306db9102fe28912b7b4e",
            1714777860,
            393743547,
        ),
        (
            SIGNET,
            "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
            1598918400,
            52613770,
        ),
    ],
)
def test_the_first_blocks_of_the_new_test_networks(network, merkle_root, time, nonce) -> None:
    """Their headers by bitcoind's chainparams.cpp, each of the least work of its chain."""
    raw = (1).to_bytes(4, "little") + bytes(32) + hash_bytes(merkle_root)
    raw += b"".join(n.to_bytes(4, "little") for n in (time, network.easiest_bits, nonce))
    first = parse_header(raw)
    assert hash_hex(first.hash) == network.genesis_hash
    assert flaw_of_work(network, 0, first, {}.__getitem__) is None
    assert network.node_chain == network.name
    assert network.epoch(network.first_block) == REGTEST.epoch(REGTEST.first_block)
