"""The verified data of a name right now, or the one reason why it cannot be given.

The decision is the same for the HTTP API and the command line as it is for DNS: what is not live
has no data; only data whose hash is on the chain is ever given.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from indexer.protocol.records import NameRecord, NamespaceRecord, NameStatus, Phase
from resolver.api.chain_names import DEFAULT_NAMESPACE
from resolver.dns.chase import Freshness
from resolver.refusals import NoNamespace, Refusal, Refused


class NameView(Protocol):
    """What is needed of the name table: an immutable view at one height."""

    @property
    def height(self) -> int: ...
    def name_status(self, name: str) -> tuple[NameRecord, NameStatus] | None: ...
    def namespace(self, namespace_id: str) -> NamespaceRecord | None: ...


class Fetch(Protocol):
    """Ask for data by its hash, for at most ``timeout`` seconds: ``zonefiles.sources`` gives
    ``Found`` or ``Missing``."""

    async def __call__(self, digest: bytes, timeout: float, /) -> Any: ...


def require_fresh(freshness: Freshness, refuse_after: float) -> None:
    """Raises Refused where the index cannot speak of the present: not known is not "not there"."""
    if not freshness.ready:
        raise Refused(
            Refusal.INDEX_BEHIND,
            f"the index is at block {freshness.height} of {freshness.target}"
            if freshness.target > freshness.height
            else f"the index is at block {freshness.height} and has not reached the node yet",
        )
    if freshness.silent_for >= refuse_after:
        raise Refused(
            Refusal.INDEX_BEHIND,
            f"nothing new came from the chain for {freshness.silent_for:.0f} seconds;"
            f" the last block is {freshness.height}",
            "look after the Bitcoin node; `blockstored status` says what it answered",
        )


def require_live(name: str, view: NameView) -> tuple[NameRecord, NameStatus]:
    """The record of a live name and its standing. Raises Refused."""
    found = view.name_status(name)
    if found is None:
        require_namespace(name, view)
        raise Refused(Refusal.NOT_REGISTERED, f"{name} is not registered at block {view.height}")
    record, status = found
    if status.phase is Phase.EXPIRED:
        when = "" if status.gone_at is None else f" at block {status.gone_at}"
        raise Refused(Refusal.EXPIRED, f"{name} expired{when}; the last block is {view.height}")
    if status.phase is Phase.REVOKED:
        raise Refused(Refusal.REVOKED, f"{name} was revoked by its owner")
    return record, status


def require_namespace(name: str, view: NameView) -> None:
    """Raises NoNamespace where nobody can register ``name``: its namespace is not open."""
    namespace_id = name.partition(".")[2]
    namespace = view.namespace(namespace_id)
    if namespace is None or not namespace.is_ready:
        lacks = "does not exist" if namespace is None else "is not open yet"
        raise NoNamespace(
            Refusal.NOT_REGISTERED,
            f"{name} is not registered, and cannot be: the namespace {namespace_id} {lacks}",
            f"choose a name in another namespace, such as {DEFAULT_NAMESPACE}",
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """Data that matched its hash, and in words where it came from."""

    data: bytes
    source: str


async def fetch_data_of(record: NameRecord, fetch: Fetch, timeout: float) -> Fetched:
    """The data of a live name. ``timeout`` is in seconds. Raises Refused."""
    if record.value_hash is None:
        raise Refused(Refusal.NO_DATA, f"{record.name} is registered and has no data yet")
    return await fetch_value(record.value_hash, fetch, timeout, record.name)


async def fetch_value(digest: bytes, fetch: Fetch, timeout: float, name: str = "") -> Fetched:
    """The data with a hash, which ``name`` is asked about, if any. Raises Refused."""
    found = await fetch(digest, timeout)
    data = getattr(found, "data", None)
    if isinstance(data, bytes):
        return Fetched(data, str(getattr(found, "source", "")))
    asked, wrong = getattr(found, "asked", 0), getattr(found, "wrong", 0)
    shown = digest.hex()
    if wrong:
        subject = f" for {name}" if name else ""
        raise Refused(
            Refusal.HASH_MISMATCH,
            f"{wrong} of {asked} sources gave data{subject}, none with the hash {shown}",
        )
    whose = f" of {name}" if name else ""
    if getattr(found, "busy", False):
        raise Refused(
            Refusal.DATA_UNAVAILABLE,
            f"too many look-ups are under way: nobody was asked for the data {shown}{whose}",
            "try again in a few seconds",
        )
    whom = {0: "no source", 1: "the one source that was asked"}.get(
        asked, f"none of the {asked} sources that were asked"
    )
    had = "did not have" if asked == 1 else "had"
    raise Refused(
        Refusal.DATA_UNAVAILABLE,
        f"{whom} {had} the data {shown}{whose} within {timeout:g} seconds",
    )
