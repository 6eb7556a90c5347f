"""A thousand real names: published at one daemon, asked of another that has the chain and the DHT.

The names, the data and the hashes are those that people registered on the real chain; the chain
that carries them here is a sandbox node's, with valid signatures and proof of work.
"""

import json
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from indexer.networks import SANDBOX
from indexer.protocol.names import hash_name, is_name, name_consensus_hash
from indexer.protocol.operations import (
    Import,
    NamespacePreorder,
    NamespaceReady,
    NamespaceReveal,
    Preorder,
    Register,
    Update,
)
from indexer.protocol.prices import namespace_price
from indexer.sandbox.node import SandboxNode
from indexer.wallet.keys import Key
from resolver.sandbox.founding import (
    LARGE_COIN,
    MINER,
    PAYER,
    SMALL_COIN,
    SPACING,
    Purse,
    sandbox_key,
)
from tests.indexer.fakes import BUCKETS
from tests.resolver.daemon.daemon_process import Blockstored
from zonefiles.dht.messages import DHT_MAX_VALUE
from zonefiles.text.zonefile import value_hash

pytestmark = [pytest.mark.data, pytest.mark.live, pytest.mark.timeout(170)]

NAMES = 1_100
NAMES_OF_AN_OWNER = 20  # an address may own 25
OPERATIONS_A_BLOCK = 500
_URI = re.compile(r'^(\S+)\s+(?:IN\s+)?URI\s+(\d+)\s+(\d+)\s+"([^"]*)"\s*$', re.MULTILINE)


@dataclass(frozen=True)
class RealName:
    """A name with its data and the hash that the real chain holds."""

    name: str
    data: bytes
    digest: bytes
    owner: Key

    @property
    def qname(self) -> str:
        """The name as it is asked for: every namespace is served under its own suffix here."""
        label, _, namespace = self.name.partition(".")
        return f"{label}.{namespace}.test."


def real_names(path: Path) -> list[RealName]:
    """Names that stand on the chain themselves and whose data one datagram carries."""
    found: dict[str, RealName] = {}
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        data = record["zonefile"].encode("utf-8")
        if not is_name(record["name"]) or len(data) > DHT_MAX_VALUE or record["name"] in found:
            continue
        owner = sandbox_key(f"owner {len(found) // NAMES_OF_AN_OWNER}")
        digest = bytes.fromhex(record["hash"])
        found[record["name"]] = RealName(record["name"], data, digest, owner)
        if len(found) == NAMES:
            break
    return list(found.values())


