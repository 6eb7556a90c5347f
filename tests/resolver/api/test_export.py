"""A snapshot over HTTP: one at a time, no faster than it is read, and never in the reactor."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.python.failure import Failure

from resolver.api import export
from resolver.api.export import Exports
from resolver.refusals import Refusal

DEADLINE = 10.0


class Leaving:
    """What ``notifyFinish`` gives."""

    def __init__(self) -> None:
        self.errbacks: list[Callable[[Any], Any]] = []

    def addErrback(self, call: Callable[[Any], Any]) -> None:
        self.errbacks.append(call)


class Client:
    """A request whose reader reads as the test tells it."""

    def __init__(self, host: str = "127.0.0.1", origin: str | None = None) -> None:
        self.host, self.origin = host, origin
        self.pieces: list[bytes] = []
        self.producer: Any = None
        self.finished = self.aborted = False
        self.leaving = Leaving()
        self.channel = SimpleNamespace(transport=SimpleNamespace(abortConnection=self._abort))

    @property
    def is_local(self) -> bool:
        return self.host == "127.0.0.1"

    def getHeader(self, name: str) -> str | None:
        return self.origin if name == "origin" else None

    def setHeader(self, name: str, value: str) -> None:
        pass

    def notifyFinish(self) -> Leaving:
        return self.leaving

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, piece: bytes) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.pieces.append(piece)

    def finish(self) -> None:
        self.finished = True

    def leave(self) -> None:
        for call in self.leaving.errbacks:
            call(Failure(ConnectionError("gone")))

    def _abort(self) -> None:
        self.aborted = True


class Pieces:
    """Stands in for ``write_snapshot``: counts what was made, and where."""

    def __init__(self, count: int, *, fails_at: int | None = None) -> None:
        self.count, self.fails_at = count, fails_at
        self.made = 0
        self.threads: set[threading.Thread] = set()
        self.gate: threading.Event | None = None
        self.held = False

    def __call__(self, _table: object) -> Iterator[bytes]:
        for number in range(self.count):
            self.threads.add(threading.current_thread())
            if self.gate is not None:
                self.held = True
                assert self.gate.wait(DEADLINE)
                self.held = False
            if number == self.fails_at:
                raise ValueError("a damaged row")
            self.made += 1
            yield b"%d," % number


TABLE: Any = SimpleNamespace(height=9, network=SimpleNamespace(first_block=1))


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pieces]:
    def make(*arguments: Any, **more: Any) -> Pieces:
        made = Pieces(*arguments, **more)
        monkeypatch.setattr(export, "write_snapshot", made)
        return made

    return make


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not what():
            await asyncio.sleep(0.001)


def test_all_of_it_is_sent_in_order_and_none_of_it_made_in_the_reactor(pieces: Any) -> None:
    made = pieces(50)
    client = Client()

    async def live() -> None:
        assert Exports(lambda: TABLE).begin(client) is None
        await until(lambda: client.finished)

    asyncio.run(live())
    assert b"".join(client.pieces) == b"".join(b"%d," % n for n in range(50))
    assert threading.main_thread() not in made.threads
    assert client.producer is None


def test_no_more_is_made_than_one_piece_ahead_of_a_slow_reader(pieces: Any) -> None:
    made = pieces(5000)
    client = Client()

    async def live() -> None:
        exports = Exports(lambda: TABLE)
        exports.begin(client)
        await until(lambda: len(client.pieces) > 2)
        client.producer.pauseProducing()
        before = len(client.pieces)
        await until(lambda: made.made > before)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert made.made <= before + 2
        assert len(client.pieces) <= before + 1
        client.producer.resumeProducing()
        await until(lambda: client.finished)

    asyncio.run(live())
    assert len(client.pieces) == 5000


def test_a_second_one_waits_its_turn(pieces: Any) -> None:
    made = pieces(5)
    made.gate = threading.Event()
    one, two = Client(), Client()

    async def live() -> None:
        exports = Exports(lambda: TABLE)
        assert exports.begin(one) is None
        refused = exports.begin(two)
        assert refused is not None
        assert refused.refusal is Refusal.BUSY
        made.gate.set()
        await until(lambda: one.finished)
        assert exports.begin(two) is None
        await until(lambda: two.finished)

    asyncio.run(live())


@pytest.mark.parametrize(
    "client", [Client("192.0.2.1"), Client("2001:db8::1"), Client(origin="http://page.example")]
)
def test_strangers_and_web_pages_are_given_none(client: Client) -> None:
    refused = Exports(lambda: TABLE).begin(client)  # type: ignore[arg-type]
    assert refused is not None
    assert refused.refusal is Refusal.FORBIDDEN


def test_an_empty_index_has_none() -> None:
    empty: Any = SimpleNamespace(height=0, network=SimpleNamespace(first_block=1))
    refused = Exports(lambda: empty).begin(Client())  # type: ignore[arg-type]
    assert refused is not None
    assert refused.refusal is Refusal.INDEX_BEHIND


def test_whoever_leaves_costs_no_further_piece(pieces: Any) -> None:
    made = pieces(10_000)
    client, next_one = Client(), Client()

    async def live() -> None:
        exports = Exports(lambda: TABLE)
        exports.begin(client)
        await until(lambda: len(client.pieces) > 2)
        client.leave()
        await until(lambda: exports.begin(next_one) is None)
        await exports.close()

    asyncio.run(live())
    assert made.made < 10_000
    assert not client.finished
    assert not client.aborted  # there is nothing left to abort


def test_whoever_stops_reading_is_cut_off(
    pieces: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pieces(10_000)
    monkeypatch.setattr(export, "STALLED_AFTER", 0.02)
    client = Client()

    async def live() -> None:
        Exports(lambda: TABLE).begin(client)
        client.producer = None
        await until(lambda: client.producer is not None)
        client.producer.pauseProducing()
        await until(lambda: client.aborted)

    asyncio.run(live())
    assert not client.finished
    assert "its reader has not read" in caplog.text


def test_a_snapshot_that_cannot_be_made_never_looks_whole(
    pieces: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pieces(10, fails_at=4)
    client = Client()

    async def live() -> None:
        Exports(lambda: TABLE).begin(client)
        await until(lambda: client.aborted)

    asyncio.run(live())
    assert len(client.pieces) == 4
    assert not client.finished
    assert "A snapshot could not be made." in caplog.text


def test_closing_waits_until_nothing_reads_the_index(pieces: Any) -> None:
    made = pieces(10_000)
    client = Client()

    async def live() -> None:
        exports = Exports(lambda: TABLE)
        exports.begin(client)
        await until(lambda: len(client.pieces) > 2)
        made.gate = threading.Event()
        await until(lambda: made.held)
        held = made.made
        closing = asyncio.ensure_future(exports.close())
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not closing.done()  # a piece is being made
        made.gate.set()
        await closing
        assert made.made <= held + 2
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert made.made <= held + 2

    asyncio.run(live())
    assert client.aborted
