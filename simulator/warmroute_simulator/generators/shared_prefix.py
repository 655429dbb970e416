"""Groups of prompts that begin alike: customers with a long system prompt each, and questions below it.

    root ──┬── prefix of group 0 ──┬── question 0
           │                       └── question 1
           └── prefix of group 1 ──┬── question 0 …

Requests are either drawn, a group by its popularity and then one of its prompts, or they are the shuffled
list of all prompts, over and over. A prompt that comes again is the same to its last token.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import ClassVar, Final, Self

from warmroute_policies.parameters import suggestion
from warmroute_simulator.generators.lengths import Lengths
from warmroute_simulator.generators.popularity import Popularity, require_exponent
from warmroute_simulator.generators.workload import (
    REQUESTS,
    about,
    poisson_times,
    require,
    require_load,
    rows_until,
)
from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import Trace

ORDERS: Final = ("drawn", "shuffled")

_PROMPTS_MAX: Final = 10_000_000
"""Distinct prompts; each is a number in a column of 4 bytes."""


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """The defaults are a business service with 150 customers of five users. At 35 requests per second eight
    H100s with an 8B model would be 70 % busy with prefills if nothing were ever reused."""

    closed_loop: ClassVar[bool] = False

    groups: int = field(default=150, metadata=about("prefixes"))
    prompts_per_group: int = field(
        default=5, metadata=about("different questions below each prefix; 0: every question is new")
    )
    prefix_tokens: Lengths = field(default=Lengths.parse(6_144), metadata=about("length of a prefix"))
    question_tokens: Lengths = field(default=Lengths.parse(1_200), metadata=about("length of a question"))
    output_tokens: Lengths = field(default=Lengths.parse(200), metadata=about("length of an answer"))
    order: str = field(
        default="drawn", metadata=about("drawn: each request on its own; shuffled: the list of all, repeated")
    )
    zipf_exponent: float = field(default=0.0, metadata=about("popularity of groups; 0: all alike"))
    rate_per_s: float = field(default=35.0, metadata=about("requests per second, a Poisson process"))
    requests: int | None = field(default=None, metadata=REQUESTS)
    duration_s: float | None = field(default=None, metadata=about("requests come during so many seconds"))

    def __post_init__(self) -> None:
        require(self.groups >= 1, "groups must be at least 1")
        require(self.prompts_per_group >= 0, "prompts_per_group must not be negative")
        require(
            self.groups * max(1, self.prompts_per_group) <= _PROMPTS_MAX,
            f"groups × prompts_per_group must not exceed {_PROMPTS_MAX:,}",
        )
        require(self.order in ORDERS, f"there is no order `{self.order}`{suggestion(self.order, ORDERS)}")
        require_exponent("zipf_exponent", self.zipf_exponent)
        if self.order == "shuffled":
            require(self.zipf_exponent == 0, "order=shuffled asks for all alike; zipf_exponent must be 0")
            require(self.prompts_per_group >= 1, "order=shuffled needs prompts_per_group of at least 1")
        require_load("rate_per_s", self.rate_per_s, self.requests, self.duration_s)

    def at_rate(self, rate_per_s: float, requests: int | None, duration_s: float | None) -> Self:
        return dataclasses.replace(self, rate_per_s=rate_per_s, requests=requests, duration_s=duration_s)

    def fill(self, trace: Trace, chance: Random, begin_s: float) -> None:
        tree = trace.tree
        prefixes = array("i", bytes(4 * self.groups))
        questions = array("i", bytes(4 * self.groups * self.prompts_per_group))
        fresh = self.prompts_per_group == 0
        numbers = self._dealt(chance) if self.order == "shuffled" else self._drawn(chance)
        stop = rows_until(trace, self.requests, self.duration_s)
        for at_s in poisson_times(chance, self.rate_per_s, begin_s, self.duration_s):
            if len(trace) == stop:
                break
            number = next(numbers)
            question = ROOT if fresh else questions[number]
            if question == ROOT:
                group = number if fresh else number // self.prompts_per_group
                if prefixes[group] == ROOT:
                    prefixes[group] = tree.add(ROOT, self.prefix_tokens.draw(chance))
                question = tree.add(prefixes[group], self.question_tokens.draw(chance))
                if not fresh:
                    questions[number] = question
            trace.add(question, self.output_tokens.draw(chance), arrival_s=at_s)

    def _drawn(self, chance: Random) -> Iterator[int]:
        """Numbers of prompts, or of groups where each question is new."""
        groups, each = Popularity(self.groups, self.zipf_exponent), self.prompts_per_group
        while True:
            group = groups.draw(chance)
            yield group * each + int(chance.random() * each) if each else group

    def _dealt(self, chance: Random) -> Iterator[int]:
        numbers = array("i", range(self.groups * self.prompts_per_group))
        chance.shuffle(numbers)
        for turn in count():
            yield numbers[turn % len(numbers)]
