"""What `simulator tune` found, as a file that `router --config FILE` takes as it is.

YAML with the router's own names of settings. It holds what the search decided and what it rests on: the
policy, its parameters, what a worker costs and how much it remembers. Workers and everything else are the
operator's. Comments say how the values were found, since a file outlives the terminal that it came from.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from warmroute_policies.events import PolicySpec
from warmroute_policies.parameters import Value
from warmroute_simulator.simulation.fleet import WorkerPlan

_WIDTH = 110


def config_text(policy: PolicySpec, fleet: Sequence[WorkerPlan], comments: Sequence[str]) -> str:
    """Reads. The whole file. `comments`: paragraphs."""
    lines = [f"# {line}" for comment in comments for line in textwrap.wrap(comment, _WIDTH - 2)]
    lines += ["", f"policy: {_scalar(policy.name)}", *_parameters(policy.params)]
    kinds = list(dict.fromkeys(plan.worker_class for plan in fleet))
    if len(kinds) == 1:
        # A fitted preset is a file: the configuration may be read from another folder.
        preset = str(Path(kinds[0]).resolve()) if kinds[0].endswith(".json") else kinds[0]
        lines.append(f"latency_preset: {_scalar(preset)}")
    else:
        lines += _wrapped(
            f"The fleet was simulated as {', '.join(kinds)}. Name each worker's `preset` in `backend`."
        )
    capacities = list(dict.fromkeys(plan.engine.kv_tokens for plan in fleet))
    if len(capacities) == 1:
        lines += _wrapped("Of workers that do not tell how large their KV cache is.")
        lines.append(f"kv_capacity_tokens: {capacities[0]}")
    else:
        lines += _wrapped("Workers differ in KV cache: name `kv_capacity_tokens` in `backend`.")
    return "\n".join(lines) + "\n"


def _parameters(params: Mapping[str, Value]) -> list[str]:
    if not params:
        return []
    return ["policy_param:", *(f"  {_scalar(name)}: {_scalar(value)}" for name, value in params.items())]


def _wrapped(comment: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(comment, _WIDTH - 2)]


def _scalar(value: Value) -> str:
    """A JSON text is one in YAML too; numbers must not look like 1e-05, which YAML 1.1 reads as a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        return f"{value:.15f}".rstrip("0") if "e" in text else text
    if isinstance(value, str):
        return value if re.fullmatch("[a-z]+_[a-z_]+", value) else json.dumps(value)
    return str(value)
