"""What a test asks a router about the workers that it found."""

from __future__ import annotations

from typing import Any

import httpx

from live.front import Front
from live.polling import eventually


def workers(front: Front) -> dict[str, dict[str, Any]]:
    """By URL."""
    views = httpx.get(f"{front.router.url}/workers", trust_env=False, timeout=20).json()["workers"]
    return {view["url"]: view for view in views}


def wait_workers(front: Front, *urls: str) -> None:
    """Until these are the router's workers, all of them healthy and in service."""

    def there() -> bool:
        seen = workers(front)
        return seen.keys() == set(urls) and all(w["healthy"] and not w["draining"] for w in seen.values())

    eventually(there, f"the workers are {urls}: {front.router.text()[-1500:]}")


def discovery(front: Front) -> dict[str, Any]:
    """What /debug/state tells of it."""
    found: dict[str, Any] = front.state()["discovery"]
    return found


def wait_looked(front: Front, times: int = 2) -> None:
    """Until every source has spoken or failed so many times more."""

    def looks() -> list[int]:
        return [source["syncs"] + source["failures"] for source in discovery(front)["sources"]]

    before = looks()
    eventually(
        lambda: all(now >= then + times for now, then in zip(looks(), before, strict=True)), "it looked"
    )


def changes(front: Front) -> list[dict[str, Any]]:
    """The log's lines about changes."""
    return [line for line in front.router.lines() if line["message"] == "discovery changed workers"]
