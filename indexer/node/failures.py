"""What can go wrong on the way to a Bitcoin node, as our exceptions with a sentence for people.

What must stay true: no sentence shows a credential, and each says what to do next.
"""

import http.client
import logging
import socket

from indexer.node.wire import NodeError, NodeUnavailable

log = logging.getLogger("blockstore.indexer")

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
