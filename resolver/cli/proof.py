"""``blockstore-cli prove`` and ``verify``: a name from anybody, checked by oneself.

What must stay true: the daemon that is asked is believed nothing, not even of which network it is.
What decides is one consensus hash, from the command line, from a daemon of one's own, or published
with the rules; and what is over is never said to be so.
"""

import base64
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from resolver import refusals
from resolver.cli.asking import Daemon, Json, Lines, PrintingCommand, described, fail, whole_name
from resolver.cli.names import page_path, read_data
from resolver.cli.which_daemon import AtPort
from resolver.process.places import NETWORKS
from resolver.refusals import Refusal
from resolver.words import CONSENSUS_HEX

if TYPE_CHECKING:
    from indexer.networks import Network
    from resolver.cli.verified import Newest, Standing, Trusted, VerifiedName

NOT_PROVEN = refusals.NOT_PROVEN
MAINNET = NETWORKS[0]


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
    asked of the other daemon.

    A proof shows that an operation is on the chain, up to the block of the hash, and until when
    the name lives if nobody renews it. It does not show that nothing came later: a daemon can give
    the proof of an older state. So the daemon of --trust is asked for the last operation, too, and
    only then, or where the operation is in the block of the hash itself, is the exit code 0. It is
    25 where a later operation was not ruled out, 24 where the trusted daemon knows of one, 5 where
    the name has expired by what is proven, 6 where it was revoked, 16 where the proof or the data
    is not what it should be. The height of an update, a transfer or a revocation is the word of
    whoever made the proof ("height proven: no"), unless --bitcoin-node confirms it.
    """
    from indexer.networks import NETWORKS as CHAINS
    from resolver.cli.verified import Standing, standing_of

    name = whole_name(name)
    own = None if trust is None else _OwnDaemon(trust, daemon.timeout)
    named = network or click.get_current_context().find_root().params.get("network")
    if own is not None and named not in (None, own.network):
        fail(refusals.USAGE, f"{trust} is of {own.network}, not of {named}", "mend --network")
    chain = CHAINS[named or (MAINNET if own is None else own.network)]
    trusted = _trusted(own, chain, consensus, height)
    shown = _shown(daemon, name, trusted, chain, proof_file)
    newest = None if own is None else own.newest(name)
    standing = standing_of(shown, trusted, newest, chain)
    is_over = standing not in (Standing.NEWEST, Standing.PAST)
    data = None if is_over else _data(daemon, shown, data_file)
    if bitcoin_node is not None:
        _look_up(bitcoin_node, bitcoin_cookie, shown)
    at = trusted.height if newest is None else max(trusted.height, newest.height)
    if not raw:
        report = _report(shown, trusted, data, bitcoin_node, standing, at, shown.ends(chain, at))
        daemon.show(report, _lines)
    elif data is not None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
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


class _OwnDaemon:
    """A daemon that is trusted: its consensus hash, and what it says came last."""

    def __init__(self, place: str, timeout: float) -> None:
        """Ends the program where it cannot be asked or does not know the present."""
        host, colon, port = place.rpartition(":")
        if not colon or not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
            fail(
                refusals.USAGE, f"--trust {place[:80]!r} is not HOST:PORT", "such as 127.0.0.1:6264"
            )
        self.daemon = Daemon(AtPort(host.strip("[]"), int(port)), timeout)
        self.place = place
        info = self.daemon.get("/v1/info")
        try:
            self.network, index = str(info["network"]), info["index"]
            self.height, caught_up = int(index["height"]), bool(index["caught_up"])
        except (KeyError, TypeError, ValueError):
            self.daemon.nonsense()
        if self.network not in NETWORKS:
            self.daemon.nonsense()
        if not caught_up:
            refusal = Refusal.INDEX_BEHIND
            fail(refusal.exit_code, f"{place} is still catching up with the chain", refusal.hint)

    def trusted(self, height: int | None) -> "Trusted":
        """Its consensus hash of a block, or of the last one that has a recorded hash."""
        from resolver.cli.verified import Trusted

        path = "/v1/blockchains/bitcoin/consensus"
        try:
            said = self.daemon.get(path if height is None else f"{path}/{height}")
            if said["consensus_hash"] is None and height is None:
                said = self.daemon.get(f"{path}/{int(said['consensus_frozen_at'])}")
            if said["consensus_hash"] is None:
                fail(
                    NOT_PROVEN, f"{self.place} knows no recorded hash there", "name an earlier one"
                )
            digest = bytes.fromhex(said["consensus_hash"])
            return Trusted(int(said["height"]), digest, f"{self.place} says so")
        except (KeyError, TypeError, ValueError):
            self.daemon.nonsense()

    def newest(self, name: str) -> "Newest":
        """What it knows to be the last operation of ``name``."""
        from resolver.cli.verified import Newest

        path = page_path("/v1/blockchains/bitcoin/names/{}", name)
        status, said = self.daemon.try_asking("GET", path, None)
        if status == 200 and isinstance(said.get("txid"), str):
            return Newest(self.height, said["txid"])
        if said.get("code") != Refusal.NOT_REGISTERED.name.lower():
            self.daemon.refused(said)
        return Newest(self.height, None)


def _trusted(
    own: _OwnDaemon | None, network: "Network", consensus: str | None, height: int | None
) -> "Trusted":
    from resolver.cli.verified import Trusted

    if consensus is not None:
        try:
            digest = bytes.fromhex(consensus)
        except ValueError:
            digest = b""
        if len(consensus) != CONSENSUS_HEX or len(digest) * 2 != CONSENSUS_HEX:
            fail(refusals.USAGE, f"--consensus {consensus[:80]!r} is not 32 hex digits", "check it")
        if height is None:
            fail(refusals.USAGE, "--consensus needs the block it is of", "add --height HEIGHT")
        return Trusted(height, digest, "it was given")
    if own is not None:
        return own.trusted(height)
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
        found: Any = daemon.get(page_path("/v1/names/{}/proof", name, under=trusted.height))
    else:
        try:
            found = json.loads(_on_file(proof_file))
        except (ValueError, RecursionError):
            found = None
    answer = found if isinstance(found, dict) else {}
    of_namespace = answer.get("namespace_proof")
    try:
        return verify_name(
            read_proof(json.dumps(answer.get("proof"))),
            None if of_namespace is None else read_proof(json.dumps(of_namespace)),
            name,
            trusted,
            network,
        )
    except BadProof as error:
        where = daemon.place if proof_file is None else str(proof_file)
        fail(
            NOT_PROVEN,
            f"the proof of {name} from {where} proves nothing: {error}",
            "ask another daemon; this one is wrong, or on another chain than your hash; the"
            " network is named with --network",
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
    shown: "VerifiedName",
    trusted: "Trusted",
    data: bytes | None,
    node: str | None,
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
        "height_proven": shown.height_proven or node is not None,
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


COMMANDS: tuple[tuple[click.Command, str], ...] = ((prove, "prove"), (verify, "verify"))
