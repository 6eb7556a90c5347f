"""Mutated packets through the resolver: what came of them, and what the dearest cost.

Run it as ``python -m tests.benchmarks.fuzz_packets [--count N] [--seed S]``. Each packet is a good
one with octets changed, cut, inserted, repeated or spliced, with counts and lengths that lie; each
goes through ``Resolver.begin`` as a datagram or a stream message, with the reply cache on. It ends
with an error if anything failed inside, a reply was longer than allowed or could not be decoded
(one in a hundred is given to dnspython), a packet took too long, or a good question between them
was not answered as it was at the beginning.
"""

import argparse
import asyncio
import logging
import random
import struct
import sys
import time
from collections import Counter

import dns.edns
import dns.message

from resolver.dns.asker import Asker
from resolver.dns.cache import ReplyCache
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from tests.resolver.fakes import World

LONGEST_CPU = 0.005
"""Seconds of CPU one packet may take."""
GOOD_EVERY = 10_000
DECODED_EVERY = 100
TEMPTING = (0, 1, 2, 12, 0x3F, 0x40, 0x80, 0xC0, 0xC1, 0xFF)


def a_world(*, keeping: bool = True) -> World:
    world = World(cache=ReplyCache(1 << 22) if keeping else None)
    world.zonefile(
        "alice.id",
        '@ TXT "hello"\nwww A 192.0.2.1\nfar CNAME www.bob.bs.\nloop CNAME loop\n'
        "*.w A 192.0.2.2\nsub NS ns.sub\nns.sub A 192.0.2.3\nd DNAME bob.bs.",
    )
    world.zonefile("bob.id", "\n".join(f"www A 192.0.2.{n}" for n in range(1, 100)))
    world.name("big.id", bytes(40_000))
    world.name("lost.id", "nowhere", lies="nowhere")
    return world


def good_packets() -> list[bytes]:
    cookie = dns.edns.GenericOption(10, b"12345678")
    nsid = dns.edns.GenericOption(3, b"")
    padding = dns.edns.GenericOption(12, bytes(20))
    made = [
        dns.message.make_query(qname, rtype, use_edns=0, payload=1_232, options=options)
        for qname, rtype, options in (
            ("www.alice.bs", "A", []),
            ("alice.bs", "TXT", [cookie]),
            ("far.alice.bs", "A", [nsid, cookie, padding]),
            ("x.sub.alice.bs", "A", []),
            ("y.d.alice.bs", "AAAA", []),
            ("loop.alice.bs", "ANY", []),
            ("big.bs", "TXT", [cookie]),
            ("lost.bs", "TXT", []),
            ("_blockstore.alice.bs", "TXT", []),
            ("bs", "SOA", []),
            ("nobody.bs", "TYPE65280", []),
        )
    ]
    made.append(dns.message.make_query("version.bind", "TXT", "CH"))
    made.append(dns.message.make_query("www.bob.bs", "A"))
    return [query.to_wire() for query in made]


def mutated(draw: random.Random, good: list[bytes]) -> bytes:
    """One packet with one to six mutations."""
    packet = bytearray(draw.choice(good))
    for _ in range(draw.choice((1, 1, 1, 1, 2, 3, 6))):
        size = len(packet)
        at = draw.randrange(size + 1)
        match draw.randrange(9):
            case 0 | 1 if at < size:
                packet[at] = draw.randrange(256)
            case 2 if at < size:
                packet[at] = draw.choice(TEMPTING)
            case 3:
                del packet[at:]
            case 4:
                packet[at:at] = draw.randbytes(draw.randint(1, 12))
            case 5 if size >= 12:  # a count that lies
                struct.pack_into("!H", packet, draw.choice((4, 6, 8, 10)), draw.choice(TEMPTING))
            case 6:  # a piece once more
                packet[at:at] = packet[at : at + draw.randint(1, 40)]
            case 7:
                packet += draw.choice(good)[draw.randint(0, 30) :]
            case 8:  # pointers on pointers
                packet[at:at] = b"\xc0\x0c" * draw.choice((1, 2, 200, 1_500))
    return bytes(packet[: 4_096 if draw.random() < 0.9 else 65_535])


