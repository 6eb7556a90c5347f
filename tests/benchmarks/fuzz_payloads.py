"""A million mutated payloads through ``read_operation``: it must answer each and raise at none.

Run from the top of the repository: ``python -m tests.benchmarks.fuzz_payloads [COUNT] [SEED]``.
The payloads are mutated from the recorded parse vectors where there are some, else from made ones.
Prints how many were read, how fast, and what became of them; ends with 1 where anything raised.
"""

import json
import random
import sys
import time
import traceback
from collections import Counter

from indexer.bitcoin.transactions import Transaction, TxIn, TxOut, p2pkh_script, p2sh_script
from indexer.networks import EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4, MAINNET
from indexer.protocol.operations import OPCODES, Malformed
from indexer.protocol.payloads import read_operation, write_operation
from tests.conftest import DATA

COUNT = 1_000_000
MOST_SECONDS = 900.0
EPOCHS = (EPOCH_1, EPOCH_2, EPOCH_3, EPOCH_4)
PAYER, VAULT = p2pkh_script(b"\1" * 20), p2sh_script(b"\2" * 20)
SCRIPTS = (PAYER, PAYER, PAYER, VAULT, b"", b"\x6a", b"\x00\x14" + bytes(20), PAYER[:-1])
NAMES = (b"alice.id", b"a" * 34 + b".id", b"a_b-c.test", b"0.0", b"alice.id\0", b"a.b.c", b"A.id")


def seeds() -> tuple[list[bytes], str]:
    """What to mutate, and where it is from."""
    recorded = DATA / "protocol" / "parse_vectors.json"
    if recorded.is_file():
        vectors = json.loads(recorded.read_text("utf-8"))
        return [bytes.fromhex(v["op_return_data"]) for v in vectors], "the recorded parse vectors"
    made = [b"id" + opcode + bytes(36) for opcode in sorted(set(OPCODES.values()))]
    made += [b"id" + opcode + name for opcode in (b":", b";", b"~") for name in NAMES]
    made += [b"id:" + name.ljust(37, b"\0") + bytes(20) for name in NAMES]
    made += [b"id&" + bytes(14) + b"\x11\0\1test", b"id!.test", b"id>>" + bytes(32)]
    return made, "payloads made here"


def mutated(payload: bytes, rng: random.Random) -> bytes:
    """``payload`` after one to four small harms."""
    body = bytearray(payload)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(7):
            case 0 if body:
                body[at % len(body)] ^= 1 << rng.randrange(8)
            case 1 if body:
                body[at % len(body)] = rng.randrange(256)
            case 2:
                body[at:at] = rng.randbytes(rng.randint(1, 3))
            case 3:
                del body[at : at + rng.randint(1, 3)]
            case 4:
                del body[at:]
            case 5:
                body += rng.choice((b"\0", b"\n", b".id", b"\xff", rng.randbytes(8)))
            case _ if len(body) > 2:
                body[2:3] = rng.choice(b"?:+>~;*&!#$x").to_bytes(1, "big")
    return bytes(body[:300])


def wrapped(payload: bytes, rng: random.Random) -> bytes:
    """An OP_RETURN script that pushes ``payload`` in one of the forms, rarely a broken one."""
    size = len(payload)
    form = rng.randrange(12)
    if form == 0:
        return b"\x6a\x4d" + size.to_bytes(2, "little") + payload
    if form == 1:
        return b"\x6a\x4e" + size.to_bytes(4, "little") + payload
    if form == 2:
        return b"\x6a" + bytes((rng.randrange(256),)) + payload
    head = bytes((size,)) if size < 76 else b"\x4c" + bytes((size & 0xFF,))
    return b"\x6a" + head + payload


def transaction(payload: bytes, rng: random.Random) -> tuple[Transaction, list[bytes]]:
    """A transaction around ``payload``, usually well formed, with the scripts that it spends."""
    odd = rng.random() < 0.2
    usual = rng.choice((1, 2, 2, 2, 3, 3))
    count = rng.randrange(6) if odd else usual
    scripts = [rng.choice(SCRIPTS) if odd else PAYER for _ in range(count)]
    others = [TxOut(rng.choice((0, 5500, 2**63 - 1)), script) for script in scripts]
    place = rng.randrange(count + 1) if odd else 0
    others.insert(place, TxOut(0, wrapped(payload, rng)))
    previous = bytes(32) if odd and rng.random() < 0.1 else b"\3" * 32
    inputs = [TxIn(previous, 0, rng.randbytes(rng.randrange(60)) if odd else b"", 0)]
    spent = [rng.choice(SCRIPTS) if odd else PAYER]
    if odd and rng.random() < 0.1:
        spent = spent * rng.randrange(3)
    return Transaction(bytes(32), 1, tuple(inputs), tuple(others), 0), spent


def main(arguments: list[str]) -> int:
    """Read payloads until the count or the time is up; 1 where one of them raised."""
    count = int(arguments[0]) if arguments else COUNT
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    rng = random.Random(seed)
    payloads, source = seeds()
    outcomes: Counter[str] = Counter()
    raised = done = 0
    began = time.perf_counter()
    while done < count and time.perf_counter() - began < MOST_SECONDS:
        payload = mutated(rng.choice(payloads), rng)
        tx, spent = transaction(payload, rng)
        done += 1
        try:
            found = read_operation(tx, 1, spent, MAINNET, rng.choice(EPOCHS))
            if found is None:
                outcomes["not ours"] += 1
            elif isinstance(found, Malformed):
                outcomes[found.flaw.name] += 1
            else:
                write_operation(found, MAINNET.magic)
                outcomes[type(found).__name__] += 1
        except Exception:  # noqa: BLE001 - whatever it is, it is what this program looks for
            raised += 1
            if raised <= 3:
                print(f"raised at {payload.hex()}:\n{traceback.format_exc()}")
    seconds = time.perf_counter() - began
    print(f"{done:,} payloads mutated from {source}, seed {seed}: {raised} raised")
    print(f"{seconds:.1f} s, {done / seconds:,.0f} payloads a second with their making")
    for outcome, times in outcomes.most_common():
        print(f"{times:10,}  {outcome}")
    return 1 if raised else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
