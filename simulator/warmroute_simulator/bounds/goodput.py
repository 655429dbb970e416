"""The most requests that one server can have ready within the same time after their arrival.

Everyone may wait equally long, so who comes first is also due first. Then the order of arrival is as good as
any, interruptions gain nothing, and a choice of requests can be served in time exactly when

    wait + work ≤ patience      for each of them, where the wait is the work that is left of those before it

Go through the requests in order and take each one. Where that makes the last one late, drop one of those
taken: the one without which the server is ready earliest. What remains is always a largest choice, and of
the largest choices one that leaves the server ready earliest (Kise, Ibaraki and Mine, 1978, for one machine
with release times and due dates in the same order). Dropping a request wins its work, but no more than the
shortest wait after it: earlier than at its arrival nobody can start.

Requests taken are leaves of a tree over the shortest wait and the largest work, so each step takes O(log n).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, final

# Sums of floats: being late by less than a nanosecond is being in time, in favour of the bound.
_LATE_S: Final = 1e-9


def most_in_time(jobs: Sequence[tuple[float, float]], patience_s: float) -> int:
    """Reads. `jobs`: arrivals and works in seconds, in the order of arrival."""
    taken = _Taken(len(jobs))
    left_s = last_s = 0.0
    count = 0
    for number, (arrival_s, work_s) in enumerate(jobs):
        left_s = max(left_s - (arrival_s - last_s), 0.0)
        last_s = arrival_s
        taken.add(number, left_s, work_s)
        left_s += work_s
        count += 1
        if left_s > patience_s + _LATE_S:
            left_s -= taken.drop_best()
            count -= 1
    return count


@final
class _Taken:
    """State: for each request taken its wait and its work, in a binary tree whose leaves are the requests.

    An entry of `waits` lacks what `shifts` of the entries above it say: a drop shortens all later waits.
    """

    __slots__ = ("largest", "leaves", "shifts", "waits", "works")

    def __init__(self, requests: int) -> None:
        self.leaves = 1 << max(requests - 1, 1).bit_length()
        self.waits = [inf] * (2 * self.leaves)
        """The shortest wait below the entry."""
        self.shifts = [0.0] * (2 * self.leaves)
        self.works = [-inf] * (2 * self.leaves)
        """The largest work below the entry."""
        self.largest = [0] * (2 * self.leaves)
        """The leaf that has it."""

    def add(self, number: int, wait_s: float, work_s: float) -> None:
        """Writes. The request behind all others."""
        leaf = self.leaves + number
        entry = leaf
        while entry > 1:
            entry >>= 1
            wait_s -= self.shifts[entry]
        self.waits[leaf], self.works[leaf], self.largest[leaf] = wait_s, work_s, leaf
        self._renew(leaf, 0.0)

    def drop_best(self) -> float:
        """Writes. Drops the request that wins most; what it wins.

        For each place: the largest work from there on, or the shortest wait after it if that is less. Going
        towards the root of time the first grows and the second shrinks; the best is where they meet.
        """
        waits, shifts, works = self.waits, self.shifts, self.works
        entry, shift = 1, 0.0
        wait_s, work_s, leaf = inf, -inf, 0
        """Of all places after the entry: the shortest wait, the largest work and who has it."""
        while entry < self.leaves:
            shift += shifts[entry]
            later = 2 * entry + 1
            wait_with = min(wait_s, waits[later] + shift)
            if max(work_s, works[later]) >= wait_with:
                entry = later
                continue
            wait_s = wait_with
            if works[later] > work_s:
                work_s, leaf = works[later], self.largest[later]
            entry = 2 * entry
        if works[entry] >= work_s:
            work_s, leaf = works[entry], entry
        won_s = min(work_s, wait_s)
        self.waits[leaf], self.works[leaf] = inf, -inf
        self._renew(leaf, -won_s)
        return won_s

    def _renew(self, leaf: int, later_s: float) -> None:
        """Writes. The entries above a leaf; all waits after it become longer by `later_s`."""
        waits, shifts, works, largest = self.waits, self.shifts, self.works, self.largest
        entry = leaf
        while entry > 1:
            if later_s and not entry & 1:
                waits[entry + 1] += later_s
                shifts[entry + 1] += later_s
            entry >>= 1
            left, right = 2 * entry, 2 * entry + 1
            waits[entry] = min(waits[left], waits[right]) + shifts[entry]
            best = left if works[left] > works[right] else right
            works[entry], largest[entry] = works[best], largest[best]
