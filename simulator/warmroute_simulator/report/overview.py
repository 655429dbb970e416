"""A page's beginning and end: the result in a sentence, the numbers in a table, and what the words mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from warmroute_simulator.report import words
from warmroute_simulator.report.columns import DIFFERENCES, INTERVALS, VERSUS_LRU, Column, measured
from warmroute_simulator.report.comparison import Difference, Interval, Settings, Summary, numbers, varying
from warmroute_simulator.report.markup import Series, named, section, table

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


def top(series: Sequence[Series], title: str, lead: str = "") -> str:
    """Reads. What it is of, and the result in a sentence or two: `lead`, or who answers first."""
    report = series[0].report
    common = set.intersection(*(set(one.report.settings.items()) for one in series))
    facts = [
        f"{words.count(report.requests)} requests over {words.seconds(report.span_s)}",
        f"{report.workers} worker{'s' * (report.workers != 1)}",
        f"seed {report.seed}",
        *(
            f"{name.replace('_', ' ')} {_setting(value)}"
            for name, value in report.settings.items()
            if (name, value) in common
        ),
    ]
    parts = [
        f'<p class="eyebrow">{escape(title)}</p><h1>{escape(report.trace)}</h1>',
        f'<p class="lead">{escape(lead) or _lead(series)}</p>',
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
    return value if isinstance(value, str) else words.three_digits(value)


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
    columns = measured(rows)
    written = []
    for one, row in zip(series, rows, strict=True):
        name = named(one) if len(series) > 1 else escape(one.name)
        cells = []
        for column in columns:
            text = column.text(row.get(column.key))
            css = ' class="best"' if len(series) > 1 and text == column.best(rows) else ""
            cells.append(f"<td{css}>{escape(text)}</td>")
        written.append(f"<tr><td>{name}</td>{''.join(cells)}</tr>")
    goodput = series[0].report.goodput
    limits = f"TTFT ≤ {words.seconds(goodput.ttft_slo_s)} and TPOT ≤ {words.seconds(goodput.tpot_slo_s)}"
    text = f"Goodput counts requests that kept {limits}."
    if any(column.header == "vs LRU" for column in columns):
        text = f"{VERSUS_LRU}. {text}"
    return section("At a glance", text, table(_head("policy", (), columns), written))


def across(summaries: Sequence[Summary], differences: Sequence[Difference]) -> str:
    """Reads. Means over seeds with their intervals, and policies against one another; "" where all of it is
    told at a glance: of one seed and the same settings."""
    means = [(one.policy, one.settings, one.keys) for one in summaries]
    pairs = [(f"{one.policy} − {one.versus}", one.settings, one.keys) for one in differences]
    seeds = max([len(one.seeds) for one in summaries] + [len(one.seeds) for one in differences], default=0)
    settings = [one.settings for one in summaries] + [one.settings for one in differences]
    if not seeds or (seeds == 1 and not varying(settings)):
        return ""
    title, text = "All runs", "A single seed: what is chance is not known."
    if seeds > 1:
        title, text = "What chance may have done", f"Means over {seeds} seeds. {INTERVALS}."
    inside = _cells_table("policy", means, _mean_cell) if means else ""
    if pairs:
        text += f" {DIFFERENCES}." * (seeds > 1)
        inside += f"<h3>Differences</h3>{_cells_table('', pairs, _difference_cell)}"
    return section(title, text, inside)


def _cells_table(
    first: str,
    rows: Sequence[tuple[str, Settings, dict[str, Interval]]],
    cell: Callable[[Column, Interval], str],
) -> str:
    columns = measured(keys for _, _, keys in rows)
    names = varying([settings for _, settings, _ in rows])
    written = []
    for name, settings, keys in rows:
        heads = (name, *(str(settings.get(setting, words.DASH)) for setting in names))
        cells = [f"<td>{escape(head)}</td>" for head in heads]
        for column in columns:
            interval = keys.get(column.key)
            cells.append(f"<td>{words.DASH}</td>" if interval is None else cell(column, interval))
        written.append(f"<tr>{''.join(cells)}</tr>")
    return table(_head(first, names, columns), written)


def _mean_cell(column: Column, interval: Interval) -> str:
    half = column.half_width(interval)
    return f"<td>{escape(column.text(interval.mean))} <small>{escape(half)}</small></td>"


def _difference_cell(column: Column, interval: Interval) -> str:
    text = column.difference(interval)
    return f'<td class="{"best" * text.endswith("*")}">{escape(text)}</td>'


def _head(first: str, names: Sequence[str], columns: Sequence[Column]) -> str:
    headers = (first, *(name.replace("_", " ") for name in names), *(column.header for column in columns))
    return "".join(f"<th>{escape(header)}</th>" for header in headers)


def bottom(series: Sequence[Series]) -> str:
    """Reads. What the words mean, and what it cost to find out."""
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in _MEANINGS)
    cost = words.seconds(sum(one.report.cpu_s for one in series))
    return f"<footer><dl>{terms}</dl>Simulated by warmroute in {cost} of CPU, without a GPU.</footer>"
