"""A scripted worker that tells how many requests it really has, as vLLM or SGLang would."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from live.fake_worker import Call, FakeWorker

V1_LOADS = "/v1/loads?include=core"

Page = Callable[[], tuple[int, bytes]]


class LoadedWorker(FakeWorker):
    """State: which requests are held, and what it tells beyond these."""

    def __init__(self) -> None:
        self.told: dict[str, Page] = {}
        """What GET finds there, made when it is asked for."""
        self.held = 0
        self.usage = 0.1
        self.waiting = 0
        self.asked: dict[str, int] = {}
        """Questions by path, those too that find nothing."""
        self._count = threading.Lock()
        super().__init__()

    def _tell(self, call: Call) -> None:
        with self._count:
            self.asked[call.path] = self.asked.get(call.path, 0) + 1
        page = self.told.get(call.path)
        if page is None:
            super()._tell(call)
            return
        status, body = page()
        call.answer(body, status, "connection: close")
        call.keep = False

    def hold(self, word: threading.Event) -> None:
        """Every request from now on waits for the test's word, and counts until then."""

        def run(call: Call) -> None:
            with self._count:
                self.held += 1
            try:
                call.hold(word)
                call.answer(b"{}")
            finally:
                with self._count:
                    self.held -= 1

        self.script = run

    def tells(self, how: str) -> None:
        """From now on it tells its load there: `/v1/loads`, `/load`, or `/metrics` as vLLM or SGLang."""
        pages = {
            "/v1/loads": (V1_LOADS, self._v1_loads),
            "/load": ("/load", lambda: json.dumps({"server_load": self.held})),
            "vllm": ("/metrics", self._vllm),
            "sglang": ("/metrics", self._sglang),
        }
        path, page = pages[how]
        self.told[path] = lambda: (200, page().encode())

    def questions(self) -> int:
        """How often it was asked for its load, wherever."""
        with self._count:
            return sum(count for path, count in self.asked.items() if "load" in path or path == "/metrics")

    def _v1_loads(self) -> str:
        load = {
            "dp_rank": 0,
            "num_running_reqs": self.held,
            "num_waiting_reqs": self.waiting,
            "num_waiting_uncached_tokens": 0,
            "token_usage": self.usage,
        }
        return json.dumps({"version": "0.5.23", "loads": [load]})

    def _vllm(self) -> str:
        return (
            f'vllm:num_requests_running{{engine="0"}} {self.held}.0\n'
            f'vllm:num_requests_waiting{{engine="0"}} {self.waiting}.0\n'
            f'vllm:kv_cache_usage_perc{{engine="0"}} {self.usage}\n'
        )

    def _sglang(self) -> str:
        return (
            f'sglang:num_running_reqs{{tp_rank="0"}} {self.held}.0\n'
            f'sglang:num_queue_reqs{{tp_rank="0"}} {self.waiting}.0\n'
            f'sglang:token_usage{{tp_rank="0"}} {self.usage}\n'
        )
