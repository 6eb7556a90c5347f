"""What the header of a block has to show by the rules of its chain: work, a time, a version.

The rules are those of Bitcoin Core's pow.cpp and ContextualCheckBlockHeader, and of BIP 94 for
testnet4. What must stay true: no header passes that shows less work than its chain's limit. What a
header cannot show is left out: a signet's signatures stand in the blocks.
"""

from collections.abc import Callable

from indexer.bitcoin.headers import Header, meets_target, target_of_bits
from indexer.networks import Network

PERIOD = 2016
"""Blocks from one change of the target to the next."""
SPACING = 600
TIMESPAN = PERIOD * SPACING
MAX_TIME_WARP = 600
"""Seconds by which the first block of a period may be older than the one before it (BIP 94)."""

MAX_FUTURE = 2 * 3600
"""Seconds by which a block may be ahead of the clock of whoever checks it."""
MEDIAN_OF = 11
"""Blocks before one, the median of whose times it has to be above (BIP 113 has the median too)."""

Earlier = Callable[[int], Header]
"""The header at a height of the same chain."""


def bits_of_target(target: int) -> int:
    """How a header writes the number that its hash may not exceed, cut to 23 bits."""
    size = (target.bit_length() + 7) // 8
    mantissa = target >> 8 * (size - 3) if size > 3 else target << 8 * (3 - size)
    if mantissa & 0x800000:  # the sign
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def required_bits(network: Network, height: int, time: int, earlier: Earlier) -> int:
    """The bits of the block at ``height``, whose header says ``time``.

    For networks that change their target. Asks for the header before it; at the end of a period
    for the first one of that; on the test networks for more of the same period.
    """
    before = earlier(height - 1)
    if height % PERIOD == 0:
        first = earlier(height - PERIOD)
        seconds = min(max(before.time - first.time, TIMESPAN // 4), TIMESPAN * 4)
        # On the test networks the last block of a period may be an easy one.
        bits = first.bits if network.bip94 else before.bits
        target = target_of_bits(bits) * seconds // TIMESPAN
        return bits_of_target(min(target, target_of_bits(network.easiest_bits)))
    if not network.easy_when_late:
        return before.bits
    if time > before.time + 2 * SPACING:
        return network.easiest_bits
    at = height - 1
    while at % PERIOD and earlier(at).bits == network.easiest_bits:
        at -= 1
    return earlier(at).bits


def flaw_of_work(network: Network, height: int, header: Header, earlier: Earlier) -> str | None:
    """Why the header cannot stand at ``height`` of this chain, in words; None: it can."""
    target = target_of_bits(header.bits)
    if not 0 < target <= target_of_bits(network.easiest_bits):
        return f"it asks for less work (bits {header.bits:08x}) than any block of the chain"
    if not meets_target(header):
        return "it does not show the work that it claims"
    if not network.retargets or height == 0:
        return None
    required = required_bits(network, height, header.time, earlier)
    if header.bits != required:
        return f"its bits are {header.bits:08x}, where the chain asks for {required:08x}"
    is_first = network.bip94 and height % PERIOD == 0
    if is_first and header.time < earlier(height - 1).time - MAX_TIME_WARP:
        return "its time is more than ten minutes before that of the block before it (BIP 94)"
    return None


def flaw_of_header(
    network: Network, height: int, header: Header, earlier: Earlier, now: float
) -> str | None:
    """Why the header cannot stand at ``height`` of this chain at unix time ``now``, in words.

    Asks for up to eleven headers before it, on networks that change their target; on others, as
    regtest, only its work is looked at.
    """
    flaw = flaw_of_work(network, height, header, earlier)
    if flaw or not network.retargets or height == 0:
        return flaw
    before = sorted(earlier(at).time for at in range(max(0, height - MEDIAN_OF), height))
    if header.time <= before[len(before) // 2]:
        return "its time is not above the median of the eleven blocks before it"
    if header.time > now + MAX_FUTURE:
        ahead = (header.time - now) / 3600
        return (
            f"its time is {ahead:.1f} hours ahead of this machine's clock; if that is slow, set it"
        )
    least = max((least for since, least in network.least_versions if height >= since), default=None)
    if least is not None and header.version < least:
        return f"its version is {header.version}, where {least} is the least (BIP 34, 65 and 66)"
    return None
