"""One HTML file that shows one run, or several runs of one trace side by side.

It needs nothing but itself: no script, no font, no request to anywhere. It follows the reader's light or
dark theme, fits a phone, and can be printed. Four runs of any length take less than a megabyte.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec

from warmroute_simulator.report import overview, sections
from warmroute_simulator.report.comparison import Difference, LoadPoint, Summary, varying
from warmroute_simulator.report.curves import Curves
from warmroute_simulator.report.markup import Series
from warmroute_simulator.report.model import Report
from warmroute_simulator.report.page_style import SERIES, STYLE
from warmroute_simulator.report.slowest import slowest
from warmroute_simulator.simulation.records import Explanation


class Panel(msgspec.Struct, frozen=True):
    """One run on a page."""

    report: Report
    curves: Curves
    explanations: Sequence[Explanation] = ()
    """Of some of its slowest requests."""


def page(
    panels: Sequence[Panel],
    *,
    title: str = "warmroute simulation",
    sweep: Sequence[LoadPoint] = (),
    load_name: str = "load",
    lead: str = "",
    summaries: Sequence[Summary] = (),
    differences: Sequence[Difference] = (),
) -> str:
    """Reads. The whole file. Raises ValueError when there is no run to show.

    `sweep`: runs at several loads, of these or other policies; `load_name` says what the load is counted in.
    `lead`: the result in a sentence, where it is not which run answers first.
    `summaries`, `differences`: the same policies over several seeds.
    """
    if not panels:
        raise ValueError("a page needs a run to show")
    series = [
        Series(name, f"s{place % SERIES}", panel.report, panel.curves)
        for place, (name, panel) in enumerate(zip(_names(panels), panels, strict=True))
    ]
    parts = [
        overview.top(series, title, lead),
        overview.glance(series),
        overview.across(summaries, differences),
        sections.latencies(series),
        sections.tokens(series),
        sections.sweep(sweep, load_name, series) if sweep else "",
        sections.workers(series),
        slowest(series, [panel.explanations for panel in panels]),
        overview.bottom(series),
    ]
    heading = escape(f"{panels[0].report.trace} · {title}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{heading}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(part for part in parts if part)
        + "</main></body></html>\n"
    )


def _names(panels: Sequence[Panel]) -> list[str]:
    """Reads. Policies, with what tells apart those that are the same."""
    reports = [panel.report for panel in panels]
    policies = [report.policy for report in reports]
    if len(set(policies)) == len(policies):
        return policies
    names = varying([report.settings for report in reports])
    seeds = len({report.seed for report in reports}) > 1
    labels = []
    for report in reports:
        details = [f"{name.replace('_', ' ')} {report.settings.get(name, '–')}" for name in names]
        details += [f"seed {report.seed}"] if seeds else []
        labels.append(", ".join([report.policy, *details]))
    return labels
