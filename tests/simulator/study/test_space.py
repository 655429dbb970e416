"""What may be varied of a policy, and how far."""

from __future__ import annotations

from itertools import pairwise
from math import isclose
from random import Random

import pytest

from warmroute_policies.errors import ConfigError
from warmroute_policies.events import PolicySpec
from warmroute_policies.plugins import load_policy
from warmroute_policies.registry import available
from warmroute_simulator.study.halton import MOST_DIMENSIONS, halton
from warmroute_simulator.study.ranges import space_of
from warmroute_simulator.study.space import Choice, Range

LEANING = "studied:Leaning"


def texts(policy: PolicySpec, ranges: str | None = None) -> list[str]:
    return [str(dimension) for dimension in space_of(policy, ranges).dimensions]


def test_defaults_become_ranges_of_eight_times_less_to_eight_times_more() -> None:
    assert texts(PolicySpec("cache_aware")) == [
        "miss_price=0.25..16:log",
        "backlog_price=1..64:log",
        "rent_price=0.25..16:log",
        "home_price=2..128:log",
        "memory_s=0.125..8:log",
        "decode_s=0.0005..0.032:log",
    ]


def test_a_range_ends_where_the_policy_refuses() -> None:
    """A load factor below 1 is refused; so are more than 10,000 points, which eight times 150 is not."""
    assert texts(PolicySpec("prefix_hash")) == [
        "prefix_tokens=32..2048:log",
        "load_factor=1..10:log",
        "slack_requests=1.25..80:log",
        "ring_points=19..1200:log",
    ]


def test_what_the_policy_was_given_is_not_varied() -> None:
    space = space_of(PolicySpec("cache_aware", {"rent_price": "0.5"}))
    varied = [dimension.name for dimension in space.dimensions]
    assert varied == ["miss_price", "backlog_price", "home_price", "memory_s", "decode_s"]
    assert space.at((0.5, 0.25, 0.5, 0.5, 0.5)).params["rent_price"] == 0.5


def test_a_strangers_policy_is_searched_by_its_signature() -> None:
    assert texts(PolicySpec(LEANING)) == ["lean=0.1125..7.2:log", "steps=1..32:log", "bold=False|True"]


@pytest.mark.parametrize("name", [name for name in available() if name not in ("random", "round_robin")])
def test_a_point_is_the_same_policy_for_any_seed_and_is_accepted_or_not_as_the_policy_says(name: str) -> None:
    try:
        space = space_of(PolicySpec(name))
    except ConfigError:
        assert name in ("least_requests", "power_of_two", "least_prefill_work", "vllm_router_kv")
        return
    points = halton(len(space.dimensions), Random(1))
    for _ in range(50):
        point = next(points)
        assert space.accepts(point)
        load_policy(name, space.at(point).params)


def test_the_origin_is_the_policy_as_it_was_given() -> None:
    for policy in (
        PolicySpec("cache_aware"),
        PolicySpec("cache_aware", {"decode_s": 0.03}),
        PolicySpec("prefix_hash", {"ring_points": 77}),
    ):
        space = space_of(policy)
        assert space.at(space.origin) == policy
        found = space.values(space.origin)
        assert found == {
            name: value
            for name, value in space_of(PolicySpec(policy.name))
            .values(space_of(PolicySpec(policy.name)).origin)
            .items()
            if name in found
        }


def test_the_origin_stays_itself_where_a_range_leaves_it_out() -> None:
    space = space_of(PolicySpec("cache_aware", {"miss_price": 2}), "miss_price=4..8")
    assert space.at(space.origin).params == {"miss_price": 2}
    assert space.values(space.origin) == {"miss_price": 4.0}


