"""What a calling client's script is made of: it asks an engine itself and through the router, and what its
client makes of the two is the same, answer or error.

    python SCRIPT.py ROUTER ENGINE MODEL             every check; prints JSON, of each check what went wrong
    python SCRIPT.py ROUTER ENGINE MODEL --outage    one chat with retries, while no engine is there

Nothing but the standard library is imported here: scripts run in environments of their own.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

MESSAGES = [{"role": "user", "content": "import os\n\n\ndef main(self):\n    return self.value\n" * 12}]
SYSTEM = "def read(path):\n    return open(path).read()\n"
TOO_LONG = [{"role": "user", "content": "def main(self): return self.value\n" * 3000}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "the weather in a city", "parameters": CITY},
}
CHOSEN = {"type": "function", "function": {"name": "weather"}}

# Checks that may end in an error, as long as it is the same one: a model that cannot call tools, and answers
# that are cut off, are what clients have to live with.
MAY_FAIL = frozenset(("tools", "parsed", "too_long"))

# More tries than an outage of some seconds can eat up.
OUTAGE_RETRIES = 12


Ask = Callable[[str], Any]
"""Asks the server at a base URL; gives plain values, or raises what the client raises."""


@dataclass(frozen=True)
class Calls:
    """A client's ways of asking."""

    checks: dict[str, Ask]
    """By name; the same must come of both, answer or error."""
    unknown_model: tuple[Ask, str]
    """The router refuses a model that it does not know, whatever the engine does: and the error for that."""
    outage: Ask
    """A chat with `OUTAGE_RETRIES`; its text."""


def main(calls: Calls) -> None:
    """Runs what the command line asks for."""
    router, engine = sys.argv[1:3]
    said: dict[str, str] = {}
    if "--outage" in sys.argv:
        said["outage"] = _wrong(lambda: _same("str", type(calls.outage(router)).__name__))
    else:
        for name, check in calls.checks.items():
            said[name] = _wrong(partial(_compare, check, engine, router, name in MAY_FAIL))
        ask, named = calls.unknown_model
        said["unknown model"] = _wrong(lambda: _same(named, _outcome(ask, router)[0]))
    print(json.dumps(said))


def _compare(ask: Ask, engine: str, router: str, may_fail: bool) -> None:
    # The engine computes once what its cache then holds for both. llama.cpp closes some connections behind a
    # stream without a word, and not every client asks again.
    own = [_outcome(ask, engine) for _ in range(3)]
    said = next(outcome for outcome in reversed(own) if "Connection" not in outcome[0])
    if said[0] and not may_fail:
        raise AssertionError(f"the engine itself does not answer: {said!r}")
    _same(said, _outcome(ask, router))


def _outcome(ask: Ask, url: str) -> tuple[str, Any]:
    """What came of it: a value, or an error's class, status and words."""
    try:
        return "", ask(url)
    except Exception as error:  # noqa: BLE001 each client has errors of its own
        words = str(getattr(error, "body", None) or error).replace(url, "URL")
        return type(error).__name__, (getattr(error, "status_code", None), words)


def _same(own: Any, through: Any) -> None:
    if through != own:
        raise AssertionError(f"the engine itself: {own!r}; through the router: {through!r}")


def _wrong(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception:  # noqa: BLE001 whatever it is, it is the finding
        return traceback.format_exc()
    return ""
