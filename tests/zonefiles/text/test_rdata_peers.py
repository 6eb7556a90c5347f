"""Which generic RDATA ours, BIND, Knot, NSD and ldns take, type by type, and where they differ."""

import random
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.resolver.fronts import program as path_of
from tests.rings import times
from zonefiles.text.rdata import is_loaded_everywhere
from zonefiles.text.zonefile import ZonefileError, parse_zonefile

TYPES = sorted({*range(1, 128), *range(256, 270), 32768, 32769} - {41})  # 41, OPT: in no zone file
GENERIC = [
    "",
    "00",
    "0161",
    "c00c",
    "0000",
    "000100",
    "c0000201",
    "0001026e7300",
    "026e73310000",
    "026e7331",
    "00010002000300",
    "20010db8000000000000000000000001",
    "0161016200",
    "0000000000ff",
    "00010801" + "ab" * 20,
    "00010802" + "cd" * 32,
    "0361626304616263",
    "0001000568747470",
    "ff" * 9,
    "0101030803010001",
    "00" * 20,
    "0005000000000100",
    "0a" * 24,
    "00010d01" + "aa" * 33,
    "0000017800010003026832",
    "000100000100030268320007000a2f787b3f646e737d",
    "0001000001000302683200070002" + "2f78",
]
HEADING = "$ORIGIN bs.\n$TTL 3600\n@ 300 IN SOA localhost. nobody.invalid. 1 600 300 604800 300\n"
HEADING += "@ IN NS localhost.\n"
HEADING_LINES = HEADING.count("\n")

BIND_FAULT = r"\.zone:(\d+): (?! *(?:signature has expired|old style DNSSEC))"  # these are notes
NSD_FAULT = r"error: \S+\.zone:(\d+): "

Cell = tuple[int, str]
CELLS: list[Cell] = [(rtype, octets) for rtype in TYPES for octets in GENERIC]

WE_ALONE_REFUSE = {
    20: "an ISDN subaddress that is there and empty is written in two forms",
    27: "RFC 1712 section 3: coordinates are numbers, in their range",
    29: "RFC 1876 section 2: versions other than 0 have no known form",
    30: "RFC 2535 section 5.2: the bitmap has the bit of NXT itself at least",
    **dict.fromkeys((46, 50, 51), "only a whole zone has a proof of DNSSEC"),
    43: "RFC 3658 section 2.4: digest type 0 is reserved",
    49: "RFC 4701 section 3.1: two octets, one, and a digest",
    52: "RFC 6698 section 2.1.3: SHA-256 and SHA-512 have their lengths",
    53: "RFC 8162 section 2: as TLSA",
    59: "RFC 8078 section 4: of digest type 0 there is the one that deletes",
    63: "RFC 8976 section 2.2: scheme and hash algorithm 0 are reserved",
    256: "RFC 7553 section 4.4: the target is not empty",
    260: "RFC 8777 section 4.2.3: a relay of an unknown type has no known form",
    32768: "as DS",
    32769: "RFC 4431 section 2: as DS",
}
"""Types of which we drop what every server takes: the form that the RFC gives it is not there."""


def line_of(cell: Cell) -> str:
    rtype, octets = cell
    return rf"TYPE{rtype} \# {len(octets) // 2} {octets}"


def ours(cell: Cell) -> str:
    """What becomes of it: "malformed", "not transferred" or "taken"."""
    zonefile = parse_zonefile(f"x {line_of(cell)}\n".encode(), "alice.id")
    rrset = zonefile.rrset((b"x",), cell[0])
    if rrset is None:
        assert zonefile.dropped == 1
        return "malformed"
    (wire,) = rrset.to_wire((b"alice", b"bs"))
    assert wire.hex() == cell[1]
    return "taken" if is_loaded_everywhere(cell[0], wire) else "not transferred"


