"""What names and namespaces cost: the worked examples of the protocol, and each rule by itself.

Protocol spec sections 2.1 to 2.3 and 4.2.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.networks import EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4, MAINNET, Epoch
from indexer.protocol.prices import name_price, name_price_satoshis, namespace_price, python2_float

EPOCHS = (EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4)


@dataclass(frozen=True)
class Terms:
    version: int = 1
    coeff: int = 250
    base: int = 4
    buckets: tuple[int, ...] = (6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    nonalpha_discount: int = 10
    no_vowel_discount: int = 10


CLASSIC = Terms()

WORKED = [
    ("a", 102_400_000),
    ("foo", 6_400_000),
    ("bob1", 160_000),
    ("muneeb", 100_000),
    ("frzzk", 40_000),
    ("patrickstanley", 25_000),
    ("was2bme", 2_500),
]


@pytest.mark.parametrize(("label", "satoshis"), WORKED)
def test_the_worked_examples(label: str, satoshis: int) -> None:
    assert name_price(label, CLASSIC, EPOCH_1) == satoshis
    assert name_price(label, CLASSIC, EPOCH_2) == satoshis
    assert name_price(label, CLASSIC, EPOCH_3) == satoshis / 10
    assert name_price(label, CLASSIC, EPOCH_4) == satoshis // 10
    for epoch in EPOCHS:
        price = name_price(label, CLASSIC, epoch)
        least = name_price_satoshis(label, CLASSIC, epoch)
        assert least >= price > least - 1


def test_a_name_of_fourteen_letters_costs_2500_in_epoch_3_and_4() -> None:
    for height in (488501, 547921, 547922, 600000):
        assert name_price("patrickstanley", CLASSIC, MAINNET.epoch(height)) == 2500


@pytest.mark.parametrize(
    ("label", "discount"),
    [
        ("aeiouy", 1),
        ("y", 1),
        ("bcd", 5),
        ("a1", 3),
        ("a-b", 3),
        ("a_b", 3),
        ("b1", 5),  # the larger of the two, not 15
        ("7", 5),
        ("-", 5),
    ],
)
def test_of_two_discounts_the_larger_counts(label: str, discount: int) -> None:
    flat = Terms(coeff=15, base=1, nonalpha_discount=3, no_vowel_discount=5)
    assert name_price(label, flat, EPOCH_1) == 15 * 100 / discount
    turned = replace(flat, nonalpha_discount=5, no_vowel_discount=3)
    swapped = {1: 1, 3: 5, 5: 3 if label.isalpha() else 5}[discount]
    assert name_price(label, turned, EPOCH_1) == 15 * 100 / swapped


def test_each_length_has_its_bucket_and_16_and_more_share_the_last() -> None:
    steps = Terms(coeff=1, base=2, buckets=tuple(range(15, -1, -1)))
    for length in range(1, 36):
        exponent = 15 - min(length - 1, 15)
        assert name_price("a" * length, steps, EPOCH_1) == 100 * 2**exponent


def test_a_name_costs_at_least_one_unit_before_the_factor_of_the_epoch() -> None:
    free = Terms(coeff=0)
    assert [name_price("a", free, epoch) for epoch in EPOCHS] == [100, 100, 10, 10]
    dear = replace(free, coeff=1, no_vowel_discount=15, base=1)
    assert name_price("b", dear, EPOCH_1) == 100


def test_a_base_of_zero_with_exponent_zero_gives_one() -> None:
    nought = Terms(base=0)
    assert name_price("aaaaaaa", nought, EPOCH_1) == 25_000
    assert name_price("a", nought, EPOCH_1) == 100


@pytest.mark.parametrize(
    ("coeff", "discount", "first", "third"), [(11, 5, 221, 23), (49, 10, 491, 50), (10, 5, 200, 20)]
)
def test_the_price_is_the_float_that_the_original_compared(
    coeff: int, discount: int, first: int, third: int
) -> None:
    """11 / 5 * 100 lies above 220 in floating point, and so do the fees that are enough."""
    terms = Terms(coeff=coeff, base=1, no_vowel_discount=discount)
    assert name_price("b", terms, EPOCH_1) == coeff / discount * 100
    assert name_price_satoshis("b", terms, EPOCH_1) == first
    assert name_price_satoshis("b", terms, EPOCH_3) == third
    assert name_price_satoshis("b", terms, EPOCH_4) == coeff * 100 // discount // 10


def test_a_stacks_namespace_has_its_own_unit() -> None:
    terms = Terms(version=3, coeff=1, base=1)
    assert name_price("a", terms, EPOCH_4) == 1733
    assert name_price("b", replace(terms, coeff=100), EPOCH_4) == 1733 * 100 // 10


terms_strategy = st.builds(
    Terms,
    version=st.sampled_from([1, 2]),
    coeff=st.integers(0, 255),
    base=st.integers(0, 255),
    buckets=st.lists(st.integers(0, 15), min_size=16, max_size=16).map(tuple),
    nonalpha_discount=st.integers(1, 15),
    no_vowel_discount=st.integers(1, 15),
)
labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=35)


@given(labels, terms_strategy)
def test_the_price_is_that_of_exact_arithmetic_within_floating_point(
    label: str, terms: Terms
) -> None:
    exponent = terms.buckets[min(len(label) - 1, 15)]
    discounts = [1]
    if all(letter not in "aeiouy" for letter in label):
        discounts.append(terms.no_vowel_discount)
    if any(not letter.isalpha() for letter in label):
        discounts.append(terms.nonalpha_discount)
    exact = max(Fraction(terms.coeff * terms.base**exponent * 100, max(discounts)), Fraction(100))
    assert name_price(label, terms, EPOCH_1) == pytest.approx(float(exact), rel=1e-15)
    assert name_price(label, terms, EPOCH_3) == pytest.approx(float(exact / 10), rel=1e-15)
    assert name_price(label, terms, EPOCH_4) == int(exact) // 10


@pytest.mark.parametrize(
    ("epoch", "prices"),
    [
        (EPOCH_1, (40_000_000_000, 4_000_000_000, 400_000_000, 40_000_000)),
        (EPOCH_2, (40_000_000_000, 4_000_000_000, 400_000_000, 40_000_000)),
        (EPOCH_3, (4_000_000_000, 400_000_000, 40_000_000, 4_000_000)),
    ],
    ids=["epoch 1", "epoch 2", "epoch 3"],
)
def test_a_namespace_costs_by_the_length_of_its_id(epoch: Epoch, prices: tuple[int, ...]) -> None:
    lengths = {1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2, 8: 3, 12: 3, 19: 3}
    for length, place in lengths.items():
        assert namespace_price("x" * length, epoch) == prices[place]
    with pytest.raises(ValueError, match="1 to 19"):
        namespace_price("x" * 20, epoch)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (6400000, "6400000.0"),
        (0.1, "0.1"),
        (2500.0000000000005, "2500.0"),
        (1e11, "100000000000.0"),
        (999999999999, "999999999999.0"),
        (999999999999.4, "999999999999.0"),
        (999999999999.6, "1e+12"),
        (1e12, "1e+12"),
        (1.5e12, "1.5e+12"),
        (123456789012345, "1.23456789012e+14"),
        (1e100, "1e+100"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (8533333.333333334, "8533333.33333"),
    ],
)
def test_floats_are_written_as_python_2_wrote_them(value: float, shown: str) -> None:
    assert python2_float(value) == shown
