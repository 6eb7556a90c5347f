"""Where the value of each setting comes from: a flag, the environment, the file, or the default.

``load`` is pure: the file, the environment and the flags are arguments. A value given by flag beats
the environment, which beats the file, which beats the default, and each effective value remembers
where it came from. No message ever shows a secret.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from indexer.networks import NETWORKS
from resolver.process.places import (
    CONFIG_NAME,
    ENV_PREFIX,
    SettingsError,
    absolute,
    config_path,
    env_name,
    home_dir,
    working_dir,
)
from resolver.settings.table import FROM_FILE, MAX_SHOWN_PATH, NODES, PATHS, Settings
from resolver.settings.text import flag_name, is_secret, is_switch
from resolver.settings.types import as_text, without_credentials
from resolver.words import TOKEN_NAME, printable

FREE_TO_BEGIN = ("regtest", "signet", "testnet4")
"""Networks without names that all agree on."""
MAX_SHOWN = 80
"""Signs of a value in a message."""


def load(
    toml: Mapping[str, object],
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    cwd: Path = Path(),
) -> Settings:
    """The effective settings. ``flags`` holds only what was given. Raises SettingsError."""
    known = list(Settings.model_fields)
    file, _ = config_path(environ, flags, cwd)
    problems: list[str] = []
    values: dict[str, object] = {}
    sources: dict[str, str] = {}

    for key, value in toml.items():
        if key in known:
            values[key], sources[key] = value, FROM_FILE
        else:
            near = _nearest(key, known)
            shown, where = printable(key, MAX_SHOWN), _origin(FROM_FILE, file)
            problems.append(f"{shown}: no such setting (in {where}){near}")
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        key = variable[len(ENV_PREFIX) :].lower()
        if key in known:
            values[key], sources[key] = text, f"environment {variable}"
        elif difflib.get_close_matches(key, known, n=1, cutoff=0.8):
            # Other programs may use the prefix too, so only a likely slip of the pen is an error.
            near = _nearest(key, known)
            problems.append(f"{variable}: no such setting (in the environment){near}")
    for key, value in flags.items():
        if key in known:
            values[key], sources[key] = value, f"flag {flag_name(key)}"
        else:
            problems.append(f"{key}: no such setting (flag){_nearest(key, known)}")

    def with_defaults() -> dict[str, object]:
        filled = dict(values)
        try:
            _add_defaults(filled, sources, environ, flags, cwd)
        except SettingsError as error:
            raise SettingsError([*problems, *error.problems]) from None
        return filled

    whole = with_defaults()
    settings, wrong = _validate(whole)
    problems += [_line(key, whole, sources, why) for key, why in wrong.items()]
    if settings is None:
        # What contradicts something else is said as well, as if the bad values were not there.
        values = {key: value for key, value in values.items() if key not in wrong}
        settings, _ = _validate(with_defaults())
    if settings is not None:
        for key, others, why in _clashes(settings):
            if not wrong.keys() & {key, *others}:
                problems.append(_line(key, whole, sources, why))
    if problems or settings is None:
        raise SettingsError(problems)
    settings._sources.update(sources)
    return settings


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return "; `blockstored config` lists them all"


def _add_defaults(
    values: dict[str, object],
    sources: dict[str, str],
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    cwd: Path,
) -> None:
    """Fill in what depends on the network or on the place of other things."""
    network = str(values.get("network", "mainnet"))
    if network not in NETWORKS:
        network = "mainnet"  # the check of the value itself will speak
    home = home_dir(environ)
    file, _ = config_path(environ, flags, cwd)
    if "working_dir" not in values:
        values["working_dir"] = working_dir({"network": network}, environ, flags, cwd)
    for key in PATHS:
        if isinstance(values.get(key), (str, Path)):
            values[key] = absolute(Path(str(values[key])), home, cwd)
    folder = values["working_dir"]
    here = folder if isinstance(folder, Path) else cwd
    values.setdefault("config", file or here / CONFIG_NAME)
    values.setdefault("log_file", here / "blockstored.log")
    values.setdefault("api_token_file", here / TOKEN_NAME)
    port, folder = NODES[network]
    values.setdefault("node_url", f"http://127.0.0.1:{port}")
    values.setdefault("confirmations", NETWORKS[network].confirmations)
    values.setdefault("first_block", NETWORKS[network].first_block)
    values.setdefault("catch_up_processes", _catch_up_processes(os.cpu_count() or 1))
    values.setdefault("poll_interval", 10.0 if NETWORKS[network].confirmations > 1 else 0.5)
    has_user = "node_user" in values or "@" in str(values["node_url"])
    if not has_user and home is not None and folder is not None:
        values.setdefault("node_cookie_file", home / ".bitcoin" / folder / ".cookie")


def _catch_up_processes(cores: int) -> int:
    """Two also where there are only two cores: one reads while the node makes the other's batch."""
    return 0 if cores == 1 else min(3, max(2, cores // 2))


def _validate(values: Mapping[str, object]) -> tuple[Settings | None, dict[str, str]]:
    """The settings, or None and what is wrong with which."""
    wrong = {
        key: "true and false mean nothing here"
        for key, value in values.items()
        if isinstance(value, bool) and not is_switch(key)
    }
    for key, value in values.items():
        if "\0" in as_text(value):  # TOML can write it; no path, address or name can hold it
            wrong[key] = "no value can hold the character U+0000; leave it out"
    try:
        settings = Settings.model_validate(dict(values))
    except ValidationError as error:
        for flaw in error.errors():
            wrong.setdefault(str(flaw["loc"][0]), _allowed(flaw))
        return None, wrong
    return (None if wrong else settings), wrong


def _allowed(flaw: Any) -> str:
    context = flaw.get("ctx", {})
    if flaw["type"] == "value_error":
        return str(context["error"])
    if flaw["type"] == "literal_error":
        return f"allowed: {context['expected']}"
    message = str(flaw["msg"])
    return message[:1].lower() + message[1:]


def _line(key: str, values: Mapping[str, object], sources: Mapping[str, str], allowed: str) -> str:
    origin = _origin(sources.get(key, "default"), values.get("config"))
    if is_secret(key):
        return f"{key}: the value from {origin} cannot be used: {allowed}"
    shown = without_credentials(as_text(values.get(key)) or "(empty)")
    return f"{key}: {printable(shown, MAX_SHOWN)} (from {origin}) cannot be used: {allowed}"


def _origin(source: str, file: object) -> str:
    """Where a value came from, with the name of the file to open."""
    if source != FROM_FILE or file is None:
        return source
    return f"{FROM_FILE} {printable(str(file), MAX_SHOWN_PATH)}"


_NEEDS = (
    ("node_user", "node_password", f"in the settings file or {env_name('node_password')}"),
    ("node_password", "node_user", "whose it is"),
    ("tls_certificate", "tls_key", "its key"),
    ("tls_key", "tls_certificate", "its certificate"),
    ("key_passphrase_file", "key_file", "the keys"),
)
"""Settings that mean nothing without another one, which that is, and what it is."""


def _clashes(settings: Settings) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Values that are good alone and not together: of which setting it is said, the others, why."""
    if settings.min_ttl > settings.max_ttl:
        yield "min_ttl", ("max_ttl",), f"it is above max_ttl, {settings.max_ttl}"
    begins = NETWORKS[settings.network].first_block
    if settings.first_block != begins and settings.network not in FREE_TO_BEGIN:
        why = f"the names of {settings.network} begin at block {begins} for everybody"
        yield "first_block", ("network",), why
    if settings.stale_after > settings.refuse_after:
        why = f"it is above refuse_after, {settings.refuse_after:g}"
        yield "stale_after", ("refuse_after",), why
    for key, needed, why in _NEEDS:
        if getattr(settings, key) is not None and getattr(settings, needed) is None:
            yield key, (needed,), f"it needs {needed}, {why}"
    if settings.tls_certificate is not None:
        taken = {settings.dns_port: "dns_port"}
        if settings.api_host in settings.listen:
            taken[settings.api_port] = "api_port"
        for key in ("dot_port", "doh_port"):
            port = getattr(settings, key)
            if port not in ("off", 0) and port in taken:
                yield key, (taken[port], "api_host", "listen"), f"{taken[port]} has the same port"
            taken.setdefault(port, key)
    unserved = [
        s for s in settings.chain_first if s.lower().removesuffix(".") not in settings.zones
    ]
    if unserved:
        yield "chain_first", ("zones",), f"{unserved[0]!r} is none of the zones"
    elif settings.chain_first and not settings.forward:
        yield "chain_first", ("forward",), "it needs somebody to ask, forward"
    for upstream in settings.forward:
        port = settings.dot_port if upstream.tls else settings.dns_port
        if upstream.host in settings.listen and upstream.port == port:
            why = f"{upstream.host} port {upstream.port} is this server itself"
            yield "forward", ("listen", "dns_port", "dot_port"), why
    if settings.forward_ca is not None and not any(one.tls for one in settings.forward):
        why = "it is for resolvers asked over TLS, tls://ADDRESS#NAME in forward"
        yield "forward_ca", ("forward",), why
    if settings.proxy_protocol and not settings.trusted_proxies:
        yield "proxy_protocol", ("trusted_proxies",), "it needs the proxies, trusted_proxies"
    if settings.signer == "key-file" and settings.key_file is None:
        yield "signer", ("key_file",), "it needs the keys, key_file"
    if settings.auto_renew and not settings.auto_renew_max_price:
        why = "it needs to know at what price, auto_renew_max_price"
        yield "auto_renew", ("auto_renew_max_price",), why
    if settings.auto_renew and settings.signer == "nobody":
        yield "auto_renew", ("signer",), "it needs somebody to sign, signer"
    dns_hosts = set(settings.listen)
    for key, host in (("api_port", settings.api_host), ("dht_port", settings.dht_host)):
        if getattr(settings, key) == settings.dns_port != 0 and host in dns_hosts:
            why = f"the DNS doors already have port {settings.dns_port} of {host}"
            yield key, ("dns_port", "listen", f"{key[:3]}_host"), why
