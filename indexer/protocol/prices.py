"""What a name or a namespace costs at a height.

In epochs 1 to 3 the original computed with 64-bit floating point, and a fee is compared with its
result, so the order of the operations here is part of the protocol (spec section 2.2).
"""

import math
from typing import Protocol

from indexer.networks import Epoch

NAME_COST_UNIT = 100  # satoshis, namespaces of version 1 and 2
NAME_COST_UNIT_STACKS = 1733  # micro-Stacks, namespaces of version 3

_VOWELS = frozenset("aeiouy")
_NON_ALPHA = frozenset("0123456789-_")

_NAMESPACE_PRICES = (  # (longest id, satoshis) in epochs 1 and 2, protocol spec section 2.3
    (1, 40_000_000_000),
    (3, 4_000_000_000),
    (7, 400_000_000),
    (19, 40_000_000),
)


class PriceTerms(Protocol):
    """What of a namespace decides the price of its names."""

    @property
    def version(self) -> int: ...
    @property
    def coeff(self) -> int: ...
    @property
    def base(self) -> int: ...
    @property
    def buckets(self) -> tuple[int, ...]: ...
    @property
    def nonalpha_discount(self) -> int: ...
    @property
    def no_vowel_discount(self) -> int: ...


def name_price(label: str, terms: PriceTerms, epoch: Epoch) -> float:
    """The price of ``label`` (the name without its namespace) under the rules of ``epoch``.

    In satoshis for namespaces of version 1 and 2, in micro-Stacks for version 3. A fee is enough
    when it is at least this. Of two discounts the larger one counts (spec section 2.2).
    """
    unit = NAME_COST_UNIT_STACKS if terms.version == 3 else NAME_COST_UNIT
    exponent = terms.buckets[min(len(label), len(terms.buckets)) - 1]
    discount = 1
    if not _VOWELS.intersection(label):
        discount = max(discount, terms.no_vowel_discount)
    if _NON_ALPHA.intersection(label):
        discount = max(discount, terms.nonalpha_discount)
    value: int = terms.coeff * terms.base**exponent
    if epoch.second_ledger:
        whole = max(value * unit // discount, unit)
        return whole if terms.version == 3 else whole // 10
    return max(float(value) / float(discount) * unit, float(unit)) * epoch.name_price_factor


def name_price_satoshis(label: str, terms: PriceTerms, epoch: Epoch) -> int:
    """The least whole fee that pays for ``label``."""
    return math.ceil(name_price(label, terms, epoch))


def namespace_price(namespace_id: str, epoch: Epoch) -> int:
    """The price of a namespace in satoshis, by the length of its id (spec section 2.3)."""
    for longest, satoshis in _NAMESPACE_PRICES:
        if len(namespace_id) <= longest:
            return satoshis // epoch.namespace_price_divisor
    raise ValueError(f"a namespace id has 1 to 19 characters, not {len(namespace_id)}")


def python2_float(value: float) -> str:
    """``value`` as Python 2's ``str(float(value))`` wrote it: 12 significant digits.

    The fee of an imported name enters the consensus hash in this form (spec section 4.2).
    """
    text = f"{float(value):.12g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0').rjust(2, '0')}"
    return text if "." in text else text + ".0"
