"""Panels and rules name series that the router exports, and what it exports is looked at somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import REGISTRY

from observed.expressions import GRAFANA, metric_names, of_panels, of_rules, rules
from warmroute.app import build
from warmroute.config.settings import Settings
from warmroute.metrics import RouterCollector

_OF_PROMETHEUS: Final = {"up", "ALERTS"}
_SUFFIXES: Final = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("", "_sum", "_count"),
}
_DOCS: Final = Path(__file__).parents[2] / "docs"


def _families() -> dict[str, set[str]]:
    """Of the router: a family's documented name to the names of its series."""
    collected = RouterCollector(build(Settings())).collect()
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: {
            family.name + suffix for suffix in _SUFFIXES.get(family.type, ("",))
        }
        for family in collected
    }


def _of_the_process() -> set[str]:
    return {
        family.name + suffix
        for family in REGISTRY.collect()
        for suffix in _SUFFIXES.get(family.type, ("",))
        if family.name.startswith(("process_", "python_"))
    }


def _asked_for() -> dict[str, str]:
    """Series to one place that names it."""
    return {
        name: where
        for where, text, _ in (*of_panels(), *of_rules())
        for name in metric_names(text)
    }  # fmt: skip


def test_every_series_that_a_panel_or_a_rule_names_is_exported() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    exported = set().union(*_families().values()) | _of_the_process() | _OF_PROMETHEUS | recorded
    assert {name: where for name, where in _asked_for().items() if name not in exported} == {}


def test_every_series_of_the_router_is_on_a_panel_in_a_rule_or_in_a_document() -> None:
    asked_for = set(_asked_for())
    pages = [path for path in (*_DOCS.glob("*.md"), GRAFANA / "README.md") if path.name != "metrics.md"]
    written = set(re.findall(r"\brouter_\w+", "\n".join(page.read_text() for page in pages)))
    unseen = [name for name, series in _families().items() if not (series | {name}) & (asked_for | written)]
    assert unseen == []


def test_what_alerts_and_rates_add_up_is_there_before_anything_has_happened() -> None:
    gateway = build(Settings(backend=("http://127.0.0.1:9",)))
    families = {family.name: family for family in RouterCollector(gateway).collect()}
    for name, label, value in (
        ("router_retries", "kind", "connect"),
        ("router_refusals", "code", "no_worker"),
        ("router_worker_failures", "kind", "status"),
        ("router_worker_restarts", "worker", "http://127.0.0.1:9"),
    ):
        lines = [line for line in families[name].lines if f'{label}="{value}"' in line]
        assert [float(line.split()[-1]) for line in lines] == [0.0], name


def test_every_recorded_series_is_used_by_an_alert() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert recorded == {name for name in _asked_for() if ":" in name}


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ("up", {"up"}),
        ('sum(rate(a_total{b="c_total", d=~"e.*}"}[5m]))', {"a_total"}),
        ("sum by (worker) (a) / on (worker) group_left (model) b", {"a", "b"}),
        ("sum(a_total) by (le, worker)", {"a_total"}),
        ("histogram_quantile(0.99, sum by (le) (rate(a_bucket[$__rate_interval])))", {"a_bucket"}),
        ("job:a:rate5m > bool 14.4 * 0.01 and avg_over_time(b[6h:1m] offset 5m)", {"job:a:rate5m", "b"}),
        ("a or vector(0)", {"a"}),
        ("a * 1e6 / $price_per_million_tokens - +Inf # and not this", {"a"}),
        ("absent(a) unless time() - b", {"a", "b"}),
        ("'a' == `b`", set()),
    ],
)  # fmt: skip
def test_the_names_of_series_are_told_from_all_other_names(expr: str, names: set[str]) -> None:
    assert metric_names(expr) == names
