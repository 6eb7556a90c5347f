"""A Bitcoin node in a box: regtest rules in one process, spoken to over a real node's JSON-RPC.

What must stay true: it listens on loopback only and lets nobody in without its credentials;
whatever it has answered for is on disk before the answer leaves (when it has a directory).
"""

import base64
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Event, Lock, RLock, Thread
from urllib.parse import quote

from indexer.bitcoin.transactions import double_sha256
from indexer.sandbox.blocks import BlockRejected
from indexer.sandbox.chain import BLOCK, INVALIDATE, RECONSIDER, TRANSACTION, SandboxChain
from indexer.sandbox.coin_rpc import CoinRpc
from indexer.sandbox.coins import Unspent
from indexer.sandbox.door import Server
from indexer.sandbox.envelope import Envelope
from indexer.sandbox.policy import Rejected
from indexer.sandbox.rest import REST_PREFIX, Reply, reply_to_path
from indexer.sandbox.rpc import SandboxRpc
from indexer.sandbox.spending_rpc import SpendingRpc
from indexer.sandbox.store import ChainFile, StoreError
from indexer.sandbox.switches import Switches
from indexer.sandbox.wallet import WALLET, Wallets

__all__ = ["Rejected", "SandboxNode", "StoreError", "Switches", "Unspent"]

log = logging.getLogger("blockstore.indexer")

LOOPBACK = "127.0.0.1"
COOKIE_USER = "__cookie__"
COOKIE_NAME = ".cookie"
CHAIN_FILE = "chain.dat"


