"""One sequence of requests, as a cache of any size and any eviction rule sees it.

All that decides whether a page is hit is when it was touched before and what came in between. The pages of a
prompt that were last touched by the same earlier request lie side by side on its path, and those nearer to
the root were touched later:

    root ├── by request 17 ──┤── by 12 ──┤── by 3 ──┤── new ──┤ tail

Each such piece that is not new is a *run*. A conversation's next turn has one run, however long it is, so
the caches of `pooled` need no tree and no page: a few numbers for each request.

A request that is listed more than once was taken up again (its worker died, or it was preempted). It counts
the last time; before, it only leaves its pages behind.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, final

from warmroute_simulator.bounds.pages import Pages

NEVER: Final = -1


@final
class Touches:
    """State: columns by position in `order`, and by run. Read only.

    Made in O(stretches of its path) for each request.
    """

    __slots__ = (
        "before", "counted", "final", "kept", "order", "page_tokens", "prompt_tokens", "runs_end", "touched"
    )  # fmt: skip

    def __init__(self, pages: Pages, order: Sequence[int]) -> None:
        self.order = order
        """Rows of the trace, as engines took them up."""
        self.page_tokens = pages.page_tokens
        self.prompt_tokens = 0
        """Of all requests together: what hits are a share of."""
        self.kept = array("i")
        """By position: pages that the service leaves behind."""
        self.runs_end = array("i")
        """By position: the number of runs up to and with it. A position's runs go from tail to root."""
        self.before = array("i")
        """By run: the position that touched it before."""
        self.touched = array("i")
        """By run: its pages."""
        self.counted = array("i")
        """By run: those of its pages that can be hit, the ones nearest to the root."""

        parents, ends, tails = pages.parents, pages.ends, pages.tails
        last_of = {row: position for position, row in enumerate(order)}
        self.final = bytearray(last_of[row] == position for position, row in enumerate(order))
        """By position: 1 where the request counts."""
        touched_at = array("i", [NEVER]) * len(ends)
        for position, row in enumerate(order):
            limit = 0
            if self.final[position]:
                limit = pages.counted[row]
                self.prompt_tokens += pages.prompt_tokens[row]
            stretch = tails[row]
            self.kept.append(ends[stretch])
            bottom, last = 0, NEVER
            while stretch:
                before = touched_at[stretch]
                if before != last:
                    if last != NEVER:
                        self._add(last, ends[stretch], bottom, limit)
                    last, bottom = before, ends[stretch]
                touched_at[stretch] = position
                stretch = parents[stretch]
            if last != NEVER:
                self._add(last, 0, bottom, limit)
            self.runs_end.append(len(self.before))

    def __len__(self) -> int:
        return len(self.order)

    def _add(self, before: int, top: int, bottom: int, limit: int) -> None:
        """Writes. A run of the pages from `top` to `bottom`."""
        self.before.append(before)
        self.touched.append(bottom - top)
        self.counted.append(max(min(bottom, limit) - top, 0))

    def rate(self, hit_pages: int) -> float:
        """Reads. Hit pages as a share of all prompt tokens; 0 of nothing."""
        return hit_pages * self.page_tokens / self.prompt_tokens if self.prompt_tokens else 0.0
