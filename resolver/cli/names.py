"""The commands of ``blockstore-cli`` that tell of names: look-ups, owners, prices, histories.

What must stay true: nothing here changes anything, and none needs more than the API of a daemon;
JSON has the shapes of the API (protocol spec sections 7.3 and 7.5), text says dates beside heights.
"""

import base64
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from resolver import refusals
from resolver.cli.asking import (
    Daemon,
    Json,
    Lines,
    TimeSpan,
    command,
    described,
    fail,
    read_file,
    table,
)
from resolver.cli.completing import with_name
from resolver.refusals import Refusal
from resolver.terminal import HEIGHT

MAX_BYTES = 40_960  # protocol: what a name may hold; the daemon checks it again


def page_path(path: str, *parts: str, **query: Any) -> str:
    """``path`` with each ``{}`` replaced by a part, and those of ``query`` that are given."""
    escaped = path.format(*(quote(part, safe="", errors="surrogateescape") for part in parts))
    named = {key: value for key, value in query.items() if value not in (None, False)}
    words = {key: "true" if value is True else value for key, value in named.items()}
    return f"{escaped}?{urlencode(words)}" if words else escaped


@command()
@with_name
@click.option("--raw", is_flag=True, help="Write the data itself, byte for byte, not JSON.")
def lookup(daemon: Daemon, name: str, raw: bool) -> None:
    """Print the verified data of NAME.

    NAME is a name on the chain, such as alice.id; a bare label means LABEL.id. Prints JSON, also
    on a terminal; with --human the data as text. Data that is not text is printed in base64 under
    "data_base64".
    """
    daemon.human = bool(daemon.human)
    answer = daemon.get(page_path("/v1/lookup/{}", name))
    if raw:
        write_raw(data_in(answer, "data"))
        return
    shown = {key: answer[key] for key in ("data", "data_base64") if key in answer}
    daemon.show(shown, lambda seen: seen.get("data", seen.get("data_base64", "")).splitlines())


def data_in(answer: Json, key: str) -> bytes:
    """What the API gives as text, or else in base64, under ``key``."""
    encoded = answer.get(f"{key}_base64")
    return base64.b64decode(encoded) if encoded is not None else str(answer[key]).encode()


def write_raw(data: bytes) -> None:
    """Write it byte for byte."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@command()
@click.argument("value_hash", metavar="HASH")
@click.option("--raw", is_flag=True, help="Write the data itself, byte for byte, not JSON.")
def get(daemon: Daemon, value_hash: str, raw: bool) -> None:
    """Print the data that has HASH, 40 hex digits, where a live name announces it.

    A name in the place of HASH gives the data of the name, as `lookup` does.
    """
    of_hash = re.fullmatch("[0-9a-fA-F]{40}", value_hash)
    path, key = ("/v1/zonefiles/{}", "zonefile") if of_hash else ("/v1/lookup/{}", "data")
    answer = daemon.get(page_path(path, value_hash))
    if raw:
        write_raw(data_in(answer, key))
        return
    ending = "_base64" if f"{key}_base64" in answer else ""
    shown = {f"data{ending}": answer[key + ending]}
    daemon.show(shown, lambda seen: next(iter(seen.values())).splitlines())


@command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
def put(daemon: Daemon, file: Path) -> None:
    """Hand in the data of a name from FILE (- for standard input).

    It is taken when a live name announces its hash on the chain, kept by blockstored and
    published to the network.
    """
    daemon.show(daemon.post("/v1/data", read_data(file)))


@command()
@click.argument("data")
def storedata(daemon: Daemon, data: str) -> None:
    """Hand in DATA itself, as the first releases took it; `put` takes a file."""
    content = data.encode("utf-8", "surrogateescape")
    if len(content) > MAX_BYTES:
        refusal = Refusal.TOO_LARGE
        fail(refusal.exit_code, f"the data has more than {MAX_BYTES} bytes", refusal.hint)
    daemon.show(daemon.post("/v1/data", content))


def read_data(file: Path) -> bytes:
    """The data of a name in ``file``; ends the program where it cannot be read or is too large."""
    refusal = Refusal.TOO_LARGE
    return read_file(file, MAX_BYTES, refusal.exit_code, refusal.hint)


@command()
@with_name
def whois(daemon: Daemon, name: str) -> None:
    """Tell who owns NAME, since when, until when, and the hash of its data."""
    page = daemon.get(page_path("/v1/names/{}", name))
    record = daemon.get(page_path("/v1/blockchains/bitcoin/names/{}", page["name"]))
    daemon.show(
        {
            "name": page["name"],
            "status": page["status"],
            "block_preordered_at": record["preorder_block_number"],
            "block_registered_at": record["first_registered"],
            "block_renewed_at": record["last_renewed"],
            "expire_block": page["expire_block"],
            "expires_about": page.get("expires_about"),
            "renewal_deadline": page["renewal_deadline"],
            "grace_period": page["grace_period"],
            "has_zonefile": page["zonefile_hash"] is not None,
            "zonefile_hash": page["zonefile_hash"],
            "last_transaction_id": page["last_txid"],
            "owner_address": page["address"],
            "owner_script": record["sender"],
        }
    )


@command()
@with_name
def availability(daemon: Daemon, name: str) -> None:
    """Tell whether NAME can be registered now, at what price, and if not, why and until when."""
    status, page = daemon.try_asking("GET", page_path("/v1/names/{}", name), None)
    if status == 200:
        until = page["renewal_deadline"]
        when = "for ever" if until is None else f"until block {until}"
        verb = "was revoked and cannot be had" if page["status"] == "revoked" else "is taken"
        answer = {
            "name": page["name"],
            "available": False,
            "status": page["status"],
            "until_block": until,
            "reason": f"{page['name']} {verb} {when}",
        }
    elif page.get("status") == "available":
        priced = daemon.get(page_path("/v1/prices/names/{}", name))["name_price"]
        answer = {
            "name": daemon.whole_name(name),
            "available": True,
            "status": "available",
            "price_satoshis": priced["satoshis"],
            "reason": page["error"],
        }
    else:
        daemon.refused(page)
    daemon.show(answer)


@command()
@with_name
def price(daemon: Daemon, name: str) -> None:
    """Print what registering or renewing NAME costs, without the miner's fee."""
    daemon.show(daemon.get(page_path("/v1/prices/names/{}", name)))


