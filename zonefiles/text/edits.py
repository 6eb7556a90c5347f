"""Changes of single record sets in the text of a zone file, and the difference for people.

What must stay true: what a person wrote and did not ask to change stays as it was written, comments
and order included; the result is read back, and its record sets are those of the old file with
exactly the changes that were asked for, or the edit is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdatatype

from zonefiles.text.recordsets import Labels, RRset, Zonefile
from zonefiles.text.zonefile import CLASS_WORD, ZonefileError, parse_zonefile

MAX_EDITS = 256
_ANCHOR = (b"anchor", b"invalid")
_BY_HAND = "edit the file and give it whole"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|;.*')


class EditError(ValueError):
    """The edit cannot be made; ``str()`` says which one, why, and what to do."""


class Key(NamedTuple):
    """A record set: its owner relative to the name, and its type; type 0 stands for all types."""

    labels: Labels
    rtype: int


Sets = Mapping[Key, RRset]


def edit_zonefile(
    data: bytes | None, name: str, *, records: Sequence[str] = (), deletions: Sequence[str] = ()
) -> bytes:
    """``data``, the zone file of the chain name ``name``, with the changes made.

    ``records``: lines such as ``www A 192.0.2.1`` or ``@ 300 IN TXT "hello"``; those of one owner
    and type together take the place of the set that was there. ``deletions``: ``www A``, or ``www``
    for all its types; they are made first. ``data`` None: the name has none yet. Raises EditError,
    also where ``data`` is no zone file or the result is none.
    """
    if len(records) + len(deletions) > MAX_EDITS:
        raise EditError(f"more than {MAX_EDITS} edits at once; write the zone file by hand")
    text, old = _read_old(data, name)
    before = record_sets(old)
    new = _wanted(records, name)
    doomed: set[Key] = set()
    for deletion in deletions:
        key = _deletion(deletion, name)
        found = {k for k in before if k.labels == key.labels and key.rtype in (0, k.rtype)}
        if not found:
            raise EditError(f"there is nothing to delete at {deletion!r}; check owner and type")
        doomed |= found
    written = _without(text, name, doomed | (before.keys() & new.keys()))
    if records:
        written = _with(written, name, records)
    edited = written.encode("utf-8")
    intended = {k: s for k, s in before.items() if k not in doomed} | new
    try:
        after = record_sets(parse_zonefile(edited, name))
    except ZonefileError as error:
        raise EditError(
            f"with this edit it would be no zone file any more ({error}); {_BY_HAND}"
        ) from None
    if _contents(after, new) != _contents(intended, new):
        raise EditError(
            f"this zone file is written in a way that hides which line is what; {_BY_HAND}"
        )
    return edited


def record_sets(zonefile: Zonefile) -> dict[Key, RRset]:
    """All record sets of ``zonefile``."""
    return {
        Key(labels, rtype): rrset
        for labels in zonefile.owners()
        for rtype, rrset in zonefile.rrsets(labels).items()
    }


def difference(old: bytes | None, new: bytes, name: str) -> list[str]:
    """The lines of a unified difference of two texts, without line ends; [] where they are equal.

    Bytes that are no UTF-8 are shown as escapes.
    """
    before, after = (
        (data or b"").decode("utf-8", "backslashreplace").splitlines() for data in (old, new)
    )
    return list(difflib.unified_diff(before, after, f"{name} now", f"{name} then", lineterm=""))


def _read_old(data: bytes | None, name: str) -> tuple[str, Zonefile]:
    if data is None:
        data = f"$ORIGIN {name}\n$TTL 3600\n".encode()
    try:
        zonefile = parse_zonefile(data, name)
    except ZonefileError as error:
        raise EditError(
            f"the data of {name} is no zone file ({error}); give a whole new one"
        ) from None
    text = data.decode("utf-8-sig")
    return (text if text.endswith("\n") or not text else text + "\n"), zonefile


def _wanted(records: Sequence[str], name: str) -> dict[Key, RRset]:
    """The record sets that ``records`` make together."""
    for record in records:
        try:
            one = parse_zonefile(_alone(record, name), name, strict=True)
        except ZonefileError as error:
            raise EditError(f"{record!r} is no record: {error.reason}") from None
        if one.record_count != 1 or one.dropped:
            raise EditError(f"{record!r} is not one record of {name} or of a label under it")
    try:
        return record_sets(parse_zonefile(_alone("\n".join(records), name), name))
    except ZonefileError as error:
        raise EditError(f"the records do not go together: {error.reason}") from None


def _alone(lines: str, name: str) -> bytes:
    return f"$ORIGIN {name}.\n$TTL 3600\n{lines}\n".encode()


def _deletion(text: str, name: str) -> Key:
    owner, *rest = text.split()[:3] or [""]
    labels = _labels(owner, _origin(name), _origin(name))
    try:
        rtype = int(dns.rdatatype.from_text(rest[0])) if rest else 0
    except (dns.exception.DNSException, ValueError):
        raise EditError(f"{rest[0]!r} is no record type; write OWNER, or OWNER TYPE") from None
    if labels is None or len(rest) > 1:
        raise EditError(f"{text!r} names no record set of {name}; write OWNER, or OWNER TYPE")
    return Key(labels, rtype)


def _origin(name: str) -> dns.name.Name:
    return dns.name.from_text(name, dns.name.root)


def _labels(owner: str, origin: dns.name.Name, zone: dns.name.Name) -> Labels | None:
    """``owner`` relative to ``zone``; None where it is no name, or lies elsewhere."""
    try:
        absolute = dns.name.from_text(owner, origin)
    except dns.exception.DNSException:
        return None
    if not absolute.is_subdomain(zone):
        return None
    return tuple(label.lower() for label in absolute.relativize(zone).labels)


def _without(text: str, name: str, doomed: Iterable[Key]) -> str:
    """``text`` without the lines of the record sets in ``doomed``, as far as lines can be told."""
    gone = set(doomed)
    if not gone:
        return text
    zone = origin = _origin(name)
    owner = "@"
    orphaned = False  # a line that is gone said the owner of those behind it
    kept: list[str] = []
    for line in text.splitlines(keepends=True):
        words = _QUOTED.sub(lambda found: "" if found[0][0] == ";" else found[0], line).split()
        if not words:
            kept.append(line)
            continue
        if words[0].upper() == "$ORIGIN" and len(words) > 1:
            origin = _next_origin(words[1], origin)
        if words[0].startswith("$"):
            kept.append(line)
            continue
        states_owner = not line[0].isspace()
        if states_owner:
            owner, orphaned = words.pop(0), False
        labels = _labels(owner, origin, zone)
        if labels is not None and Key(labels, _type_among(words)) in gone:
            orphaned = orphaned or states_owner
            continue
        if orphaned:
            line, orphaned = f"{owner} {line.lstrip()}", False
        kept.append(line)
    return "".join(kept)


def _next_origin(word: str, origin: dns.name.Name) -> dns.name.Name:
    try:
        # As the reader has it: of several labels it is absolute, with or without its last dot.
        inside = word.rstrip(".")
        return dns.name.from_text(word, dns.name.root if "." in inside else origin)
    except dns.exception.DNSException:
        return origin


def _type_among(words: Sequence[str]) -> int:
    """The type of a record whose owner has been taken off; 0 where there is none."""
    for word in words:
        if CLASS_WORD.fullmatch(word.upper()) or word[0].isdigit():
            continue
        try:
            return int(dns.rdatatype.from_text(word))
        except (dns.exception.DNSException, ValueError):
            return 0
    return 0


def _with(text: str, name: str, records: Sequence[str]) -> str:
    """``text`` with ``records`` at its end, under the origin and the TTL that they were meant for.

    They stay meant so: later edits add to the same end, so the heading is written once.
    """
    zone = origin = _origin(name)
    has_ttl = False
    for line in text.splitlines():
        words = line.split(";")[0].split()
        if len(words) > 1 and words[0].upper() == "$ORIGIN":
            origin = _next_origin(words[1], origin)
        has_ttl = has_ttl or (words[:1] != [] and words[0].upper() == "$TTL")
    lines = [] if origin == zone else [f"$ORIGIN {name}."]
    if not has_ttl:
        records = [_with_ttl(record) for record in records]
    return text + "".join(f"{line.strip()}\n" for line in (*lines, *records))


def _with_ttl(record: str) -> str:
    """``record`` with its TTL written out: without $TTL it would take that of the one before it."""
    owner, _, rest = record.strip().partition(" ")
    for word in rest.split():
        if word[0].isdigit():
            return record
        if not CLASS_WORD.fullmatch(word.upper()):
            break
    return f"{owner} 3600 {rest.strip()}"


def _contents(sets: Sets, free: Iterable[Key]) -> dict[Key, tuple[int, frozenset[bytes]]]:
    """What ``sets`` hold. The TTL counts but for those in ``free``: a record that was given
    without one takes that of the file."""
    any_ttl = set(free)
    return {
        key: (0 if key in any_ttl else rrset.ttl, frozenset(rrset.to_wire(_ANCHOR)))
        for key, rrset in sets.items()
    }
