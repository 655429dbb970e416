"""A `Report` that remembers what a source said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from live.polling import eventually_async
from warmroute.discovery.found import Found, Sight, Source


@dataclass
class Recorder:
    """State: all sets that were reported, all failures."""

    sets: list[list[Found]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def found(self, workers: Iterable[Found]) -> None:
        self.sets.append(list(workers))

    def failed(self, why: str) -> None:
        self.failures.append(why)

    @property
    def last(self) -> dict[str, str]:
        """The last set: each worker's URL and how it looks."""
        return {found.backend.url: found.sight.name for found in self.sets[-1]} if self.sets else {}

    @property
    def ready(self) -> set[str]:
        """Of the last set the ready workers."""
        return {url for url, sight in self.last.items() if sight == Sight.READY.name}

    async def wait(self, condition: Callable[[Recorder], object], what: str) -> None:
        async def holds() -> object:
            return condition(self)

        await eventually_async(holds, f"{what}; last: {self.last}, {self.failures[-3:]}")


@asynccontextmanager
async def reported(source: Source) -> AsyncIterator[Recorder]:
    """Runs a source for the block's time."""
    recorder = Recorder()
    task = asyncio.get_running_loop().create_task(source.run(recorder))
    try:
        yield recorder
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