class Town:
    """The people who put the names on the sandbox chain, half by import, half by registration."""

    def __init__(self, node: SandboxNode, daemon: Blockstored, names: list[RealName]) -> None:
        self.node, self.daemon, self.names = node, daemon, names
        self.purse = Purse(node)
        self.imported, self.registered = names[::2], names[1::2]
        self.namespaces = sorted({name.name.partition(".")[2] for name in names})

    def mine(self) -> bytes:
        """Mine what was sent; the consensus hash once it is indexed."""
        self.node.generate(1, MINER.script, SPACING)
        seen = self.daemon.wait_for_block(self.node.height)
        return bytes.fromhex(seen["consensus"])

    def settle(self) -> None:
        """From an empty chain to all names with their hashes."""
        self.node.generate(110, MINER.script, SPACING)
        creators = {n: sandbox_key(f"creator {n}") for n in self.namespaces}
        revealers = {n: sandbox_key(f"revealer {n}") for n in self.namespaces}
        self._fund(creators, revealers)
        self._reveal(creators, revealers)
        for some in _chunks(self.imported):
            for name in some:
                wish = Import(name=name.name, recipient=name.owner.script, value_hash=name.digest)
                self.purse.send(revealers[name.name.partition(".")[2]], wish)
            self.mine()
        for namespace_id, revealer in revealers.items():
            self.purse.send(revealer, NamespaceReady(namespace_id=namespace_id))
        consensus = self.mine()
        for some in _chunks(self.registered):
            consensus = self._register(some, consensus)

    def _fund(self, creators: dict[str, Key], revealers: dict[str, Key]) -> None:
        imports = dict.fromkeys(self.namespaces, 2)
        for name in self.imported:
            imports[name.name.partition(".")[2]] += 1
        owners: dict[Key, int] = {}
        for name in self.registered:
            owners[name.owner] = owners.get(name.owner, 0) + 1
        small = 1_000_000
        self.purse.fund(dict.fromkeys(creators.values(), (2, LARGE_COIN)))
        self.purse.fund({revealers[n]: (count, small) for n, count in imports.items()})
        self.purse.fund({owner: (count, small) for owner, count in owners.items()})
        self.purse.fund({PAYER: (2 * len(self.registered), SMALL_COIN // 2)})

    def _reveal(self, creators: dict[str, Key], revealers: dict[str, Key]) -> None:
        consensus = self.mine()
        for namespace_id, creator in creators.items():
            revealer = revealers[namespace_id].address(SANDBOX)
            wish = NamespacePreorder(
                preorder_hash=hash_name(namespace_id, creator.script, revealer),
                consensus_hash=consensus,
                op_fee=namespace_price(namespace_id, SANDBOX.epoch(self.node.height)),
                fee_script=SANDBOX.burn_script,
            )
            self.purse.send(creator, wish)
        self.mine()
        for namespace_id, creator in creators.items():
            reveal = NamespaceReveal(
                namespace_id=namespace_id,
                recipient=revealers[namespace_id].script,
                lifetime=52595,
                coeff=1,
                base=1,
                buckets=BUCKETS,
                nonalpha_discount=1,
                no_vowel_discount=1,
            )
            self.purse.send(creator, reveal)
        self.mine()

    def _register(self, names: list[RealName], consensus: bytes) -> bytes:
        for name in names:
            preorder = Preorder(
                preorder_hash=hash_name(name.name, PAYER.script, name.owner.address(SANDBOX)),
                consensus_hash=consensus,
                op_fee=5500,
                fee_script=SANDBOX.burn_script,
            )
            self.purse.send(PAYER, preorder)
        self.mine()
        for name in names:
            self.purse.send(PAYER, Register(name=name.name, recipient=name.owner.script))
        consensus = self.mine()
        for name in names:
            bound = name_consensus_hash(name.name, consensus)
            wish = Update(name_consensus_hash=bound, value_hash=name.digest)
            self.purse.send(name.owner, wish)
        return self.mine()


def _chunks(names: list[RealName]) -> Iterator[list[RealName]]:
    for start in range(0, len(names), OPERATIONS_A_BLOCK):
        yield names[start : start + OPERATIONS_A_BLOCK]


def _carries(name: RealName, reply: dns.message.Message) -> bool:
    """Whether the answer to TXT at the name is its data, or the TXT records of its zone file.

    The strings of those are found in the text itself, in quotes, at the apex.
    """
    strings = [tuple(rdata.strings) for rrset in reply.answer for rdata in rrset]
    if any(value_hash(b"".join(parts)) == name.digest for parts in strings):
        return len(strings) == 1
    text = name.data.decode("utf-8", "replace")
    label = re.escape(name.name)
    apex = re.findall(rf'^(?:@|{label}\.?)\s.*?TXT\s+"((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    return bool(apex) and {b"".join(parts).decode() for parts in strings} == set(apex)


def _uris(name: RealName) -> dict[str, set[str]]:
    """The URI records of a zone file as plain text has them: owner to targets."""
    found: dict[str, set[str]] = {}
    for owner, _, _, target in _URI.findall(name.data.decode("utf-8", "replace")):
        if "." not in owner.replace("_http._tcp", ""):
            found.setdefault(owner, set()).add(target)
    return found


def test_real_names_published_at_one_daemon_are_answered_by_another(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = real_names(data_dir / "zonefiles" / "real.jsonl")
    assert names
    assert all(value_hash(name.data) == name.digest for name in names)
    namespaces = {name.name.partition(".")[2] for name in names}
    zones = ",".join(f"{namespace}.test={namespace}" for namespace in sorted(namespaces))
    # A past start keeps the times of blocks mined in a second behind the clock.
    with SandboxNode(tmp_path / "node", start_time=int(time.time()) - 3600) as node:
        url = f"http://127.0.0.1:{node.port}"
        # Neither fetches before it is asked, nor hands data around: every first answer is fetched.
        flags = ("--node-cookie-file", str(node.cookie_file), "--zones", zones, "--no-replicate")
        publisher = Blockstored(tmp_path / "publisher", url, *flags, network="sandbox")
        asked = Blockstored(tmp_path / "asked", url, *flags, network="sandbox")
        try:
            assert publisher.start().returncode == 0
            Town(node, publisher, names).settle()
            assert publisher.info()["names"] == len(names)
            for name in names:
                kept = publisher.ask("POST", "/v1/data", name.data)
                assert kept.get("value_hash") == name.digest.hex(), kept
            dht = publisher.ports()["dht"]
            assert asked.start("--dht-bootstrap", f"{dht['host']}:{dht['port']}").returncode == 0
            asked.wait_for_block(node.height)
            asked.wait(lambda info: info["dht"]["peers"] > 0)
            cold = [_ask(asked, name, tcp=n % 2 == 1) for n, name in enumerate(names)]
            assert asked.info()["sources"]["fetched"] == len({name.digest for name in names})
            warm = [_ask(asked, name, tcp=n % 2 == 0) for n, name in enumerate(names)]
            records = sum(_ask_records(asked, name) for name in names)
            owners = sum(len(_uris(name)) for name in names)
            assert records >= owners * 99 // 100  # the odd one is no zone file, and said to be none
            assert "Traceback" not in asked.log.read_text() + publisher.log.read_text()
            assert (asked.stop().returncode, publisher.stop().returncode) == (0, 0)
        finally:
            asked.kill()
            publisher.kill()
    with capsys.disabled():
        print(f"\n{len(names)} real names, {records} records of their own checked")
        print(f"first answer  {_figures(cold)}\nsecond answer {_figures(warm)}")


def _ask(daemon: Blockstored, name: RealName, *, tcp: bool) -> float:
    """Ask for the data of a name, check it, and say how many seconds it took."""
    began = time.perf_counter()
    reply = daemon.dig(name.qname, tcp=tcp)
    if reply.flags & dns.flags.TC:
        reply = daemon.dig(name.qname, tcp=True)
    seconds = time.perf_counter() - began
    assert reply.rcode() == dns.rcode.NOERROR, f"{name.name}: {reply}"
    assert reply.flags & dns.flags.AA
    assert _carries(name, reply), f"{name.name}: {reply}"
    return seconds


def _ask_records(daemon: Blockstored, name: RealName) -> int:
    """Ask for each URI record of the name's zone file; how many came as its text has them."""
    checked = 0
    for owner, targets in _uris(name).items():
        reply = daemon.dig(f"{owner}.{name.qname}", "URI", tcp=True)
        if _refused(reply):
            continue
        got = {rdata.target.decode() for rrset in reply.answer for rdata in rrset}
        assert got == targets, f"{owner}.{name.name}: {reply}"
        checked += 1
    return checked


def _refused(reply: dns.message.Message) -> bool:
    """Whether the server says that the data cannot be read as a zone file."""
    return not reply.answer and any(
        "is not a zone file: line" in str(option.text)
        for option in reply.options
        if option.otype == dns.edns.OptionType.EDE
    )


def _figures(seconds: list[float]) -> str:
    """Median and 95th percentile in milliseconds."""
    ranked = sorted(seconds)
    p95 = ranked[int(len(ranked) * 0.95)]
    return f"median {statistics.median(ranked) * 1000:.2f} ms, p95 {p95 * 1000:.2f} ms"
