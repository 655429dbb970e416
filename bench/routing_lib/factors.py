"""What is varied, and the levels of each factor: traces × loads × KV caches × fleets.

A *place* is a trace on a fleet whose workers have so much KV cache; a *cell* is a place at a load. Loads are
shares of the place's knee, the largest load that anybody bears there (`knees`): the same share is as hard on
a small fleet as on a large one, and on a trace that everybody hits as on one that nobody does.

A trace has limits of its own, because goodput needs limits that an idle fleet keeps: where 95 % of the
requests do not keep them alone, a knee says nothing of routing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

from routing_lib.traces import Source, made_up, recorded
from warmroute_simulator.report.model import Slo

SHARES: Final = (0.3, 0.6, 0.8, 0.95, 1.1)
"""Of the knee: idle, usual, busy, at the edge, over it."""
BUSY: Final = 0.8
"""What operators run a fleet at; verdicts from here on are counted by themselves too."""

KV_TOKENS: Final = (250_000, 1_000_000, 3_000_000)
"""Per worker. An H100 with an 8B model holds 441,000 by itself: less than that, and with one or two tiers of
host memory below it."""

H100: Final = "llama-3.1-8b-h100"
L40S: Final = "llama-3.1-8b-l40s"
FLEETS: Final[dict[str, tuple[tuple[int, str], ...]]] = {
    "4": ((4, H100),),
    "8": ((8, H100),),
    "32": ((32, H100),),
    "mixed": ((4, H100), (4, L40S)),
}
"""Workers and their preset. An L40S takes 3.5 times as long for a prompt."""

SEEDS: Final = 5
AGENT_SESSIONS: Final = 180
"""Of the recorded coding agents, half of those that are there: they load eight workers."""

_REQUESTS_PER_WORKER: Final = 750
_REQUESTS: Final = (6_000, 12_000)
"""Of a made-up trace: enough for a p99, and for a minute or two at any load; more only takes longer."""
_MIX_REQUESTS_PER_WORKER: Final = 1_500
_MIX_REQUESTS: Final = (6_000, 24_000)
"""In closed loop a fleet is loaded by sessions that are alive together, so more of them are needed."""

_AGENTS: Final = "agentic_coding/sessions_even.rle.jsonl.gz"
_MOONCAKE: Final = "mooncake/conversation_trace.jsonl.gz"
_AZURE: Final = "azure_2023/AzureLLMInferenceTrace_conv.csv.gz"

_MIX: Final = (
    "mix:spec=chat(turns=lognormal(4,0.6,1,10),message_tokens=lognormal(400,1.3,10,20000),"
    "think_s=lognormal(6,0.8,1,30))*0.7+agents(steps=lognormal(10,0.6,1,40),"
    "result_tokens=lognormal(1500,1.3,10,50000),think_s=lognormal(2,1.2,0,20))*0.3"
)
"""With the generators' own pauses and lengths of sessions it would take a hundred thousand requests until as
many sessions are alive as load eight workers. So chats are brisk, and agents work without people."""


class Place(NamedTuple):
    """A trace on a fleet."""

    trace: str
    fleet: str
    kv_tokens: int


class Cell(NamedTuple):
    """A place at a load."""

    place: Place
    share: float
    """Of the place's knee."""


TOO_SHORT: Final = frozenset(
    {
        Place("agentic", "8", 3_000_000),
        Place("agentic", "32", 1_000_000),
        Place("agentic", "32", 3_000_000),
        Place("chat_agents", "32", 1_000_000),
        Place("chat_agents", "32", 3_000_000),
    }
)
"""Places that no load fills: with all sessions of the trace alive at once most workers still idle, so there
is no knee, and shares of it are nothing. Longer traces would do; they would take more than all others
together."""


@dataclass(frozen=True, slots=True)
class TraceFactor:
    """One level of the factor "trace"."""

    about: str
    limits: Slo
    why: str
    """Why these limits."""
    source: Callable[[int], Source]
    """By the number of workers."""
    idle_cap_s: float | None = None
    """Closed loop: the longest pause of a session; None: as the trace has it."""


def workers_of(fleet: str) -> int:
    """Reads. How many a fleet has."""
    return sum(count for count, _ in FLEETS[fleet])


def traces(folder: Path, agent_sessions: int = AGENT_SESSIONS) -> dict[str, TraceFactor]:
    """Reads. All traces by name, whether their files are there or not."""
    people = Slo()
    usual = "what people wait for a chat to begin, and read at"
    return {
        "mooncake": TraceFactor(
            "an hour of a chat service's conversations, as recorded (Mooncake, FAST'25)",
            people,
            f"{usual}; an idle fleet keeps them for 97 %: the other prompts are long and cold",
            lambda _: recorded(folder, _MOONCAKE, requests=12_031),
        ),
        "agentic": TraceFactor(
            "sessions of a coding agent, as recorded (callanjfox/kv-cache-tester), in closed loop; tools and "
            "system prompts of equal length are shared, and sessions longer than the smallest cache left out",
            Slo(ttft_s=10.0, tpot_s=people.tpot_s),
            "a cold prompt of 100,000 tokens takes 6 s on an idle H100, and no router can help it; an idle "
            "fleet keeps 10 s for 99 %",
            lambda workers: recorded(
                folder,
                _AGENTS,
                requests=57 * _agent_sessions(agent_sessions, workers),
                sessions=_agent_sessions(agent_sessions, workers),
                longest_tokens=KV_TOKENS[0],
            ),
            idle_cap_s=120.0,
        ),
        "azure": TraceFactor(
            "an hour of a chat service's lengths and arrivals (Azure, 2023); nothing is shared, so what "
            "counts is balance alone",
            people,
            f"{usual}; an idle fleet keeps them always",
            lambda _: recorded(folder, _AZURE, requests=19_366, spread_s=1.0),
        ),
        "shared_prefix": TraceFactor(
            "150 customers with a system prompt of 6,000 tokens and five questions each",
            people,
            f"{usual}; an idle fleet keeps them always",
            lambda workers: made_up("shared_prefix:groups=150,prefix_tokens=6000", _requests(workers)),
        ),
        "rag": TraceFactor(
            "five documents of 5,000, drawn by popularity (Zipf, 0.8) and as ranked, under one system prompt",
            people,
            f"{usual}; an idle fleet keeps them always",
            lambda workers: made_up("rag", _requests(workers)),
        ),
        "chat_agents": TraceFactor(
            "70 % chats and 30 % agents with sub-agents by requests, in closed loop",
            people,
            f"{usual}; an idle fleet keeps them for 99 %",
            lambda workers: made_up(_MIX, _clipped(_MIX_REQUESTS_PER_WORKER * workers, _MIX_REQUESTS)),
        ),
    }


def all_cells(names: tuple[str, ...]) -> list[Cell]:
    """Reads. The whole grid of these traces, less the places that no load fills."""
    places = (Place(*levels) for levels in product(names, FLEETS, KV_TOKENS))
    return [Cell(place, share) for place in places if place not in TOO_SHORT for share in SHARES]


def _requests(workers: int) -> int:
    return _clipped(_REQUESTS_PER_WORKER * workers, _REQUESTS)


def _clipped(value: int, bounds: tuple[int, int]) -> int:
    least, most = bounds
    return min(most, max(least, value))


def _agent_sessions(asked: int, workers: int) -> int:
    """Twice as many for the largest fleet, which half of them does not load."""
    return asked if workers <= workers_of("8") else 2 * asked
