"""``blockstored replay`` and ``blockstored verify``: the rules and the hashes, checked by anybody.

What must stay true: neither needs a Bitcoin node nor a running daemon; what they compute goes to
stdout, why they failed to stderr; a file or an index that cannot be used is one line.
"""

import sys
from pathlib import Path
from typing import Any

import click

from resolver.daemon.command_line import (
    UNUSABLE,
    fail,
    read_settings,
    setting_flags,
)
from resolver.daemon.table_commands import opened, progress
from resolver.process import pidfile
from resolver.settings.table import Settings
from resolver.terminal import CONSENSUS_HASH, HEIGHT, say
from resolver.words import CONTEXT, PID_NAME

DIFFERENT = 1
_EPILOG = (
    "\b\nExit codes:\n  0  all that was compared is equal\n  1  something differs; what, is said\n"
    "  2  nothing could be compared; the reason is on stderr"
)


@click.command(context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Compare with the outcome that the file records.")
def replay(files: tuple[Path, ...], check: bool) -> None:
    """Put recorded chains through the rules and print their hashes.

    One line a block: HEIGHT OPS_HASH CONSENSUS_HASH. With --check, everything is compared
    with what the file records, and the first difference is shown field by field.
    """
    from indexer.following.replay import BadChainFile

    for path in files:
        if len(files) > 1:
            say(f"# {path}", err=True)
        try:
            lines = _replayed(path, check)
        except BadChainFile as error:
            fail(UNUSABLE, str(error))
        if lines is not None:
            say("\n".join([f"{path} differs from what it records.", *lines]), err=True)
            sys.exit(DIFFERENT)


@click.command(context_settings=CONTEXT, epilog=_EPILOG)
@click.option("--height", type=HEIGHT, required=True, help="The block.")
@click.option(
    "--consensus",
    type=CONSENSUS_HASH,
    required=True,
    metavar="HASH",
    help="Its consensus hash: 32 hex digits.",
)
@setting_flags("network", "working_dir", "config")
def verify(height: int, consensus: str, **flags: Any) -> None:
    """Compute the chain of hashes and every row anew from what is stored, and compare.

    The index must not be in use: stop blockstored first. Published hashes of the network are
    compared on the way. Then all blocks of the index are judged again, and the rows that
    follow are compared with those that names are answered from. This takes about as long as
    `blockstored reindex --from` and as much of the disk as the index.
    """
    settings = read_settings(flags)
    _verify(settings, height, bytes.fromhex(consensus))


def _replayed(path: Path, check: bool) -> list[str] | None:
    """Print the hashes of a chain file; the lines of the first difference, if asked for."""
    from indexer.following.differences import first_difference
    from indexer.following.replay import MemoryStore, read_chain, replay

    chain = read_chain(path)
    for block, outcome in replay(chain, MemoryStore()):
        if block.height - 1 == chain.network.frozen_at:
            say(f"consensus: frozen at {chain.network.frozen_at}", err=True)
        hashes = f"{outcome.ops_hash.hex()} {outcome.consensus_hash.hex()}"
        say(f"{block.height} {hashes}")
        lines = first_difference(block, outcome) if check else None
        if lines is not None:
            return lines
    return None


def _verify(settings: Settings, height: int, trusted: bytes) -> None:
    from indexer.table.rebuild import RebuildFailed, compare_rows
    from indexer.table.table import TableDamaged, TableError
    from indexer.table.verify import VerificationFailed, compute_chain

    network = settings.chain
    pid = pidfile.owner(settings.working_dir / PID_NAME)
    if pid is not None:
        fail(
            UNUSABLE,
            f"blockstored runs as pid {pid} and holds the index; stop it with `blockstored stop`,"
            " verify, and start it again",
        )
    if network.is_frozen(height):
        fail(
            UNUSABLE,
            f"the consensus of {network.name} is frozen at {network.frozen_at}: recorded hashes of"
            " later blocks do not follow from Bitcoin alone and cannot be verified",
        )
    try:
        with opened(settings) as table:
            seen = table.snapshot()
            if not network.first_block <= height <= seen.height:
                fail(
                    UNUSABLE,
                    f"block {height} is not indexed; the index in {settings.working_dir} goes from"
                    f" block {network.first_block} to {seen.height}",
                )
            computed = compute_chain(seen, height)
            if computed == trusted:
                compare_rows(table, progress())
    except VerificationFailed as failed:
        fail(DIFFERENT, f"the index is damaged: {failed}; run `blockstored reindex`")
    except (TableDamaged, RebuildFailed) as damaged:
        fail(DIFFERENT, str(damaged))
    except (TableError, OSError) as error:
        fail(UNUSABLE, str(error))
    say(f"{height} {computed.hex()}")
    if computed != trusted:
        fail(
            DIFFERENT,
            f"block {height} has the consensus hash {computed.hex()}, not {trusted.hex()}",
        )
