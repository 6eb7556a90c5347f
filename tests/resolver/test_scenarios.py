"""Scenario files: what is asked and what comes back, in the notation of dig.

A file ``tests/scenarios/dns_*.txt`` is read line by line; ``;`` at the start of a line is a
comment. The lines:

    HEIGHT 1000 2026-01-01                the last indexed block and its day; what is said of names
                                          below it was written by the blocks up to it
    BACK 1000                             the blocks above this one are taken back, and what they
                                          wrote with them; HEIGHT says how far the other branch goes
    INDEX ready | at H of T | silent S    how the index stands (S in seconds)
    ZONE suffix namespace                 serve one more zone (bs id is always there)
    NAME name state [option...]           live, grace, expired or revoked, which the height decides
                                          from until=H (gone) and grace=H on; options: at=H,
                                          data=archive|network|wrong|nowhere|none
      | a line of its zone file, or of whatever its data is
    DATA name archive|network|...         from now on its data is to be had there
    ASK qname type [option...] -> RCODE [flags]   options: noedns, tcp, bufsize=N, do
      answer: | authority: | additional: a record, with its TTL
      ede: code text

Each ASK must bring exactly the records and errors below it, and exactly the flags of aa and tc
that it names. Replies are decoded by dnspython. The resolver hears of blocks as it does from the
follower: once, when somebody asks, with all names that were written on the way there.
"""

from datetime import UTC, datetime
from pathlib import Path

import dns.flags
import dns.rcode
import dns.rrset
import pytest

from indexer.protocol.records import NameStatus, Phase
from resolver.dns.cache import ReplyCache
from resolver.dns.chase import Freshness
from tests.resolver.fakes import World, errors, lines

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
FILES = sorted(FOLDER.glob("dns_*.txt"))
SECTIONS = ("answer", "authority", "additional")


