"""Mutated packets through real doors: UDP, TCP, TLS, HTTP/1.1 and HTTP/2 of a process of its own.

Run it as ``python -m tests.benchmarks.fuzz_doors [--count N] [--seed S]``. The packets are those of
``fuzz_packets``, and with them go streams that break off, lie about their length or are no DNS,
and HTTP requests and HTTP/2 frames with octets changed. After each batch a good question must be
answered as it was at the beginning. It ends with an error if a reply was longer than allowed or no
reply to what was sent, a batch took the server longer than its packets may take together and one
of them takes too long alone, a good question was not answered, or the server had something to say
in its log. The time of a packet is the CPU time of the server between two good answers, which are
part of it.
"""

import argparse
import base64
import contextlib
import random
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.exception
import dns.message

from tests.benchmarks.fuzz_http2 import Http2Client, broken_connection
from tests.benchmarks.fuzz_packets import good_packets, mutated
from tests.resolver.doors.certificates import make_certificate
from tests.resolver.doors.every_door import doors

LONGEST_CPU = 0.005
"""Seconds of the server's CPU that one packet may take."""
BATCH = 16
PATIENCE = 20.0
LARGEST_DATAGRAM = 1_232
PLAIN_DATAGRAM = 512
DECODED_EVERY = 100
DOORS = ("UDP", "TCP", "TLS", "HTTP/1.1", "HTTP/2")


class Flaw(Exception):
    """Something that must not be; the text says what."""


def question(number: int) -> bytes:
    """A good question with this ID."""
    return struct.pack("!H", number) + dns.message.make_query("www.alice.bs", "A").to_wire()[2:]


