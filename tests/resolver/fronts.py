"""Real resolvers of Debian in front of our doors: how each is configured, started and ended."""

import contextlib
import functools
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query

DEADLINE = 15.0
ELSEWHERE = "/usr/sbin:/sbin:/usr/local/sbin:/lib/systemd:/usr/lib/systemd"


def program(name: str) -> str | None:
    """Where a program is; the daemons live where ordinary users have no path to."""
    return shutil.which(name) or shutil.which(name, path=ELSEWHERE)


def free_port() -> int:
    """A port that was free for UDP and TCP a moment ago."""
    for _ in range(50):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                port: int = tcp.getsockname()[1]
                return port
    raise OSError("no port is free for both")


UNBOUND = """
server:
    interface: 127.0.0.1@{port}
    port: {port}
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    do-ip6: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    module-config: "{modules}"
    domain-insecure: "bs"
    local-zone: "test." nodefault
    {zone}
remote-control:
    control-enable: no
"""


def unbound_stub(folder: Path, port: int, ours: int, others: int) -> list[str]:
    """Our suffix as a stub zone, everything else by a forward zone."""
    zone = f"""
stub-zone:
    name: "bs"
    stub-addr: 127.0.0.1@{ours}
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{others}
"""
    return _unbound(folder, port, zone, "iterator")


def unbound_forward(folder: Path, port: int, ours: int, others: int) -> list[str]:
    """Everything to us, who forward what is not ours."""
    zone = f"""
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{ours}
"""
    return _unbound(folder, port, zone, "iterator")


def _unbound(folder: Path, port: int, zone: str, modules: str) -> list[str]:
    file = folder / "unbound.conf"
    text = UNBOUND.format(port=port, folder=folder, zone="", modules=modules) + zone
    file.write_text(text)
    return [program("unbound") or "unbound", "-d", "-p", "-c", str(file)]


def dnsmasq(folder: Path, port: int, ours: int, others: int) -> list[str]:
    return [
        program("dnsmasq") or "dnsmasq",
        "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
        "--bind-interfaces", "--listen-address=127.0.0.1", f"--port={port}", "--pid-file",
        "--user=", "--group=", "--log-facility=-",
        f"--server=/bs/127.0.0.1#{ours}", f"--server=127.0.0.1#{others}",
    ]  # fmt: skip


def kresd(folder: Path, port: int, ours: int, others: int) -> list[str]:
    """Knot Resolver 5."""
    file = folder / "kresd.conf"
    file.write_text(
        f"""
net.ipv6 = false
cache.size = 10 * MB
modules = {{ 'policy' }}
trust_anchors.remove('.')
trust_anchors.set_insecure({{ 'bs' }})
policy.add(policy.suffix(policy.STUB('127.0.0.1@{ours}'), {{ todname('bs') }}))
policy.add(policy.all(policy.STUB('127.0.0.1@{others}')))
"""
    )
    return [
        program("kresd") or "kresd", "-n", "-q", "-a", f"127.0.0.1@{port}", "-c", str(file),
        str(folder),
    ]  # fmt: skip


RESOLVED = """
[Resolve]
DNS=127.0.0.1:{ours}
FallbackDNS=
Domains=~bs
DNSSEC=no
LLMNR=no
MulticastDNS=no
ReadEtcHosts=no
DNSStubListener=no
DNSStubListenerExtra=127.0.0.1:{port}
"""


def resolved(folder: Path, port: int, ours: int, others: int) -> list[str]:
    """systemd-resolved, without systemd and its bus: it has one place for its configuration and
    one user to become, so it is given an /etc and a /run of its own."""
    etc = folder / "systemd"
    etc.mkdir(exist_ok=True)
    (etc / "resolved.conf").write_text(RESOLVED.format(port=port, ours=ours))
    (folder / "passwd").write_text("systemd-resolve:x:0:0::/:/bin/false\n")
    (folder / "group").write_text("systemd-resolve:x:0:\n")
    binds = [
        (etc, "/etc/systemd"),
        (folder / "passwd", "/etc/passwd"),
        (folder / "group", "/etc/group"),
    ]
    script = [
        "mount -t tmpfs tmpfs /run",
        "mkdir -p /run/systemd/resolve /etc/systemd",
        *(f"mount --bind {shlex.quote(str(source))} {target}" for source, target in binds),
        f"exec {shlex.quote(program('systemd-resolved') or 'systemd-resolved')}",
    ]
    return ["unshare", "--map-root-user", "--mount", "sh", "-ec", "\n".join(script)]


@functools.cache
def may_unshare() -> bool:
    """Whether this user may have a view of the file system of its own, as few containers let."""
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/run"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


FRONTS = {
    "unbound with a stub-zone": ("unbound", unbound_stub),
    "unbound with a forward-zone": ("unbound", unbound_forward),
    "dnsmasq": ("dnsmasq", dnsmasq),
    "knot-resolver": ("kresd", kresd),
    # Where the kernel does not let it run there is nothing to be installed that would change it.
    **({"systemd-resolved": ("systemd-resolved", resolved)} if may_unshare() else {}),
}


@contextlib.contextmanager
def running(name: str, folder: Path, ours: int, others: int) -> Iterator[int]:
    """A resolver of ``FRONTS`` for the length of a block; its port, once it answers."""
    port = free_port()
    command = FRONTS[name][1](folder, port, ours, others)
    log = folder / "front.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + DEADLINE
        query = dns.message.make_query("www.example.org", "A")
        while True:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(dns.exception.DNSException, OSError):
                dns.query.udp(query, "127.0.0.1", 0.5, port)
                break
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
