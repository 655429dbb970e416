"""Workloads by name, and how one is made of what somebody wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_type_hints

from warmroute_policies.errors import ConfigError
from warmroute_policies.parameters import Value, converted, suggestion
from warmroute_simulator.generators.agents import Agents
from warmroute_simulator.generators.chat import Chat
from warmroute_simulator.generators.lengths import Durations, Lengths
from warmroute_simulator.generators.rag import Rag
from warmroute_simulator.generators.shared_prefix import SharedPrefix
from warmroute_simulator.generators.uniform import Uniform
from warmroute_simulator.generators.workload import RatedWorkload, T

WORKLOADS: Final[Mapping[str, type[RatedWorkload]]] = {
    "shared_prefix": SharedPrefix,
    "chat": Chat,
    "agents": Agents,
    "rag": Rag,
    "uniform": Uniform,
}


def make(name: str, given: Mapping[str, Value]) -> RatedWorkload:
    """A workload of the catalogue. Raises ConfigError for an unknown name or parameter, or a value that is
    out of range."""
    workload_type = WORKLOADS.get(name)
    if workload_type is None:
        raise ConfigError(f"there is no generator `{name}`{suggestion(name, WORKLOADS)}")
    return make_of(workload_type, name, given)


def make_of(made: type[T], name: str, given: Mapping[str, Value]) -> T:
    """A dataclass of parameters from what was written. Raises ConfigError, which begins with `name`."""
    arguments = converted(name, made, given)
    types = get_type_hints(made)
    for parameter, value in arguments.items():
        wanted = types[parameter]
        if wanted is Lengths or wanted is Durations:
            try:
                arguments[parameter] = wanted.parse(value)
            except ConfigError as error:
                raise ConfigError(f"{name}: `{parameter}`: {error}") from None
    try:
        return made(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
