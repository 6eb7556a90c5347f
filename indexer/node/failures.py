"""What can go wrong with a Bitcoin node, as our exceptions with a sentence for people.

What must stay true: no sentence shows a credential, and each says what to do next.
"""

import http.client
import logging
import socket

log = logging.getLogger("blockstore.indexer")


class NodeError(Exception):
    """The node did not give what was asked for; the text says why, for people."""


class NodeUnavailable(NodeError):
    """Not reachable, not ready or too busy: worth trying again later."""


class NodeRefused(NodeError):
    """The node does not let us in: trying again helps only after a change of settings."""


class NodeRpcError(NodeError):
    """The node's own error reply."""

    def __init__(self, code: int, message: str, method: str = "") -> None:
        asked = f" to {method}" if method else ""
        super().__init__(f"the node answered{asked} with error {code}: {message}")
        self.code = code
        self.message = message
        self.method = method

    def __reduce__(self) -> tuple[type["NodeRpcError"], tuple[int, str, str]]:
        """It travels between processes as what it was made of."""
        return type(self), (self.code, self.message, self.method)


class NodePruned(NodeError):
    """The node has thrown away a block that is needed: asking again will not bring it back."""


class NotLetIn(NodeRefused):
    """HTTP 401 or 403: the call was not executed."""

    def __init__(self, status: int, place: str) -> None:
        reason = "check rpcuser and rpcpassword, or the cookie file"
        if status == 403:
            reason = "allow this address (rpcallowip) and these calls (rpcwhitelist) there"
        super().__init__(f"the node at {place} does not let us in (HTTP {status}); {reason}")
        self.status = status
        self._place = place

    def __reduce__(self) -> tuple[type["NotLetIn"], tuple[int, str]]:
        """It travels between processes as what it was made of."""
        return type(self), (self.status, self._place)


DROPPED = (
    http.client.RemoteDisconnected,
    http.client.BadStatusLine,
    http.client.CannotSendRequest,
    BrokenPipeError,
    ConnectionResetError,
    ConnectionAbortedError,
)
"""The connection ended before a reply came: a kept one may have been closed for being idle."""


def translated(failure: Exception, place: str, timeout: float) -> NodeError:
    """A failure of the way to the node at ``place`` as our type and sentence."""
    if isinstance(failure, TimeoutError):
        return NodeUnavailable(
            f"the node at {place} did not answer within {timeout:g} s; is it busy or out of reach?"
        )
    if isinstance(failure, ConnectionRefusedError):
        return NodeUnavailable(
            f"cannot reach the node at {place} (connection refused); "
            "is bitcoind running with server=1?"
        )
    if isinstance(failure, socket.gaierror):
        return NodeUnavailable(
            f"cannot find the host of the node at {place}; check the node's address"
        )
    if isinstance(failure, http.client.HTTPException | OSError | AttributeError):
        reason = getattr(failure, "strerror", None) or "the connection broke off"
        return NodeUnavailable(f"cannot reach the node at {place} ({reason}); is it still running?")
    log.error("a call to the node at %s failed: %s", place, type(failure).__name__)
    return NodeError(
        f"the node at {place} gave a reply that cannot be read; "
        "check that the address is that of a Bitcoin node"
    )
