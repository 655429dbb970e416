"""Waiting for what will be true soon: never a fixed time, always an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

# What is waited for takes milliseconds; a loaded machine gets a thousand times that.
PATIENCE_S = 20.0
_POLL_S = 0.02

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """The condition's first true value. Fails with `what` and the last value when there is none in time."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}; last: {value!r}"
        time.sleep(_POLL_S)


async def eventually_async(
    condition: Callable[[], Awaitable[T]], what: str, patience_s: float = PATIENCE_S
) -> T:
    """The same for a condition that awaits."""
    deadline = time.monotonic() + patience_s
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}; last: {value!r}"
        await asyncio.sleep(_POLL_S)
