"""`docs/ablations.md`, from what was found: the same results give the same text, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ablations_lib.results import Ablations
from ablations_lib.taken import Taken
from ablations_lib.verdicts import LEAST, Standing, Verdict, Word, of_learned, of_terms, standings
from routing_lib.factors import BUSY
from routing_lib.markdown import code, made_with, percent, seconds, table
from routing_lib.page_verdicts import NAMES
from routing_lib.plan import OURS
from routing_lib.statistics import Interval
from routing_lib.verdicts import UNANSWERED, Metric

_WRITTEN: Final = """\
<!-- Written by bench/ablations.py from ablations.json; `bench/ablations.py --render` writes it again. -->
"""

_QUICK: Final = """\
> **`mode: quick`: a look, no measurement.** It has {seeds} seeds, and {cells} cells for the terms. What
> it says may be chance; `make bench-ablations` makes the table that counts.
"""

_LEAD: Final = """\
Does every term of `{ours}`'s price, and everything that it learns, pay somewhere and hurt nowhere? One thing
at a time is taken away, and the same requests are played to the same simulated fleets with and without it.

How to read it. A ratio is the TTFT **without** the thing over that **with** it, so above 1 it is missed.
Brackets are 95 % intervals over {seeds} seeds, paired by seed.

- **pays**: all of the interval is above 1, and the ratio is at least {pays:.2f}
- **hurts**: all of it is below 1, and the ratio is at most {hurts:.2f}: without it requests are served faster
- **no difference**: anything else

*Largest gain* and *largest harm* are the largest and the least ratio of all cells, sure or not; *mean ratio*
is the geometric mean. Where a thing moves requests about and matters neither way, chance alone has every seed
above 1 in about one cell of {odds}, and below 1 in as many: a single cell is a hint, several are a finding.
"""

_TERMS: Final = """\
## Terms of the price

[`cache_aware`](../policies/warmroute_policies/algorithms/cache_aware.py) has the formula. A cell is a trace,
a load as a share of what the fleet bears, a fleet, and the KV cache of each worker; cells, loads and limits
are those of [quality.md](quality.md).

{about}
{standings}"""

_LEARNED: Final = """\
## What is learned

Workers declare a quarter of what their caches hold, or four times as much; the router thinks that prefill
takes a third of the time, or three times as long; or it is right, and then there is nothing to learn. Eight
workers at {busy} of their knee, as in `make bench-beliefs`.

{about}
{standings}"""

_METHOD: Final = """\
## Method

- Requests, seeds, knees and loads are those of `make bench-routing`, and so is the file of runs: what one of
  them has played the other does not play again.
- Nothing else is tuned anew when a thing is taken away: what it is worth beside the others as they are.
- Where one side leaves more than {unanswered} more of the requests unanswered than the other it is the worse
  one, whatever the ratio says, as latencies are of answered requests. Such cells are marked †.
{absent}
{made}"""


def page(found: Ablations) -> str:
    """Reads. The whole page."""
    by_metric = {metric: of_terms(found, metric) for metric in Metric}
    learned = of_learned(found)
    parts = [
        "# What each part of `cache_aware` is worth\n",
        _WRITTEN,
        *([_quick(found)] if found.mode == "quick" else []),
        _lead(found),
        _TERMS.format(
            about=_about(found.terms),
            standings="\n".join(
                f"By {NAMES[metric]}, in {len(found.cells)} cells:\n\n{summary(verdicts)}"
                for metric, verdicts in by_metric.items()
            ),
        ),
        _LEARNED.format(
            busy=percent(BUSY),
            about=_about(found.learned),
            standings=f"By {NAMES[Metric.MEAN]}, in {len(found.beliefs)} cells:\n\n{summary(learned)}",
        ),
        _hurts([one for verdicts in (*by_metric.values(), learned) for one in verdicts]),
        "## Every cell\n",
        *(
            f"Without a term, {NAMES[metric]}:\n\n{_every(verdicts)}"
            for metric, verdicts in by_metric.items()
        ),
        f"Without what is learned, {NAMES[Metric.MEAN]}:\n\n{_every(learned)}",
        _method(found),
    ]
    return "\n".join(parts)


def counts(found: Ablations) -> str:
    """Reads. The tables of verdicts, for a terminal."""
    parts = [f"Terms, {NAMES[metric]}:\n{summary(of_terms(found, metric))}" for metric in Metric]
    return "\n".join([*parts, f"Learned, {NAMES[Metric.MEAN]}:\n{summary(of_learned(found))}"])


def summary(verdicts: Sequence[Verdict]) -> str:
    """Reads. A row for each thing that is taken away."""
    headers = ("taken away", "largest gain", "largest harm", *Word, "mean ratio")
    return table(headers, [_standing(one) for one in standings(verdicts)], texts=3)


def _standing(one: Standing) -> tuple[str, ...]:
    return (
        one.taken.name,
        *("none" if extreme is None else _at(extreme) for extreme in (one.gain, one.harm)),
        *(str(one.counts[word]) for word in Word),
        f"{one.mean_ratio:.3f}",
    )


def _at(one: Verdict) -> str:
    return f"{_interval(one.ratio)}{_mark(one)} in {one.where}"


def _about(taken: Sequence[Taken]) -> str:
    rows = [(one.name, one.without, code(one.text)) for one in taken]
    return table(("taken away", "what is left", "written as"), rows, texts=3)


def _hurts(verdicts: Sequence[Verdict]) -> str:
    hurting = sorted((one for one in verdicts if one.word is Word.HURTS), key=lambda one: one.ratio.value)
    lead = "## Where something hurts\n\nAll cells in which it is better without.\n"
    if not hurting:
        return f"{lead}\nThere is none.\n"
    headers = ("taken away", "cell", "metric", "ratio", "with it", "without it")
    rows = [
        (
            one.taken.name,
            one.where,
            NAMES[one.metric],
            f"{_interval(one.ratio)}{_mark(one)}",
            seconds(one.whole.mean_s),
            seconds(one.without.mean_s),
        )
        for one in hurting
    ]
    return f"{lead}\n{table(headers, rows, texts=3)}"


def _every(verdicts: Sequence[Verdict]) -> str:
    names = list(dict.fromkeys(one.taken.name for one in verdicts))
    rows: dict[str, list[str]] = {}
    for one in verdicts:
        word = "" if one.word is Word.SAME else f" **{one.word}**"
        rows.setdefault(one.where, []).append(f"{one.ratio.value:.3f}{_mark(one)}{word}")
    return table(("cell", *names), [(where, *ratios) for where, ratios in rows.items()])


def _interval(interval: Interval) -> str:
    """With three decimals, as a hundredth is what verdicts ask for."""
    return f"{interval.value:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def _mark(one: Verdict) -> str:
    return "†" if one.by_answers else ""


def _quick(found: Ablations) -> str:
    return _QUICK.format(cells=len(found.cells), seeds=len(found.seeds))


def _lead(found: Ablations) -> str:
    count = len(found.seeds)
    return _LEAD.format(ours=OURS, seeds=count, pays=1 + LEAST, hurts=1 - LEAST, odds=2**count)


def _method(found: Ablations) -> str:
    absent = ""
    if found.absent:
        absent += f"- Left out, since their files were not there: {', '.join(found.absent)}.\n"
    if found.unknown:
        texts = ", ".join(code(term.text) for term in found.unknown)
        absent += f"- Left out, since this version does not have the parameter: {texts}.\n"
    return _METHOD.format(unanswered=percent(UNANSWERED), absent=absent, made=made_with(found.made))
