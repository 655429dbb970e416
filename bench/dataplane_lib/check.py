"""Whether a router's answers are right. The worker's own answer to the very same bytes is the truth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from time import monotonic

from dataplane_lib.bodies import Requests
from dataplane_lib.load import WrongAnswer, connect
from dataplane_lib.routers import Running

READY_WITHIN_S = 60.0
"""sglang-router waits for its workers' checks; a cold import of a large package takes seconds."""


async def wait_until_ready(router: Running) -> None:
    """Until a request is answered. Raises WrongAnswer with the end of the router's log."""
    requests, deadline = Requests(1), monotonic() + READY_WITHIN_S
    why = "it does not listen"
    while router.alive and monotonic() < deadline:
        try:
            connection = await connect(router.port)
            await connection.ask(requests.next())
        except (OSError, WrongAnswer) as error:
            why = str(error)
            await asyncio.sleep(0.1)
        else:
            connection.transport.abort()
            return
    raise WrongAnswer(f"not ready: {why}\n{router.last_words()}")


async def check(router: Running, worker_port: int, sizes: Sequence[int]) -> bool:
    """Raises WrongAnswer where a status, an answer or a stream differs, or a connection is not kept.

    Returns whether the bodies reached the worker byte by byte: some routers write the JSON anew, which is
    allowed and costs them.
    """
    verbatim = True
    direct, through = await connect(worker_port), await connect(router.port)  # one connection for everything
    for size in sizes:
        request = Requests(size, seed=1).next()
        expected, got = json.loads(await direct.ask(request)), json.loads(await through.ask(request))
        verbatim &= expected.pop("received") == got.pop("received")
        if got != expected:
            raise WrongAnswer(f"the answer at {size} KB is another one")
    stream = Requests(1, stream="64/10").next()
    if await through.ask(stream) != await direct.ask(stream):
        raise WrongAnswer("the stream's bytes are other ones")
    for connection in (direct, through):
        connection.transport.abort()
    return verbatim
