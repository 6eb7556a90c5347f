"""The DHT node on loopback: stock neighbours, hostile ones, and every attack that fells stock."""

import asyncio
import json
import os
import socket

import pytest
import umsgpack
from kademlia.crawling import ValueSpiderCrawl
from kademlia.network import Server
from kademlia.node import Node

from tests.zonefiles.dht.network import HOST, SlowDisk, lie, network, record, silence, stranger
from zonefiles.archive.archive import Archive
from zonefiles.dht.messages import DHT_MAX_VALUE, Contact
from zonefiles.dht.node import DhtError, DhtNode, TooLargeForDht
from zonefiles.dht.state import DhtState, parse_state, read_state, write_state
from zonefiles.replication.replicator import Replicator
from zonefiles.sources import DataSource

ID = b"s" * 20


def play(tmp_path, story) -> None:
    """Run ``story(net)`` on a network of its own, within a time."""

    async def run():
        async with asyncio.timeout(20), network(tmp_path) as net:
            await story(net)

    asyncio.run(run())


def test_what_one_node_publishes_another_fetches(tmp_path):
    async def story(net):
        first, second = await net.many(2)
        digest, data = record(1)
        assert await first.publish(digest, data) == 1
        assert net.archives[second].get(digest) == data
        third = await net.node()
        found = await third.fetch(digest, 2)
        assert (found.data, found.source) == (data, f"{HOST}:{second.port}")
        assert (await third.fetch(record(2)[0], 2)).data is None
        assert first.port != 0
        assert third.peers == 2

    play(tmp_path, story)


def test_the_largest_value_travels_and_a_larger_one_is_refused_with_a_reason(tmp_path):
    async def story(net):
        first, second = await net.many(2)
        digest, data = record(1, DHT_MAX_VALUE)
        assert await first.publish(digest, data) == 1
        assert (await first.fetch(digest, 2)).data == data
        digest, data = record(2, DHT_MAX_VALUE + 1)
        with pytest.raises(TooLargeForDht, match="8001 bytes do not fit"):
            await first.publish(digest, data)
        net.archives[second].put(digest, data)
        assert (await first.fetch(digest, 2)).data is None
        with pytest.raises(DhtError, match="hash"):
            await first.publish(record(3)[0], b"other")

    play(tmp_path, story)


def test_only_what_is_announced_right_and_has_room_is_stored(tmp_path):
    async def story(net):
        (node,) = await net.many(1)
        archive = net.archives[node]
        good, unannounced, wrong, late = record(1), record(2), record(3), record(4)
        net.announced = {good[0], wrong[0], late[0]}
        async with stranger() as peer:
            assert await peer.ask(node, "store", ID, *good) is True
            assert await peer.ask(node, "store", ID, *good) is True
            assert await peer.ask(node, "store", ID, *unannounced) is False
            assert await peer.ask(node, "store", ID, wrong[0], b"other") is False
            archive.max_bytes = archive.bytes_held
            assert await peer.ask(node, "store", ID, *late) is False
            assert list(archive.digests()) == [good[0]]
            assert node.wrong_by_source == {f"{HOST}:{peer.port}": 1}
            assert (node.stats.stored, node.stats.stores_refused) == (2, 3)

    play(tmp_path, story)


def test_a_store_is_acknowledged_after_its_sync_and_others_are_served_meanwhile(tmp_path):
    async def story(net):
        node = await net.node()
        disk = SlowDisk(net.archives[node])
        digest, data = record(1)
        async with stranger() as peer:
            storing = asyncio.create_task(peer.ask(node, "store", ID, digest, data))
            while not disk.batches:
                await asyncio.sleep(0)
            async with stranger() as other:
                assert await other.ask(node, "ping", ID) == node.node_id
            assert not storing.done()
            assert (node.stats.stored, digest in net.archives[node]) == (0, False)
            disk.free.set()
            assert await storing is True
            assert (node.stats.stored, digest in net.archives[node]) == (1, True)

    play(tmp_path, story)


