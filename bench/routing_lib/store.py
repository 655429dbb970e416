"""Runs that are done, one JSON line each: what is there is not played again.

A line is known by all that decides what comes of a run: trace, fleet, KV cache, limits, load, policy, seed,
and a digest of the sources of both packages that play it. Lines of other sources stay in the file and are
not looked at, so that figures of two versions never stand in one table.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import msgspec

import warmroute_policies
import warmroute_simulator
from routing_lib import lines

_DIGITS = 16
"""Of the digest: 64 bits tell any two versions apart."""


class Key(msgspec.Struct, frozen=True):
    """What tells a run apart, beside the sources."""

    trace: str
    """`Source.text`."""
    fleet: str
    kv_tokens: int
    idle_cap_s: float | None
    ttft_limit_s: float
    tpot_limit_s: float
    load: float
    """In the unit of `simulation.load`."""
    policy: str
    """With its parameters."""
    seed: int


class Bounds(msgspec.Struct, frozen=True):
    """What no router can beat, for the sequence that the run left behind."""

    single_infinite: float
    pooled_lru: float
    pooled_belady: float
    ttft_floor_mean_s: float
    ttft_floor_p99_s: float


class Run(msgspec.Struct, frozen=True):
    """What came of a run. Latencies are of requests that were answered."""

    key: Key
    digest: str
    requests: int
    """Of the trace."""
    outcomes: dict[str, int]
    ttft_mean_s: float
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    tpot_mean_s: float
    tpot_p99_s: float
    e2e_mean_s: float
    hit_rate: float
    goodput_share: float
    goodput_per_s: float
    offered_per_s: float
    imbalance: float
    cpu_s: float
    bounds: Bounds | None = None

    @property
    def unanswered(self) -> float:
        """Reads. Share of the trace's requests without a whole answer: refused, given up, or never sent
        because the one before them was."""
        return 1 - self.outcomes.get("ok", 0) / self.requests


class Store:
    """State: the runs of these sources that are in the file, by their keys."""

    def __init__(self, path: Path, digest: str) -> None:
        """Reads the file if there is one. Raises OSError."""
        self.digest = digest
        self._path = path
        self._runs: dict[Key, Run] = {}
        for run in lines.read(path, Run):
            if run.digest == digest:
                self._keep(run)

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, key: Key, *, with_bounds: bool = False) -> Run | None:
        """Reads. The run; one without bounds is none where they are wanted."""
        run = self._runs.get(key)
        return None if run is None or (with_bounds and run.bounds is None) else run

    def add(self, run: Run) -> None:
        """Writes. To the file first. Raises OSError."""
        lines.append(self._path, run)
        self._keep(run)

    def _keep(self, run: Run) -> None:
        """Writes. Equal keys have equal results, so the run with bounds says all that the other does."""
        before = self._runs.get(run.key)
        if before is None or before.bounds is None:
            self._runs[run.key] = run


def digest_of_sources() -> str:
    """Reads. Of every module of the decision core and of the simulator, names and contents."""
    found = sha256()
    for package in (warmroute_policies, warmroute_simulator):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            found.update(f"{root.name}/{path.relative_to(root)}\0".encode())
            found.update(path.read_bytes() + b"\0")
    return found.hexdigest()[:_DIGITS]
