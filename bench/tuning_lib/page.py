"""`docs/tuning.md`, from what was found: the same results give the same text, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Final

from routing_lib.markdown import (
    cell_name,
    code,
    made_with,
    percent,
    ratio_interval,
    seconds_interval,
    table,
)
from routing_lib.statistics import mean_interval
from routing_lib.statistics import ratio_interval as paired
from routing_lib.verdicts import UNANSWERED, Metric
from tuning_lib.results import CellChecked, PointTried, Tuning
from tuning_lib.verdicts import (
    WITHIN,
    Word,
    behind,
    gain,
    rank_of_defaults,
    ranked,
    ratio,
    unanswered,
    verdict,
    with_all_seeds,
)
from tuning_lib.workloads import LEAST_SHARE
from warmroute_policies.parameters import Value
from warmroute_simulator.report import words
from warmroute_simulator.study.search import SEEDS

SHOWN: Final = 10
"""Of the points that were tried: enough to see whether the good ones lie together."""

_WRITTEN: Final = (
    "<!-- Written by bench/tuning.py from tuning.json; `bench/tuning.py --render` writes it again. -->"
)

_QUICK: Final = """\
> **`mode: quick`: a look, no measurement.** The search had {budget} trials in {cells} cells. What it says may
> be chance; `make bench-tuning` makes the page that counts.
"""

_LEAD: Final = """\
Parameters of `{policy}` have the same defaults for everybody. Are others better? The search of `simulator
tune` looks for them on half of the workloads of [quality.md](quality.md). What it finds is played beside the
defaults on that half, where a search nearly always finds something, and on the other, which it has not seen:
what is better there too is better, what is not was made to measure.

How to read it. A ratio is of TTFT, what was found over the defaults with the same seeds: below 1 what was
found is faster. Over a half it is the geometric mean over its cells. In brackets: 95 % intervals over {seeds}
seeds.
"""

_VERDICT: Final = """\
## Verdict

{sentence}

{halves}
*behind*: how much longer the mean TTFT is with the defaults. They stand where they are at most {within}
behind on the half that was tuned on, and not behind on the other by more than chance explains.
"""

_FOUND: Final = """\
## What was found

{parameters}
## All points that were tried

{place}
Below are the best {shown} on the half that was tuned on. The search plays a point with one seed and promising
ones with {seeds}; one seed may be luck, so the best is picked from the latter.

{best}"""

_CELLS: Final = """\
## Cell by cell

A cell is named by its load, of the knee, and its place; [quality.md](quality.md) says what these are.

{cells}"""

_METHOD: Final = """\
## Method

- A trial of the search is a point of the parameters with a seed, played in every cell of the half that is
  tuned on. It costs the mean over these cells of ln(mean TTFT over that of the defaults with the same seed).
- Cells and loads are chosen as in [quality.md](quality.md), at {least} of the knee and above. Both halves
  have recorded and made-up traces, in open and in closed loop.
- The search is that of `simulator tune`, with the ranges that it uses when it is told none: from an eighth of
  a default to eight times it. It had {budget} trials and used {trials}.
- What leaves more than {unanswered} more of the requests unanswered in a cell is marked † and is not better.
{absent}
{made}"""

_OWN: Final = """\
## On your own traffic

Defaults are for traffic that nobody knows yet. On a recording, the router's journal for one, the same search
runs on the first half, checks on the second, and recommends what it found only if it is better there:

