"""The page's verdicts: how often better, level and lost, where lost, and how all policies stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from routing_lib.factors import BUSY
from routing_lib.markdown import code, full_name, percent, ratio, ratio_interval, table
from routing_lib.plan import OURS
from routing_lib.results import CellFound, Quality
from routing_lib.statistics import Interval, geometric_mean
from routing_lib.statistics import ratio_interval as paired
from routing_lib.verdicts import CLEARLY, Metric, Standing, Verdict, Word, standings, verdict

NAMES: Final = {Metric.MEAN: "mean TTFT", Metric.P99: "p99 TTFT"}

_CLEARLY: Final = f"{percent(1 - CLEARLY)} better"

_VERDICT: Final = """\
## Verdict

`{ours}` beside the best of the {others} others, cell by cell:

{counts}
*{clearly}*: better, and the mean is at most {bar:g} of the best other's. *mean ratio*: geometric mean of the
ratios to the best other.

{lost}
![Ratio of the mean TTFT to the best other policy's, by load]({folder}/ratio-mean.svg)
![Ratio of the p99 TTFT to the best other policy's, by load]({folder}/ratio-p99.svg)

### All policies

A policy for every day is near the best everywhere, not the best somewhere.

- *first*: cells in which it has the least mean
- *near*: cells in which its interval overlaps that of the least
- *behind*, *worst*: geometric mean, and largest, of its ratios to the least
- *{ours} over it*: geometric mean of the ratios
- *below 1*, *above 1*: cells in which all of that ratio's interval is

{standings}
![How far each policy is behind the best of a cell]({folder}/regret.svg)
"""


def verdict_section(quality: Quality, folder: str) -> str:
    """Reads. From the verdict to the plots that show it."""
    return _VERDICT.format(
        ours=OURS,
        others=len(quality.policies) - 1,
        counts=counts(quality),
        clearly=_CLEARLY,
        bar=CLEARLY,
        lost="\n".join(_lost(metric, verdicts_of(quality, metric)) for metric in Metric),
        folder=folder,
        standings="\n".join(_standings(quality, metric) for metric in Metric),
    )


def counts(quality: Quality) -> str:
    """Reads. The table of verdicts, also for a terminal."""
    rows = []
    for metric in Metric:
        verdicts = verdicts_of(quality, metric)
        rows.append((f"{NAMES[metric]}, all loads", *_counts(verdicts)))
        busy = [one for one in verdicts if is_busy(quality, one.cell)]
        rows.append((f"{NAMES[metric]}, {percent(BUSY)} of the knee and more", *_counts(busy)))
    return table((OURS, "cells", *Word, _CLEARLY, "mean ratio"), rows)


def verdicts_of(quality: Quality, metric: Metric) -> list[Verdict]:
    """Reads. On every cell, in the study's order."""
    return [verdict(cell, metric, OURS) for cell in quality.cells]


def is_busy(quality: Quality, cell: CellFound) -> bool:
    """Reads. Near the knee, where there is one."""
    place = (cell.trace, cell.fleet, cell.kv_tokens)
    found = {(knee.trace, knee.fleet, knee.kv_tokens) for knee in quality.knees if knee.found}
    return cell.share >= BUSY and place in found


def _counts(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    if not verdicts:
        return ("0", *["–"] * 5)
    words = [one.word for one in verdicts]
    clearly = sum(one.clearly for one in verdicts)
    return (
        str(len(verdicts)),
        *(str(words.count(word)) for word in Word),
        f"{clearly} ({percent(clearly / len(verdicts))})",
        ratio(geometric_mean(one.ratio.value for one in verdicts)),
    )


def ratios_over(quality: Quality, metric: Metric, policy: str) -> list[Interval]:
    """Reads. Ours over that policy's on every cell, paired by seed."""
    return [
        paired(metric.values(cell.results[OURS]), metric.values(cell.results[policy]))
        for cell in quality.cells
    ]


def _lost(metric: Metric, verdicts: Sequence[Verdict]) -> str:
    lost = [one for one in verdicts if one.word is Word.LOST]
    if not lost:
        return f"By {NAMES[metric]} no cell is lost.\n"
    lines = [
        f"- {full_name(one.cell)}: to {code(one.best_other)}, ratio {ratio_interval(one.ratio)}\n"
        for one in sorted(lost, key=lambda one: -one.ratio.value)
    ]
    return f"Lost by {NAMES[metric]}:\n\n{''.join(lines)}"


def _standings(quality: Quality, metric: Metric) -> str:
    headers = ("policy", "worst in", "first", "near", "behind", "worst")
    against = (f"{OURS} over it", "below 1", "above 1")
    found = standings(quality.cells, metric, quality.policies)
    rows = [(*_standing(one), *_against(quality, metric, one.policy)) for one in found]
    lead = f"By {NAMES[metric]}, in {len(quality.cells)} cells:"
    return f"{lead}\n\n{table((*headers, *against), rows, texts=2)}"


def _standing(one: Standing) -> tuple[str, ...]:
    name = code(one.policy)
    return (
        f"**{name}**" if one.policy == OURS else name,
        full_name(one.worst_cell),
        str(one.wins),
        str(one.near),
        ratio(one.mean_ratio),
        ratio(one.worst_ratio),
    )


def _against(quality: Quality, metric: Metric, policy: str) -> tuple[str, str, str]:
    if policy == OURS:
        return "", "", ""
    ratios = ratios_over(quality, metric, policy)
    return (
        ratio(geometric_mean(found.value for found in ratios)),
        str(sum(found.high < 1 for found in ratios)),
        str(sum(found.low > 1 for found in ratios)),
    )
