"""``blockstored snapshot export``, ``snapshot import`` and ``reindex``: the index as a whole.

What must stay true: the archive is never touched; a file or a table is at its place only when it
is whole; whoever is refused reads one line that says what to do. Only the export works beside a
running daemon, through its API; the others hold the daemon's lock, so that none starts meanwhile.
"""

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resolver.daemon.command_line import (
    FAILED,
    UNUSABLE,
    fail,
    read_settings,
    setting_flags,
    tell,
)
from resolver.process import own_socket
from resolver.process.own_socket import Busy, Unreachable
from resolver.process.pidfile import AlreadyRunning, PidFile, owner
from resolver.settings.table import Settings
from resolver.terminal import CONSENSUS_HASH, HEIGHT, say
from resolver.words import CONTEXT, PID_NAME, unwritable

if TYPE_CHECKING:
    from indexer.table.rebuild import OnBlock
    from indexer.table.snapshot_file import Head
    from indexer.table.table import NameTable

API_TIMEOUT = 120.0
PIECE = 2**16
SECONDS_A_LINE = 5.0
_EPILOG = (
    "\b\nExit codes:\n  0  done\n  1  it could not be done; nothing was changed\n"
    "  2  bad command line or setting, or the index is in use or missing"
)


_WHICH = setting_flags("network", "working_dir", "config")


class _NoDaemon(Exception):
    """The daemon that runs does not give its snapshot; ``str()`` of it says why."""


@click.group(context_settings=CONTEXT, epilog=_EPILOG)
def snapshot() -> None:
    """Hand an index on, or begin with one that somebody else has made.

    A snapshot needs no trust in whoever made it, only a consensus hash from somebody who is
    trusted: everything in it is judged again, and must end in this hash.
    """


