"""DNS beside HTTP/2 peers who mean harm: its 95th percentile, and beside as many honest requests.

Run it as ``python -m tests.benchmarks.http2_attacks [--count N] [--turns T] [--attacks a,b,...]``.
A process has all doors; one peer sends it N times what the attack consists of, as fast as it is
taken and on a new connection whenever the server has ended the old one, while another asks over
UDP all the time. Of each attack the least of T turns is shown, and its ratio to N honest requests
in the same run. It ends with an error if a ratio is above 3.
"""

import argparse
import contextlib
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import dns.message

from resolver.doors.http2 import PREFACE
from tests.resolver.doors.certificates import make_certificate
from tests.resolver.doors.every_door import doors
from tests.resolver.doors.http2_frames import ATTACKS, DATA, OPEN, PING, frame, headers, window

HONEST = "honest requests"
TOGETHER = 50
"""What a peer sends at once."""
MOST = 3.0
"""How much longer DNS may take beside an attack than beside honest requests."""
PAUSE = 0.001
"""Seconds between a DNS reply and the next question."""
PATIENCE = 5.0
MARK = b"MARK"


@dataclass
class Measured:
    """Of one turn. Times in milliseconds."""

    p50: float
    p95: float
    asked: int
    seconds: float
    cpu: float
    """Seconds of the server's CPU."""


class Peer:
    """A client on one connection after another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self._tls.set_alpn_protocols(["h2"])

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(plain)

    def ask(self, count: int) -> None:
        """So many questions, ``TOGETHER`` at a time, and all their replies."""
        with self.connect() as server:
            server.sendall(PREFACE + OPEN)
            held = b""
            for begin in range(0, count, TOGETHER):
                numbers = range(begin, min(begin + TOGETHER, count))
                server.sendall(b"".join(headers(2 * number + 1) for number in numbers))
                left = len(numbers)
                while left:
                    piece = server.recv(65_536)
                    if not piece:
                        raise ConnectionError("an honest client was turned away")
                    held += piece
                    got = 0
                    while len(held) >= 9 and len(held) >= 9 + int.from_bytes(held[:3], "big"):
                        length = int.from_bytes(held[:3], "big")
                        if held[3] == DATA:
                            got += length
                            left -= held[4] & 1
                        held = held[9 + length :]
                    if got:
                        server.sendall(window(0, got))

    def attack(self, name: str, count: int) -> None:
        """So many times what the attack consists of, and as many connections as that takes."""
        first, one = ATTACKS[name]
        sent = 0
        while sent < count:
            with contextlib.suppress(OSError), self.connect() as server:
                server.sendall(PREFACE + first)
                number = 0
                while sent < count:
                    octets = b"".join(one(number + n) for n in range(TOGETHER))
                    number += TOGETHER
                    sent += TOGETHER
                    server.sendall(octets + frame(PING, 0, 0, MARK + struct.pack("!I", sent)))
                    if not answered(server, MARK + struct.pack("!I", sent)):
                        break


def answered(server: ssl.SSLSocket, mark: bytes) -> bool:
    """Whether the server has handled all before this PING, or else has ended the connection."""
    held = b""
    while mark not in held:
        piece = server.recv(65_536)
        if not piece:
            return False
        held = held[-len(mark) :] + piece
    return True


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100


def turn(door: SimpleNamespace, name: str, count: int) -> Measured:
    """DNS as long as the peer is at work, which is a process of its own."""
    query = dns.message.make_query("alice.bs", "TXT").to_wire()[2:]
    command = [sys.executable, "-m", "tests.benchmarks.http2_attacks"]
    command += ["--peer", name, "--port", str(door.doh), "--count", str(count)]
    times = []
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer,
    ):
        assert peer.stdin is not None
        assert peer.stdout is not None
        peer.stdout.readline()
        asker.connect(("127.0.0.1", door.dns))
        asker.settimeout(PATIENCE)
        before, began = cpu_seconds(door.pid), time.perf_counter()
        peer.stdin.close()
        while peer.poll() is None:
            asked = time.perf_counter()
            packet = struct.pack("!H", len(times) & 0xFFFF) + query
            asker.send(packet)
            while asker.recv(4096)[:2] != packet[:2]:
                pass
            times.append(1e3 * (time.perf_counter() - asked))
            time.sleep(PAUSE)
        seconds, cpu = time.perf_counter() - began, cpu_seconds(door.pid) - before
        if peer.returncode:
            raise RuntimeError(f"the peer failed at {name}")
    times.sort()
    p50, p95 = (times[int(len(times) * part)] for part in (0.5, 0.95))
    return Measured(p50, p95, len(times), seconds, cpu)


def be_peer(name: str, port: int, count: int) -> None:
    peer = Peer(port)
    print("ready", flush=True)
    sys.stdin.read()
    if name == HONEST:
        peer.ask(count)
    else:
        peer.attack(name, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--attacks", default=",".join(ATTACKS).replace(", ", "; "))
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        be_peer(given.peer, given.port, given.count)
        return
    names = [HONEST, *(name.replace("; ", ", ") for name in given.attacks.split(","))]
    best: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="blockstore-bench-") as temporary:
        folder = Path(temporary)
        certificate, key = make_certificate(folder)
        with doors(folder, certificate=certificate, key=key, keeping=True) as door:
            for _ in range(given.turns):
                for name in names:
                    measured = turn(door, name, given.count)
                    best[name] = min(best.get(name, measured), measured, key=lambda m: m.p95)
    print(f"{given.count:,} of each; DNS over UDP meanwhile")
    print(f"{'':36}{'asked':>7}{'p50 ms':>8}{'p95 ms':>8}{'ratio':>7}{'s':>7}{'CPU s':>7}")
    worst = 0.0
    for name in names:
        it = best[name]
        ratio = it.p95 / best[HONEST].p95
        worst = max(worst, ratio)
        print(
            f"{name:36}{it.asked:7}{it.p50:8.2f}{it.p95:8.2f}{ratio:7.2f}"
            f"{it.seconds:7.2f}{it.cpu:7.2f}"
        )
    if worst > MOST:
        sys.exit(f"DNS took {worst:.1f} times as long beside an attack as beside honest requests")


if __name__ == "__main__":
    main()
