"""Where a prompt's tokens were when an engine took it up: cached there, evicted there, on another worker,
or nowhere yet. What is left of it was computed once by a worker that has lost it since.
"""

from __future__ import annotations

from collections.abc import Sequence

from warmroute_simulator.engine import Admitted
from warmroute_simulator.simulation.records import Records
from warmroute_simulator.simulation.worker import SimulatedWorker
from warmroute_simulator.traces.prompts import ROOT


class Origins:
    """State: what was ever given to a worker to compute. Writes the records' columns of tokens."""

    def __init__(self, records: Records, workers: Sequence[SimulatedWorker], page_tokens: int) -> None:
        """`page_tokens` divides the pages of all workers."""
        self._records = records
        self._workers = workers
        self._page_tokens = page_tokens
        self._computed = bytearray(len(records.trace.tree))
        """1 for every node that some worker was given to compute."""
        self._computed[ROOT] = 1

    def note(self, event: Admitted, path: list[int], taken_by: SimulatedWorker) -> None:
        """Writes. The worker took up the request of that row, whose prompt is along `path`."""
        records, row = self._records, event.request_id
        records.admitted.append(row)
        prompt_tokens, known = records.trace.prompt_tokens(row), self._known_tokens(row)
        records.first_time_tokens[row] = prompt_tokens - known
        records.hit_tokens[row] = event.cached_tokens
        records.evicted_tokens[row] = event.lost_tokens
        # Nobody holds more than was ever computed, in whole pages: most hits are as long as that.
        reached = event.cached_tokens + event.lost_tokens
        limit = min(prompt_tokens - 1, known // self._page_tokens * self._page_tokens)
        if reached < limit:
            best = max(
                (
                    worker.held_tokens(path, limit)
                    for worker in self._workers
                    if worker.alive and worker is not taken_by
                ),
                default=0,
            )
            records.elsewhere_tokens[row] = max(0, best - reached)

    def _known_tokens(self, row: int) -> int:
        """Writes. Tokens of the prompt that some worker was given to compute; from now on one was given all
        of it."""
        trace, computed = self._records.trace, self._computed
        node = trace.prompts[row]
        while not computed[node]:
            computed[node] = 1
            node = trace.tree.parents[node]
        computed[trace.answers[row]] = 1
        return trace.tree.ends[node]
