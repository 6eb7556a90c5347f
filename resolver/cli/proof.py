"""``blockstore-cli prove`` and ``verify``: a name from anybody, checked by oneself.

What must stay true: the daemon that is asked is believed nothing, not even of which network it is.
What decides is one consensus hash, from the command line, from a daemon of one's own, or published
with the rules; and what is over is never said to be so.
"""

import base64
import http
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from resolver import refusals
from resolver.cli.asking import (
    ZONES,
    Daemon,
    Json,
    Lines,
    chain_name_of,
    command,
    described,
    fail,
    read_file,
)
from resolver.cli.completing import with_name
from resolver.cli.names import data_in, page_path, read_data, write_raw
from resolver.process.places import NETWORKS
from resolver.refusals import Refusal
from resolver.terminal import CONSENSUS_HASH, HEIGHT, HostPort

if TYPE_CHECKING:
    from indexer.networks import Network
    from indexer.node.node import BitcoinNode
    from resolver.cli.verified import Newest, Standing, Trusted, VerifiedName

NOT_PROVEN = refusals.NOT_PROVEN
MAINNET = NETWORKS[0]
MAX_PROOF_BYTES = 2**20


@command()
@with_name
@click.option("--height", type=HEIGHT, help="The name as of this block.")
@click.option("--under", type=HEIGHT, help="Prove it under this block's hash.")
def prove(daemon: Daemon, name: str, height: int | None, under: int | None) -> None:
    """Print a proof of the last operation of NAME, for somebody who trusts one consensus hash.

    What it shows is checked by `blockstore-cli verify NAME --proof FILE --consensus HASH`.
    """
    path = page_path("/v1/names/{}/proof", name, height=height, under=under)
    answer = daemon.get(path)
    daemon.show(answer, lambda said: [json.dumps(said)])


@command()
@with_name
@click.option(
    "--consensus", type=CONSENSUS_HASH, metavar="HASH", help="A consensus hash that you trust."
)
@click.option("--height", type=HEIGHT, help="The block that HASH is of.")
@click.option(
    "--trust",
    type=HostPort(),
    metavar="HOST:PORT",
    help="Ask this daemon, your own, for the consensus hash.",
)
@click.option(
    "--first-block",
    type=HEIGHT,
    envvar="BLOCKSTORE_FIRST_BLOCK",
    show_envvar=True,
    help="Where the names of that network begin, if not where they begin for everybody.",
)
@click.option(
    "--network",
    type=click.Choice(NETWORKS),
    help="The network of the name; by itself that of the daemon of --trust, or else mainnet.",
)
@click.option("--proof", "proof_file", type=click.Path(path_type=Path), help="A proof on file.")
@click.option("--data", "data_file", type=click.Path(path_type=Path), help="The data on file.")
@click.option("--bitcoin-node", metavar="URL", help="Look up its transaction in this node, too.")
@click.option(
    "--bitcoin-cookie",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The cookie file of that node; else BLOCKSTORE_NODE_USER and BLOCKSTORE_NODE_PASSWORD.",
)
@click.option("--raw", is_flag=True, help="Write the verified data itself and nothing else.")
def verify(
    daemon: Daemon,
    name: str,
    consensus: str | None,
    height: int | None,
    trust: tuple[str, int] | None,
    first_block: int | None,
    network: str | None,
    proof_file: Path | None,
    data_file: Path | None,
    bitcoin_node: str | None,
    bitcoin_cookie: Path | None,
    raw: bool,
) -> None:
    """Fetch NAME from any daemon, and check it against a consensus hash that you trust.

    The hash is given with --consensus and --height, or comes from a daemon of your own (--trust),
    or else is the one published with the rules of the network. With --proof and --data nothing is
    asked of the other daemon.

    A proof shows that an operation is on the chain, up to the block of the hash, and until when the
    name lives if nobody renews it. It does not show that nothing came later: a daemon can give the
    proof of an older state. So the daemon of --trust is asked for the last operation, too, and only
    then is the exit code 0. It is 25 where a later operation was not ruled out, 24 where the
    trusted daemon knows of one, 5 where the name has expired by what is proven, 6 where it was
    revoked, 16 where the proof or the data is not what it should be. The height of an update, a
    transfer or a revocation is the word of whoever made the proof ("height proven: no"), unless
    --bitcoin-node confirms it.
    """
    from indexer.networks import NETWORKS as CHAINS
    from resolver.cli.trusted import OwnSide, trusted_hash
    from resolver.cli.verified import Standing, standing_of

    node = None if bitcoin_node is None else _node(bitcoin_node, bitcoin_cookie)
    own = None if trust is None else OwnSide(trust, daemon.timeout)
    name = chain_name_of(name, ZONES) if own is None else own.daemon.whole_name(name)
    named = network or click.get_current_context().find_root().params.get("network")
    if own is not None and named not in (None, own.network):
        fail(refusals.USAGE, f"{own.place} is of {own.network}, not of {named}", "mend --network")
    chain = CHAINS[named or (MAINNET if own is None else own.network)]
    first_block = first_block if own is None else own.first_block
    if first_block is not None:
        chain = replace(chain, first_block=first_block)
    proof = None if proof_file is None else _on_file(proof_file)
    if proof is not None and height is None and own is not None:
        height = _height_under(proof)  # the trusted daemon is asked for the hash of that block
    trusted = trusted_hash(own, chain, consensus, height)
    shown = _shown(daemon, name, trusted, chain, proof)
    newest = None if own is None else own.newest(name)
    standing = standing_of(shown, trusted, newest, chain)
    is_over = standing not in (Standing.NEWEST, Standing.PAST)
    data = None if is_over else _data(daemon, shown, data_file)
    if node is not None:
        _look_up(node, shown)
    at = trusted.height if newest is None else max(trusted.height, newest.height)
    if not raw:
        report = _report(
            shown, trusted, data, node is not None, standing, at, shown.ends(chain, at)
        )
        daemon.show(report, _lines)
    elif data is not None:
        write_raw(data)
    elif not is_over:
        fail(Refusal.NO_DATA.exit_code, f"{name} announced no data", Refusal.NO_DATA.hint)
    if standing is not Standing.NEWEST:
        _say_why_not(standing, shown, trusted, newest, at)