class SandboxNode:
    """A regtest node in this process.

    ``directory`` keeps the chain, the mempool and the cookie file; None keeps nothing.
    ``port`` 0 takes any free one. ``clock`` gives unix seconds. Without ``user`` and
    ``password`` a random cookie is made at each start. ``start_time``: see
    ``SandboxChain``. ``tx_index`` False and ``fee_rate`` (satoshis per 1000 bytes) make
    it answer as nodes so configured do, and ``switches`` as others of the field; they may be
    turned while it runs. Its methods may be called from any thread.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int = 0,
        user: str | None = None,
        password: str | None = None,
        clock: Callable[[], float] = time.time,
        start_time: int | None = None,
        tx_index: bool = True,
        fee_rate: int | None = None,
        switches: Switches | None = None,
    ) -> None:
        self.switches = switches or Switches()
        if fee_rate is not None:
            self.switches.fee_rate = fee_rate
        self._directory = directory
        self._port = port
        self._user = user or COOKIE_USER
        self._fixed_password = password
        self._password = password or ""
        self._lock = RLock()
        self._new_tip = Condition(self._lock)
        self._chain = SandboxChain(
            clock,
            start_time=start_time,
            switches=self.switches,
        )
        self._told_tip = self._chain.tip
        self._file: ChainFile | None = None
        self._server: Server | None = None
        self._serving: Thread | None = None
        self._stopping = Event()
        self._told_to_stop = False
        self._ending = Lock()
        methods = SandboxRpc(
            self._chain,
            clock=clock,
            stop=self._stop_soon,
            stopping=self._stopping.is_set,
            tx_index=tx_index,
            switches=self.switches,
            new_tip=self._new_tip,
        )
        self._wallets = Wallets(self._chain)
        spending = SpendingRpc(
            self._chain,
            self._wallets,
            clock=clock,
            switches=self.switches,
        )
        self._envelope = Envelope(
            (methods, CoinRpc(self._chain), spending),
            self._lock,
            before_each=self._wallets.choose,
            after_each=self._flush,
            switches=self.switches,
        )

    # Life

    def start(self) -> None:
        """Read the chain from disk and listen. StoreError or OSError where that cannot be."""
        if self._server is not None:
            return
        if self._directory is not None and self._file is None:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as failure:
                raise StoreError(
                    f"cannot make the directory {self._directory}: {failure.strerror}"
                ) from None
            self._file = ChainFile(self._directory / CHAIN_FILE)
            self._load(self._file.read())
            self._chain.keep = self._file.append
        try:
            self._server = Server((LOOPBACK, self._port), self)
        except OSError:
            self._close_file()
            raise
        self._password = self._fixed_password or secrets.token_hex(32)
        if self._fixed_password is None and self._directory is not None:
            self._write_cookie()
        self._stopping.clear()
        self._serving = Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox-node", daemon=True
        )
        self._serving.start()
        log.info("the sandbox node listens on %s:%d at height %d", LOOPBACK, self.port, self.height)

    def stop(self) -> None:
        """Close the door and the file; what was answered for is on disk.

        May be called twice, also at once: each call waits until it is done.
        """
        self._stopping.set()
        with self._ending:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._new_tip.notify_all()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.hang_up()
        if self._serving is not None:
            self._serving.join()
            self._serving = None
        cookie = self.cookie_file
        if server is not None and cookie is not None:
            cookie.unlink(missing_ok=True)
        with self._lock:
            self._close_file()

    def __enter__(self) -> "SandboxNode":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def stopping(self) -> Event:
        """Set when the node was told to stop, also over RPC."""
        return self._stopping

    @property
    def port(self) -> int:
        """The port it listens on; the wanted one before the start."""
        return self._server.server_address[1] if self._server is not None else self._port

    @property
    def url(self) -> str:
        """Where it is asked, credentials included: never to be logged."""
        return f"http://{quote(self._user)}:{quote(self._password, safe='')}@{LOOPBACK}:{self.port}"

    @property
    def cookie_file(self) -> Path | None:
        """The file with the credentials of this start, as Bitcoin Core writes it."""
        if self._directory is None or self._fixed_password is not None:
            return None
        return self._directory / COOKIE_NAME

    # Verbs

    def generate(self, count: int, script_pubkey: bytes, spacing: int | None = None) -> list[bytes]:
        """Mine blocks paying to a script; their hashes. With ``spacing``: seconds between them."""
        with self._lock:
            try:
                return self._chain.generate(count, script_pubkey, spacing)
            finally:
                self._flush()

    def submit(self, raw: bytes) -> bytes:
        """Send a raw transaction; its txid. Raises Rejected with ``code`` and ``message``."""
        with self._lock:
            try:
                return self._chain.submit(raw)
            finally:
                self._flush()

    def evict(self, txid: bytes) -> None:
        """Forget a waiting transaction and what builds upon it, as a full mempool does."""
        with self._lock:
            self._chain.mempool.drop(txid)

    def invalidate(self, block_hash: bytes) -> None:
        """Count a block as invalid and go to the best other branch; KeyError when unknown."""
        with self._lock:
            self._chain.invalidate(block_hash)
            self._flush()

    def reconsider(self, block_hash: bytes) -> None:
        """Take ``invalidate`` back; KeyError when the block is unknown."""
        with self._lock:
            self._chain.reconsider(block_hash)
            self._flush()

    def wallet_script(self, label: str) -> bytes:
        """A scriptPubKey of the node's wallet that was never given out; ``label`` names it."""
        with self._lock:
            try:
                return self._wallets.loaded[""].new_script(label)
            finally:
                self._flush()

    def unspent(self, script_pubkey: bytes) -> list[Unspent]:
        """The confirmed unspent outputs of a script, oldest first; immature coinbases too."""
        with self._lock:
            return self._chain.unspent(script_pubkey)

    @property
    def height(self) -> int:
        """Height of the tip."""
        with self._lock:
            return self._chain.height

    @property
    def tip(self) -> bytes:
        """Hash of the tip in internal order."""
        with self._lock:
            return self._chain.tip.hash

    @property
    def mempool_size(self) -> int:
        """How many transactions wait for a block."""
        with self._lock:
            return len(self._chain.mempool)

    # Within

    def reply_to(self, body: bytes, wallet: str | None = None) -> tuple[int, bytes]:
        """HTTP status and body for a request body, sent to ``wallet``, whose sender may ask."""
        return self._envelope.reply_to(body, wallet)

    def reply_to_path(self, path: str) -> Reply:
        """HTTP status, content type and body for a GET, which everybody may ask."""
        if not self.switches.rest or not path.startswith(REST_PREFIX):
            return 405, "text/plain", b"JSONRPC server handles only POST requests"
        if self.switches.warming_up is not None:
            words = f"Service temporarily unavailable: {self.switches.warming_up}\r\n"
            return 503, "text/plain", words.encode()
        with self._lock:
            return reply_to_path(self._chain, self.switches, path)

    @property
    def asked(self) -> frozenset[str]:
        """The names of all methods that anybody has asked for over RPC."""
        return frozenset(self._envelope.asked)

    def lets_in(self, authorization: str | None) -> bool:
        """Whether an Authorization header carries this node's credentials."""
        kind, _, encoded = (authorization or "").partition(" ")
        wanted = base64.b64encode(f"{self._user}:{self._password}".encode())
        given = encoded.strip().encode("utf-8", "replace")
        return kind.lower() == "basic" and hmac.compare_digest(given, wanted)

    def _load(self, records: list[tuple[bytes, bytes]]) -> None:
        waiting: dict[bytes, bytes] = {}
        refused = 0
        for kind, payload in records:
            try:
                if kind == BLOCK:
                    self._chain.accept_block(payload, trusted=True)
                elif kind == INVALIDATE:
                    self._chain.invalidate(payload)
                elif kind == RECONSIDER:
                    self._chain.reconsider(payload)
                elif kind == TRANSACTION:
                    waiting[double_sha256(payload)] = payload
                elif kind == WALLET:
                    self._wallets.restore(payload)
            except (BlockRejected, KeyError, ValueError):
                refused += 1
        if refused:
            log.warning("%d records of the sandbox chain did not hold and were left out", refused)
        for txid, raw in waiting.items():
            if self._chain.find_transaction(txid) is None:
                try:
                    self._chain.submit(raw)
                except Rejected as refusal:
                    log.info("a waiting transaction is not taken again: %s", refusal.message)

    def _flush(self) -> None:
        """After whatever may have changed the chain, with the lock held."""
        if self._file is not None:
            self._file.flush()
        if self._chain.tip is not self._told_tip:  # to be woken costs whoever waits a turn
            self._told_tip = self._chain.tip
            self._new_tip.notify_all()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._chain.keep = lambda kind, payload: None

    def _write_cookie(self) -> None:
        cookie = self.cookie_file
        assert cookie is not None
        partial = cookie.with_name(cookie.name + ".tmp")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{self._user}:{self._password}")
        partial.replace(cookie)

    def _stop_soon(self) -> None:
        """From within a request: to be stopped once it was replied to."""
        self._told_to_stop = True

    def replied(self) -> None:
        """A reply has left; from the thread of its connection, so stopping takes another."""
        if self._told_to_stop:
            self._told_to_stop = False
            Thread(target=self.stop, name="sandbox-node-stop", daemon=True).start()
