"""All runs of a ring in their order, those that are done left out.

Rounds are outermost: a machine that is shared drifts within minutes, so what is compared lies close together.
In each round every workload is played to every contestant, in an order that begins with another one each
time. The seed is the round's: in one round all are asked the same, and the next round asks something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dataplane_lib.routers import CannotRun
from ring_lib.contestants import Contestant
from ring_lib.measured import Stage, measure
from ring_lib.results import Key, Run, Store
from ring_lib.workloads import Workload

FIRST_SEED = 11


@dataclass(frozen=True, slots=True)
class Agenda:
    """What is to be done."""

    contestants: Sequence[Contestant]
    workloads: Mapping[str, Workload]
    rounds: int
    fleet: str
    versions: Mapping[str, str]
    """By program; why there is none, where there is none, begins with "cannot"."""

    def plays(self) -> list[tuple[Key, Contestant, Workload]]:
        """Reads. In order."""
        found = []
        for number in range(self.rounds):
            for place, workload in enumerate(self.workloads.values()):
                turn = (number * len(self.workloads) + place) * 7 % len(self.contestants)
                for contestant in [*self.contestants[turn:], *self.contestants[:turn]]:
                    asked = f"{workload.spec}, {workload.seconds:g} s"
                    version = self.versions[contestant.program]
                    key = Key(workload.name, asked, self.fleet, contestant.name, version, number)
                    found.append((key, contestant, workload))
        return found


async def play_all(agenda: Agenda, stage: Stage, store: Store, say: Callable[[str], None]) -> list[Run]:
    """Writes the store. Every run of the agenda, new or done before."""
    runs: list[Run] = []
    keys = agenda.plays()
    for number, (key, contestant, workload) in enumerate(keys):
        run = store.get(key)
        if run is None:
            run = await _one(agenda, stage, key, contestant, workload)
            store.add(run)
            say(f"{number + 1}/{len(keys)} {told(run)}")
        runs.append(run)
    return runs


async def _one(agenda: Agenda, stage: Stage, key: Key, contestant: Contestant, workload: Workload) -> Run:
    seed = FIRST_SEED + key.round
    if contestant.only and agenda.fleet not in contestant.only:
        return Run(key, seed, failed=f"it cannot serve a fleet of {agenda.fleet}")
    if key.version.startswith("cannot"):
        return Run(key, seed, failed=key.version)
    return await measure(stage, contestant, workload, key, seed)


def versions(stage: Stage, contestants: Sequence[Contestant]) -> dict[str, str]:
    """Writes (installs what is missing). By program; why there is none begins with "cannot"."""
    found: dict[str, str] = {}
    for program in dict.fromkeys(contestant.program for contestant in contestants):
        try:
            stage.places.prepare(program)
            found[program] = stage.places.version(program)
        except CannotRun as error:
            found[program] = f"cannot run: {error}"
    return found


def told(run: Run) -> str:
    """Reads. A run in a line."""
    name = f"round {run.key.round + 1}, {run.key.workload}, {run.key.contestant} (seed {run.seed}): "
    if run.failed:
        return name + run.failed.splitlines()[0][:150]
    wrong = f", {sum(run.errors.values())} errors {run.errors}" if run.errors else ""
    return name + (
        f"{run.requests} requests, hits {run.hit_rate:.1%}, TTFT {run.ttft_mean_s * 1000:.0f} ms "
        f"(p50 {run.ttft_p50_s * 1000:.0f}, p99 {run.ttft_p99_s * 1000:.0f}), "
        f"imbalance {run.imbalance:.2f}, {run.requests_per_s:.1f}/s, {run.cpu_us:.0f} µs, "
        f"{run.memory_mb:.0f} MB; busy: router {run.router_busy:.0%}, engines {run.engines_busy:.0%}, "
        f"generator {run.generator_busy:.0%}, lag {run.lag_p99_s * 1000:.0f} ms{wrong}"
    )
