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
from typing import Protocol

import click
from click.core import ParameterSource

from resolver import refusals
from resolver.process import own_socket, pidfile
from resolver.process.own_socket import Unreachable
from resolver.process.places import (
    CONFIG_NAME,
    NETWORKS,
    PLACES,
    SettingsError,
    Whereabouts,
    config_path,
    env_name,
    usual_dirs,
    working_dir,
)
from resolver.settings.file import read_toml
from resolver.words import PID_NAME

HOST, PORT = "127.0.0.1", 6264
_SIGNS_OF_USE = ("names", "registrar", CONFIG_NAME, PID_NAME)
_SANDBOX = "sandbox"
"""The file that marks the folder of a sandbox, and the name of its network."""


class NotToBeAsked(Exception):
    """Nobody can be asked there: with which exit code that ends, why, and what to do."""

    def __init__(self, exit_code: int, sentence: str, hint: str) -> None:
        self.exit_code, self.sentence, self.hint = exit_code, sentence, hint
        super().__init__(sentence)


class Door(Protocol):
    """Where requests go."""

    @property
    def place(self) -> str:
        """It, in words."""
        ...

    def connected(self, timeout: float, *, secret: bool) -> http.client.HTTPConnection:
        """A connection; ``secret``: for what only the daemon's user may ask. Raises NotToBeAsked,
        and as ``own_socket.connect``."""
        ...

    def completed(self, text: str) -> str:
        """A message whose commands are those for this daemon."""
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
            raise NotToBeAsked(
                refusals.USAGE,
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
            why = f"blockstored does not run at {self.place} ({error.strerror or error})"
            hint = "start it with `blockstored start`, or name its place with --host and --port"
            others = own_socket.running_elsewhere(None, os.environ)
            raise NotToBeAsked(refusals.NOT_RUNNING, *_beside(why, hint, others)) from None
        return connection

    def completed(self, text: str) -> str:
        told = f"`blockstore-cli --host {self.host} --port {self.port} "
        return text.replace("`blockstore-cli ", told)


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
        """The working folder that is meant. Raises NotToBeAsked."""
        cwd = Path.cwd()
        try:
            return working_dir(self._on_file(cwd), self.environ, self.named, cwd)
        except SettingsError as error:
            hint = "mend it, or give --working-dir"
            raise NotToBeAsked(refusals.USAGE, error.problems[0], hint) from None

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

    def completed(self, text: str) -> str:
        if isinstance(self.found, AtPort):
            return self.found.completed(text)
        try:
            return self._whereabouts(self.found or self.folder).completed(text, self.environ)
        except NotToBeAsked:  # where it is cannot be told
            return text

    def _another(
        self, folder: Path, why: str, timeout: float, secret: bool
    ) -> http.client.HTTPConnection:
        """Where ``folder`` was not named and was never used, the only daemon of this user that
        runs; or else, to read, whoever is at the usual port."""
        others = own_socket.running_elsewhere(folder, self.environ)
        if self._is_named or any((folder / sign).exists() for sign in _SIGNS_OF_USE):
            raise self._absent(folder, why, others)
        if len(others) == 1:
            self.found = others[0]
            return self.connected(timeout, secret=secret)
        if others or secret:
            raise self._absent(folder, why, others)
        usual = AtPort(HOST, PORT)
        try:
            connection = usual.connected(timeout, secret=False)
        except NotToBeAsked:
            raise self._absent(folder, why, others) from None
        self.found = usual
        return connection

    def _absent(self, folder: Path, why: str, others: list[Path]) -> NotToBeAsked:
        """What is said where no daemon answers in ``folder``, though ``others`` do in theirs."""
        pid = _runs_as(folder)
        if pid is None:
            sentence = f"blockstored does not run in {folder}" + (f" ({why})" if why else "")
            hint = "start it with `blockstored start`, or say where it runs with --working-dir"
            sentence, hint = _beside(sentence, hint, others)
        else:
            reason = f" ({why})" if why else ", as it does while it starts"
            sentence = f"blockstored runs in {folder} as pid {pid} and does not answer{reason}"
            again = "stop it with `blockstored stop` and start it again; its log says more"
            hint = again if why else f"wait for it; if that is in vain, {again}"
        return NotToBeAsked(refusals.NOT_RUNNING, sentence, hint)

    def _whereabouts(self, folder: Path) -> Whereabouts:
        cwd = Path.cwd()
        file, was_named = config_path(self.environ, self.named, cwd)
        try:
            toml = self._on_file(cwd)
        except SettingsError:
            toml = {}
        usual = {path: name for name, path in zip(NETWORKS, usual_dirs(self.environ), strict=False)}
        told = self.named.get("network") or self.environ.get(env_name("network"))
        network = str(told or toml.get("network") or usual.get(folder) or "mainnet")
        if (folder / _SANDBOX).is_file():
            network = _SANDBOX
        return Whereabouts(network, folder, file if was_named else None)

    def _on_file(self, cwd: Path) -> Mapping[str, object]:
        return read_toml(*config_path(self.environ, self.named, cwd))

    @property
    def _is_named(self) -> bool:
        return any(self.named.get(one) or self.environ.get(env_name(one)) for one in PLACES)


def door_of(context: click.Context) -> Door:
    """Where the program is told to ask, by the options of its first command: what was typed goes
    before what the environment says, a folder before a port. Raises UsageError."""
    told = context.params
    places = {name: told[name] for name in PLACES if told.get(name)}

    def typed(*names: str) -> bool:
        return any(context.get_parameter_source(n) is ParameterSource.COMMANDLINE for n in names)

    at_port = AtPort(told["host"] or HOST, told["port"] or PORT)
    own = OwnDaemon(places)
    if typed("host", "port"):
        if typed(*PLACES):
            raise click.UsageError("give --host and --port, or --working-dir and its like")
        return at_port
    return at_port if (told["host"] or told["port"]) and not own.named else own


def _beside(sentence: str, hint: str, others: list[Path]) -> tuple[str, str]:
    """Both, with the daemons of this user that do run."""
    if not others:
        return sentence, hint
    places = ", ".join(map(str, others))
    start = hint.partition(", or ")[0]
    return (
        f"{sentence}; of yours there runs {places}",
        f"{start}, or name the other with --working-dir {others[0]}",
    )


def _runs_as(folder: Path) -> int | None:
    try:
        return pidfile.owner(folder / PID_NAME)
    except OSError:
        return None
