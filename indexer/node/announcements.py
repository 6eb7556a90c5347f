"""Hearing of a new block when the node does: over ZeroMQ, by long polling, or not at all.

What must stay true: an announcement only wakes the follower, which asks the node itself and would
soon have asked anyway; so whatever is announced falsely, late or never costs time and no more.
"""

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit

from indexer.node.capabilities import Capabilities
from indexer.node.failures import NodeError

log = logging.getLogger("blockstore.follower")

LONG_POLL_SECONDS = 15.0
SHORT_POLL_SECONDS = 1.0
"""Between two questions to a node that answers nobody else while we wait there."""
TRIAL_SECONDS = 0.8
ASIDE_SECONDS = 0.2
AT_THE_END_SECONDS = 0.1
"""A trial of waiting at the node takes so long; after so long another call is made; if that is
answered no earlier than this before the end, it had to wait."""
SILENCE_SECONDS = 60.0
"""After so long without a word over ZeroMQ the node is asked anew where it announces."""
RETRY_SECONDS = 5.0
LOOK_MILLISECONDS = 200
TOPIC = b"hashblock"


class Announcing(Protocol):
    """What is needed of a node."""

    @property
    def host(self) -> str: ...
    def capabilities(self) -> Capabilities: ...
    def block_hash(self, height: int) -> bytes: ...
    def wait_for_block(self, seconds: float, known: bytes | None = None) -> bytes: ...


class Announcements:
    """Listens to one node and calls ``wake`` at every new block; ``run`` in a thread of its own."""

    def __init__(self, node: Announcing, wake: Callable[[], None]) -> None:
        self._node = node
        self._wake = wake
        self._told = ""

    def run(self, stop: threading.Event) -> None:
        """Listen until ``stop`` is set; raises nothing. A call under way ends with the node's."""
        while not stop.is_set():
            try:
                self._listen(stop)
            except NodeError as failure:
                log.debug("no announcements for now: %s", failure)
            except Exception:  # a bug here must not end the thread unseen
                log.exception("listening to the node's announcements failed")
            stop.wait(RETRY_SECONDS)

    def _listen(self, stop: threading.Event) -> None:
        found = self._node.capabilities()
        address = zmq_address(found.announcements, self._node.host)
        zmq = _zmq() if address else None
        if address and zmq is not None:
            self._tell(f"new blocks are announced to us at {address}")
            self._listen_to_zmq(zmq, address, stop)
        elif found.long_polling:
            hint = "; with `pip install blockstore[zmq]` they would be announced" if address else ""
            self._tell(f"new blocks are waited for at the node (waitfornewblock){hint}")
            self._poll_long(stop)
        else:
            self._tell("the node announces no blocks; it is asked for them now and then")
            stop.wait(SILENCE_SECONDS)

    def _tell(self, how: str) -> None:
        if how != self._told:
            log.info("%s", how)
            self._told = how

    def _listen_to_zmq(self, zmq: Any, address: str, stop: threading.Event) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, 100)
            socket.setsockopt(zmq.MAXMSGSIZE, 1000)
            socket.setsockopt(zmq.SUBSCRIBE, TOPIC)
            socket.connect(address)
            self._wake()  # for what came before we listened
            silent = 0.0
            while not stop.is_set() and silent < SILENCE_SECONDS:
                if socket.poll(LOOK_MILLISECONDS):
                    socket.recv_multipart()
                    silent = 0.0
                    self._wake()
                else:
                    silent += LOOK_MILLISECONDS / 1000
        finally:
            socket.close()
            context.term()

    def _poll_long(self, stop: threading.Event) -> None:
        known: bytes | None = None
        held_up: bool | None = None  # whether others wait while we do; None: not known
        while not stop.is_set():
            if known is None or held_up:
                tip = self._node.wait_for_block(0.0)
            elif held_up is None:
                tip, held_up = self._try_waiting(known)
            else:
                tip = self._node.wait_for_block(LONG_POLL_SECONDS, known)
            if tip != known:
                known = tip
                self._wake()
            if held_up:
                self._tell(
                    "the node answers nobody while we wait for blocks there, so it is asked for "
                    "them every second; rpcthreads=4 in bitcoin.conf lets it do both"
                )
                stop.wait(SHORT_POLL_SECONDS)

    def _try_waiting(self, known: bytes) -> tuple[bytes, bool | None]:
        """The tip after a short wait, and whether another call had to wait until that was over.

        A node with one thread for calls (rpcthreads=1) is held by whoever waits there. None where
        the wait ended too soon to tell.
        """
        asked = threading.Event()
        answered: list[float] = []

        def ask() -> None:
            asked.set()
            with contextlib.suppress(NodeError):
                self._node.block_hash(0)
            answered.append(time.monotonic())

        aside = threading.Timer(ASIDE_SECONDS, ask)
        aside.daemon = True
        aside.start()
        try:
            tip = self._node.wait_for_block(TRIAL_SECONDS, known)
            ended = time.monotonic()
        finally:
            aside.cancel()
        if answered and answered[0] < ended - AT_THE_END_SECONDS:
            return tip, False
        return tip, True if asked.is_set() and tip == known else None


def zmq_address(announced: str | None, host: str) -> str | None:
    """Where to connect to for what a node at ``host`` says that it announces at.

    A node that listens everywhere is reached where its RPC is; one that listens on its own
    loopback only cannot be reached from elsewhere (None).
    """
    if announced is None:
        return None
    try:
        parts = urlsplit(announced)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme == "ipc":
        return announced if _is_loopback(host) else None
    if parts.scheme != "tcp" or not port:
        return None
    listens = parts.hostname or "*"
    if listens in ("*", "0.0.0.0", "::"):
        return f"tcp://{f'[{host}]' if ':' in host else host}:{port}"
    return announced if _is_loopback(host) or not _is_loopback(listens) else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _zmq() -> Any:
    """The optional library; None where it is not installed."""
    try:
        return importlib.import_module("zmq")
    except ImportError:
        return None
