"""Which blockstored ``blockstore-cli`` asks: this user's own over its socket, or one at a port.

What must stay true: what pays goes over the socket of one's own daemon and nowhere else; a daemon
is found as ``blockstored`` finds it, and one that was not named is never asked in place of one
that was, or that this user has and that merely does not run.
"""

import http.client
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from resolver.process import own_socket, pidfile
from resolver.process.own_socket import Unreachable
from resolver.process.places import (
    CONFIG_NAME,
    PLACES,
    SettingsError,
    config_path,
    env_name,
    home_dir,
    usual_dirs,
    working_dir,
)
from resolver.settings.file import read_toml
from resolver.words import PID_NAME

HOST, PORT = "127.0.0.1", 6264
_SIGNS_OF_USE = ("names", "registrar", CONFIG_NAME, PID_NAME)
_SANDBOX = "sandbox"
"""The file that marks the folder of a sandbox, and the name of its network."""


class Absent(NamedTuple):
    """Why nobody can be asked, and what to do."""

    sentence: str
    hint: str


class NobodyThere(Exception):
    """There is nobody to ask."""

    def __init__(self, absent: Absent) -> None:
        self.absent = absent
        super().__init__(absent.sentence)


class BadPlace(Exception):
    """What was named cannot be used."""

    def __init__(self, sentence: str, hint: str) -> None:
        self.sentence = sentence
        self.hint = hint
        super().__init__(sentence)


class Door(Protocol):
    """Where requests go."""

    @property
    def place(self) -> str:
        """It, in words."""
        ...

    def connected(self, timeout: float, *, secret: bool) -> http.client.HTTPConnection:
        """A connection; ``secret``: for what only the daemon's user may ask. Raises NobodyThere,
        BadPlace, and as ``own_socket.connect``."""
        ...


@dataclass(frozen=True)
class AtPort:
    """A daemon at an address and port; it need not be ours, and nothing is paid there."""

    host: str
    port: int

    @property
    def place(self) -> str:
        return f"{self.host} port {self.port}"

    def connected(self, timeout: float, *, secret: bool) -> http.client.HTTPConnection:
        if secret:
            raise BadPlace(
                "what pays, and what was paid, is only for the daemon's own user, on its machine",
                "leave --host and --port (and BLOCKSTORE_API_HOST, BLOCKSTORE_API_PORT) away;"
                " --working-dir says which daemon is meant",
            )
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.connect()
        except TimeoutError:
            raise
        except OSError as error:
            raise NobodyThere(
                Absent(
                    f"blockstored does not run at {self.place} ({error.strerror or error})",
                    "start it with `blockstored start`, or name its place with --host and --port",
                )
            ) from None
        return connection


@dataclass
class OwnDaemon:
    """The daemon of this user that the options, the environment and the settings file name."""

    named: Mapping[str, str]
    """Those of ``places.PLACES`` that were given as options."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    found: "Path | AtPort | None" = None
    """Where it was found, once it was asked."""

    @property
    def place(self) -> str:
        place = self.found or self.folder
        return place.place if isinstance(place, AtPort) else str(place)

    @property
    def folder(self) -> Path:
        """The working folder that is meant. Raises BadPlace."""
        cwd = Path.cwd()
        file, must_exist = config_path(self.environ, self.named, cwd)
        try:
            toml = read_toml(file, must_exist)
            return working_dir(toml, self.environ, self.named, cwd)
        except SettingsError as error:
            raise BadPlace(error.problems[0], "mend it, or give --working-dir") from None

    def connected(self, timeout: float, *, secret: bool) -> http.client.HTTPConnection:
        if isinstance(self.found, AtPort):
            return self.found.connected(timeout, secret=secret)
        folder = self.found or self.folder
        connection = own_socket.Connection(folder, self.environ, timeout)
        try:
            connection.connect()
        except Unreachable as why:
            return self._another(folder, str(why), timeout, secret)
        self.found = folder
        return connection

    def _another(
        self, folder: Path, why: str, timeout: float, secret: bool
    ) -> http.client.HTTPConnection:
        """Where ``folder`` was not named and was never used, the only daemon of this user that
        runs; or else, to read, whoever is at the usual port."""
        others = own_socket.running_elsewhere(folder, self.environ)
        if self._is_named or any((folder / sign).exists() for sign in _SIGNS_OF_USE):
            raise NobodyThere(absent(folder, why, others, self.environ))
        if len(others) == 1:
            self.found = others[0]
            return self.connected(timeout, secret=secret)
        if others or secret:
            raise NobodyThere(absent(folder, why, others, self.environ))
        usual = AtPort(HOST, PORT)
        try:
            connection = usual.connected(timeout, secret=False)
        except NobodyThere:
            raise NobodyThere(absent(folder, why, others, self.environ)) from None
        self.found = usual
        return connection

    @property
    def _is_named(self) -> bool:
        return any(self.named.get(one) or self.environ.get(env_name(one)) for one in PLACES)


def absent(folder: Path, why: str, others: "list[Path]", environ: Mapping[str, str]) -> Absent:
    """What is said where no daemon answers in ``folder``, though ``others`` do in theirs."""
    pid = _runs_as(folder)
    if pid is not None:
        reason = f" ({why})" if why else ", as it does while it starts"
        sentence = f"blockstored runs in {folder} as pid {pid} and does not answer{reason}"
        again = f"`blockstored stop --working-dir {folder}` and start it again; its log says more"
        return Absent(sentence, again if why else f"wait for it; if that is in vain, {again}")
    sentence = f"blockstored does not run in {folder}" + (f" ({why})" if why else "")
    start = f"start it with `{starting(folder, environ)}`"
    if not others:
        return Absent(sentence, f"{start}, or say where it runs with --working-dir")
    places = ", ".join(map(str, others))
    return Absent(
        f"{sentence}; of yours there runs {places}",
        f"{start}, or name the other with --working-dir {others[0]}",
    )


def starting(folder: Path, environ: Mapping[str, str]) -> str:
    """The command that starts the daemon of ``folder``."""
    usual = list(usual_dirs(environ))
    is_sandbox = (folder / _SANDBOX).is_file() or (bool(usual) and folder == usual[-1])
    words = ["blockstored", "sandbox" if is_sandbox else "start"]
    home = home_dir(environ)
    if folder in usual:
        network = folder.name if home is None or folder != usual[0] else ""
        words += ["--network", network] if network and not is_sandbox else []
    else:
        words += ["--working-dir", str(folder)]
    return " ".join(words)


def _runs_as(folder: Path) -> int | None:
    try:
        return pidfile.owner(folder / PID_NAME)
    except OSError:
        return None
