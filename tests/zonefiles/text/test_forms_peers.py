"""Every way to write a record that BIND takes: we take it too, and to the same octets."""

import struct
import subprocess
from pathlib import Path

import pytest

from tests.resolver.fronts import program
from zonefiles.text.zonefile import ZonefileError, parse_zonefile

FORMS = Path(__file__).with_name("forms.txt").read_text().splitlines()[1:]
ANCHOR = (b"alice", b"bs")
HEADING = """$ORIGIN bs.
@ 300 IN SOA localhost. nobody.invalid. 1 600 300 604800 3600
@ 3600 IN NS localhost.
$ORIGIN alice.bs.
$TTL 3600
"""

WE_ALONE_REFUSE = {
    "KEY 0x": "RFC 2535 section 7.1: the flags are a number or mnemonics",
    'URI 10 1 ""': "RFC 7553 section 4.4: the target is not empty",
    **dict.fromkeys(
        ("TALINK", "DOA", "EID", "NIMLOC", "ATMA", "A6", "SINK", "RKEY"),
        "nobody uses it: by number and in the form of RFC 3597 it is taken",
    ),
    "$GENERATE": "a line that makes others is multiplied by nobody here",
}
WE_ALONE_TAKE = {
    "URI 10 1 https": "the target is one string, and quotes only matter where blanks are in it",
}
THEY_DIFFER = {
    "CNAME a¶www CNAME A": "one record in two cases: we keep the first, BIND the last",
}

Sets = dict[tuple[tuple[bytes, ...], int], tuple[int, frozenset[bytes]]]


def ours(form: str) -> Sets | None:
    """What we read; None where we refuse it."""
    text = form.replace("¶", "\n").replace("ZONE", "id") + "\n"
    try:
        zonefile = parse_zonefile(text.encode(), "alice.id", strict=True)
    except ZonefileError:
        return None
    return {
        (labels, rtype): (rrset.ttl, frozenset(rrset.to_wire(ANCHOR)))
        for labels in zonefile.owners()
        for rtype, rrset in zonefile.rrsets(labels).items()
    }


def theirs(checkzone: str, form: str, folder: Path) -> Sets | None:
    """What BIND reads, in its raw form; None where it refuses it."""
    zone, raw = folder / "zone", folder / "raw"
    zone.write_text(HEADING + form.replace("¶", "\n").replace("ZONE", "bs") + "\n")
    lenient = ["-k", "ignore", "-n", "ignore", "-i", "none", "-M", "ignore", "-S", "ignore"]
    command = [checkzone, "-q", *lenient, "-F", "raw", "-o", str(raw), "bs", str(zone)]
    if subprocess.run(command, capture_output=True, timeout=30, check=False).returncode:
        return None
    octets = raw.read_bytes()
    read: Sets = {}
    at = 24  # behind the heading of version 1
    while at < len(octets):
        _, _, rtype, _, ttl, count, _ = struct.unpack_from("!IHHHIIH", octets, at)
        at += 20
        labels: list[bytes] = []
        while octets[at]:
            labels.append(octets[at + 1 : at + 1 + octets[at]].lower())
            at += 1 + octets[at]
        at += 1
        rdatas = []
        for _ in range(count):
            (length,) = struct.unpack_from("!H", octets, at)
            rdatas.append(octets[at + 2 : at + 2 + length])
            at += 2 + length
        if tuple(labels[-2:]) == ANCHOR:
            read[tuple(labels[:-2]), rtype] = (ttl, frozenset(rdatas))
    return read


def is_listed(form: str, exceptions: dict[str, str]) -> bool:
    return any(part in form for part in exceptions)


@pytest.mark.live
def test_what_bind_reads_we_read_to_the_same_octets(tmp_path):
    checkzone = program("named-checkzone")
    if checkzone is None:
        pytest.skip("named-checkzone is not installed")
    taken = 0
    for form in FORMS:
        we, they = ours(form), theirs(checkzone, form, tmp_path)
        assert (we is None and they is not None) <= is_listed(form, WE_ALONE_REFUSE), form
        assert (they is None and we is not None) <= is_listed(form, WE_ALONE_TAKE), form
        if we is not None and they is not None:
            assert we == they or is_listed(form, THEY_DIFFER), form
            taken += 1
    assert taken > 120
