"""What is a name and what is none, and the hashes that stand for names on the chain.

Protocol spec sections 1.1 and 1.4.
"""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.protocol.names import (
    BadName,
    base40_bytes,
    check_namespace,
    hash128,
    hash_name,
    is_name,
    name_consensus_hash,
    parse_name,
)

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz-_.+"


@pytest.mark.parametrize(
    "name",
    [
        "abcdabcdabcdabcdabcdabcdabcdabcda.bcd",
        "a_b.c",
        "a.b",
        "-._",
        "0.0",
        "x" * 17 + "." + "y" * 19,
        "1234-5678_90.id",
    ],
)
def test_a_name_has_one_dot_and_at_most_37_characters(name: str) -> None:
    label, namespace_id = parse_name(name)
    assert f"{label}.{namespace_id}" == name
    assert len(name) <= 37


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("abcdabcdabcdabcdabcdabcdabcdabcdab.bcd", "longer than 37"),
        ("a+b.c", "may hold only"),
        ("abcd.", "at least one character"),
        (".abcd", "nothing before its dot"),
        ("abcd", "no namespace"),
        ("", "no namespace"),
        ("a.b.c", "more than one dot"),
        ("a..c", "more than one dot"),
        ("Abcd.abcd", "upper case"),
        ("abcd.Abcd", "upper case"),
        ("alice.id\n", "may hold only"),
        ("alice\n.id", "may hold only"),
        ("alice.id\0", "may hold only"),
        ("al\0ice.id", "may hold only"),
        ("alice.i d", "may hold only"),
        ("al ice.id", "may hold only"),
        ("alic\u00e9.id", "may hold only"),
        ("\u0661.id", "may hold only"),  # a digit to Unicode
        ("\u017f.id", "may hold only"),  # folds to s
        ("alice.i+d", "may hold only"),
        ("a." + "y" * 20, "longer than 19"),
    ],
)
def test_what_is_no_name_is_told_why(name: str, why: str) -> None:
    assert not is_name(name)
    with pytest.raises(BadName, match=why):
        parse_name(name)


@given(st.text(ALPHABET + "A\n\0 é", max_size=45))
def test_a_name_is_one_by_its_characters_alone(text: str) -> None:
    parts = text.split(".")
    legal = len(parts) == 2 and all(p and set(p) <= set(ALPHABET[:38]) for p in parts)
    assert is_name(text) is (legal and len(text) <= 37 and len(parts[1]) <= 19)


@pytest.mark.parametrize("namespace_id", ["", "a.b", "a+b", "A", "id\n", "x" * 20, "\u0131"])
def test_what_is_no_namespace_is_told_why(namespace_id: str) -> None:
    with pytest.raises(BadName):
        check_namespace(namespace_id)
    assert check_namespace("x" * 19) == "x" * 19


@given(st.text(ALPHABET, max_size=60))
def test_base_40_is_the_shortest_bytes_of_the_number(text: str) -> None:
    number = 0
    for place, character in enumerate(reversed(text)):
        number += ALPHABET.index(character) * 40**place
    digits = f"{number:x}"
    digits = digits.rjust(len(digits) + len(digits) % 2, "0")
    assert base40_bytes(text) == bytes.fromhex(digits)


def test_base_40_examples() -> None:
    assert base40_bytes("muneeb.id").hex() == "87b0059d8e5d"
    assert base40_bytes("") == base40_bytes("0") == b"\0"
    assert base40_bytes("0abc") == base40_bytes("abc")
    for wrong in ("A", "a b", "a\n", "\u00e9"):
        with pytest.raises(BadName):
            base40_bytes(wrong)


def test_a_preorder_hash_of_mainnet() -> None:
    script = bytes.fromhex("76a91408d0dd44c1f0a3a4f0957ae95901929d7d66d55788ac")
    digest = hash_name("patrickstanley.id", script, "17CbHgTgBG3kLedXNneEKBkCTgW2fyrnUD")
    assert digest.hex() == "26bf7874706ac761afdd403ed6b3b9578fb01a34"


def test_a_preorder_hash_is_salted_with_script_and_address() -> None:
    hashes = {
        hash_name(name, script, address)
        for name in ("a.id", "b.id")
        for script in (b"\1", b"\2")
        for address in ("x", "y", None)
    }
    assert len(hashes) == 12


def test_the_hashes_of_names_in_updates_and_transfers() -> None:
    assert hash128("patrickstanley.id").hex() == "683a3e1ee5f0296833c56e481cf41b77"
    assert hash128("a.id") == hashlib.sha256(b"a.id").digest()[:16]
    consensus_hash = bytes.fromhex("8d8762c37d82360b84cf4d87f32f7754")
    assert name_consensus_hash("jude.id", consensus_hash).hex() == (
        "d1062edb9ec9c85ad1aca6d37f2f5793"
    )
