"""How much does `cache_aware` lose when what it believes is not so?

    make bench-beliefs                              three seeds, every level: some minutes on two cores
    make bench-beliefs ARGS="--quick --json FILE"   the ends of each scale, two seeds: a minute
    make bench-beliefs ARGS=--signals               what load signals are worth, for docs/load-signals.md

    capacity    workers declare ¼ to 4 times what their KV caches hold
    price       the router thinks that prefill takes ⅓ of the time, or three times as long
    restart     four of eight workers die one after the other and are back at once, empty
    flush       four of eight caches are emptied one after the other, and nobody tells the router
    replicas    2 and 4 routers that know nothing of each other, in place of one; and where engines tell them
                of their load every half second, with and without the tokens that wait
    signals     these alone, and two routers of which one has half of the workers for itself

Four traces on eight simulated H100s at 0.8 of their knee. `beliefs_lib.levels` has the levels and their
reasons, `beliefs_lib.verdicts` what is compared and the bars, `beliefs_lib.restarts` when a lost cache counts
as noticed.

How to read it. Every figure stands beside that of the same requests with nothing wrong, paired by seed, with
an interval over seeds. "Blind" are requests that were sent before any engine could have told. A trace whose
requests name no session has no row where sessions choose the router. A recording that is not there is left
out, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from beliefs_lib.levels import KNEES, QUICK_SEEDS, SEEDS, Variant, load_of, signal_variants, variants
from beliefs_lib.played import Played, task_of
from beliefs_lib.playing import play
from beliefs_lib.verdicts import Row, by_variant, rows_of
from routing_lib.factors import Place, traces, workers_of
from routing_lib.provenance import made

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="the ends of each scale, two seeds: a look, not a measurement"
    )
    parser.add_argument(
        "--signals", action="store_true", help="what it is worth that engines tell their load"
    )
    parser.add_argument("--traces", type=Path, default=ROOT / "../shared/traces", metavar="FOLDER",
        help="recorded traces; one that is not there is left out")  # fmt: skip
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
        help="runs at a time; figures do not depend on it")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes must be at least 1")
    known = traces(options.traces)
    here = [place for place in KNEES if known[place.trace].source(workers_of(place.fleet)).present]
    wanted = (signal_variants if options.signals else variants)(options.quick)
    seeds = range(QUICK_SEEDS if options.quick else SEEDS)
    tasks = [
        task_of(known[place.trace], place, variant, seed)
        for place in here
        for seed in seeds
        for variant in wanted
    ]
    try:
        runs = [run for _, run in play(tasks, options.processes)]
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    rows = rows_of(by_variant(runs), [place.trace for place in here], wanted)
    show(rows)
    for place in KNEES:
        if place not in here:
            print(f"{place.trace}: left out, its file is not in {options.traces}")
    if options.json is not None:
        options.json.write_bytes(encoded(here, wanted, runs, rows))
    return 0


def show(rows: Sequence[Row]) -> None:
    """Writes. To the terminal, a line each."""
    name = max(len(row.name) for row in rows)
    text = max(len(row.text) for row in rows)
    for row in rows:
        verdict = "" if row.held is None else "held" if row.held else "MISSED"
        print(f"{row.name:<{name}}  {row.text:<{text}}  {row.bar:<20}  {verdict}".rstrip())
    bars = [row.held for row in rows if row.held is not None]
    print(f"{sum(bars)} of {len(bars)} bars held")


def encoded(
    places: Sequence[Place], wanted: Sequence[Variant], runs: Sequence[Played], rows: Sequence[Row]
) -> bytes:
    """Reads. All figures, and where they come from."""
    command = shlex.join(["bench/beliefs.py", *sys.argv[1:]])
    found = {
        "made": made(ROOT, command, len(runs), sum(run.cpu_s for run in runs)),
        "loads": {place.trace: load_of(place) for place in places},
        "variants": wanted,
        "rows": rows,
        "runs": sorted(runs, key=lambda run: (run.trace, run.variant, run.seed)),
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


if __name__ == "__main__":
    sys.exit(main())
