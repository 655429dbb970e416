"""The checked-in dashboards are those of the code, and such that Grafana shows them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import dashboard as models

from observed.expressions import DASHBOARDS, FILLED_IN, GRAFANA, panels, read

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_BUILT_IN = ("$__rate_interval", "$__range")


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each dashboard in turn."""
    return read(request.param)


def test_the_checked_in_dashboards_are_those_of_the_code() -> None:
    made = subprocess.run(
        [sys.executable, GRAFANA / "generate.py", "--check"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr


def test_the_check_names_a_dashboard_that_is_stale(tmp_path: Path) -> None:
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "generate.py").write_text((GRAFANA / "generate.py").read_text())
    (tmp_path / "boards").symlink_to(GRAFANA / "boards")
    for dashboard in DASHBOARDS:
        (tmp_path / "dashboards" / dashboard.name).write_text(dashboard.read_text())
    (tmp_path / "dashboards" / "cache.json").write_text("{}\n")
    (tmp_path / "dashboards" / "gone.json").write_text("{}\n")
    made = subprocess.run(
        [sys.executable, tmp_path / "generate.py", "--check"], capture_output=True, text=True
    )
    assert (made.returncode, made.stderr) == (1, "stale: cache.json, gone.json; run `make dashboards`\n")


def test_dashboards_differ_in_uid_and_title() -> None:
    documents = [read(dashboard) for dashboard in DASHBOARDS]
    for key in ("uid", "title"):
        assert max(Counter(document[key] for document in documents).values()) == 1


def test_the_sdk_reads_it_and_finds_the_same_panels(document: dict[str, Any]) -> None:
    model = models.Dashboard.from_json(document)
    assert [panel.title for panel in model.panels or ()] == [panel["title"] for panel in document["panels"]]


def test_panels_have_numbers_of_their_own(document: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in document["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))


def test_panels_fill_their_lines_and_cover_nothing(document: dict[str, Any]) -> None:
    covered: Counter[tuple[int, int]] = Counter()
    for panel in document["panels"]:
        at = panel["gridPos"]
        covered.update((at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"]))
    assert set(covered.values()) == {1}
    bottom = max(y for _, y in covered)
    assert len(covered) == 24 * (bottom + 1)


def test_everything_asks_the_chosen_data_source(document: dict[str, Any]) -> None:
    first = document["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    asking = [
        *panels(document),
        *(target for panel in panels(document) for target in panel["targets"]),
        *(variable for variable in document["templating"]["list"] if variable["type"] == "query"),
        *document["annotations"]["list"],
    ]
    assert [one["datasource"] for one in asking] == [DATASOURCE] * len(asking)


def test_every_variable_in_a_query_is_there_to_be_chosen(document: dict[str, Any]) -> None:
    declared = {f"${variable['name']}" for variable in document["templating"]["list"]}
    used = {
        variable
        for panel in panels(document)
        for target in panel["targets"]
        for variable in FILLED_IN
        if variable in target["expr"] and variable not in _BUILT_IN
    }
    assert used <= declared
    assert declared - used <= {"$datasource", "$currency"}


def test_every_panel_says_what_it_means(document: dict[str, Any]) -> None:
    for panel in panels(document):
        assert len(panel["description"].split()) >= 2, panel["title"]
        assert panel["targets"], panel["title"]


def test_what_every_router_sees_is_not_added_up_over_routers(document: dict[str, Any]) -> None:
    for panel in panels(document):
        for target in panel["targets"]:
            if "router_worker_restarts_total" in target["expr"]:
                assert "max by (worker) (increase(router_worker_restarts_total" in target["expr"], panel[
                    "title"
                ]


def test_where_shadows_stand_beside_the_live_router_the_baseline_is_named(document: dict[str, Any]) -> None:
    for panel in panels(document):
        hits = [re.findall("router_(shadow_)?predicted_hit_tokens", one["expr"]) for one in panel["targets"]]
        if ["shadow_"] in hits:
            assert "compare with a shadow of the live policy" in panel["description"], panel["title"]


def test_every_dashboard_links_to_all(document: dict[str, Any]) -> None:
    (link,) = document["links"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(document["tags"])


def test_provisioning_names_a_prometheus_and_a_folder() -> None:
    folder = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = yaml.safe_load((folder / "dashboards" / "warmroute.yaml").read_text())["providers"]
    assert (provider["type"], provider["options"]["path"]) == (
        "file",
        "/var/lib/grafana/dashboards/warmroute",
    )
    scraped = yaml.safe_load((GRAFANA / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
