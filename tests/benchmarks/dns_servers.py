"""The servers of the benchmark, each with the same zone on a loopback port, one worker each."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import dns.message
import dns.query

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


class Server:
    """One running server and what it has used so far."""

    def __init__(self, name: str, command: list[str], port: int, first: str, log: Path) -> None:
        self.name = name
        self.port = port
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
                if dns.query.udp(query, "127.0.0.1", timeout=0.5, port=self.port).answer:
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


def ours(folder: Path, labels: list[str], cache: int) -> list[str]:
    names = folder / "names.txt"
    names.write_text("\n".join(labels))
    port = str(free_port())
    module = "tests.benchmarks.dns_ours"
    archive = str(folder / f"archive-{cache}")
    return [sys.executable, "-m", module, str(names), archive, port, str(cache)]


def knot(folder: Path, port: int) -> list[str]:
    (folder / "knot.conf").write_text(
        f'server:\n    rundir: "{folder}"\n    listen: 127.0.0.1@{port}\n'
        "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"
        f'database:\n    storage: "{folder}"\n'
        f'zone:\n  - domain: bs\n    storage: "{folder}"\n    file: bs.zone\n'
        "    zonefile-sync: -1\n    journal-content: none\n"
    )
    return ["knotd", "-c", str(folder / "knot.conf")]


def nsd(folder: Path, port: int) -> list[str]:
    (folder / "nsd.conf").write_text(
        f"server:\n    ip-address: 127.0.0.1@{port}\n    port: {port}\n    server-count: 1\n"
        f'    username: ""\n    chroot: ""\n    zonesdir: "{folder}"\n    database: ""\n'
        f'    pidfile: "{folder}/nsd.pid"\n    xfrdfile: "{folder}/xfrd.state"\n'
        f'    zonelistfile: "{folder}/zone.list"\n    xfrdir: "{folder}"\n'
        "    rrl-ratelimit: 0\n    rrl-whitelist-ratelimit: 0\n"
        "remote-control:\n    control-enable: no\n"
        "zone:\n    name: bs\n    zonefile: bs.zone\n"
    )
    return ["nsd", "-d", "-c", str(folder / "nsd.conf")]


def powerdns(folder: Path, port: int) -> list[str]:
    zone = folder / "bs.zone"
    (folder / "named.conf").write_text(f'zone "bs" {{ type master; file "{zone}"; }};\n')
    (folder / "pdns.conf").write_text(
        f"launch=bind\nbind-config={folder}/named.conf\nlocal-address=127.0.0.1\n"
        f"local-port={port}\ndaemon=no\nguardian=no\nsocket-dir={folder}\nloglevel=0\n"
        "receiver-threads=1\ndistributor-threads=1\nmax-tcp-connections=200\n"
        "max-tcp-connections-per-client=200\n"
    )
    return ["pdns_server", f"--config-dir={folder}"]


OTHERS: dict[str, tuple[str, Callable[[Path, int], list[str]]]] = {
    "Knot": ("knotd", knot),
    "NSD": ("nsd", nsd),
    "PowerDNS": ("pdns_server", powerdns),
}


def start_all(folder: Path, labels: list[str], cache: int, missing: list[str]) -> list[Server]:
    """Ours with and without its reply cache, and whichever of the others are installed."""
    (folder / "bs.zone").write_text(zone_text(labels))
    servers: list[Server] = []
    try:
        for name, size in (("ours", cache), ("ours, no reply cache", 0)):
            command = ours(folder, labels, size)
            log = folder / f"ours-{size}.log"
            servers.append(Server(name, command, int(command[-2]), labels[0], log))
        for name, (program, configured) in OTHERS.items():
            if shutil.which(program) is None:
                missing.append(name)
                continue
            own = folder / program
            own.mkdir()
            shutil.copy(folder / "bs.zone", own / "bs.zone")
            port = free_port()
            log = folder / f"{program}.log"
            servers.append(Server(name, configured(own, port), port, labels[0], log))
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return servers
