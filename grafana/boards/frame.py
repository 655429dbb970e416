"""What every dashboard has: variables, links to the others, numbered panels.

Rules kept: a dashboard's identity is `warmroute-NAME` for ever, so that links and bookmarks outlive a change;
panels are numbered from the top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from boards.panels import DATASOURCE, GREY, Panel

TAG: Final = "warmroute"

REFRESH: Final = "30s"
"""Half the usual scrape interval would only show the same twice."""

Variable = Builder[models.VariableModel]
Section = tuple[str, Sequence[Panel]]
"""A row's title and its panels."""


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    name: str
    """Of its file and, behind `warmroute-`, of its uid."""
    title: str
    description: str
    head: Sequence[Panel]
    """The stat row: the answer at a glance."""
    sections: Sequence[Section]
    variables: Sequence[Callable[[], Variable]]
    """Beside those that all have: the data source and the routers."""

    @property
    def uid(self) -> str:
        return f"{TAG}-{self.name}"

    def build(self) -> models.Dashboard:
        """The SDK's model of it."""
        board = (
            builders.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .timezone("browser")
            .time("now-1h", "now")
            .refresh(REFRESH)
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .link(_siblings())
            .annotation(_alerts())
        )
        for variable in (_datasource, job, instance, *self.variables):
            board.with_variable(variable())
        for panel in self.head:
            board.with_panel(panel)
        for title, panels in self.sections:
            board.with_row(builders.Row(title))
            for panel in panels:
                board.with_panel(panel)
        built = board.build()
        for number, placed in enumerate(built.panels or (), start=1):
            placed.id_val = number
        return built


def job() -> Variable:
    """The Prometheus job: where staging and production differ."""
    return _labels("job", "Job", "label_values(router_info, job)")


def instance() -> Variable:
    """The router processes."""
    return _labels("instance", "Router", 'label_values(router_info{job=~"$job"}, instance)')


def model() -> Variable:
    """Models that were asked for."""
    return _labels("model", "Model", 'label_values(router_prompt_tokens_total{job=~"$job"}, model)')


def worker() -> Variable:
    """Workers of the chosen routers."""
    query = 'label_values(router_worker_health{job=~"$job",instance=~"$instance"}, worker)'
    return _labels("worker", "Worker", query)


def number(name: str, label: str, default: str, description: str) -> Callable[[], Variable]:
    """A figure, or a word, that the reader types."""
    return lambda: (
        builders.TextBoxVariable(name)
        .label(label)
        .description(description)
        .default_value(default)
        .current(models.VariableOption(selected=True, text=default, value=default))
    )


def _labels(name: str, label: str, query: str) -> Variable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def _datasource() -> Variable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _siblings() -> builders.DashboardLink:
    """Every other dashboard, with the same variables and time."""
    return (
        builders.DashboardLink("warmroute")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(as_dropdown=False)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )


def _alerts() -> builders.AnnotationQuery:
    """Firing alerts as marks on every graph."""
    return (
        builders.AnnotationQuery()
        .name("Firing alerts")
        .datasource(DATASOURCE)
        .enable(enable=True)
        .icon_color(GREY)
        .expr('ALERTS{alertname=~"Warmroute.*",alertstate="firing",job=~"$job"}')
    )
