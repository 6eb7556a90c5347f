"""What a person should know before a plan is carried out, though nothing forbids it.

What must stay true: each is a whole sentence with its values, and is said only where it is true.
"""

from collections.abc import Iterator

from indexer.bitcoin.transactions import script_address
from indexer.networks import (
    BLOCKS_PER_YEAR,
    CONSENSUS_WINDOW,
    MAX_NAMES_PER_SENDER,
)
from indexer.protocol.records import status_at
from indexer.protocol.view import BlockView
from indexer.registrar.planning import wishes
from indexer.registrar.planning.dates import Tip, when
from indexer.registrar.planning.quote import name_payment
from indexer.registrar.planning.steps import Parties, newest_consensus
from indexer.registrar.planning.wishes import Wish
from indexer.wallet.coins import RELAY_DUST

_FEW_BLOCKS = 10


def cautions(wish: Wish, parties: Parties, view: BlockView, tip: Tip) -> tuple[str, ...]:
    """What to say of ``wish`` in the block of ``view``, the weightiest first."""
    found = [*_about_the_wish(wish, parties, view, tip), *_about_owner(wish, parties, view)]
    if view.epoch.second_ledger:
        found.append(
            f"from block {(view.network.frozen_at or 0) + 1} on, payments in another ledger decide "
            "too, which this index does not follow: it says what holds by bitcoin alone, and "
            "other software may say otherwise, also of this transaction"
        )
    newest = newest_consensus(view)
    if newest is not None and (left := newest[0] + CONSENSUS_WINDOW - view.last) < _FEW_BLOCKS:
        found.append(
            f"the index lags behind the node, so this must be mined within {left} blocks; a higher "
            "fee makes that likelier"
        )
    return tuple(found)


def _about_the_wish(wish: Wish, parties: Parties, view: BlockView, tip: Tip) -> Iterator[str]:
    match wish:
        case wishes.RegisterName():
            yield (
                "the price is paid with the preorder; should somebody else register the name "
                "before you do, it is lost"
            )
            if name_payment(wish.name, view, view.height + 1).price < RELAY_DUST:
                yield f"{RELAY_DUST} satoshis are paid, for nodes relay no smaller output"
            if wish.value_hash is None:
                yield f"{wish.name} holds no data until it is updated, and answers nothing"
        case wishes.UpdateName():
            record = view.name(wish.name)
            if record is not None and record.value_hash == wish.value_hash:
                yield f"{wish.name} holds this very data already"
            yield from _about_expiry(wish.name, view, tip)
        case wishes.TransferName():
            if wish.recipient == view.network.burn_script:
                yield f"nobody has the key of the new owner: {wish.name} would be lost"
            yield f"only the new owner can give {wish.name} back"
            if not wish.keep_data:
                yield f"{wish.name} holds no data until its new owner updates it"
            yield from _about_expiry(wish.name, view, tip)
        case wishes.RenewName():
            yield from _about_renewal(wish.name, view)
        case wishes.RevokeName():
            yield (
                f"nothing takes a revocation back: {wish.name} holds no data and cannot be "
                "updated, transferred or renewed any more"
            )
        case wishes.PreorderNamespace():
            sender = script_address(parties.sender, view.network)
            revealer = script_address(wish.revealer, view.network)
            yield (
                f"the reveal must be sent from {sender} as well, and must name {revealer} as its "
                "revealer; otherwise the price is lost"
            )
        case wishes.RevealNamespace():
            lapses = view.height + view.network.namespace_reveal_expire
            yield (
                f"unless it is opened before {when(lapses, tip, view.network)}, the namespace "
                "lapses with all names imported into it"
            )
            if wish.version == 2:
                until = when(view.height + BLOCKS_PER_YEAR, tip, view.network)
                payee = script_address(parties.sender, view.network)
                yield f"until {until} its names are paid to {payee}; from then on to nobody"
        case wishes.ReadyNamespace():
            yield "nothing can be imported into an open namespace, and its terms never change"
        case wishes.ImportName():
            namespace = view.namespace(wish.name.partition(".")[2])
            if namespace is not None:
                lapses = namespace.reveal_block + view.network.namespace_reveal_expire
                yield (
                    f"the name is gone again if its namespace is not opened before "
                    f"{when(lapses, tip, view.network)}"
                )


def _about_expiry(name: str, view: BlockView, tip: Tip) -> Iterator[str]:
    """A name that is about to lapse may lapse before this is mined."""
    end = _end(name, view)
    if end is not None and end - view.height <= CONSENSUS_WINDOW:
        yield (
            f"{name} expires at {when(end, tip, view.network)}; what is mined later than that has "
            "no effect, so renew it first"
        )


def _about_renewal(name: str, view: BlockView) -> Iterator[str]:
    end = _end(name, view)
    if end is None and view.name(name) is not None:
        yield f"{name} never expires: a renewal buys nothing"
    elif end is not None and end > view.height:
        yield (
            f"the new lifetime counts from the block of the renewal: the {end - view.height} blocks"
            " that are left are not added to it"
        )


def _end(name: str, view: BlockView) -> int | None:
    """First block in which an owner can only renew, or can no more; None: it never comes."""
    record = view.name(name)
    if record is None:
        return None
    return status_at(record, view.namespace_of(record), view.network, view.height).expires_at


def _about_owner(wish: Wish, parties: Parties, view: BlockView) -> Iterator[str]:
    """An owner of 25 names can renew none, and one of more can update none."""
    match wish:
        case wishes.RegisterName():
            owner = parties.owner
        case wishes.TransferName() | wishes.ImportName():
            owner = wish.recipient
        case _:
            return
    if owner is None:
        return
    held = [name for name in view.held(owner, 0) if name != wish.subject]
    address = script_address(owner, view.network)
    if len(held) + 1 == MAX_NAMES_PER_SENDER:
        yield (
            f"{address} would own {MAX_NAMES_PER_SENDER} names, and could then renew none of them; "
            "another address is better"
        )
    elif len(held) + 1 > MAX_NAMES_PER_SENDER:
        yield (
            f"{address} would own {len(held) + 1} names, and could then neither renew nor update "
            "any of them; another address is better"
        )
