"""`docs/comparison.md` and its like, from what was found: equal results give the same text, byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, NamedTuple

from ring_lib.contestants import OURS, OURS_EXACT
from ring_lib.results import About, Ring, Run
from ring_lib.verdicts import METRICS, Metric, Verdict, Word, beside, verdicts
from ring_lib.workloads import SIMULATED, VLLM
from routing_lib.markdown import seconds, table

_WRITTEN: Final = """\
<!-- Written by bench/ring.py from the JSON of its name; `bench/ring.py --render` writes it again. -->
"""

_PART: Final = """\
> **`mode: {mode}`: not the whole ring.** With few rounds what it says may be chance; `make bench-ring` makes
> the table that counts ([comparison.md](comparison.md)).
"""

_LEAD: Final = """\
The real programs, one at a time, in front of the same engines: {engines}.
The same requests, cold caches, one core for the router. Every contestant runs with its own defaults; nothing
was tuned for these workloads.

How to read it. *Hit rate* is the share of all prompt tokens that engines took from their caches, by the
engines' own count. *TTFT* is the client's, from sending a request to the first text. *Imbalance* is what the
busiest engine computed over the mean. *CPU* and *memory* are of all processes of the router. Figures are
medians over {rounds}, with the range in brackets; another seed asks something else in each round.

- **better**: better than the peer in every round, and by more than the margin in the middle one
- **worse**: the same the other way round
- **within noise**: anything else

The margins: {margins}.
"""


class _Fleet(NamedTuple):
    """What the page says of the engines."""

    title: str
    engines: str
    stage: str
    about: str


_FLEETS: Final = {
    SIMULATED: _Fleet(
        "Beside other routers",
        "eight of `simulator serve`,\nin real time and without GPUs, each a Llama-3.1-8B on an L40S",
        """\
- The router has a core to itself; engines, load generator and what a contestant needs beside its router
  share another. How busy both are stands in the last table, and how late requests were sent: where engines
  and generator come near to 100 %, times are the machine's and not the router's.
- In each round every workload is played to every contestant, beginning with another one each time; engines
  and router are started afresh for each play. Sixteen small requests come before the first that counts.
""",
        """\
- Dynamo takes no OpenAI-compatible engines. Here each engine has a worker of Dynamo's own kind before it,
  which passes on tokens; what these need is not counted, except in times.
- Built-in engines model prefill, decode, scheduling and prefix caches of vLLM from measured kernel times;
  [simulator/README.md](../simulator/README.md) says how true that is.
""",
    ),
    VLLM: _Fleet(
        "Beside other routers, before real engines",
        "real vLLM with a\ntiny model, on this machine's CPU",
        """\
- Real engines compute on the cores that the router and the load generator have, so times are those of a
  machine that is short of cores; how late requests were sent stands in the last table.
- In each round every workload is played to every contestant, beginning with another one each time; the router
  is started afresh for each play, and engines' caches are emptied. Sixteen small requests come before the
  first that counts.
""",
        """\
- Engines are of the version that `make e2e` sets up. How busy they were is not counted.
""",
    ),
}

_METHOD: Final = """\
## Method

{stage}- All requests name a session, in `x-session-id` and `x-smg-routing-key`, for those who can use that; a
  request that belongs to none is one of its own.
- An answer counts when it is whole. Times are of whole answers only, so errors stand beside them.
- CPU time per request is all that the router's processes used from the first request to the last answer,
  health checks and metrics with it, over the requests. At these rates a router sleeps between two tokens of
  a stream and wakes for each, and more than half of the time is the kernel's; `make bench-dataplane` has what
  routers cost that are kept busy.
{about}
Made with

```
{command}
```