@snapshot.command("export", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@_WHICH
def export(file: Path, **flags: Any) -> None:
    """Write a snapshot of the index to FILE, which must not exist yet.

    The daemon may run, and goes on; the snapshot is of one block, the last one indexed.
    """
    settings = read_settings(flags)
    if file.exists():
        fail(UNUSABLE, f"{file} exists already; choose another name, or remove it")
    with _ending_on_sigterm():
        try:
            head = _export(settings, file)
        except (OSError, _NoDaemon) as error:
            fail(FAILED, _reason(error))
    say(
        f"{file}: {file.stat().st_size} bytes, {head.network} up to block {head.height}\n"
        f"consensus hash {head.consensus_hash}\n"
        "Whoever imports it must have this hash from somebody they trust:\n"
        f"    blockstored snapshot import FILE --network {head.network}"
        f" --consensus {head.consensus_hash}"
    )


@snapshot.command("import", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--consensus",
    type=CONSENSUS_HASH,
    required=True,
    metavar="HASH",
    help="The trusted consensus hash, 32 digits.",
)
@click.option(
    "--height",
    type=HEIGHT,
    help="The block of that hash; later ones are left out.  [default: the last one]",
)
@_WHICH
def import_(file: Path, consensus: str, height: int | None, **flags: Any) -> None:
    """Make the index from the snapshot in FILE, if it ends in the trusted consensus hash.

    The daemon must not run, and the working folder must hold no index yet.
    """
    settings = read_settings(flags)
    with _alone(settings), _ending_on_sigterm():
        _import(settings, file, bytes.fromhex(consensus), height)


@click.command(context_settings=CONTEXT, epilog=_EPILOG)
@click.option(
    "--from",
    "height",
    type=HEIGHT,
    metavar="HEIGHT",
    help="The first block to index again; all below stay.  [default: all of them]",
)
@_WHICH
def reindex(height: int | None, **flags: Any) -> None:
    """Give up blocks of the index, so that the daemon indexes them again from its node.

    With --from, what lies below stays; where blocks can no longer be taken back one by one,
    the table is made anew from what it holds, without the node. The daemon must not run. The
    archive and everything else in the working folder stay as they are.
    """
    settings = read_settings(flags)
    with _alone(settings), _ending_on_sigterm():
        _reindex(settings, height)


# --- export


def _export(settings: Settings, file: Path) -> "Head":
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as out:
            pid = owner(settings.working_dir / PID_NAME)
            pieces = _of_folder(settings) if pid is None else _of_daemon(settings, pid)
            with contextlib.closing(pieces):
                for piece in pieces:
                    out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        head = _whole(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return head


def _of_folder(settings: Settings) -> Generator[bytes, None, None]:
    from indexer.protocol.rows import DamagedRow
    from indexer.table.rebuild import mend
    from indexer.table.snapshot_file import write_snapshot
    from indexer.table.table import TableError

    folder = settings.working_dir / "names"
    with _alone(settings):
        mend(folder)
        try:
            with opened(settings) as table:
                if table.tip is None:
                    fail(UNUSABLE, f"the index in {folder} holds no block yet")
                yield from write_snapshot(table.snapshot())
        except DamagedRow as error:
            fail(FAILED, f"the index in {folder} is damaged: {error}; run `blockstored reindex`")
        except TableError as error:
            fail(UNUSABLE, str(error))


def _of_daemon(settings: Settings, pid: int) -> Generator[bytes, None, None]:
    connection = own_socket.Connection(settings.working_dir, os.environ, API_TIMEOUT)
    try:
        connection.request("GET", "/v1/snapshot")
        response = connection.getresponse()
        if response.status != 200:
            raise _NoDaemon(_refusal(response.read(PIECE)))
        while piece := response.read(PIECE):
            yield piece
    except (Unreachable, Busy) as reason:
        why = str(reason) or "try again in a moment"
        raise _NoDaemon(f"blockstored runs as pid {pid} and does not answer yet: {why}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _NoDaemon(
            f"blockstored (pid {pid}) broke off ({type(error).__name__}); its log says why"
        ) from None
    finally:
        connection.close()


def _refusal(body: bytes) -> str:
    try:
        said = json.loads(body)
        return f"{said['error']}; {said['hint']}"
    except (ValueError, KeyError, TypeError):
        return "blockstored gave no snapshot; its log says why"


def _whole(file: Path) -> "Head":
    """The first line of a file that was written to its end."""
    from indexer.table.snapshot_file import BadSnapshot, read_head

    with file.open("rb") as stream:
        try:
            return read_head(stream)
        except BadSnapshot as error:
            raise _NoDaemon(f"blockstored gave no snapshot: {error}") from None


# --- import


def _import(settings: Settings, file: Path, trusted: bytes, height: int | None) -> None:
    from indexer.table.rebuild import BadSnapshot, RebuildFailed, import_snapshot
    from indexer.table.table import TableError

    network, folder = settings.chain, settings.working_dir / "names"
    began = time.monotonic()
    try:
        with file.open("rb") as stream:
            head = import_snapshot(stream, folder, network, trusted, height, progress())
    except BadSnapshot as error:
        fail(FAILED, f"{file} is refused: {error}; nothing of it was kept")
    except RebuildFailed as error:
        fail(UNUSABLE, str(error))
    except (TableError, OSError) as error:
        fail(FAILED, _reason(error))
    last = head.height if height is None else height
    tell(
        f"The index of {head.network} holds the blocks {head.first_block} to {last}, judged again"
        f" in {time.monotonic() - began:.1f} seconds; consensus hash {trusted.hex()}.\n"
        "Operations that were refused up to there are not known to it. `blockstored start` goes on."
    )


# --- reindex


def _reindex(settings: Settings, height: int | None) -> None:
    from indexer.table.rebuild import RebuildFailed, mend, rebuild, start_over, take_back_to
    from indexer.table.table import TableError

    network, folder = settings.chain, settings.working_dir / "names"
    if height is None or height <= network.first_block:
        # Without opening it: a table that cannot be opened is a reason to start over.
        existed = folder.exists()
        try:
            start_over(folder, network)
        except (TableError, OSError) as error:
            fail(FAILED, _reason(error))
        what = "The index was given up" if existed else "There was no index"
        tell(
            f"{what}; `blockstored start` makes it from block {network.first_block} on, from the"
            " node. `blockstored snapshot import` makes it from a snapshot file instead."
        )
        return
    mend(folder)
    try:
        with opened(settings) as table:
            tip, undo = table.tip, table.undo_depth()
            if tip is None or height > tip:
                seen = "no block yet" if tip is None else f"the blocks up to {tip} only"
                fail(UNUSABLE, f"the index in {folder} holds {seen}; there is nothing to do")
            one_by_one = tip - height < undo
            if one_by_one:
                take_back_to(table, height - 1, progress())
        if not one_by_one:
            rebuild(folder, network, height - 1, progress())
    except (RebuildFailed, TableError, OSError) as error:
        fail(FAILED, _reason(error))
    tell(f"The index ends at block {height - 1} now; `blockstored start` goes on with {height}.")


# --- what they share


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the lock of the daemon of this working folder."""
    lock = PidFile(settings.working_dir / PID_NAME)
    try:
        settings.working_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except AlreadyRunning as error:
        fail(UNUSABLE, f"blockstored is {error} and holds the index; run `blockstored stop` first")
    except OSError as error:
        fail(UNUSABLE, unwritable(error, settings.working_dir, settings.log_file))
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator["NameTable"]:
    """The index, which no daemon may have open. Ends the program where there is none; raises
    TableError where it cannot be used."""
    from indexer.table.table import NameTable

    folder = settings.working_dir / "names"
    if not folder.is_dir():
        fail(UNUSABLE, f"there is no index in {folder}; check --working-dir and --network")
    with contextlib.closing(NameTable(folder, settings.chain)) as table:
        yield table


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM cleans up as an interrupt does."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def progress() -> "OnBlock":
    """Says on a terminal how far it is, every few seconds."""
    due = time.monotonic() + SECONDS_A_LINE

    def tell(height: int, last: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due and sys.stderr.isatty():
            due = now + SECONDS_A_LINE
            say(f"block {height} of {last}", err=True)

    return tell


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the disk'}: {error.strerror}"
    return " ".join(str(error).split())
