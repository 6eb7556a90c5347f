"""Every key of the name table's database, in one place.

A key is one letter, which says what its row is, and then what the row is about. Heights and places
in a block are four bytes big-endian, so that rows lie in the order of the chain.

====  ==========================================  ======================================  =========
key   then                                        row                                   a look-up
====  ==========================================  ======================================  =========
B     height                                      header of the block (80 bytes)        one get
H     height                                      ops hash (32), consensus hash (16)    one get
C     consensus hash                              height                                one get
O     height                                      serialised operations, one a line     one get
T     height                                      txids of its operations, 32 bytes     one get
                                                  each, refused ones too
R     height                                      their transactions and what they spend  one get
U     height                                      what each key held before the block   one get
N     namespace ``.`` label                       NameRecord                            one get
S     namespace                                   NamespaceRecord                       one get
P     preorder hash                               PreorderRecord of a name              one get
Q     preorder hash                               PreorderRecord of a namespace         one get
p     preorder hash                               the name that it became               one get
q     preorder hash                               the namespace that it became          one get
h     hash128 of a name                           the name                              one get
o     scriptPubKey, name                          (empty) the script owns the name      a short scan
d     value hash, name                            (empty) the name holds the hash       a short scan
e     value hash, name, NUL, height, place        (empty) the name held it until there  a short scan
c     scriptPubKey                                how many names were created for it    one get
c     scriptPubKey, number from 0                 height, place, name: the creation     one get
k     namespace                                   import keys: hash160 of each, sorted  one get
y     name, NUL, height, place                    NameRecord after the operation there  a short scan
z     namespace, NUL, height, place               NamespaceRecord after it              a short scan
v     txid                                        Verdict                               one get
w     name or namespace, NUL, height, place       txid of an operation about it that    a short scan
                                                  left no row y: refused, a preorder
!     a word                                      one of a kind: schema, tip, names,    one get
                                                  began
====  ==========================================  ======================================  =========

What the questions of ``snapshot`` cost; none grows with the size of the table:

* one get: a name, a namespace, a verdict, a block's hashes, the block of a consensus hash;
* one seek and one get: a name or a namespace as it was at any height;
* one get for the list and one for each verdict: the operations of a block;
* one seek and the rows returned, in pages, each taken up again where the last one ended: the states
  of a name, names in a namespace, namespaces, names of an owner, names that hold or held a value;
  of those that are asked for live only, a page walks at most ``PAGE_ROWS`` rows;
* the same with one get more for each: the verdicts about a name;
* a seek and a search by halves among the creations for one script: which of them made a name.
"""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.protocol.records import NameRecord, NamespaceRecord, PreorderRecord
from indexer.protocol.rows import RowOf

SCHEMA_VERSION = 2
UNDO_BLOCKS = 144  # how many blocks can be taken back

PAGE_ROWS = 1000  # how many rows a page of a listing walks at most

SCHEMA_KEY = b"!schema"
TIP_KEY = b"!tip"
NAME_COUNT_KEY = b"!names"
BEGAN_KEY = b"!began"  # the last block of the snapshot file that the table was made from


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one operation; ``flaw`` is the name of a ``Flaw``, None: it took effect."""

    height: int
    vtxindex: int
    opcode: str
    subject: str
    """The name or namespace it was about, "" where the operation does not tell."""
    flaw: str | None


NAME_ROW = RowOf(NameRecord)
NAMESPACE_ROW = RowOf(NamespaceRecord)
PREORDER_ROW = RowOf(PreorderRecord)
VERDICT_ROW = RowOf(Verdict)


def height_bytes(height: int) -> bytes:
    """A height as it stands in keys and rows."""
    return height.to_bytes(4, "big")


def _at(letter: bytes) -> Callable[[int], bytes]:
    """The key of what there is one of in a block, by its height."""
    return lambda height: letter + height.to_bytes(4, "big")


def _of(letter: bytes) -> Callable[[bytes], bytes]:
    """The key, or what many begin with, of what bytes stand for: a hash, a txid, a script."""
    return letter.__add__


def _called(letter: bytes) -> Callable[[str], bytes]:
    """The key of what has this name."""
    return lambda name: letter + name.encode()


def _story_of(letter: bytes) -> Callable[[str], bytes]:
    """What the keys of all that was at a name begin with."""
    return lambda subject: letter + subject.encode() + b"\0"


def _told_of(letter: bytes) -> Callable[[str, int, int], bytes]:
    """The key of what was at a name at a height and a place in the block."""
    return lambda subject, height, vtxindex: letter + _placed(subject, height, vtxindex)


header_key, hashes_key, operations_key = _at(b"B"), _at(b"H"), _at(b"O")
txids_key, carried_key, undo_key = _at(b"T"), _at(b"R"), _at(b"U")
consensus_key, hash128_key, verdict_key = _of(b"C"), _of(b"h"), _of(b"v")
preorder_key, namespace_preorder_key = _of(b"P"), _of(b"Q")
preordered_name_key, preordered_namespace_key = _of(b"p"), _of(b"q")
owner_prefix, creations_key = _of(b"o"), _of(b"c")
"""p2pkh and p2sh scripts are told apart by their first byte, so none begins another."""
value_prefix, past_value_prefix = _of(b"d"), _of(b"e")
namespace_key, keyring_key = _called(b"S"), _called(b"k")
history_prefix, history_key = _story_of(b"y"), _told_of(b"y")
namespace_history_prefix, namespace_history_key = _story_of(b"z"), _told_of(b"z")
about_prefix, about_key = _story_of(b"w"), _told_of(b"w")


def name_key(name: str) -> bytes:
    """Names of a namespace lie together, in the order of their labels."""
    label, _, namespace_id = name.partition(".")
    return f"N{namespace_id}.{label}".encode()


def name_of_key(key: bytes) -> str:
    """The name whose record lies under ``key``."""
    namespace_id, _, label = key[1:].decode().partition(".")
    return f"{label}.{namespace_id}"


def past_value_key(value_hash: bytes, name: str, height: int, vtxindex: int) -> bytes:
    return past_value_prefix(value_hash) + _placed(name, height, vtxindex)


def creation_key(script: bytes, number: int) -> bytes:
    """As above no script begins another, and none of the two kinds is four bytes longer."""
    return b"c" + script + height_bytes(number)


def _placed(subject: str, height: int, vtxindex: int) -> bytes:
    """A subject and where on the chain, so that what is about it lies in the chain's order."""
    return subject.encode() + b"\0" + height_bytes(height) + height_bytes(vtxindex)


def place_of_key(key: bytes) -> tuple[int, int]:
    """The height and the place in the block with which such a key ends."""
    return int.from_bytes(key[-8:-4], "big"), int.from_bytes(key[-4:], "big")


def describe(key: bytes) -> str:
    """A key as people read it: its letter, and the rest as text or in hex."""
    text = key.decode("latin-1")
    return text if text.isascii() and text.isprintable() else f"{text[0]} {key[1:].hex()}"