class Fuzz:
    """The run and what came of it."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._good = good_packets()
        self._world = a_world()
        self._loop = asyncio.new_event_loop()
        self._reference = self._ask_in_earnest()
        self.outcomes: Counter[str] = Counter()
        self.flaws: list[str] = []
        self.slowest: list[tuple[float, str]] = []

    def run(self, count: int) -> None:
        resolver = self._world.resolver
        askers = (Asker("192.0.2.1"), Asker("127.0.0.1", keeps_connection=True), Asker("", True))
        for number in range(count):
            packet = mutated(self._draw, self._good)
            limit = self._draw.choice((UDP_LIMIT, STREAM_LIMIT))
            asker = self._draw.choice(askers)
            start = time.process_time()
            if limit == UDP_LIMIT:
                resolver.ready(packet, limit)
            reply = resolver.begin(packet, limit, asker)
            if reply is not None and not isinstance(reply, bytes):
                reply = self._loop.run_until_complete(reply)
            spent = time.process_time() - start
            if spent > LONGEST_CPU / 5:
                # A collection of garbage or a busy machine is no property of the packet.
                spent = min(spent, self._again(packet, limit, asker))
            self._note(number, packet, reply, limit, spent)
            if number % GOOD_EVERY == 0 and self._ask_in_earnest() != self._reference:
                self.flaws.append(f"after packet {number} good questions are answered otherwise")
        if resolver.outcomes["failed"]:
            self.flaws.append(f"{resolver.outcomes['failed']} packets failed inside")

    def _again(self, packet: bytes, limit: int, asker: Asker) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            reply = self._world.resolver.begin(packet, limit, asker)
            if reply is not None and not isinstance(reply, bytes):
                self._loop.run_until_complete(reply)
            best = min(best, time.process_time() - start)
        return best

    def _note(
        self, number: int, packet: bytes, reply: bytes | None, limit: int, spent: float
    ) -> None:
        shown = packet[:60].hex()
        self.slowest = sorted([*self.slowest, (spent, shown)], reverse=True)[:3]
        if spent > LONGEST_CPU:
            self.flaws.append(f"packet {number} took {1e3 * spent:.1f} ms: {shown}")
        if reply is None:
            self.outcomes["silence"] += 1
            return
        self.outcomes[f"rcode {reply[3] & 0xF}{' tc' if reply[2] & 2 else ''}"] += 1
        if len(reply) > limit:
            self.flaws.append(f"packet {number} drew {len(reply)} bytes: {shown}")
        if reply[:2] != packet[:2] or not reply[2] & 0x80:
            self.flaws.append(f"packet {number} drew no reply of its own: {shown}")
        if number % DECODED_EVERY == 0 and (packet[2] & 0x78) != 0x28:
            try:  # dnspython reads an UPDATE by other rules
                dns.message.from_wire(reply)
            except Exception as error:  # noqa: BLE001 - whatever the decoder says is a flaw
                self.flaws.append(f"the reply to packet {number} is broken ({error!r}): {shown}")

    def _ask_in_earnest(self) -> list[tuple[int, list[str]]]:
        told = []
        for wire in (self._good[0], self._good[2], self._good[9], self._good[10]):
            reply = dns.message.from_wire(self._world.send(wire) or b"")
            names = [f"{rrset.name} {rrset.rdtype} {len(rrset)}" for rrset in reply.answer]
            told.append((int(reply.rcode()), names))
        return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    fuzz = Fuzz(given.seed)
    start = time.perf_counter()
    fuzz.run(given.count)
    spent = time.perf_counter() - start
    print(f"{given.count} packets, seed {given.seed}, {spent:.0f} s")
    for outcome, count in fuzz.outcomes.most_common():
        print(f"{outcome:16}{count:10}")
    for cost, shown in fuzz.slowest:
        print(f"slowest {1e3 * cost:8.2f} ms of CPU  {shown}")
    for flaw in fuzz.flaws[:20]:
        print(f"FLAW: {flaw}")
    sys.exit(1 if fuzz.flaws else 0)


if __name__ == "__main__":
    main()