@command()
@click.argument("namespace")
def namespace_price(daemon: Daemon, namespace: str) -> None:
    """Print what opening NAMESPACE costs, without the miner's fee."""
    daemon.show(daemon.get(page_path("/v2/prices/namespaces/{}", namespace)))


@command()
@click.option("--namespace", help="Only the names in this namespace.")
@click.option("--owner", metavar="ADDRESS", help="Only the names of this address.")
@click.option("--mine", is_flag=True, help="Only the names of the daemon's own wallet.")
@click.option(
    "--expiring",
    type=TimeSpan(),
    metavar="SPAN",
    help="Only names that lapse within this time, such as 60d or 2w; the soonest first.",
)
@click.option("--all", "everything", is_flag=True, help="Also names that lapsed or were revoked.")
@click.option("--page", type=click.IntRange(0, 10**6), default=0, show_default=True)
def names(
    daemon: Daemon,
    namespace: str | None,
    owner: str | None,
    mine: bool,
    expiring: float | None,
    everything: bool,
    page: int,
) -> None:
    """List names, a hundred a page.

    With --expiring each comes with the block and the date about which it lapses.
    """
    if mine and (owner is not None or everything):
        word = "--owner" if owner is not None else "--all"
        fail(refusals.USAGE, f"--mine and {word} do not go together", "leave one of them away")
    if mine or expiring is not None:
        days = None if expiring is None else f"{expiring / 86_400:.6g}"
        asked = {"expiring": days, "page": page or None, "namespace": namespace, "address": owner}
        path = "/v1/registrar/names" if mine else "/v1/names"
        daemon.show(daemon.get(page_path(path, **asked), secret=mine), _expiring_lines)
        return
    if owner is not None:
        path = page_path("/v1/addresses/bitcoin/{}", owner, all=everything)
    elif namespace is not None:
        path = page_path("/v1/namespaces/{}/names", namespace, page=page, all=everything)
    else:
        path = page_path("/v1/names", page=page, all=everything)
    answer = daemon.get(path)
    daemon.show(answer["names"] if isinstance(answer, dict) else answer)


def _expiring_lines(answer: Any) -> Lines:
    found = answer["names"] if isinstance(answer, dict) else answer
    if not found:
        return ["None."]
    told = ("name", "phase", "expire_block", "expires_about", "renewal_deadline", "gone_about")
    heading = ("NAME", "IS", "EXPIRES AT", "ABOUT", "GONE AT", "ABOUT")
    return table(heading, [tuple(one[key] for key in told) for one in found])


