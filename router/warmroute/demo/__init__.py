"""`router demo`: the router at work on a machine without a GPU, in about a minute.

Four simulated engines and a router run as processes of their own, and made-up agents, chats and document
questions go through real sockets: first with `round_robin`, then the same traffic, on empty caches, with
`cache_aware`. What is printed is what the engines report (cached tokens) and what the clients saw (TTFT).

    traffic     the sessions to be played, from a seed; pure
    client      a small streaming client of the OpenAI API
    tally       what came back: hit rate, TTFT, errors
    play        plays the sessions, each in a closed loop
    processes   the engines and the router, started, watched and always stopped
    screen      live progress on a terminal, plain lines elsewhere; the final table
    show        the course of the whole demo
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmroute.cli import DemoOptions


def run(options: DemoOptions) -> int:
    """The exit code: 0 when every request was answered, else 1."""
    from warmroute.demo.show import run_show

    return run_show(options)
