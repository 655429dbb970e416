"""What people on call look at in Grafana, built from code. `make dashboards` writes ../dashboards/*.json.

    promql     the few shapes of query that all dashboards are made of
    panels     the house style: one function per kind of panel
    frame      what every dashboard has: variables, links to the others, numbered panels
    overview   is it well? traffic, errors, latency, load
    cache      what could be reused, what routing made of it, what the engines delivered
    workers    load, health and failures of each worker
    sessions   do conversations stay with their worker, and what moves them
    router     the router's own process: the loop, decisions, memory, bounds
    money      what the saved prefill is worth

Rules kept. A panel says what it means and what good and bad look like. Queries use the router's own series
and no recorded ones, so that the dashboards work without the rules. Nothing here is needed at run time.
"""

from __future__ import annotations

from typing import Final

from boards import cache, money, overview, router, sessions, workers
from boards.frame import Board

BOARDS: Final[tuple[Board, ...]] = (
    overview.BOARD,
    cache.BOARD,
    workers.BOARD,
    sessions.BOARD,
    router.BOARD,
    money.BOARD,
)
"""In the order in which a problem is looked for."""
