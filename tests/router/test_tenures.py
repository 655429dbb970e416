"""What each policy has to its name, against counting for each of them from the start."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from warmroute.tenures import Tenures

_STEP = st.one_of(
    st.tuples(st.just("count"), st.sampled_from("xyz")),
    st.tuples(st.just("switch"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("forget"), st.sampled_from("xyz")),
)


@given(st.lists(_STEP, max_size=60))
def test_counts_by_policy_are_those_of_counters_for_each(steps: list[tuple[str, str]]) -> None:
    tenures: Tenures[str] = Tenures()
    totals: Counter[str] = Counter()
    naive: defaultdict[str, Counter[str]] = defaultdict(Counter)
    policy = "a"
    for step, what in steps:
        if step == "count":
            totals[what] += 1
            naive[policy][what] += 1
        elif step == "switch":
            tenures.end(policy, totals)
            policy = what
        else:
            del totals[what]
            tenures.forget(lambda key, gone=what: key == gone)  # type: ignore[misc]
            for counts in naive.values():
                del counts[what]
        told = {(policy, key): count for key, count in tenures.of(policy, totals) if count}
        told |= {(name, key): count for name, key, count in tenures.others(policy)}
        expected = {(name, key): n for name, counts in naive.items() for key, n in counts.items() if n}
        assert told == expected
