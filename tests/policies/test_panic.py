"""When so few workers are healthy that health is not looked at."""

from __future__ import annotations

import pytest

from traffic import Traffic
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import NO_BLOCKS
from warmroute_policies.config import BalancerConfig
from warmroute_policies.errors import ConfigError, NoWorkers
from warmroute_policies.events import PolicySpec
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.registry import available, make_policy
from warmroute_policies.replay import replay
from warmroute_policies.types import Outcome, RoutingRequest, WorkerSpec


def fleet(panic_threshold: float, *models: tuple[str, ...]) -> Balancer:
    balancer = Balancer(make_policy("round_robin"), BalancerConfig(panic_threshold=panic_threshold))
    for number, served in enumerate(models):
        balancer.add_worker(WorkerSpec(f"w{number}", models=served), 0.0)
    return balancer


def takers(balancer: Balancer, model: str = "m", count: int = 12) -> set[str]:
    found = set()
    for number in range(count):
        found.add(balancer.route(RoutingRequest(number, model, NO_BLOCKS), 1.0).worker)
        balancer.finish(number, Outcome.OK, None, 1.0)
    return found


@pytest.mark.parametrize("policy", available())
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_every_policy_picks_who_may_be_picked_and_a_journal_replays(policy: str, threshold: float) -> None:
    lines: list[bytes] = []
    spec = PolicySpec(policy, {}, 7)
    balancer = RecordedBalancer(
        make_policy(policy, {}, 7),
        BalancerConfig(panic_threshold=threshold),
        write=lines.append,
        made_by=spec,
    )
    traffic, panicked = Traffic(balancer, 7), 0
    for _ in traffic.steps(700):
        panicked += bool(balancer.panicking())
    traffic.end()
    assert panicked, "the traffic of seed 7 holds panics"
    assert all(then == now for then, now in replay(lines))


def test_below_the_share_all_that_stay_get_requests_and_at_it_only_the_healthy_ones() -> None:
    balancer = fleet(0.5, *[("m",)] * 4)
    balancer.set_health("w0", False, 0.0)
    balancer.set_health("w1", False, 0.0)
    assert takers(balancer) == {"w2", "w3"}
    assert balancer.panicking() == ()
    balancer.set_health("w2", False, 0.0)
    assert takers(balancer) == {"w0", "w1", "w2", "w3"}
    assert set(balancer.panicking()) == {"", "m"}
    balancer.set_health("w0", True, 0.0)
    assert takers(balancer) == {"w0", "w3"}
    assert balancer.panicking() == ()


def test_a_draining_worker_gets_nothing_in_a_panic_and_does_not_count_for_one() -> None:
    balancer = fleet(0.5, *[("m",)] * 4)
    for worker in ("w0", "w1"):
        balancer.drain_worker(worker, True, 0.0)
    balancer.set_health("w2", False, 0.0)
    assert takers(balancer) == {"w3"}, "one of two that stay is healthy"
    balancer.set_health("w3", False, 0.0)
    assert takers(balancer) == {"w2", "w3"}


def test_a_panic_is_a_models_own_affair() -> None:
    balancer = fleet(0.5, ("m",), ("m",), ("n",), ("n",), ("n",), ("n",))
    for worker in ("w0", "w1"):
        balancer.set_health(worker, False, 0.0)
    assert balancer.panicking() == ("m",)
    assert takers(balancer, "m") == {"w0", "w1"}
    assert takers(balancer, "n") == {"w2", "w3", "w4", "w5"}
    assert balancer.eligible() == {0, 1, 2, 3, 4, 5}


def test_without_a_threshold_no_healthy_worker_means_no_worker() -> None:
    balancer = fleet(0.0, ("m",), ("m",))
    for worker in ("w0", "w1"):
        balancer.set_health(worker, False, 0.0)
    with pytest.raises(NoWorkers):
        balancer.route(RoutingRequest(1, "m", NO_BLOCKS), 1.0)
    assert balancer.eligible() == set()


def test_a_retry_in_a_panic_does_not_come_back_to_who_failed() -> None:
    balancer = fleet(1.0, ("m",), ("m",))
    for worker in ("w0", "w1"):
        balancer.set_health(worker, False, 0.0)
    first = balancer.route(RoutingRequest(1, "m", NO_BLOCKS), 1.0).worker
    assert balancer.reroute(1, 2.0).worker != first
    with pytest.raises(NoWorkers):
        balancer.reroute(1, 3.0)


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="panic_threshold"):
        BalancerConfig(panic_threshold=1.5)
