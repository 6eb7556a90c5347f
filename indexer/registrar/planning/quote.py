"""What a name or a namespace costs, whom it is paid to, and until when it is then had.

What must stay true: what is quoted is what the rules ask for as of the block that the view stands
for.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from indexer.bitcoin.transactions import address_script, script_address
from indexer.networks import BLOCKS_PER_YEAR, INFINITE_LIFETIME
from indexer.protocol.flaws import Flaw, Refused
from indexer.protocol.names import check_namespace, hash_name, parse_name
from indexer.protocol.prices import name_price_satoshis, namespace_price
from indexer.protocol.records import NamespaceRecord, PreorderRecord
from indexer.protocol.view import BlockView
from indexer.registrar.planning.dates import Tip, When, when
from indexer.wallet.coins import RELAY_DUST


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
