"""Several policies at several loads with several seeds: every run, what the seeds say together, and policies
against the first of them.

All policies meet the same arrivals with the same seed, so differences are taken seed by seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, product
from typing import Final

import msgspec

from warmroute_policies.events import PolicySpec
from warmroute_policies.spelling import policy_text
from warmroute_simulator.report import words
from warmroute_simulator.report.comparison import Difference, LoadPoint, Summary, numbers
from warmroute_simulator.report.model import SCHEMA, Report
from warmroute_simulator.study.across_seeds import differences, summaries
from warmroute_simulator.study.cell import Cell, Setup
from warmroute_simulator.study.notes import of_several
from warmroute_simulator.study.pool import Pool
from warmroute_simulator.study.task import Result, Task

SEED_IS_IDLE: Final = (
    "the seed changes nothing here: arrivals are as recorded and no policy draws lots; intervals over seeds "
    "have no width and say nothing"
)


class Comparison(msgspec.Struct, frozen=True):
    """What `simulator compare --json` writes."""

    schema: int
    partial: bool
    """Interrupted: runs are missing."""
    cells: list[Report]
    summary: list[Summary]
    differences: list[Difference]
    """To the first policy."""
    notes: list[str]


def compare(
    pool: Pool,
    setup: Setup,
    policies: Sequence[PolicySpec],
    loads: Sequence[float | None],
    seeds: Sequence[int],
    *,
    with_curves: bool = False,
) -> tuple[Comparison, list[Result]]:
    """The comparison and the runs that it is of. `with_curves`: of the first seed at the last load, one for
    each policy. Raises RunFailed.
    """
    tasks = [
        Task(
            setup,
            Cell(policy, load, seed),
            with_curves=with_curves and seed == seeds[0] and load == loads[-1],
        )
        for load, policy, seed in product(loads, policies, seeds)
    ]
    results = [result for result in pool.run(tasks) if result is not None]
    reports = [result.report for result in results]
    return compared(reports, policy_text(policies[0]), pool.interrupted), results


def compared(reports: Sequence[Report], versus: str, partial: bool) -> Comparison:
    """Reads. What reports of several cells say together."""
    alike = [_without_pace(report) for report in reports]
    notes = of_several(reports)
    if seed_is_idle(alike):
        notes.append(SEED_IS_IDLE)
    return Comparison(SCHEMA, partial, list(reports), summaries(alike), differences(alike, versus), notes)


def in_a_sentence(found: Comparison) -> str:
    """Reads. Who answers first at the last load, and by how much, as far as the seeds can tell; empty when
    nothing was measured."""
    loads = dict.fromkeys(str(summary.settings.get("load", "")) for summary in found.summary)
    last = list(loads)[-1] if loads else ""
    timed = [
        (one.keys["ttft_s.mean"], one)
        for one in found.summary
        if "ttft_s.mean" in one.keys and str(one.settings.get("load", "")) == last
    ]
    if not timed:
        return ""
    timed.sort(key=lambda pair: pair[0].mean)
    (mean, best), *others = timed
    where = f" at a load of {last}" if len(loads) > 1 else ""
    seeds = f"{len(best.seeds)} seed{'s' * (len(best.seeds) > 1)}"
    lead = f"{best.policy} answers first{where}: mean TTFT {words.seconds(mean.mean)} over {seeds}"
    if not others:
        return f"{lead}."
    (second, runner_up), *_ = others
    more = words.seconds(second.mean - mean.mean)
    apart = mean.high is not None and second.low is not None and mean.high < second.low
    certain = "" if apart else ", which may be chance"
    return f"{lead}; {runner_up.policy} comes next with {more} more{certain}."


def load_points(reports: Sequence[Report]) -> list[LoadPoint]:
    """Reads. The means over seeds by policy and load, for a page; nothing when there is one load only."""
    found = []
    for summary in summaries([_without_pace(report) for report in reports if "load" in report.settings]):
        keys = summary.keys
        share, slow = keys.get("goodput.share"), keys.get("ttft_s.p99")
        found.append(
            LoadPoint(
                summary.policy,
                float(summary.settings["load"]),
                keys["goodput.requests_per_s"].mean,
                None if share is None else share.mean,
                None if slow is None else slow.mean,
            )
        )
    return found if len({point.load for point in found}) > 1 else []


def seed_is_idle(reports: Sequence[Report]) -> bool:
    """Reads. Whether all seeds of every cell gave the same numbers, and there are cells with several."""

    def cell(report: Report) -> tuple[str, str]:
        return report.policy, str(sorted(report.settings.items()))

    groups = [list(group) for _, group in groupby(sorted(reports, key=cell), key=cell)]
    measured = [[_measured(report) for report in group] for group in groups]
    return any(len(group) > 1 for group in measured) and all(
        values == group[0] for group in measured for values in group
    )


def _measured(report: Report) -> dict[str, float]:
    found = numbers(report)
    return {key: value for key, value in found.items() if key not in ("wall_s", "cpu_s")}


def _without_pace(report: Report) -> Report:
    """Where a load was asked for, the speed or rate of sessions that makes it differs from one made-up trace
    to the next; runs with equal loads belong together."""
    if "load" not in report.settings:
        return report
    settings = {
        name: value for name, value in report.settings.items() if name not in ("speed", "sessions_per_s")
    }
    return msgspec.structs.replace(report, settings=settings)
