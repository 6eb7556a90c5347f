"""A wish is well formed or does not exist, and says the same in JSON."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitcoin.transactions import p2pkh_script, p2sh_script, script_address
from indexer.networks import MAINNET, NETWORKS, REGTEST
from indexer.registrar.planning import wishes
from indexer.registrar.planning.wishes import BadWish, Wish, read_wish, wish_json
from tests.indexer.protocol.ledger import CLASSIC

OWNER, VAULT = p2pkh_script(b"\1" * 20), p2sh_script(b"\2" * 20)
SEGWIT = b"\0\x14" + bytes(20)
TERMS: dict[str, Any] = {"lifetime": 52595, **CLASSIC}

labels = st.text("abcz09-_", min_size=1, max_size=17)
names = st.builds("{}.{}".format, labels, labels)
digests = st.binary(min_size=20, max_size=20)
scripts = st.builds(p2pkh_script, digests) | st.builds(p2sh_script, digests)
prices = st.none() | st.integers(0, wishes.MAX_MONEY)
wishing: st.SearchStrategy[Wish] = st.one_of(
    st.builds(wishes.RegisterName, names, st.none() | digests, st.none() | scripts, prices),
    st.builds(wishes.UpdateName, names, digests),
    st.builds(wishes.TransferName, names, scripts, st.booleans()),
    st.builds(wishes.RenewName, names, st.none() | digests, prices),
    st.builds(wishes.RevokeName, names),
    st.builds(wishes.ImportName, names, scripts, digests),
    st.builds(wishes.PreorderNamespace, labels, scripts, prices),
    st.builds(
        wishes.RevealNamespace,
        labels,
        scripts,
        lifetime=st.integers(1, 0xFFFFFFFF),
        coeff=st.integers(0, 255),
        base=st.integers(0, 255),
        buckets=st.tuples(*[st.integers(0, 15)] * 16),
        nonalpha_discount=st.integers(1, 15),
        no_vowel_discount=st.integers(1, 15),
        version=st.integers(1, 3),
    ),
    st.builds(wishes.ReadyNamespace, labels),
    st.builds(wishes.Announce, digests),
)


@given(wishing, st.sampled_from([MAINNET, REGTEST]))
def test_a_wish_comes_back_from_json(wish, network) -> None:
    document = wish_json(wish, network)
    assert document["wish"] == wish.word
    assert read_wish(document, network) == wish


def test_there_is_a_wish_for_each_word_of_the_command_line() -> None:
    assert list(wishes.WISHES) == [
        "register",
        "update",
        "transfer",
        "renew",
        "revoke",
        "import",
        "namespace-preorder",
        "namespace-reveal",
        "namespace-ready",
        "announce",
    ]


BAD: list[tuple[type[Wish], dict[str, Any], str]] = [
    (wishes.RegisterName, {"name": "Foo.id"}, "upper case"),
    (wishes.RegisterName, {"name": "foo"}, "no namespace"),
    (wishes.RegisterName, {"name": "a.b.id"}, "more than one dot"),
    (wishes.RegisterName, {"name": "x" * 35 + ".id"}, "longer than 37"),
    (wishes.RegisterName, {"name": 5}, "name is no text"),
    (wishes.RegisterName, {"name": "a.id", "owner": SEGWIT}, "nothing else can own"),
    (wishes.RegisterName, {"name": "a.id", "max_price": -1}, "whole number"),
    (wishes.RegisterName, {"name": "a.id", "max_price": True}, "whole number"),
    (wishes.RegisterName, {"name": "a.id", "value_hash": bytes(19)}, "20 bytes"),
    (wishes.UpdateName, {"name": "a.id", "value_hash": None}, "20 bytes"),
    (wishes.TransferName, {"name": "a.id", "recipient": b""}, "p2pkh or p2sh"),
    (wishes.TransferName, {"name": "a.id", "recipient": OWNER, "keep_data": 1}, "true or false"),
    (wishes.PreorderNamespace, {"namespace_id": "a" * 20, "revealer": OWNER}, "longer than 19"),
    (wishes.PreorderNamespace, {"namespace_id": "", "revealer": OWNER}, "at least one"),
    (wishes.Announce, {"message_hash": "00" * 20}, "20 bytes"),
]


@pytest.mark.parametrize(("kind", "fields", "says"), BAD)
def test_what_is_not_well_formed_is_no_wish(kind, fields, says) -> None:
    with pytest.raises(BadWish, match=says):
        kind(**fields)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("lifetime", 0),
        ("lifetime", 1 << 32),
        ("coeff", 256),
        ("base", -1),
        ("buckets", (0,) * 15),
        ("buckets", (0,) * 15 + (16,)),
        ("buckets", [0] * 16),
        ("nonalpha_discount", 0),
        ("no_vowel_discount", 16),
        ("version", 4),
    ],
)
def test_the_terms_of_a_namespace_fit_their_places(member, value) -> None:
    with pytest.raises(BadWish, match=member):
        wishes.RevealNamespace("id", OWNER, **{**TERMS, member: value})


READ: list[tuple[Any, str]] = [
    ([], "JSON object"),
    ({}, "'wish' is one of register, update"),
    ({"wish": ["register"]}, "'wish' is one of"),
    ({"wish": "steal", "name": "a.id"}, "'wish' is one of"),
    ({"wish": "revoke"}, "needs 'name'"),
    ({"wish": "revoke", "name": None}, "needs 'name'"),
    ({"wish": "revoke", "name": "a.id", "why": 1}, "knows no 'why'"),
    ({"wish": "update", "name": "a.id", "value_hash": "0g" * 20}, "40 hexadecimal"),
    ({"wish": "update", "name": "a.id", "value_hash": "00 " * 13 + "0"}, "40 hexadecimal"),
    (
        {"wish": "transfer", "name": "a.id", "recipient": "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7k"},
        "address",
    ),
    ({"wish": "transfer", "name": "a.id", "recipient": 7}, "recipient is no text"),
]


@pytest.mark.parametrize(("document", "says"), READ)
def test_json_that_is_no_wish_is_refused_with_a_sentence(document, says) -> None:
    with pytest.raises(BadWish, match=says):
        read_wish(document, MAINNET)


def test_an_address_of_another_network_never_becomes_a_wish() -> None:
    for script in (OWNER, VAULT):
        document = wish_json(wishes.TransferName("a.id", script), REGTEST)
        assert document["recipient"] == script_address(script, REGTEST)
        with pytest.raises(BadWish, match="another network, not of mainnet"):
            read_wish(document, MAINNET)
        assert read_wish(document, NETWORKS["sandbox"]) == wishes.TransferName("a.id", script)


@given(
    st.dictionaries(
        st.sampled_from([*wishes.FORMS, "wish", "x"]),
        st.sampled_from([*wishes.WISHES])
        | names
        | st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=45)
        | st.lists(st.integers(-1, 16), max_size=17),
    )
)
def test_any_json_is_a_wish_or_a_sentence(document) -> None:
    try:
        wish = read_wish(document, REGTEST)
    except BadWish as bad:
        sentence = str(bad)
        assert sentence
    else:
        assert read_wish(wish_json(wish, REGTEST), REGTEST) == wish