class Stream:
    """A connection to a door, made anew when it has ended."""

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | None,
        connect: Callable[[], socket.socket] | None = None,
    ) -> None:
        self.port = port
        self.tls = tls
        self._connect = connect or self._plain_or_tls
        self._socket: socket.socket | None = None
        self._held = b""

    def send(self, octets: bytes) -> None:
        if self._socket is None:
            self._socket = self._connect()
            self._held = b""
        self._socket.sendall(octets)

    def read(self, size: int) -> bytes:
        """So many octets. Raises ConnectionError at the end."""
        assert self._socket is not None
        while len(self._held) < size:
            piece = self._socket.recv(65_536)
            if not piece:
                raise ConnectionError
            self._held += piece
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self.read(1)
        return line

    def shut_and_drain(self) -> int:
        """Close our side and read to the end; the octets that came."""
        assert self._socket is not None
        total = len(self._held)
        with contextlib.suppress(OSError):
            if self.tls is None:
                self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(0.05 if self.tls else PATIENCE)
            while piece := self._socket.recv(65_536):
                total += len(piece)
        self.close()
        return total

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _plain_or_tls(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain if self.tls is None else self.tls.wrap_socket(plain)


class Fuzz:
    """A run against the doors at ``ports`` of the process ``pid``, and what came of it."""

    def __init__(self, ports: dict[str, int], pid: int, seed: int) -> None:
        self._draw = random.Random(seed)
        self._good = good_packets()
        self._pid = pid
        self._number = 0
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.settimeout(PATIENCE)
        self._udp.connect(("127.0.0.1", ports["dns"]))
        self._streams = {
            "TCP": Stream(ports["dns"], None),
            "TLS": Stream(ports["dot"], tls),
            "HTTP/1.1": Stream(ports["doh"], tls),
        }
        self._http2 = Http2Client(ports["doh"], PATIENCE)
        self.sent: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.flaws: list[str] = []
        self.slowest = (0.0, "", "")
        self._reference = {door: self._send(door, []) for door in DOORS}

    def run(self, count: int) -> None:
        """``count`` packets, in batches, through each door in turn."""
        while sum(self.sent.values()) < count:
            for door in DOORS:
                packets = [mutated(self._draw, self._good) for _ in range(BATCH)]
                self._batch(door, packets)
            if self._draw.random() < 0.1:
                self.break_off()

    def try_all(self, packets: list[bytes]) -> None:
        """Each of ``packets`` through each door."""
        for door in DOORS:
            for packet in packets:
                self._batch(door, [packet])

    def close(self) -> None:
        self._udp.close()
        for stream in self._streams.values():
            stream.close()
        self._http2.close()

    def break_off(self) -> None:
        """Streams and requests that are no such thing; the doors must go on."""
        draw = self._draw
        for door in ("TCP", "TLS"):
            stream = Stream(self._streams[door].port, self._streams[door].tls)
            packet = mutated(draw, self._good)[:65_535]
            lies = draw.choice((0, 1, 11, 12, len(packet) // 2, len(packet) + 1, 65_535))
            octets = draw.choice(
                (b"\0", b"\xff\xff", struct.pack("!H", lies) + packet, draw.randbytes(300))
            )
            self._throw(stream, octets)
        web = Stream(self._streams["HTTP/1.1"].port, self._streams["HTTP/1.1"].tls)
        request = bytearray(self._request(draw.choice(self._good)))
        for _ in range(draw.randint(1, 8)):
            at = draw.randrange(len(request))
            request[at : at + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 4))
        self._throw(web, bytes(request))
        frames = Stream(web.port, web.tls, self._http2.connect)
        self._throw(frames, broken_connection(draw, draw.choice(self._good)))
        self.outcomes["broken streams"] += 4

    def _throw(self, stream: Stream, octets: bytes) -> None:
        with contextlib.suppress(OSError):
            stream.send(octets)
            stream.shut_and_drain()
        stream.close()

    # One batch

    def _batch(self, door: str, packets: list[bytes]) -> None:
        packets = [self._numbered(packet) for packet in packets]
        self.sent[door] += len(packets)
        before = self._cpu()
        try:
            answered = self._send(door, packets)
        except (OSError, Flaw) as error:
            shown = " ".join(packet[:40].hex() for packet in packets[:2])
            self.flaws.append(f"{door}: {type(error).__name__} {error}: {shown} ...")
            return
        spent = self._cpu() - before
        if answered != self._reference[door]:
            self.flaws.append(f"{door}: good questions are answered otherwise")
        if spent > LONGEST_CPU:
            self._find_the_dearest(door, packets)
        else:
            self.slowest = max(self.slowest, (spent / len(packets), door, packets[0][:40].hex()))

    def _find_the_dearest(self, door: str, packets: list[bytes]) -> None:
        for packet in packets:
            best = float("inf")  # a collection of garbage is no property of the packet
            for _ in range(4):
                before = self._cpu()
                self._send(door, [packet])
                best = min(best, self._cpu() - before)
                if best <= LONGEST_CPU / 2:
                    break
            self.slowest = max(self.slowest, (best, door, packet[:40].hex()))
            if best > LONGEST_CPU:
                self.flaws.append(f"{door}: {1e3 * best:.1f} ms for {packet[:60].hex()}")

    def _numbered(self, packet: bytes) -> bytes:
        """With an ID by which its reply is known; the last bit tells it from good questions."""
        self._number = self._number + 2 & 0xFFFF
        return struct.pack("!H", self._number | 1) + packet[2:] if len(packet) >= 2 else packet

    def _cpu(self) -> float:
        """Seconds of CPU that the server has used."""
        nanoseconds = Path(f"/proc/{self._pid}/schedstat").read_text().split()[0]
        return int(nanoseconds) / 1e9

    def _send(self, door: str, packets: list[bytes]) -> list[str]:
        """Send, then ask the good question; what it was answered with."""
        self._number = self._number + 2 & 0xFFFF
        how: Callable[[list[bytes], bytes], Iterator[bytes]] = {
            "UDP": self._over_udp,
            "HTTP/1.1": self._over_https,
            "HTTP/2": self._over_http2,
        }.get(door, lambda packets, last: self._over_stream(self._streams[door], packets, last))
        largest = LARGEST_DATAGRAM if door == "UDP" else 65_535
        last = question(self._number)
        for reply in how(packets, last):
            if reply[:2] == last[:2]:
                message = dns.message.from_wire(reply)
                return [f"{rrset.name} {list(rrset)}" for rrset in message.answer]
            self._check(reply, packets, largest)
        raise Flaw("the good question has no answer")

    def _check(self, reply: bytes, packets: list[bytes], largest: int) -> None:
        asked = next((packet for packet in packets if packet[:2] == reply[:2]), None)
        if len(reply) < 12 or not reply[2] & 0x80:
            raise Flaw(f"no reply at all: {reply[:40].hex()}")
        self.outcomes[f"rcode {reply[3] & 0xF}{' tc' if reply[2] & 2 else ''}"] += 1
        if asked is None:
            return  # a late one, for which data was waited
        if largest == LARGEST_DATAGRAM and len(asked) >= 12 and asked[10:12] == b"\0\0":
            largest = PLAIN_DATAGRAM  # without an additional record there is no OPT
        if len(reply) > largest:
            raise Flaw(f"{len(reply)} bytes for {asked[:60].hex()}")
        if self._draw.randrange(DECODED_EVERY) == 0 and asked[2] & 0x78 != 0x28:
            try:  # dnspython reads an UPDATE by other rules
                dns.message.from_wire(reply)
            except Exception as error:
                raise Flaw(f"a broken reply ({error!r}) to {asked[:60].hex()}") from error

    def _over_udp(self, packets: list[bytes], last: bytes) -> Iterator[bytes]:
        for packet in packets:
            self._udp.send(packet[:9_000])
        self._udp.send(last)
        while True:
            yield self._udp.recv(65_535)

    def _over_stream(self, stream: Stream, packets: list[bytes], last: bytes) -> Iterator[bytes]:
        for packet in packets:
            if len(packet) < 12:  # which ends the connection, as it must
                short = Stream(stream.port, stream.tls)
                short.send(struct.pack("!H", len(packet)) + packet)
                if short.shut_and_drain():
                    raise Flaw(f"a reply to {packet.hex()}")
        whole = [packet for packet in packets if len(packet) >= 12]
        octets = b"".join(struct.pack("!H", len(packet)) + packet for packet in (*whole, last))
        for final in (False, True):
            try:
                stream.send(octets)
                while True:
                    yield stream.read(struct.unpack("!H", stream.read(2))[0])
            except ConnectionError:
                stream.close()  # it was idle for too long
                if final:
                    raise

    def _request(self, packet: bytes) -> bytes:
        if self._draw.random() < 0.3:
            text = base64.urlsafe_b64encode(packet).rstrip(b"=").decode()
            return f"GET /dns-query?dns={text} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        head = (
            "POST /dns-query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dns-message"
            f"\r\nContent-Length: {len(packet)}\r\n\r\n"
        )
        return head.encode() + packet

    def _over_https(self, packets: list[bytes], last: bytes) -> Iterator[bytes]:
        stream = self._streams["HTTP/1.1"]
        for packet in (*packets, last):
            for final in (False, True):
                try:
                    stream.send(self._request(packet))
                    status, closes, body = self._response(stream)
                except ConnectionError:
                    stream.close()  # it was idle for too long, or a refusal ended it
                    if final:
                        raise
                    continue
                break
            if closes:
                stream.close()
            yield from self._of_http(status, body, packet)

    def _over_http2(self, packets: list[bytes], last: bytes) -> Iterator[bytes]:
        for packet in (*packets, last):
            for final in (False, True):
                try:
                    status, body = self._http2.ask(packet)
                except ConnectionError:
                    self._http2.close()  # it was idle for too long
                    if final:
                        raise
                    continue
                break
            yield from self._of_http(status, body, packet)

    def _of_http(self, status: int, body: bytes, packet: bytes) -> Iterator[bytes]:
        self.outcomes[f"HTTP {status}"] += 1
        if status == 200:
            yield body
        elif status not in (400, 413, 414):
            raise Flaw(f"HTTP {status} to {packet[:60].hex()}")

    @staticmethod
    def _response(stream: Stream) -> tuple[int, bool, bytes]:
        status = int(stream.read_line().split()[1])
        length, closes = 0, False
        while (line := stream.read_line().strip().lower()) != b"":
            name, _, value = line.partition(b":")
            if name == b"content-length":
                length = int(value)
            closes = closes or (name == b"connection" and value.strip() == b"close")
        return status, closes, stream.read(length)


@contextlib.contextmanager
def doors_under_fire(folder: Path, seed: int) -> Iterator[Fuzz]:
    """Doors in a process of their own, and a run against them. The log must end empty."""
    certificate, key = make_certificate(folder)
    with doors(folder, certificate=certificate, key=key, keeping=True) as running:
        ports = {name: getattr(running, name) for name in ("dns", "dot", "doh")}
        fuzz = Fuzz(ports, running.pid, seed)
        try:
            yield fuzz
        finally:
            fuzz.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="blockstore-fuzz-") as folder,
        doors_under_fire(Path(folder), given.seed) as fuzz,
    ):
        fuzz.run(given.count)
    spent = time.perf_counter() - start
    print(f"{sum(fuzz.sent.values())} packets, seed {given.seed}, {spent:.0f} s")
    for what, count in (*fuzz.sent.items(), *fuzz.outcomes.most_common()):
        print(f"{what:20}{count:10}")
    cost, door, shown = fuzz.slowest
    print(f"dearest: {1e3 * cost:.2f} ms of CPU over {door}, {shown}")
    for flaw in fuzz.flaws[:20]:
        print(f"FLAW: {flaw}")
    sys.exit(1 if fuzz.flaws else 0)


if __name__ == "__main__":
    main()