class Scenario:
    """One file, played from top to bottom."""

    def __init__(self, text: str, cache: ReplyCache | None = None) -> None:
        self._cache = cache
        self.zones = {"bs": "id"}
        self.asked = 0
        self._written: set[str] = set()  # names, since the resolver was told of a block
        self._untold = False
        self._begun = False
        self._terms: dict[str, tuple[int, int]] = {}  # where it is in grace from, and gone from
        self._past: dict[int, tuple[object, ...]] = {}  # what was known at earlier heights
        self._lines = [
            (number, line.rstrip())
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip() and not line.startswith(";")
        ]
        self._world: World | None = None

    @property
    def world(self) -> World:
        if self._world is None:
            self._world = World(self.zones, cache=self._cache, clock=lambda: 1000.0)
        return self._world

    def play(self) -> None:
        at = 0
        while at < len(self._lines):
            number, line = self._lines[at]
            below = []
            at += 1
            while at < len(self._lines) and self._lines[at][1].startswith(" "):
                below.append(self._lines[at][1].strip())
                at += 1
            word, *rest = line.split()
            try:
                getattr(self, f"_{word.lower()}")(rest, below)
            except AssertionError as failure:
                raise AssertionError(f"line {number}: {line}\n{failure}") from None

    def _height(self, words: list[str], below: list[str]) -> None:
        snapshot = self.world.snapshot
        if self._begun:
            self._past[snapshot.height] = self._known()
            assert int(words[0]) > snapshot.height, "the chain grows; BACK takes blocks back"
        self._begun = True
        snapshot.height = int(words[0])
        snapshot.block_time = int(datetime.fromisoformat(words[1]).replace(tzinfo=UTC).timestamp())
        for name in self._terms:
            self._live_by_height(name)
        self._index(["ready"], [])

    def _back(self, words: list[str], below: list[str]) -> None:
        snapshot = self.world.snapshot
        before = self._known()
        height = int(words[0])
        assert height in self._past, f"nothing is known of block {height}"
        names, changed, terms, block_time = self._past[height]
        snapshot.names, snapshot.changed, self._terms = dict(names), dict(changed), dict(terms)  # type: ignore[call-overload]
        snapshot.block_time, snapshot.height = block_time, height  # type: ignore[assignment]
        for name in before[0].keys() | snapshot.names.keys():  # type: ignore[attr-defined]
            if before[0].get(name) != snapshot.names.get(name):  # type: ignore[attr-defined]
                self._written.add(name)
        self._past = {past: known for past, known in self._past.items() if past < height}
        self._index(["ready"], [])

    def _known(self) -> tuple[object, ...]:
        snapshot = self.world.snapshot
        return dict(snapshot.names), dict(snapshot.changed), dict(self._terms), snapshot.block_time

    def _live_by_height(self, name: str) -> None:
        """Its phase at this height, which no operation writes."""
        record, _ = self.world.snapshot.names[name]
        height = self.world.snapshot.height
        grace, gone = self._terms[name]
        phase = Phase.EXPIRED if height >= gone else Phase.GRACE if height >= grace else Phase.LIVE
        self.world.snapshot.names[name] = record, NameStatus(phase, grace, gone)

    def _index(self, words: list[str], below: list[str]) -> None:
        height = self.world.snapshot.height
        match words:
            case ["ready"]:
                self.world.freshness = Freshness(True, height, height, 1.0)
            case ["at", at, "of", target]:
                self.world.freshness = Freshness(False, int(at), int(target), 1.0)
            case ["silent", seconds]:
                self.world.freshness = Freshness(True, height, height, float(seconds))
            case _:
                raise AssertionError(f"INDEX {words} is not understood")
        self._untold = True

    def _tell(self) -> None:
        """The resolver hears of what happened since the last question."""
        if self._untold:
            self.world.resolver.blocks_came(self.world.snapshot.height, self._written)
        self._written, self._untold = set(), False

    def _zone(self, words: list[str], below: list[str]) -> None:
        assert self._world is None, "ZONE comes first"
        self.zones[words[0]] = words[1]

    def _name(self, words: list[str], below: list[str]) -> None:
        name, state, *options = words
        given = dict(option.split("=") for option in options)
        lies = given.pop("data", "archive")
        until = int(given.pop("until")) if "until" in given else None
        grace = int(given.pop("grace")) if "grace" in given else until
        if "at" in given:
            self.world.snapshot.changed[name] = int(given.pop("at"))
        assert not given, f"unknown: {given}"
        assert all(line.startswith("|") for line in below)
        data = None if lies == "none" else "".join(line[1:].lstrip(" ") + "\n" for line in below)
        self.world.name(name, data, phase=Phase[state.upper()], gone_at=until, lies=lies)
        self._terms.pop(name, None)
        if state == "live" and until is not None and grace is not None:
            self._terms[name] = grace, until
            self._live_by_height(name)
        self._written.add(name)
        self._untold = True

    def _data(self, words: list[str], below: list[str]) -> None:
        name, lies = words
        digest = self.world.snapshot.names[name][0].value_hash
        assert digest is not None
        source = self.world.source
        data = self.world.datas[digest]
        for place in (source.archive, source.network):
            place.pop(digest, None)
        source.wrong.discard(digest)
        self._tell()
        match lies:
            case "archive":
                source.archive[digest] = data
                self.world.resolver.data_came([digest])
            case "network":
                source.network[digest] = data
            case "wrong":
                source.wrong.add(digest)

    def _twice(self, words: list[str], below: list[str]) -> None:
        self._ask(words, below)
        self._ask(words, below)

    def _ask(self, words: list[str], below: list[str]) -> None:
        arrow = words.index("->")
        qname, rtype, *options = words[:arrow]
        rcode, *flags = words[arrow + 1 :]
        more: dict[str, object] = {"edns": "noedns" not in options, "tcp": "tcp" in options}
        more["want_dnssec"] = "do" in options
        for option in options:
            if option.startswith("bufsize="):
                more["payload"] = int(option.removeprefix("bufsize="))
        self._tell()
        reply = self.world.ask(qname, rtype, **more)  # type: ignore[arg-type]
        self.asked += 1
        expected: dict[str, list[str]] = {section: [] for section in (*SECTIONS, "ede")}
        for line in below:
            section, _, text = line.partition(":")
            assert section in expected, f"{section}: is no section"
            expected[section].append(text.strip())
        assert dns.rcode.to_text(reply.rcode()) == rcode
        assert [name for name in ("aa", "tc") if reply.flags & dns.flags.from_text(name)] == flags
        for section in SECTIONS:
            wanted = sorted(_normal(text) for text in expected[section])
            assert lines(getattr(reply, section)) == wanted, section
        assert [f"{code} {text}".strip() for code, text in errors(reply)] == expected["ede"]


