"""The settings as people and programs read them: rows, flags, values; secrets stay hidden."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from resolver.settings.table import Settings
from resolver.settings.types import HIDDEN, as_text, host_port, without_credentials


def rows() -> Iterator[tuple[str, FieldInfo]]:
    """The table: (name, row) in the order in which people read it."""
    yield from Settings.model_fields.items()


def is_secret(name: str) -> bool:
    """Whether the value of this setting is never shown and never taken as a flag."""
    return bool(_extra(Settings.model_fields[name]).get("secret"))


def takes_many(name: str) -> bool:
    """Whether this setting holds several values (its flag may be repeated)."""
    return get_origin(Settings.model_fields[name].annotation) in (tuple, dict)


def is_switch(name: str) -> bool:
    """Whether a setting is on or off, so that its flag needs no value."""
    field = Settings.model_fields.get(name)
    return field is not None and field.annotation is bool


def flag_name(name: str) -> str:
    """The command line flag of a setting."""
    return "--" + name.replace("_", "-")


def default_text(name: str) -> str:
    """The default of a setting, in words."""
    row = Settings.model_fields[name]
    shown = _extra(row).get("shown")
    if shown:
        return str(shown)
    return as_text(row.default) or "none"


def _extra(row: FieldInfo) -> dict[str, Any]:
    return row.json_schema_extra if isinstance(row.json_schema_extra, dict) else {}


def effective(settings: Settings) -> dict[str, dict[str, object]]:
    """Each setting's value (secrets hidden) and source, ready for JSON."""
    result: dict[str, dict[str, object]] = {}
    for name, _row in rows():
        value = getattr(settings, name)
        if value is not None and is_secret(name):
            value = HIDDEN
        elif isinstance(value, Path):
            value = str(value)
        elif isinstance(value, str):
            value = without_credentials(value)
        elif name in ("dht_bootstrap", "forward"):
            value = [host_port(pair) for pair in value]
        elif isinstance(value, tuple):
            value = list(value)
        result[name] = {"value": value, "source": settings.source_of(name)}
    return result


def to_toml(settings: Settings) -> str:
    """The effective settings as a settings file, each with its source as a comment."""
    lines: list[str] = []
    tables: list[str] = []
    for name, entry in effective(settings).items():
        value, source = entry["value"], entry["source"]
        if isinstance(value, dict):
            tables += ["", f"[{name}]  # {source}"]
            tables += [f"{_toml(key)} = {_toml(item)}" for key, item in value.items()]
        elif name == "config":
            lines.append(f"# {name} = {_toml(value)}  # {source}")
        elif value is None or value == HIDDEN:
            lines.append(f"# {name} = {_toml(value or '')}  # {source}")
        else:
            lines.append(f"{name} = {_toml(value)}  # {source}")
    return "\n".join(lines + tables) + "\n"


def _toml(value: object) -> str:
    # JSON's strings, numbers and lists of strings are TOML's; DEL is the one that is not.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def markdown_table() -> str:
    """The table of settings as it stands in the README."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, row in rows():
        lines.append(f"| `{name}` | {_cell(default_text(name))} | {_cell(row.description or '')} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
