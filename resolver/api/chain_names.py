"""From what people type to the name on the chain that is meant, and why where none is.

What must stay true: every command and every call reads a name here, so that one spelling means one
name everywhere; what is refused is told what it would be, where that is plain.
"""

from collections.abc import Mapping

import idna

from indexer.protocol.names import BadName, check_namespace, is_name, parse_name
from resolver.refusals import Refusal, Refused

DEFAULT_NAMESPACE = "id"

Zones = Mapping[str, str]
"""DNS suffixes in lower case, without a final dot, and the namespaces that they stand for: the
setting ``zones``."""


def chain_name(text: str, zones: Zones) -> str:
    """The name on the chain that ``text`` means, a name of the chain or of DNS. Raises Refused.

    Upper and lower case mean the same, as in DNS (RFC 4343): the chain has lower case alone. A
    suffix of ``zones`` stands for its namespace, the longest one first; a bare label is in the
    namespace ``id``; a final dot says nothing.
    """
    name = _lower(text.removesuffix("."))
    for suffix in sorted(zones, key=len, reverse=True):
        if name.endswith(f".{suffix}"):
            name = f"{name.removesuffix(suffix)}{zones[suffix]}"
            break
    if "." not in name:
        name = f"{name}.{DEFAULT_NAMESPACE}"
    try:
        parse_name(name)
    except BadName as error:
        raise _no_name(text, name, str(error)) from None
    return name


def namespace_id(text: str) -> str:
    """The namespace that ``text`` means, in any case, a final dot or none. Raises Refused."""
    try:
        return check_namespace(_lower(text.removesuffix(".")))
    except BadName as error:
        raise Refused(Refusal.BAD_NAME, str(error)) from None


def _lower(text: str) -> str:
    """ASCII alone has another case here: that of other letters may be an ASCII letter."""
    return text.lower() if text.isascii() else text


def _no_name(text: str, name: str, flaw: str) -> Refused:
    """Why ``name``, which ``text`` would mean, is none; and what was meant, where that is plain."""
    inner = ".".join(name.split(".")[-2:])
    if name.count(".") > 1 and is_name(inner):
        return Refused(
            Refusal.BAD_NAME,
            f"{text!r} has more than one dot: it would be a label inside {inner}, and no name of"
            " its own",
            f"ask for {inner}; what is inside it stands in its data",
        )
    try:
        a_label = "" if name.isascii() else idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError:
        a_label = ""
    if is_name(a_label):
        return Refused(
            Refusal.BAD_NAME,
            f"{text!r} is not written in letters that the chain knows",
            f"write {a_label}, as DNS does (RFC 5890)",
        )
    return Refused(Refusal.BAD_NAME, flaw)
