"""A synthetic chain of name operations among other transactions, the same for the same seed.

What must stay true: every block has proof of work at regtest's difficulty, a merkle root over its
transactions and a parent, so it passes the checks of a real one; its operations are mostly valid
at their place, because the generator applies each block before it writes the next.
"""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from embit.ec import PrivateKey
from embit.hashes import hash160

from indexer.bitcoin.blocks import scan_block
from indexer.bitcoin.headers import merkle_root
from indexer.bitcoin.transactions import (
    NULL_HASH,
    TxIn,
    TxOut,
    compact_size,
    double_sha256,
    hash_bytes,
    is_p2pkh,
    p2sh_script,
    serialize_transaction,
)
from indexer.networks import CONSENSUS_WINDOW, MAX_NAMES_PER_SENDER, SANDBOX
from indexer.protocol.apply import Outcome, SpentCandidate, apply_block
from indexer.protocol.names import hash128
from indexer.protocol.operations import Announce, Operation, Renew, Revoke, Transfer
from indexer.protocol.prices import name_price_satoshis
from indexer.registrar.planning.compose import write_outputs
from tests.benchmarks.strangers import Made, stranger
from tests.indexer import fakes
from tests.indexer.fakes import Person

NETWORK = SANDBOX
NAMESPACES = {"id": 1, "helloworld": 1, "podcast": 2}
"""Ids with versions; fees of names under version 2 go to whoever revealed the namespace."""
IMPORTED = "id"
IMPORTED_PART = 0.05  # of the operations of the first lap
KINDS = {
    "preorder": 30.0,  # each is followed by a registration
    "update": 22.0,
    "transfer": 9.0,
    "renew": 8.0,
    "revoke": 1.0,
    "announce": 0.2,
    "invalid": 4.0,
}
_BITS = (0x207FFFFF).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class MinedBlock:
    """A block, the scripts that its candidates spend, and what it does to the name table."""

    height: int
    hash: bytes
    raw: bytes
    spent: dict[tuple[bytes, int], bytes]
    outcome: Outcome


@dataclass(slots=True)
class _Owner:
    person: Person
    room: int
    """How many names more they mean to own."""


@dataclass(slots=True)
class _Name:
    name: str
    owner: _Owner


