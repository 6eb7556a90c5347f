"""A name table and an archive on disk, filled with names and zone files of one's own choice."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from indexer.networks import MAINNET
from indexer.protocol import schema
from indexer.protocol.records import NameRecord, NamespaceRecord
from indexer.table.level import Level
from indexer.table.table import NameTable
from tests.resolver.fakes import name_record
from zonefiles.archive.archive import Archive
from zonefiles.text.zonefile import value_hash

BATCH = 1_000
"""Records put into the archive at a time."""

NAMESPACE = NamespaceRecord(
    namespace_id="id",
    preorder_hash=bytes(20),
    version=1,
    sender=bytes(25),
    sender_pubkey=None,
    address="1111111111111111111114oLvT2",
    recipient=bytes(25),
    recipient_address="1111111111111111111114oLvT2",
    block_number=100,
    reveal_block=100,
    ready_block=100,
    op="!",
    txid=bytes(32),
    vtxindex=1,
    lifetime=52_595,
    coeff=250,
    base=4,
    buckets=(6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    nonalpha_discount=10,
    no_vowel_discount=10,
)
"""Like the namespace ``id`` of the chain."""


def open_names(table: Path, archive: Path) -> tuple[NameTable, Archive]:
    """Both as they are, or empty."""
    return NameTable(table, MAINNET), Archive(archive, max_bytes=1 << 30)


def with_names(
    table: Path, archive: Path, zone_files: Mapping[str, bytes]
) -> tuple[NameTable, Archive]:
    """A table of one block in which these names (with their ``.id``) are live, and an archive that
    holds their zone files."""
    NameTable(table, MAINNET).close()  # an empty one, which says of which network it is
    held = Archive(archive, max_bytes=1 << 30)
    records = [(value_hash(data), data) for data in zone_files.values()]
    for begin in range(0, len(records), BATCH):
        held.put_many(records[begin : begin + BATCH])
    rows = [
        (schema.name_key(name), schema.NAME_ROW.write(registered(name, digest)))
        for name, (digest, _) in zip(zone_files, records, strict=True)
    ]
    rows.append((schema.namespace_key("id"), schema.NAMESPACE_ROW.write(NAMESPACE)))
    rows.append((schema.NAME_COUNT_KEY, len(records).to_bytes(4, "big")))
    rows.append((schema.header_key(MAINNET.first_block), bytes(80)))
    rows.append((schema.TIP_KEY, schema.height_bytes(MAINNET.first_block)))
    level = Level(table)
    level.write(rows, sync=False)
    level.close()
    return NameTable(table, MAINNET), held


def registered(name: str, digest: bytes) -> NameRecord:
    """The record of a name that is live at the only block of the table."""
    return replace(name_record(name, digest), last_renewed=MAINNET.first_block)
