"""Runs that nobody simulated: small ones by hand, and large ones made up from a seed."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import nan
from random import Random

import pytest

from warmroute_simulator.simulation.records import Outcome, Records, Sample, WorkerTotals
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

MakeRun = Callable[..., Records]
WORDS = ("warm", "spill", "cold")


def by_hand() -> Records:
    """Two workers, five requests: three end well, one is cut off, one can never be held.

    row  prompt  output  worker  predicted  hit  evicted  elsewhere   arrives  first  ends
     0     1000     11      0           0    0        0          0       0.0    1.0   2.0
     1     2000      1      0         900  800      100          0       1.0    1.5   1.5
     2     1000     21      1           0    0        0        600       2.0    5.0   7.0
     3      500      5      1         400  496        0          0       6.0    6.2    –
     4     9000      5      –           0    –        –          –       6.5     –     –
    """
    tree = PromptTree()
    trace = Trace("by hand", tree, skipped=2, notes=["two lines were skipped"])
    for tokens, output, at, session in (
        (1000, 11, 0.0, 0),
        (2000, 1, 1.0, 0),
        (1000, 21, 2.0, 1),
        (500, 5, 6.0, 1),
        (9000, 5, 6.5, -1),
    ):
        trace.add(tree.add(ROOT, tokens), output, arrival_s=at, session=session)
    records = Records.of(trace, ["http://a", "http://b"])
    records.reasons = ["cold", "warm"]
    records.partial = False
    records.ended_s = 7.0
    rows = (
        (Outcome.OK, 0, 0, 1, 0.0, 1.0, 2.0, 0, 0, 0, 0),
        (Outcome.OK, 0, 1, 1, 1.0, 1.5, 1.5, 900, 800, 100, 0),
        (Outcome.OK, 1, 0, 2, 2.0, 5.0, 7.0, 0, 0, 0, 600),
        (Outcome.FAILED, 1, 1, 1, 6.0, 6.2, nan, 400, 496, 0, 0),
        (Outcome.REFUSED, -1, -1, 0, 6.5, nan, nan, 0, -1, 0, 0),
    )
    for row, values in enumerate(rows):
        (
            records.outcome[row],
            records.worker[row],
            records.reason[row],
            records.attempts[row],
            records.arrived_s[row],
            records.first_token_s[row],
            records.finished_s[row],
            records.predicted_tokens[row],
            records.hit_tokens[row],
            records.evicted_tokens[row],
            records.elsewhere_tokens[row],
        ) = values
    records.first_time_tokens = array("i", [1000, 1100, 400, 0, 0])
    records.admitted.extend([0, 1, 2, 3])
    records.session_started_s[0], records.session_ended_s[0] = 0.0, 2.0
    records.totals = [
        WorkerTotals(2, 3000, 800, 12, 640, 1, 3.5),
        WorkerTotals(2, 1500, 496, 26, 0, 0, 7.0),
    ]
    records.samples = [
        Sample(0.0, (0, 0), (0, 0), (0.0, 0.0), (0.0, 0.0)),
        Sample(5.0, (3, 0), (2, 1), (0.5, 0.25), (1.0, 0.3)),
    ]
    return records


def made_up(
    seed: int = 0, requests: int = 400, workers: int = 8, *, slowness: float = 1.0, reuse: float = 0.35
) -> Records:
    """Plausible columns from nothing but chance."""
    chance = Random(seed)
    tree = PromptTree()
    trace = Trace("made up", tree)
    now = 0.0
    for _ in range(requests):
        now += chance.expovariate(requests / 3600)
        tokens = 64 + int(chance.lognormvariate(8.5, 1.0))
        trace.add(tree.add(ROOT, tokens), chance.randrange(1, 700), arrival_s=now)
    records = Records.of(trace, [f"http://10.0.0.{worker}:8000" for worker in range(workers)])
    records.reasons = list(WORDS)
    for row in range(requests):
        worker = chance.randrange(workers)
        prompt = trace.prompt_tokens(row)
        hit = int(prompt * min(chance.random() * 2 * reuse, 0.99)) // 16 * 16
        evicted = int((prompt - hit) * chance.random() * 0.2)
        elsewhere = int((prompt - hit - evicted) * chance.random() * 0.1)
        arrived = trace.arrivals_s[row]
        first = arrived + slowness * chance.lognormvariate(-1.0, 1.2)
        records.outcome[row] = Outcome.OK
        records.worker[row] = worker
        records.reason[row] = chance.choice((0, 0, 1, 2))
        records.attempts[row] = 1
        records.arrived_s[row] = arrived
        records.first_token_s[row] = first
        records.finished_s[row] = first + trace.output_tokens[row] * chance.uniform(0.01, 0.05) * slowness
        records.predicted_tokens[row] = max(hit + chance.randrange(-200, 200), 0)
        records.reusable_tokens[row] = hit
        records.hit_tokens[row] = hit
        records.evicted_tokens[row] = evicted
        records.elsewhere_tokens[row] = elsewhere
        records.admitted.append(row)
        totals = records.totals[worker]
        totals.requests += 1
        totals.prompt_tokens += prompt
        totals.cached_tokens += hit
        totals.output_tokens += trace.output_tokens[row]
        totals.evicted_tokens += evicted
        totals.busy_s += 1600 / requests * workers
    records.ended_s = max(records.finished_s)
    load = [3.0] * workers
    for step in range(400):
        load = [max(value + chance.gauss(0, 1.5), 0.0) for value in load]
        running = tuple(min(int(value), 12) for value in load)
        records.samples.append(
            Sample(
                records.ended_s * step / 399,
                tuple(max(int(value) - 12, 0) for value in load),
                running,
                tuple(min(count / 14, 1.0) for count in running),
                tuple(min(step / 120 + count / 14, 1.0) for count in running),
            )
        )
    return records


@pytest.fixture
def records() -> Records:
    return by_hand()


@pytest.fixture
def make_run() -> MakeRun:
    return made_up
