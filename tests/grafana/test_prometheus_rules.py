"""The rules are such that Prometheus takes them, fire when they should, and lead to what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from observed.expressions import GRAFANA, RULES, alerts
from observed.prometheus import tool

PROMETHEUS = GRAFANA / "prometheus"
CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOK = Path(__file__).parents[2] / "docs" / "alerts.md"


def _promtool(*arguments: str | Path) -> None:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_configuration() -> None:
    _promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_promtool_takes_the_rules() -> None:
    _promtool("check", "rules", *RULES)


def test_alerts_fire_where_they_should_and_only_there() -> None:
    _promtool("test", "rules", *CASES)


def _cases() -> list[dict[str, Any]]:
    return [
        case
        for path in CASES
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]


def test_every_alert_has_a_case_that_fires() -> None:
    fired = {case["alertname"] for case in _cases() if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}


def test_every_alert_has_a_case_that_does_not_fire() -> None:
    """Or one where it fires for one of several that are there."""
    quiet = {case["alertname"] for case in _cases() if not case["exp_alerts"]}
    assert quiet == {rule["alert"] for rule in alerts()}


def test_every_alert_leads_to_its_section_and_every_section_has_an_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    links = [rule["annotations"]["runbook_url"] for rule in alerts()]
    assert links == [f"docs/alerts.md#{rule['alert'].lower()}" for rule in alerts()]
    assert sorted(sections) == sorted(rule["alert"] for rule in alerts())


def test_the_runbook_tells_the_severity_that_the_rule_has() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    told = dict(re.findall(r"^## (\w+)\n\n\*(Page|Ticket)\.\*", text, re.MULTILINE))
    assert told == {rule["alert"]: rule["labels"]["severity"].capitalize() for rule in alerts()}