def _normal(text: str) -> str:
    """A record as dnspython writes it."""
    owner, ttl, rclass, rtype, rdata = text.split(maxsplit=4)
    return dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata).to_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(file):
    scenario = Scenario(file.read_text())
    scenario.play()
    assert scenario.asked


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_comes_out_the_same_when_replies_are_kept(file):
    scenario = Scenario(file.read_text().replace("\nASK", "\nTWICE"), ReplyCache(1_000_000))
    scenario.play()
    assert scenario.asked


@pytest.mark.parametrize(
    ("status", "answer", "remark"),
    [
        ("live_name", "NOERROR aa", None),
        ("no_such_type", "NOERROR aa", None),
        ("no_such_label", "NXDOMAIN aa", None),
        ("not_registered", "NXDOMAIN aa", "0 not registered at block"),
        ("expiry", "NXDOMAIN aa", "0 expired at block"),
        ("revoked", "NXDOMAIN aa", "0 revoked at block"),
        ("grace", "NOERROR aa", "0 expires at block"),
        ("data_unavailable", "SERVFAIL", "22 data "),
        ("wrong_hash", "SERVFAIL", "0 no source gave data that matches"),
        ("not_a_zonefile", "NOERROR aa", "0 the data of broken.id is not a zone file: line 3"),
        ("not_caught_up", "SERVFAIL", "14 index at block 400 of 1000"),
        ("silent_node", "NOERROR aa", "3 last block 1000, 7200 seconds ago"),
        ("long_silence", "SERVFAIL", "14 last block 1000, 86400 seconds ago"),
        ("not_served", "REFUSED", "20 not in a zone served here"),
        ("reorganisation", "NXDOMAIN aa", "0 not registered at block 1002"),
    ],
)
def test_every_status_of_a_name_has_a_scenario(status, answer, remark):
    text = (FOLDER / f"dns_{status}.txt").read_text()
    asked = [part for part in text.split("\nASK ")[1:] if f"-> {answer}\n" in part]
    assert any(f"ede: {remark}" in part if remark else "ede:" not in part for part in asked)


def test_a_scenario_that_expects_something_else_fails():
    text = "NAME a.id live\n  | $ORIGIN a.id\n  | @ 300 A 192.0.2.1\nASK a.bs A -> NOERROR aa\n"
    Scenario(text + "  answer: a.bs. 300 IN A 192.0.2.1\n").play()
    for wrong in (
        "",
        "  answer: a.bs. 301 IN A 192.0.2.1\n",
        "  answer: a.bs. 300 IN A 192.0.2.1\n  ede: 0 x\n",
    ):
        with pytest.raises(AssertionError, match="line 4"):
            Scenario(text + wrong).play()


@pytest.mark.parametrize(
    "text",
    ["HEIGHT 1000 2026-01-01\nHEIGHT 999 2026-01-01\n", "HEIGHT 1000 2026-01-01\nBACK 999\n"],
)
def test_a_scenario_whose_chain_is_none_fails(text):
    with pytest.raises(AssertionError, match="line 2"):
        Scenario(text).play()
