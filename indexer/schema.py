"""Every key of the name table's database, in one place.

A key is one letter, which says what its row is, and then what the row is about. Heights are four
bytes big-endian, so that rows lie in the order of the chain. What a look-up costs:

====  ==========================================  ======================================  =========
key   then                                        row                                   a look-up
====  ==========================================  ======================================  =========
B     height                                      header of the block (80 bytes)        one get
H     height                                      ops hash (32), consensus hash (16)    one get
C     consensus hash                              height                                one get
O     height                                      serialised operations, one a line     one get
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
k     namespace                                   import keys: hash160 of each, sorted  one get
y     name, NUL, height, place in the block       NameRecord after the operation there  a short scan
v     txid                                        Verdict                               one get
!     a word                                      one of a kind: schema, tip, names     one get
====  ==========================================  ======================================  =========

Scans walk exactly the rows they return; no look-up grows with the size of the table.
"""

from dataclasses import dataclass

from indexer.records import NameRecord, NamespaceRecord, PreorderRecord
from indexer.rows import RowOf

SCHEMA_VERSION = 1
UNDO_BLOCKS = 144  # how many blocks can be taken back

SCHEMA_KEY = b"!schema"
TIP_KEY = b"!tip"
NAME_COUNT_KEY = b"!names"


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


def header_key(height: int) -> bytes:
    return b"B" + height_bytes(height)


def hashes_key(height: int) -> bytes:
    return b"H" + height_bytes(height)


def consensus_key(consensus_hash: bytes) -> bytes:
    return b"C" + consensus_hash


def operations_key(height: int) -> bytes:
    return b"O" + height_bytes(height)


def undo_key(height: int) -> bytes:
    return b"U" + height_bytes(height)


def name_key(name: str) -> bytes:
    """Names of a namespace lie together, in the order of their labels."""
    label, _, namespace_id = name.partition(".")
    return f"N{namespace_id}.{label}".encode()


def name_of_key(key: bytes) -> str:
    """The name whose record lies under ``key``."""
    namespace_id, _, label = key[1:].decode().partition(".")
    return f"{label}.{namespace_id}"


def namespace_key(namespace_id: str) -> bytes:
    return b"S" + namespace_id.encode()


def preorder_key(preorder_hash: bytes) -> bytes:
    return b"P" + preorder_hash


def namespace_preorder_key(preorder_hash: bytes) -> bytes:
    return b"Q" + preorder_hash


def preordered_name_key(preorder_hash: bytes) -> bytes:
    return b"p" + preorder_hash


def preordered_namespace_key(preorder_hash: bytes) -> bytes:
    return b"q" + preorder_hash


def hash128_key(hash128: bytes) -> bytes:
    return b"h" + hash128


def owner_prefix(script: bytes) -> bytes:
    """p2pkh and p2sh scripts are told apart by their first byte, so none begins another."""
    return b"o" + script


def value_prefix(value_hash: bytes) -> bytes:
    return b"d" + value_hash


def keyring_key(namespace_id: str) -> bytes:
    return b"k" + namespace_id.encode()


def history_prefix(name: str) -> bytes:
    return b"y" + name.encode() + b"\0"


def history_key(name: str, height: int, vtxindex: int) -> bytes:
    return history_prefix(name) + height_bytes(height) + height_bytes(vtxindex)


def verdict_key(txid: bytes) -> bytes:
    return b"v" + txid
