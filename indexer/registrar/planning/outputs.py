"""The outputs of a transaction in words: what each is for, and whether it comes back.

What must stay true: every satoshi of an output is told; what is called price is paid for a name or
a namespace, and what comes back is for a script of the parties. A creator who registers a name of
their own namespace pays a price that comes back.
"""

from dataclasses import dataclass

from indexer.bitcoin.transactions import p2pkh_script, script_address
from indexer.protocol.operations import (
    Import,
    NamespacePreorder,
    NamespaceReveal,
    Operation,
    Preorder,
    Register,
    Renew,
    Transfer,
)
from indexer.protocol.view import BlockView
from indexer.registrar.planning.steps import Parties
from indexer.wallet.coins import Unsigned

SOMEBODY = p2pkh_script(b"\xff" * 20)
"""Stands for an owner whose address is made only when the job begins."""


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """One output of a step."""

    words: str
    satoshis: int
    address: str | None = None
    comes_back: bool = False
    """Whether a script of the parties can spend it."""
    is_price: bool = False
    """Whether it pays for a name or a namespace."""


def describe(
    operation: Operation, unsigned: Unsigned, parties: Parties, view: BlockView
) -> tuple[PlannedOutput, ...]:
    """The outputs of ``unsigned``, which carries ``operation``, in their order."""
    ours = {parties.sender, parties.owner, parties.funder}
    words = _meanings(operation)
    fee_at = _fee_place(operation)
    found = []
    for index, output in enumerate(unsigned.outputs):
        if index == unsigned.change:
            said = "change"
        elif index == fee_at:
            said = _price_words(output.script, view)
        else:
            said = words.get(index, "the coin that names the sender, whole")
        is_price = index == fee_at
        known = output.script != SOMEBODY
        found.append(
            PlannedOutput(
                words=said,
                satoshis=output.value,
                address=script_address(output.script, view.network) if known else None,
                comes_back=output.script in ours,
                is_price=is_price,
            )
        )
    return tuple(found)


def _fee_place(operation: Operation) -> int | None:
    match operation:
        case Preorder() | NamespacePreorder():
            return 2
        case Renew():
            return 3
    return None


def _meanings(operation: Operation) -> dict[int, str]:
    """What the outputs say that are neither price, change nor a coin on its way back."""
    words = {0: "the operation itself (OP_RETURN)"}
    match operation:
        case Register():
            words[1] = "says who owns the name"
        case Transfer():
            words[1] = "says who owns the name from then on"
        case Renew():
            words[1] = "says who owns the name still"
        case NamespaceReveal():
            words[1] = "says who imports into the namespace and opens it"
        case Import():
            words[1] = "says who owns the name"
            words[2] = "the hash of the data, written as an address that nobody can spend from"
    return words


def _price_words(script: bytes, view: BlockView) -> str:
    if script == view.network.burn_script:
        return "the price, paid to an address that nobody has the key of"
    return "the price, paid to the creator of the namespace"
