"""Who is trusted when a proof is checked: a hash that was given, one's own daemon, or the rules.

What must stay true: whatever decides comes from here, and nothing from the daemon that gave the
proof; a daemon of one's own that does not know the present decides nothing.
"""

from indexer.networks import Network
from resolver import refusals
from resolver.cli.asking import Daemon, fail
from resolver.cli.names import page_path
from resolver.cli.verified import Newest, Trusted
from resolver.cli.which_daemon import AtPort
from resolver.process.places import NETWORKS
from resolver.refusals import Refusal


class OwnSide:
    """A daemon that is trusted: its consensus hash, and what it says came last."""

    def __init__(self, place: tuple[str, int], timeout: float) -> None:
        """Ends the program where it cannot be asked or does not know the present."""
        self.daemon = Daemon(AtPort(*place), timeout)
        self.place = self.daemon.place
        info = self.daemon.get("/v1/info")
        try:
            self.network, index = str(info["network"]), info["index"]
            self.height, caught_up = int(index["height"]), bool(index["caught_up"])
            self.first_block = int(info["first_block"]) if "first_block" in info else None
        except (KeyError, TypeError, ValueError):
            self.daemon.nonsense()
        if self.network not in NETWORKS:
            self.daemon.nonsense()
        if not caught_up:
            refusal = Refusal.INDEX_BEHIND
            sentence = f"{self.place} has not caught up with the chain, or its node is away"
            fail(refusal.exit_code, sentence, refusal.hint)

    def trusted(self, height: int | None) -> Trusted:
        """Its consensus hash of a block, or of the last one that has a recorded hash."""
        path = "/v1/blockchains/bitcoin/consensus"
        try:
            said = self.daemon.get(path if height is None else f"{path}/{height}")
            if said["consensus_hash"] is None and height is None:
                said = self.daemon.get(f"{path}/{int(said['consensus_frozen_at'])}")
            if said["consensus_hash"] is None:
                fail(
                    refusals.NOT_PROVEN,
                    f"{self.place} knows no recorded hash there",
                    "name an earlier one",
                )
            digest = bytes.fromhex(said["consensus_hash"])
            return Trusted(int(said["height"]), digest, f"{self.place} says so")
        except (KeyError, TypeError, ValueError):
            self.daemon.nonsense()

    def newest(self, name: str) -> Newest:
        """What it knows to be the last operation of ``name``."""
        path = page_path("/v1/blockchains/bitcoin/names/{}", name)
        status, said = self.daemon.try_asking("GET", path, None)
        if "stale" in said:
            refusal = Refusal.INDEX_BEHIND
            sentence = f"{self.place} does not know the present itself: {said['stale']}"
            fail(refusal.exit_code, sentence, "see that its Bitcoin node runs, then try again")
        if status == 200 and isinstance(said.get("txid"), str):
            return Newest(self.height, said["txid"])
        if said.get("code") != Refusal.NOT_REGISTERED.name.lower():
            self.daemon.refused(said)
        return Newest(self.height, None)


def trusted_hash(
    own: OwnSide | None, network: Network, consensus: str | None, height: int | None
) -> Trusted:
    """The consensus hash that decides. Ends the program where there is none."""
    if consensus is not None:
        if height is None:
            hint = "add --height HEIGHT, as whoever gave you the hash has it"
            fail(refusals.USAGE, "--consensus needs the block it is of", hint)
        return Trusted(height, bytes.fromhex(consensus), "it was given")
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
