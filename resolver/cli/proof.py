"""``blockstore-cli prove`` and ``verify``: a name from anybody, checked by oneself.

What must stay true: the daemon that is asked is believed nothing. What decides is one consensus
hash, from the command line, from a daemon of one's own, or published with the rules.
"""

import base64
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resolver import refusals
from resolver.cli.asking import Daemon, Json, Lines, PrintingCommand, described, fail
from resolver.cli.names import page_path, read_data
from resolver.cli.which_daemon import AtPort
from resolver.process.places import NETWORKS

if TYPE_CHECKING:
    from indexer.networks import Network
    from resolver.cli.verified import Trusted, VerifiedName

NOT_PROVEN = refusals.NOT_PROVEN


@click.command(cls=PrintingCommand)
@click.argument("name")
@click.option("--height", type=click.IntRange(0, 2**32 - 2), help="The name as of this block.")
@click.option(
    "--under", type=click.IntRange(0, 2**32 - 2), help="Prove it under this block's hash."
)
@click.pass_obj
def prove(daemon: Daemon, name: str, height: int | None, under: int | None) -> None:
    """Print a proof of the last operation of NAME, for somebody who trusts one consensus hash.

    What it shows is checked by `blockstore-cli verify NAME --proof FILE --consensus HASH`.
    """
    path = page_path("/v1/names/{}/proof", name, height=height, under=under)
    answer = daemon.get(path)
    daemon.show(answer, lambda said: [json.dumps(said)])


