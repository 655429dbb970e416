"""What was counted under which policy, where policies take turns.

Counters go on as they were when a policy takes over, so that rates have no dents. What a policy has to its
name is told from them when somebody asks: counts at the end of each turn are kept, and the one in charge has
what is left. Bounded by the policies that were in charge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Generic, TypeVar, final

Key = TypeVar("Key", bound=Hashable)


@final
class Tenures(Generic[Key]):
    """State: by former policy what was counted under it."""

    def __init__(self) -> None:
        self._former: dict[str, dict[Key, int]] = {}

    def end(self, policy: str, totals: Mapping[Key, int]) -> None:
        """Writes. The policy's turn ends; `totals` are the counters, of all turns together."""
        self._former[policy] = dict(self.of(policy, totals))

    def of(self, policy: str, totals: Mapping[Key, int]) -> Iterator[tuple[Key, int]]:
        """Reads. What the policy in charge has to its name."""
        others: Counter[Key] = Counter()
        for _, key, count in self.others(policy):
            others[key] += count
        for key, total in totals.items():
            yield key, total - others[key]

    def others(self, policy: str) -> Iterator[tuple[str, Key, int]]:
        """Reads. Policy, key and count of those that are not in charge now."""
        for name, counts in self._former.items():
            if name != policy:
                for key, count in counts.items():
                    if count:
                        yield name, key, count

    def forget(self, gone: Callable[[Key], bool]) -> None:
        """Writes. Counters of these keys begin anew."""
        for policy, counts in self._former.items():
            self._former[policy] = {key: count for key, count in counts.items() if not gone(key)}
