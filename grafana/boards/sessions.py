"""Do conversations stay with their worker, and what moves them?"""

from __future__ import annotations

from typing import Final

from boards import frame
from boards.panels import BLUE, GREEN, ORANGE, RED, YELLOW, Line, graph, quantiles, single
from boards.promql import quantile, rate, total

_TURNS: Final = "router_session_turns_total"
_STAYED: Final = rate(_TURNS, 'stayed="true"')
_MOVED: Final = rate(_TURNS, 'stayed="false"')

BOARD: Final = frame.Board(
    name="sessions",
    title="warmroute / Sessions",
    description="Do conversations stay with their worker, and what moves them? Sessions are named by clients "
    "(session_header); requests without a name are not counted here.",
    variables=(),
    head=(
        single(
            "Sessions known",
            total("router_sessions"),
            "Sessions that are remembered. 100,000 are at most; the oldest are forgotten.",
            width=4,
        ),
        single(
            "Turns/s",
            rate(_TURNS),
            "Turns of sessions that were known before. 0 under traffic: clients send none of the headers in "
            "session_header.",
            unit="reqps",
            width=4,
        ),
        single(
            "Stayed",
            f"{_STAYED} / {rate(_TURNS)}",
            "Share of the turns that went to the worker of the turn before. Above 90 % is usual for "
            "cache_aware; less is no fault by itself, if the hit rate is well.",
            unit="percentunit",
            width=4,
            steps=((None, RED), (0.5, YELLOW), (0.8, GREEN)),
        ),
        single(
            "Moves/s",
            _MOVED,
            "Turns that went to another worker than the turn before.",
            unit="reqps",
            width=4,
        ),
        single(
            "Return, p50",
            quantile(0.5, "router_session_return_seconds"),
            "Half of the turns came within this after the turn before. A cache has to keep a prefix that "
            "long.",
            unit="s",
            width=4,
        ),
        single(
            "Prompt, p50",
            quantile(0.5, "router_session_prompt_tokens"),
            "Half of the turns had prompts of fewer tokens: what a session takes of a KV cache.",
            width=4,
        ),
    ),
    sections=(
        (
            "Stickiness",
            (
                graph(
                    "Turns",
                    [Line(_STAYED, "stayed", GREEN), Line(_MOVED, "moved", ORANGE)],
                    "Turns of known sessions, by whether they went to the worker of the turn before.",
                    unit="reqps",
                    stacked=True,
                ),
                graph(
                    "Stayed",
                    [Line(f"{_STAYED} / {rate(_TURNS)}", "stayed", GREEN)],
                    "A sudden drop is a worker that left, or queues so long that moving was cheaper.",
                    unit="percentunit",
                    most=1,
                ),
                graph(
                    "Moves by reason",
                    [Line(rate("router_session_moves_total", by="reason"), "{{reason}}")],
                    "The decision's reason on the turns that moved. For cache_aware: warm went to a better "
                    "holder, spill to a worker that holds less because the holder was busy, cold means that "
                    "nobody held any of it.",
                    unit="reqps",
                    stacked=True,
                ),
            ),
        ),
        (
            "Returns and footprint",
            (
                graph(
                    "Time between turns",
                    quantiles("router_session_return_seconds"),
                    "People take a minute, agents the time of a tool call. Where p90 is longer than a cache "
                    "keeps a prefix, returning sessions find nothing.",
                    unit="s",
                ),
                graph(
                    "Prompt tokens of turns",
                    quantiles("router_session_prompt_tokens"),
                    "A session's footprint. Times the sessions that are active at once, it is the KV cache "
                    "that the fleet needs.",
                ),
                graph(
                    "Sessions known",
                    [Line(total("router_sessions", by="instance"), "{{instance}}")],
                    "Of each router. The same session at several routers is a mistake of what stands before "
                    "them: docs/operations.md, Several routers.",
                ),
                graph(
                    "Prompt tokens of sessions",
                    [Line(rate("router_session_prompt_tokens_sum"), "tokens/s", BLUE)],
                    "Prompt tokens per second that come with a session's name.",
                    width=12,
                ),
                graph(
                    "Turns with a footprint",
                    [
                        Line(rate("router_session_prompt_tokens_count"), "turns", BLUE),
                        Line(rate("router_session_return_seconds_count"), "returns", GREEN),
                    ],
                    "Turns of sessions, and those among them that were returns. Many turns and few returns: "
                    "most sessions have a single turn, or names that do not last.",
                    unit="reqps",
                    width=12,
                ),
            ),
        ),
        (
            "Stored objects",
            (
                graph(
                    "Owners remembered",
                    [Line(total("router_owners", by="instance"), "{{instance}}")],
                    "Stored responses, conversations, files and batches whose workers are known "
                    "(docs/stored-objects.md). At owners_max the oldest are forgotten.",
                    width=12,
                ),
                graph(
                    "Searches for owners",
                    [Line(rate("router_owner_searches_total", by="outcome"), "{{outcome}}")],
                    "Times that all workers were asked who keeps something. found: another router had seen "
                    "it being created. not_found: it never was, or its worker restarted. unknown: a worker "
                    "did not answer.",
                    unit="reqps",
                    width=12,
                    stacked=True,
                ),
            ),
        ),
    ),
)