def test_a_stock_node_stores_and_reads_through_ours_and_ours_through_it(tmp_path):
    async def story(net):
        ours, other = await net.many(2)
        stock = Server()
        await stock.listen(0, interface=HOST)
        stock_port = stock.transport.get_extra_info("sockname")[1]
        try:
            await stock.bootstrap([(HOST, ours.port)])
            digest, data = record(1, 4_000)
            assert await stock.set_digest(digest, data)
            assert net.archives[ours].get(digest) == data
            reader = Server()
            await reader.listen(0, interface=HOST)
            await reader.bootstrap([(HOST, other.port)])
            known = reader.protocol.router.find_neighbors(Node(digest))
            crawl = ValueSpiderCrawl(reader.protocol, Node(digest), known, 20, 3)
            assert await crawl.find() == data
            reader.stop()

            digest, data = record(2)
            assert await ours.publish(digest, data) >= 2
            assert stock.storage.get(digest) == data
            digest, data = record(3)
            stock.storage[digest] = data
            found = await ours.fetch(digest, 2)
            assert (found.data, found.source) == (data, f"{HOST}:{stock_port}")
        finally:
            stock.stop()
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "upkeep" not in task.get_name():
                    task.cancel()

    play(tmp_path, story)


def test_half_of_the_nodes_lie_and_every_record_is_still_had(tmp_path, caplog):
    async def story(net):
        nodes = await net.many(24)
        records = [record(n) for n in range(30)]
        for n, (digest, data) in enumerate(records):
            assert await nodes[n % 24].publish(digest, data) == 20
        for liar in nodes[1::2]:
            lie(liar)
        reader = await net.node()
        for digest, data in records:
            assert (await reader.fetch(digest, 5)).data == data
        assert reader.stats.wrong_values > 0
        sources = list(reader.wrong_by_source)
        assert all(caplog.text.count(f"from {source} does") >= 1 for source in sources)
        wrong = [r for r in caplog.records if "does not have its hash" in r.getMessage()]
        assert len(wrong) == len(sources), "once per source"

    play(tmp_path, story)


def test_a_third_of_the_nodes_falls_silent_and_every_record_is_still_had(tmp_path):
    async def story(net):
        nodes = await net.many(24)
        records = [record(n) for n in range(15)]
        for digest, data in records:
            await nodes[0].publish(digest, data)
        for dead in nodes[1:24:3]:
            silence(dead)
        for digest, data in records:
            assert (await nodes[2].fetch(digest, 5)).data == data

    play(tmp_path, story)


def test_when_all_lie_the_answer_says_how_many(tmp_path):
    async def story(net):
        nodes = await net.many(5)
        for liar in nodes[:4]:
            lie(liar)
        found = await nodes[4].fetch(record(1)[0], 2)
        assert (found.data, found.source, found.asked, found.wrong) == (None, None, 4, 4)
        digest, data = record(2)
        net.archives[nodes[0]].put(digest, data)
        del nodes[0]._protocol.rpc_find_value
        assert (await nodes[4].fetch(digest, 2)).data == data, "who lied once may have the rest"

    play(tmp_path, story)


HOSTILE_REPLIES = {
    "ports beyond 65535": [[[ID, HOST, 70_000]]],
    "negative ports": [[[ID, HOST, -1]]],
    "host names": [[[ID, "localhost", 53]], [[ID, "a" * 300, 53]]],
    "addresses that are numbers": [[[ID, 1, 1]], [[ID, None, None]]],
    "ids that are no ids": [[[b"short", HOST, 1]], [["text", HOST, 1]], [[None, HOST, 1]]],
    "rows that are no rows": [[1, "x", None, [], [1]], [[[[[]]]]]],
    "values that are no bytes": [{"value": 1}, {"value": "text"}, {"value": [1]}, {"value": None}],
    "maps without a value": [{}, {"a": b"b"}, {1: 2}],
    "replies that are no lists": [1, True, None, "text", b"bytes", 1.5],
    "a thousand contacts": [[[os.urandom(20), HOST, 1 + n] for n in range(200)]],
    "a wrong value": [{"value": b"a lie"}],
    "the wrong function's reply": [ID, True, [HOST, 1]],
}


@pytest.mark.parametrize("kind", HOSTILE_REPLIES)
def test_a_hostile_reply_does_no_harm(tmp_path, kind, caplog):
    saying = None

    def script(function, arguments):
        return [umsgpack.packb(ID if function == "ping" else saying)]

    async def story(net):
        nonlocal saying
        node, friend = await net.many(2)
        digest, data = record(1)
        net.archives[friend].put(digest, data)
        async with stranger(script) as peer:
            for message in HOSTILE_REPLIES[kind]:
                saying = message
                await node._ping((HOST, peer.port))
                asked = node.stats.asked
                assert (await node.fetch(digest, 3)).data == data
                await node.publish(digest, data)
                assert peer.received.qsize() > 1
                assert node.stats.asked > asked
            assert not node._protocol.closed.is_set()
            assert node.stats.failures == 0
            known = node._protocol.router.nearest(ID, 1000)
            assert all(len(c.id) == 20 and c.ip == HOST and 0 < c.port < 65536 for c in known)

    play(tmp_path, story)
    assert "Traceback" not in caplog.text


