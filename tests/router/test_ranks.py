"""Data-parallel ranks behind one URL: workers of their own, whose requests say which rank they are for."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from live.fake_worker import fake_workers
from live.front import CHAT, CHAT_PATH, Front
from live.processes import StartRouter
from warmroute.engines import KvCache, read_metrics, read_server_info
from warmroute.ranks import split_rank

VLLM = 'vllm:cache_config_info{block_size="16",engine="%d",num_gpu_blocks="%d"} 1.0\n'
SGLANG = 'sglang:max_total_num_tokens{dp_rank="%d",tp_rank="0"} %d\n'


@pytest.mark.parametrize(
    ("worker", "parts"),
    [
        ("http://gpu1:8000", ("http://gpu1:8000", None)),
        ("http://gpu1:8000@12", ("http://gpu1:8000", 12)),
        ("http://[::1]:8000@0", ("http://[::1]:8000", 0)),
        ("http://gpu1:8000@x", ("http://gpu1:8000@x", None)),
        ("http://gpu1:8000@@1", ("http://gpu1:8000@@1", None)),
        ("@1", ("@1", None)),
    ],
)
def test_a_rank_is_a_number_behind_the_url(worker: str, parts: tuple[str, int | None]) -> None:
    assert split_rank(worker) == parts


def test_a_rank_has_a_cache_of_its_own() -> None:
    assert read_metrics(VLLM % (0, 100) + VLLM % (1, 200), 1) == KvCache("vllm", 3200, 16)
    assert read_metrics(VLLM % (0, 100), 1) is None
    assert read_metrics(SGLANG % (0, 70) + SGLANG % (1, 30), 1) == KvCache("sglang", 30, None)
    by_rank = (
        b'{"page_size": 1, "internal_states": [{"max_total_num_tokens": 7}, {"max_total_num_tokens": 3}]}'
    )
    assert read_server_info(by_rank, 1) == KvCache("sglang", 3, 1)
    assert read_server_info(b'{"max_total_num_tokens": 5000, "dp_size": 2}', 1) == KvCache("sglang", 5000)


def test_requests_go_to_ranks_in_turn_and_say_which(start_router: StartRouter) -> None:
    with fake_workers(1) as workers:
        (worker,) = workers
        router = start_router(
            f"{worker.url},ranks=3", flags=("--no-model-discovery", "--policy", "round_robin")
        )
        front = Front(router, workers)
        told = Counter(front.ask(CHAT).headers["x-router-worker"] for _ in range(6))
        assert told == {f"{worker.url}@{rank}": 2 for rank in range(3)}
        calls = front.wait_calls(6)
        assert Counter(call.headers["x-data-parallel-rank"] for call in calls) == {"0": 2, "1": 2, "2": 2}
        assert {call.path for call in calls} == {CHAT_PATH}
        removed = httpx.delete(f"{router.url}/workers/{worker.url}@1")
        assert removed.is_success, removed.text
        left = [one["id"] for one in httpx.get(f"{router.url}/workers").json()["workers"]]
        assert left == [f"{worker.url}@0", f"{worker.url}@2"]


def test_a_worker_without_a_rank_is_told_of_none(start_router: StartRouter) -> None:
    with fake_workers(1) as workers:
        front = Front(start_router(workers[0].url, flags=("--no-model-discovery",)), workers)
        front.ask(CHAT)
        assert "x-data-parallel-rank" not in front.wait_calls(1)[0].headers
