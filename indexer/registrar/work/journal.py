"""Jobs on disk: one file each, written whole or not at all, by one process at a time.

What must stay true: when ``save`` has returned, the job is on disk as it was given, also through a
power cut; when it fails, the former state is there; nothing that cannot be read is thrown away,
only set aside under another name, and so is what changed since it was written; nobody but the
owner of the process may read a file.
"""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from indexer.networks import Network
from indexer.registrar.work.jobs import BadJob, Job, job_json, read_job

if sys.platform == "win32":
    import msvcrt

    def _take(lock: int) -> None:
        """Lock an open file for this process; OSError where another has it."""
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(lock: int) -> None:
        """Lock an open file for this process; OSError where another has it."""
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


log = logging.getLogger("blockstore.registrar")

MAX_OPEN_JOBS = 1000
MAX_JOB_BYTES = 4_000_000
MAX_CONTENT_BYTES = 1_000_000
_JOB = re.compile(r"([0-9a-z]{6,32})\.json")
_LOCK = "lock"
_DAMAGED = ".damaged"
_CHECKSUM = "checksum"


class JournalError(Exception):
    """The journal cannot be read or written; ``str()`` says why and what to do."""


class TooManyJobs(JournalError):
    """As many jobs are open as there may be."""


class Journal:
    """The jobs of one network in one folder. Not safe for threads: its owner takes turns."""

    def __init__(self, folder: Path, network: Network) -> None:
        """Open the journal, or make an empty one. Raises JournalError, also where another
        process has it."""
        self.folder = folder
        self.network = network
        self.set_aside: list[str] = []
        """A sentence for each file that could not be read when the journal was opened."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as failure:
            raise self._failed("open", failure) from None
        try:
            _take(self._lock)
        except OSError:
            os.close(self._lock)
            raise JournalError(
                f"the registrar's journal in {folder} is in use by another process; stop that one"
                " first"
            ) from None
        try:
            self._jobs = {job.id: job for job in self._read_all()}
        except OSError as failure:
            self.close()
            raise self._failed("read", failure) from None

    def close(self) -> None:
        """Let another process have it. May be called twice."""
        if self._lock >= 0:
            os.close(self._lock)  # and with it goes the lock
            self._lock = -1

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- jobs

    def jobs(self) -> list[Job]:
        """Every job, the oldest first."""
        return sorted(self._jobs.values(), key=lambda job: (job.created, job.id))

    def load(self, job_id: str) -> Job | None:
        """The job as it was last saved; None: there is none of this id."""
        return self._jobs.get(job_id)

    def save(self, job: Job) -> None:
        """Put a job on disk in the place of its former state. Raises JournalError, and then the
        former state stands (or, where only the folder could not be waited for, after a restart
        the new one, on which nobody has acted)."""
        if job.state.is_open and job.id not in self._jobs:
            still_open = sum(known.state.is_open for known in self._jobs.values())
            if still_open >= MAX_OPEN_JOBS:
                raise TooManyJobs(
                    f"{still_open} jobs are open, and more are not taken; wait until some are "
                    "done, or abandon some"
                )
        members = job_json(job, self.network)
        members[_CHECKSUM] = _checksum(members)
        document = json.dumps(members, indent=1, allow_nan=False)
        if len(document) > MAX_JOB_BYTES:
            raise JournalError(f"the job {job.id} has grown too large to be written; abandon it")
        self._write(f"{job.id}.json", document.encode())
        self._jobs[job.id] = job

    # --- what jobs are to publish

    def save_content(self, digest: bytes, content: bytes) -> None:
        """Keep the data that a value hash stands for. Raises JournalError."""
        if len(content) > MAX_CONTENT_BYTES:
            raise JournalError(f"{len(content)} bytes are too many for one name")
        if self.content(digest) != content:
            self._write(f"{digest.hex()}.data", content)

    def content(self, digest: bytes) -> bytes | None:
        """What was kept under a value hash; None: nothing. Raises JournalError."""
        try:
            return (self.folder / f"{digest.hex()}.data").read_bytes()
        except FileNotFoundError:
            return None
        except OSError as failure:
            raise self._failed("read", failure) from None

    # --- files

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole, and wait until it is on the disk under its name."""
        path = self.folder / name
        partial = self.folder / f"{name}.tmp"
        try:
            with open(os.open(partial, _NEW, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            self._sync_folder()
        except OSError as failure:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise self._failed("write to", failure) from None

    def _sync_folder(self) -> None:
        if sys.platform == "win32":
            return  # where a folder cannot be waited for
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _read_all(self) -> Iterator[Job]:
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".tmp":
                path.unlink()  # never finished, so never in force
                continue
            named = _JOB.fullmatch(path.name)
            if named is None:
                continue
            try:
                job = self._read(path)
                if job.id != named[1]:
                    raise BadJob(f"it holds the job {job.id}")
                yield job
            except (BadJob, ValueError, RecursionError) as bad:
                self._set_aside(path, str(bad))

    def _read(self, path: Path) -> Job:
        with path.open("rb") as file:
            content = file.read(MAX_JOB_BYTES + 1)
        if len(content) > MAX_JOB_BYTES:
            raise BadJob("it is too large for a job")
        members = json.loads(content)
        if isinstance(members, dict):
            stated = members.pop(_CHECKSUM, None)  # older jobs have none
            if stated is not None and stated != _checksum(members):
                raise BadJob("it was changed since it was written")
        return read_job(members, self.network)

    def _set_aside(self, path: Path, why: str) -> None:
        aside = path.with_name(path.name + _DAMAGED)
        number = 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"{path.name}{_DAMAGED}{number}")
        path.rename(aside)
        said = (
            f"the registrar's job in {path.name} cannot be read ({why}); it was set aside as"
            f" {aside.name} in {self.folder}, and nothing is done for it: put a good copy of it"
            f" back as {path.name} and start again, or order the same anew"
        )
        log.error("%s", said)
        self.set_aside.append(said)

    def _failed(self, verb: str, failure: OSError) -> JournalError:
        reason = failure.strerror or type(failure).__name__
        return JournalError(
            f"cannot {verb} the registrar's journal in {self.folder}: {reason}; make room on the "
            "disk or mend its permissions, then try again"
        )


def _checksum(members: Mapping[str, object]) -> str:
    """SHA-256 of what a file says, however it is laid out."""
    return sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()


_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
