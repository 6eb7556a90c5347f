"""A lane in a process of its own: reads batches of blocks while this process does other things.

What must stay true: credentials reach the other process through its input alone, never as an
argument or in its environment; it ends when its input ends, so it never outlives us, also when
we are killed; its failures arrive here as the same exceptions. It works on two batches at once: the
node makes one ready while the other is scanned, so that neither waits for the other.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from indexer.child import command
from indexer.following.ahead import Batch, Lane, OwnLane
from indexer.following.block_files import BlockFiles, Place, read_files_first
from indexer.following.chain import Connect
from indexer.following.reading import read_blocks
from indexer.node.node import BitcoinNode, NodeError

THREADS = 2
_LENGTH = 8
MAX_MESSAGE = 256 * 1024 * 1024


def make_lanes(
    node: BitcoinNode, magic: bytes, processes: int, files: BlockFiles | None = None
) -> list[Lane]:
    """What reads ahead while catching up: so many processes, or threads of this one.

    Two threads, for one scans while the node makes ready what the other asked for. With ``files``
    blocks are looked for there first.
    """
    if files is not None:
        files.look()
    if processes:
        return [LaneProcess(node.place_and_key, magic, files) for _ in range(processes)]
    if files is not None:
        return [_FileThread(node, magic, files) for _ in range(THREADS)]
    return [OwnLane(node, magic) for _ in range(THREADS)]


class _FileThread:
    """A lane in the thread that asks it, which reads files first."""

    at_once = 1

    def __init__(self, node: BitcoinNode, magic: bytes, files: BlockFiles) -> None:
        self._node, self._magic, self._files = node, magic, files

    def read(self, steps: Sequence[Connect]) -> Batch:
        """Read now."""
        known = _known(steps, self._files)
        return read_files_first(self._node, self._files.folder, self._magic, steps, known)

    def close(self) -> None:
        """Nothing of its own to end."""


def _known(steps: Sequence[Connect], files: BlockFiles | None) -> dict[bytes, list[Place]]:
    if files is None:
        return {}
    return {step.block_hash: files.places(step.block_hash) for step in steps}


class LaneProcess:
    """Reads from the node at ``place`` (``BitcoinNode.place_and_key``)."""

    at_once = THREADS

    def __init__(
        self, place: dict[str, Any], magic: bytes, files: BlockFiles | None = None
    ) -> None:
        self._files = files
        self._turn = threading.Condition()
        self._asked = self._answered = 0
        # The module under its own name, for the classes that travel.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command("indexer.following.lane_process", "serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )
        self._tell((place, magic, files.folder if files is not None else None))

    def read(self, steps: Sequence[Connect]) -> Batch:
        """One batch; raises what reading raised there, and NodeError where the process is gone."""
        places = _known(steps, self._files)
        with self._turn:
            self._tell((list(steps), places))
            number, self._asked = self._asked, self._asked + 1
            self._turn.wait_for(lambda: self._answered == number)
        try:
            answer = self._hear()
        finally:
            with self._turn:
                self._answered += 1
                self._turn.notify_all()
        if isinstance(answer, BaseException):
            raise answer
        batch: Batch = answer
        return batch

    def _hear(self) -> Any:
        """The next answer: they come in the order of the questions."""
        assert self._process.stdout is not None
        try:
            return _receive(self._process.stdout)
        except (OSError, EOFError, ValueError):
            raise self._gone() from None

    def close(self) -> None:
        """End the process at once, whatever it reads: it has nothing that could be lost."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        self._process.stdout.close()

    def _tell(self, message: object) -> None:
        assert self._process.stdin is not None
        try:
            _send(self._process.stdin, message)
        except (OSError, ValueError):
            raise self._gone() from None

    def _gone(self) -> NodeError:
        return NodeError(
            f"the process {self._process.pid} that read blocks has ended; another is started"
        )


def _environment() -> dict[str, str]:
    """What the system needs, and nothing of ours."""
    return {name: text for name, text in os.environ.items() if not name.startswith("BLOCKSTORE_")}


def serve() -> None:
    """The other side: read what is asked until the input ends."""
    # Of a Ctrl-C at the terminal every process hears; we end when our parent lets go of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers: SimpleQueue[Future[Batch | Exception]] = SimpleQueue()
    with contextlib.suppress(EOFError):
        place, magic, folder = _receive(sys.stdin.buffer)
        work = partial(_work, BitcoinNode(**place), magic, folder)
        pool = ThreadPoolExecutor(THREADS)
        threading.Thread(target=_answer, args=(answers,), daemon=True).start()
        while True:
            answers.put(pool.submit(work, *_receive(sys.stdin.buffer)))
    os._exit(0)  # nobody waits for what is under way


def _answer(answers: "SimpleQueue[Future[Batch | Exception]]") -> None:
    """Send what comes of the questions, in their order."""
    with contextlib.suppress(BrokenPipeError):  # then the input ends too
        while True:
            _send(sys.stdout.buffer, answers.get().result())


def _work(
    node: BitcoinNode,
    magic: bytes,
    folder: Path | None,
    steps: Sequence[Connect],
    known: Mapping[bytes, Sequence[Place]],
) -> Batch | Exception:
    """One batch. A failure is a value: it is raised again over there."""
    try:
        if folder is None:
            return read_blocks(node, magic, steps)
        return read_files_first(node, folder, magic, steps, known)
    except Exception as failure:  # noqa: BLE001 - raised again in its turn
        return _told(failure)


def _told(failure: Exception) -> Exception:
    """What is told of a failure over there: our own as they are, others as what they say."""
    if isinstance(failure, NodeError):
        return failure
    return RuntimeError(f"{type(failure).__name__}: {failure}")


def _send(pipe: IO[bytes], message: object) -> None:
    raw = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    pipe.write(len(raw).to_bytes(_LENGTH, "big") + raw)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    size = int.from_bytes(_exactly(pipe, _LENGTH), "big")
    if size > MAX_MESSAGE:
        raise EOFError
    return pickle.loads(_exactly(pipe, size))  # noqa: S301 - between us and our own child


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    raw = pipe.read(size)
    if len(raw) < size:
        raise EOFError
    return raw
