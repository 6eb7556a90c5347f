"""Authoritative servers of Debian with zones of ours: how each is configured, started and ended."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.resolver.fronts import free_port, program

DEADLINE = 60.0
PATIENCE = 5.0

KNOT = """
server:
    listen: 127.0.0.1@{port}
    rundir: "{folder}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    tcp-idle-timeout: 60
database:
    storage: "{folder}"
log:
  - target: stderr
    any: info
{zone}
"""
KNOT_PRIMARY = """
zone:
  - domain: bs
    storage: "{folder}"
    file: "{file}"
    semantic-checks: off
"""
KNOT_SECONDARY = """
remote:
  - id: ours
    address: 127.0.0.1@{primary}
zone:
  - domain: bs
    storage: "{folder}"
    master: ours
    zonefile-sync: -1
"""

NSD = """
server:
    server-count: 1
    ip-address: 127.0.0.1@{port}
    do-ip6: no
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    xfrdir: "{folder}"
    pidfile: ""
    zonelistfile: "{folder}/zone.list"
    xfrdfile: "{folder}/xfrd.state"
    database: ""
    logfile: ""
    minimal-responses: yes
    refuse-any: no
    rrl-ratelimit: 0
    tcp-timeout: 60
remote-control:
    control-enable: no
zone:
    name: bs
{zone}
"""
NSD_PRIMARY = '    zonefile: "{file}"\n'
NSD_SECONDARY = """
    zonefile: "{folder}/taken.zone"
    request-xfr: AXFR 127.0.0.1@{primary} NOKEY
    allow-notify: 127.0.0.1 NOKEY
"""

BIND = """
options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    lock-file none;
    recursion no;
    minimal-responses yes;
    zero-no-soa-ttl no;
    dnssec-validation no;
}};
controls {{ }};
zone "bs" {{ {zone} }};
"""
BIND_SECONDARY = """
    type secondary;
    primaries {{ 127.0.0.1 port {primary}; }};
    masterfile-format text;
"""


@dataclass
class Server:
    """One that runs, and a datagram socket to it."""

    name: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]
    udp: socket.socket

    def receive(self, packet: bytes) -> bytes:
        """The reply to ``packet``, which was sent by ``udp``; asked again where it got lost."""
        for _ in range(3):
            with contextlib.suppress(TimeoutError):
                while True:
                    reply = self.udp.recv(65_535)
                    if reply[:2] == packet[:2]:
                        return reply
            self.udp.send(packet)
        raise AssertionError(f"{self.name} does not answer: {self.last_words()}")

    def ask(self, packet: bytes) -> bytes:
        """The reply to a datagram."""
        self.udp.send(packet)
        return self.receive(packet)

    def ask_stream(self, packet: bytes) -> bytes:
        """The reply over a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as tcp:
            tcp.sendall(len(packet).to_bytes(2, "big") + packet)
            file = tcp.makefile("rb")
            return file.read(int.from_bytes(file.read(2), "big"))

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2_000:]

    def has_zone(self) -> bool:
        """Whether it answers for the zone, as who asks for its SOA sees."""
        query = b"\x10\x92\0\0\0\1\0\0\0\0\0\0\x02bs\0\0\x06\0\1"
        with contextlib.suppress(OSError, AssertionError):
            reply = self.ask(query)
            return reply[2] & 4 != 0 and reply[3] & 15 == 0 and reply[7] == 1
        return False


@contextlib.contextmanager
def started(name: str, folder: Path, *, zone: str = "", primary: int = 0) -> Iterator[Server]:
    """Knot, NSD or BIND as the primary of ``zone`` or as a secondary of the one at this port, when
    it has the zone."""
    binary = {"knot": "knotd", "nsd": "nsd", "bind": "named"}[name]
    path = program(binary)
    if path is None:
        pytest.skip(f"{binary} is not installed")
    folder = folder / name
    folder.mkdir()
    file = folder / "bs.zone"
    file.write_text(zone, encoding="latin-1")
    values = {"folder": folder, "port": free_port(), "file": file, "primary": primary}
    form, first, second = {
        "knot": (KNOT, KNOT_PRIMARY, KNOT_SECONDARY),
        "nsd": (NSD, NSD_PRIMARY, NSD_SECONDARY),
        "bind": (BIND, "", BIND_SECONDARY),
    }[name]
    part = (second if primary else first).format(**values)
    config = folder / "config"
    config.write_text(form.format(**values, zone=part))
    flags = {"knot": ["-c"], "nsd": ["-d", "-c"], "bind": ["-g", "-n", "1", "-c"]}[name]
    log = folder / "log"
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("wb"))
        process = subprocess.Popen([path, *flags, str(config)], stdout=out, stderr=out, cwd=folder)
        stack.callback(_ended, process)
        udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        udp.connect(("127.0.0.1", values["port"]))
        udp.settimeout(0.2)
        server = Server(name, values["port"], log, process, udp)
        deadline = time.monotonic() + DEADLINE
        while not server.has_zone():
            assert time.monotonic() < deadline, server.last_words()
            assert process.poll() is None, server.last_words()
            time.sleep(0.05)
        udp.settimeout(PATIENCE)
        yield server


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
