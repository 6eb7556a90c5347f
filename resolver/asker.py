"""Who asks, and through what kind of door: what a reply may depend on beside the packet."""

from typing import NamedTuple


class Asker(NamedTuple):
    """One client as its door knows it."""

    address: str = ""
    """IP address as text; empty where the door knows none, and then nothing is allowed to it."""
    encrypted: bool = False
    """Nobody on the way can read the reply, so that its length is worth hiding (RFC 7830)."""
    keeps_connection: bool = False
    """A DNS connection that stays open (RFC 7828): TCP and TLS, neither UDP nor HTTP."""
    may_recurse: bool = False
    """Ordinary DNS is asked for this one (RA). The resolver says so, no door does."""


UNKNOWN = Asker()
