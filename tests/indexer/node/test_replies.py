"""Replies of a node: what long hexadecimal strings say, and everything else as JSON has it."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.node.replies import LONG, read_hex_results, read_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
results = values | st.binary(max_size=LONG).map(bytes.hex) | st.just("g" * LONG)
replies = st.fixed_dictionaries({"result": results, "error": values, "id": st.integers()})


def in_bytes(reply: object) -> object:
    """The reply as it is to come: a long hexadecimal result as its bytes."""
    if isinstance(reply, list):
        return [in_bytes(one) for one in reply]
    result = reply["result"] if isinstance(reply, dict) else None
    if not isinstance(result, str) or len(result) < LONG or "g" in result:
        return reply
    return {**reply, "result": bytes.fromhex(result)}


@given(st.lists(replies, max_size=4) | replies, st.booleans())
def test_long_results_come_as_bytes_and_nothing_else_changes(reply, spaced) -> None:
    raw = json.dumps(reply, separators=None if spaced else (",", ":")).encode()
    read = read_hex_results(raw)
    expected = in_bytes(reply)
    assert read == (read_json(raw) if b"\\" in raw else expected)


@given(st.binary(max_size=200))
def test_any_bytes_give_what_a_json_reader_gives(raw) -> None:
    for text in (raw, b'{"result":"' + b"ab" * LONG + b'"' + raw):
        try:
            expected = json.loads(text)
        except ValueError:
            with pytest.raises(ValueError):
                read_hex_results(text)
        else:
            assert read_hex_results(text) == in_bytes(expected)


def test_a_long_string_that_is_no_result_stays_a_string() -> None:
    digits = "ab" * LONG
    for reply in ({"result": None, "error": {"message": digits}}, [digits], {digits: 1}):
        assert read_hex_results(json.dumps(reply).encode()) == reply
    both = [{"result": digits, "id": 0}, {"result": None, "error": digits, "id": 1}]
    assert read_hex_results(json.dumps(both).encode()) == both


def test_a_node_cannot_write_the_mark_that_stands_for_a_string() -> None:
    digits = "ab" * LONG
    reply = [{"result": digits, "id": 0}, {"result": "decoded string 0", "id": 1}]
    assert read_hex_results(json.dumps(reply).encode()) == reply


def test_digits_that_are_odd_or_none_are_left_to_who_asked_for_them() -> None:
    for result in ("a" * (2 * LONG + 1), "ab " * LONG, "xy" * LONG):
        assert read_hex_results(json.dumps({"result": result}).encode()) == {"result": result}


def test_a_string_with_an_escaped_quotation_mark_ends_where_it_ends() -> None:
    result = '"' + "ab" * LONG + '"'
    assert read_hex_results(json.dumps({"result": result}).encode()) == {"result": result}


def test_amounts_stay_exact() -> None:
    raw = b'[{"result": 0.10000000}, {"result": "' + b"00" * LONG + b'", "fee": 0.00000546}]'
    assert read_hex_results(raw)[0]["result"] == Decimal("0.1")
    assert read_hex_results(raw)[1] == {"result": bytes(LONG), "fee": Decimal("0.00000546")}
