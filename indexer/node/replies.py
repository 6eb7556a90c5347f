"""JSON replies of a node, of which the long hexadecimal strings are decoded where they stand.

What must stay true: what comes out is what a JSON reader gives, except that a result which is a
long hexadecimal string comes as its bytes; a reply of any other form is left to that reader.
"""

import json
from binascii import Error, unhexlify
from decimal import Decimal
from typing import Any

LONG = 1_000
"""Digits from which on it pays: a JSON reader takes three times as long for those of a block."""

_MARK = "decoded string "


def read_json(raw: bytes) -> Any:
    """The JSON; numbers with a point become Decimal. ValueError or RecursionError: it is none."""
    return json.loads(raw, parse_float=Decimal)


def read_hex_results(raw: bytes) -> Any:
    """The same, but each member ``result`` that is long and hexadecimal comes as bytes."""
    text, found = _without_long_strings(raw)
    if not found:
        return read_json(raw)
    left = dict(enumerate(found))

    def put_back(members: dict[str, Any]) -> dict[str, Any]:
        result = members.get("result")
        if isinstance(result, str) and result.startswith(_MARK):
            members["result"] = left.pop(int(result[len(_MARK) :]))
        return members

    reply = json.loads(text, parse_float=Decimal, object_hook=put_back)
    return read_json(raw) if left else reply


def _without_long_strings(raw: bytes) -> tuple[bytes, list[bytes]]:
    """The text with a mark in place of each long hexadecimal string, and what those say."""
    found: list[bytes] = []
    if b"\\" in raw:  # a quotation mark may be part of a string
        return raw, found
    parts: list[bytes] = []
    view = memoryview(raw)
    done = start = 0
    while (start := raw.find(b'"', start) + 1) and (end := raw.find(b'"', start)) >= 0:
        if end - start >= LONG:
            try:
                decoded = unhexlify(view[start:end])
            except Error:
                pass
            else:
                parts += (raw[done:start], f"{_MARK}{len(found)}".encode())
                found.append(decoded)
                done = end
        start = end + 1
    parts.append(raw[done:])
    if any(_MARK.encode() in part for part in parts[::2]):
        return raw, []
    return b"".join(parts), found
