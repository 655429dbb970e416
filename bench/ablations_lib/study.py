"""Both halves of the study: the terms in the cells of `routing_lib.plan`, what is learned at the places of
`beliefs_lib.levels`.

Terms are policies beside `cache_aware` in a plan of the routing study: same cells, same loads, same seeds,
and the same file, so that whatever either study has played is there for the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ablations_lib.learning import Learning
from ablations_lib.results import SCHEMA, Ablations
from ablations_lib.taken import LEARNED, TERMS, Taken, terms_here
from beliefs_lib.playing import play as play_tasks
from routing_lib.agenda import Agenda
from routing_lib.factors import TraceFactor
from routing_lib.gathered import gathered
from routing_lib.plan import OURS, Plan, plan_of
from routing_lib.playing import play as play_agenda
from routing_lib.provenance import made
from routing_lib.store import Store

SEEDS: Final = 3
"""The routing study has five; three leave time for every term in every cell."""
QUICK_SEEDS: Final = 2
"""The fewest that have an interval."""


@dataclass(frozen=True, slots=True)
class Study:
    """State: the runs of both halves that are done."""

    terms: Sequence[Taken]
    agenda: Agenda
    learning: Learning

    def play(self, processes: int) -> None:
        """Writes. What is in neither file yet. Raises what a run raised, RunFailed, KeyboardInterrupt."""
        play_agenda(self.agenda, processes)
        for task, run in play_tasks(self.learning.tasks(), processes):
            self.learning.add(task, run)

    def found(self, root: Path, command: str, absent: Sequence[str]) -> Ablations:
        """Reads. Raises KeyError, AssertionError before all is played."""
        runs, learned = self.agenda.used(), self.learning.used()
        cpu_s = sum(run.cpu_s for run in runs) + sum(run.cpu_s for run in learned)
        provenance = made(root, command, len(runs) + len(learned), cpu_s)
        plan = self.agenda.plan
        return Ablations(
            schema=SCHEMA,
            mode=plan.mode,
            made=provenance,
            seeds=list(plan.seeds),
            absent=list(absent),
            terms=list(self.terms),
            unknown=[term for term in TERMS if term not in self.terms],
            learned=list(LEARNED),
            cells=gathered(self.agenda, provenance, absent).cells,
            beliefs=self.learning.found(),
        )


def study_of(mode: str, traces: Mapping[str, TraceFactor], seeds: int, state: Path, digest: str) -> Study:
    """Reads. Of these traces. `state`: the routing study's runs; those of wrong beliefs lie beside it."""
    return study_in(plan_of(mode, traces, seeds), state, digest)


def study_in(plan: Plan, state: Path, digest: str) -> Study:
    """Reads. In the cells of a plan, whose policies give way to the ablations."""
    terms = terms_here()
    policies = (OURS, *(term.text for term in terms))
    return Study(
        terms,
        Agenda(replace(plan, policies=policies, capacity_at=()), Store(state, digest)),
        Learning(plan.traces, plan.seeds, state.with_name("beliefs.jsonl"), digest),
    )
