"""Whatever comes in through the real doors: the log stays empty, and the next good question is
answered."""

import contextlib
import resource
import socket
import struct
import sys
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from resolver.doors.connections import MAX_CONNECTIONS, MAX_PER_LOOPBACK
from tests.benchmarks.fuzz_doors import DOORS, doors_under_fire
from tests.resolver.doors.every_door import doors

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and all of 127.0.0.0/8"),
]

GOOD = dns.message.make_query("www.alice.bs", "A")


@pytest.fixture(scope="module")
def fire(tmp_path_factory):
    with doors_under_fire(tmp_path_factory.mktemp("fire"), seed=20) as fuzz:
        yield fuzz


def test_mutated_packets_leave_no_trace_on_any_door(fire):
    fire.run(5_000)
    assert fire.flaws == []
    assert set(fire.sent) == set(DOORS)
    assert min(fire.sent.values()) >= 1_000
    assert {"rcode 0", "rcode 1", "rcode 3", "HTTP 200", "HTTP 400"} <= set(fire.outcomes)


@pytest.mark.data
def test_recorded_malformed_packets_leave_no_trace_on_any_door(fire, data_dir: Path):
    packets = [file.read_bytes() for file in sorted((data_dir / "dns" / "malformed").glob("*.bin"))]
    assert packets
    fire.try_all(packets)
    assert fire.flaws == []


def test_streams_that_are_none_leave_no_trace(fire):
    for _ in range(30):
        fire.break_off()
    fire.run(1)
    assert fire.flaws == []


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5, source_address=(address, 0))


def is_open(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_a_thousand_idle_connections_leave_room_for_a_question(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4_096)), hard))
    try:
        with doors(tmp_path) as door, contextlib.ExitStack() as stack:
            idle = []
            for number in range(1_000):
                # Two machines' worth: no address has more than its share.
                connection = connect(door.dns, f"127.0.0.{2 + number % 2}")
                idle.append(stack.enter_context(connection))
                with contextlib.suppress(ConnectionError):  # it was one too many
                    connection.sendall((b"", b"\xff\xff", b"\0", b"\0\x20abc")[number // 2 % 4])
            for ask in (dns.query.tcp, dns.query.udp):
                reply = ask(GOOD, "127.0.0.1", 5, door.dns)
                assert reply.rcode() == dns.rcode.NOERROR
            held = sum(is_open(connection) for connection in idle)
            assert 0 < held <= MAX_CONNECTIONS
            assert held < 2 * MAX_PER_LOOPBACK
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_client_that_never_reads_is_held_back_and_others_are_not(tmp_path):
    with doors(tmp_path) as door, connect(door.dns) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.settimeout(0.2)
        query = dns.message.make_query("big.bs", "TXT", use_edns=0).to_wire()
        framed = struct.pack("!H", len(query)) + query
        sent = 0
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 50_000_000:  # replies are a thousand times as long
                sent += deaf.send(framed * 500)
        assert sent < 50_000_000
        for ask in (dns.query.tcp, dns.query.udp):
            assert ask(GOOD, "127.0.0.1", 5, door.dns).rcode() == dns.rcode.NOERROR
