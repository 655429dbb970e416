"""What the requests in flight occupy of each worker's KV memory, a block that several share counted once.

    A_i = |∪ blocks of the requests in flight on i| · s + Σ rest,      rest = length − blocks · s
    with one more request:  A_i + (blocks of it that none of them holds) · s + its rest

s is the size of a block in the caller's unit (tokens, or an engine's pages), and rest what a request has
beyond its whole blocks, where nothing is known to be shared; for a request alone, A is its length exactly.
Dynamo counts its decode load like this, and vLLM its KV usage.

Rule kept. Whole prompts come and go, so presence on a slot is closed under prefixes and how much of a chain
is there is found by bisection.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class ActiveBlocks:
    """State: by slot the requests that hold each block and the sum of rests, by request where it is and what
    it holds. Bounded by the requests in flight."""

    def __init__(self) -> None:
        self._owners: dict[int, dict[int, int]] = {}
        self._rests: dict[int, float] = {}
        self._flights: dict[int, tuple[int, Sequence[int], float]] = {}

    def begin(self, request_id: int, slot: int, ids: Sequence[int], rest: float) -> None:
        """Writes. The request was sent to the slot; if it was elsewhere, it is there no longer."""
        self.end(request_id)
        self._flights[request_id] = (slot, ids, rest)
        owners = self._owners.setdefault(slot, {})
        for block in ids:
            owners[block] = owners.get(block, 0) + 1
        self._rests[slot] = self._rests.get(slot, 0) + rest

    def end(self, request_id: int) -> None:
        """Writes. Twice is once; a request of a worker that is gone is not known any more."""
        flight = self._flights.pop(request_id, None)
        if flight is None:
            return
        slot, ids, rest = flight
        owners = self._owners[slot]
        for block in ids:
            if owners[block] == 1:
                del owners[block]
            else:
                owners[block] -= 1
        self._rests[slot] -= rest

    def drop(self, slot: int) -> None:
        """Writes. The worker is gone."""
        if self._owners.pop(slot, None) is not None:
            del self._rests[slot]
            self._flights = {key: flight for key, flight in self._flights.items() if flight[0] != slot}

    def occupied(self, slot: int, block_size: float) -> float:
        """Reads. A, by what the requests in flight hold."""
        return len(self._owners.get(slot, ())) * block_size + self._rests.get(slot, 0)

    def missing(self, slot: int, ids: Sequence[int]) -> int:
        """Reads. How many of the blocks no request in flight on the slot holds."""
        owners = self._owners.get(slot)
        if not owners:
            return len(ids)
        return len(ids) - bisect_left(ids, True, key=lambda block: block not in owners)

    def __len__(self) -> int:
        """Reads. Requests in flight."""
        return len(self._flights)
