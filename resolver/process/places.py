"""Where a daemon's folder and its settings file are, by flags, environment and settings file; and
how a command of a message names them.

Pure, and quick to import: both programs ask it, so that they find the same daemon.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from resolver.words import printable

ENV_PREFIX = "BLOCKSTORE_"
CONFIG_NAME = "blockstore.toml"
NETWORKS = ("mainnet", "testnet", "testnet4", "signet", "regtest", "sandbox")
PLACES = ("network", "working_dir", "config")
"""The settings that say which daemon is meant."""

_IN_A_MESSAGE = re.compile(
    r"`(blockstored (?:start|stop|status|config|verify|reindex|snapshot (?:export|import))"
    r"|blockstore-cli)(?=[ `])(?! --(?:network|working-dir|config|host|port) )"
)
"""A command as messages have it, which does not say yet which daemon is meant."""


class SettingsError(ValueError):
    """Settings that cannot be used; ``problems`` holds one line for people for each, whatever the
    settings held."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(map(printable, problems))
        super().__init__("\n".join(self.problems))


def env_name(name: str) -> str:
    """The environment variable of a setting."""
    return ENV_PREFIX + name.upper()


def default_dir(network: str, home: Path) -> Path:
    """The working folder of a network for whoever names none."""
    base = home / ".blockstore"
    return base if network == "mainnet" else base / network


def usual_dirs(environ: Mapping[str, str]) -> Iterator[Path]:
    """The working folders of this user's daemons that were told no other, network by network."""
    home = home_dir(environ)
    if home is not None:
        yield from (default_dir(network, home) for network in NETWORKS)


def home_dir(environ: Mapping[str, str]) -> Path | None:
    """The user's home, where the environment tells."""
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return Path(home) if home else None


def config_path(
    environ: Mapping[str, str], flags: Mapping[str, object], cwd: Path = Path()
) -> tuple[Path | None, bool]:
    """Which settings file to read, and whether a person named it (then it must exist)."""

    def given(name: str) -> str | None:
        value = flags.get(name) or environ.get(env_name(name))
        return str(value) if value else None

    home = home_dir(environ)
    named = given("config")
    if named:
        return absolute(Path(named), home, cwd), True
    folder = given("working_dir")
    if folder:
        return absolute(Path(folder), home, cwd) / CONFIG_NAME, False
    if home is None:
        return None, False
    return default_dir(given("network") or "mainnet", home) / CONFIG_NAME, False


def working_dir(
    toml: Mapping[str, object],
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    cwd: Path = Path(),
) -> Path:
    """The working folder. ``toml`` is what the file of ``config_path`` holds. Raises SettingsError
    where nothing says it."""

    def given(name: str) -> str:
        return str(flags.get(name) or environ.get(env_name(name)) or toml.get(name) or "")

    home = home_dir(environ)
    if given("working_dir"):
        return absolute(Path(given("working_dir")), home, cwd)
    file, named = config_path(environ, flags, cwd)
    if file is not None and not named:
        return file.parent
    if home is None:
        raise SettingsError(["working_dir: there is no home folder; give --working-dir"])
    network = given("network")
    return default_dir(network if network in NETWORKS else "mainnet", home)


def absolute(path: Path, home: Path | None, cwd: Path) -> Path:
    """``path`` as seen from ``cwd``, with a leading ``~`` as the home folder."""
    if path.parts[:1] == ("~",) and home is not None:
        path = home.joinpath(*path.parts[1:])
    return cwd / path


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What a command must be told to find one daemon, and none other."""

    network: str
    working_dir: Path
    config: Path | None = None
    """The settings file, where it was named."""

    def completed(self, text: str, environ: Mapping[str, str]) -> str:
        """``text`` whose commands, which stand in backticks, are those for this very daemon."""
        options = []
        home = home_dir(environ)
        usual = home is not None and self.working_dir == default_dir(self.network, home)
        elsewhere = any(environ.get(env_name(place)) for place in PLACES)
        if self.network != "mainnet" or elsewhere:
            options += ["--network", self.network]
        if not usual or elsewhere:
            options += ["--working-dir", shlex.quote(str(self.working_dir))]
        if self.config is not None:
            options += ["--config", shlex.quote(str(self.config))]

        def complete(match: re.Match[str]) -> str:
            command, told = match[1], options
            if self.network == "sandbox" and command == "blockstored start":
                command, told = "blockstored sandbox", options[2:]
            return " ".join(["`" + command, *told])

        return _IN_A_MESSAGE.sub(complete, text)
