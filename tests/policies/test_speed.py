"""What a prefill costs is learned from times to first token, whatever the preset said."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks, salt_of
from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import PolicySpec
from warmroute_policies.fleet import Fleet
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.latency import PrefillPrice
from warmroute_policies.registry import make_policy
from warmroute_policies.replay import replay
from warmroute_policies.speed import FACTOR_MAX, LearnedPrices
from warmroute_policies.types import Outcome, RoutingRequest, Usage, WorkerSpec

PRESET = PrefillPrice(20e-6, 0.8e-9)
TYPICAL = [(1000, 4000), (2000, 6000), (8000, 8000), (1000, 40_000), (16_000, 32_000)]
"""Missing tokens and prompt tokens."""


def samples(
    true: PrefillPrice, constant_s: float, interference_s: float, count: int, chance: Random
) -> Iterator[tuple[float, int, int, int]]:
    """Times without noise, of prompts short and long, after cached prefixes and none."""
    for _ in range(count):
        missing = int(chance.lognormvariate(7.0, 1.0)) + 1
        prompt = missing + chance.choice([0, 0, 2000, 30_000])
        beside = chance.randrange(20)
        seconds = true.seconds(missing, prompt) + constant_s + interference_s * beside
        yield seconds, missing, prompt, beside


def taught(
    given: Iterator[tuple[float, int, int, int]], believed: PrefillPrice | None = None
) -> tuple[LearnedPrices, PrefillPrice]:
    learned = LearnedPrices({}, PRESET, {} if believed is None else {"gpu": believed})
    for sample in given:
        learned.learn("gpu", *sample)
    return learned, learned.price("gpu")


# --- the estimate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 3.0, 1 / 3, 10.0, 0.1])
def test_times_without_noise_give_the_price_back(factor: float) -> None:
    true = PrefillPrice(factor * PRESET.linear_s, factor * PRESET.quadratic_s)
    _, price = taught(samples(true, 0.012, 0.0007, 2000, Random(1)))
    assert price.linear_s == pytest.approx(true.linear_s, rel=0.01)
    assert price.quadratic_s == pytest.approx(true.quadratic_s, rel=0.01)


def test_one_solution_by_hand() -> None:
    """Eight samples that the preset explains but for a factor of 2, all of n = m = 1,000 and alone: with
    s = 10 + 20 + 0.4 ms a row is (10, 20, 0.4) / 30.4 and the target 40.8 / 30.4. The first residual, half
    of what was expected and 10 ms, is within 3σ: all weights are 1, and no bound is at work."""
    _, price = taught((40.8e-3, 1000, 1000, 0) for _ in range(8))
    told = 40.8 / 30.4
    row = (10 / 30.4, 20 / 30.4, 0.4 / 30.4)
    mass = sum(0.995**age for age in range(8))
    alpha, beta = price.linear_s / PRESET.linear_s, price.quadratic_s / PRESET.quadratic_s
    # With α and β known, the derivative by c is zero at one c; then those by α and β must be zero as well.
    constant = mass * row[0] * (told - row[1] * alpha - row[2] * beta) / (mass * row[0] ** 2 + 0.02)
    wrong = told - row[0] * constant - row[1] * alpha - row[2] * beta
    pull = 0.995**8  # the prior is worth one sample
    assert mass * row[1] * wrong == pytest.approx(pull * (alpha - 1) + 0.5 * (alpha - beta), abs=1e-3)
    assert mass * row[2] * wrong == pytest.approx(pull * (beta - 1) - 0.5 * (alpha - beta), abs=1e-3)
    assert 1.0 < beta < alpha < 2.0


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_the_first_answer_moves_the_price_and_each_of_the_first_sixteen_does(factor: float) -> None:
    """Of prompts of 8,000 tokens, after none cached: one sample is worth as much as the belief."""
    learned, wrong_by = LearnedPrices({}, PRESET, {}), [abs(factor - 1)]
    for _ in range(16):
        price = learned.learn("gpu", factor * PRESET.seconds(8000, 8000), 8000, 8000, 0)
        assert price is not None
        wrong_by.append(abs(factor - price.linear_s / PRESET.linear_s))
    assert wrong_by == sorted(wrong_by, reverse=True)
    assert wrong_by[1] < 0.7 * wrong_by[0]
    assert wrong_by[16] < 0.2 * wrong_by[0]
    later = [learned.learn("gpu", PRESET.seconds(8000, 8000), 8000, 8000, 0) for _ in range(16)]
    assert [at for at, price in enumerate(later, start=17) if price is not None] == [24, 32]


@pytest.mark.parametrize("seed", range(6))
def test_noisy_times_with_outliers_predict_typical_prefills_within_a_tenth(seed: int) -> None:
    chance = Random(seed)
    true = PrefillPrice(
        PRESET.linear_s * chance.choice([1 / 3, 1.0, 3.0]),
        PRESET.quadratic_s * chance.choice([0.5, 1.0, 2.0]),
    )

    def noisy() -> Iterator[tuple[float, int, int, int]]:
        for seconds, missing, prompt, beside in samples(true, 0.01, 0.0005, 2000, chance):
            outlier = chance.uniform(3, 20) if chance.random() < 0.05 else 1.0
            yield seconds * chance.lognormvariate(0.0, 0.1) * outlier, missing, prompt, beside

    _, price = taught(noisy())
    for missing, prompt in TYPICAL:
        expected = pytest.approx(true.seconds(missing, prompt), rel=0.1)
        assert price.seconds(missing, prompt) == expected, f"seed {seed}, {missing} of {prompt}"


def test_short_prompts_alike_keep_the_presets_ratio_of_quadratic_to_linear() -> None:
    _, price = taught((3 * PRESET.seconds(800, 800), 800, 800, 0) for _ in range(2000))
    ratio = price.quadratic_s / price.linear_s
    assert ratio == pytest.approx(PRESET.quadratic_s / PRESET.linear_s, rel=0.05)


@pytest.mark.parametrize(("seconds", "factor"), [(0.0, 1 / FACTOR_MAX), (1e4, FACTOR_MAX)])
def test_no_answer_takes_a_price_below_zero_or_over_its_bounds(seconds: float, factor: float) -> None:
    learned, price = taught((seconds, 2000, 2000 + at % 5 * 9000, at % 7) for at in range(1000))
    assert price.linear_s == pytest.approx(factor * PRESET.linear_s)
    assert price.quadratic_s == pytest.approx(factor * PRESET.quadratic_s)
    for at in range(1000):  # times that fall with the work: a negative slope would fit best
        learned.learn("gpu", 1.0 / (1 + at % 10), 1000 * (1 + at % 10), 1000 * (1 + at % 10), at % 10)
    price = learned.price("gpu")
    assert min(price.linear_s / PRESET.linear_s, price.quadratic_s / PRESET.quadratic_s) >= 0.999 / FACTOR_MAX


def test_classes_learn_apart_and_a_belief_from_earlier_is_where_one_begins() -> None:
    slow = PrefillPrice(3 * PRESET.linear_s, 3 * PRESET.quadratic_s)
    learned = LearnedPrices({"gpu": PRESET}, PRESET, {"old": slow, "mad": PrefillPrice(1.0, 1.0)})
    for sample in samples(slow, 0.0, 0.0, 800, Random(2)):
        learned.learn("gpu", *sample)
    assert learned.price("gpu").linear_s == pytest.approx(slow.linear_s, rel=0.05)
    assert learned.price("other") == PRESET
    assert learned.price("old").linear_s == pytest.approx(slow.linear_s)
    assert learned.price("mad").linear_s == pytest.approx(FACTOR_MAX * PRESET.linear_s)
    assert set(learned.prices()) == {"gpu", "old", "mad"}


def test_counts_that_make_no_sense_teach_nothing() -> None:
    learned = LearnedPrices({}, PRESET, {})
    for _ in range(16):
        assert learned.learn("gpu", 1.0, 0, 100, 0) is None
        assert learned.learn("gpu", 1.0, 200, 100, 0) is None
    assert learned.prices() == {}


# --- which requests teach -------------------------------------------------------------------------


def balancer_of(weight: float = 1.0, rtt_s: float = 0.0, *, learn_prices: bool = True) -> Balancer:
    config = BalancerConfig(default_price=PRESET, learn_prices=learn_prices)
    balancer = Balancer(make_policy("least_requests", {}, 1), config)
    balancer.add_worker(WorkerSpec("w", weight=weight, rtt_s=rtt_s), 0.0)
    return balancer


def serve(
    balancer: Balancer, count: int, true: PrefillPrice, *, stream: bool = True, wait_s: float = 0.0
) -> None:
    """Prompts one after the other, of which the worker says that nothing was cached."""
    chance, now = Random(5), 0.0
    for number in range(count):
        prompt_tokens = chance.randint(500, 20_000)
        spec = balancer.fleet.spec(0)
        blocks = PromptBlocks(chance.randbytes(1024), salt_of("m"))
        balancer.route(RoutingRequest(number, "m", blocks, prompt_tokens, stream=stream), now)
        first_at = now + true.seconds(prompt_tokens, prompt_tokens) / spec.weight + spec.rtt_s + wait_s
        if stream:
            balancer.first_token(number, first_at)
        balancer.finish(number, Outcome.OK, Usage(prompt_tokens, 5, 0), first_at + 1)
        now = first_at + 2


def test_one_answer_is_enough_for_the_fleet_to_have_another_price() -> None:
    balancer = balancer_of()
    serve(balancer, 1, PrefillPrice(3 * PRESET.linear_s, 3 * PRESET.quadratic_s))
    assert 1.5 * PRESET.linear_s < balancer.fleet.linear_s[0] < 3 * PRESET.linear_s


@pytest.mark.parametrize("weight", [1.0, 4.0, 0.5])
@pytest.mark.parametrize("rtt_s", [0.0, 0.2])
def test_the_fleet_is_priced_as_its_answers_say_whatever_a_workers_weight(
    weight: float, rtt_s: float
) -> None:
    balancer = balancer_of(weight, rtt_s)
    true = PrefillPrice(3 * PRESET.linear_s, 3 * PRESET.quadratic_s)
    serve(balancer, 1000, true)
    assert balancer.fleet.prefill_seconds(0, 4000, 4000) == pytest.approx(
        true.seconds(4000, 4000) / weight, rel=0.03
    )


def test_a_worker_that_joins_its_class_later_has_the_learned_price() -> None:
    balancer = balancer_of()
    serve(balancer, 1000, PrefillPrice(3 * PRESET.linear_s, 3 * PRESET.quadratic_s))
    balancer.add_worker(WorkerSpec("late"), 1e6)
    balancer.add_worker(WorkerSpec("other", worker_class="other"), 1e6)
    linear = balancer.fleet.linear_s
    assert linear[1] == linear[0] > 2.5 * PRESET.linear_s
    assert linear[2] == PRESET.linear_s


def test_answers_that_show_no_first_token_teach_nothing_and_neither_does_a_balancer_that_may_not_learn() -> (
    None
):
    true = PrefillPrice(3 * PRESET.linear_s, 3 * PRESET.quadratic_s)
    unseen, told_not_to = balancer_of(), balancer_of(learn_prices=False)
    serve(unseen, 100, true, stream=False)
    serve(told_not_to, 100, true)
    assert unseen.fleet.linear_s == told_not_to.fleet.linear_s == [PRESET.linear_s]


def test_a_request_that_found_a_prefill_waiting_teaches_nothing() -> None:
    balancer = balancer_of()
    now = 0.0
    for number in range(0, 200, 2):
        for request_id in (number, number + 1):
            balancer.route(
                RoutingRequest(request_id, "m", PromptBlocks(b"", 0), prompt_tokens=4000),
                now + request_id % 2,
            )
        balancer.finish(number, Outcome.CLIENT_GONE, None, now + 2)
        balancer.first_token(number + 1, now + 60)
        balancer.finish(number + 1, Outcome.OK, Usage(4000, 5, 0), now + 61)
        now += 100
    assert balancer.fleet.linear_s == [PRESET.linear_s]


def test_requests_whose_cache_was_lost_under_them_teach_no_price() -> None:
    """They were predicted to find what is gone: all of it computed again would pass for a slow worker."""
    balancer = balancer_of()
    for number in range(50):
        now = number * 100.0
        balancer.route(RoutingRequest(number, "m", PromptBlocks(b"", 0), prompt_tokens=4000), now)
        balancer.forget_cache("w", now + 1)
        balancer.first_token(number, now + 60)
        balancer.finish(number, Outcome.OK, None, now + 61)
    assert balancer.fleet.linear_s == [PRESET.linear_s]


def test_a_second_attempt_and_a_failure_teach_nothing() -> None:
    balancer = balancer_of()
    balancer.add_worker(WorkerSpec("x"), 0.0)
    for number in range(50):
        now = 100.0 * number
        balancer.route(RoutingRequest(number, "m", PromptBlocks(b"", 0), prompt_tokens=4000), now)
        balancer.reroute(number, now + 1)
        balancer.first_token(number, now + 50)
        balancer.finish(number, Outcome.OK, Usage(4000, 5, 0), now + 51)
        balancer.route(RoutingRequest(1000 + number, "m", PromptBlocks(b"", 0), prompt_tokens=4000), now + 60)
        balancer.first_token(1000 + number, now + 90)
        balancer.finish(1000 + number, Outcome.CLIENT_GONE, None, now + 91)
    assert balancer.beliefs.learned_prices.prices() == {}


def test_without_reported_counts_the_prediction_stands_for_what_was_computed() -> None:
    balancer, true = balancer_of(), PrefillPrice(3 * PRESET.linear_s, 3 * PRESET.quadratic_s)
    chance, now = Random(6), 0.0
    for number in range(800):
        request = RoutingRequest(
            number, "m", PromptBlocks(chance.randbytes(2048), salt_of("m")), chance.randint(500, 20_000)
        )
        decision = balancer.route(request, now)
        n = decision.prompt_tokens
        now += true.seconds(n - decision.predicted_hit_tokens, n)
        balancer.first_token(number, now)
        balancer.finish(number, Outcome.OK, None, now + 1)
        now += 2
    assert balancer.fleet.prefill_seconds(0, 4000, 4000) == pytest.approx(true.seconds(4000, 4000), rel=0.05)


def test_a_new_price_leaves_what_is_booked_as_it_was_booked() -> None:
    fleet = Fleet({}, PRESET)
    slot = fleet.add(WorkerSpec("w", weight=2.0), 0.0)
    fleet.book(slot, 1, 1000, 1000, 0.0)
    booked = fleet.queued_prefill_s[slot]
    fleet.set_price("default", PrefillPrice(1e-3, 1e-8))
    assert fleet.queued_prefill_s[slot] == booked
    assert fleet.linear_s[slot] == 0.5e-3
    fleet.book(slot, 2, 1000, 1000, 0.0)
    fleet.prefill_done(slot, 1, 1.0)
    assert fleet.queued_prefill_s[slot] == pytest.approx(fleet.prefill_seconds(slot, 1000, 1000))


# --- the journal ----------------------------------------------------------------------------------


def test_what_was_learned_and_what_it_began_with_replay_exactly() -> None:
    lines: list[bytes] = []
    began = {"default": PrefillPrice(2 * PRESET.linear_s, PRESET.quadratic_s)}
    config = BalancerConfig(default_price=PRESET, learned_prices=began)
    spec = PolicySpec("cache_aware", {}, 3)
    live = RecordedBalancer(make_policy("cache_aware", {}, 3), config, write=lines.append, made_by=spec)
    assert live.beliefs.learned_prices.price("default").linear_s == pytest.approx(2 * PRESET.linear_s)
    for number, weight in enumerate((1.0, 2.0, 0.7)):
        live.add_worker(WorkerSpec(f"w{number}", weight=weight), 0.0)
    assert live.fleet.linear_s[0] == pytest.approx(2 * PRESET.linear_s)
    chance, now = Random(8), 0.0
    heads = [chance.randbytes(4096) for _ in range(5)]
    for number in range(600):
        now += chance.random() * 0.05
        blocks = PromptBlocks(chance.choice(heads) + chance.randbytes(chance.randrange(4096)), salt_of("m"))
        decision = live.route(RoutingRequest(number, "m", blocks), now)
        n, hit = decision.prompt_tokens, decision.predicted_hit_tokens
        live.first_token(number, now + 5 * PRESET.seconds(n - hit, n))
        live.finish(number, Outcome.OK, Usage(n, 5, hit), now + 1)
    assert live.beliefs.learned_prices.price("default").linear_s > 3 * PRESET.linear_s
    verdicts = list(replay(lines))
    assert len(verdicts) == 600
    assert all(then == again for then, again in verdicts)
