"""The effective settings as people and programs read them; secrets stay hidden."""

import json
from pathlib import Path

from resolver.settings.settings import Settings, default_text, is_secret, rows
from resolver.settings.types import HIDDEN, host_port, without_credentials


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
