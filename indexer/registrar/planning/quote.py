"""What a name or a namespace would cost, whom it would be paid to, and whether it can be had.

What must stay true: what is quoted is what the rules ask for as of the block that the view stands
for; a name that cannot be had is quoted with the reason and, where there is one, with the first
block in which it can.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from indexer.bitcoin.transactions import address_script, script_address
from indexer.networks import BLOCKS_PER_YEAR, INFINITE_LIFETIME
from indexer.protocol.flaws import Flaw
from indexer.protocol.names import check_namespace, hash_name, parse_name
from indexer.protocol.prices import name_price_satoshis, namespace_price
from indexer.protocol.records import NameRecord, NamespaceRecord, Phase, PreorderRecord, status_at
from indexer.protocol.rules import Refused
from indexer.protocol.view import BlockView
from indexer.registrar.planning.dates import Tip, When, when
from indexer.wallet.coins import RELAY_DUST


class Standing(Enum):
    """Whether a name or namespace can be had; the value is the rest of a sentence about it."""

    FREE = "can be had"
    PREORDERED = "was preordered from here and waits to be registered"
    TAKEN = "belongs to somebody"
    GRACE = "is in its grace period, in which only its owner can renew it"
    REVOKED = "is revoked, and nobody's until it has lapsed"
    NAMESPACE_MISSING = "is in a namespace that does not exist"
    NAMESPACE_CLOSED = "is in a namespace that is not open yet"
    OTHER_LEDGER = "is sold by another ledger only, which this index does not follow"


@dataclass(frozen=True, slots=True)
class Payment:
    """What the rules ask for a name or a namespace."""

    price: int
    """Satoshis that are enough for the rules."""
    script: bytes
    """Whom it is paid to: nobody, by a script without a key, or a namespace's creator."""
    to_creator: bool = False

    @property
    def satoshis(self) -> int:
        """What is paid: the price, or more where nodes would not relay so little."""
        return max(self.price, RELAY_DUST)


@dataclass(frozen=True, slots=True)
class Quote:
    """What is known of a name or a namespace as of the next block."""

    subject: str
    standing: Standing
    payment: Payment | None
    """None where there is no price in satoshis."""
    owner: bytes | None = None
    """Script of who holds it now."""
    free_from: When | None = None
    """First block whose registration can have it, where it is not free now."""
    until: When | None = None
    """Where it can be had: when it would lapse, or its grace period begin; None: never."""
    preorder: PreorderRecord | None = None
    """The preorder sent from here that waits for it."""
    frozen: bool = False
    """Whether payments in another ledger decide too, of which nothing is known here."""


def name_payment(name: str, view: BlockView, height: int | None = None) -> Payment:
    """What ``name`` costs in the block of ``view``, and whom a registration or renewal mined at
    ``height`` (that block unless told) must have paid. Spec sections 2.2 and 2.4.

    Raises ``Refused`` where there is no such price.
    """
    label, namespace_id = parse_name(name)
    namespace = view.namespace(namespace_id)
    if namespace is None:
        raise Refused(Flaw.NAMESPACE_NOT_READY)
    if namespace.version == 3:
        raise Refused(Flaw.OTHER_LEDGER)
    price = name_price_satoshis(label, namespace, view.epoch)
    if pays_creator(namespace, view.height if height is None else height):
        return Payment(price, address_script(namespace.address, view.network), to_creator=True)
    return Payment(price, view.network.burn_script)


def pays_creator(namespace: NamespaceRecord, height: int) -> bool:
    """Whether who registers or renews a name at ``height`` pays the namespace's creator."""
    return namespace.version == 2 and namespace.reveal_block + BLOCKS_PER_YEAR >= height


def namespace_payment(namespace_id: str, view: BlockView) -> Payment:
    """What a namespace costs in the block of ``view``; ``Refused`` where it costs no bitcoin."""
    check_namespace(namespace_id)
    if view.epoch.second_ledger:
        raise Refused(Flaw.OTHER_LEDGER)
    return Payment(namespace_price(namespace_id, view.epoch), view.network.burn_script)


def quote_name(
    name: str, view: BlockView, tip: Tip, ours: Iterable[tuple[bytes, bytes]] = ()
) -> Quote:
    """``name`` as of the block of ``view``. Raises ``BadName``.

    ``ours``: pairs of scripts (who would send, who would own) to look for preorders of.
    """
    _, namespace_id = parse_name(name)
    frozen = view.epoch.second_ledger
    namespace = view.namespace(namespace_id)
    record = view.name(name)
    if namespace is None or not (namespace.is_ready or _is_revealed(namespace, view)):
        return Quote(name, Standing.NAMESPACE_MISSING, None, frozen=frozen)
    payment = None if namespace.version == 3 else name_payment(name, view, view.height + 1)
    owner, free_from = None, None
    standing = Standing.FREE
    if record is not None and view.is_live(record, view.last):
        status = status_at(record, namespace, view.network, view.last)
        standing = _OF_PHASE[status.phase]
        owner = record.sender
        if status.gone_at is not None and namespace.is_ready:
            free_from = when(status.gone_at + 1, tip, view.network)
    elif not namespace.is_ready:
        standing = Standing.NAMESPACE_CLOSED
    elif payment is None:
        standing = Standing.OTHER_LEDGER
    preorder = None
    until = None
    if standing is Standing.FREE:
        until = lapse(namespace, view, tip)
        preorder = preorder_of(name, view, ours)
        standing = Standing.FREE if preorder is None else Standing.PREORDERED
    return Quote(name, standing, payment, owner, free_from, until, preorder, frozen)


