"""How good is each policy's routing, and is the default one the best?

    make bench-routing                              the published table: about an hour on two cores
    make bench-routing ARGS=--quick                 a look in five minutes
    .venv/bin/python bench/routing.py --full        every cell of the grid: some four hours
    .venv/bin/python bench/routing.py --render      page and README from docs/quality.json, without a run

What is measured. Traces × loads × KV caches × fleets × policies × seeds in the simulator, with the policy
objects of the router: time to first token, hit rate, goodput, beside what no router can beat. Loads are
shares of the knee of each trace and fleet, which is searched for first. `routing_lib.factors` has the levels
and their reasons, `routing_lib.plan` what each mode plays, `routing_lib.verdicts` when a policy is better.

What comes of it: docs/quality.json, docs/quality.md with its plots, which say how to read them, and ten
lines of the README. Of --quick and --full: the same in build/quick and build/full, without the README.

Every run that is done is a line of `--state`. Ctrl-C loses the runs under way; the same command goes on from
there. Lines of other sources of policies/ and simulator/ are not used.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from routing_lib.agenda import Agenda
from routing_lib.factors import AGENT_SESSIONS, SEEDS, traces, workers_of
from routing_lib.gathered import gathered
from routing_lib.page import PLOTS, page, pictures
from routing_lib.page_verdicts import counts
from routing_lib.places import PUBLISHED, results_file
from routing_lib.plan import MODES, plan_of
from routing_lib.playing import play
from routing_lib.provenance import made
from routing_lib.results import Quality, decoded, encoded
from routing_lib.runs import RunFailed
from routing_lib.store import Store, digest_of_sources
from routing_lib.summary import placed

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--quick", action="store_true", help="every level once, six policies, three seeds")
    modes.add_argument("--full", action="store_true", help="the whole grid")
    modes.add_argument("--render", action="store_true", help="write the page again, run nothing")
    parser.add_argument("--traces", type=Path, default=ROOT / "../shared/traces", metavar="FOLDER",
        help="recorded traces; one that is not there is left out")  # fmt: skip
    parser.add_argument("--agent-sessions", type=int, default=AGENT_SESSIONS, metavar="N",
        help=f"of the recorded coding agents [{AGENT_SESSIONS}]")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"seeds 0 to N − 1 [{SEEDS}]")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
        help="runs at a time; figures do not depend on it")  # fmt: skip
    parser.add_argument("--state", type=Path, default=ROOT / "build/routing/runs.jsonl", metavar="FILE",
        help="runs that are done")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE",
        help="results; the page is written beside it [quality.json in docs or build/quick]")  # fmt: skip
    options = parser.parse_args()
    if options.processes < 1 or options.seeds < 2 or options.agent_sessions < 1:
        parser.error("--processes and --agent-sessions must be at least 1, --seeds at least 2")
    mode = next((name for name in MODES if getattr(options, name, False)), PUBLISHED)
    results = options.json or results_file(ROOT, "quality", mode)
    if options.render:
        write_page(decoded(results.read_bytes()), results)
        return 0
    known = traces(options.traces, options.agent_sessions)
    here = {name: factor for name, factor in known.items() if factor.source(workers_of("8")).present}
    agenda = Agenda(plan_of(mode, here, options.seeds), Store(options.state, digest_of_sources()))
    try:
        play(agenda, options.processes)
    except KeyboardInterrupt:
        kept = f"interrupted; {len(agenda.store)} runs are in {options.state}, the same command goes on"
        print(kept, file=sys.stderr)
        return 1
    except RunFailed as error:
        print(f"bench/routing.py: {error}", file=sys.stderr)
        return 1
    command = shlex.join(["bench/routing.py", *sys.argv[1:]])
    runs = agenda.used()
    found = gathered(
        agenda,
        made(ROOT, command, len(runs), sum(run.cpu_s for run in runs)),
        [name for name in known if name not in here],
    )
    results.write_bytes(encoded(found))
    write_page(found, results)
    print(f"{counts(found)}\n{results.with_suffix('.md')} has the rest")
    return 0


def write_page(quality: Quality, results: Path) -> None:
    """Writes the page and its plots beside the results; what is published also goes into the README."""
    folder = results.parent / PLOTS
    folder.mkdir(exist_ok=True)
    results.with_suffix(".md").write_text(page(quality), encoding="utf-8")
    for name, picture in pictures(quality).items():
        (folder / name).write_text(picture, encoding="utf-8")
    if results.resolve() == results_file(ROOT, "quality", PUBLISHED):
        readme = ROOT / "README.md"
        readme.write_text(placed(readme.read_text(encoding="utf-8"), quality), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
