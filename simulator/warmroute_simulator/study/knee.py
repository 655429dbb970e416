"""Where the knee is: the largest load at which enough requests keep their limits.

Loads are points of a fixed grid, 48 to a decade, so neighbours differ by 4.9 %; that is finer than what runs
with different seeds differ by. A search climbs the grid in steps of eight until it is past the knee, or goes
down in ever larger ones until it is below it, and then halves the step that holds it. Several targets share
their points.

What is found, whatever noise does: every load that was tried up to the knee holds, and the grid's next one
does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

STEPS_PER_DECADE: Final = 48
STRIDE: Final = 8
"""×1.47: three halvings from the next step of the grid."""
FIRST: Final = range(-3 * STRIDE, 1, STRIDE)
"""0.316 to 1: the shape of the curve below the knee, asked for at once to keep processes busy."""
HIGHEST: Final = STEPS_PER_DECADE
"""10 times what a perfect fleet could serve. Whoever holds that is not under load: the trace is too short."""
LOWEST: Final = -2 * STEPS_PER_DECADE
"""A hundredth. Limits that are not kept there are not kept by an idle fleet either."""


def load_at(step: int) -> float:
    """The load of a step of the grid, with the three digits that are shown: 0 is 1, 8 is 1.47."""
    return float(f"{10 ** (step / STEPS_PER_DECADE):.3g}")


@dataclass(frozen=True, slots=True)
class Knee:
    """What was found for one target."""

    target: float
    """Share of requests that must keep the limits."""
    holds: float | None
    """The largest load that does, or None: not even the lowest one."""
    fails: float | None
    """The load above it that does not, or None: the highest one holds too, or the search was cut short."""


class KneeSearch:
    """State: by step of the grid, the share of requests that kept the limits there."""

    def __init__(self, targets: Sequence[float]) -> None:
        self.targets = tuple(targets)
        self._shares: dict[int, float] = {}

    def next_steps(self) -> list[int]:
        """Reads. What to try next, ascending; nothing when all knees are known."""
        if not self._shares:
            return list(FIRST)
        wanted = {self._next(target) for target in self.targets}
        return sorted(step for step in wanted if step is not None)

    def tell(self, step: int, share: float) -> None:
        """Writes. What came of a step."""
        self._shares[step] = share

    def knees(self) -> list[Knee]:
        """Reads. One for each target, as far as is known."""
        found = []
        for target in self.targets:
            holds, fails = self._bracket(target)
            found.append(
                Knee(
                    target,
                    None if holds is None else load_at(holds),
                    None if fails is None else load_at(fails),
                )
            )
        return found

    def _next(self, target: float) -> int | None:
        holds, fails = self._bracket(target)
        if fails is None:
            step = (FIRST[0] if holds is None else holds) + STRIDE
            return step if step <= HIGHEST else None
        if holds is None:
            # Twice as far down each time: a policy that fails at a third of the load may do so everywhere.
            step = max(FIRST[0] - max(STRIDE, 2 * (FIRST[0] - fails)), LOWEST)
            return step if step < fails else None
        return (holds + fails) // 2 if fails - holds > 1 else None

    def _bracket(self, target: float) -> tuple[int | None, int | None]:
        """The lowest step that fails, and the highest below it, all of which hold."""
        fails = min((step for step, share in self._shares.items() if share < target), default=None)
        holds = (step for step in self._shares if fails is None or step < fails)
        return max(holds, default=None), fails