@command()
@click.argument("address")
@click.option("--all", "everything", is_flag=True, help="Also names that lapsed or were revoked.")
def owned(daemon: Daemon, address: str, everything: bool) -> None:
    """List the names that ADDRESS owns."""
    path = page_path("/v1/addresses/bitcoin/{}", address, all=everything)
    daemon.show(daemon.get(path), lambda answer: answer["names"] or ["None."])


@command()
@with_name
@click.option("--refused", is_flag=True, help="Every operation about it, with why it was refused.")
@click.option("--page", type=click.IntRange(0, 1000), default=0, show_default=True)
def history(daemon: Daemon, name: str, refused: bool, page: int) -> None:
    """Print what became of NAME, operation by operation."""
    if refused:
        answer = daemon.get(page_path("/v1/names/{}/verdicts", name))
        daemon.show(answer, lambda said: _verdict_lines(said["verdicts"]))
        return
    daemon.show(daemon.get(page_path("/v1/names/{}/history", name, page=page)), _history_lines)


def _history_lines(answer: Mapping[str, Any]) -> Lines:
    rows = [
        (state["block_id"], state["opcode"], state["address"], state["value_hash"], state["txid"])
        for height in sorted(answer, key=int)
        for state in answer[height]
    ]
    return table(("BLOCK", "OP", "OWNER", "VALUE HASH", "TXID"), rows)


@command()
@click.argument("height", type=HEIGHT)
@click.option("--page", type=click.IntRange(0, 1000), default=0, show_default=True)
def operations(daemon: Daemon, height: int, page: int) -> None:
    """Print the operations of the block at HEIGHT, refused ones too."""
    path = "/v1/blockchains/bitcoin/operations/{}"
    path = page_path(path, str(height), page=page or None, all=True)
    answer = daemon.get(path)
    daemon.show(
        answer,
        lambda said: _verdict_lines(said["operations"] if isinstance(said, dict) else said),
    )


def _verdict_lines(verdicts: Any) -> Lines:
    rows = [
        (one["height"], one["opcode"], one["subject"], one["reason"] or "accepted", one["txid"])
        for one in verdicts
    ]
    return table(("BLOCK", "OP", "ABOUT", "VERDICT", "TXID"), rows)


@command()
@click.argument("height", type=HEIGHT, required=False)
def consensus(daemon: Daemon, height: int | None) -> None:
    """Print the consensus hash of the block at HEIGHT, or of the last one."""
    path = "/v1/blockchains/bitcoin/consensus" + ("" if height is None else f"/{height}")
    answer = daemon.get(path)
    daemon.show(
        {"block_height": answer.get("height", height), "consensus": answer["consensus_hash"]}
        | {key: answer[key] for key in ("computed_here", "consensus_frozen_at") if key in answer}
    )


@command()
def getinfo(daemon: Daemon) -> None:
    """Print what blockstored knows: heights, consensus hash, node, peers, counts."""
    daemon.show(daemon.get("/v1/info"))


@command()
def status(daemon: Daemon) -> None:
    """Say in a few lines how blockstored is; exit code 10 where it does not follow the chain."""
    from resolver.words import status_lines

    info = daemon.get("/v1/info")
    index = info["index"]
    short = {
        "state": index["state"],
        "height": index["height"],
        "node_height": info["node"]["height"],
        "consensus": info["consensus"],
        "names": info["names"],
        "network": info["network"],
        "peers": info["dht"]["peers"],
        "error": info["node"]["error"],
    }
    daemon.show(short, lambda _: map(daemon.door.completed, status_lines(info["pid"], info)))
    if not index["caught_up"] or index["state"] not in ("following", "catching up"):
        sys.exit(Refusal.INDEX_BEHIND.exit_code)


@command()
def ping(daemon: Daemon) -> None:
    """Ask whether blockstored is alive."""
    daemon.show(daemon.get("/v1/ping"))


@command()
def config(daemon: Daemon) -> None:
    """Print where this command asks."""
    daemon.show(
        {
            "daemon": daemon.place,
            "timeout": daemon.timeout,
            "output": {None: "by terminal", True: "text", False: "json"}[daemon.human],
        },
        described,
    )


COMMANDS = (
    lookup,
    get,
    put,
    whois,
    availability,
    price,
    namespace_price,
    names,
    owned,
    history,
    operations,
    consensus,
    getinfo,
    status,
    ping,
    config,
)
FORMER_NAMES = {"getdata": get, "storedata": storedata, "cost": price, "info": getinfo}
"""What the first releases called some of them: they work still, and are not listed."""
