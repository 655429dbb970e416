"""Variables of the peers that an operator may expect to work here: none does, and one line says so.

Their launchers read no variable for what a router does but these: storage (`ATP_*`, `POSTGRES_DB_URL`,
`REDIS_URL`), which belongs to other programs as well and is therefore not spoken of, and names of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_PREFIXES: Final = {"VLLM_ROUTER_": "vllm-router", "SMG_": "smg"}

_INSTEAD: Final = {
    "VLLM_ROUTER_SLL_SESSION_EXPIRATION_IN_S": "sessions are remembered in a table of 100,000",
    "VLLM_ROUTER_TOKENIZER": "routing works on bytes and needs no tokenizer",
    "VLLM_ROUTER_MODEL": "routing works on bytes and needs no tokenizer",
}


def notes(names: Iterable[str]) -> list[str]:
    """A line for each of the variables that only a peer reads."""
    found = []
    for name in sorted(names):
        for prefix, peer in _PREFIXES.items():
            if name.startswith(prefix):
                why = _INSTEAD.get(name, "settings are ROUTER_* (docs/configuration.md)")
                found.append(f"{name} is a variable of {peer} and has no effect: {why}")
    return found
