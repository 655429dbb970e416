"""Small answers that tell an engine's load: SGLang's `/v1/loads` and `/get_load`, vLLM's `/load`.

    /v1/loads    {"loads": [{"dp_rank": 0, "num_running_reqs": 3, "num_waiting_reqs": 1,
                  "num_waiting_uncached_tokens": 900, "token_usage": 0.4, …}]}; one entry for each rank
    /get_load    [{"dp_rank": 0, "num_reqs": 4, "num_waiting_reqs": 1, "num_tokens": 5000}], or {"load": 4}
    /load        {"server_load": 4}, and 0 for ever where the engine does not count

Each reader raises ValueError where the answer is something else.
"""

from __future__ import annotations

from typing import Any

import msgspec

from warmroute.load.numbers import RANKS_MAX, both, count, mean, share, total
from warmroute_policies.types import LoadReport


def read_v1_loads(body: bytes) -> LoadReport:
    """SGLang's `/v1/loads`, the ranks added up. Raises ValueError."""
    document = _json(body)
    ranks = _ranks(document.get("loads") if isinstance(document, dict) else None)
    running = total(count(rank.get("num_running_reqs")) for rank in ranks)
    waiting = total(count(rank.get("num_waiting_reqs")) for rank in ranks)
    return LoadReport(
        both(running, waiting),
        waiting,
        total(count(rank.get("num_waiting_uncached_tokens")) for rank in ranks),
        mean([share(rank.get("token_usage")) for rank in ranks]),
    )


def read_get_load(body: bytes) -> LoadReport:
    """`/get_load` of older SGLang, or the one number that some servers put there. Raises ValueError."""
    document = _json(body)
    if isinstance(document, dict):
        return LoadReport(_told(count(document.get("load")), "`load`"))
    ranks = _ranks(document)
    return LoadReport(
        total(count(rank.get("num_reqs")) for rank in ranks),
        total(count(rank.get("num_waiting_reqs")) for rank in ranks),
    )


def read_server_load(body: bytes) -> LoadReport:
    """vLLM's `/load`. Whether a 0 is a count, the answer does not say (`sources`). Raises ValueError."""
    document = _json(body)
    return LoadReport(
        _told(count(document.get("server_load")) if isinstance(document, dict) else None, "`server_load`")
    )


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


def _ranks(value: Any) -> list[dict[str, Any]]:
    """Raises ValueError for what is no list of ranks: an empty one tells nothing."""
    if not isinstance(value, list) or not 0 < len(value) <= RANKS_MAX:
        raise ValueError("no list of loads")
    if not all(isinstance(rank, dict) for rank in value):
        raise ValueError("a load is no object")
    return value


def _told(value: int | None, what: str) -> int:
    if value is None:
        raise ValueError(f"{what} is not a count")
    return value
