"""``blockstore-cli doctor``: whether everything works.

What must stay true: each check says what it saw and, where something is amiss, what to do; none
changes anything or waits longer than a few seconds.
"""

import secrets
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from resolver import refusals
from resolver.cli.asking import Daemon, Json, Lines, command
from resolver.cli.which_daemon import AtPort, OwnDaemon

DOOR_TIMEOUT = 3.0
_VERSION_BIND = b"\7version\4bind\0\0\x10\0\3"
FEW_PEERS = 1
NEARLY_FULL = 0.9
LITTLE_SPACE, NO_SPACE = 2 * 2**30, 2**28
"""Octets left on the disk: with the second a table cannot be kept in order for long."""
ENDS_SOON = 14 * 86_400.0
MOST_AHEAD = 2 * 3600.0
"""Seconds by which the clock of a block's miner may be fast (Bitcoin's rule for a block's time)."""

GOOD, ODD, BAD = "good", "odd", "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``advice`` is empty where nothing needs doing."""

    of: str
    is_: str
    saw: str
    advice: str = ""


@command()
def doctor(daemon: Daemon) -> None:
    """Look at everything that could be amiss, and say what to do; exit code 1 if something is."""
    status, info = daemon.try_asking("GET", "/v1/info", None)
    if status == 200:
        checks = [check for examine in _EXAMINATIONS for check in examine(daemon, info)]
    elif isinstance(info.get("error"), str):  # such as that its table is damaged
        checks = [Check("daemon", BAD, info["error"], str(info.get("hint", "")))]
        checks += _disk(daemon, info)
    else:
        daemon.refused(info)
    shown = [{key.rstrip("_"): value for key, value in asdict(c).items()} for c in checks]
    daemon.show({"checks": shown}, lambda _: _lines(checks, daemon.door.completed))
    if any(check.is_ == BAD for check in checks):
        sys.exit(refusals.FAILED)


def _lines(checks: list[Check], completed: Callable[[str], str]) -> Lines:
    for check in checks:
        yield f"{check.is_:<4}  {check.of}: {check.saw}"
        if check.advice:
            yield f"      Next: {completed(check.advice)}"


def _daemon(daemon: Daemon, info: Json) -> Iterator[Check]:
    from resolver.words import VERSION

    running = info["server_version"]
    saw = f"version {running} at {daemon.place}, on {info['network']}"
    if running == VERSION:
        yield Check("daemon", GOOD, saw)
    else:
        yield Check("daemon", ODD, f"{saw}; this command is {VERSION}", "restart blockstored")


def _index(_daemon: Daemon, info: Json) -> Iterator[Check]:
    index = info["index"]
    top = info["node"]["height"]
    saw = f"{index['state']}, block {index['height']}{'' if top is None else f' of {top}'}"
    if index["stopped_at"] is not None:
        advice = (
            "mend what it says; `blockstored reindex` mends a fork that was too deep, another node"
            " a chain that is not believed"
        )
        why = f": {info['node']['error']}" if info["node"]["error"] else ""
        yield Check("index", BAD, f"stopped at block {index['height']}{why}", advice)
    elif not index["caught_up"]:
        yield Check("index", ODD, saw, "wait; `blockstore-cli status` tells how far it is")
    else:
        yield Check("index", GOOD, f"{saw}, {info['names']} names")
    if info["consensus_frozen_at"] is not None:
        yield Check(
            "consensus",
            ODD,
            f"frozen at {info['consensus_frozen_at']}: later names follow by rules for names alone",
        )


def _node(_daemon: Daemon, info: Json) -> Iterator[Check]:
    node = info["node"]
    if node["error"]:
        if info["index"]["stopped_at"] is not None:
            return  # it is what the index stopped at
        yield Check("node", BAD, str(node["error"]), "start it, or mend node_url and its password")
        return
    if node["downloading"]:
        saw = f"at block {node['height']}, in its initial download of the chain"
        yield Check("node", ODD, saw, "wait; if it stays so, see whether the node has peers")
        return
    yield Check("node", GOOD, f"at block {node['height']}")
    if node.get("spent_outputs"):
        saw, faster = f"what blocks spend comes from {node['spent_outputs']}", node["faster_with"]
        if faster and not info["index"]["caught_up"]:
            yield Check("reading", ODD, saw, f"set {faster}: the first synchronisation is faster")
        else:
            yield Check("reading", GOOD, f"{saw}; faster with {faster}" if faster else saw)
    silent = info["index"]["silent_seconds"]
    if silent and silent > 2 * 3600:
        advice = (
            "look whether the node has peers (`bitcoin-cli getconnectioncount`), and whether the"
            " clock of this machine is right (`date -u`)"
        )
        yield Check("chain", ODD, f"no block for {silent / 3600:.1f} hours", advice)


def _clock(_daemon: Daemon, info: Json) -> Iterator[Check]:
    ahead = info["index"]["block_time"] - time.time()
    if ahead > MOST_AHEAD:
        yield Check(
            "clock",
            BAD,
            f"the last block is {_days(ahead)} in the future by the clock of this machine, which"
            f" says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "set the clock (`timedatectl set-ntp true`); without it what is old looks fresh",
        )


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} days" if seconds > 172_800 else f"{seconds / 3600:.0f} hours"


def _disk(daemon: Daemon, _info: Json) -> Iterator[Check]:
    folder = daemon.door.found if isinstance(daemon.door, OwnDaemon) else None
    if folder is None or isinstance(folder, AtPort):
        return  # it is on another machine, or nobody knows where
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Check("disk", BAD, f"{folder} cannot be looked at ({error.strerror})", "check it")
        return
    saw = f"{free / 2**30:.1f} GiB free where {folder} is"
    if free >= LITTLE_SPACE:
        yield Check("disk", GOOD, saw)
    else:
        advice = "make room, or lower archive_max_bytes and log_max_bytes"
        yield Check("disk", BAD if free < NO_SPACE else ODD, saw, advice)


