"""The servers of the benchmark, each with the same zone on loopback ports, one worker each.

Each is asked through the doors it has: none of the authoritative ones of Debian 12 speaks DNS over
HTTPS and only NSD speaks DNS over TLS, so Unbound stands beside ours at those doors, with the zone
as its auth-zone.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query

from tests.resolver.doors.certificates import make_certificate

START_DEADLINE = 120.0
STOP_DEADLINE = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


def address_of(number: int) -> str:
    """The address of the name in this line."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def zone_text(labels: Iterable[str]) -> str:
    """The zone as a master file."""
    lines = [
        "$ORIGIN bs.",
        "$TTL 3600",
        "@ 300 IN SOA localhost. nobody.invalid. 1000 600 300 604800 300",
        "@ IN NS localhost.",
    ]
    lines += [f"{label} IN A {address_of(number)}" for number, label in enumerate(labels)]
    return "\n".join(lines) + "\n"


def free_port() -> int:
    """A port that was free for both protocols just now."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


Ports = dict[str, int]
"""A port for each of ``DOORS``; "udp" and "tcp" share one."""
DOORS = ("udp", "tcp", "dot", "doh")


class Server:
    """One running server and what it has used so far. ``doors`` are those it is measured at."""

    def __init__(
        self,
        name: str,
        command: list[str],
        ports: Ports,
        doors: tuple[str, ...],
        first: str,
        log: Path,
    ) -> None:
        self.name = name
        self.ports = ports
        self.doors = doors
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._wait(first, log)

    def _wait(self, first: str, log: Path) -> None:
        deadline = time.monotonic() + START_DEADLINE
        query = dns.message.make_query(f"{first}.bs", "A")
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if dns.query.udp(query, "127.0.0.1", 0.5, self.ports["udp"]).answer:
                    return
            except (OSError, dns.exception.DNSException):
                pass
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"{self.name} did not start: {log.read_text(errors='replace')[-500:]}")

    def _family(self) -> list[int]:
        """The process and its descendants."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(entry.name)] = int(fields[1])
        family = [self._process.pid]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family

    def cpu_seconds(self) -> float:
        """User and system time of all its processes."""
        ticks = 0
        for pid in self._family():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def waited_seconds(self) -> float:
        """How long its threads could have run and did not, for others had the processors."""
        waited = 0
        for pid in self._family():
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    waited += int((task / "schedstat").read_text().split()[1])
        return waited / 1e9

    def resident_mb(self) -> float:
        """Memory of its own: what its processes do not share, and the largest shared part once."""
        total = 0
        for pid in self._family():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1_024

    def stop(self) -> None:
        """End the process, and then those of its children that outlive it (NSD's may)."""
        family = self._family()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_DEADLINE)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


@dataclass(frozen=True)
class Place:
    """What a server is made of: a folder with the zone in it, its ports, a certificate."""

    folder: Path
    ports: Ports
    certificate: Path
    key: Path


def ours(place: Place, labels: list[str], cache: int) -> list[str]:
    names = place.folder / "names.txt"
    names.write_text("\n".join(labels))
    given = {
        "names": str(names),
        "archive": str(place.folder / "archive"),
        "table": str(place.folder / "table"),
        "cache": cache,
        "ports": place.ports,
        "certificate": str(place.certificate),
        "key": str(place.key),
    }
    return [sys.executable, "-m", "tests.benchmarks.dns_ours", json.dumps(given)]


def knot(place: Place) -> list[str]:
    folder = place.folder
    (folder / "knot.conf").write_text(
        f'server:\n    rundir: "{folder}"\n    listen: 127.0.0.1@{place.ports["udp"]}\n'
        "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"
        f'database:\n    storage: "{folder}"\n'
        f'zone:\n  - domain: bs\n    storage: "{folder}"\n    file: bs.zone\n'
        "    zonefile-sync: -1\n    journal-content: none\n"
    )
    return ["knotd", "-c", str(folder / "knot.conf")]


