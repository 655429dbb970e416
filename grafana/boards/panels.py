"""The house style: one function per kind of panel, and nothing on a panel that does not help to read it.

Rules kept: every panel has a description; colours go by name, so that a worker keeps its own over all panels;
quantiles and parts of a whole have fixed colours, dark is worse; thresholds are there only where a value is
good or bad by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as units
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from boards import promql

DATASOURCE: Final = models.DataSourceRef("prometheus", "${datasource}")

GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"
BLUE, LIGHT_BLUE, DARK_BLUE, PURPLE, GREY = "blue", "light-blue", "dark-blue", "purple", "text"

GRID_WIDTH: Final = 24
STAT_HEIGHT: Final = 4
GRAPH_HEIGHT: Final = 8

_REF_IDS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Panel = Builder[models.Panel]
Steps = Sequence[tuple[float | None, str]]
"""A colour from each value on; the first has no value."""


class Line(NamedTuple):
    """One query of a panel, and what its series are called."""

    expr: str
    legend: str
    color: str | None = None
    """None: by name. Only for a query of one series, whose legend is plain text."""
    dashed: bool = False


class Column(NamedTuple):
    """One query of a table: a value per row."""

    title: str
    expr: str
    unit: str = "short"
    thresholds: Steps = ()


def quantiles(histogram: str, *matchers: str, shares: Sequence[float] = (0.5, 0.9, 0.99)) -> list[Line]:
    """The usual lines of a histogram; dark is worse."""
    colors = (LIGHT_BLUE, BLUE, DARK_BLUE)[-len(shares) :]
    return [
        Line(promql.quantile(share, histogram, *matchers), f"p{100 * share:g}", color)
        for share, color in zip(shares, colors, strict=True)
    ]


def single(
    title: str,
    expr: str,
    description: str,
    *,
    unit: str = "short",
    width: int = 3,
    steps: Steps = (),
    decimals: int | None = None,
    graph: bool = True,
) -> Panel:
    """One number, with its course behind it; without a graph, over the whole time range."""
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    query = _query(0, expr).range() if graph else _query(0, expr).instant()
    mode = units.BigValueGraphMode.AREA if graph else units.BigValueGraphMode.NONE
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .span(width)
        .height(STAT_HEIGHT)
        .unit(unit)
        .with_target(query)
        .reduce_options(reduced)
        .graph_mode(mode)
        .color_mode(units.BigValueColorMode.VALUE)
        .thresholds(_thresholds(steps or ((None, GREY),)))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )
    return panel if decimals is None else panel.decimals(decimals)


def graph(
    title: str,
    lines: Sequence[Line],
    description: str,
    *,
    unit: str = "short",
    width: int = 8,
    stacked: bool = False,
    most: float | None = None,
    limit: Steps = (),
) -> Panel:
    """Lines over time. `most` is the top of the axis; `limit` draws thresholds as dashed lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .span(width)
        .height(GRAPH_HEIGHT)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(units.VisibilityMode.NEVER)
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .tooltip(
            common.VizTooltipOptions().mode(units.TooltipDisplayMode.MULTI).sort(units.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(units.LegendDisplayMode.LIST)
            .placement(units.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(units.StackingMode.NORMAL))
    if most is not None:
        panel.max(most)
    if limit:
        style = common.GraphThresholdsStyleConfig().mode(units.GraphTresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds(limit)).thresholds_style(style)
    for number, line in enumerate(lines):
        panel.with_target(_query(number, line.expr).range().legend_format(line.legend))
        properties = [*_fixed(line.color), *(_DASHED if line.dashed else ())]
        if properties:
            panel.override_by_query(_REF_IDS[number], properties)
    return panel


def bars(
    title: str,
    lines: Sequence[Line],
    description: str,
    *,
    unit: str = "short",
    width: int = 8,
    most: float | None = None,
) -> Panel:
    """A bar per series, over the whole time range."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .span(width)
        .height(GRAPH_HEIGHT)
        .unit(unit)
        .min(0)
        .orientation(units.VizOrientation.HORIZONTAL)
        .display_mode(units.BarGaugeDisplayMode.BASIC)
        .show_unfilled(show_unfilled=True)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(BLUE))
    )
    if most is not None:
        panel.max(most)
    for number, line in enumerate(lines):
        panel.with_target(_query(number, line.expr).instant().legend_format(line.legend))
        if line.color is not None:
            panel.override_by_query(_REF_IDS[number], _fixed(line.color))
    return panel


def states(
    title: str, lines: Sequence[Line], names: Mapping[str, tuple[str, str]], description: str, width: int = 12
) -> Panel:
    """A bar per series that shows its state over time. `names`: value to (text, colour)."""
    results: dict[str, Any] = {
        value: models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(names.items())
    }
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .span(width)
        .height(GRAPH_HEIGHT)
        .mappings([models.ValueMap(options=results)])
        .merge_values(merge_values=True)
        .show_value(units.VisibilityMode.NEVER)
        .line_width(0)
        .fill_opacity(75)
        .row_height(0.8)
    )
    for number, line in enumerate(lines):
        panel.with_target(_query(number, line.expr).range().legend_format(line.legend))
    return panel


def rows(title: str, key: str, columns: Sequence[Column], description: str, width: int = GRID_WIDTH) -> Panel:
    """A table with a row per value of the label `key`, over the whole time range."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .span(width)
        .height(GRAPH_HEIGHT)
        .with_transformation(models.DataTransformerConfig("merge", options={}))
        .with_transformation(
            models.DataTransformerConfig("organize", options={"excludeByName": {"Time": True}})
        )
    )
    for number, column in enumerate(columns):
        ref = _REF_IDS[number]
        panel.with_target(_query(number, column.expr).instant().format(PromQueryFormat.TABLE))
        properties = [
            models.DynamicConfigValue("displayName", column.title),
            models.DynamicConfigValue("unit", column.unit),
        ]
        if column.thresholds:
            properties += [
                models.DynamicConfigValue("thresholds", _thresholds(column.thresholds).build()),
                models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ]
        # Of a single query, Grafana leaves the letter away.
        panel.override_by_name(f"Value #{ref}" if len(columns) > 1 else "Value", properties)
    return panel.override_by_name(key, [models.DynamicConfigValue("custom.width", 320)])


_DASHED: Final = (models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),)


def _fixed(color: str | None) -> list[models.DynamicConfigValue]:
    if color is None:
        return []
    return [models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]


def _query(number: int, expr: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).ref_id(_REF_IDS[number]).datasource(DATASOURCE)


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    made = [models.Threshold(value, color) for value, color in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)
