"""`docs/quality.md`, from what was found: the same results give the same text, byte by byte."""

from __future__ import annotations

from typing import Final

from routing_lib import markdown, plots
from routing_lib.factors import FLEETS
from routing_lib.knees import TARGET
from routing_lib.markdown import code, place_name, table
from routing_lib.page_limits import bounds_section, capacity_section
from routing_lib.page_traces import trace_section
from routing_lib.page_verdicts import verdict_section
from routing_lib.plan import OURS
from routing_lib.results import KneeFound, Quality
from routing_lib.verdicts import UNANSWERED, Metric
from warmroute_simulator.report import words

PLOTS: Final = "quality"
"""The folder of the page's plots, beside it."""

_WRITTEN: Final = (
    "<!-- Written by bench/routing.py from quality.json; `bench/routing.py --render` writes it again. -->"
)

_QUICK: Final = """\
> **`mode: quick`: a look, no measurement.** It has {cells} cells, {policies} policies and {seeds} seeds, and
> no goodput study. What it says may be chance; `make bench-routing` makes the table that counts.
"""

_LEAD: Final = """\
Which policy answers first, and by how much? Recorded and made-up traffic is played to simulated fleets
under each policy in turn. A policy is the object that the router runs, and it knows what the router knows:
the engines' true caches and queues are hidden from it. Engines follow vLLM's rules for a step, with kernel
times measured on GPUs; [simulator/README.md](../simulator/README.md) says how true that is.

A *cell* is a trace, a fleet, the KV cache of each worker, and a load. A load is a share of the place's
*knee*: the largest load at which {target} of the requests keep their limits under the best of a few strong
policies. So 80 % is busy everywhere, and 110 % is too much for everybody.

How to read it. TTFT is from a request's arrival at the router to its first token. Numbers are means over
{seeds} seeds, with 95 % intervals in brackets. A ratio below 1 means that `{ours}` is faster. In each cell it
stands beside the best of all other policies, which is picked for that cell and afterwards:

- **better**: its interval lies below that of the best other policy
- **level**: the intervals overlap. Seeds differ more than policies do then; the ratio is of the same seeds,
  and may tell all the same
- **lost**: its interval lies above
"""

_METHOD: Final = """\
## Method

- All policies meet the same requests with the same seed. Made-up traces differ by seed; of recorded ones
  sessions start at other moments, or arrivals are spread inside the ticks of the recording's clock.
- Intervals are bootstrap intervals over seeds, those of ratios paired by seed. They say how much chance
  there is in a trace as it was played, not how much other traffic would differ from it.
- A policy that leaves more than {unanswered} more of the requests unanswered than the best in its cell is
  marked † and counts as behind those that do not: latencies are of answered requests.
- Cells are rows of the grid of all levels. {rows}
- Left out are places that no load fills, since with all sessions of the trace alive at once most workers
  still idle: the traces in closed loop on the largest fleet with the larger caches, and the recorded agents
  on 8 workers with the largest one.
- Limits of goodput are a trace's own: an idle fleet that is routed well keeps them for more than 95 % of the
  requests.
{absent}
{factors}
Knees are the largest of {references}, found with one seed. A load of 1 is an estimate of what workers could
do that never rest and share one endless cache. A knee may lie above it: limits allow for a queue while a
trace lasts, and in closed loop a session waits for its answers.

{knees}
{made}"""

_ROWS: Final = {
    "published": "Every two levels of different factors meet in one of them.",
    "quick": "Every level occurs in one of them.",
    "full": "All of them are played.",
}


def page(quality: Quality) -> str:
    """Reads. The whole page."""
    parts = [
        "# Routing quality\n",
        f"{_WRITTEN}\n",
        *([_quick(quality)] if quality.mode == "quick" else []),
        _LEAD.format(target=markdown.percent(TARGET), seeds=len(quality.seeds), ours=OURS),
        verdict_section(quality, PLOTS),
        "## By trace\n",
        *(trace_section(quality, trace) for trace in quality.traces),
        *([capacity_section(quality)] if quality.capacities else []),
        bounds_section(quality, PLOTS),
        _method(quality),
    ]
    return "\n".join(parts)


def pictures(quality: Quality) -> dict[str, str]:
    """Reads. The page's plots by file name."""
    return {
        "regret.svg": plots.regret(quality),
        "ratio-mean.svg": plots.ratio_by_load(quality, Metric.MEAN),
        "ratio-p99.svg": plots.ratio_by_load(quality, Metric.P99),
        "hits.svg": plots.hits(quality),
    }


def _quick(quality: Quality) -> str:
    return _QUICK.format(cells=len(quality.cells), policies=len(quality.policies), seeds=len(quality.seeds))


def _method(quality: Quality) -> str:
    absent = f"- Left out, since their files were not there: {', '.join(quality.absent)}.\n"
    return _METHOD.format(
        unanswered=markdown.percent(UNANSWERED),
        rows=_ROWS[quality.mode],
        absent=absent if quality.absent else "",
        factors=table(("factor", "levels"), _factors(quality), texts=2),
        references=" and ".join(map(code, quality.knees[0].by_policy if quality.knees else ())),
        knees=table(("trace", "place", "knee", "requests/s"), list(map(_knee, quality.knees)), texts=2),
        made=markdown.made_with(quality.made),
    )


def _factors(quality: Quality) -> list[tuple[str, str]]:
    cells = quality.cells
    fleets = [
        f"{name} ({' and '.join(f'{count} × {preset}' for count, preset in FLEETS[name])})"
        for name in FLEETS
        if any(cell.fleet == name for cell in cells)
    ]
    shares = sorted({cell.share for cell in cells})
    caches = sorted({cell.kv_tokens for cell in cells})
    return [
        ("trace", ", ".join(trace.name for trace in quality.traces)),
        ("load", f"{', '.join(map(markdown.percent, shares))} of the knee"),
        ("KV cache per worker", f"{', '.join(map(markdown.tokens, caches))} tokens"),
        ("fleet", ", ".join(fleets)),
        ("policy", ", ".join(map(code, quality.policies))),
        ("seed", ", ".join(map(str, quality.seeds))),
    ]


def _knee(knee: KneeFound) -> tuple[str, str, str, str]:
    place = place_name(knee.fleet, knee.kv_tokens)
    if knee.load is None or knee.requests_per_s is None:
        return knee.trace, place, "none", words.DASH
    more = "" if knee.found else " or more"
    return knee.trace, place, f"{knee.load:g}{more}", words.three_digits(knee.requests_per_s)
