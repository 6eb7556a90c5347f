"""Who signs for the registrar by the settings, and who signs elsewhere by the names of jobs.

What must stay true: a name of a signer, as journals keep it, gives the same signer after a restart,
and tells addresses and scripts, never a key.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexer.bitcoin.transactions import address_script, script_address
from indexer.networks import Network
from indexer.node.node import BitcoinNode
from indexer.registrar.work.payers import Purse
from indexer.wallet.key_signers import KeyFile, Offline
from indexer.wallet.key_storage import is_encrypted, load_keys, read_passphrase
from indexer.wallet.node_coins import NodeCoins
from indexer.wallet.node_wallet import NodeWallet

OWN = "own"
"""The signer of the settings."""
_OFFLINE = "offline"
_REDEEM = "redeem:"


@dataclass(frozen=True)
class Signing:
    """Who signs for this daemon: the ``node`` (its wallet of that name, where it has more than
    one), a ``key-file``, or ``nobody``."""

    signer: Literal["node", "key-file", "nobody"] = "node"
    node_wallet: str | None = None
    key_file: Path | None = None
    key_passphrase_file: Path | None = None


class Signers(Mapping[str, Purse]):
    """Every signer by its name: ``own``, or ``offline ADDRESS ... redeem:HEX ...``."""

    def __init__(
        self,
        signing: Signing,
        node: BitcoinNode,
        network: Network,
        in_use: Callable[[bytes], bool],
    ) -> None:
        """Raises ``SignerError`` where the keys of the settings cannot be read."""
        self._node = node
        self._network = network
        self._in_use = in_use
        self._source = NodeCoins(node, NodeWallet(node, network, signing.node_wallet))
        self._made: dict[str, Purse] = {}
        if signing.signer == "node":
            self._made[OWN] = NodeWallet(node, network, signing.node_wallet, in_use)
        elif signing.signer == "key-file":
            assert signing.key_file is not None, "checked with the settings"
            passphrase = None
            if is_encrypted(signing.key_file):
                passphrase = read_passphrase(signing.key_passphrase_file)
            ring = load_keys(signing.key_file, network, passphrase)
            self._made[OWN] = KeyFile(ring, node, network, self._source, in_use)

    def __getitem__(self, name: str) -> Purse:
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._offline(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def _offline(self, name: str) -> Purse:
        word, *rest = name.split()
        if word != _OFFLINE:
            raise KeyError(name)
        try:
            redeem_scripts = [
                bytes.fromhex(one.removeprefix(_REDEEM)) for one in rest if one.startswith(_REDEEM)
            ]
            scripts = [
                address_script(one, self._network) for one in rest if not one.startswith(_REDEEM)
            ]
            return Offline(
                scripts, self._node, self._network, self._source, redeem_scripts, self._in_use
            )
        except ValueError:
            raise KeyError(name) from None


def offline_name(
    scripts: Sequence[bytes], redeem_scripts: Sequence[bytes], network: Network
) -> str:
    """What somebody is called who signs elsewhere for these scripts."""
    addresses = (script_address(script, network) or "" for script in dict.fromkeys(scripts))
    return " ".join((_OFFLINE, *addresses, *(f"{_REDEEM}{one.hex()}" for one in redeem_scripts)))
