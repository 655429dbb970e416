"""What an engine has done since its start, as plain counters."""

from __future__ import annotations

from typing import final


@final
class EngineTotals:
    """Prompt and cached tokens count at a request's first admission."""

    __slots__ = (
        "aborted", "busy_s", "cached_tokens", "finished", "first_tokens", "output_tokens", "preemptions",
        "prompt_tokens", "requests", "steps", "ttft_sum_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = 0
        self.finished = 0
        self.aborted = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.preemptions = 0
        self.first_tokens = 0
        self.ttft_sum_s = 0.0
        self.steps = 0
        self.busy_s = 0.0
        """Time in which steps ran."""
