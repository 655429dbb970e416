"""What is taken away from `cache_aware`, one thing at a time: each term of its price, each thing it learns.

A term is taken away by the value of its parameter at which it says nothing. What is learned is taken away by
its switch in `BalancerConfig`; it belongs to the balancer, so other policies have it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from beliefs_lib.levels import Variant
from routing_lib.plan import OURS, makeable


class Taken(msgspec.Struct, frozen=True):
    """One ablation."""

    name: str
    """Of what is taken away."""
    without: str
    """What is left to route by."""
    text: str
    """A term: the policy without it, as `--policy` reads it. What is learned: the name of its switch."""


TERMS: Final = (
    Taken(
        "extra work",
        "a second of recomputation weighs as much as a second in a queue",
        f"{OURS}:miss_price=1",
    ),
    Taken(
        "backlog", "extra work weighs the same in a busy fleet as in an idle one", f"{OURS}:backlog_price=0"
    ),
    Taken("rent", "room in a cache that is in use costs nothing", f"{OURS}:rent_price=0"),
    Taken("home", "leaving who holds a prompt costs the same however much is fresh", f"{OURS}:home_price=0"),
    Taken(
        "memory", "KV that requests in flight hold costs nothing until a worker is full", f"{OURS}:memory_s=0"
    ),
    Taken("decode", "requests in flight break ties and weigh nothing else", f"{OURS}:decode_s=0.0001"),
)
"""θ is taken away at 1 and not at 0, as a miss does take its own seconds. d must be above 0; a hundred
requests in flight then weigh 10 ms."""

LEARNED: Final = (
    Taken(
        "capacities",
        "what workers declare of their caches is believed, whatever hits are reported",
        "capacity_feedback",
    ),
    Taken("prices", "what the preset says of prefill is believed, however long it takes", "learn_prices"),
)


def terms_here(terms: Sequence[Taken] = TERMS) -> list[Taken]:
    """Reads. Those whose parameter there is in this version."""
    known = makeable(tuple(term.text for term in terms))
    return [term for term in terms if term.text in known]


def unlearned(belief: Variant, learned: Taken) -> Variant:
    """Reads. The same wrong belief, by routers that do not learn this."""
    return replace(
        belief,
        name=f"{belief.name}, without {learned.text}",
        capacity_feedback=belief.capacity_feedback and learned.text != "capacity_feedback",
        learn_prices=belief.learn_prices and learned.text != "learn_prices",
    )
