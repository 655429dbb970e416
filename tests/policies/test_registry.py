"""Policies by name: what is built in, what is refused and in which words, and how plugins are found."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from warmroute_policies import plugins, registry
from warmroute_policies.algorithms.cache_aware import CacheAware
from warmroute_policies.algorithms.least_requests import LeastRequests
from warmroute_policies.algorithms.prefix_hash import PrefixHash
from warmroute_policies.algorithms.session_sticky import SessionSticky
from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import Value, convert
from warmroute_policies.plugins import load_policy
from warmroute_policies.registry import available, defaults, make_policy

# --- built in -------------------------------------------------------------------------------------


def test_the_built_in_policies_are_these_and_each_knows_its_name() -> None:
    assert available() == (
        "random",
        "round_robin",
        "least_requests",
        "power_of_two",
        "prefix_hash",
        "consistent_hash",
        "session_sticky",
        "sglang_cache_aware",
        "ray_prefix_affinity",
        "llmd_weighted",
        "vllm_router_kv",
        "lmetric",
        "preble",
        "dynamo_kv",
        "llmd_sticky_until_saturated",
        "least_prefill_work",
        "cache_aware",
    )
    assert tuple(make_policy(name).name for name in available()) == available()


def test_a_parameter_arrives_as_the_type_of_its_field_however_it_was_written() -> None:
    for written in ("512", 512):
        policy = make_policy("prefix_hash", {"prefix_tokens": written, "load_factor": "2"})
        assert isinstance(policy, PrefixHash)
        assert (policy.config.prefix_tokens, policy.config.load_factor) == (512, 2.0)
        assert type(policy.config.load_factor) is float


def test_defaults_are_listed_by_parameter() -> None:
    assert defaults("cache_aware")["miss_price"] == 2.0
    assert defaults("session_sticky")["inner"] == "least_requests"
    assert defaults("random") == {}


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        (
            "cache_awar",
            {},
            "there is no policy `cache_awar`; did you mean `cache_aware`\\? known: cache_aware, ",
        ),
        ("zzz", {}, "there is no policy `zzz`; known: .*round_robin"),
        (
            "cache_aware",
            {"mis_price": 1},
            "cache_aware has no parameter `mis_price`; did you mean `miss_price`\\? known: backlog_price, ",
        ),
        ("random", {"bias": 1}, "random has no parameter `bias`; it has none"),
        ("cache_aware", {"miss_price": "high"}, "cache_aware: `miss_price` must be a number, not 'high'"),
        ("cache_aware", {"miss_price": "nan"}, "`miss_price` must be a number, not 'nan'"),
        ("cache_aware", {"miss_price": True}, "`miss_price` must be a number, not True"),
        ("cache_aware", {"miss_price": -1}, "miss_price must not be negative"),
        ("prefix_hash", {"prefix_tokens": "1.5"}, "`prefix_tokens` must be a whole number, not '1.5'"),
        ("prefix_hash", {"prefix_tokens": 2.0}, "`prefix_tokens` must be a whole number, not 2.0"),
        ("prefix_hash", {"load_factor": 0.9}, "load_factor must be at least 1"),
        ("consistent_hash", {"ring_points": 0}, "ring_points must be between 1 and 10000"),
        ("session_sticky", {"inner": "cache"}, "there is no policy `cache`"),
        ("session_sticky", {"inner.miss_price": 1}, "least_requests has no parameter `miss_price`"),
        ("random", {"inner.miss_price": 1}, "random has no rule inside, so it takes no `inner.miss_price`"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(name: str, params: dict[str, Value], message: str) -> None:
    for make in (make_policy, load_policy):
        with pytest.raises(ConfigError, match=message):
            make(name, params, 1)


def test_session_sticky_wraps_any_policy_and_hands_it_its_parameters() -> None:
    policy = make_policy(
        "session_sticky", {"inner": "cache_aware", "inner.miss_price": "4", "load_factor": 3}
    )
    assert isinstance(policy, SessionSticky)
    assert policy.config.load_factor == 3.0
    assert isinstance(policy.inner, CacheAware)
    assert policy.inner.config.miss_price == 4.0


@pytest.mark.parametrize(
    ("wanted", "given", "value"),
    [
        (bool, "Yes", True),
        (bool, "off", False),
        (bool, True, True),
        (int, " 7 ", 7),
        (float, 3, 3.0),
        (float, "1e-3", 0.001),
        (str, "a b", "a b"),
        (str, 5, "5"),
        (int | None, "none", None),
        (int | None, "3", 3),
    ],
)
def test_values_are_converted_to_the_type_that_is_wanted(wanted: object, given: Value, value: object) -> None:
    converted = convert("x", wanted, given)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(("wanted", "given"), [(bool, "maybe"), (bool, 1), (int, True), (int | None, "many")])
def test_values_that_cannot_be_converted_are_refused(wanted: object, given: Value) -> None:
    with pytest.raises(ConfigError, match="x must be"):
        convert("x", wanted, given)


# --- plugins --------------------------------------------------------------------------------------


class Picky(LeastRequests):
    """A third party's policy: its parameters are its constructor's."""

    name = "picky"

    def __init__(self, *, reach: int = 2, bold: bool = False, seed: int = 0) -> None:
        super().__init__(seed)
        self.reach, self.bold, self.seed = reach, bold, seed


@dataclass
class NotAPolicy:
    """Lacks every method."""

    size: int = 1


def needs_one(size: int) -> LeastRequests:
    """A parameter without a default."""
    return LeastRequests(size)


class Nameless(LeastRequests):
    name = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `acme_routing.rules`, and what an installed distribution of it would announce."""
    package, module = types.ModuleType("acme_routing"), types.ModuleType("acme_routing.rules")
    module.__dict__.update(
        Picky=Picky, NotAPolicy=NotAPolicy, needs_one=needs_one, Nameless=Nameless, TABLE={"a": 1}
    )
    monkeypatch.setitem(sys.modules, "acme_routing", package)
    monkeypatch.setitem(sys.modules, "acme_routing.rules", module)
    points = EntryPoints(
        [
            EntryPoint("picky", "acme_routing.rules:Picky", plugins.GROUP),
            EntryPoint("gone", "acme_routing.rules:Gone", plugins.GROUP),
            EntryPoint("random", "acme_routing.rules:Picky", plugins.GROUP),
        ]
    )
    monkeypatch.setattr(plugins, "entry_points", lambda group: points.select(group=group))