HOSTILE_PACKETS = {
    "nothing and next to nothing": [b"", b"\0", b"\1", b"\0" * 21, b"\1" * 21],
    "unknown kinds": [bytes([kind]) * 40 for kind in range(2, 40)],
    "noise": [os.urandom(n) for n in range(1, 400, 7)],
    "requests of noise": [b"\0" + os.urandom(20 + n) for n in range(1, 400, 7)],
    "replies of noise": [b"\1" + os.urandom(20 + n) for n in range(1, 400, 7)],
    "nested lists": [b"\0" + ID + b"\x91" * 8000],
    "lengths that lie": [b"\0" + ID + head + b"\xff" * 4 for head in (b"\xdd", b"\xdf", b"\xc6")],
    "the largest datagram": [b"\0" + ID + b"\x01" * 60_000],
    "private functions": [
        b"\0" + ID + umsgpack.packb([name, []])
        for name in ("_timeout", "__init__", "__class__", "datagram_received", "ask", "abandon", "")
    ],
    "wrong arguments": [
        b"\0" + ID + umsgpack.packb([name, arguments])
        for name in ("ping", "stun", "find_node", "find_value", "store")
        for arguments in ([None], [1, 2], [b"x"], ["i" * 20], [ID] * 7, {}, None, "x" * 20)
    ],
    "odd values to store": [
        b"\0" + ID + umsgpack.packb(["store", [ID, ID, value]])
        for value in (1, None, "text", [b"x"], {"a": 1}, 1.5, True)
    ],
}


@pytest.mark.parametrize("kind", HOSTILE_PACKETS)
def test_a_hostile_datagram_does_no_harm(tmp_path, kind):
    async def story(net):
        (node,) = await net.many(1)
        tasks = asyncio.all_tasks()
        async with stranger() as peer, stranger() as other:
            for packet in HOSTILE_PACKETS[kind]:
                peer.send(node, packet)
            assert await other.ask(node, "ping", ID) == node.node_id
            assert asyncio.all_tasks() == tasks, "no packet starts a task"
            assert node.stats.failures == 0
            assert net.archives[node].count == 0

    play(tmp_path, story)


def test_a_bug_behind_a_request_neither_closes_the_socket_nor_floods_the_log(tmp_path, caplog):
    async def story(net):
        (node,) = await net.many(1)

        def broken(digest):
            raise RuntimeError("a bug")

        node._is_announced = broken
        async with stranger() as peer, stranger() as other:
            for _ in range(15):
                request = umsgpack.packb(["store", [ID, *record(1)]])
                peer.send(node, b"\0" + os.urandom(20) + request)
            assert await other.ask(node, "ping", ID) == node.node_id
            assert node.stats.failures == 15
        assert caplog.text.count("a bug") <= 5
        assert "Traceback" not in caplog.text

    play(tmp_path, story)


def test_a_new_sender_draws_one_small_ping_and_no_more(tmp_path):
    async def story(net):
        (node,) = await net.many(1)
        for n in range(50):
            net.archives[node].put(*record(n, 4000))
        async with stranger() as peer, stranger() as other:
            await peer.ask(node, "ping", ID)
            assert node.peers == 0, "not known before its address is proven"
            await other.ask(node, "ping", b"o" * 20)
            extra = [peer.received.get_nowait() for _ in range(peer.received.qsize())]
            assert sum(map(len, extra)) < 100

    play(tmp_path, story)


@pytest.mark.parametrize("function", ["ping", "stun", "store", "find_node", "find_value", "bad"])
def test_an_address_that_never_answered_draws_three_times_its_octets_at_most(tmp_path, function):
    async def story(net):
        (node,) = await net.many(1)
        digest, data = record(1, DHT_MAX_VALUE)
        net.archives[node].put(digest, data)
        for n in range(60):
            node._protocol.router.add(Contact(os.urandom(20), f"192.0.2.{n}", 65_000))
        body = {
            "ping": ["ping", [ID]],
            "stun": ["stun", []],
            "store": ["store", [ID, *record(2, 1)]],
            "find_node": ["find_node", [ID, digest]],
            "find_value": ["find_value", [ID, digest]],
            "bad": ["find_value", [ID]],
        }[function]
        packet = b"\0" + os.urandom(20) + umsgpack.packb(body)
        async with stranger() as peer, stranger() as last:
            for _ in range(5):
                peer.send(node, packet)
            await last.ask(node, "ping", b"o" * 20)  # heard after all of the others
            while node.stats.requests < (1 if function == "bad" else 6):
                await asyncio.sleep(0.01)
            await last.ask(node, "ping", b"o" * 20)
            drawn = [peer.received.get_nowait() for _ in range(peer.received.qsize())]
            assert sum(map(len, drawn)) <= 3 * 5 * len(packet)

    play(tmp_path, story)