def _data(_daemon: Daemon, info: Json) -> Iterator[Check]:
    archive, peers = info["archive"], info["dht"]["peers"]
    full = archive["bytes"] / archive["max_bytes"] if archive["max_bytes"] else 0.0
    saw = f"{archive['records']} records, {archive['bytes']} bytes, {full:.0%} full"
    if full > NEARLY_FULL:
        yield Check("archive", ODD, saw, "raise the setting archive_max_bytes")
    else:
        yield Check("archive", GOOD, saw)
    if peers < FEW_PEERS:
        advice = "name others in the setting dht_bootstrap, and let UDP through to dht_port"
        yield Check("peers", ODD, "none: data comes from nobody and goes to nobody", advice)
    else:
        yield Check("peers", GOOD, f"{peers}")


def _dns(_daemon: Daemon, info: Json) -> Iterator[Check]:
    for door in info["addresses"]["dns"]:
        host, port = str(door["host"]), int(door["port"])
        seconds = _ask(host, port, _VERSION_BIND)
        place = f"dns {host} port {port}"
        if seconds is None:
            advice = "look at the log of blockstored, and at the firewall of this machine"
            yield Check(place, BAD, f"no answer over UDP within {DOOR_TIMEOUT:g} s", advice)
        else:
            yield Check(place, GOOD, f"answers in {seconds * 1000:.1f} ms")


def _encrypted(_daemon: Daemon, info: Json) -> Iterator[Check]:
    for kind in ("dot", "doh"):
        for door in info["addresses"].get(kind, []):
            host, port = str(door["host"]), int(door["port"])
            place = f"{kind} {host} port {port}"
            try:
                left = _certificate_end(host, port) - time.time()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", "") or error
                advice = "look at the log of blockstored, and at the firewall of this machine"
                yield Check(place, BAD, f"no TLS there ({why})", advice)
                continue
            advice = "renew tls_certificate; blockstored takes the new file by itself"
            if left < 0:
                yield Check(place, BAD, f"its certificate ended {_days(-left)} ago", advice)
            elif left < ENDS_SOON:
                yield Check(place, ODD, f"its certificate ends in {_days(left)}", advice)
            else:
                yield Check(place, GOOD, f"answers; its certificate is good for {_days(left)}")


def _certificate_end(host: str, port: int) -> float:
    """When the certificate shown at a port ends to be valid, in seconds since 1970. Raises OSError
    and ValueError where none is shown."""
    from cryptography import x509

    context = ssl.create_default_context()
    # Whoever vouches for it is no matter here, only that it is served and how long.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((_reachable(host), port), DOOR_TIMEOUT) as plain,
        context.wrap_socket(plain) as asking,
    ):
        shown = asking.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown or b"").not_valid_after_utc.timestamp()


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _upstreams(daemon: Daemon, info: Json) -> Iterator[Check]:
    forward = info.get("forward")
    if forward is None:
        return
    for door in info["addresses"]["dns"][:1]:
        # A name that nobody keeps an answer to, so that what is told next is of now.
        name = b"\x10%b\7example\3com\0" % secrets.token_hex(8).encode("ascii")
        _ask(str(door["host"]), int(door["port"]), name + b"\0\1\0\1")
        forward = daemon.get("/v1/info")["forward"]
    healthy, asked = forward["healthy"], forward["upstreams"]
    saw = f"{healthy} of {asked} resolvers of the setting forward answered when asked last"
    advice = "ask them with dig from this machine, and name others in forward"
    if healthy == asked:
        yield Check("forward", GOOD, saw)
    else:
        yield Check("forward", ODD if healthy else BAD, saw, advice)


def _ask(host: str, port: int, question: bytes) -> float | None:
    """Seconds until a DNS server answers ``question`` over UDP, whatever; None: it does not."""
    address = _reachable(host)
    query_id = secrets.token_bytes(2)
    packet = query_id + b"\1\0\0\1\0\0\0\0\0\0" + question
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    began = time.monotonic()
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(DOOR_TIMEOUT)
            asking.connect((address, port))
            asking.send(packet)
            while time.monotonic() - began < DOOR_TIMEOUT:
                reply = asking.recv(4096)
                if reply[:2] == query_id and len(reply) > 2 and reply[2] & 0x80:
                    return time.monotonic() - began
    except OSError:
        return None
    return None


def _orders(daemon: Daemon, _info: Json) -> Iterator[Check]:
    found = daemon.door.found if isinstance(daemon.door, OwnDaemon) else daemon.door
    if isinstance(found, AtPort):
        yield Check(
            "orders",
            ODD,
            f"the daemon at {found.place} is asked over TCP: names can be looked up and not"
            " registered from here",
            "run this as the daemon's user, without --host and --port",
        )
    else:
        yield Check("orders", GOOD, f"names can be registered over the socket in {found}")


def _registrar(daemon: Daemon, info: Json) -> Iterator[Check]:
    registrar = info.get("registrar")
    if registrar is None:
        return
    if registrar["error"]:
        yield Check(
            "wallet",
            BAD,
            str(registrar["error"]),
            "mend it, or set `signer`, and `key_file` for keys of your own",
        )
    else:
        yield Check("wallet", GOOD, f"{registrar['signer']}, {registrar['pending']} pending")


_EXAMINATIONS: tuple[Callable[[Daemon, Json], Iterator[Check]], ...] = (
    _daemon,
    _index,
    _node,
    _clock,
    _data,
    _disk,
    _dns,
    _encrypted,
    _upstreams,
    _orders,
    _registrar,
)


COMMANDS = (doctor,)
