"""Where a replayed block first differs from what was recorded of it, in lines for a person.

Serialised operations are told apart by the transaction that carried them and shown field by field,
expected beside computed; then verdicts, then the two hashes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from indexer.bitcoin.transactions import hash_hex
from indexer.following.replay import RecordedBlock
from indexer.protocol.apply import Outcome
from indexer.protocol.flaws import Flaw
from indexer.protocol.serialized import BadSerialization, Serialized, read_serialized

ABSENT = "-"


def first_difference(block: RecordedBlock, outcome: Outcome) -> list[str] | None:
    """The lines that show the first difference; None where there is none."""
    shown = next(_differences(block, outcome), None)
    return None if shown is None else [f"Block {block.height}: {shown[0]}", *shown[1:]]


def _differences(block: RecordedBlock, outcome: Outcome) -> Iterator[list[str]]:
    expected, computed = Counter(block.serialized), Counter(outcome.serialized)
    yield from _of_operations(
        sorted((expected - computed).elements()), sorted((computed - expected).elements()), outcome
    )
    flaws = {txid: verdict.flaw for txid, verdict in outcome.verdicts}
    for spent, accepted in zip(block.spent, block.accepted, strict=True):
        txid = spent.candidate.transaction.txid
        flaw = flaws.get(txid, "it carries no operation")
        if accepted is not (flaw is None):
            yield [
                f"the verdict on transaction {hash_hex(txid)} differs",
                *_table([("verdict", _said(accepted, None), _said(flaw is None, flaw))]),
            ]
    for name, ours, theirs in (
        ("ops_hash", outcome.ops_hash, block.ops_hash),
        ("consensus_hash", outcome.consensus_hash, block.consensus_hash),
    ):
        if ours != theirs:
            yield [f"the {name} differs", *_table([(name, theirs.hex(), ours.hex())])]


def _of_operations(
    missing: Sequence[str], extra: Sequence[str], outcome: Outcome
) -> Iterator[list[str]]:
    """``missing`` was recorded and not computed, ``extra`` the reverse."""
    expected, computed = _by_txid(missing), _by_txid(extra)
    flaws = {hash_hex(txid): verdict.flaw for txid, verdict in outcome.verdicts}
    for txid in sorted(expected.keys() | computed.keys()):
        theirs, ours = expected.get(txid, {}), computed.get(txid, {})
        names = list(dict.fromkeys([*theirs, *ours]))
        rows = [(name, theirs.get(name, ABSENT), ours.get(name, ABSENT)) for name in names]
        if not ours:
            what = f"is missing here ({_said(False, flaws.get(txid, 'it carries no operation'))})"
        elif not theirs:
            what = "was not recorded"
        else:
            what = "differs"
        yield [f"the operation of transaction {txid} {what}", *_table(rows)]


def _by_txid(texts: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for number, text in enumerate(texts):
        try:
            operation: Serialized = read_serialized(text)
        except BadSerialization as error:
            found[f"number {number} of those that cannot be read ({error})"] = {"text": text}
        else:
            found[operation.txid] = {"opcode": operation.opcode, **operation.fields}
    return found


def _said(accepted: bool, flaw: str | None) -> str:
    if accepted:
        return "accepted"
    if flaw is None:
        return "refused"
    known = Flaw.__members__.get(flaw)
    return f"refused: {flaw if known is None else known.value}"


def _table(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Name, expected and computed side by side; what differs is marked."""
    head = ("field", "expected", "computed")
    wide = [max(len(row[column]) for row in (head, *rows)) for column in (0, 1)]
    lines = [f"    {head[0]:{wide[0]}}  {head[1]:{wide[1]}}  {head[2]}"]
    for name, theirs, ours in rows:
        mark = "  " if theirs == ours else "!="
        lines.append(f" {mark} {name:{wide[0]}}  {theirs:{wide[1]}}  {ours}")
    return lines