@click.command(cls=PrintingCommand)
@click.argument("name")
@click.option("--consensus", metavar="HASH", help="A consensus hash that you trust.")
@click.option("--height", type=click.IntRange(0, 2**32 - 2), help="The block that HASH is of.")
@click.option(
    "--trust", metavar="HOST:PORT", help="Ask this daemon, your own, for the consensus hash."
)
@click.option(
    "--network",
    type=click.Choice(NETWORKS),
    help="The network of the name; by default the one that the daemon says.",
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
@click.pass_obj
def verify(
    daemon: Daemon,
    name: str,
    consensus: str | None,
    height: int | None,
    trust: str | None,
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
    asked of anybody. Exit code 16 where the proof or the data is not what it should be.
    """
    from indexer.networks import NETWORKS
    from resolver.api.value import chain_name
    from resolver.refusals import Refused

    try:
        name = chain_name(name)
    except Refused as refused:
        fail(refused.refusal.exit_code, refused.sentence, refused.hint)
    asked = network or (None if proof_file else str(daemon.get("/v1/info").get("network")))
    chain = NETWORKS.get(asked or _network_of(proof_file))
    if chain is None:
        fail(refusals.USAGE, f"there is no network {asked!r}", "name it with --network")
    trusted = _trusted(daemon, chain, consensus, height, trust)
    shown = _shown(daemon, name, trusted, chain, proof_file)
    data = _data(daemon, shown, data_file)
    if bitcoin_node is not None:
        _look_up(bitcoin_node, bitcoin_cookie, shown)
    if raw:
        if data is None:
            fail(7, f"{name} announced no data", "its owner announces data by an update")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    daemon.show(_report(shown, trusted, data, bitcoin_node), _lines)


def _network_of(proof_file: Path | None) -> str:
    """The network that a proof on file says it is of; checking says whether that is true."""
    try:
        found = json.loads(_on_file(proof_file)) if proof_file else {}
        return str(found.get("proof", found).get("network"))
    except (ValueError, AttributeError, RecursionError):
        return "None"


def _trusted(
    daemon: Daemon, network: "Network", consensus: str | None, height: int | None, trust: str | None
) -> "Trusted":
    from resolver.cli.verified import Trusted

    if consensus is not None:
        try:
            digest = bytes.fromhex(consensus)
        except ValueError:
            digest = b""
        if len(consensus) != 32 or len(digest) != 16:
            fail(refusals.USAGE, f"--consensus {consensus[:80]!r} is not 32 hex digits", "check it")
        if height is None:
            fail(refusals.USAGE, "--consensus needs the block it is of", "add --height HEIGHT")
        return Trusted(height, digest, "it was given")
    if trust is not None:
        host, colon, port = trust.rpartition(":")
        if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            fail(
                refusals.USAGE, f"--trust {trust[:80]!r} is not HOST:PORT", "such as 127.0.0.1:6264"
            )
        own = Daemon(AtPort(host.strip("[]"), int(port)), daemon.timeout)
        path = "/v1/blockchains/bitcoin/consensus" + ("" if height is None else f"/{height}")
        said = own.get(path)
        if said["consensus_hash"] is None:
            fail(NOT_PROVEN, f"{trust} knows no recorded hash there", "name an earlier --height")
        return Trusted(
            int(said["height"]), bytes.fromhex(said["consensus_hash"]), f"{trust} says so"
        )
    if height is None and network.checkpoints:
        height = max(network.checkpoints)
    published = network.checkpoints.get(height if height is not None else -1)
    if height is None or published is None:
        fail(
            refusals.USAGE,
            f"no consensus hash of {network.name} is published with the rules for this",
            "give --consensus HASH --height HEIGHT, or --trust HOST:PORT of a daemon of your own",
        )
    return Trusted(height, published, "it is published with the rules")


def _shown(
    daemon: Daemon, name: str, trusted: "Trusted", network: "Network", proof_file: Path | None
) -> "VerifiedName":
    from indexer.protocol.proofs import BadProof, read_proof
    from resolver.cli.verified import verify_name

    if proof_file is None:
        answer = daemon.get(page_path("/v1/names/{}/proof", name, under=trusted.height))
        text = json.dumps(answer.get("proof"))
    else:
        text = _on_file(proof_file)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and "proof" in found:  # as `prove` prints it
            text = json.dumps(found["proof"])
    try:
        return verify_name(read_proof(text), name, trusted, network)
    except BadProof as error:
        where = daemon.place if proof_file is None else str(proof_file)
        fail(
            NOT_PROVEN,
            f"the proof of {name} from {where} proves nothing: {error}",
            "ask another daemon; this one is wrong, or on another chain than your hash",
        )


def _on_file(file: Path) -> str:
    try:
        with file.open("rb") as source:
            return source.read(2**20).decode("utf-8", "replace")
    except OSError as error:
        fail(refusals.USAGE, f"{file} cannot be read ({error.strerror})", "check the path")


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
        encoded = answer.get("zonefile_base64")
        try:
            data = base64.b64decode(encoded) if encoded else str(answer["zonefile"]).encode()
        except (KeyError, ValueError, TypeError):
            daemon.nonsense()
    try:
        verify_data(shown, data)
    except BadProof as error:
        fail(NOT_PROVEN, f"{where} gave false data: {error}", "ask another daemon for the data")
    return data


def _look_up(url: str, cookie: Path | None, shown: "VerifiedName") -> None:
    from indexer.node.node import BitcoinNode, NodeError

    if "@" in url:
        fail(
            refusals.USAGE,
            "a password on a command line is seen by everybody on the machine",
            "give --bitcoin-cookie, or BLOCKSTORE_NODE_USER and BLOCKSTORE_NODE_PASSWORD",
        )
    user, password = map(os.environ.get, ("BLOCKSTORE_NODE_USER", "BLOCKSTORE_NODE_PASSWORD"))
    try:
        node = BitcoinNode(url, user=user, password=password, cookie_file=cookie)
        found: Any = node.call("getrawtransaction", shown.txid, True)
        block: Any = node.call("getblockheader", found.get("blockhash"))
    except NodeError as error:
        fail(NOT_PROVEN, f"{shown.txid} was not found: {error}", "the node needs txindex=1")
    except ValueError as error:
        fail(refusals.USAGE, str(error), "write http://HOST:PORT")
    if not isinstance(block, dict) or block.get("confirmations", 0) < 1:
        fail(NOT_PROVEN, f"{shown.txid} is in no block of this node", "wait for its confirmation")
    if block.get("height") != shown.height:
        fail(
            NOT_PROVEN,
            f"{shown.txid} is in block {block.get('height')}, and the proof says {shown.height}",
            "ask another daemon",
        )


def _report(
    shown: "VerifiedName", trusted: "Trusted", data: bytes | None, node: str | None
) -> Json:
    report: Json = {
        "verified": True,
        "name": shown.name,
        "owner_address": shown.address,
        "owner_script": shown.sender,
        "revoked": shown.revoked,
        "zonefile_hash": shown.value_hash,
        "operation": shown.operation,
        "txid": shown.txid,
        "block_height": shown.height,
        "height_proven": shown.height_proven or node is not None,
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


COMMANDS: tuple[tuple[click.Command, str], ...] = ((prove, "prove"), (verify, "verify"))
