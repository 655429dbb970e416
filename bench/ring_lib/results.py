"""What is kept: of every run its figures, of the whole ring the runs and where they come from; no verdicts.

A run that is done is a line of a file of its own, known by the workload and all that decides what is asked,
the contestant with its version, and the round. `ring.json` is the lines of one ring, in order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

SCHEMA: Final = 1


class Key(msgspec.Struct, frozen=True):
    """What tells a run apart."""

    workload: str
    asked: str
    """Of the workload: what is asked for, and for how long."""
    fleet: str
    contestant: str
    version: str
    round: int


class Run(msgspec.Struct, frozen=True):
    """One contestant in one round of one workload."""

    key: Key
    seed: int
    failed: str = ""
    """Why there are no figures; "" when there are."""
    requests: int = 0
    errors: dict[str, int] = {}
    """By what went wrong."""
    seconds: float = 0.0
    """From the first request to the end of the last answer."""
    hit_rate: float = 0.0
    """Of all prompt tokens; the engines' own counters."""
    hit_bound: float = 0.0
    """What one endless cache for all engines would hit."""
    ttft_mean_s: float = 0.0
    ttft_p50_s: float = 0.0
    ttft_p99_s: float = 0.0
    e2e_mean_s: float = 0.0
    requests_per_s: float = 0.0
    """Whole answers."""
    prompt_tokens_per_s: float = 0.0
    """Of whole answers, cached ones with them."""
    imbalance: float = 0.0
    """Prompt tokens computed by the engine that computed most, over the mean."""
    cpu_us: float = 0.0
    """The router's CPU time per request, of all its processes."""
    memory_mb: float = 0.0
    """Of all its processes at the end, shared pages counted once."""
    lag_p99_s: float = 0.0
    """By which the generator sent late."""
    router_busy: float = 0.0
    """Share of its core that the router used."""
    engines_busy: float = 0.0
    generator_busy: float = 0.0
    """Shares of the core that engines and generator have together."""
    load_before: float = 0.0
    """Of the machine, as its processes that were ready to run."""
    reasons: dict[str, int] = {}
    """How often the router gave which reason for its choice; only ours does."""


class About(msgspec.Struct, frozen=True):
    """Of a contestant or a workload, for the page."""

    name: str
    text: str
    version: str = ""
    reuse: bool = True


class Ring(msgspec.Struct, frozen=True):
    """All of it."""

    schema: int
    mode: str
    command: str
    commit: str
    date: str
    """On which the last run ended."""
    machine: str
    python: str
    fleet: str
    contestants: list[About]
    workloads: list[About]
    runs: list[Run]


def decoded(content: bytes) -> Ring:
    """Reads. Raises msgspec.ValidationError, and ValueError for another schema."""
    found = msgspec.json.decode(content, type=Ring)
    if found.schema != SCHEMA:
        raise ValueError(f"schema {found.schema}, but this version reads {SCHEMA}")
    return found


def encoded(found: Ring) -> bytes:
    """Reads. A line for each run."""
    head = msgspec.json.encode(msgspec.structs.replace(found, runs=[]))
    head = msgspec.json.format(head, indent=1).removesuffix(b"[]\n}")
    return head + b"[\n  " + b",\n  ".join(msgspec.json.encode(run) for run in found.runs) + b"\n ]\n}\n"


class Store:
    """Runs that are done, a line each; of two with one key the later one counts. State: these runs."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Writes. Without `resume` a file that is there is moved aside."""
        self._path = path
        self._done: dict[Key, Run] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not resume:
            path.replace(path.with_suffix(".before.jsonl"))
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    run = msgspec.json.decode(line, type=Run)
                except msgspec.DecodeError:  # the line that was being written when it was killed
                    continue
                self._done[run.key] = run

    def get(self, key: Key) -> Run | None:
        """Reads. A run that failed is none: what it lacked may be there by now."""
        run = self._done.get(key)
        return None if run is None or run.failed else run

    def add(self, run: Run) -> None:
        """Writes."""
        self._done[run.key] = run
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(run) + b"\n")