@pytest.mark.parametrize("name", ["picky", "acme_routing.rules:Picky"])
def test_a_plugin_is_made_with_its_parameters_and_the_seed(name: str) -> None:
    policy = load_policy(name, {"reach": "5", "bold": "yes"}, seed=9)
    assert isinstance(policy, Picky)
    assert (policy.reach, policy.bold, policy.seed) == (5, True, 9)


def test_a_plugin_works_inside_of_session_sticky() -> None:
    policy = load_policy("session_sticky", {"inner": "picky", "inner.reach": 3}, seed=9)
    assert isinstance(policy, SessionSticky)
    assert isinstance(policy.inner, Picky)
    assert (policy.inner.reach, policy.inner.seed) == (3, 9)


def test_a_plugin_cannot_take_the_name_of_a_built_in_policy() -> None:
    assert load_policy("random").name == "random"
    assert plugins.available()["random"] == "built in"


def test_the_list_of_policies_says_where_each_comes_from() -> None:
    found = plugins.available()
    assert found["picky"] == "acme_routing.rules:Picky"
    assert set(registry.available()) < set(found)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("pickey", {}, "there is no policy `pickey`; did you mean `picky`\\? .*`package.module:Class`"),
        ("gone", {}, "policy `gone`: cannot load acme_routing.rules:Gone: .*Gone"),
        (
            "acme_routing.nowhere:X",
            {},
            "policy `acme_routing.nowhere:X`: cannot import `acme_routing.nowhere`",
        ),
        ("acme_routing.rules:X", {}, "`acme_routing.rules` has no `X`"),
        (":X", {}, "cannot import ``"),
        ("acme_routing.rules:TABLE", {}, "is not a class or a function that makes one"),
        ("acme_routing.rules:NotAPolicy", {}, "lacks the method `decide`"),
        ("acme_routing.rules:Nameless", {}, "lacks the attribute `name`"),
        ("acme_routing.rules:needs_one", {}, "needs the parameter `size`"),
        ("picky", {"reech": 1}, "has no parameter `reech`; did you mean `reach`\\? known: bold, reach, seed"),
        ("picky", {"reach": "far"}, "`reach` must be a whole number, not 'far'"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_in_words(
    name: str, params: dict[str, Value], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_policy(name, params)


def test_a_function_may_make_the_policy() -> None:
    assert load_policy("acme_routing.rules:needs_one", {"size": "3"}).name == "least_requests"
