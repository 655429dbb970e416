"""Are the defaults of `cache_aware` good, or would a search find better ones?

    make bench-tuning                               the published page: ten minutes on two cores, and as many
                                                    again where `bench/routing.py` has found no knees yet
    make bench-tuning ARGS=--quick                  a look in two minutes
    .venv/bin/python bench/tuning.py --render       the page again from docs/tuning.json, without a run

What is done. The search of `simulator tune` looks for parameters on half of the workloads of
`bench/routing.py`; the best point that it finds and the defaults are then played on both halves, with three
seeds. `tuning_lib.workloads` has the halves and their cells, `tuning_lib.costs` what a point costs,
`tuning_lib.verdicts` when the defaults stand.

What comes of it: docs/tuning.json, and docs/tuning.md, which says how to read it. Of --quick: the same in
build/quick.

Runs, those that find knees too, are kept where `bench/routing.py` keeps its own, and none is played twice.
Ctrl-C loses the runs under way; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from routing_lib.agenda import Agenda
from routing_lib.factors import AGENT_SESSIONS, traces, workers_of
from routing_lib.places import PUBLISHED, results_file
from routing_lib.plan import OURS
from routing_lib.progress import Progress
from routing_lib.provenance import made
from routing_lib.results import encoded
from routing_lib.runs import RunFailed, Runs
from routing_lib.store import Store, digest_of_sources
from tuning_lib.page import page, sentence
from tuning_lib.playing import Playing
from tuning_lib.results import Tuning, decoded, gathered
from tuning_lib.searched import searched
from tuning_lib.workloads import plan_of_tuning
from warmroute_policies.events import PolicySpec
from warmroute_simulator.study.ranges import space_of
from warmroute_simulator.study.search import LEAST_BUDGET

ROOT = Path(__file__).resolve().parents[1]

BUDGET = 40
"""As `simulator tune` has it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--quick", action="store_true",
        help=f"few cells, and {LEAST_BUDGET} trials unless told")  # fmt: skip
    modes.add_argument("--render", action="store_true", help="write the page again, run nothing")
    parser.add_argument("--budget", type=int, metavar="N",
        help=f"trials of the search: a point with a seed in every cell of a half [{BUDGET}]")  # fmt: skip
    parser.add_argument("--traces", type=Path, default=ROOT / "../shared/traces", metavar="FOLDER",
        help="recorded traces; one that is not there is left out")  # fmt: skip
    parser.add_argument("--agent-sessions", type=int, default=AGENT_SESSIONS, metavar="N",
        help=f"of the recorded coding agents [{AGENT_SESSIONS}]")  # fmt: skip
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
        help="runs at a time; figures do not depend on it")  # fmt: skip
    parser.add_argument("--state", type=Path, default=ROOT / "build/routing/runs.jsonl", metavar="FILE",
        help="runs that are done")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE",
        help="results; the page is written beside it [tuning.json in docs or build/quick]")  # fmt: skip
    options = parser.parse_args()
    usual = LEAST_BUDGET if options.quick else BUDGET
    budget = usual if options.budget is None else options.budget
    if options.processes < 1 or options.agent_sessions < 1 or budget < LEAST_BUDGET:
        parser.error(f"--processes and --agent-sessions must be at least 1, --budget at least {LEAST_BUDGET}")
    mode = "quick" if options.quick else PUBLISHED
    results = options.json or results_file(ROOT, "tuning", mode)
    if options.render:
        write_page(decoded(results.read_bytes()), results)
        return 0
    known = traces(options.traces, options.agent_sessions)
    here = {name: factor for name, factor in known.items() if factor.source(workers_of("8")).present}
    plan = plan_of_tuning(mode, here)
    agenda = Agenda(plan, Store(options.state, digest_of_sources()))
    try:
        found = study(agenda, budget, options.processes, [name for name in known if name not in here])
    except KeyboardInterrupt:
        kept = f"interrupted; {len(agenda.store)} runs are in {options.state}, the same command goes on"
        print(kept, file=sys.stderr)
        return 1
    except RunFailed as error:
        print(f"bench/tuning.py: {error}", file=sys.stderr)
        return 1
    results.write_bytes(encoded(found))
    write_page(found, results)
    print(f"{sentence(found)}\n{results.with_suffix('.md')} has the rest")
    return 0


def study(agenda: Agenda, budget: int, processes: int, absent: list[str]) -> Tuning:
    """Writes. Plays what is not in the store yet. Raises RunFailed, KeyboardInterrupt."""
    space = space_of(PolicySpec(OURS))
    progress = Progress()
    try:
        with Runs(processes, agenda.store.digest) as runs:
            playing = Playing(runs, agenda.store, progress)
            found = searched(agenda, playing, space, budget)
    finally:
        progress.end()
    used = playing.used.values()
    command = shlex.join(["bench/tuning.py", *sys.argv[1:]])
    where = made(ROOT, command, len(used), sum(run.cpu_s for run in used))
    return gathered(agenda, space, budget, found, where, absent)


def write_page(tuning: Tuning, results: Path) -> None:
    """Writes. The page beside the results."""
    results.with_suffix(".md").write_text(page(tuning), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