class _Rows:
    """The rows of the table in memory; the only scans are those of what a script owns."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._owned: dict[bytes, set[bytes]] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        assert prefix[:1] == b"o", "the generator keeps an index of owners only"
        return [(key, b"") for key in sorted(self._owned.get(prefix, ()))]

    def write(self, rows: dict[bytes, bytes | None]) -> None:
        for key, row in rows.items():
            if key[:1] == b"o":
                prefix = key[:26] if is_p2pkh(key[1:26]) else key[:24]
                owned = self._owned.setdefault(prefix, set())
                (owned.discard if row is None else owned.add)(key)
            if row is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = row


def _grown_person(secret: bytes) -> Person:
    """Somebody whose key is on the curve, so that it has children that may import."""
    person = Person("")
    person.public_key = PrivateKey(secret).get_public_key().sec()
    person.script = fakes.p2pkh_script(hash160(person.public_key))
    return person


@dataclass
class SyntheticChain:
    """``operations`` name operations and ``others`` other transactions in each ``blocks`` blocks.

    Such a stretch is called a lap; ``mine`` gives as many blocks as are asked for, and the names
    of earlier laps go on living in later ones.
    """

    seed: int
    operations: int
    blocks: int
    others: int
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._rows = _Rows()
        self._hashes: list[bytes] = []  # consensus hashes from the first block on
        self._tip = hash_bytes(NETWORK.genesis_hash)
        self._spent: dict[tuple[bytes, int], bytes] = {}
        self._names: list[_Name] = []
        self._fresh: list[_Name] = []  # not to be used before the next block
        self._imported: list[_Name] = []  # nor before their namespace opens
        self._waiting: deque[tuple[int, Person, _Owner | None, str]] = deque()
        self._open: list[str] = []
        self._owners: list[_Owner] = []
        self._labels = 0
        self._imports = int(self.operations * IMPORTED_PART)
        self._revealers = {n: _grown_person(hash160(n.encode()) + bytes(12)) for n in NAMESPACES}
        self._payers = {n: Person(f"payer of {n}") for n in NAMESPACES}

    def mine(self, laps: int) -> Iterator[MinedBlock]:
        """The blocks of ``laps`` laps, from the network's first height on."""
        done = others = 0
        for lap in range(laps):
            weights = [self._rng.uniform(0.25, 1.75) for _ in range(self.blocks)]
            total, so_far = sum(weights), 0.0
            for index, weight in enumerate(weights):
                so_far += weight
                part = lap + (so_far / total if index + 1 < self.blocks else 1.0)
                wanted = round(part * self.operations) - done
                filler = round(part * self.others) - others
                block, made = self._mine(wanted, filler)
                done, others = done + made, others + filler
                yield block

    # --- blocks

    @property
    def _height(self) -> int:
        return NETWORK.first_block + len(self._hashes)

    def _mine(self, wanted: int, filler: int) -> tuple[MinedBlock, int]:
        self._spent = {}
        ours = self._operations(wanted)
        made = [stranger(self._rng) for _ in range(filler)] + ours
        # A shuffle that keeps ours in their order, as the chain of one wallet's coins would.
        places = sorted(self._rng.sample(range(len(made)), len(ours)))
        others = iter(made[:filler])
        mine = iter(ours)
        taken = set(places)
        body = [next(mine) if place in taken else next(others) for place in range(len(made))]
        raw = self._raw_block([self._coinbase(), *body])
        height = self._height
        scanned = scan_block(raw, NETWORK.magic)
        spent = [
            SpentCandidate(
                c, tuple(self._spent.get((i[0], i[1]), b"\0\x14") for i in c.transaction.inputs)
            )
            for c in scanned.candidates
        ]
        for s in spent:
            for i, script in zip(s.candidate.transaction.inputs, s.spent_scripts, strict=True):
                self._spent[i[0], i[1]] = script
        outcome = apply_block(self._rows, NETWORK, height, scanned.header.raw, spent)
        self._rows.write(outcome.rows)
        self._hashes.append(outcome.consensus_hash)
        self._names += self._fresh
        self._fresh = []
        self._tip = scanned.header.hash
        return MinedBlock(height, self._tip, raw, self._spent, outcome), len(ours)

    def _coinbase(self) -> Made:
        script_sig = b"\x03" + self._height.to_bytes(3, "little") + self._rng.randbytes(40)
        outputs = [
            TxOut(1_250_000_000, p2sh_script(self._rng.randbytes(20))),
            TxOut(0, b"\x6a\x24\xaa\x21\xa9\xed" + self._rng.randbytes(32)),
        ]
        spends = [TxIn(NULL_HASH, 0xFFFFFFFF, script_sig, 0xFFFFFFFF)]
        raw = serialize_transaction(1, spends, outputs, 0)
        return raw, double_sha256(raw)

    def _raw_block(self, made: list[Made]) -> bytes:
        root = merkle_root([txid for _, txid in made])
        time = 1_700_000_000 + 600 * self._height
        head = b"\0\0\0\x20" + self._tip + root + time.to_bytes(4, "little") + _BITS
        nonce = 0
        while double_sha256(head + nonce.to_bytes(4, "little"))[31] > 0x7E:
            nonce += 1
        header = head + nonce.to_bytes(4, "little")
        return header + compact_size(len(made)) + b"".join(raw for raw, _ in made)

    # --- operations

    def _operations(self, wanted: int) -> list[Made]:
        """At most ``wanted`` operations, fewer only while there is nothing to act upon yet."""
        sent = self._opening(wanted)
        if not self._open:
            return sent
        imports = (wanted - len(sent)) // 2  # the rest of the block goes to open namespaces
        sent += [self._import() for _ in range(min(imports, self._imports))]
        while len(sent) < wanted:
            if self._waiting and self._waiting[0][0] <= self._height:
                _, payer, owner, name = self._waiting.popleft()
                sent.append(self._register(payer, owner, name))
                continue
            sent += self._begin(self._rng.choices(list(KINDS), list(KINDS.values()))[0])
        return sent[:wanted]

    def _opening(self, wanted: int) -> list[Made]:
        """Three blocks that preorder, reveal and open; the one of imports opens after them."""
        at = len(self._hashes)
        sent: list[Made] = []
        for name, version in NAMESPACES.items():
            payer, revealer = self._payers[name], self._revealers[name]
            if at == 1:
                wish = fakes.namespace_preorder(NETWORK, name, payer, revealer, self._hashes[-1])
                sent.append(self._send(payer, wish))
            elif at == 2:
                reveal = fakes.namespace_reveal(name, revealer, version=version)
                sent.append(self._send(payer, reveal))
            elif at >= 3 and name not in self._open and (name != IMPORTED or not self._imports):
                sent.append(self._send(revealer, fakes.namespace_ready(name)))
                self._open.append(name)
                if name == IMPORTED:
                    self._fresh += self._imported
        assert len(sent) <= max(wanted, 3)
        return sent

    def _begin(self, kind: str) -> list[Made]:
        rng = self._rng
        if kind == "preorder" or not self._names:
            return [self._preorder(self._owner())]
        if kind == "invalid":
            return self._invalid()
        chosen = rng.randrange(len(self._names))
        name = self._names[chosen]
        person = name.owner.person
        if kind == "update":
            return [self._send(person, fakes.update(name.name, self._recent(), rng.randbytes(20)))]
        if kind == "transfer":
            taker = self._owner()
            if taker is name.owner:
                return []
            name.owner.room += 1
            taker.room -= 1
            name.owner = taker
            return [self._send(person, self._transfer(name.name, taker.person))]
        if kind == "renew":
            return [self._send(person, self._renew(name.name, person))]
        if kind == "revoke":
            self._names[chosen] = self._names[-1]
            self._names.pop()
            name.owner.room += 1
            return [self._send(person, Revoke(name=name.name))]
        return [self._send(person, Announce(message_hash=rng.randbytes(20)))]

    def _invalid(self) -> list[Made]:
        """What goes wrong on a real chain: too late, too cheap, by the wrong person, cut short."""
        rng = self._rng
        name = rng.choice(self._names)
        thief, label = Person(f"thief {rng.random()}"), self._label()
        match rng.randrange(7):
            case 0:
                stale = self._hashes[max(0, len(self._hashes) - CONSENSUS_WINDOW - 5)]
                return [self._send(thief, fakes.preorder(NETWORK, label, thief, thief, stale))]
            case 1:
                return [self._send(thief, fakes.register(label, thief))]
            case 2:
                return [self._send(thief, fakes.update(name.name, self._recent(), bytes(20)))]
            case 3:
                return [self._send(thief, self._transfer(name.name, self._owner().person))]
            case 4:
                return [self._send(thief, fakes.register(name.name, thief))]
            case 5:
                cheap = replace(self._renew(name.name, name.owner.person), op_fee=546)
                return [self._send(name.owner.person, cheap)]
            case _:
                return [self._send(thief, Revoke(name="No Name"))]

    def _import(self) -> Made:
        self._imports -= 1
        owner, revealer = self._owner(), self._revealers[IMPORTED]
        name = f"{self._label().partition('.')[0]}.{IMPORTED}"
        owner.room -= 1
        self._imported.append(_Name(name, owner))
        value_hash = self._rng.randbytes(20)
        return self._send(revealer, fakes.name_import(name, owner.person, value_hash))

    def _preorder(self, owner: _Owner) -> Made:
        name = self._label()
        payer = owner.person if self._rng.random() < 0.5 else Person(f"wallet of {name}")
        wish = fakes.preorder(NETWORK, name, payer, owner.person, self._recent())
        namespace_id = name.partition(".")[2]
        if NAMESPACES[namespace_id] == 2:
            wish = replace(wish, fee_script=self._payers[namespace_id].script)
        owner.room -= 1
        self._waiting.append((self._height + 1, payer, owner, name))
        return self._send(payer, wish)

    def _register(self, payer: Person, owner: _Owner, name: str) -> Made:
        self._fresh.append(_Name(name, owner))
        value_hash = self._rng.randbytes(20) if self._rng.random() < 0.5 else None
        return self._send(payer, fakes.register(name, owner.person, value_hash))

    def _transfer(self, name: str, taker: Person) -> Transfer:
        keep = self._rng.random() < 0.8
        return Transfer(
            name_hash128=hash128(name),
            consensus_hash=self._recent(),
            keep_data=keep,
            recipient=taker.script,
        )

    def _renew(self, name: str, owner: Person) -> Renew:
        label, _, namespace_id = name.partition(".")
        terms = fakes.namespace_reveal(namespace_id, owner)
        price = name_price_satoshis(label, terms, NETWORK.epoch(self._height))
        payee = NETWORK.burn_script
        if NAMESPACES[namespace_id] == 2:
            payee = self._payers[namespace_id].script
        return Renew(name=name, recipient=owner.script, op_fee=max(price, 5500), fee_script=payee)

    def _recent(self) -> bytes:
        """A consensus hash as a client would know it: one to twelve blocks old."""
        return self._hashes[max(0, len(self._hashes) - self._rng.randint(1, 12))]

    def _owner(self) -> _Owner:
        """Somebody with room for a name: many want one, few want 25."""
        while self._owners:
            at = self._rng.randrange(len(self._owners))
            owner = self._owners[at]
            if owner.room > 0 and len(self._owners) > 200:
                return owner
            if owner.room > 0:
                break
            self._owners[at] = self._owners[-1]
            self._owners.pop()
        person = Person(f"owner {self._rng.random()}")
        if self._rng.random() < 0.05:
            person.script = p2sh_script(self._rng.randbytes(20))
        sizes = range(1, MAX_NAMES_PER_SENDER + 1)
        wants = self._rng.choices(sizes, [1 / size for size in sizes])[0]
        owner = _Owner(person, wants)
        self._owners.append(owner)
        return owner

    def _label(self) -> str:
        """A name that nobody has thought of yet, in a namespace that is open."""
        rng = self._rng
        self._labels += 1
        syllables = (rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(3))
        digits = self._labels
        ending = ""
        while digits:
            digits, letter = divmod(digits, 26)
            ending += chr(97 + letter)
        extra = rng.choice(("", "", "", str(rng.randrange(100)), "-" + rng.choice("xyz")))
        namespace_id = IMPORTED if rng.random() < 0.8 else rng.choice(list(NAMESPACES))
        if namespace_id not in self._open:
            namespace_id = self._open[0] if self._open else IMPORTED
        return f"{''.join(syllables)}{ending}{extra}.{namespace_id}"

    def _send(self, person: Person, operation: Operation) -> Made:
        """A transaction in which ``person`` sends ``operation``, as wallets of the time made it."""
        inputs = []
        for _ in range(self._rng.choice((1, 1, 1, 2))):
            coin = self._rng.randbytes(32), self._rng.randrange(3)
            self._spent[coin] = person.script
            push = b"\x47" + self._rng.randbytes(71) + b"\x21" + person.public_key
            inputs.append(TxIn(*coin, push, 0xFFFFFFFF))
        outputs, change = write_outputs(operation, NETWORK, person.script)
        outputs[change] = TxOut(self._rng.randrange(10_000, 10_000_000), person.script)
        raw = serialize_transaction(1, inputs, outputs, 0)
        return raw, double_sha256(raw)
