"""A small world for the resolver's tests: names, their data, and where that data lies.

The clock is an argument, the network is a dictionary, and replies are read by dnspython, which
shares no code with what wrote them.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import dns.edns
import dns.flags
import dns.message
import dns.rcode

from indexer.networks import REGTEST
from indexer.networks import Network as Chain
from indexer.protocol.records import NameRecord, NameStatus, Phase
from indexer.table.pages import Page
from resolver.dns.answer import ServerIdentity
from resolver.dns.asker import Asker, Network
from resolver.dns.chase import Freshness
from resolver.dns.lookup import TtlLimits
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from resolver.dns.zones import Zones
from resolver.resolve import Resolver
from resolver.transfers.transfers import Transfers
from zonefiles.sources import Found, Missing, MissingReason
from zonefiles.text.zonefile import value_hash

HEIGHT = 1_000
BLOCK_TIME = 1_767_225_600  # 2026-01-01 00:00 UTC


def name_record(name: str, digest: bytes | None, *, revoked: bool = False) -> NameRecord:
    """A record with nothing unusual but its hash."""
    return NameRecord(
        name=name,
        value_hash=digest,
        sender=b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",
        sender_pubkey=None,
        address="1111111111111111111114oLvT2",
        block_number=100,
        preorder_block_number=100,
        first_registered=101,
        last_renewed=101,
        revoked=revoked,
        op="~" if revoked else "+",
        txid=name.encode().ljust(32, b"."),
        vtxindex=1,
        op_fee=0.0,
        importer=None,
        importer_address=None,
        consensus_hash=None,
        preorder_hash=bytes(20),
        imported=False,
        update_consensus_hash=None,
    )


@dataclass
class FakeSnapshot:
    """A name table at a height."""

    height: int = HEIGHT
    block_time: int = BLOCK_TIME
    network: Chain = REGTEST
    names: dict[str, tuple[NameRecord, NameStatus]] = field(default_factory=dict)

    changed: dict[str, int] = field(default_factory=dict)
    """The height of a name's last operation, where the table still knows it."""

    def name_status(self, name: str) -> tuple[NameRecord, NameStatus] | None:
        return self.names.get(name)

    def names_in(self, namespace_id: str, after: str = "") -> Page[str]:
        """Two at a time, so that there is something to go on with."""
        names = sorted(n for n in self.names if n.endswith(f".{namespace_id}") and n > after)
        return Page(tuple(names[:2]), names[1] if len(names) > 2 else "")

    def consensus_hash(self, height: int) -> bytes | None:
        return bytes(range(16)) if height == self.height else None

    def verdict(self, txid: bytes) -> SimpleNamespace | None:
        height = self.changed.get(txid.rstrip(b".").decode())
        return None if height is None else SimpleNamespace(height=height)


class FakeSource:
    """An archive and a network; ``gate`` holds the network's answers back until it is set."""

    def __init__(self) -> None:
        self.archive: dict[bytes, bytes] = {}
        self.network: dict[bytes, bytes] = {}
        self.wrong: set[bytes] = set()
        self.gate: asyncio.Event | None = None
        self.peeked: list[bytes] = []
        self.asked: list[bytes] = []

    def peek(self, digest: bytes) -> bytes | None:
        self.peeked.append(digest)
        return self.archive.get(digest)

    async def get(self, digest: bytes, timeout: float) -> Found | Missing:
        self.asked.append(digest)
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if digest in self.network:
            return Found(self.network[digest], "dht")
        if digest in self.wrong:
            return Missing(MissingReason.MISMATCH, asked=3, wrong=3)
        return Missing(MissingReason.UNAVAILABLE, asked=2, wrong=0)


