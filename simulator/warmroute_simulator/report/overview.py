"""A page's beginning and end: the result in a sentence, the numbers in a table, and what the words mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

from warmroute_simulator.report import words
from warmroute_simulator.report.comparison import numbers
from warmroute_simulator.report.markup import Series, named, section, table


class _Column(NamedTuple):
    header: str
    key: str
    text: Callable[[float | None], str]
    sign: int
    """1: more is better, −1: less."""


_GLANCE: Final = (
    _Column("hit rate", "hit_rate", words.percent, 1),
    _Column("points below LRU", "below_bounds_points.pooled_lru", words.tenths, -1),
    _Column("TTFT mean", "ttft_s.mean", words.seconds, -1),
    _Column("TTFT p50", "ttft_s.p50", words.seconds, -1),
    _Column("TTFT p99", "ttft_s.p99", words.seconds, -1),
    _Column("TPOT mean", "tpot_s.mean", words.seconds, -1),
    _Column("E2E mean", "e2e_s.mean", words.seconds, -1),
    _Column("session mean", "session_s.mean", words.seconds, -1),
    _Column("goodput", "goodput.share", words.percent, 1),
    _Column("output/s", "output_tokens_per_s", words.count, 1),
    _Column("imbalance", "imbalance", words.ratio, -1),
)

_MEANINGS: Final = (
    (
        "hit rate",
        "prompt tokens that the engine had cached ÷ prompt tokens, over requests that engines took up",
    ),
    ("TTFT", "from a request's arrival at the router to its first token at the client"),
    (
        "TPOT",
        "time from the first token to the last ÷ (output tokens − 1), for answers of two tokens or more",
    ),
    ("E2E", "from the arrival to the last token"),
    ("quantiles", "by nearest rank, over requests that ended well"),
    ("imbalance", "prompt tokens computed by the worker with most of them ÷ the mean over workers"),
    ("infinite", "hit rate of one cache without end, shared by all workers; nothing can be above it"),
    ("Belady", "of one cache as large as all workers' together that evicts what is needed last"),
    ("LRU", "of the same cache with the engines' own eviction: no bound, a mark to reach"),
)


def top(series: Sequence[Series], title: str) -> str:
    """Reads. What it is of, and the result in a sentence or two."""
    report = series[0].report
    facts = [
        f"{words.count(report.requests)} requests over {words.seconds(report.span_s)}",
        f"{report.workers} worker{'s' * (report.workers != 1)}",
        f"seed {report.seed}",
        *(f"{name.replace('_', ' ')} {_setting(value)}" for name, value in report.settings.items()),
    ]
    parts = [
        f'<p class="eyebrow">{escape(title)}</p><h1>{escape(report.trace)}</h1>',
        f'<p class="lead">{_lead(series)}</p>',
        f'<p class="facts">{escape(" · ".join(facts))}</p>',
    ]
    partial = [one.name for one in series if one.report.partial]
    if partial:
        text = f"Partial: interrupted before the end ({', '.join(partial)})."
        parts.append(f'<p class="warning">{escape(text)}</p>')
    notes = dict.fromkeys(note for one in series for note in one.report.notes)
    parts += [f'<p class="facts">{escape(note)}</p>' for note in notes]
    return f"<header>{''.join(parts)}</header>"


def _setting(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def _lead(series: Sequence[Series]) -> str:
    """Reads. The run that answers first, and how far behind the last one is."""
    timed = sorted(
        (
            (spread.mean, spread.p99, place)
            for place, one in enumerate(series)
            if (spread := one.report.ttft_s)
        ),
    )
    if not timed:
        return "No request ended."
    mean_s, p99_s, place = timed[0]
    best = series[place]
    rate, pooled = best.report.hit_rate, best.report.bounds.pooled_lru
    name = f"<b>{escape(best.name)}</b>"
    hits = f"reuses <b>{words.percent(rate)}</b> of prompt tokens"
    if pooled and rate is not None:
        hits += f", {100 * rate / pooled:.0f} % of what one pooled LRU cache could"
    times = f"mean TTFT <b>{words.seconds(mean_s)}</b>, p99 {words.seconds(p99_s)}"
    if len(timed) == 1:
        return f"{name} {hits}; {times}."
    last_s, _, place = timed[-1]
    last = f"{escape(series[place].name)} comes last with a mean of {words.seconds(last_s)}"
    return f"Of {len(timed)} runs {name} answers first: {times}. It {hits}. {last}."


def glance(series: Sequence[Series]) -> str:
    """Reads. The numbers that matter, a row for each run; the best of each column is bold."""
    rows = [numbers(one.report) for one in series]
    columns = [column for column in _GLANCE if any(column.key in row for row in rows)]
    best = {
        column.key: column.text(
            column.sign * max(column.sign * row[column.key] for row in rows if column.key in row)
        )
        for column in columns
    }
    written = []
    for one, row in zip(series, rows, strict=True):
        cells = []
        for column in columns:
            text = column.text(row.get(column.key))
            css = ' class="best"' if len(series) > 1 and text == best[column.key] else ""
            cells.append(f"<td{css}>{escape(text)}</td>")
        written.append(f"<tr><td>{named(one)}</td>{''.join(cells)}</tr>")
    goodput = series[0].report.goodput
    limits = f"TTFT ≤ {words.seconds(goodput.ttft_slo_s)} and TPOT ≤ {words.seconds(goodput.tpot_slo_s)}"
    head = "".join(f"<th>{escape(column.header)}</th>" for column in columns)
    text = f"Goodput counts requests that kept {limits}."
    return section("At a glance", text, table(f"<th>policy</th>{head}", written))


def bottom(series: Sequence[Series]) -> str:
    """Reads. What the words mean, and what it cost to find out."""
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in _MEANINGS)
    cost = words.seconds(sum(one.report.cpu_s for one in series))
    return f"<footer><dl>{terms}</dl>Simulated by warmroute in {cost} of CPU, without a GPU.</footer>"
