"""Scenario files: what is asked and what comes back, in the notation of dig.

A file ``tests/scenarios/dns_*.txt`` is read line by line; ``;`` at the start of a line is a
comment. The lines:

    HEIGHT 1000 2026-01-01                the last indexed block and its day
    INDEX ready | at H of T | silent S    how the index stands (S in seconds)
    ZONE suffix namespace                 serve one more zone (bs id is always there)
    NAME name state [option...]           live, grace, expired or revoked; options: until=H, at=H,
                                          data=archive|network|wrong|nowhere|none
      | a line of its zone file, or of whatever its data is
    ASK qname type [option...] -> RCODE [flags]   options: noedns, tcp, bufsize=N, do
      answer: | authority: | additional: a record, with its TTL
      ede: code text

Each ASK must bring exactly the records and errors below it, and exactly the flags of aa and tc
that it names. Replies are decoded by dnspython.
"""

from datetime import UTC, datetime
from pathlib import Path

import dns.flags
import dns.rcode
import dns.rrset
import pytest

from indexer.records import Phase
from resolver.cache import ReplyCache
from resolver.chase import Freshness
from tests.fakes_resolver import World, errors, lines

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
FILES = sorted(FOLDER.glob("dns_*.txt"))
SECTIONS = ("answer", "authority", "additional")


class Scenario:
    """One file, played from top to bottom."""

    def __init__(self, text: str, cache: ReplyCache | None = None) -> None:
        self._cache = cache
        self.zones = {"bs": "id"}
        self.asked = 0
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
        snapshot.height = int(words[0])
        snapshot.block_time = int(datetime.fromisoformat(words[1]).replace(tzinfo=UTC).timestamp())
        self._index(["ready"], [])
        self.world.resolver.blocks_came(snapshot.height, ())

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
        self.world.resolver.blocks_came(height, ())

    def _zone(self, words: list[str], below: list[str]) -> None:
        assert self._world is None, "ZONE comes first"
        self.zones[words[0]] = words[1]

    def _name(self, words: list[str], below: list[str]) -> None:
        name, state, *options = words
        given = dict(option.split("=") for option in options)
        lies = given.pop("data", "archive")
        until = int(given.pop("until")) if "until" in given else None
        if "at" in given:
            self.world.snapshot.changed[name] = int(given.pop("at"))
        assert not given, f"unknown: {given}"
        assert all(line.startswith("|") for line in below)
        data = None if lies == "none" else "".join(line[1:].lstrip(" ") + "\n" for line in below)
        self.world.name(name, data, phase=Phase[state.upper()], gone_at=until, lies=lies)
        self.world.resolver.blocks_came(self.world.snapshot.height + 1, [name])
        self.world.resolver.blocks_came(self.world.snapshot.height, ())

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


def test_there_are_scenarios():
    assert len(FILES) >= 10


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