on {machine}, Python {python}, commit {commit}, {date}.
"""


def page(ring: Ring) -> str:
    """Reads. The whole page."""
    found, fleet = verdicts(ring), _FLEETS[ring.fleet]
    rounds = len({run.key.round for run in ring.runs})
    margins = ", ".join(f"{metric.name} {_margin(metric)}" for metric in METRICS)
    counted = "one round" if rounds == 1 else f"{rounds} rounds"
    parts = [
        f"# {fleet.title}\n",
        _WRITTEN,
        *([_PART.format(mode=ring.mode)] if ring.mode != "published" else []),
        _LEAD.format(engines=fleet.engines, rounds=counted, margins=margins),
        "## Verdict\n",
        _count(found),
        _worse(found),
        _exact(ring),
        *(
            f"### {metric.name[0].upper()}{metric.name[1:]}\n\n{_matrix(ring, found, metric)}"
            for metric in METRICS
        ),
        *(
            f"## {workload.name[0].upper()}{workload.name[1:]}\n\n"
            f"{_sentence(workload.text)}{_bound(ring, workload)}\n\n"
            f"{table(_HEADERS, _rows(ring, workload.name))}"
            for workload in ring.workloads
        ),
        _failures(ring),
        "## Contestants\n",
        table(
            ("contestant", "version", "mode"),
            [(one.name, one.version, one.text) for one in ring.contestants],
            texts=3,
        ),
        "## The harness\n",
        _harness(ring),
        _METHOD.format(
            stage=fleet.stage,
            about=fleet.about,
            command=ring.command,
            machine=ring.machine,
            python=ring.python,
            commit=ring.commit,
            date=ring.date,
        ),
    ]
    return "\n".join(part for part in parts if part)


def terminal(ring: Ring) -> str:
    """Reads. The tables, for a terminal."""
    found = verdicts(ring)
    tables = [
        f"{workload.name}\n{table(_HEADERS, _rows(ring, workload.name))}" for workload in ring.workloads
    ]
    return "\n".join([*tables, _lines(found)])


_HEADERS: Final = (
    *("contestant", "hit rate", "TTFT mean", "p50", "p99", "answers/s", "imbalance", "errors"),
    *("CPU per request", "memory"),
)


def _rows(ring: Ring, workload: str) -> list[tuple[str, ...]]:
    rows = []
    for one in ring.contestants:
        runs = _runs(ring, workload, one.name)
        if not runs:
            rows.append((one.name, *["-"] * (len(_HEADERS) - 1)))
            continue
        rows.append(
            (
                f"**{one.name}**" if one.name == OURS else one.name,
                _spread(runs, lambda run: 100 * run.hit_rate, "{:.1f}", " %"),
                _spread(runs, lambda run: 1000 * run.ttft_mean_s, "{:.0f}", " ms"),
                seconds(median(run.ttft_p50_s for run in runs)),
                _spread(runs, lambda run: 1000 * run.ttft_p99_s, "{:.0f}", " ms"),
                f"{median(run.requests_per_s for run in runs):.1f}",
                f"{median(run.imbalance for run in runs):.2f}",
                str(sum(sum(run.errors.values()) for run in runs)),
                _spread(runs, lambda run: run.cpu_us, "{:.0f}", " µs"),
                f"{median(run.memory_mb for run in runs):.0f} MB",
            )
        )
    return rows


def _runs(ring: Ring, workload: str, contestant: str) -> list[Run]:
    return [
        run
        for run in ring.runs
        if run.key.workload == workload and run.key.contestant == contestant and not run.failed
    ]


def _spread(runs: Sequence[Run], of: Callable[[Run], float], form: str, unit: str) -> str:
    """The median, and the range where it can be told from it."""
    values = sorted(of(run) for run in runs)
    middle, low, high = (form.format(value) for value in (median(values), values[0], values[-1]))
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low}–{high})"


def _count(found: Sequence[Verdict]) -> str:
    rows = [
        (
            metric.name,
            *(str(sum(one.metric is metric and one.word is word for one in found)) for word in Word),
        )
        for metric in METRICS
    ]
    lead = "Workloads times peers in which `warmroute` is better, within noise, or worse:"
    return f"{lead}\n\n{table(('by', *Word), rows)}"


def _exact(ring: Ring) -> str:
    """What engines' events change: ours with them beside ours without, and how it stands among the peers."""
    found = beside(ring, OURS_EXACT, [OURS])
    if not found:
        return ""
    cells = {(one.metric, one.workload): one for one in found}
    rows = [
        (metric.name, *(_cell(cells.get((metric, workload.name))) for workload in ring.workloads))
        for metric in METRICS
    ]
    peers = verdicts(ring, OURS_EXACT)
    stand = ", ".join(
        f"{sum(one.metric is METRICS[1] and one.word is word for one in peers)} times {word}" for word in Word
    )
    return (
        f"`{OURS_EXACT}` beside `{OURS}`, by the same measures. Beside the peers its mean TTFT is"
        f" {stand}. Its tokenizer here is of a kind that the fast library does not know, and takes a"
        " millisecond for a thousand tokens.\n\n"
        f"{table(('by', *(one.name for one in ring.workloads)), rows, texts=9)}"
    )