_OF_PHASE = {
    Phase.LIVE: Standing.TAKEN,
    Phase.GRACE: Standing.GRACE,
    Phase.REVOKED: Standing.REVOKED,
    Phase.EXPIRED: Standing.TAKEN,
}


def quote_namespace(
    namespace_id: str, view: BlockView, tip: Tip, ours: Iterable[tuple[bytes, bytes]] = ()
) -> Quote:
    """A namespace as of the block of ``view``. Raises ``BadName``; ``ours`` as for names."""
    check_namespace(namespace_id)
    frozen = view.epoch.second_ledger
    payment = None if frozen else namespace_payment(namespace_id, view)
    record = view.namespace(namespace_id)
    if record is not None and record.is_ready:
        return Quote(namespace_id, Standing.TAKEN, payment, record.recipient, frozen=frozen)
    if record is not None and _is_revealed(record, view):
        lapses = record.reveal_block + view.network.namespace_reveal_expire
        free_from = when(lapses + 1, tip, view.network)
        return Quote(
            namespace_id, Standing.TAKEN, payment, record.recipient, free_from, frozen=frozen
        )
    preorder = namespace_preorder_of(namespace_id, view, ours)
    standing = Standing.OTHER_LEDGER if payment is None else Standing.FREE
    if preorder is not None:
        standing = Standing.PREORDERED
    return Quote(namespace_id, standing, payment, preorder=preorder, frozen=frozen)


def preorder_of(
    name: str, view: BlockView, ours: Iterable[tuple[bytes, bytes]]
) -> PreorderRecord | None:
    """The first outstanding preorder of ``name`` by one of these (sender, owner) pairs."""
    found = (view.preorder(_hash(name, pair, view)) for pair in ours)
    return next((preorder for preorder in found if preorder is not None), None)


def namespace_preorder_of(
    namespace_id: str, view: BlockView, ours: Iterable[tuple[bytes, bytes]]
) -> PreorderRecord | None:
    """The first outstanding preorder of a namespace by one of these (sender, revealer) pairs."""
    found = (view.namespace_preorder(_hash(namespace_id, pair, view)) for pair in ours)
    return next((preorder for preorder in found if preorder is not None), None)


def _hash(subject: str, pair: tuple[bytes, bytes], view: BlockView) -> bytes:
    sender, owner = pair
    return hash_name(subject, sender, script_address(owner, view.network))


def lapse(namespace: NamespaceRecord, view: BlockView, tip: Tip) -> When | None:
    """When a name lapses, or its grace period begins, if it is registered in the block after
    that of ``view``; None: never."""
    if namespace.lifetime == INFINITE_LIFETIME:
        return None
    lifetime = namespace.lifetime * view.epoch.lifetime_multiplier
    last = max(namespace.ready_block, view.height + 1) + lifetime
    return when(last if view.epoch.grace_period else last + 1, tip, view.network)


def expiry(record: NameRecord, view: BlockView, tip: Tip) -> When | None:
    """When ``record`` lapses, or its grace period begins, as of the block of ``view``."""
    status = status_at(record, view.namespace_of(record), view.network, view.height)
    return None if status.expires_at is None else when(status.expires_at, tip, view.network)


def _is_revealed(namespace: NamespaceRecord, view: BlockView) -> bool:
    return namespace.revealed_at(view.last, view.network)


def quote_json(quote: Quote, view: BlockView) -> dict[str, object]:
    """A quote for programs: amounts in satoshis, scripts as addresses, null where not known."""
    payment = quote.payment
    network = view.network
    return {
        "subject": quote.subject,
        "standing": quote.standing.name.lower(),
        "says": f"{quote.subject} {quote.standing.value}",
        "price": None if payment is None else payment.price,
        "pays": None if payment is None else payment.satoshis,
        "paid_to": None if payment is None else script_address(payment.script, network),
        "paid_to_creator": payment is not None and payment.to_creator,
        "owner": None if quote.owner is None else script_address(quote.owner, network),
        "free_from": None if quote.free_from is None else quote.free_from.as_json(),
        "until": None if quote.until is None else quote.until.as_json(),
        "preordered_in": None if quote.preorder is None else quote.preorder.block_number,
        "another_ledger_decides_too": quote.frozen,
    }
