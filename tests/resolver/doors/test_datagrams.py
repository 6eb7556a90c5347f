"""Batches of datagrams say what recvfrom and sendto would, on real loopback sockets."""

import select
import socket
import sys

import pytest

from resolver.dns.message import UDP_LIMIT
from resolver.doors.datagrams import DatagramBatch, batch_over
from resolver.doors.listening import udp_socket
from resolver.doors.udp import UdpDoor, _as_source
from tests.resolver.doors.test_udp import Readers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the calls are Linux's")

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def bound(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.bind((HOSTS[family], 0))
    except OSError as error:
        made.close()
        pytest.skip(f"{HOSTS[family]} cannot be bound here: {error}")
    made.settimeout(5)
    return made


@pytest.fixture(params=HOSTS)
def pair(request):
    with bound(request.param) as here, bound(request.param) as there:
        here.setblocking(False)
        yield here, there


def batch_of(here: socket.socket, most: int = 8) -> DatagramBatch:
    batch = batch_over(here, most, 64, 32)
    assert batch is not None
    return batch


def test_datagrams_come_whole_in_order_and_with_their_senders(pair):
    here, there = pair
    sent = [b"", b"a", b"\0" * 64, b"\xff" * 63, b"b"]
    with bound(there.family) as other:
        for number, text in enumerate(sent):
            (other if number == 3 else there).sendto(text, here.getsockname())
        batch = batch_of(here)
        assert batch.receive() == sent
        peers = [there.getsockname()] * 3 + [other.getsockname(), there.getsockname()]
        assert [batch.peer(number) for number in range(5)] == peers
        assert [batch.host(number) for number in range(5)] == [HOSTS[there.family]] * 5
    assert batch.receive() == []


def test_replies_go_to_those_whose_numbers_they_have(pair):
    here, there = pair
    with bound(there.family) as other:
        for sender in (other, there, other):
            sender.sendto(b"?", here.getsockname())
        batch = batch_of(here)
        batch.receive()
        assert batch.send(1, [b"to there", b""]) == 2
        assert there.recvfrom(64) == (b"to there", here.getsockname())
        assert other.recv(64) == b""
        assert batch.send(0, [b"x" * 32]) == 1
        assert other.recv(64) == b"x" * 32


def test_no_more_are_taken_than_asked_for_and_the_rest_stays(pair):
    here, there = pair
    for number in range(11):
        there.sendto(b"%d" % number, here.getsockname())
    batch = batch_of(here)
    assert [len(batch.receive()) for _ in range(3)] == [8, 3, 0]


def test_a_longer_datagram_is_cut_and_touches_no_other(pair):
    here, there = pair
    for text in (b"a" * 1_000, b"b", b"c" * 65):
        there.sendto(text, here.getsockname())
    assert batch_of(here).receive() == [b"a" * 64, b"b", b"c" * 64]


def test_a_reply_that_is_too_long_is_refused(pair):
    here, there = pair
    batch = batch_of(here)
    there.sendto(b"?", here.getsockname())
    batch.receive()
    with pytest.raises(ValueError, match="33 bytes"):
        batch.send(0, [b"x" * 33])


def test_a_closed_socket_gives_and_takes_nothing(pair):
    here, there = pair
    batch = batch_of(here)
    there.sendto(b"?", here.getsockname())
    batch.receive()
    here.close()
    assert batch.receive() == []
    assert batch.send(0, [b"x"]) == 0


def test_one_that_the_kernel_will_not_take_stops_no_other(pair):
    here, there = pair
    batch = batch_of(here)
    for _ in range(3):
        there.sendto(b"?", here.getsockname())
    batch.receive()
    batch._names[28 + 2 : 28 + 4] = b"\0\0"  # no datagram goes to port 0
    assert batch.send(0, [b"1", b"2", b"3"]) == 2
    assert [there.recv(8), there.recv(8)] == [b"1", b"3"]


class OneIsSlow:
    """A resolver that has b"hit" ready; before it answers anything else it looks who was served."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self.served_before: list[bytes] = []

    def ready(self, packet: bytes, limit: int, address: str) -> bytes | None:
        assert (limit, address) == (UDP_LIMIT, "127.0.0.1")
        return b"ready" if packet == b"hit" else None

    def begin(self, packet: bytes, limit: int, asker: object) -> bytes:
        while select.select([self._client], [], [], 0)[0]:
            self.served_before.append(self._client.recv(64))
        return b"made"


def test_those_who_are_served_from_memory_do_not_wait_for_the_one_behind_them():
    with bound(socket.AF_INET) as here, bound(socket.AF_INET) as client:
        resolver = OneIsSlow(client)
        door = UdpDoor(Readers(), here, resolver)  # type: ignore[arg-type]
        for text in (b"hit", b"hit", b"miss", b"hit"):
            client.sendto(text, here.getsockname())
        door.doRead()
        assert resolver.served_before == [b"ready", b"ready"]
        assert [client.recv(64), client.recv(64)] == [b"made", b"ready"]
        counts = {"received": 4, "from memory": 3, "sent": 4, "unsent": 0}
        assert door.outcomes == counts


class Halves:
    """A resolver that has b"hit" ready and makes everything else."""

    def ready(self, packet: bytes, limit: int, address: str) -> bytes | None:
        return b"ready" if packet == b"hit" else None

    def begin(self, packet: bytes, limit: int, asker: object) -> bytes:
        return b"made"


WILDCARDS = [("0.0.0.0", ["127.0.0.2", "127.0.0.1", "127.3.2.1"]), ("::", ["::1"] * 3)]


@pytest.mark.parametrize("in_batches", [True, False])
@pytest.mark.parametrize(("anywhere", "asked"), WILDCARDS)
def test_every_reply_of_a_wildcard_door_leaves_from_the_address_that_was_asked(
    anywhere, asked, in_batches, monkeypatch
):
    if not in_batches:
        monkeypatch.setattr("resolver.doors.udp.batch_over", lambda *_, **__: None)
    family = socket.AF_INET6 if ":" in anywhere else socket.AF_INET
    with bound(family) as client:
        door = UdpDoor(Readers(), udp_socket(anywhere, 0), Halves())  # type: ignore[arg-type]
        for text in (b"hit", b"miss"):
            for address in (*asked, *reversed(asked)):
                client.sendto(text, (address, door.port))
        door.doRead()
        came = [client.recvfrom(64) for _ in range(12)]
        assert [text for text, _ in came] == [b"ready"] * 6 + [b"made"] * 6
        assert [peer[:2] for _, peer in came] == [
            (address, door.port) for address in (*asked, *reversed(asked)) * 2
        ]
        door.stop()


@pytest.mark.parametrize(("address", "kept"), [("2001:db8::1", 0), ("::1", 0), ("fe80::1", 7)])
def test_a_reply_may_leave_through_another_interface_unless_its_address_is_of_one(address, kept):
    local = socket.inet_pton(socket.AF_INET6, address)
    came = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, local + (7).to_bytes(4, sys.byteorder))
    left = (*came[:2], local + kept.to_bytes(4, sys.byteorder))
    assert _as_source([came]) == [left]
    with bound(socket.AF_INET6) as here, bound(socket.AF_INET6) as there:
        here.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        batch = batch_over(here, 2, 64, 64, destinations=True)
        assert batch is not None
        there.sendto(b"?", here.getsockname())
        assert batch.receive() == [b"?"]
        batch._controls[16:36] = came[2]
        batch._answer_from_there(0)
        assert batch.controls(0) == [left]


def test_control_messages_come_as_recvmsg_has_them():
    with bound(socket.AF_INET) as here, bound(socket.AF_INET) as there:
        here.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
        here.setblocking(False)
        batch = batch_over(here, 4, 64, 64, destinations=True)
        assert batch is not None
        for _ in range(3):
            there.sendto(b"?", here.getsockname())
        assert here.recvmsg(64, 128)[1] != []
        there.sendto(b"?", here.getsockname())
        _, expected, _, _ = here.recvmsg(64, 128)
        assert len(batch.receive()) == 2
        assert batch.controls(0) == batch.controls(1) == expected
