"""`router config`: the resolved settings and where each came from, for people and for programs.

Secrets are never shown, only how many there are.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmroute.config.backends import Backend
from warmroute.config.flags import size_text
from warmroute.config.settings import FIELDS, group_of, is_secret, kind_of
from warmroute.config.sources import Resolved

MASK = "********"

# What a URL says between its scheme and its host: a user, and often a password.
_USER = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")


def plain_value(name: str, value: Any) -> Any:
    """A setting's value as JSON has it, secrets masked."""
    if is_secret(FIELDS[name]):
        return [MASK for _ in value]
    if isinstance(value, tuple):
        return [plain_value(name, item) for item in value]
    if isinstance(value, Backend):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    return _USER.sub(MASK, value) if isinstance(value, str) else value


def shown_value(name: str, value: Any) -> str:
    """A setting's value in one line, secrets masked."""
    if value is None or value in ((), {}):
        return "-"
    if is_secret(FIELDS[name]):
        return " ".join(MASK for _ in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items())
    if kind_of(FIELDS[name]).metavar == "SIZE":
        return size_text(value)
    return f"{value:g}" if isinstance(value, float) else _USER.sub(MASK, str(value))


def as_json(resolved: Resolved) -> str:
    """Every setting as `{name: {value, source}}`."""
    document = {
        name: {"value": plain_value(name, getattr(resolved.settings, name)), "source": origin}
        for name, origin in resolved.origins.items()
    }
    return json.dumps(document, indent=2) + "\n"


def as_lines(resolved: Resolved) -> str:
    """Name, source and value without colours or borders, for pipes."""
    rows = [
        (name, origin, shown_value(name, getattr(resolved.settings, name)))
        for name, origin in resolved.origins.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "".join(f"{name:<{widths[0]}}  {origin:<{widths[1]}}  {value}\n" for name, origin, value in rows)


def as_table(resolved: Resolved, console: Console) -> None:
    """Writes a table to the console; what somebody set stands out."""
    table = Table("setting", "value", "from", box=None, header_style="bold", pad_edge=False)
    group = None
    for name, origin in resolved.origins.items():
        if group not in (None, group_of(FIELDS[name])):
            table.add_section()
        group = group_of(FIELDS[name])
        style = "dim" if origin == "default" else ""
        value = shown_value(name, getattr(resolved.settings, name))
        table.add_row(Text(name), Text(value, style=style, overflow="fold"), Text(origin, style=style))
    console.print(table)