def nsd(place: Place) -> list[str]:
    folder, port, dot = place.folder, place.ports["udp"], place.ports["dot"]
    (folder / "nsd.conf").write_text(
        f"server:\n    ip-address: 127.0.0.1@{port}\n    port: {port}\n    server-count: 1\n"
        f"    ip-address: 127.0.0.1@{dot}\n    tls-port: {dot}\n    tcp-count: 200\n"
        f'    tls-service-key: "{place.key}"\n    tls-service-pem: "{place.certificate}"\n'
        f'    username: ""\n    chroot: ""\n    zonesdir: "{folder}"\n    database: ""\n'
        f'    pidfile: "{folder}/nsd.pid"\n    xfrdfile: "{folder}/xfrd.state"\n'
        f'    zonelistfile: "{folder}/zone.list"\n    xfrdir: "{folder}"\n'
        "    rrl-ratelimit: 0\n    rrl-whitelist-ratelimit: 0\n"
        "remote-control:\n    control-enable: no\n"
        "zone:\n    name: bs\n    zonefile: bs.zone\n"
    )
    return ["nsd", "-d", "-c", str(folder / "nsd.conf")]


def powerdns(place: Place) -> list[str]:
    folder = place.folder
    (folder / "named.conf").write_text(
        f'zone "bs" {{ type master; file "{folder / "bs.zone"}"; }};\n'
    )
    (folder / "pdns.conf").write_text(
        f"launch=bind\nbind-config={folder}/named.conf\nlocal-address=127.0.0.1\n"
        f"local-port={place.ports['udp']}\ndaemon=no\nguardian=no\nsocket-dir={folder}\n"
        "loglevel=0\nreceiver-threads=1\ndistributor-threads=1\nmax-tcp-connections=200\n"
        "max-tcp-connections-per-client=200\n"
    )
    return ["pdns_server", f"--config-dir={folder}"]


def unbound(place: Place) -> list[str]:
    folder, ports = place.folder, place.ports
    listen = "".join(f"    interface: 127.0.0.1@{ports[door]}\n" for door in ("udp", "dot", "doh"))
    (folder / "unbound.conf").write_text(
        f"server:\n{listen}    port: {ports['udp']}\n    tls-port: {ports['dot']}\n"
        f"    https-port: {ports['doh']}\n    http-endpoint: /dns-query\n    num-threads: 1\n"
        f'    tls-service-key: "{place.key}"\n    tls-service-pem: "{place.certificate}"\n'
        f'    username: ""\n    chroot: ""\n    directory: "{folder}"\n    pidfile: ""\n'
        "    use-syslog: no\n    incoming-num-tcp: 200\n    do-daemonize: no\n"
        '    module-config: "iterator"\n    access-control: 127.0.0.0/8 allow\n'
        "remote-control:\n    control-enable: no\n"
        f'auth-zone:\n    name: bs\n    zonefile: "{folder / "bs.zone"}"\n'
        "    for-downstream: yes\n    for-upstream: no\n    fallback-enabled: no\n"
    )
    return ["unbound", "-d", "-p", "-c", str(folder / "unbound.conf")]


OTHERS: dict[str, tuple[str, Callable[[Place], list[str]], tuple[str, ...]]] = {
    "Knot": ("knotd", knot, ("udp", "tcp")),
    "NSD": ("nsd", nsd, ("udp", "tcp", "dot")),
    "PowerDNS": ("pdns_server", powerdns, ("udp", "tcp")),
    "Unbound, auth-zone": ("unbound", unbound, ("dot", "doh")),
}
"""Program, configuration and doors of each."""


def start_all(folder: Path, labels: list[str], cache: int, missing: list[str]) -> list[Server]:
    """Ours with and without its reply cache, and whichever of the others are installed."""
    certificate, key = make_certificate(folder)
    servers: list[Server] = []

    def place(name: str) -> Place:
        own = folder / name
        own.mkdir()
        (own / "bs.zone").write_text(zone_text(labels))
        plain = free_port()
        ports = {"udp": plain, "tcp": plain, "dot": free_port(), "doh": free_port()}
        return Place(own, ports, certificate, key)

    def start(name: str, at: Place, command: list[str], doors: tuple[str, ...]) -> None:
        log = at.folder / "server.log"
        servers.append(Server(name, command, at.ports, doors, labels[0], log))

    try:
        at = place("ours")
        start("ours", at, ours(at, labels, cache), DOORS)
        at = place("ours-bare")
        start("ours, no reply cache", at, ours(at, labels, 0), ("udp",))
        for name, (program, configured, doors) in OTHERS.items():
            if shutil.which(program) is None:
                missing.append(name)
                continue
            at = place(program)
            start(name, at, configured(at), doors)
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return servers
