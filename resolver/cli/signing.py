"""What a transaction asks of whoever is to sign it: in lines, and beside what was agreed to.

What must stay true: keys that are read in a command sign nothing that takes more from them than the
plan which their owner has seen, unless that is shown and agreed to as well: who composes the
transaction is not believed.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from resolver import refusals
from resolver.cli.asking import fail

if TYPE_CHECKING:
    from indexer.networks import Network
    from indexer.wallet.coins import Unsigned
    from indexer.wallet.keys import KeyRing


def ring_of(file: Path, network: str, passphrase_file: Path | None = None) -> "KeyRing":
    """The keys in ``file``, whose passphrase is asked for where there is one. Ends the program
    where they cannot be read."""
    from indexer.networks import NETWORKS
    from indexer.wallet.key_storage import is_encrypted, load_keys, read_passphrase
    from indexer.wallet.signers import SignerError

    try:
        passphrase = None
        if is_encrypted(file):
            passphrase = read_passphrase(passphrase_file, "Passphrase of the keys: ")
        return load_keys(file, NETWORKS[network], passphrase)
    except SignerError as error:
        fail(refusals.USAGE, str(error), "mend that, and run it again")


def told(unsigned: "Unsigned", network: "Network") -> Iterator[str]:
    """What a transaction spends, pays, says and costs: all that its signer must know."""
    from indexer.bitcoin.transactions import op_return_payload, script_address
    from indexer.registrar.planning.plan_text import amount

    for coin in unsigned.coins:
        where = script_address(coin.script, network) or coin.script.hex()
        yield f"spends {amount(coin.value)} of {where}"
    for output in unsigned.outputs:
        payload = op_return_payload(output.script)
        if payload is not None:
            yield f"says   {payload.hex()} ({payload.decode('ascii', 'replace')})"
            continue
        where = script_address(output.script, network) or output.script.hex()
        yield f"pays   {amount(output.value)} to {where}"
    yield f"costs  {amount(unsigned.fee)} for the miner"


class Budget:
    """What may leave the keys of one command, in satoshis."""

    def __init__(self, agreed: int) -> None:
        self.agreed = agreed
        self._left: dict[object, int] = {}

    def with_this(self, unsigned: "Unsigned", scripts: Collection[bytes]) -> int:
        """What leaves the owner of ``scripts`` once this is signed, beside what was before.

        Transactions that spend the same first coin take each other's place: the dearest counts.
        """
        left = {**self._left, **self._entry(unsigned, scripts)}
        return sum(left.values())

    def signed(self, unsigned: "Unsigned", scripts: Collection[bytes]) -> None:
        """Count it."""
        self._left |= self._entry(unsigned, scripts)

    def _entry(self, unsigned: "Unsigned", scripts: Collection[bytes]) -> dict[object, int]:
        spent = sum(coin.value for coin in unsigned.coins if coin.script in scripts)
        kept = sum(output.value for output in unsigned.outputs if output.script in scripts)
        first = (unsigned.coins[0].txid, unsigned.coins[0].index)
        return {first: max(self._left.get(first, 0), spent - kept)}
