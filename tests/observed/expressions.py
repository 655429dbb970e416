"""The queries of panels and rules, as they stand in the checked-in files, and the series they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

GRAFANA: Final = Path(__file__).parents[2] / "grafana"
DASHBOARDS: Final = sorted((GRAFANA / "dashboards").glob("*.json"))
RULES: Final = sorted((GRAFANA / "prometheus" / "rules").glob("*.yml"))

FILLED_IN: Final = {
    "$__rate_interval": "15s",
    "$__range": "1m",
    "$job": ".*",
    "$instance": ".*",
    "$model": ".*",
    "$worker": ".*",
    "$price_per_million_tokens": "0.5",
    "$price_per_gpu_hour": "2.5",
    "$gpus_per_worker": "1",
}
"""What Grafana puts in place of the dashboards' variables, as for a router that has run for some seconds."""


class Expression(NamedTuple):
    """One query and where it stands."""

    where: str
    text: str
    over_time: bool = False
    """A graph asks for it at many moments, all else only for now."""


def read(dashboard: Path) -> dict[str, Any]:
    """A dashboard's JSON."""
    document: dict[str, Any] = json.loads(dashboard.read_text(encoding="utf-8"))
    return document


def panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels that show something, rows not among them."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def of_panels() -> Iterator[Expression]:
    """Every query of every panel."""
    for dashboard in DASHBOARDS:
        for panel in panels(read(dashboard)):
            for target in panel["targets"]:
                where = f"{dashboard.stem}: {panel['title']} ({target['refId']})"
                yield Expression(where, target["expr"], bool(target.get("range")))


def rules() -> Iterator[dict[str, Any]]:
    """Every rule, recording or alerting."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    """Every alerting rule."""
    return [rule for rule in rules() if "alert" in rule]


def of_rules() -> Iterator[Expression]:
    """Every rule's expression."""
    for rule in rules():
        yield Expression(rule.get("alert") or rule["record"], rule["expr"])


def filled_in(expr: str) -> str:
    """With a value for every variable. AssertionError when one is left."""
    for variable in sorted(FILLED_IN, key=len, reverse=True):
        expr = expr.replace(variable, FILLED_IN[variable])
    assert "$" not in expr, f"a variable that FILLED_IN does not know: {expr}"
    return expr


def whether_or_not(alert: str) -> str:
    """An alert that gives 0 or 1 where it would give nothing: data means that all it looks at is there."""
    compared = re.sub(r"(==|!=|<=|>=|<|>)(?=\s)", r"\1 bool", alert)
    return re.sub(r"\babsent\b", "", compared)


_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`')
_COMMENT: Final = re.compile(r"#.*")
_MATCHERS: Final = re.compile(r"\{[^}]*\}")
_RANGE: Final = re.compile(r"\[[^\]]*\]")
_LABELS: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME: Final = re.compile(r"(?<![\w$.:])[a-zA-Z_:][\w:]*(?![\w:])(?!\s*\()")
_WORDS: Final = frozenset(
    ("and", "or", "unless", "bool", "offset", "group_left", "group_right", "inf", "nan", "start", "end")
)


def metric_names(expr: str) -> set[str]:
    """The series that a PromQL expression selects by name.

    What may hold other names goes first: strings, comments, label matchers, ranges, label lists. Of the rest,
    a name is a series unless it is a keyword or stands before a parenthesis, as functions do.
    """
    for other in (_STRINGS, _COMMENT, _MATCHERS, _RANGE, _LABELS):
        expr = other.sub(" ", expr)
    return {name for name in _NAME.findall(expr) if name.lower() not in _WORDS}
