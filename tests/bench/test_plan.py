"""What each mode plays."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from routing_lib.factors import SEEDS, TOO_SHORT, all_cells, traces, workers_of
from routing_lib.plan import CAPACITY_FLEET, OURS, QUICK_POLICIES, QUICK_SEEDS, makeable, plan_of
from warmroute_policies.registry import available

KNOWN = traces(Path())


def test_a_smaller_mode_is_a_part_of_the_larger_one() -> None:
    plans = [plan_of(mode, KNOWN) for mode in ("quick", "published", "full")]
    for small, large in pairwise(plans):
        assert set(small.cells) < set(large.cells)
        assert set(small.policies) <= set(large.policies)
        assert set(small.seeds) <= set(large.seeds)
        assert small.references == large.references


def test_the_full_grid_leaves_out_what_no_load_fills_and_nothing_else() -> None:
    cells = all_cells(tuple(KNOWN))
    assert len(cells) == len(set(cells)) == 6 * 4 * 3 * 5 - 5 * len(TOO_SHORT)


def test_published_has_all_built_in_policies_and_each_ones_knee_on_each_trace() -> None:
    plan = plan_of("published", KNOWN)
    assert set(available()) <= set(plan.policies)
    assert len(plan.seeds) == SEEDS >= 5
    assert {place.trace for place in plan.capacity_at} == set(KNOWN)
    assert {place.fleet for place in plan.capacity_at} == {CAPACITY_FLEET}
    assert not set(plan.capacity_at) & TOO_SHORT


def test_a_quick_look_has_six_policies_at_most_ours_first_and_no_goodput_study() -> None:
    plan = plan_of("quick", KNOWN)
    assert plan.policies[0] == OURS
    assert 2 <= len(plan.policies) <= QUICK_POLICIES
    assert len(plan.seeds) == QUICK_SEEDS
    assert plan.capacity_at == ()


def test_a_trace_that_is_not_there_is_left_out_of_everything() -> None:
    here = {name: factor for name, factor in KNOWN.items() if name != "mooncake"}
    plan = plan_of("published", here)
    assert {place.trace for place in plan.places} == set(here)


def test_policies_that_cannot_be_made_here_are_left_out() -> None:
    asked = ("random", "no_such_policy", "random:no_such_parameter=1", "prefix_hash:prefix_tokens=64")
    assert makeable(asked) == ("random", "prefix_hash:prefix_tokens=64")


def test_every_trace_has_more_requests_for_larger_fleets_or_is_played_whole() -> None:
    for name, factor in KNOWN.items():
        requests = [factor.source(workers_of(fleet)).requests for fleet in ("4", "8", "32")]
        assert requests == sorted(requests), name
        assert requests[0] >= 6_000, name
