"""What can go wrong when a request is routed.

The tree:

    RoutingError
    ├── UnknownModel   the client's fault; a retry is useless          (404)
    ├── NoWorkers      the fleet's fault; a retry later may succeed    (503)
    └── Saturated      nobody's fault: all have as much as they may    (429)

    ConfigError        the operator's fault: a policy or a parameter that does not exist
    JournalError       a journal that cannot be replayed (`replay`)
"""

from __future__ import annotations


class RoutingError(Exception):
    """A request could not be given to any worker."""


class UnknownModel(RoutingError):
    """No worker serves the model. `known` names those that are served."""

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        self.model, self.known = model, known
        names = ", ".join(known) if known else "none yet"
        super().__init__(f"the model `{model}` does not exist; models served here: {names}")


class NoWorkers(RoutingError):
    """Workers serve the model, but none can take a request now (unhealthy, draining, or already tried)."""

    def __init__(self, model: str, serving: int) -> None:
        self.model, self.serving = model, serving
        super().__init__(f"none of the {serving} workers that serve `{model}` can take a request now")


class Saturated(RoutingError):
    """Every worker that could take the request has as many requests as it may have."""

    def __init__(self, model: str, able: int) -> None:
        self.model, self.able = model, able
        super().__init__(f"all {able} workers that can serve `{model}` have as many requests as they may")


class ConfigError(ValueError):
    """A policy's name or parameter is wrong; the message says what was expected."""
