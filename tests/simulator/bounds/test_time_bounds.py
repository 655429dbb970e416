"""The bounds on time: against formulas step by step, exhaustive search, and engines that serve requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations
from math import inf

import pytest

from warmroute_policies.latency import PRESETS, LatencyCoefficients
from warmroute_simulator.bounds.floor import TtftFloor, floor_of, floors_s, misses_of, ttft_floor
from warmroute_simulator.bounds.goodput import most_in_time
from warmroute_simulator.bounds.hits import hit_bounds
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.prefill import PrefillTime
from warmroute_simulator.bounds.server import ServerBounds, server_bounds, shortest_first_mean_s
from warmroute_simulator.engine import Engine, EngineConfig, EngineRequest, FirstToken
from warmroute_simulator.engine.events import Admitted
from warmroute_simulator.engine.steps import step_seconds
from warmroute_simulator.engine.tree_cache import TreeCache
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

LATENCY = PRESETS["llama-3.1-8b-h100"]
Jobs = list[tuple[float, float]]
"""Arrivals and works."""


# --- prefill ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_alone_is_the_time_of_full_steps_and_less_than_of_any_other_steps(seed: int) -> None:
    chance = random.Random(seed)
    prefill = PrefillTime(LATENCY, chance.choice((64, 1000, 8192)), chance.choice((0.0, 0.002)), 0.003)
    missing = chance.randint(1, chance.choice((100, 30_000)))
    prompt = missing + chance.choice((0, chance.randint(1, 100_000)))

    def took_s(most: Callable[[], int]) -> float:
        seconds, known = prefill.request_overhead_s, prompt - missing
        while known < prompt:
            chunk = min(most(), prompt - known)
            seconds += step_seconds(LATENCY, [(known, chunk)], 0, 0) + prefill.step_overhead_s
            known += chunk
        return seconds

    alone_s = prefill.alone_s(missing, prompt)
    spared_s = took_s(lambda: prefill.step_tokens) - alone_s
    # Of the last step, what is below the floor of a step.
    assert -1e-12 <= spared_s <= (LATENCY.w0 - LATENCY.c0) / 1000 + 1e-12
    if missing <= prefill.step_tokens or missing % prefill.step_tokens > 1000:
        assert spared_s == pytest.approx(0)
    for _ in range(5):
        assert alone_s <= took_s(lambda: chance.randint(1, prefill.step_tokens)) + 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_no_batch_takes_less_time_than_the_works_of_its_members(seed: int) -> None:
    chance = random.Random(seed)
    prefill = PrefillTime(LATENCY, 2048, chance.choice((0.0, 0.001)))
    chunks: list[tuple[int, int]] = []
    room = prefill.step_tokens
    while room and len(chunks) < chance.choice((1, 3, 20)):
        new = chance.randint(1, room)
        chunks.append((chance.randint(0, 50_000), new))
        room -= new
    step_s = step_seconds(LATENCY, chunks, 0, 0) + prefill.step_overhead_s
    assert sum(prefill.work_s(new, known + new) for known, new in chunks) <= step_s + 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_no_work_is_done_faster_than_the_speed_between_two_workers_says(seed: int) -> None:
    chance = random.Random(seed)
    one, two = (
        PrefillTime(PRESETS[chance.choice(sorted(PRESETS))], chance.choice((512, 8192)), 0.001) for _ in "ab"
    )
    ratios = []
    for _ in range(50):
        missing = int(10 ** chance.uniform(0, 6))
        prompt = missing + chance.choice((0, int(10 ** chance.uniform(0, 6))))
        ratios.append(two.work_s(missing, prompt) / one.work_s(missing, prompt))
    assert max(ratios) <= one.speed_over(two) + 1e-12
    assert one.speed_over(one) == 1


def test_a_mixed_fleet_is_floored_by_its_fastest_worker_and_pooled_at_the_sum_of_speeds() -> None:
    slow = PrefillTime(LatencyCoefficients(20, 0, 0, 0, 0, 0, 0), step_tokens=100)
    fast = PrefillTime(LatencyCoefficients(10, 0, 0, 0, 0, 0, 0), step_tokens=100)
    trace = Trace("equal", PromptTree())
    for _ in range(6):
        trace.add(trace.tree.add(ROOT, 100), 1)
    misses = misses_of(Pages(trace, 16), range(6))
    assert list(floors_s(misses, [slow, fast])) == [0.01] * 6
    for workers in ([slow, fast], [fast, slow]):
        # Three slow ones' speed: an end every 20/3 ms.
        bounds = server_bounds(misses, [0.0] * 6, workers, 0.0201)
        assert bounds is not None
        assert bounds.ttft_mean_s == pytest.approx(0.02 / 3 * 3.5)
        assert bounds.goodput_share == 3 / 6


# --- one server -------------------------------------------------------------------------------------


def random_jobs(chance: random.Random, count: int) -> Jobs:
    """On a grid, so that ends meet arrivals and deadlines."""
    jobs = [(chance.randint(0, 12) / 2, chance.randint(1, 6) / 2) for _ in range(count)]
    return sorted(jobs)


def in_time_by_earliest_deadline(jobs: Sequence[tuple[float, float]], patience_s: float) -> bool:
    """With interruptions: at every moment the request that is due first. In slots of half a second."""
    left = [work for _, work in jobs]
    for slot in range(200):
        now = slot / 2
        came = [job for job, (arrival, _) in enumerate(jobs) if arrival <= now and left[job] > 0]
        if came:
            first = min(came, key=lambda job: jobs[job][0])
            left[first] -= 0.5
            if now + 0.5 > jobs[first][0] + patience_s:
                return False
    return not any(left)


def most_by_search(jobs: Jobs, patience_s: float) -> int:
    for count in range(len(jobs), 0, -1):
        if any(in_time_by_earliest_deadline(chosen, patience_s) for chosen in combinations(jobs, count)):
            return count
    return 0


@pytest.mark.parametrize("seed", range(80))
def test_goodput_is_that_of_the_best_choice_of_requests(seed: int) -> None:
    chance = random.Random(seed)
    jobs = random_jobs(chance, chance.randint(1, 8))
    patience_s = chance.choice((1.0, 2.0, 3.5, 5.0))
    assert most_in_time(jobs, patience_s) == most_by_search(jobs, patience_s)


def most_by_trying_each_drop(jobs: Jobs, patience_s: float) -> int:
    """The same rule without a tree: of those taken, drop the one without which the server is ready first."""

    def ready_s(taken: Jobs) -> float:
        end = 0.0
        for arrival, work in taken:
            end = max(end, arrival) + work
        return end

    taken: Jobs = []
    for job in jobs:
        taken.append(job)
        if ready_s(taken) > job[0] + patience_s + 1e-9:
            drops = [taken[:i] + taken[i + 1 :] for i in range(len(taken))]
            taken = min(drops, key=ready_s)
    return len(taken)


@pytest.mark.parametrize("seed", range(30))
def test_the_tree_of_requests_finds_the_same_drops_as_a_search(seed: int) -> None:
    chance = random.Random(seed)
    jobs = sorted((chance.uniform(0, 60), chance.paretovariate(1.2) / 2) for _ in range(120))
    assert most_in_time(jobs, 4.0) == most_by_trying_each_drop(jobs, 4.0)


def test_an_early_request_is_dropped_for_many_late_ones_only_if_it_delays_them() -> None:
    # The long one ends at 3 and makes the third late: without it all three short ones are in time.
    assert most_in_time([(0.0, 3.0), (1.0, 1.0), (1.0, 1.0), (1.5, 1.0)], 3.0) == 3
    # After a pause nobody gains from dropping it.
    assert most_in_time([(0.0, 3.0), (5.0, 2.0), (5.0, 2.0)], 3.0) == 2


def shortest_first_by_slots(jobs: Jobs) -> float:
    left = {job: work for job, (_, work) in enumerate(jobs)}
    total = 0.0
    for slot in range(400):
        now = slot / 2
        came = [job for job in left if jobs[job][0] <= now]
        if came:
            job = min(came, key=left.__getitem__)
            left[job] -= 0.5
            if not left[job]:
                del left[job]
                total += now + 0.5 - jobs[job][0]
    assert not left
    return total / len(jobs)


@pytest.mark.parametrize("seed", range(30))
def test_shortest_first_equals_a_simulation_in_slots(seed: int) -> None:
    jobs = random_jobs(random.Random(seed), 15)
    assert shortest_first_mean_s(jobs) == pytest.approx(shortest_first_by_slots(jobs))


def serve(jobs: Jobs, servers: int, chance: random.Random) -> list[float]:
    """Times from arrival to end on N servers with random routing, each first come, first served."""
    free = [0.0] * servers
    times = []
    for arrival, work in jobs:
        server = chance.randrange(servers)
        free[server] = max(free[server], arrival) + work
        times.append(free[server] - arrival)
    return times


@pytest.mark.parametrize("seed", range(30))
def test_one_server_of_their_joint_speed_is_no_worse_than_many(seed: int) -> None:
    chance = random.Random(seed)
    servers = chance.randint(1, 4)
    jobs = sorted((chance.uniform(0, 30), chance.expovariate(1.0)) for _ in range(40))
    pooled = [(arrival, work / servers) for arrival, work in jobs]
    for _ in range(5):
        times = serve(jobs, servers, chance)
        assert shortest_first_mean_s(pooled) <= sum(times) / len(times)
        assert most_in_time(pooled, 2.0) >= sum(time <= 2.0 for time in times)


# --- engines ----------------------------------------------------------------------------------------


def conversations(chance: random.Random, count: int) -> Trace:
    """Open loop: turns of conversations behind one system prompt, some shorter than a page."""
    tree = PromptTree()
    trace = Trace("conversations", tree)
    system = tree.add(ROOT, 100)
    ends = [system] * count
    for _ in range(count * 4):
        talk = chance.randrange(count)
        prompt = tree.add(ends[talk], chance.choice((7, 60, 400, 2500)))
        output = chance.choice((1, 5, 90))
        ends[talk] = tree.add(prompt, output)
        trace.add(prompt, output, answer=ends[talk], arrival_s=chance.uniform(0, 4))
    trace.arrivals_s = type(trace.arrivals_s)("d", sorted(trace.arrivals_s))
    return trace


def run_engines(
    trace: Trace, config: EngineConfig, workers: int, chance: random.Random
) -> tuple[list[int], list[float], int]:
    """Rows in the order of admission, TTFT by row, and hit tokens, with random routing."""
    engines = [
        Engine(config, TreeCache(config.capacity_blocks, config.block_tokens, trace.tree.ends))
        for _ in range(workers)
    ]
    admitted: list[tuple[float, int]] = []
    ttft_s = [inf] * len(trace)
    hits = 0
    coming = list(range(len(trace) - 1, -1, -1))
    while True:
        when, engine = min(
            ((engine.next_event_at(), number) for number, engine in enumerate(engines)),
            key=lambda pair: inf if pair[0] is None else pair[0],
        )
        arrival_s = trace.arrivals_s[coming[-1]] if coming else inf
        now = min(arrival_s, inf if when is None else when)
        if now == inf:
            break
        for event in [event for engine_ in engines for event in engine_.advance(now)]:
            if isinstance(event, Admitted):
                admitted.append((event.at, event.request_id))
                hits += event.cached_tokens
            elif isinstance(event, FirstToken):
                ttft_s[event.request_id] = event.at - trace.arrivals_s[event.request_id]
        if arrival_s <= now:
            row = coming.pop()
            path = trace.tree.path(trace.answers[row])
            request = EngineRequest(row, trace.prompt_tokens(row), trace.output_tokens[row], path)
            engines[chance.randrange(workers)].submit(request, now)
        del engine
    assert inf not in ttft_s
    return [row for _, row in sorted(admitted)], ttft_s, hits


@pytest.mark.parametrize("seed", range(24))
def test_a_fleet_of_engines_stays_within_every_bound(seed: int) -> None:
    chance = random.Random(seed)
    trace = conversations(chance, 12)
    workers, page_tokens, slo_s = chance.choice((1, 2, 3)), 16, 0.2
    config = EngineConfig(
        LATENCY,
        kv_tokens=chance.choice((20_000, 30_000, 60_000)),
        kind=chance.choice(("vllm", "sglang")),
        step_tokens=2048,
        step_overhead_s=0.001,
        request_overhead_s=0.004,
    )
    order, ttft_s, hit_tokens = run_engines(trace, config, workers, chance)

    bounds = hit_bounds(trace, order, page_tokens, workers * config.kv_tokens)
    hit_rate = hit_tokens / sum(trace.prompt_tokens(row) for row in order)
    assert hit_rate <= bounds.pooled_belady <= bounds.single_infinite

    prefill = PrefillTime.of(config)
    misses = misses_of(Pages(trace, page_tokens), order)
    for row, floor_s in zip(misses.rows, floors_s(misses, [prefill]), strict=True):
        assert floor_s <= ttft_s[row] + 1e-9
    server = server_bounds(misses, trace.arrivals_s, [prefill] * workers, slo_s)
    assert server is not None
    assert server.ttft_mean_s <= sum(ttft_s) / len(ttft_s)
    assert server.goodput_share >= sum(time <= slo_s for time in ttft_s) / len(ttft_s)


def test_an_idle_engine_reaches_the_floor() -> None:
    tree = PromptTree()
    trace = Trace("rare", tree)
    prompt = tree.add(ROOT, 20_000)
    trace.add(prompt, 1)
    trace.add(tree.add(prompt, 5_000), 1, arrival_s=60.0)
    config = EngineConfig(LATENCY)
    order, ttft_s, _ = run_engines(trace, config, 1, random.Random(0))
    floor = ttft_floor(trace, order, 16, [PrefillTime(LATENCY)])
    assert floor is not None
    assert ttft_s[0] == pytest.approx(PrefillTime(LATENCY).alone_s(20_000, 20_000))
    assert ttft_s[1] == pytest.approx(PrefillTime(LATENCY).alone_s(5_000, 25_000))
    expected = [sum(ttft_s) / 2, ttft_s[1], ttft_s[0], ttft_s[0]]
    assert [floor.mean, floor.p50, floor.p90, floor.p99] == pytest.approx(expected)


# --- values -----------------------------------------------------------------------------------------


def test_quantiles_are_by_nearest_rank() -> None:
    assert floor_of([float(value) for value in range(10, 0, -1)]) == TtftFloor(5.5, 5.0, 9.0, 10.0)
    assert floor_of([2.0]) == TtftFloor(2.0, 2.0, 2.0, 2.0)
    assert floor_of([]) is None


def test_below_the_knee_the_floor_is_the_bound_and_above_it_the_server() -> None:
    # Ten milliseconds a step of at most 100 tokens, whatever is in it.
    prefill = PrefillTime(LatencyCoefficients(10, 0, 0, 0, 0, 0, 0), step_tokens=100)
    trace = Trace("equal", PromptTree())
    for _ in range(4):
        trace.add(trace.tree.add(ROOT, 100), 1)
    misses = misses_of(Pages(trace, 16), range(4))
    calm = server_bounds(misses, [0.0, 1.0, 2.0, 3.0], [prefill] * 2, 0.02)
    assert calm == ServerBounds(0.010, 1.0, 0.02)
    burst = server_bounds(misses, [0.0] * 4, [prefill] * 2, 0.011)
    # Ends at 5, 10, 15 and 20 ms, of which two are in time.
    assert burst == ServerBounds(0.0125, 0.5, 0.011)


def test_what_passes_before_an_engine_knows_of_a_request_is_everyones_and_nobodys_work() -> None:
    prefill = PrefillTime(
        LatencyCoefficients(10, 0, 0, 0, 0, 0, 0), step_tokens=100, request_overhead_s=0.005
    )
    trace = Trace("equal", PromptTree())
    for _ in range(4):
        trace.add(trace.tree.add(ROOT, 100), 1)
    misses = misses_of(Pages(trace, 16), range(4))
    assert list(floors_s(misses, [prefill])) == pytest.approx([0.015] * 4)
    burst = server_bounds(misses, [0.0] * 4, [prefill] * 2, 0.0151)
    assert burst is not None
    assert burst.ttft_mean_s == pytest.approx(0.0175)
    assert burst.goodput_share == 2 / 4


def test_a_request_whose_floor_is_too_late_is_not_good_on_any_fleet() -> None:
    prefill = PrefillTime(LATENCY)
    trace = Trace("long", PromptTree())
    trace.add(trace.tree.add(ROOT, 100_000), 1)
    misses = misses_of(Pages(trace, 16), range(1))
    bounds = server_bounds(misses, [0.0], [prefill] * 1000, 2.0)
    assert bounds is not None
    assert bounds.goodput_share == 0


def test_numbers_that_mean_nothing_are_refused() -> None:
    misses = misses_of(Pages(Trace("empty", PromptTree()), 16), [])
    worker = PrefillTime(LATENCY)
    assert server_bounds(misses, [], [worker], 2.0) is None
    with pytest.raises(ValueError, match="at least one worker"):
        server_bounds(misses, [], [], 2.0)
    with pytest.raises(ValueError, match="above 0"):
        server_bounds(misses, [], [worker], 0.0)
    with pytest.raises(ValueError, match="at least one token"):
        PrefillTime(LATENCY, step_tokens=0)
    with pytest.raises(ValueError, match="at least one worker"):
        ttft_floor(Trace("empty", PromptTree()), [], 16, [])
