"""Runs in which routers believe what is not so, once with all that routers learn and once without each thing.

    places     those of `beliefs_lib.levels`, at the loads given there
    beliefs    the true ones, where learning must not hurt; capacities and prices at the ends of their scales

Each thing that is learned is taken away under every belief, also where it is about something else: what
corrects a price may spoil what is believed of capacities. Runs that are done are lines of a file, known by
all that decides what comes of them and by the digest of the sources, as in `routing_lib.store`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ablations_lib.results import ALL, BeliefFound, BeliefResult
from ablations_lib.taken import LEARNED, unlearned
from beliefs_lib.levels import KNEES, Variant, load_of, variants
from beliefs_lib.played import Played, Task, task_of
from routing_lib import lines
from routing_lib.factors import Place, TraceFactor
from routing_lib.results import mean_of, rounded


class Key(msgspec.Struct, frozen=True):
    """What tells a run apart, beside the sources."""

    source: str
    """Of the trace."""
    fleet: str
    kv_tokens: int
    idle_cap_s: float | None
    load: float
    variant: str
    seed: int


class Done(msgspec.Struct, frozen=True):
    """A run that was played."""

    digest: str
    key: Key
    run: Played


class Learning:
    """State: what is asked, and the runs of these sources that are in the file."""

    def __init__(
        self, traces: Mapping[str, TraceFactor], seeds: Sequence[int], path: Path, digest: str
    ) -> None:
        """Reads the file if there is one. Raises OSError."""
        self.places = [place for place in KNEES if place.trace in traces]
        self._traces = traces
        self._seeds = seeds
        self._path = path
        self._digest = digest
        self._runs = {done.key: done.run for done in lines.read(path, Done) if done.digest == digest}

    def tasks(self) -> list[Task]:
        """Reads. What is still to be played, seed by seed of a place: so a recording is read once."""
        return [task for task in self._all() if _key(task) not in self._runs]

    def add(self, task: Task, run: Played) -> None:
        """Writes. To the file first. Raises OSError."""
        lines.append(self._path, Done(self._digest, _key(task), run))
        self._runs[_key(task)] = run

    def used(self) -> list[Played]:
        """Reads. Every run that was asked for. Raises KeyError while there are tasks."""
        return [self._runs[_key(task)] for task in self._all()]

    def found(self) -> list[BeliefFound]:
        """Reads. By place, then by belief. Raises KeyError while there are tasks."""
        return [
            BeliefFound(
                *place,
                load_of(place),
                belief.name,
                {name: self._result(place, variant) for name, variant in _variants(belief).items()},
            )
            for place in self.places
            for belief in beliefs()
        ]

    def _all(self) -> Iterator[Task]:
        for place in self.places:
            for seed in self._seeds:
                for belief in beliefs():
                    for variant in _variants(belief).values():
                        yield self._task(place, variant, seed)

    def _result(self, place: Place, variant: Variant) -> BeliefResult:
        runs = [self._runs[_key(self._task(place, variant, seed))] for seed in self._seeds]
        return BeliefResult(
            [rounded(run.ttft_mean_s) for run in runs],
            mean_of(1 - run.answered / run.requests for run in runs),
        )

    def _task(self, place: Place, variant: Variant, seed: int) -> Task:
        return task_of(self._traces[place.trace], place, variant, seed)


def beliefs() -> list[Variant]:
    """Reads. The true ones first."""
    return [variant for variant in variants(quick=True) if variant.routers == 1 and variant.loss is None]


def _variants(belief: Variant) -> dict[str, Variant]:
    """By what is taken away."""
    return {ALL: belief} | {learned.text: unlearned(belief, learned) for learned in LEARNED}


def _key(task: Task) -> Key:
    place = task.place
    return Key(
        task.source.text,
        place.fleet,
        place.kv_tokens,
        task.idle_cap_s,
        load_of(place),
        task.variant.name,
        task.seed,
    )