class World:
    """Names with data, and a resolver over them."""

    def __init__(
        self,
        zones: dict[str, str] | Zones | None = None,
        *,
        transfer_to: Sequence[Network] = (),
        **resolver: object,
    ) -> None:
        self.snapshot = FakeSnapshot()
        self.source = FakeSource()
        self.datas: dict[bytes, bytes] = {}
        """All data there ever was, wherever it lies."""
        self.freshness = Freshness(ready=True, height=HEIGHT, target=HEIGHT, silent_for=5.0)
        if not isinstance(zones, Zones):
            zones = Zones.from_settings(zones or {"bs": "id", "podcast.example.net": "podcast"})
        self.transfers = Transfers(
            zones, transfer_to, lambda digest: self.source.peek(digest), TtlLimits()
        )
        settings: dict[str, object] = {
            "table": lambda: self.table(),
            "source": self.source,
            "identity": ServerIdentity(version="Blockstore 1.0", host="ns.test"),
            "nsid": b"ns.test",
            "transfers": self.transfers if transfer_to else None,
        }
        self.resolver = Resolver(
            zones=zones,
            freshness=lambda: self.freshness,
            **(settings | resolver),  # type: ignore[arg-type]
        )

    def table(self) -> FakeSnapshot:
        return self.snapshot

    def name(
        self,
        name: str,
        data: bytes | str | None,
        *,
        phase: Phase = Phase.LIVE,
        expires_at: int | None = None,
        gone_at: int | None = None,
        lies: str = "archive",
    ) -> bytes | None:
        """Register ``name``; ``lies`` says where its data is: archive, network, wrong, nowhere."""
        octets = data.encode() if isinstance(data, str) else data
        digest = None if octets is None else value_hash(octets)
        record = name_record(name, digest, revoked=phase is Phase.REVOKED)
        self.snapshot.names[name] = (record, NameStatus(phase, expires_at, gone_at))
        if digest is not None and octets is not None:
            self.datas[digest] = octets
            match lies:
                case "archive":
                    self.source.archive[digest] = octets
                case "network":
                    self.source.network[digest] = octets
                case "wrong":
                    self.source.wrong.add(digest)
        return digest

    def zonefile(self, name: str, records: str, **more: object) -> bytes | None:
        """Register ``name`` with a zone file of ``records`` below its ``$ORIGIN``."""
        return self.name(name, f"$ORIGIN {name}\n$TTL 3600\n{records}\n", **more)  # type: ignore[arg-type]

    def send(self, packet: bytes, limit: int = UDP_LIMIT) -> bytes | None:
        """A packet through a door, and what comes back, waiting for data if need be."""
        reply = self.resolver.begin(
            packet, limit, Asker("127.0.0.1", keeps_connection=limit > UDP_LIMIT)
        )
        if reply is None or isinstance(reply, bytes):
            return reply
        return asyncio.run(_finished(reply))

    def ask(
        self,
        qname: str,
        rtype: str = "A",
        *,
        tcp: bool = False,
        edns: bool = True,
        payload: int = 1_232,
        options: list[dns.edns.Option] | None = None,
        **more: object,
    ) -> dns.message.Message:
        """Ask as a strict client does; the reply has been decoded and checked against the query."""
        if edns:
            more |= {"use_edns": 0, "payload": payload, "options": options}
        query = dns.message.make_query(qname, rtype, **more)  # type: ignore[arg-type]
        wire = self.send(query.to_wire(), STREAM_LIMIT if tcp else UDP_LIMIT)
        assert wire is not None
        if not tcp:
            assert len(wire) <= (min(max(payload, 512), UDP_LIMIT) if edns else 512)
        return checked(query, wire)


async def _finished(later):  # type: ignore[no-untyped-def]
    return await later


def checked(query: dns.message.Message, wire: bytes) -> dns.message.Message:
    """``wire`` as dnspython reads it, strictly, and known to be a reply to ``query``."""
    reply = dns.message.from_wire(wire)
    assert query.is_response(reply)
    assert wire[12 : 12 + len(query.to_wire()) - 12].startswith(
        query.question[0].name.to_wire()  # with its own upper and lower case
    )
    assert (reply.edns >= 0) == (query.edns >= 0)
    assert not reply.flags & (dns.flags.RA | dns.flags.AD | dns.flags.CD | 0x40)
    return reply


def errors(reply: dns.message.Message) -> list[tuple[int, str]]:
    """The extended errors of a reply."""
    return [
        (int(option.code), option.text or "")
        for option in reply.options
        if isinstance(option, dns.edns.EDEOption)
    ]


def lines(section: list) -> list[str]:  # type: ignore[type-arg]
    """The records of a section, one a line, in order of text."""
    return sorted(line for rrset in section for line in rrset.to_text().splitlines())
