"""The names that are asked beside other servers: real ones, and nasty ones of our own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zonefiles.text.zonefile import ZonefileError, parse_zonefile

SUFFIX, NAMESPACE = "bs", "id"
SERIAL = 1_000
HEADING = f"""$ORIGIN {SUFFIX}.
$TTL 3600
@ 300 IN SOA localhost. nobody.invalid. {SERIAL} 600 300 604800 300
@ 3600 IN NS localhost.
"""


class Name(NamedTuple):
    """A name as both sides have it."""

    label: str
    data: bytes
    """Its zone file, for us."""
    lines: str
    """What other servers get in its place, below its own $ORIGIN."""


def nasty_names() -> list[Name]:
    """Those of ``nasty_zones.txt``."""
    text = Path(__file__).with_name("nasty_zones.txt").read_text()
    names = []
    for part in text.split("\n== ")[1:]:
        title, _, body = part.partition("\n")
        label = title.partition(":")[0]
        ours, theirs = [], []
        for line in body.splitlines():
            for each in _repeated(line):
                plain = each[2:] if each.startswith(("! ", "? ")) else each
                ours.append(plain.replace("ZONE.", f"{NAMESPACE}."))
                if each.startswith("? "):
                    theirs.append(_generic(plain, label))
                elif not each.startswith("! "):
                    theirs.append(each.replace("ZONE.", f"{SUFFIX}."))
        data = "\n".join([f"$ORIGIN {label}.{NAMESPACE}", "$TTL 3600", *ours, ""]).encode()
        names.append(_name(label, data, "\n".join(["$TTL 3600", *theirs])))
    return names


def _repeated(line: str) -> Iterator[str]:
    found = re.fullmatch(r"%(\d+) (.*)", line)
    if found is None:
        yield line
    else:
        for number in range(int(found[1])):
            yield found[2].replace("{}", str(number)).replace("{:03}", f"{number:03}")


def _generic(line: str, label: str) -> str:
    """The record of one line as RFC 3597 has it."""
    zonefile = parse_zonefile(f"{line}\n".encode(), f"{label}.{NAMESPACE}")
    (owner,) = zonefile.owners()
    ((number, rrset),) = zonefile.rrsets(owner).items()
    (wire,) = rrset.to_wire((label.encode(), SUFFIX.encode()))
    return f"{line.split()[0]} TYPE{number} \\# {len(wire)} {wire.hex()}"


def real_names(data_dir: Path, every: int) -> list[Name]:
    """Every so many of the real zone files, each as that of a name of its own."""
    rows = [json.loads(line) for line in (data_dir / "zonefiles" / "real.jsonl").open()]
    names = []
    for number, row in enumerate(rows[::every]):
        label = f"real{number}"
        origin = f"$ORIGIN {row['name']}"
        data = row["zonefile"].replace(origin, f"$ORIGIN {label}.{NAMESPACE}").encode()
        names.append(
            _name(label, data, row["zonefile"].replace(origin, f"$ORIGIN {label}.{SUFFIX}."))
        )
    return names


def _name(label: str, data: bytes, lines: str) -> Name:
    """With what we say of data that has no text of its own: the data itself."""
    try:
        zonefile = parse_zonefile(data, f"{label}.{NAMESPACE}")
    except ZonefileError:
        lines, types = "", set()
    else:
        types = set(zonefile.rrsets(()))
    if not types & {5, 16}:
        strings = [data[at : at + 255] for at in range(0, len(data), 255)] or [b""]
        shown = " ".join('"' + "".join(f"\\{octet:03}" for octet in part) + '"' for part in strings)
        lines = f"{label}.{SUFFIX}. 300 IN TXT {shown}\n" + lines
    return Name(label, data, f"$ORIGIN {label}.{SUFFIX}.\n{lines}\n")


def zone_text(names: list[Name]) -> str:
    """The zone that other servers load."""
    return HEADING + "".join(f"$ORIGIN {SUFFIX}.\n{name.lines}" for name in names)
