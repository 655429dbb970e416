"""Load in the head of an answer, as ORCA has it (Open Request Cost Aggregation; vLLM's plain answers).

    endpoint-load-metrics: TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=2
    endpoint-load-metrics: JSON {"named_metrics": {"kv_cache_usage_perc": 0.4, "num_requests_waiting": 2.0}}

Engines answer so when the request asks for it (`REQUEST_FIELD`). vLLM tells what waits and how full its cache
is, not how many run, and tells it in plain answers alone: a stream's head is written before it is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from warmroute.load.numbers import count, decimal, share
from warmroute_policies.types import LoadReport

REQUEST_NAME: Final = b"endpoint-load-metrics-format"
REQUEST_FIELD: Final = REQUEST_NAME + b": json\r\n"
"""JSON, because the text form has no rule for names with commas in them."""

_PREFIX: Final = "named_metrics."

# Names of one report; vLLM has two.
_NAMES_MAX: Final = 64


def read_orca(value: bytes) -> LoadReport | None:
    """What the field's value tells; None: nothing that counts."""
    form, _, rest = value.strip().partition(b" ")
    match form.lower():
        case b"text":
            metrics = _text(rest)
        case b"json":
            metrics = _json(rest)
        case _:
            return None
    waiting = count(metrics.get("num_requests_waiting"))
    usage = share(metrics.get("kv_cache_usage_perc", metrics.get("kv_cache_utilization")))
    if waiting is None and usage is None:
        return None
    return LoadReport(waiting_requests=waiting, kv_usage=usage)


def _text(rest: bytes) -> Mapping[str, object]:
    found = {}
    for part in rest.decode("latin-1").split(",", _NAMES_MAX)[:_NAMES_MAX]:
        name, _, number = part.strip().partition("=")
        found[name.removeprefix(_PREFIX)] = decimal(number)
    return found


def _json(rest: bytes) -> Mapping[str, object]:
    try:
        document = msgspec.json.decode(rest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    named = document.get("named_metrics") if isinstance(document, dict) else None
    return named if isinstance(named, dict) else {}
