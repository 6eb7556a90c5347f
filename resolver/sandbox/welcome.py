"""What a sandbox says when it is ready: where it is, and commands to try, each as it is typed.

What must stay true: every command that is shown works as it stands, in the order shown.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from indexer.table.table import Snapshot
from resolver.process.places import default_dir, home_dir
from resolver.sandbox.founding import NAMESPACE, SPACING

EXAMPLE_NAME = "example.zone"
EXAMPLE = """\
; The records of a name, for `blockstore-cli register NAME FILE`; "@" is the name itself.
$TTL 300
@    A      192.0.2.80
@    TXT    "hello from a name of my own"
www  CNAME  @
"""

TRY = (  # (name, type and options, what it shows)
    ("swiftonsecurity", "TXT +short", "the data of a name"),
    ("webhost", "A", "an address, with all sections"),
    ("webhost", "MX +short", "mail servers"),
    ("www.webhost", "AAAA +short", "an alias, followed"),
    ("anything.webhost", "A +short", "a wildcard"),
    ("_http._tcp.webhost", "URI +short", "a URI record"),
    ("reading-room.library", "A +short", "a label inside a name's zone file"),
    ("profile", "TXT +short", "a JSON document"),
    ("www.alias", "A +short", "an alias that leads to another name"),
    ("sales.department", "A", "a delegation, with glue"),
    ("almanac", "TXT +bufsize=512", "cut over UDP, complete over TCP"),
    ("gift", "TXT +tcp", "a name that was handed over; asked over TCP"),
    ("empty", "TXT", "registered, without data yet"),
    ("nowhere", "TXT", "data that nobody has: SERVFAIL, and why"),
    ("expired", "TXT", "NXDOMAIN, and since when"),
    ("revoked", "TXT", "NXDOMAIN, and since when"),
    ("nobody-has-this", "TXT", "NXDOMAIN: never registered"),
    ("", "SOA +short", "the zone; its serial is the height of the chain"),
)


class Place(NamedTuple):
    """An address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


def welcome(
    seen: Snapshot, seconds: float, folder: Path, suffix: str, dns: Place, api: Place, node: Place
) -> str:
    """The text, after so many ``seconds``; names are served under ``suffix``."""
    server = f"dig @{dns.host}" + ("" if dns.port == 53 else f" -p {dns.port}")

    def dig(name: str, options: str) -> str:
        return f"{server} {f'{name}.{suffix}' if name else suffix} {options}"

    cli = " ".join([*_cli(), *folder_flag(folder)])
    labels = (f"myname{n}" for n in count(1))
    free = next(label for label in labels if seen.name(f"{label}.{NAMESPACE}") is None)
    file = shlex.quote(str(folder / EXAMPLE_NAME))
    looks = [(dig(name, options), what) for name, options, what in TRY]
    looks.append((f"{cli} lookup swiftonsecurity", "the same data over HTTP"))
    own = [
        (f"{cli} register {free} {file} --yes --wait", "a name of your own"),
        (dig(f"www.{free}", "A +short"), "an alias in it, followed"),
    ]
    return (
        f"\nThe sandbox is ready after {seconds:.1f} s: {seen.name_count()} names at block"
        f" {seen.height}, a new block every {SPACING} s.\n"
        f"DNS on {dns}, HTTP API on {api}, state in {folder}.\n"
        f"Its Bitcoin node on {node}, with the credentials in {folder / 'node' / '.cookie'}.\n\n"
        f"Try, in another terminal:\n\n{_columns(looks)}\n\n"
        f"Register a name with records, and look it up (about {3 * SPACING} s):\n\n"
        f"{_columns(own)}\n\n"
        "Ctrl-C stops it; the state survives unless --fresh is given.\n"
    )


def folder_flag(folder: Path) -> list[str]:
    """What a command must be told to find this sandbox; nothing in its usual place."""
    home = home_dir(os.environ)
    if home is not None and folder == default_dir("sandbox", home):
        return []
    return ["--working-dir", shlex.quote(str(folder))]


def _columns(lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(line) for line, _ in lines)
    return "\n".join(f"  {line:{width}}  # {what}" for line, what in lines)


def _cli() -> list[str]:
    """``blockstore-cli`` as this person has to type it."""
    if shutil.which("blockstore-cli"):
        return ["blockstore-cli"]
    beside = Path(sys.executable).with_name("blockstore-cli")
    if beside.exists():
        return [shlex.quote(str(beside))]
    return [shlex.quote(sys.executable), "-m", "resolver.blockstore_cli"]