def _worse(found: Sequence[Verdict]) -> str:
    worse = [one for one in found if one.word is Word.WORSE]
    if not worse:
        return "It is worse nowhere.\n"
    return "Worse:\n\n" + "".join(
        f"- {one.workload}, {one.metric.name}: {_told(one)} beside {one.peer}\n" for one in worse
    )


def _matrix(ring: Ring, found: Sequence[Verdict], metric: Metric) -> str:
    """A row for each peer, a column for each workload."""
    cells = {(one.peer, one.workload): one for one in found if one.metric is metric}
    rows = [
        (peer.name, *(_cell(cells.get((peer.name, workload.name))) for workload in ring.workloads))
        for peer in ring.contestants
        if peer.name not in (OURS, OURS_EXACT)
    ]
    what = "Ours less theirs, in points." if metric.as_difference else "Ours over theirs."
    return f"{what}\n\n{table(('peer', *(one.name for one in ring.workloads)), rows, texts=9)}"


def _cell(one: Verdict | None) -> str:
    if one is None:
        return "-"
    return f"{_told(one)} {one.word if one.word is Word.NOISE else f'**{one.word}**'}"


def _told(one: Verdict) -> str:
    """The middle of the rounds and their range."""
    if one.metric.as_difference:
        middle, low, high = (f"{100 * value:+.1f}" for value in (one.middle, one.values[0], one.values[-1]))
    else:
        middle, low, high = (f"{value:.2f}" for value in (one.middle, one.values[0], one.values[-1]))
    return middle if low == high else f"{middle} ({low} to {high})"


def _lines(found: Sequence[Verdict]) -> str:
    """Verdicts in words, a line each."""
    return "".join(
        f"{one.workload}, {one.metric.name}: {one.word} "
        f"{'of' if one.word is Word.NOISE else 'than'} {one.peer}: {_told(one)}\n"
        for one in found
    )


def _margin(metric: Metric) -> str:
    return f"{100 * metric.margin:.0f} {'point' if metric.as_difference else '%'}"


def _failures(ring: Ring) -> str:
    """Who could not run, and what went wrong with those who did."""
    lines = dict.fromkeys(
        f"- {run.key.contestant} did not run: {' '.join(run.failed.split())[:300]}"
        for run in ring.runs
        if run.failed
    )
    for run in ring.runs:
        for error, count in run.errors.items():
            text = " ".join(error.split())[:160].replace("|", "/")
            lines[
                f"- {run.key.contestant}, {run.key.workload}, round {run.key.round + 1}: {count} × {text}"
            ] = None
    return "## What went wrong\n\n" + "\n".join(lines) + "\n" if lines else ""


def _harness(ring: Ring) -> str:
    rows = []
    for one in ring.contestants:
        runs = [run for run in ring.runs if run.key.contestant == one.name and not run.failed]
        if runs:
            rows.append(
                (
                    one.name,
                    f"{100 * max(run.router_busy for run in runs):.0f} %",
                    _share(max(run.engines_busy for run in runs)),
                    f"{100 * max(run.generator_busy for run in runs):.0f} %",
                    f"{1000 * median(run.lag_p99_s for run in runs):.1f} ms",
                    f"{1000 * max(run.lag_p99_s for run in runs):.1f} ms",
                    f"{max(run.load_before for run in runs):.1f}",
                )
            )
    headers = (
        *("with", "router at most", "engines at most", "generator at most", "p99 of lag", "at most"),
        "load before at most",
    )
    return table(headers, rows)


def _share(busy: float) -> str:
    """Of a core; engines that were given are not looked at."""
    return f"{100 * busy:.0f} %" if busy else "–"


def _bound(ring: Ring, workload: About) -> str:
    """What there is to hit."""
    bounds = [run.hit_bound for run in ring.runs if run.key.workload == workload.name and not run.failed]
    if not workload.reuse or not bounds:
        return ""
    return f" One endless cache for all engines would hit {100 * median(bounds):.1f} %."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