def _say_why_not(
    standing: "Standing",
    shown: "VerifiedName",
    trusted: "Trusted",
    newest: "Newest | None",
    at: int,
) -> NoReturn:
    """End the program with what keeps a proven state from being believed of the present."""
    from resolver.cli.verified import Standing

    name, of_block = shown.name, f"block {shown.height}"
    if standing is Standing.SUPERSEDED:
        known = newest.txid if newest is not None else None
        says = f"{known} was the last operation" if known else "the name is not registered"
        fail(
            refusals.SUPERSEDED,
            f"what is proven of {name} is of {of_block} and is over: by the trusted daemon, at"
            f" block {at} {says}",
            "ask another daemon; this one gave an old state",
        )
    if standing is Standing.EXPIRED:
        refusal = Refusal.EXPIRED
        fail(
            refusal.exit_code,
            f"by what is proven, {name} expired before block {at}, if nobody renewed it",
            refusal.hint,
        )
    if standing is Standing.REVOKED:
        refusal = Refusal.REVOKED
        fail(refusal.exit_code, f"{name} was revoked by {shown.txid}", refusal.hint)
    fail(
        refusals.PERHAPS_OVER,
        f"what is proven of {name} is of {of_block}; nothing shows that nothing came after it, up"
        f" to block {trusted.height} or later",
        "give --trust HOST:PORT of a daemon of your own, which says what came last",
    )


def _on_file(file: Path) -> Json:
    try:
        found = json.loads(read_file(file, MAX_PROOF_BYTES))
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _shown(
    daemon: Daemon, name: str, trusted: "Trusted", network: "Network", proof: Json | None
) -> "VerifiedName":
    """What the ``proof`` on file shows of ``name``, or else one of the daemon that is asked."""
    from indexer.protocol.proofs import BadProof, read_proof
    from resolver.cli.verified import verify_name

    found = proof
    if found is None:
        path = page_path("/v1/names/{}/proof", name, under=trusted.height)
        status, found = daemon.try_asking("GET", path, None)
        if status != http.HTTPStatus.OK:
            hint = _other_network(daemon, name, network) or found.get("hint")
            daemon.refused({**found, "hint": hint})
    of_namespace = found.get("namespace_proof")
    try:
        return verify_name(
            read_proof(json.dumps(found.get("proof"))),
            None if of_namespace is None else read_proof(json.dumps(of_namespace)),
            name,
            trusted,
            network,
        )
    except BadProof as error:
        if proof is None:
            where = daemon.place
            hint = _other_network(daemon, name, network) or (
                "ask another daemon; this one is wrong, or on another chain than your hash; the"
                " network is named with --network"
            )
        else:
            where, under = "the file", _height_under(proof)
            hint = "have it made anew; the network is named with --network"
            if under not in (None, trusted.height):
                hint = (
                    f"the proof is made under the hash of block {under}, and the trusted one is of"
                    f" block {trusted.height} ({trusted.source}): give --trust HOST:PORT of a"
                    f" daemon of your own, or --height {under} --consensus HASH from whom you trust"
                    f" (and --network, if it is not of {network.name})"
                )
        fail(NOT_PROVEN, f"the proof of {name} from {where} proves nothing: {error}", hint)


