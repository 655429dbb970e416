"""Traces by the name of their generator: `NAME[:param=value,...]` and a seed in, a trace out.

The same text and seed give the same trace, always.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import suggestion
from warmroute_simulator.generators.catalogue import WORKLOADS, make, make_of
from warmroute_simulator.generators.mix import Mix
from warmroute_simulator.generators.mix_file import read_mix
from warmroute_simulator.generators.order import put_in_order
from warmroute_simulator.generators.spec import name_and_parameters
from warmroute_simulator.generators.workload import MEANING, Workload
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.trace import Trace

_MIX: Final = "mix"

_ABOUT: Final = {
    "shared_prefix": "groups of prompts that begin alike",
    "chat": "conversations of several turns under shared system prompts",
    "agents": "loops of a model and its tools, with sub-agents and summaries; closed loop",
    "rag": "a system prompt, documents from a common stock as ranked, a question",
    "uniform": "nothing in common: lengths and arrivals only",
    _MIX: "several of these, by share or in stretches of time",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """What `simulator generate --list` says of one parameter."""

    name: str
    default: str
    meaning: str


def available() -> dict[str, str]:
    """Every generator and what it makes, in a line."""
    return dict(_ABOUT)


def parameters_of(name: str) -> tuple[Parameter, ...]:
    """Raises ConfigError for an unknown name."""
    if name not in _ABOUT:
        raise ConfigError(f"there is no generator `{name}`{suggestion(name, _ABOUT)}")
    fields = dataclasses.fields(Mix if name == _MIX else WORKLOADS[name])  # type: ignore[arg-type]  # all are
    return tuple(
        Parameter(field.name, "" if field.default is None else str(field.default), field.metadata[MEANING])
        for field in fields
    )


def generate(spec: str, seed: int) -> Trace:
    """The trace that `NAME[:param=value,...]` describes. Raises ConfigError."""
    return _filled(workload_of(spec), spec.strip(), seed)


def generate_file(path: Path, seed: int) -> Trace:
    """The mix that a YAML or JSON file describes. Raises ConfigError."""
    return _filled(read_mix(path), path.name, seed)


def workload_of(spec: str) -> Workload:
    """Reads. What `generate` would write. Raises ConfigError."""
    name, params = name_and_parameters(spec)
    if name == _MIX:
        return make_of(Mix, name, params)
    if name not in _ABOUT:
        raise ConfigError(f"there is no generator `{name}`{suggestion(name, _ABOUT)}")
    return make(name, params)


def _filled(workload: Workload, name: str, seed: int) -> Trace:
    trace = Trace(name, PromptTree(), closed_loop=workload.closed_loop)
    workload.fill(trace, Random(seed), 0.0)
    put_in_order(trace)
    return trace