```
{command}
```
"""

OWN_COMMAND: Final = "simulator tune journal.jsonl --policy {policy} --out router.yaml"


def page(tuning: Tuning) -> str:
    """Reads. The whole page."""
    parts = [
        f"# Tuning `{tuning.policy}`\n",
        f"{_WRITTEN}\n",
        *([_quick(tuning)] if tuning.mode == "quick" else []),
        _LEAD.format(policy=tuning.policy, seeds=len(tuning.seeds)),
        _VERDICT.format(sentence=sentence(tuning), halves=_halves(tuning), within=percent(WITHIN)),
        _FOUND.format(
            parameters=_parameters(tuning),
            place=_place(tuning),
            shown=min(SHOWN, len(tuning.tried)),
            seeds=SEEDS,
            best=_best(tuning),
        ),
        _CELLS.format(cells=_cells(tuning)),
        _method(tuning),
        _OWN.format(command=OWN_COMMAND.format(policy=tuning.policy)),
    ]
    return "\n".join(parts)


def sentence(tuning: Tuning) -> str:
    """Reads. The verdict, also for a terminal."""
    found = verdict(tuning)
    if tuning.found == tuning.policy:
        return f"**{_upper(Word.STAND)}.** {_nothing(tuning)}."
    dropped = unanswered(tuning)
    if dropped:
        cells = "1 cell" if len(dropped) == 1 else f"{len(dropped)} cells"
        return f"**{_upper(Word.STAND)}.** What was found leaves more requests unanswered in {cells}."
    unseen = found.unseen
    chance = "" if unseen.high < 1 or unseen.low > 1 else ", which is within chance"
    return (
        f"**{_upper(found.word)}.** With `{tuning.found}` the mean TTFT is "
        f"{_change(found.tuned_on.value)} than with the defaults on the half that was tuned on, and "
        f"{_change(unseen.value)} on the other{chance}."
    )


def _nothing(tuning: Tuning) -> str:
    """What the search has to say where it found nothing; what it did not look into is told too."""
    sure = with_all_seeds(tuning)
    hopeful = sum(gain(point) < 0 for point in tuning.tried if point not in sure)
    other = f"; of the others, played with fewer, {hopeful} looked better" if hopeful else ""
    return f"Of {len(sure)} points that were played with all seeds, these among them, none is better{other}"


def _change(value: float) -> str:
    """0.953 → "4.7 % lower"."""
    return f"{words.percent(abs(1 - value))} {'lower' if value < 1 else 'higher'}"


def _halves(tuning: Tuning) -> str:
    headers = ("half", "traces", "cells", "mean TTFT", "p99 TTFT", "behind")
    rows = []
    for name, cells in _named(tuning):
        mean, p99 = ratio(cells, Metric.MEAN), ratio(cells, Metric.P99)
        traces = ", ".join(dict.fromkeys(cell.trace for cell in cells))
        behind_by = words.percent(behind(mean.value))
        rows.append((name, traces, str(len(cells)), _digits(mean), _digits(p99), behind_by))
    return table(headers, rows, texts=2)


def _parameters(tuning: Tuning) -> str:
    defaults = tuning.tried[0].params
    rows = [
        (code(name), code(searched), _value(defaults[name]), _value(tuning.found_params[name]))
        for name, _, searched in (text.partition("=") for text in tuning.ranges)
    ]
    return table(("parameter", "searched", "default", "found"), rows, texts=2)


def _place(tuning: Tuning) -> str:
    rank, count = rank_of_defaults(tuning), len(tuning.tried)
    if rank == 1:
        return f"Of {count} points the defaults are the best."
    verb = "is" if rank == 2 else "are"
    return f"{rank - 1} of {count} points {verb} better than the defaults, which makes these number {rank}."


def _best(tuning: Tuning) -> str:
    """The defaults last where they are not among the best."""
    defaults, names = tuning.tried[0], list(tuning.tried[0].params)
    numbered = list(enumerate(ranked(tuning), start=1))
    shown = numbered[:SHOWN] + [(rank, point) for rank, point in numbered[SHOWN:] if point is defaults]
    headers = ("", "point", *map(code, names), "seeds", "ratio")
    rows = [
        (str(rank), _name(tuning, point), *(_value(point.params[name]) for name in names), *_gained(point))
        for rank, point in shown
    ]
    return table(headers, rows, texts=2)


def _name(tuning: Tuning, point: PointTried) -> str:
    names = (["defaults"] if point is tuning.tried[0] else []) + (
        ["**found**"] if point.params == tuning.found_params else []
    )
    return ", ".join(names)


def _gained(point: PointTried) -> tuple[str, str]:
    return str(len(point.gains)), f"{exp(gain(point)):.3f}"


def _cells(tuning: Tuning) -> str:
    headers = ("half", "trace", "cell", "mean TTFT, defaults", "found", "ratio", "ratio of p99")
    dropped = unanswered(tuning)
    rows = [
        (
            name,
            cell.trace,
            f"{cell_name(cell)}{' †' * (cell in dropped)}",
            seconds_interval(mean_interval(cell.defaults.ttft_mean_s)),
            seconds_interval(mean_interval(cell.found.ttft_mean_s)),
            *(
                ratio_interval(paired(metric.values(cell.found), metric.values(cell.defaults)))
                for metric in Metric
            ),
        )
        for name, cells in _named(tuning)
        for cell in cells
    ]
    return table(headers, rows, texts=3)


def _method(tuning: Tuning) -> str:
    absent = f"- Left out, since their files were not there: {', '.join(tuning.absent)}.\n"
    return _METHOD.format(
        least=percent(LEAST_SHARE),
        budget=tuning.budget,
        trials=tuning.trials,
        unanswered=percent(UNANSWERED),
        absent=absent if tuning.absent else "",
        made=made_with(tuning.made),
    )


def _quick(tuning: Tuning) -> str:
    return _QUICK.format(budget=tuning.budget, cells=len(tuning.tuned_on))


def _named(tuning: Tuning) -> Sequence[tuple[str, Sequence[CellChecked]]]:
    return ("tuned on", tuning.tuned_on), ("not seen", tuning.unseen)


def _digits(interval: tuple[float, float, float]) -> str:
    """With three decimals, as what is told apart is 2 %: "0.987 (0.981–0.993)"."""
    value, low, high = interval
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


def _value(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _upper(word: Word) -> str:
    return f"{word[0].upper()}{word[1:]}"