@pytest.mark.parametrize("function", ["find_node", "find_value"])
def test_a_long_reply_comes_once_the_address_has_answered_a_ping(tmp_path, function):
    async def story(net):
        (node,) = await net.many(1)
        digest, data = record(1, DHT_MAX_VALUE)
        net.archives[node].put(digest, data)
        for n in range(60):
            node._protocol.router.add(Contact(os.urandom(20), f"192.0.2.{n}", 65_000))
        async with stranger(lambda *_: [umsgpack.packb(ID)]) as peer:
            for _ in range(2):  # held until the proof, then at once
                reply = await peer.ask(node, function, ID, digest)
                assert reply == {"value": data} if function == "find_value" else len(reply) == 20

    play(tmp_path, story)


def test_what_waits_for_proof_is_bounded_for_an_address_and_in_all(tmp_path):
    async def story(net):
        (node,) = await net.many(1)
        digest, data = record(1, DHT_MAX_VALUE)
        net.archives[node].put(digest, data)
        protocol = node._protocol
        packet = umsgpack.packb(["find_value", [ID, digest]])
        for n in range(1_500):
            address = (f"127.1.{n // 200}.{n % 200 + 1}", 9)
            for _ in range(12 if n == 1_499 else 1):
                protocol.datagram_received(b"\0" + os.urandom(20) + packet, address)
        assert len(protocol._held) == 1_024
        assert len(protocol._held[address]) == 8

    play(tmp_path, story)


def test_a_sender_that_answers_becomes_a_contact_under_the_id_it_has(tmp_path):
    async def story(net):
        (node,) = await net.many(1)
        async with stranger(lambda *_: [umsgpack.packb(ID)]) as peer:
            await peer.ask(node, "ping", ID)
            await peer.ask(node, "ping", ID)
            assert node.peers == 1
        async with stranger(lambda *_: [umsgpack.packb(ID)]) as pretender:
            await pretender.ask(node, "ping", b"x" * 20)
            await pretender.ask(node, "ping", b"x" * 20)
            assert node.peers == 1

    play(tmp_path, story)


def test_a_flood_from_one_source_is_cut_and_others_are_served(tmp_path):
    async def story(net):
        node = await net.node(requests_a_second=64.0)
        async with stranger() as flood, stranger() as other:
            request = umsgpack.packb(["find_node", [ID, ID]])
            for _ in range(100):
                flood.send(node, b"\0" + os.urandom(20) + request)
            assert await other.ask(node, "ping", ID) == node.node_id
            assert node.stats.rate_limited >= 90
            assert node.stats.requests <= 10

    play(tmp_path, story)


def test_a_reply_counts_only_from_the_address_that_was_asked(tmp_path):
    async def story(net):
        (node,) = await net.many(1)
        async with stranger() as asked, stranger() as forger:
            asking = asyncio.create_task(node._protocol.ask((HOST, asked.port), "ping", ID))
            request = await asked.received.get()
            forger.send(node, b"\1" + request[1:21] + umsgpack.packb(b"f" * 20))
            assert await asking is None
            assert node.stats.unexpected == 1

    play(tmp_path, story)


def test_one_lost_datagram_does_not_lose_a_peer(tmp_path):
    async def story(net):
        node, friend = await net.many(2)
        digest, data = record(1)
        net.archives[friend].put(digest, data)
        receive, lost = friend._protocol.datagram_received, []

        def lose_one(packet, addr):
            if lost:
                receive(packet, addr)
            lost.append(packet)

        friend._protocol.datagram_received = lose_one
        assert (await node.fetch(digest, 2)).data == data
        assert len(lost) >= 2  # a busy machine may ask once more
        assert node.peers == 1

    play(tmp_path, story)


def test_a_dead_peer_is_forgotten_and_welcome_again(tmp_path):
    async def story(net):
        node, friend = await net.many(2)
        receive = friend._protocol.datagram_received
        silence(friend)
        found = await node.fetch(record(1)[0], 2)
        assert (found.asked, found.silent, node.peers) == (1, 1, 0)
        friend._protocol.datagram_received = receive
        await friend.bootstrap()
        await node.bootstrap()
        assert friend.peers == 1

    play(tmp_path, story)