def test_given_ranges_are_read() -> None:
    assert texts(PolicySpec("cache_aware"), "miss_price=0.5..8:log,rent_price=0..8") == [
        "miss_price=0.5..8:log",
        "rent_price=0..8",
    ]
    assert texts(PolicySpec("session_sticky"), "inner=least_requests|random, load_factor=1..2") == [
        "inner=least_requests|random",
        "load_factor=1..2",
    ]
    of_inner = PolicySpec("session_sticky", {"inner": "cache_aware"})
    assert texts(of_inner, "inner.miss_price=1..2") == ["inner.miss_price=1..2"]
    space = space_of(PolicySpec("prefix_hash"), "ring_points=10..20")
    assert {space.values((place / 20,))["ring_points"] for place in range(21)} == set(range(10, 21))


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ("miss_prise=1..2", "no parameter `miss_prise`; did you mean `miss_price`"),
        ("miss_price", "expected name=LOW..HIGH"),
        ("miss_price=", "expected name=LOW..HIGH"),
        ("miss_price=1..x", "expected two numbers"),
        ("miss_price=2..1", "the first number must be below the second"),
        ("miss_price=1..inf", "the first number must be below the second"),
        ("miss_price=-1..2", "must not be negative"),
        ("miss_price=-1..2:log", "begins at 0 or above"),
        ("miss_price=1..2:cubic", "a scale is `log` or `linear`"),
        ("decode_s=0..1", "must be above 0"),
        ("miss_price=1|two", "must be a number"),
        ("miss_price=1..2,miss_price=1..3", "names `miss_price` twice"),
    ],
)
def test_a_range_that_is_none_is_an_error_that_says_why(ranges: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        space_of(PolicySpec("cache_aware"), ranges)


@pytest.mark.parametrize("name", ["random", "round_robin", "least_requests"])
def test_a_policy_without_parameters_cannot_be_tuned(name: str) -> None:
    with pytest.raises(ConfigError, match="has no parameter whose range is known"):
        space_of(PolicySpec(name))


@pytest.mark.parametrize(
    "dimension",
    [
        Range("a", 0.25, 16, log=True),
        Range("a", 0, 8, log=True),
        Range("a", 0, 8),
        Range("a", -3, 5),
        Range("a", 1, 1200, log=True, whole=True),
    ],
    ids=str,
)
def test_places_and_values_are_the_same_thing_twice(dimension: Range) -> None:
    assert dimension.value(0.0) == dimension.low
    assert dimension.value(1.0) == dimension.high
    values = [dimension.value(place / 100) for place in range(101)]
    assert values == sorted(values)
    for value in values:
        assert isinstance(value, int if dimension.whole else float)
        again = dimension.value(dimension.place(float(value)))
        assert isclose(float(again), float(value), rel_tol=2e-3, abs_tol=1e-9)


def test_a_logarithmic_scale_from_zero_has_zero_and_many_small_values() -> None:
    scale = Range("a", 0, 8, log=True)
    assert scale.value(0.0) == 0.0
    assert scale.value(0.5) == pytest.approx(0.883, rel=0.01)


def test_a_choice_is_as_wide_as_the_others() -> None:
    choice = Choice("a", ("x", "y", "z"))
    assert [choice.value(place) for place in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)] == [
        "x",
        "x",
        "y",
        "y",
        "z",
        "z",
    ]
    assert [choice.value(choice.place(value)) for value in choice.values] == ["x", "y", "z"]


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5, MOST_DIMENSIONS])
@pytest.mark.parametrize("seed", range(3))
def test_points_fill_every_axis_more_evenly_than_chance(dimensions: int, seed: int) -> None:
    """Of 64 points on each axis: at most three in any sixteenth next to each other are missing."""
    points = [point for point, _ in zip(halton(dimensions, Random(seed)), range(64), strict=False)]
    assert all(0 <= place < 1 for point in points for place in point)
    for axis in range(dimensions):
        places = sorted(point[axis] for point in points)
        gaps = [after - before for before, after in pairwise(places)]
        assert max(gaps) < 0.09, f"seed {seed}, axis {axis}"


def test_points_depend_on_the_seed_alone() -> None:
    def some(seed: int) -> list[tuple[float, ...]]:
        return [point for point, _ in zip(halton(3, Random(seed)), range(10), strict=False)]

    assert some(1) == some(1)
    assert some(1) != some(2)
    with pytest.raises(ValueError, match="dimensions"):
        next(halton(MOST_DIMENSIONS + 1, Random(0)))
