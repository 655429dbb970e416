"""Does every term of `cache_aware`'s price, and everything that it learns, pay somewhere and hurt nowhere?

    make bench-ablations                            after `make bench-routing` a quarter of an hour
    make bench-ablations ARGS=--quick               a look in five minutes
    .venv/bin/python bench/ablations.py --render    the page again from docs/ablations.json, without a run

What is measured. `cache_aware` without one thing beside `cache_aware` whole, on the same requests. Terms of
its price in the cells of `bench/routing.py`, what it learns under the wrong beliefs of `bench/beliefs.py`.
`ablations_lib.taken` has what is taken away, `ablations_lib.verdicts` when a thing pays and when it hurts.

What comes of it: docs/ablations.json, and docs/ablations.md, which says how to read it. Of --quick: the same
in build/quick.

Every run that is done is a line of `--state`, shared with `bench/routing.py`, or of beliefs.jsonl beside it.
Ctrl-C loses the runs under way; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from ablations_lib.page import counts, page
from ablations_lib.results import Ablations, decoded
from ablations_lib.study import QUICK_SEEDS, SEEDS, study_of
from routing_lib.factors import traces, workers_of
from routing_lib.places import PUBLISHED, results_file
from routing_lib.results import encoded
from routing_lib.runs import RunFailed
from routing_lib.store import digest_of_sources

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--quick", action="store_true", help="the cells of the quick routing study, two seeds")
    modes.add_argument("--render", action="store_true", help="write the page again, run nothing")
    parser.add_argument("--traces", type=Path, default=ROOT / "../shared/traces", metavar="FOLDER",
        help="recorded traces; one that is not there is left out")  # fmt: skip
    parser.add_argument("--seeds", type=int, metavar="N",
        help=f"seeds 0 to N − 1 [{SEEDS}; quick: {QUICK_SEEDS}]")  # fmt: skip
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
        help="runs at a time; figures do not depend on it")  # fmt: skip
    parser.add_argument("--state", type=Path, default=ROOT / "build/routing/runs.jsonl", metavar="FILE",
        help="runs that are done")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE",
        help="results; the page is written beside it [ablations.json in docs or build/quick]")  # fmt: skip
    options = parser.parse_args()
    seeds = options.seeds if options.seeds is not None else QUICK_SEEDS if options.quick else SEEDS
    if options.processes < 1 or seeds < 2:
        parser.error("--processes must be at least 1, --seeds at least 2")
    mode = "quick" if options.quick else PUBLISHED
    results = options.json or results_file(ROOT, "ablations", mode)
    if options.render:
        write_page(decoded(results.read_bytes()), results)
        return 0
    known = traces(options.traces)
    here = {name: factor for name, factor in known.items() if factor.source(workers_of("8")).present}
    study = study_of(mode, here, seeds, options.state, digest_of_sources())
    try:
        study.play(options.processes)
    except KeyboardInterrupt:
        print(f"interrupted; runs are in {options.state.parent}, the same command goes on", file=sys.stderr)
        return 1
    except RunFailed as error:
        print(f"bench/ablations.py: {error}", file=sys.stderr)
        return 1
    command = shlex.join(["bench/ablations.py", *sys.argv[1:]])
    found = study.found(ROOT, command, [name for name in known if name not in here])
    results.write_bytes(encoded(found))
    write_page(found, results)
    print(f"{counts(found)}\n{results.with_suffix('.md')} has the rest")
    return 0


def write_page(found: Ablations, results: Path) -> None:
    """Writes the page beside the results."""
    results.with_suffix(".md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