def refused_by(
    program: str, arguments: Iterable[str], line: str, cells: list[Cell], folder: Path
) -> set[Cell]:
    """Those of ``cells`` that ``program`` refuses in one zone; ``line`` finds their lines."""
    path = path_of(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    zone = folder / f"{program}.zone"
    zone.write_text(HEADING + "".join(f"n{i} {line_of(cell)}\n" for i, cell in enumerate(cells)))
    done = subprocess.run(
        [path, *arguments, str(zone)], capture_output=True, text=True, timeout=120, check=False
    )
    numbers = [int(number) for number in re.findall(line, done.stdout + done.stderr)]
    # kzonecheck also says 1 of a DS with an algorithm that it does not know, the zone being loaded.
    assert done.returncode in (0, 1), done.stderr[-500:]
    assert "failed to load" not in done.stdout + done.stderr or numbers
    return {cells[number - HEADING_LINES - 1] for number in numbers}


@pytest.mark.live
def test_what_we_take_generically_is_what_other_servers_take(tmp_path):
    said = {cell: ours(cell) for cell in CELLS}
    bind = refused_by("named-checkzone", ["-k", "ignore", "bs"], BIND_FAULT, CELLS, tmp_path)
    nsd = refused_by("nsd-checkzone", ["bs"], NSD_FAULT, CELLS, tmp_path)
    refused = bind | nsd

    taken = {cell for cell in CELLS if said[cell] == "taken"}
    assert not taken & refused, sorted(taken & refused)
    held_back = {cell for cell in CELLS if said[cell] == "not transferred"}
    assert not held_back - refused, sorted(held_back - refused)
    dropped = {cell for cell in CELLS if said[cell] == "malformed"}
    assert {rtype for rtype, _ in dropped - refused} == WE_ALONE_REFUSE.keys()

    # ldns ends at the first fault, and kzonecheck never, or by a signal, at some. They find none.
    assert not refused_by("ldns-read-zone", [], r"at line (\d+)", sorted(taken), tmp_path)
    assert not refused_by("kzonecheck", ["-o", "bs"], r"line (\d+)", sorted(taken), tmp_path)


FORMS = Path(__file__).with_name("forms.txt").read_text().splitlines()[1:]
ODD = (0, 1, 2, 3, 4, 0x20, 0x2F, 0x30, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF)
EXPRESSIONS = (
    b"!^.*$!sip:info@example.com!",
    rb"!^(tel:)?([0-9]{1,3})(x|y)*$!\2\1!i",
    rb"/^\+44(.*)$/tel:+44\1/",
    rb"!^[^a-z0-9_.-]+@\.(.+)$!\1\\!",
)
SIGNS = rb"!^$.*+?()[]{}|\0123456789iabz,-:/ \!"


def changed(octets: bytes, luck: random.Random, signs: bytes | tuple[int, ...]) -> bytes:
    """``octets`` with some of them lost, others come between, and others in their place."""
    changing = bytearray(octets)
    for _ in range(luck.randrange(1, 4)):
        at = luck.randrange(len(changing) + 1)
        changing[at : at + luck.choice((0, 1, 1))] = luck.choice(
            (b"", bytes((luck.choice(signs),)))
        )
    return bytes(changing)


def naptr(expression: bytes) -> bytes:
    return b"\0\1\0\2\1u\7E2U+sip" + bytes((len(expression),)) + expression + b"\0"


@pytest.mark.live
def test_nothing_that_comes_of_a_good_record_by_small_changes_stops_a_transfer(tmp_path):
    luck = random.Random(9_460)
    cells: set[Cell] = set()
    for form in FORMS:
        try:
            read = parse_zonefile(
                form.replace("¶", "\n").replace("ZONE", "id").encode(), "alice.id"
            )
        except ZonefileError:
            continue
        for owner in read.owners():
            for rtype, rrset in read.rrsets(owner).items():
                for wire in rrset.to_wire((b"x", b"bs")):
                    for _ in range(times(2, 15, 100)):
                        cells.add((int(rtype), changed(wire, luck, ODD).hex()))
    for expression in EXPRESSIONS:
        for _ in range(times(10, 300, 3_000)):
            cells.add((35, naptr(changed(expression, luck, SIGNS)).hex()))
    taken = sorted(cell for cell in cells if is_transferred(cell))
    assert len(cells) * 9 // 10 > len(taken) > len(cells) // 10
    bind = refused_by("named-checkzone", ["-k", "ignore", "bs"], BIND_FAULT, taken, tmp_path)
    nsd = refused_by("nsd-checkzone", ["bs"], NSD_FAULT, taken, tmp_path)
    assert not bind | nsd, sorted(bind | nsd)[:10]


def is_transferred(cell: Cell) -> bool:
    rrset = parse_zonefile(f"x {line_of(cell)}\n".encode(), "alice.id").rrset((b"x",), cell[0])
    return rrset is not None and all(
        is_loaded_everywhere(cell[0], wire) for wire in rrset.to_wire((b"alice", b"bs"))
    )
