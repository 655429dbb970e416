"""The slowest requests of a page's runs, and why each went where it went."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from warmroute_simulator.report import words
from warmroute_simulator.report.curves import Slow
from warmroute_simulator.report.markup import Series, legend, named, section, table
from warmroute_simulator.report.small_plots import decision_costs, short_name
from warmroute_simulator.simulation.records import Explanation

_SHOWN_OF_ONE: Final = 10
_SHOWN_OF_SEVERAL: Final = 5
"""Of each; the slowest few are alike."""

_NUMBERS: Final = (
    "request",
    "arrived",
    "TTFT",
    "E2E",
    "prompt",
    "reused",
    "predicted",
    "evicted",
    "elsewhere",
    "output",
)
_WORDS: Final = ("worker", "reason")


def slowest(series: Sequence[Series], explanations: Sequence[Sequence[Explanation]]) -> str:
    """Reads. A table for each run; a request that was explained has a picture of the prices below it."""
    head = "".join(f"<th>{name}</th>" for name in _NUMBERS)
    head += "".join(f'<th class="text">{name}</th>' for name in _WORDS)
    shown = _SHOWN_OF_ONE if len(series) == 1 else _SHOWN_OF_SEVERAL
    parts = []
    for one, explained in zip(series, explanations, strict=True):
        if one.curves.slowest:
            by_row = {explanation.row: explanation for explanation in explained}
            rows = [_row(slow, by_row.get(slow.row)) for slow in one.curves.slowest[:shown]]
            parts.append(f"<h3>{named(one)}</h3>" * (len(series) > 1) + table(head, rows))
    if not parts:
        return ""
    text = "By TTFT. Prompt tokens were reused, evicted before, or held elsewhere; the rest nobody held."
    if any(explanations):
        text += " Each bar of an explained decision is the price of a worker, as the policy saw it."
    return section("The slowest requests", text, "".join(parts))


def _row(slow: Slow, explanation: Explanation | None) -> str:
    numbers = (
        str(slow.row),
        words.seconds(slow.arrived_s),
        words.seconds(slow.ttft_s),
        words.seconds(slow.e2e_s),
        words.count(slow.prompt_tokens),
        words.count(max(slow.hit_tokens, 0)),
        words.count(slow.predicted_tokens),
        words.count(slow.evicted_tokens),
        words.count(slow.elsewhere_tokens),
        words.count(slow.output_tokens),
    )
    row = "".join(f"<td>{escape(number)}</td>" for number in numbers)
    row += "".join(f'<td class="text">{escape(text)}</td>' for text in (short_name(slow.worker), slow.reason))
    if explanation is None:
        return f"<tr>{row}</tr>"
    plot, colours = decision_costs(explanation.shares, explanation.worker)
    summary = f"why {short_name(explanation.worker)}: {explanation.reason}"
    inside = f"<details><summary>{escape(summary)}</summary><div>{legend(colours)}{plot}</div></details>"
    columns = len(_NUMBERS) + len(_WORDS)
    return f'<tr class="explained">{row}</tr><tr><td class="why" colspan="{columns}">{inside}</td></tr>'