def _height_under(proof: Json) -> int | None:
    """The block whose consensus hash a proof on file says that it is made under."""
    under = proof.get("under")
    height = under.get("height") if isinstance(under, dict) else None
    return height if isinstance(height, int) and 0 <= height < 2**32 else None


def _other_network(daemon: Daemon, name: str, network: "Network") -> str:
    """What to do where the daemon that is asked says that it is of another network; "" where it
    does not. It is not believed: whoever asks has to name that network."""
    status, info = daemon.try_asking("GET", "/v1/info", None)
    said = info.get("network") if status == http.HTTPStatus.OK else None
    if said == network.name or said not in NETWORKS:
        return ""
    api = info.get("addresses", {}).get("api", {})
    trust = f"{api['host']}:{api['port']}" if api else "HOST:PORT"
    return (
        f"{daemon.place} is of {said}, and {name} was looked for on {network.name}:"
        f" `blockstore-cli verify {name} --network {said} --trust {trust}`, with a daemon of your"
        " own there"
    )


def _data(daemon: Daemon, shown: "VerifiedName", data_file: Path | None) -> bytes | None:
    from indexer.protocol.proofs import BadProof
    from resolver.cli.verified import verify_data

    if data_file is not None:
        data, where = read_data(data_file), str(data_file)
    elif shown.value_hash is None:
        return None
    else:
        where = daemon.place
        path = page_path("/v1/names/{}/zonefile/{}", shown.name, shown.value_hash)
        answer = daemon.get(path)
        try:
            data = data_in(answer, "zonefile")
        except (KeyError, ValueError, TypeError):
            daemon.nonsense()
    try:
        verify_data(shown, data)
    except BadProof as error:
        fail(NOT_PROVEN, f"{where} gave false data: {error}", "ask another daemon for the data")
    return data


def _node(url: str, cookie: Path | None) -> "BitcoinNode":
    """The node in which transactions are looked up; ends the program where none can be meant."""
    from indexer.node.node import BitcoinNode

    if "@" in url:
        fail(
            refusals.USAGE,
            "a password on a command line is seen by everybody on the machine",
            "give --bitcoin-cookie, or BLOCKSTORE_NODE_USER and BLOCKSTORE_NODE_PASSWORD",
        )
    user, password = map(os.environ.get, ("BLOCKSTORE_NODE_USER", "BLOCKSTORE_NODE_PASSWORD"))
    try:
        return BitcoinNode(url, user=user, password=password, cookie_file=cookie)
    except ValueError as error:
        fail(refusals.USAGE, str(error), "write http://HOST:PORT")


def _look_up(node: "BitcoinNode", shown: "VerifiedName") -> None:
    from indexer.node.failures import NodeError

    try:
        found: Any = node.call("getrawtransaction", shown.txid, True)
        block: Any = node.call("getblockheader", found.get("blockhash"))
    except NodeError as error:
        fail(NOT_PROVEN, f"{shown.txid} was not found: {error}", "the node needs txindex=1")
    if not isinstance(block, dict) or block.get("confirmations", 0) < 1:
        fail(NOT_PROVEN, f"{shown.txid} is in no block of this node", "wait for its confirmation")
    if block.get("height") != shown.height:
        fail(
            NOT_PROVEN,
            f"{shown.txid} is in block {block.get('height')}, and the proof says {shown.height}",
            "ask another daemon",
        )


def _report(
    shown: "VerifiedName",
    trusted: "Trusted",
    data: bytes | None,
    in_node: bool,
    standing: "Standing",
    at: int,
    ends: tuple[int | None, int | None],
) -> Json:
    from resolver.cli.verified import Standing

    report: Json = {
        "verified": standing is Standing.NEWEST,
        "standing": standing.value,
        "as_of_block": shown.height if standing is Standing.PAST else at,
        "name": shown.name,
        "owner_address": shown.address,
        "owner_script": shown.sender,
        "revoked": shown.revoked,
        "zonefile_hash": shown.value_hash,
        "operation": shown.operation,
        "txid": shown.txid,
        "block_height": shown.height,
        "height_proven": shown.height_proven or in_node,
        "expire_block": ends[0],
        "renewal_deadline": ends[1],
        "under": {
            "block_height": trusted.height,
            "consensus_hash": trusted.consensus_hash.hex(),
            "trusted_because": trusted.source,
        },
    }
    if data is not None:
        try:
            report["data"] = data.decode("utf-8")
        except UnicodeDecodeError:
            report["data_base64"] = base64.b64encode(data).decode("ascii")
    return report


def _lines(report: Any) -> Lines:
    shown = {key: value for key, value in report.items() if key not in ("data", "data_base64")}
    yield from described(shown)
    for key in ("data", "data_base64"):
        if key in report:
            yield f"{key.replace('_', ' ')}:"
            yield from (f"    {line}" for line in report[key].splitlines())


COMMANDS = (prove, verify)
