"""What a person should hear of data before it is paid for.

What must stay true: nothing that can be served is refused; a note is said only where what stands
in the file is read otherwise than it looks. Pure.
"""

import json
from collections.abc import Iterator, Mapping

import dns.name
import dns.rdatatype

from zonefiles.text.recordsets import Labels, Zonefile
from zonefiles.text.zonefile import ZonefileError, parse_zonefile

MAX_NOTES = 10
_FOREIGN = frozenset((b"com", b"net", b"org", b"edu", b"gov"))
"""Top-level domains that nobody names a host of their own after."""
_ANCHOR: Labels = (b"\0",)
"""Stands for the name itself; no name of a zone file ends in it."""


class UnfitData(ValueError):
    """A name with this data would answer nothing; ``str()`` says why, ``hint`` what to do."""

    def __init__(self, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.hint = hint


def review(
    data: bytes, name: str, zones: Mapping[str, str], *, raw: bool = False
) -> tuple[str, ...]:
    """What to say of ``data`` that the chain name ``name`` shall hold, a sentence each.

    ``zones``: DNS suffixes and the namespaces served under them. ``raw``: it is meant as it is,
    whatever it is. Raises UnfitData for what is neither JSON nor a zone file with records.
    """
    try:
        zonefile = parse_zonefile(data, name, strict=not raw)
    except ZonefileError as error:
        if not raw and not _is_json(data):
            raise UnfitData(
                f"the data is neither JSON nor a zone file of {name} ({error})",
                "mend it, or give --raw if it is meant so",
            ) from None
        return ()
    if not zonefile.record_count and not raw:
        raise UnfitData(
            f"of the data no record remains that {name} could answer with",
            f"mend it: its records are of {name}, or below; or give --raw",
        )
    notes = list(dict.fromkeys(_names_without_dot(zonefile, zones)))
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES:] = [f"so do {len(notes) - MAX_NOTES} more names of the data"]
    if zonefile.dropped:
        many = "1 record" if zonefile.dropped == 1 else f"{zonefile.dropped} records"
        notes.append(f"not served, for lying outside {name} or for their form: {many} of the data")
    return tuple(notes)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _names_without_dot(zonefile: Zonefile, zones: Mapping[str, str]) -> Iterator[str]:
    """The names that are written as whole ones, and are read as relative to the zone file."""
    name = zonefile.name
    label, _, namespace = name.partition(".")
    served = [_labels(suffix) for suffix in zones]
    own = [_labels(name)]
    own += [_labels(f"{label}.{suffix}") for suffix, of in zones.items() if of == namespace]

    def holds_whole_name(labels: Labels) -> bool:
        """Also below an origin of the file: it is added to what is written."""
        starts = [labels[:end] for end in range(2, len(labels) + 1)]
        return any(
            _is_below(start, own) or _is_below(start[1:], served) or start[-1] in _FOREIGN
            for start in starts
        )

    def is_foreign(labels: Labels) -> bool:
        """Whether it ends as a domain does, and is not of the file's own names."""
        known = any(zonefile.exists(labels[at:]) for at in range(len(labels)))
        return len(labels) > 1 and _is_like_a_domain(labels[-1]) and not known

    for owner in zonefile.owners():
        if holds_whole_name(owner):
            shown = _text(owner)
            yield (
                f"{shown}, without a dot at its end, is read as {shown}.{name}; names in this data"
                f" are relative to {name}"
            )
        for rrset in zonefile.rrsets(owner).values():
            for target in rrset.targets(_ANCHOR):
                inner = target[:-1]
                if target[-1:] == _ANCHOR and (holds_whole_name(inner) or is_foreign(inner)):
                    shown = _text(inner)
                    rtype = dns.rdatatype.RdataType.to_text(rrset.rtype)
                    yield (
                        f"{shown}, to which {_text(owner) or '@'} {rtype} points without a dot at"
                        f' its end, is read as {shown}.{name}; a whole name is written "{shown}."'
                    )


def _is_like_a_domain(label: bytes) -> bool:
    return (len(label) > 1 and label.isalpha()) or label.startswith(b"xn--")


def _is_below(labels: Labels, ends: list[Labels]) -> bool:
    return any(labels[-len(end) :] == end for end in ends)


def _labels(text: str) -> Labels:
    return tuple(text.lower().encode().split(b"."))


def _text(labels: Labels) -> str:
    return dns.name.Name(labels).to_text(omit_final_dot=True) if labels else ""