def test_a_node_that_begins_alone_joins_when_its_seed_comes_up(tmp_path):
    async def story(net):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((HOST, 0))
            port = udp.getsockname()[1]
        early = await net.node(bootstrap=[(HOST, port)], refresh_interval=0.05)
        assert early.peers == 0
        archive = Archive(tmp_path / "seed", max_bytes=1000)
        seed = DhtNode(HOST, port, archive=archive, is_announced=net.is_announced)
        await seed.start()
        try:
            while not early.peers:
                await asyncio.sleep(0.01)
        finally:
            await seed.stop()
            archive.close()

    play(tmp_path, story)


def test_a_socket_that_the_system_closed_is_opened_again(tmp_path):
    async def story(net):
        node = await net.node(refresh_interval=0.05)
        port = node.port
        node._protocol.transport.close()
        async with stranger() as peer:
            while node._protocol.closed.is_set():
                await asyncio.sleep(0.01)
            assert node.port == port
            assert await peer.ask(node, "ping", ID) == node.node_id

    play(tmp_path, story)


def test_upkeep_survives_an_error(tmp_path, caplog):
    async def story(net):
        (node,) = [await net.node(refresh_interval=0.01)]
        node._resolve_seeds = lambda: 1 / 0
        while node.stats.failures < 3:
            await asyncio.sleep(0.01)
        assert not node._upkeep.done()
        assert "it goes on" in caplog.text

    play(tmp_path, story)


def test_id_and_neighbours_outlive_a_restart(tmp_path):
    async def story(net):
        state = tmp_path / "dht.json"
        seed = await net.node()
        node = await net.node(state_file=state)
        node_id = node.node_id
        await node.stop()
        assert json.loads(state.read_text())["neighbours"] == [[HOST, seed.port]]
        again = await net.node(state_file=state, bootstrap=[])
        assert again.node_id == node_id
        assert again.peers == 1

    play(tmp_path, story)


def test_a_port_in_use_is_said_in_one_line(tmp_path):
    async def story(net):
        (node,) = await net.many(1)
        second = DhtNode(HOST, node.port, archive=net.archives[node], is_announced=net.is_announced)
        with pytest.raises(DhtError, match=f"cannot listen on {HOST}:{node.port}"):
            await second.start()
        await second.stop()

    play(tmp_path, story)


def test_a_stopped_node_answers_at_once_and_stops_twice(tmp_path):
    async def story(net):
        node, friend = await net.many(2)
        silence(friend)
        fetching = asyncio.create_task(node.fetch(record(1)[0], 10))
        await asyncio.sleep(0)
        await node.stop()
        await node.stop()
        async with asyncio.timeout(0.5):
            assert (await fetching).data is None
        assert await node.publish(*record(1)) == 0

    play(tmp_path, story)


def test_a_record_put_at_one_node_is_in_the_other_s_archive_after_its_block(tmp_path):
    async def story(net):
        first, second = await net.many(2)
        net.announced = set()
        records = [record(n) for n in range(20)]
        for digest, data in records:
            net.archives[first].put(digest, data)
        source = DataSource(net.archives[second], second)
        replicator = Replicator(source, second, is_announced=net.is_announced)
        await replicator.start()
        digests = [digest for digest, _ in records]
        net.announced.update(digests)
        replicator.announce(digests)
        while replicator.stats.fetched < 20:
            await asyncio.sleep(0.005)
        await replicator.stop()
        await source.close()
        assert net.archives[second].count == source.stats.fetched == 20
        assert [source.peek(digest) for digest in digests] == [data for _, data in records]

    play(tmp_path, story)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\x80\x04K\x01.",
        b'{"id": 1, "neighbours": []}',
        b'{"id": "00", "neighbours": []}',
        b'{"id": "zz", "neighbours": []}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_state_file_gives_a_new_id_and_says_so(tmp_path, text, caplog):
    path = tmp_path / "dht.json"
    path.write_bytes(text)
    state = read_state(path)
    assert len(state.node_id) == 20
    assert state.neighbours == ()
    assert "damaged" in caplog.text


def test_neighbours_that_are_no_addresses_are_left_out_of_the_state(tmp_path):
    rows = [[HOST, 1], ["name", 1], [HOST, 0], [HOST, "1"], [HOST], None, ["224.0.0.1", 5]]
    text = json.dumps({"id": "00" * 20, "neighbours": rows}).encode()
    assert parse_state(text) == DhtState(bytes(20), ((HOST, 1),))
    path = tmp_path / "folder" / "dht.json"
    write_state(path, DhtState(bytes(20), ((HOST, 1),)))
    assert read_state(path) == DhtState(bytes(20), ((HOST, 1),))
    assert [p.name for p in path.parent.iterdir()] == ["dht.json"]
